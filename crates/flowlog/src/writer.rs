//! The writer: one group, one write, one sync. It owns no thread and reads no clock.
//!
//! Room is taken from the disk ahead of the writing, so that a group never fails halfway for want of room, and the room
//! ahead never falls below the reserve unless ending records use it. A segment that is full is followed by a new one
//! only if the disk has room for it; otherwise the old one goes on while its room lasts.
//! After any failed write or sync the writer is poisoned: nobody knows what is on the disk, and the process must end.

use std::io;
use std::path::{Path, PathBuf};

use crate::chain::Chain;
use crate::disk::{Disk, DiskFile, is_full};
use crate::error::{LogError, WriteError};
use crate::fault;
use crate::format::{GROUP_HEADER_LEN, GroupHeader, Hash, SEGMENT_HEADER_LEN, epoch_genesis};
use crate::group::{GroupBuf, record_len};
use crate::options::{Class, LogOptions};
use crate::position::Position;
use crate::recover::{LastSegment, Recovery, recover};
use crate::segment::{self, NEW_SEGMENT};

/// Appends groups to the log in one folder. There must be one writer only (see [`crate::DirLock`]).
pub struct LogWriter<D: Disk> {
    disk: D,
    dir: PathBuf,
    options: LogOptions,
    /// First positions of all segments, rising.
    firsts: Vec<Position>,
    last: Option<LastSegment<D::File>>,
    epoch_begun: bool,
    durable: Position,
    poison: Option<String>,
    scratch: GroupBuf,
    zeros: Vec<u8>,
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
            durable: tail.report.end,
            poison: None,
            scratch: GroupBuf::new(),
            zeros: Vec::new(),
        };
        Ok((writer, tail.report))
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
                next: Position::ZERO,
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

    /// Takes room on the disk for `bytes` more beside the reserve, going over to a new segment if the present one is
    /// full. Called by `append` too; calling it between groups only keeps it off the way of the next one.
    pub fn make_room(&mut self, bytes: u64) -> Result<(), WriteError> {
        self.check_usable()?;
        let Some(last) = &self.last else { return Err(WriteError::NoEpoch) };
        let has_groups = last.offset > SEGMENT_HEADER_LEN as u64;
        if has_groups && last.offset >= self.options.segment_bytes && self.durable == last.chain.next {
            match self.new_segment(last.chain.clone(), None) {
                Err(e) if e.is_fatal() => return Err(e),
                // No room for a new segment: the old one goes on while its own room lasts.
                Err(_) | Ok(()) => {}
            }
        }
        self.allocate_ahead(bytes)
    }

    /// Sees to it that `bytes` and the reserve are taken in the last segment.
    fn allocate_ahead(&mut self, bytes: u64) -> Result<(), WriteError> {
        let need = bytes + self.options.reserve_bytes;
        let Some(last) = &mut self.last else { return Err(WriteError::NoEpoch) };
        let ahead = last.allocated.saturating_sub(last.offset);
        if ahead >= need {
            return Ok(());
        }
        let missing = need - ahead;
        match allocate(&self.disk, &self.dir, &self.options, &last.file, last.allocated, missing) {
            Ok(taken) => {
                last.allocated += taken;
                Ok(())
            }
            Err(e) if is_full(&e) => {
                Err(WriteError::Full { need: bytes, free: ahead.saturating_sub(self.options.reserve_bytes) })
            }
            Err(source) => {
                let path = last.path.clone();
                Err(self.poisoned(WriteError::FatalIo { op: "take room in", path, source }))
            }
        }
    }

    /// Writes zeros ahead of the groups, while they are small (see [`LogOptions::zero_ahead_bytes`]). They become durable
    /// with the next group's sync; nothing depends on that. Worth calling between groups only.
    pub fn zero_ahead(&mut self, last_group_bytes: u64) -> Result<(), WriteError> {
        self.check_usable()?;
        let step = self.options.zero_ahead_bytes;
        let Some(last) = &mut self.last else { return Ok(()) };
        if last_group_bytes.saturating_mul(4) > step || last.zeroed.saturating_sub(last.offset) > step / 4 {
            return Ok(());
        }
        let from = last.zeroed.max(last.offset);
        let to = (from + step).min(last.allocated);
        if to > from {
            self.zeros.resize(step as usize, 0);
            if let Err(source) = last.file.write_at(&self.zeros[..(to - from) as usize], from) {
                let path = last.path.clone();
                return Err(self.poisoned(fatal_io("write ahead in", &path, source)));
            }
            last.zeroed = to;
        }
        Ok(())
    }

    /// Bytes of groups that a class may still write without asking the disk for more room.
    pub fn room(&self, class: Class) -> u64 {
        let ahead = self.last.as_ref().map_or(0, |l| l.allocated.saturating_sub(l.offset));
        match class {
            Class::Normal => ahead.saturating_sub(self.options.reserve_bytes),
            Class::Ending => ahead,
        }
    }

    /// Removes the segments of which every group is below `position`; the last segment always stays. How many went.
    pub fn remove_before(&mut self, position: Position) -> Result<usize, WriteError> {
        self.check_usable()?;
        let gone = self.firsts.iter().skip(1).take_while(|f| **f <= position).count();
        for first in self.firsts.drain(..gone).collect::<Vec<_>>() {
            // Oldest first, each durable before the next, so that a crash leaves no hole.
            let path = self.dir.join(segment::name(first));
            if let Err(source) = self.disk.remove(&path).and_then(|()| self.disk.sync_dir(&self.dir)) {
                return Err(self.poisoned(fatal_io("remove", &path, source)));
            }
        }
        Ok(gone)
    }

    /// The end of the log: the position that the next group gets.
    pub fn end(&self) -> Position {
        self.last.as_ref().map_or(Position::ZERO, |l| l.chain.next)
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

    /// The options that the log was opened with.
    pub fn options(&self) -> &LogOptions {
        &self.options
    }

    /// The folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// A node must be able to start on a full disk: the room of the old segment then becomes the new one's reserve, or as
    /// much of it as is left.
    fn first_segment_of_epoch(&mut self, chain: &Chain) -> Result<(), WriteError> {
        let mut result = self.new_segment(chain.clone(), None);
        let mut reserve = self.options.reserve_bytes;
        while matches!(result, Err(WriteError::Full { .. })) && reserve > self.options.reserve_bytes / 8 {
            self.give_back_room()?;
            result = self.new_segment(chain.clone(), Some(reserve));
            reserve /= 2;
        }
        result
    }

    /// Makes a segment for the groups from `chain` on and goes over to it. It gets its name when its header and its
    /// first room are durable, so a crash leaves either no segment or a usable one.
    /// `scant`: with no more room than this for groups, if need be out of what is left to others.
    fn new_segment(&mut self, chain: Chain, scant: Option<u64>) -> Result<(), WriteError> {
        let temporary = self.dir.join(NEW_SEGMENT);
        let path = self.dir.join(segment::name(chain.next));
        let need = self.segment_start_bytes(scant);
        let (file, allocated) = match self.prepare_segment(&temporary, &chain, need, scant) {
            Ok(made) => made,
            Err(source) if is_full(&source) => {
                // Best effort: recovery removes it too.
                let _ = self.disk.remove(&temporary);
                return Err(WriteError::Full { need, free: self.room(Class::Normal) });
            }
            Err(source) => return Err(self.poisoned(fatal_io("make segment", &temporary, source))),
        };
        fault::point("log.before_segment_rename");
        if let Err(source) = self.disk.rename(&temporary, &path) {
            return Err(self.poisoned(fatal_io("rename", &temporary, source)));
        }
        if let Err(source) = self.disk.sync_dir(&self.dir) {
            let path = self.dir.clone();
            return Err(self.poisoned(WriteError::FatalSync { path, source }));
        }
        fault::point("log.after_segment_rename");
        if let Some(old) = self.last.take()
            && old.path != path
        {
            // Gives the unused room back. Whether that works changes nothing in the log: zeros behind the last group
            // mean nothing, and everything before them is durable already.
            if let Err(error) = old.file.truncate(old.offset).and_then(|()| old.file.sync_data()) {
                tracing::warn!(%error, file = %old.path.display(), "could not give back unused room");
            }
        }
        if self.firsts.last() != Some(&chain.next) {
            self.firsts.push(chain.next);
        }
        let offset = SEGMENT_HEADER_LEN as u64;
        self.last = Some(LastSegment { chain, file, path, offset, allocated, zeroed: 0 });
        Ok(())
    }

    /// Room that a new segment takes at first.
    fn segment_start_bytes(&self, scant: Option<u64>) -> u64 {
        let group = (self.options.group_bytes_max + GROUP_HEADER_LEN) as u64;
        SEGMENT_HEADER_LEN as u64 + scant.unwrap_or(self.options.reserve_bytes + group)
    }

    /// Gives the room that the last segment has taken and not used back to the disk.
    fn give_back_room(&mut self) -> Result<(), WriteError> {
        let Some(last) = &mut self.last else { return Ok(()) };
        match last.file.truncate(last.offset).and_then(|()| last.file.sync_data()) {
            Ok(()) => {
                last.allocated = last.offset;
                Ok(())
            }
            Err(source) => {
                let path = last.path.clone();
                Err(self.poisoned(WriteError::FatalSync { path, source }))
            }
        }
    }

    fn prepare_segment(
        &self,
        path: &Path,
        chain: &Chain,
        need: u64,
        scant: Option<u64>,
    ) -> io::Result<(D::File, u64)> {
        let file = self.disk.create(path)?;
        let allocated = if scant.is_some() {
            file.preallocate(0, need)?;
            need
        } else {
            allocate(&self.disk, &self.dir, &self.options, &file, 0, need)?
        };
        file.write_at(&chain.segment_header().encode(), 0)?;
        file.sync_data()?;
        Ok((file, allocated))
    }

    fn check_len(&self, len: usize) -> Result<(), WriteError> {
        let max = self.options.group_bytes_max;
        if len > max { Err(WriteError::TooLarge { len, max }) } else { Ok(()) }
    }

    fn check_usable(&self) -> Result<(), WriteError> {
        match &self.poison {
            Some(why) => Err(WriteError::Poisoned(why.clone())),
            None => Ok(()),
        }
    }

    fn poisoned(&mut self, error: WriteError) -> WriteError {
        self.poison = Some(error.to_string());
        error
    }
}

fn fatal_io(op: &'static str, path: &Path, source: io::Error) -> WriteError {
    WriteError::FatalIo { op, path: path.to_owned(), source }
}

/// Takes room for at least `need` bytes from `from` on: a whole piece if the disk has one, else just what is needed.
/// Returns how much was taken; an error that [`is_full`] means that not even that was there.
fn allocate<D: Disk>(
    disk: &D,
    dir: &Path,
    options: &LogOptions,
    file: &D::File,
    from: u64,
    need: u64,
) -> io::Result<u64> {
    let spare = disk.free_space(dir)?.saturating_sub(options.disk_free_bytes_min);
    let piece = need.max(options.preallocate_bytes);
    for bytes in [piece, need] {
        if bytes > spare {
            continue;
        }
        match file.preallocate(from, bytes) {
            Ok(()) => return Ok(bytes),
            Err(e) if is_full(&e) => {}
            Err(e) => return Err(e),
        }
    }
    Err(io::ErrorKind::StorageFull.into())
}
