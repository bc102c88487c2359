//! Work for a log that is done beside its writer, so that no group waits for it.
//!
//! Three things make a sync wait for the file system's journal instead of for the disk alone: writing where room was
//! only taken, cutting a file, removing one. None of them is needed by the group that happens to be next. So a running
//! log has a second thread that does them as chores: it makes the next segment under a name of its own, zeros written
//! and synced, before the present one is full; it gives back the room of a segment that was left; it removes old ones.
//!
//! The writer hands chores out one at a time ([`crate::LogWriter::chore`]) and takes their results between two groups. A chore
//! never touches a file that the writer writes to: a sync of the writer would have to carry the chore's bytes.
//! A disk without room for a spare segment is no failure; the writer then goes on as it would without one. Any other
//! failure ends the log, as a failed write does.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};

use crate::disk::{Disk, DiskFile, is_full};
use crate::error::WriteError;
use crate::fault;
use crate::segment::SPARE_SEGMENT;

/// Zeros are written and synced in pieces of this size: a sync of the writer waits behind one piece at most.
const PIECE_BYTES: u64 = 256 * 1024;
/// Chores that wait at most, beside one that removes; further room is given back on the spot.
pub(crate) const CHORES_MAX: usize = 8;

/// A segment without a header, whole and durable, that waits under a name of its own.
pub(crate) struct Spare<F> {
    pub file: F,
    pub allocated: u64,
    /// Up to where zeros are on the disk.
    pub zeroed: u64,
}

/// What the writer knows of the work beside it.
pub(crate) struct Aside<D: Disk> {
    /// Somebody runs the chores.
    pub on: bool,
    /// A chore has been handed out and its result is not in.
    pub out: bool,
    pub waiting: VecDeque<Chore<D>>,
    pub spare: Option<Spare<D::File>>,
    /// After a refusal for want of room: not again before the last segment has come this far.
    pub retry_at: u64,
}

impl<D: Disk> Default for Aside<D> {
    fn default() -> Self {
        Aside { on: false, out: false, waiting: VecDeque::new(), spare: None, retry_at: 0 }
    }
}

/// A piece of work that may run beside the writer.
pub struct Chore<D: Disk> {
    disk: D,
    /// The folder of the log.
    dir: PathBuf,
    what: What<D::File>,
}

enum What<F> {
    /// Make a spare segment of so many bytes, the first `zeros` of them written, if the disk keeps `floor` bytes free.
    Prepare { bytes: u64, zeros: u64, floor: u64 },
    /// Give back the room behind the last group of a segment that is complete.
    Trim { file: F, path: PathBuf, len: u64 },
    /// Remove segments, oldest first.
    Remove { paths: Vec<PathBuf> },
}

/// What came of a chore; for [`crate::LogWriter::chore_done`].
pub struct ChoreDone<D: Disk>(pub(crate) Outcome<D::File>);

pub(crate) enum Outcome<F> {
    Spare(Spare<F>),
    NoRoom,
    Done,
    Failed(WriteError),
}

impl<D: Disk> Chore<D> {
    pub(crate) fn prepare(disk: &D, dir: &Path, bytes: u64, zeros: u64, floor: u64) -> Self {
        let what = What::Prepare { bytes, zeros: zeros.min(bytes), floor };
        Chore { disk: disk.clone(), dir: dir.to_owned(), what }
    }

    pub(crate) fn trim(disk: &D, dir: &Path, file: D::File, path: PathBuf, len: u64) -> Self {
        Chore { disk: disk.clone(), dir: dir.to_owned(), what: What::Trim { file, path, len } }
    }

    pub(crate) fn remove(disk: &D, dir: &Path, paths: Vec<PathBuf>) -> Self {
        Chore { disk: disk.clone(), dir: dir.to_owned(), what: What::Remove { paths } }
    }

