//! Finding the end of a log after its process ended, in whatever way.
//!
//! A writer writes group n+1 only after the sync of group n has returned, so a crash can damage the last group and
//! nothing else. A damaged group at the end is therefore cut off, and everything else that doesn't fit is corruption:
//! recovery then changes nothing and says where and why. In particular a damaged group is not the last one if a whole
//! group with a higher position stands behind it, or if somebody already knows a position behind it.
//!
//! What is kept may have been written and never synced (a process that was killed leaves that to the kernel; after a
//! failed fdatasync the kernel even believes pages clean that never reached the disk). So the last group is written
//! once more and synced, with the folder, before recovery returns.

use std::path::{Path, PathBuf};

use crate::chain::Chain;
use crate::disk::{Disk, DiskFile};
use crate::error::LogError;
use crate::format::{self, Defect, GroupHeader, Hash, SEGMENT_HEADER_LEN};
use crate::options::LogOptions;
use crate::position::Position;
use crate::segment::{self, Cursor, Found, NEW_SEGMENT, SPARE_SEGMENT};

/// What recovery found and did.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Recovery {
    /// The first group that is kept.
    pub first: Position,
    /// The end of the log: everything below is durable now.
    pub end: Position,
    /// The epoch of the last segment; none in an empty log.
    pub last_epoch: Option<u32>,
    /// The number that the next group of that epoch would have.
    pub next_epoch_seq: u64,
    /// Hash of the last group (or the start of that epoch's chain).
    pub head_hash: Hash,
    /// Segment files.
    pub segments: usize,
    /// Groups that were read and checked.
    pub scanned_groups: u64,
    /// Bytes that were read and checked.
    pub scanned_bytes: u64,
    /// What was cut off, if a crash had damaged the last group.
    pub cut: Option<Cut>,
}

/// A damaged last group that was cut off.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Cut {
    /// The segment file.
    pub file: PathBuf,
    /// Where the damage began; the file now ends there.
    pub offset: u64,
    /// The position that the group would have had.
    pub ordinal: Position,
    /// What was wrong with it.
    pub why: String,
}

/// The end of a log, ready to be continued.
pub(crate) struct Tail<F> {
    pub report: Recovery,
    pub firsts: Vec<Position>,
    /// State of the chain and the open last segment; none in an empty log.
    pub last: Option<LastSegment<F>>,
}

pub(crate) struct LastSegment<F> {
    pub chain: Chain,
    pub file: F,
    pub path: PathBuf,
    /// Where the next group goes.
    pub offset: u64,
    /// Where the room already taken ends.
    pub allocated: u64,
    /// Up to where zeros were written, by this writer or before the segment was taken.
    pub zeroed: u64,
}

/// Recovers the log in `dir`. `known`: an end that somebody outside this log already relies on. `verify_from`: groups
/// from here on are read and checked too (the last segment that holds any always is).
pub(crate) fn recover<D: Disk>(
    disk: &D,
    dir: &Path,
    options: &LogOptions,
    known: Option<Position>,
    verify_from: Option<Position>,
) -> Result<Tail<D::File>, LogError> {
    options.check()?;
    disk.create_dir_all(dir).map_err(LogError::io("create folder", dir))?;
    remove_unfinished(disk, dir)?;
    let mut scan = Scan { disk, dir, options, groups: 0, bytes: 0, cut: None, last_group: None };
    let firsts = segment::list(disk, dir)?;
    let chain = scan.run(&firsts, known, verify_from)?;
    if let (Some(known), None) = (known.filter(|k| *k > Position::ZERO), &chain) {
        let why = format!("everything below group {known} is known elsewhere, but the log is empty");
        return Err(segment::corrupt(dir, 0, Position::ZERO, why));
    }
    let last = match chain {
        Some((chain, offset)) => {
            Some(scan.settle(chain, offset, firsts.last().copied().unwrap_or_default())?)
        }
        None => None,
    };
    disk.sync_dir(dir).map_err(LogError::io("sync folder", dir))?;
    let report = Recovery {
        first: firsts.first().copied().unwrap_or_default(),
        end: last.as_ref().map_or(Position::ZERO, |l| l.chain.next),
        last_epoch: last.as_ref().map(|l| l.chain.epoch),
        next_epoch_seq: last.as_ref().map_or(0, |l| l.chain.next_seq),
        head_hash: last.as_ref().map_or([0; 32], |l| l.chain.head),
        segments: firsts.len(),
        scanned_groups: scan.groups,
        scanned_bytes: scan.bytes,
        cut: scan.cut,
    };
    Ok(Tail { report, firsts, last })
}

