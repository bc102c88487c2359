//! Room and segments: the writer's part that takes room ahead of the groups and goes from segment to segment.
//!
//! A segment that is full is followed by a new one only if the disk has room for it; otherwise the old one goes on
//! while its room lasts. A running log has the next segment made beside it (see `aside`): going over to it then costs
//! a header, a rename and a sync of the folder.

use std::io;
use std::path::{Path, PathBuf};

use crate::aside::{self, CHORES_MAX, Chore, ChoreDone, Outcome, Spare};
use crate::chain::Chain;
use crate::disk::{Disk, DiskFile, is_full};
use crate::error::WriteError;
use crate::fault;
use crate::format::{GROUP_HEADER_LEN, SEGMENT_HEADER_LEN};
use crate::options::{Class, LogOptions};
use crate::recover::LastSegment;
use crate::segment::{self, NEW_SEGMENT, SPARE_SEGMENT};
use crate::writer::{LogWriter, fatal_io};

impl<D: Disk> LogWriter<D> {
    /// Takes room on the disk for `bytes` more beside the reserve, going over to a new segment if the present one is
    /// full. Called by `append` too; calling it between groups only keeps it off the way of the next one.
    pub fn make_room(&mut self, bytes: u64) -> Result<(), WriteError> {
        self.check_usable()?;
        let Some(last) = &self.last else { return Err(WriteError::NoEpoch) };
        if last.offset >= self.options.segment_bytes || self.is_spare_better(last) {
            self.roll()?;
        }
        match self.allocate_ahead(bytes) {
            // The spare segment holds room that the disk no longer has.
            Err(WriteError::Full { .. }) if self.aside.spare.is_some() && self.roll()? => {
                self.allocate_ahead(bytes)
            }
            other => other,
        }
    }

    /// While groups are small: the zeros written ahead are used up, and more of them wait in the spare segment.
    fn is_spare_better(&self, last: &LastSegment<D::File>) -> bool {
        let zeros = self.aside.spare.as_ref().is_some_and(|spare| spare.zeroed > 0);
        // Before more zeros would have to be written here.
        zeros && self.are_groups_small() && last.offset + self.options.zero_ahead_bytes >= last.zeroed
    }

    /// Whether zeros ahead of the groups are worth writing.
    fn are_groups_small(&self) -> bool {
        self.group_mean.saturating_mul(4) <= self.options.zero_ahead_bytes
    }

