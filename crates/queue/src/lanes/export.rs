//! Lanes into archive files: the groups that count, byte for byte, in segment files by node and epoch.
//!
//! ```text
//! DIR/lane-00007/epoch-0000000003/00000000000000000041.seg
//! ```
//!
//! The files have the format of a flow log's segments (`docs/formats.md`), marks included, so that whoever audits them can
//! check every chain without the queue. An export goes on where the last one ended; one that was killed leaves at most
//! a piece of a group at the end of the last file, which the next one cuts off. Two exports into one folder at once
//! are the caller's to prevent.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use flowlog::LogKind;
use flowlog::format::{self, GROUP_HEADER_LEN, GroupHeader, Hash, SEGMENT_HEADER_LEN, SegmentHeader};

use super::{LaneError, Lanes, RawGroup, is_mark};
use crate::Position;

/// A file that has reached this size is followed by another.
const FILE_BYTES_MAX: u64 = 256 << 20;
/// Groups that are asked for at once.
const READ_GROUPS: usize = 4096;

/// An export did not end.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The lane.
    #[error(transparent)]
    Lane(#[from] LaneError),
    /// The disk.
    #[error("{path}: {source}", path = path.display())]
    Io {
        /// File or folder.
        path: PathBuf,
        /// The operating system's answer.
        source: io::Error,
    },
    /// A file that is no part of this archive, or was damaged.
    #[error("{path}: {why}; move it away and export again", path = path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// The task that wrote was ended.
    #[error("the export was ended: {0}")]
    Ended(String),
}

/// What an export has done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Exported {
    /// Groups that were added.
    pub groups: u64,
    /// Where the next export goes on.
    pub next: Position,
}

/// Adds to the archive in `dir` what the lane has and the archive has not.
///
/// # Errors
/// See [`ExportError`]; what was added before stays and is good.
pub async fn export(lanes: &dyn Lanes, node: u16, dir: &Path) -> Result<Exported, ExportError> {
    let folder = dir.to_owned();
    let mut archive = aside(move || ArchiveLane::open(&folder, node)).await??;
    let mut groups = 0;
    loop {
        let read = lanes.read_raw(node, archive.next(), READ_GROUPS).await?;
        groups += read.groups.len() as u64;
        archive = aside(move || {
            archive.append(&read.groups)?;
            archive.sync()?;
            Ok::<_, ExportError>(archive)
        })
        .await??;
        if read.at_end {
            return Ok(Exported { groups, next: archive.next() });
        }
    }
}

async fn aside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, ExportError> {
    tokio::task::spawn_blocking(work).await.map_err(|e| ExportError::Ended(e.to_string()))
}

/// One lane's files. Blocks.
pub struct ArchiveLane {
    dir: PathBuf,
    node: u16,
    next: Position,
    open: Option<Open>,
}

/// The last file.
struct Open {
    file: File,
    path: PathBuf,
    len: u64,
    epoch: u32,
    /// What the next group of the epoch must have.
    seq: u64,
    hash: Hash,
}

fn io_at(path: &Path) -> impl Fn(io::Error) -> ExportError + '_ {
    |source| ExportError::Io { path: path.to_owned(), source }
}

impl ArchiveLane {
    /// Looks where the archive of a node ends; a piece of a group there is cut off.
    ///
    /// # Errors
    /// When a file can't be read or is not of this lane.
    pub fn open(dir: &Path, node: u16) -> Result<ArchiveLane, ExportError> {
        let dir = dir.join(format!("lane-{node:05}"));
        fs::create_dir_all(&dir).map_err(io_at(&dir))?;
        let mut files: Vec<(u64, PathBuf)> = Vec::new();
        for epoch in fs::read_dir(&dir).map_err(io_at(&dir))? {
            let epoch = epoch.map_err(io_at(&dir))?.path();
            if !epoch.is_dir() {
                continue;
            }
            for file in fs::read_dir(&epoch).map_err(io_at(&epoch))? {
                let file = file.map_err(io_at(&epoch))?.path();
                let named = file.file_name().and_then(|n| n.to_str()).and_then(|n| n.strip_suffix(".seg"));
                files.extend(named.and_then(|n| n.parse().ok()).map(|first| (first, file)));
            }
        }
        files.sort();
        let mut lane = ArchiveLane { dir, node, next: Position::ZERO, open: None };
        // A file that was begun and has no group yet is begun again.
        while let Some((_, path)) = files.pop() {
            if lane.resume(&path)? {
                break;
            }
            fs::remove_file(&path).map_err(io_at(&path))?;
        }
        Ok(lane)
    }

    /// The first position that the archive does not have.
    pub fn next(&self) -> Position {
        self.next
    }