/// Removes segments that were being made, or waited to be used, when the process ended. Nothing in them counts: a spare
/// may be torn anywhere, and writing its zeros once more is no slower than reading them.
fn remove_unfinished<D: Disk>(disk: &D, dir: &Path) -> Result<(), LogError> {
    let names = disk.list(dir).map_err(LogError::io("list", dir))?;
    for name in names.iter().filter(|n| *n == NEW_SEGMENT || *n == SPARE_SEGMENT) {
        let path = dir.join(name);
        disk.remove(&path).map_err(LogError::io("remove", &path))?;
    }
    Ok(())
}

struct Scan<'a, D: Disk> {
    disk: &'a D,
    dir: &'a Path,
    options: &'a LogOptions,
    groups: u64,
    bytes: u64,
    cut: Option<Cut>,
    /// Where the last group of the last segment begins.
    last_group: Option<u64>,
}

impl<D: Disk> Scan<'_, D> {
    /// Reads the segments that must be read. The state behind the last group, and its offset in the last segment.
    fn run(
        &mut self,
        firsts: &[Position],
        known: Option<Position>,
        verify_from: Option<Position>,
    ) -> Result<Option<(Chain, u64)>, LogError> {
        let start = self.start(firsts, verify_from)?;
        let mut chain: Option<Chain> = None;
        let mut end = SEGMENT_HEADER_LEN as u64;
        let mut buf = Vec::new();
        for (i, &first) in firsts.iter().enumerate().skip(start) {
            let (mut cursor, header) = match segment::open(self.disk, self.dir, first, self.options, buf)? {
                Ok(opened) => opened,
                Err(why) => {
                    return Err(segment::corrupt(&self.dir.join(segment::name(first)), 0, first, why));
                }
            };
            let state = match &mut chain {
                None => chain.insert(Chain::at_segment(&header)),
                Some(state) => {
                    state
                        .follow_segment(&header)
                        .map_err(|why| segment::corrupt(&cursor.path, 0, first, why))?;
                    state
                }
            };
            let is_last = i + 1 == firsts.len();
            self.segment(&mut cursor, state, is_last, known)?;
            end = cursor.offset();
            buf = cursor.into_buf();
        }
        Ok(chain.map(|state| (state, end)))
    }

    /// The first segment to read: the last one; the one before it too if the last holds no group; further back if asked.
    fn start(&self, firsts: &[Position], verify_from: Option<Position>) -> Result<usize, LogError> {
        let Some(mut start) = firsts.len().checked_sub(1) else { return Ok(0) };
        if let Ok((mut cursor, _)) =
            segment::open(self.disk, self.dir, firsts[start], self.options, Vec::new())?
        {
            let look = cursor.look_header().map_err(LogError::io("read", &cursor.path))?;
            if matches!(look, Found::End) {
                start = start.saturating_sub(1);
            }
        }
        let asked = verify_from.map(|p| firsts.partition_point(|f| *f <= p).saturating_sub(1));
        Ok(asked.map_or(start, |a| a.min(start)))
    }

    /// Reads one segment to its end.
    fn segment(
        &mut self,
        cursor: &mut Cursor<D::File>,
        chain: &mut Chain,
        is_last: bool,
        known: Option<Position>,
    ) -> Result<(), LogError> {
        self.last_group = None;
        loop {
            let at = cursor.offset();
            match cursor.look().map_err(LogError::io("read", &cursor.path))? {
                Found::Group(header) => {
                    chain
                        .follow_group(&header, cursor.group(&header))
                        .map_err(|why| segment::corrupt(&cursor.path, at, chain.next, why))?;
                    self.groups += 1;
                    self.bytes += header.group_len() as u64;
                    self.last_group = Some(at);
                    cursor.advance(header.group_len());
                }
                Found::Defect(Defect::Newer(found)) => return Err(segment::newer(&cursor.path, found)),
                Found::Defect(Defect::Damaged(why)) => {
                    return self.damaged(cursor, chain.next, is_last, known, why);
                }
                Found::End => {
                    let zeros = rest_is_zero(&cursor.file, at).map_err(LogError::io("read", &cursor.path))?;
                    if !zeros {
                        let why = "zeros where a group must begin, and something behind them";
                        return self.damaged(cursor, chain.next, is_last, known, why);
                    }
                    return match known.filter(|k| is_last && *k > chain.next) {
                        Some(known) => {
                            let why = format!(
                                "the log ends here, but everything below group {known} is known elsewhere"
                            );
                            Err(segment::corrupt(&cursor.path, at, chain.next, why))
                        }
                        None => Ok(()),
                    };
                }
            }
        }
    }

    /// Judges a damaged place: cut it, or refuse.
    fn damaged(
        &mut self,
        cursor: &Cursor<D::File>,
        ordinal: Position,
        is_last: bool,
        known: Option<Position>,
        why: &str,
    ) -> Result<(), LogError> {
        let at = cursor.offset();
        let refuse =
            |more: String| Err(segment::corrupt(&cursor.path, at, ordinal, format!("{why}; {more}")));
        if !is_last {
            return refuse("later segments follow".to_owned());
        }
        if let Some(known) = known.filter(|k| *k > ordinal) {
            return refuse(format!("everything below group {known} is known elsewhere"));
        }
        let behind =
            group_behind(cursor, self.options, ordinal).map_err(LogError::io("read", &cursor.path))?;
        if let Some((offset, header)) = behind {
            return refuse(format!("a whole group, {}, follows at byte {offset}", header.position));
        }
        self.cut = Some(Cut { file: cursor.path.clone(), offset: at, ordinal, why: why.to_owned() });
        Ok(())
    }

    /// Cuts what is to be cut and makes everything that is kept durable.
    fn settle(
        &mut self,
        chain: Chain,
        offset: u64,
        first: Position,
    ) -> Result<LastSegment<D::File>, LogError> {
        let path = self.dir.join(segment::name(first));
        let file = self.disk.open(&path, true).map_err(LogError::io("open", &path))?;
        if self.cut.is_some() {
            file.truncate(offset).map_err(LogError::io("truncate", &path))?;
        }
        // See the module: only the last group, or the header of an empty segment, can be unsynced.
        let from = self.last_group.unwrap_or(0);
        let mut bytes = vec![0u8; (offset - from) as usize];
        let n = file.read_at(&mut bytes, from).map_err(LogError::io("read", &path))?;
        file.write_at(&bytes[..n], from).map_err(LogError::io("write", &path))?;
        file.sync_data().map_err(LogError::io("sync", &path))?;
        let allocated = file.len().map_err(LogError::io("length of", &path))?;
        Ok(LastSegment { chain, file, path, offset, allocated, zeroed: 0 })
    }
}

