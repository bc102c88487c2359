//! The writer: one group, one write, one sync. It owns no thread and reads no clock.
//!
//! Room is taken from the disk ahead of the writing, so that a group never fails halfway for want of room, and the room
//! ahead never falls below the reserve unless ending records use it (`roll` holds that part: room and segments).
//! After any failed write or sync the writer is poisoned: nobody knows what is on the disk, and the process must end.

use std::io;
use std::path::{Path, PathBuf};

use crate::aside::Aside;
use crate::chain::Chain;
use crate::disk::{Disk, DiskFile};
use crate::error::{LogError, WriteError};
use crate::fault;
use crate::format::{GroupHeader, Hash, epoch_genesis};
use crate::group::{GroupBuf, record_len};
use crate::options::{Class, LogOptions};
use crate::position::Position;
use crate::recover::{LastSegment, Recovery, recover};
use crate::segment;

/// Appends groups to the log in one folder. There must be one writer only (see [`crate::DirLock`]).
pub struct LogWriter<D: Disk> {
    pub(crate) disk: D,
    pub(crate) dir: PathBuf,
    pub(crate) options: LogOptions,
    /// First positions of all segments, rising.
    pub(crate) firsts: Vec<Position>,
    pub(crate) last: Option<LastSegment<D::File>>,
    epoch_begun: bool,
    /// Where a log without groups begins.
    empty_at: Position,
    pub(crate) durable: Position,
    pub(crate) poison: Option<String>,
    scratch: GroupBuf,
    pub(crate) zeros: Vec<u8>,
    /// Running mean of the groups' bytes.
    pub(crate) group_mean: u64,
    pub(crate) aside: Aside<D>,
}

impl<D: Disk> LogWriter<D> {
    /// Recovers the log in `dir` (made if it isn't there) and opens it for appending.
    ///
    /// `known` is an end that somebody outside already relies on (queue, award store, snapshot): if the log doesn't reach
    /// it, that is corruption and not a crash's trace. `verify_from`: groups from there on are checked even if they lie
    /// in older segments.
    pub fn open(
        disk: D,
        dir: &Path,
        options: LogOptions,
        known: Option<Position>,
        verify_from: Option<Position>,
    ) -> Result<(LogWriter<D>, Recovery), LogError> {
        let tail = recover(&disk, dir, &options, known, verify_from)?;
        if let Some(cut) = &tail.report.cut {
            tracing::warn!(file = %cut.file.display(), offset = cut.offset, group = cut.ordinal.0, why = cut.why,
                "cut off the last group, which a crash left unfinished");
        }
        let writer = LogWriter {
            disk,
            dir: dir.to_owned(),
            options,
            firsts: tail.firsts,
            last: tail.last,
            epoch_begun: false,
            empty_at: Position::ZERO,
            durable: tail.report.end,
            poison: None,
            scratch: GroupBuf::new(),
            zeros: Vec::new(),
            group_mean: 0,
            aside: Aside::default(),
        };
        Ok((writer, tail.report))
    }

    /// Lets an empty log begin at a position, before its first epoch begins: the log of a node whose disk is new, and whose
    /// lane is not.
    ///
    /// # Errors
    /// `NotEmpty` when the log has a segment; nothing has changed then.
    pub fn begin_at(&mut self, position: Position) -> Result<(), WriteError> {
        self.check_usable()?;
        if self.last.is_some() {
            return Err(WriteError::NotEmpty { asked: position, end: self.end() });
        }
        (self.empty_at, self.durable) = (position, position);
        Ok(())
    }

    /// Begins an epoch: a higher one than the log's last starts a new hash chain in a new segment, the same one is
    /// continued. Must be called once before the first append. On a full disk it still succeeds as long as some
    /// of the reserve is left; `Full` means that there is none, and no epoch has begun.
    pub fn begin_epoch(&mut self, epoch: u32) -> Result<(), WriteError> {
        self.check_usable()?;
        let chain = match &self.last {
            Some(last) if epoch < last.chain.epoch => {
                return Err(WriteError::EpochBack { asked: epoch, last: last.chain.epoch });
            }
            Some(last) if epoch == last.chain.epoch => None,
            Some(last) => {
                let mut chain = last.chain.clone();
                chain.begin_epoch(epoch);
                Some(chain)
            }
            None => Some(Chain {
                kind: self.options.kind.0,
                node: self.options.node,
                epoch,
                next: self.empty_at,
                next_seq: 0,
                head: epoch_genesis(self.options.node, epoch),
            }),
        };
        if let Some(chain) = chain {
            self.first_segment_of_epoch(&chain)?;
        }
        self.epoch_begun = true;
        match self.make_room(self.options.group_bytes_max as u64) {
            Err(WriteError::Full { .. }) => Ok(()),
            other => other,
        }
    }

    /// Writes one group with the given records. Its position becomes durable with the next [`Self::sync`].
    pub fn append_group<R: AsRef<[u8]>>(
        &mut self,
        records: &[R],
        time_ms: u64,
        class: Class,
    ) -> Result<Position, WriteError> {
        let len: usize = records.iter().map(|r| record_len(r.as_ref())).sum();
        self.check_len(len)?;
        let mut group = std::mem::take(&mut self.scratch);
        group.clear();
        for record in records {
            group.push(record.as_ref());
        }
        let result = self.append_buf(&mut group, time_ms, class);
        self.scratch = group;
        result
    }