    /// Takes up a file; false if there is no whole group in it.
    fn resume(&mut self, path: &Path) -> Result<bool, ExportError> {
        let wrong = |why: String| ExportError::File { path: path.to_owned(), why };
        let file = OpenOptions::new().read(true).write(true).open(path).map_err(io_at(path))?;
        let mut input = BufReader::with_capacity(1 << 18, &file);
        let mut head = [0; SEGMENT_HEADER_LEN];
        if input.read_exact(&mut head).is_err() {
            return Ok(false);
        }
        let head = SegmentHeader::decode(&head).map_err(|defect| wrong(format!("no segment: {defect:?}")))?;
        if (head.kind, head.node) != (LogKind::FLOW.0, self.node) {
            return Err(wrong(format!("it is of kind {}, node {}", head.kind, head.node)));
        }
        let (mut next, mut seq, mut hash) = (head.first, head.first_epoch_seq, head.prev_hash);
        let mut len = SEGMENT_HEADER_LEN as u64;
        while let Some((header, group)) = read_group(&mut input) {
            if !is_mark(&header) {
                if (header.position, header.epoch_seq, header.epoch) != (next, seq, head.epoch) {
                    return Err(wrong(format!("group {} stands where {next} must", header.position)));
                }
                (seq, hash) = (seq + 1, format::group_hash(&group));
            }
            next = next.next();
            len += group.len() as u64;
        }
        drop(input);
        if next == head.first {
            return Ok(false);
        }
        file.set_len(len).map_err(io_at(path))?;
        self.next = next;
        self.open = Some(Open { file, path: path.to_owned(), len, epoch: head.epoch, seq, hash });
        self.seek_end()?;
        Ok(true)
    }

    fn seek_end(&mut self) -> Result<(), ExportError> {
        let Some(open) = &mut self.open else { return Ok(()) };
        open.file.seek(SeekFrom::Start(open.len)).map_err(io_at(&open.path))?;
        Ok(())
    }

    /// Adds groups that follow on.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn append(&mut self, groups: &[RawGroup]) -> Result<(), ExportError> {
        for group in groups {
            let (place, bytes) = (group.place, &group.bytes);
            let full = |open: &Open| open.epoch != place.epoch || open.len >= FILE_BYTES_MAX;
            if self.open.as_ref().is_none_or(full) {
                self.begin_file(place.epoch, place.position)?;
            }
            let Some(open) = &mut self.open else { continue };
            open.file.write_all(bytes).map_err(io_at(&open.path))?;
            open.len += bytes.len() as u64;
            if !place.is_mark {
                (open.seq, open.hash) = (open.seq + 1, format::group_hash(bytes));
            }
            self.next = place.position.next();
        }
        Ok(())
    }

    fn begin_file(&mut self, epoch: u32, first: Position) -> Result<(), ExportError> {
        let (seq, hash) = match &self.open {
            Some(open) if open.epoch == epoch => (open.seq, open.hash),
            _ => (0, format::epoch_genesis(self.node, epoch)),
        };
        self.sync()?;
        let folder = self.dir.join(format!("epoch-{epoch:010}"));
        fs::create_dir_all(&folder).map_err(io_at(&folder))?;
        let path = folder.join(format!("{:020}.seg", first.0));
        let mut file = File::create(&path).map_err(io_at(&path))?;
        let header = SegmentHeader {
            kind: LogKind::FLOW.0,
            node: self.node,
            epoch,
            first,
            first_epoch_seq: seq,
            prev_hash: hash,
        };
        file.write_all(&header.encode()).map_err(io_at(&path))?;
        self.open = Some(Open { file, path, len: SEGMENT_HEADER_LEN as u64, epoch, seq, hash });
        Ok(())
    }

    /// Makes what was added durable.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn sync(&mut self) -> Result<(), ExportError> {
        let Some(open) = &self.open else { return Ok(()) };
        open.file.sync_data().map_err(io_at(&open.path))?;
        for folder in open.path.ancestors().skip(1).take(2) {
            File::open(folder).and_then(|f| f.sync_all()).map_err(io_at(folder))?;
        }
        Ok(())
    }
}

/// The next whole group of a file; none where a piece of one, or nothing, stands.
fn read_group(input: &mut impl io::Read) -> Option<(GroupHeader, Vec<u8>)> {
    let mut group = vec![0; GROUP_HEADER_LEN];
    input.read_exact(&mut group).ok()?;
    let header = GroupHeader::decode(&group).ok()?;
    group.resize(header.group_len(), 0);
    input.read_exact(&mut group[GROUP_HEADER_LEN..]).ok()?;
    format::check_body(&header, &group[GROUP_HEADER_LEN..]).ok()?;
    Some((header, group))
}