    /// Goes over to a new segment if the present one holds a group and all of its groups are durable. False if it
    /// doesn't, or if there is no room for a new one: the old one then goes on while its own room lasts.
    fn roll(&mut self) -> Result<bool, WriteError> {
        let Some(last) = &self.last else { return Err(WriteError::NoEpoch) };
        if last.offset <= SEGMENT_HEADER_LEN as u64 || self.durable != last.chain.next {
            return Ok(false);
        }
        match self.new_segment(last.chain.clone(), Start::Next) {
            Ok(()) => Ok(true),
            Err(e) if e.is_fatal() => Err(e),
            Err(_) => Ok(false),
        }
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
        let piece = missing.max(self.options.preallocate_bytes);
        match allocate(&self.disk, &self.dir, &self.options, &last.file, last.allocated, [piece, missing]) {
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
    /// with the next group's sync; nothing depends on that. Worth calling between groups only. A spare segment brings its
    /// own zeros; this is for the time until there is one.
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

    /// A node must be able to start on a full disk: the room of the old segment then becomes the new one's reserve, or as
    /// much of it as is left.
    pub(crate) fn first_segment_of_epoch(&mut self, chain: &Chain) -> Result<(), WriteError> {
        let mut result = self.new_segment(chain.clone(), Start::Epoch);
        let mut reserve = self.options.reserve_bytes;
        while matches!(result, Err(WriteError::Full { .. })) && reserve > self.options.reserve_bytes / 8 {
            self.give_back_room()?;
            result = self.new_segment(chain.clone(), Start::Scant(reserve));
            reserve /= 2;
        }
        result
    }

    /// Makes a segment for the groups from `chain` on and goes over to it, or takes the spare one. It gets its name when
    /// its header and its first room are durable, so a crash leaves either no segment or a usable one.
    fn new_segment(&mut self, chain: Chain, start: Start) -> Result<(), WriteError> {
        let path = self.dir.join(segment::name(chain.next));
        let spare = if start == Start::Next { self.aside.spare.take() } else { None };
        let temporary = self.dir.join(if spare.is_some() { SPARE_SEGMENT } else { NEW_SEGMENT });
        let made = match spare {
            Some(spare) => begin_segment(&spare.file, &chain).map(|()| spare),
            None => self.prepare_segment(&temporary, &chain, start),
        };
        let made = match made {
            Ok(made) => made,
            Err(source) if is_full(&source) => {
                // Best effort: recovery removes it too.
                let _ = self.disk.remove(&temporary);
                let need = self.segment_start_bytes(start);
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
            self.leave_segment(old);
        }
        if self.firsts.last() != Some(&chain.next) {
            self.firsts.push(chain.next);
        }
        self.aside.retry_at = 0;
        let Spare { file, allocated, zeroed } = made;
        let offset = SEGMENT_HEADER_LEN as u64;
        self.last = Some(LastSegment { chain, file, path, offset, allocated, zeroed });
        Ok(())
    }

    /// Gives the unused room of a complete segment back.
    fn leave_segment(&mut self, old: LastSegment<D::File>) {
        if self.aside.on && self.aside.waiting.len() < CHORES_MAX {
            let chore = Chore::trim(&self.disk, &self.dir, old.file, old.path, old.offset);
            self.aside.waiting.push_back(chore);
        } else {
            aside::trim(&old.file, &old.path, old.offset);
        }
    }

    /// Removes segments that are no longer in `firsts`.
    pub(crate) fn remove_segments(&mut self, paths: Vec<PathBuf>) -> Result<(), WriteError> {
        if !self.aside.on {
            return aside::remove(&self.disk, &self.dir, &paths).map_err(|e| self.poisoned(e));
        }
        // Never beside others that wait to be removed: an older one that stays longer would leave a hole.
        if let Some(paths) =
            self.aside.waiting.iter_mut().try_fold(paths, |paths, chore| chore.also_remove(paths))
        {
            self.aside.waiting.push_back(Chore::remove(&self.disk, &self.dir, paths));
        }
        Ok(())
    }

    /// Room that a new segment takes at first.
    fn segment_start_bytes(&self, start: Start) -> u64 {
        let group = (self.options.group_bytes_max + GROUP_HEADER_LEN) as u64;
        let room = match start {
            Start::Scant(bytes) => bytes,
            Start::Epoch | Start::Next => self.options.reserve_bytes + group,
        };
        SEGMENT_HEADER_LEN as u64 + room
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

    fn prepare_segment(&self, path: &Path, chain: &Chain, start: Start) -> io::Result<Spare<D::File>> {
        let (need, piece) = (self.segment_start_bytes(start), self.options.preallocate_bytes);
        // An epoch begins while nobody waits for a group: time to write zeros, and to take room enough that nothing but
        // groups touches this file until the first spare segment is there.
        let ahead = start == Start::Epoch && self.options.spare_segment && self.options.zero_ahead_bytes > 0;
        let file = self.disk.create(path)?;
        let allocated = match start {
            Start::Scant(_) => {
                file.preallocate(0, need)?;
                need
            }
            Start::Epoch if ahead => self.allocate_from_start(&file, [piece + self.room_ahead(), need])?,
            Start::Epoch | Start::Next => self.allocate_from_start(&file, [piece.max(need), need])?,
        };
        let zeroed = if ahead { allocated.min(piece) } else { 0 };
        if ahead {
            aside::write_zeros(&file, zeroed, &|| true)?;
        }
        begin_segment(&file, chain)?;
        Ok(Spare { file, allocated, zeroed })
    }

    fn allocate_from_start(&self, file: &D::File, sizes: [u64; 2]) -> io::Result<u64> {
        allocate(&self.disk, &self.dir, &self.options, file, 0, sizes)
    }

    /// The room that a running log keeps behind its groups: the reserve, the group being written and the one that fills.
    fn room_ahead(&self) -> u64 {
        self.options.reserve_bytes + 2 * (self.options.group_bytes_max + GROUP_HEADER_LEN) as u64
    }

    /// From now on the writer leaves to others what no group has to wait for, if its options ask for that: take the
    /// work with [`Self::chore`], run it on another thread, and hand in what came of it with [`Self::chore_done`].
    pub fn work_aside(&mut self) {
        self.aside.on = self.options.spare_segment;
    }

    /// The next piece of work, if there is one and no other is out.
    pub fn chore(&mut self) -> Option<Chore<D>> {
        if !self.aside.on || self.aside.out || self.poison.is_some() {
            return None;
        }
        let chore = self.aside.waiting.pop_front().or_else(|| self.spare_wanted())?;
        self.aside.out = true;
        Some(chore)
    }

    /// A spare segment holds what a segment may grow to, so that no room need be taken while it is written.
    fn spare_wanted(&self) -> Option<Chore<D>> {
        let last = self.last.as_ref()?;
        if self.aside.spare.is_some() || last.offset < self.aside.retry_at {
            return None;
        }
        let options = &self.options;
        let groups = options.segment_bytes + options.zero_ahead_bytes;
        let bytes = groups + self.room_ahead();
        let zeros = if self.are_groups_small() { groups } else { 0 };
        Some(Chore::prepare(&self.disk, &self.dir, bytes, zeros, options.disk_free_bytes_min))
    }

    /// Takes in what came of a chore. A failure of the disk is the writer's own.
    pub fn chore_done(&mut self, done: ChoreDone<D>) -> Result<(), WriteError> {
        self.aside.out = false;
        self.check_usable()?;
        match done.0 {
            Outcome::Spare(spare) => self.aside.spare = Some(spare),
            Outcome::NoRoom => {
                let offset = self.last.as_ref().map_or(0, |last| last.offset);
                self.aside.retry_at = offset + self.options.preallocate_bytes.max(1);
            }
            Outcome::Done => {}
            Outcome::Failed(error) => return Err(self.poisoned(error)),
        }
        Ok(())
    }

    /// Ends the work aside, once nothing is out: does what waits and gives the spare segment back.
    pub(crate) fn end_aside(&mut self) -> Result<(), WriteError> {
        self.aside.on = false;
        self.run_waiting()?;
        if self.aside.spare.take().is_some() {
            let path = self.dir.join(SPARE_SEGMENT);
            if let Err(error) = self.disk.remove(&path) {
                tracing::warn!(%error, file = %path.display(), "could not remove the spare segment");
            }
        }
        Ok(())
    }

    fn run_waiting(&mut self) -> Result<(), WriteError> {
        while let Some(chore) = self.aside.waiting.pop_front() {
            if let Outcome::Failed(error) = chore.run(&|| true).0 {
                return Err(self.poisoned(error));
            }
        }
        Ok(())
    }
}

/// Why a segment is begun.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Start {
    /// A new epoch begins.
    Epoch,
    /// The one before is full.
    Next,
    /// A new epoch on a full disk: with no more room than this for groups, if need be out of what is left to others.
    Scant(u64),
}

/// Writes the header of a segment, durably.
fn begin_segment<F: DiskFile>(file: &F, chain: &Chain) -> io::Result<()> {
    file.write_at(&chain.segment_header().encode(), 0)?;
    file.sync_data()
}

/// Takes room from `from` on: the first of the sizes that the disk has. Returns how much was taken; an error that
/// [`is_full`] means that there was none of them.
fn allocate<D: Disk>(
    disk: &D,
    dir: &Path,
    options: &LogOptions,
    file: &D::File,
    from: u64,
    sizes: [u64; 2],
) -> io::Result<u64> {
    let spare = disk.free_space(dir)?.saturating_sub(options.disk_free_bytes_min);
    for bytes in sizes {
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