/// Whether a file holds nothing but zeros from `from` on.
fn rest_is_zero<F: DiskFile>(file: &F, mut from: u64) -> std::io::Result<bool> {
    let mut buf = vec![0u8; 256 * 1024];
    loop {
        let n = file.read_at(&mut buf, from)?;
        if n == 0 {
            return Ok(true);
        }
        if buf[..n].iter().any(|&b| b != 0) {
            return Ok(false);
        }
        from += n as u64;
    }
}

/// A whole group of this log with a higher position, anywhere behind the cursor.
fn group_behind<F: DiskFile>(
    cursor: &Cursor<F>,
    options: &LogOptions,
    ordinal: Position,
) -> std::io::Result<Option<(u64, GroupHeader)>> {
    let from = cursor.offset();
    let len = cursor.file.len()?.saturating_sub(from);
    let mut bytes = vec![0u8; len as usize];
    let n = cursor.file.read_at(&mut bytes, from)?;
    let bytes = &bytes[..n];
    // If the damaged group's own header is whole, its body is not searched: a record may hold anything.
    let mut at = match GroupHeader::decode(bytes) {
        Ok(header) => header.group_len(),
        Err(_) => 1,
    };
    while let Some(i) = format::find_group_magic(bytes, at) {
        if let Ok(header) = GroupHeader::decode(&bytes[i..])
            && (header.kind, header.node) == (options.kind.0, options.node)
            && header.position > ordinal
            && let Some(group) = bytes[i..].get(..header.group_len())
            && format::check_body(&header, &group[format::GROUP_HEADER_LEN..]).is_ok()
        {
            return Ok(Some((from + i as u64, header)));
        }
        at = i + 1;
    }
    Ok(None)
}