    /// Takes in more segments to remove if this chore removes some; else gives them back.
    pub(crate) fn also_remove(&mut self, more: Vec<PathBuf>) -> Option<Vec<PathBuf>> {
        match &mut self.what {
            What::Remove { paths } => {
                paths.extend(more);
                None
            }
            _ => Some(more),
        }
    }

    /// Does it. `go_on` is asked before each piece of what takes long; if it says no, a spare that is being made is given up.
    pub fn run(self, go_on: &dyn Fn() -> bool) -> ChoreDone<D> {
        ChoreDone(match &self.what {
            What::Prepare { bytes, zeros, floor } => self.make_spare([*bytes, *zeros, *floor], go_on),
            What::Trim { file, path, len } => {
                trim(file, path, *len);
                Outcome::Done
            }
            What::Remove { paths } => match remove(&self.disk, &self.dir, paths) {
                Ok(()) => Outcome::Done,
                Err(error) => Outcome::Failed(error),
            },
        })
    }

    fn make_spare(&self, sizes: [u64; 3], go_on: &dyn Fn() -> bool) -> Outcome<D::File> {
        let path = self.dir.join(SPARE_SEGMENT);
        let [bytes, zeros, _] = sizes;
        let made = self.try_spare(&path, sizes, go_on);
        fault::point("log.spare_made");
        match made {
            Ok(Some(file)) => return Outcome::Spare(Spare { file, allocated: bytes, zeroed: zeros }),
            Ok(None) => {}
            Err(error) if is_full(&error) => {}
            Err(source) => {
                return Outcome::Failed(WriteError::FatalIo { op: "make and sync segment", path, source });
            }
        }
        // Best effort: the next one begins anew, and recovery removes what is left.
        let _ = self.disk.remove(&path);
        Outcome::NoRoom
    }

    /// The file, or none if there is too little room or it was given up.
    fn try_spare(
        &self,
        path: &Path,
        [bytes, zeros, floor]: [u64; 3],
        go_on: &dyn Fn() -> bool,
    ) -> io::Result<Option<D::File>> {
        if self.disk.free_space(&self.dir)?.saturating_sub(floor) < bytes {
            return Ok(None);
        }
        let file = self.disk.create(path)?;
        file.preallocate(0, bytes)?;
        Ok(write_zeros(&file, zeros, go_on)?.then_some(file))
    }
}

/// Writes zeros up to `end`, each piece synced before the next, and syncs the whole. `go_on` is asked before each piece;
/// if it says no, this returns false.
pub(crate) fn write_zeros<F: DiskFile>(file: &F, end: u64, go_on: &dyn Fn() -> bool) -> io::Result<bool> {
    let piece = vec![0u8; end.min(PIECE_BYTES) as usize];
    let mut at = 0;
    while at < end {
        if !go_on() {
            return Ok(false);
        }
        let n = piece.len().min((end - at) as usize);
        file.write_at(&piece[..n], at)?;
        at += n as u64;
        if at < end {
            file.sync_data()?;
        }
    }
    file.sync_data()?;
    Ok(true)
}

/// Cuts a complete segment behind its last group. Whether that works changes nothing in the log: zeros there mean
/// nothing, and everything before them is durable already.
pub(crate) fn trim<F: DiskFile>(file: &F, path: &Path, len: u64) {
    if let Err(error) = file.truncate(len).and_then(|()| file.sync_data()) {
        tracing::warn!(%error, file = %path.display(), "could not give back unused room");
    }
}

/// Removes segments, oldest first, each durably before the next, so that a crash leaves no hole.
pub(crate) fn remove<D: Disk>(disk: &D, dir: &Path, paths: &[PathBuf]) -> Result<(), WriteError> {
    for path in paths {
        if let Err(source) = disk.remove(path).and_then(|()| disk.sync_dir(dir)) {
            return Err(WriteError::FatalIo { op: "remove", path: path.clone(), source });
        }
    }
    Ok(())
}
