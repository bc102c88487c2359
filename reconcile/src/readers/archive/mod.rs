//! The flow archive on disk: finds the segment files of every node and reads each node's lane from its first group.
//!
//! Memory is one group (at most 64 MiB) and the list of file names, whatever the archive holds.

pub mod bytes;
pub mod lane;
pub mod leases;

pub use lane::{ArchiveError, Lane, Place};

use bytes::{Fault, GROUP_HEADER, GROUP_MAGIC, GroupHead, SEGMENT_HEADER, SegmentHead};
use campaign::NodeId;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufReader, Read, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

/// Folders below an archive folder that are searched, at most so deep.
const DEPTH_MAX: usize = 4;
/// Segment files, at most; more is a wrong folder.
const FILES_MAX: usize = 1_000_000;

/// What was read of one node.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LaneRead {
    /// The node.
    pub node: NodeId,
    /// Groups.
    pub groups: u64,
    /// A last group was being written and was left out; only when the platform may be running.
    pub unfinished: bool,
}

struct Segment {
    path: PathBuf,
    head: SegmentHead,
}

/// Reads every lane in the folders. `live`: the platform may be writing, so that a damaged group at the very
/// end of a lane is one that is not finished; otherwise it is refused.
///
/// # Errors
/// With file and offset, where the archive is not whole.
pub fn read_lanes(
    folders: &[PathBuf],
    live: bool,
    sink: &mut lane::Sink<'_>,
) -> Result<Vec<LaneRead>, ArchiveError> {
    let mut files = Vec::new();
    for folder in folders {
        find(folder, 0, &mut files)?;
    }
    files.sort();
    files.dedup();
    let mut lanes: BTreeMap<NodeId, Vec<Segment>> = BTreeMap::new();
    for path in files {
        let head = segment_head(&path)?;
        lanes.entry(head.node).or_default().push(Segment { path, head });
    }
    lanes.into_iter().map(|(node, segments)| read_lane(node, segments, live, sink)).collect()
}

fn failed(path: &Path, offset: u64, fault: Fault) -> ArchiveError {
    ArchiveError { file: path.display().to_string(), offset, fault }
}

fn find(folder: &Path, depth: usize, files: &mut Vec<PathBuf>) -> Result<(), ArchiveError> {
    let io = |e: io::Error| failed(folder, 0, Fault::Io(e.to_string()));
    for entry in fs::read_dir(folder).map_err(io)? {
        let path = entry.map_err(io)?.path();
        if path.is_dir() {
            if depth < DEPTH_MAX {
                find(&path, depth + 1, files)?;
            }
        } else if path.extension().is_some_and(|e| e == "seg") {
            files.push(path);
        }
        if files.len() > FILES_MAX {
            return Err(failed(folder, 0, Fault::Io(format!("more than {FILES_MAX} segment files"))));
        }
    }
    Ok(())
}

fn segment_head(path: &Path) -> Result<SegmentHead, ArchiveError> {
    let io = |e: io::Error| failed(path, 0, Fault::Io(e.to_string()));
    let mut header = [0u8; SEGMENT_HEADER];
    File::open(path).map_err(io)?.read_exact(&mut header).map_err(|e| match e.kind() {
        io::ErrorKind::UnexpectedEof => failed(path, 0, Fault::Torn { what: "segment header", missing: 1 }),
        _ => io(e),
    })?;
    let head = SegmentHead::parse(&header).map_err(|fault| failed(path, 0, fault))?;
    let named = path.file_stem().and_then(|s| s.to_str()).and_then(|s| s.parse::<u64>().ok());
    match named {
        Some(first) if first == head.first => Ok(head),
        _ => Err(failed(
            path,
            0,
            Fault::Order(format!(
                "the file holds groups from position {} on: its name says otherwise",
                head.first
            )),
        )),
    }
}

fn read_lane(
    node: NodeId,
    mut segments: Vec<Segment>,
    live: bool,
    sink: &mut lane::Sink<'_>,
) -> Result<LaneRead, ArchiveError> {
    segments.sort_by_key(|s| s.head.first);
    let mut lane = Lane::new(node);
    let count = segments.len();
    let mut unfinished = false;
    for (i, segment) in segments.iter().enumerate() {
        let name = segment.path.display().to_string();
        let file =
            File::open(&segment.path).map_err(|e| failed(&segment.path, 0, Fault::Io(e.to_string())))?;
        let mut input = BufReader::with_capacity(1 << 18, file);
        input
            .seek(SeekFrom::Start(SEGMENT_HEADER as u64))
            .map_err(|e| failed(&segment.path, 0, Fault::Io(e.to_string())))?;
        match lane.segment(&segment.head, &name, &mut input, sink) {
            Ok(()) => {}
            Err(error) if live && i + 1 == count && unfinished_group(&segment.path, &error, &lane) => {
                unfinished = true
            }
            Err(error) => return Err(error),
        }
    }
    Ok(LaneRead { node, groups: lane.groups(), unfinished })
}

/// May the damage be a group that is just being written? Not if a whole header of a later group stands behind it.
fn unfinished_group(path: &Path, error: &ArchiveError, lane: &Lane) -> bool {
    let torn =
        matches!(error.fault, Fault::Torn { .. } | Fault::Crc { .. } | Fault::Magic(_) | Fault::BehindEnd);
    torn && !later_group(path, error.offset + 1, lane.position()).unwrap_or(true)
}

/// Is there a group header with a higher position behind the offset?
fn later_group(path: &Path, from: u64, position: u64) -> io::Result<bool> {
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(from))?;
    let mut input = BufReader::with_capacity(1 << 18, file);
    let mut window: Vec<u8> = Vec::with_capacity(1 << 17);
    loop {
        let keep = window.len().min(GROUP_HEADER - 1);
        window.drain(..window.len() - keep);
        let before = window.len();
        input.by_ref().take(1 << 16).read_to_end(&mut window)?;
        if window.len() == before {
            return Ok(false);
        }
        for at in window.windows(GROUP_HEADER) {
            if at.starts_with(GROUP_MAGIC)
                && let Some(header) = at.first_chunk::<GROUP_HEADER>()
                && GroupHead::parse(header).is_ok_and(|head| head.position > position)
            {
                return Ok(true);
            }
        }
    }
}