    /// Writes a group that was collected in a buffer. The buffer keeps its records.
    pub fn append_buf(
        &mut self,
        group: &mut GroupBuf,
        time_ms: u64,
        class: Class,
    ) -> Result<Position, WriteError> {
        self.check_usable()?;
        if !self.epoch_begun {
            return Err(WriteError::NoEpoch);
        }
        if group.is_empty() {
            return Err(WriteError::Empty);
        }
        self.check_len(group.body_len())?;
        if self.durable != self.end() {
            return Err(WriteError::NotSynced(self.durable));
        }
        let len = group.group_len() as u64;
        // Ask for room first; whether there is enough for this class is a second question.
        match self.make_room(len) {
            Err(e) if e.is_fatal() => return Err(e),
            _ => {}
        }
        let free = self.room(class);
        let Some(last) = self.last.as_mut().filter(|_| free >= len) else {
            return Err(WriteError::Full { need: len, free });
        };
        let header = GroupHeader {
            kind: last.chain.kind,
            node: last.chain.node,
            epoch: last.chain.epoch,
            position: last.chain.next,
            epoch_seq: last.chain.next_seq,
            record_count: group.records(),
            body_len: group.body_len() as u32,
            time_ms,
            prev_hash: last.chain.head,
            body_crc: crc32c::crc32c(group.body()),
        };
        let bytes = group.seal(&header);
        fault::point("log.before_write");
        if let Err(source) = last.file.write_at(bytes, last.offset) {
            let path = last.path.clone();
            return Err(self.poisoned(WriteError::FatalIo { op: "write", path, source }));
        }
        fault::point("log.after_write");
        last.chain.step(bytes);
        last.offset += len;
        last.allocated = last.allocated.max(last.offset);
        self.group_mean = if self.group_mean == 0 { len } else { (self.group_mean * 7 + len) / 8 };
        Ok(header.position)
    }

    /// Makes what was appended durable; the new durable end.
    pub fn sync(&mut self) -> Result<Position, WriteError> {
        self.check_usable()?;
        if self.durable == self.end() {
            return Ok(self.durable);
        }
        if let Some(last) = &self.last {
            let result = last.file.sync_data();
            if let Err(source) = result {
                let path = last.path.clone();
                return Err(self.poisoned(WriteError::FatalSync { path, source }));
            }
        }
        fault::point("log.after_sync");
        self.durable = self.end();
        Ok(self.durable)
    }

    /// Bytes of groups that a class may still write without asking the disk for more room.
    pub fn room(&self, class: Class) -> u64 {
        let ahead = self.last.as_ref().map_or(0, |l| l.allocated.saturating_sub(l.offset));
        match class {
            Class::Normal => ahead.saturating_sub(self.options.reserve_bytes),
            Class::Ending => ahead,
        }
    }

    /// Removes the segments of which every group is below `position`; the last segment always stays. How many went, or
    /// will go when the chore is done (see [`Self::work_aside`]).
    pub fn remove_before(&mut self, position: Position) -> Result<usize, WriteError> {
        self.check_usable()?;
        let gone = self.firsts.iter().skip(1).take_while(|f| **f <= position).count();
        if gone == 0 {
            return Ok(0);
        }
        let paths = self.firsts.drain(..gone).map(|first| self.dir.join(segment::name(first))).collect();
        self.remove_segments(paths)?;
        Ok(gone)
    }

    /// The end of the log: the position that the next group gets.
    pub fn end(&self) -> Position {
        self.last.as_ref().map_or(self.empty_at, |l| l.chain.next)
    }

    /// The durable end.
    pub fn durable(&self) -> Position {
        self.durable
    }

    /// The first group that is kept.
    pub fn first(&self) -> Position {
        self.firsts.first().copied().unwrap_or_default()
    }

    /// Epoch and number in it of the next group, and the hash that it will chain from.
    pub fn head(&self) -> Option<(u32, u64, Hash)> {
        self.last.as_ref().map(|l| (l.chain.epoch, l.chain.next_seq, l.chain.head))
    }

    /// Where the last segment begins.
    pub(crate) fn last_segment(&self) -> Option<Position> {
        self.firsts.last().copied()
    }

    /// The options that the log was opened with.
    pub fn options(&self) -> &LogOptions {
        &self.options
    }

    /// The folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    fn check_len(&self, len: usize) -> Result<(), WriteError> {
        let max = self.options.group_bytes_max;
        if len > max { Err(WriteError::TooLarge { len, max }) } else { Ok(()) }
    }

    pub(crate) fn check_usable(&self) -> Result<(), WriteError> {
        match &self.poison {
            Some(why) => Err(WriteError::Poisoned(why.clone())),
            None => Ok(()),
        }
    }

    pub(crate) fn poisoned(&mut self, error: WriteError) -> WriteError {
        self.poison = Some(error.to_string());
        error
    }
}

pub(crate) fn fatal_io(op: &'static str, path: &Path, source: io::Error) -> WriteError {
    WriteError::FatalIo { op, path: path.to_owned(), source }
}
