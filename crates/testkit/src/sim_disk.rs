//! A disk in memory that does to unsynced data everything that a real one may.
//!
//! Each file has what readers see and what is durable; between the two lie the operations since the last sync. A crash
//! keeps, loses or tears each of them, as the seed decides, and keeps the folder's unsynced changes up to some point (a
//! journal keeps their order). Handles opened before a crash are dead afterwards.
//!
//! Faults on request: a crash after so many operations, a byte budget, a failing sync (after which, as on Linux, readers
//! still see the data and a second sync succeeds without making it durable), and a disk that ignores syncs, which is the
//! planted fault 'no fdatasync'.

mod state;

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use flowlog::{Disk, DiskFile};
use parking_lot::Mutex;

use state::{Change, Inode, NameChange, State, apply_name};

/// A simulated disk; clones share it.
#[derive(Clone)]
pub struct SimDisk {
    state: Arc<Mutex<State>>,
}

/// An open file of a [`SimDisk`].
pub struct SimFile {
    state: Arc<Mutex<State>>,
    inode: u64,
    life: u64,
    write: bool,
}

impl SimDisk {
    /// An empty disk. The same seed and the same calls give the same crashes.
    pub fn new(seed: u64) -> SimDisk {
        SimDisk { state: Arc::new(Mutex::new(State::new(seed))) }
    }

    /// The power fails and comes back: what was not synced is kept, lost or torn, and open handles are dead.
    pub fn crash(&self) {
        self.state.lock().crash();
    }

    /// The disk goes down when `operations` more changing calls (writes, syncs, names) have been made: that call and all
    /// later ones fail until [`Self::crash`] brings it up again.
    pub fn go_down_after(&self, operations: u64) {
        let mut state = self.state.lock();
        state.crash_at = Some(state.operations + operations);
    }

    /// True when it went down as [`Self::go_down_after`] asked.
    pub fn is_down(&self) -> bool {
        self.state.lock().down
    }

    /// Changing calls so far.
    pub fn operations(&self) -> u64 {
        self.state.lock().operations
    }

    /// Syncs that succeeded so far, of files and folders.
    pub fn syncs(&self) -> u64 {
        self.state.lock().syncs
    }

    /// Gives the disk a size: files may hold so many bytes together. `None` lifts it.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.state.lock().capacity = bytes;
    }

    /// Lets the next `count` syncs of files fail.
    pub fn fail_syncs(&self, count: u32) {
        self.state.lock().failing_syncs = count;
    }

    /// The planted fault 'no fdatasync': syncs succeed and do nothing.
    pub fn set_ignore_sync(&self, ignore: bool) {
        self.state.lock().ignore_sync = ignore;
    }

    /// What readers see of a file.
    pub fn contents(&self, path: &Path) -> Option<Vec<u8>> {
        let state = self.state.lock();
        state.names.get(path).and_then(|i| state.inodes.get(i)).map(|i| i.visible.clone())
    }

    /// Puts a file there, durably, whatever was there before: to plant damage.
    pub fn put(&self, path: &Path, bytes: &[u8]) {
        let mut state = self.state.lock();
        let inode = state.new_inode();
        state
            .inodes
            .insert(inode, Inode { visible: bytes.to_vec(), durable: bytes.to_vec(), unsynced: Vec::new() });
        state.names.insert(path.to_owned(), inode);
        state.durable_names.insert(path.to_owned(), inode);
    }

    /// All files, by path.
    pub fn paths(&self) -> Vec<PathBuf> {
        self.state.lock().names.keys().cloned().collect()
    }

    /// A disk with the same visible files, all durable: to try several things on one state.
    #[must_use]
    pub fn fork(&self, seed: u64) -> SimDisk {
        let copy = SimDisk::new(seed);
        for path in self.paths() {
            copy.put(&path, &self.contents(&path).unwrap_or_default());
        }
        copy
    }
}

impl Disk for SimDisk {
    type File = SimFile;

    fn create_dir_all(&self, _dir: &Path) -> io::Result<()> {
        // Folders are part of the names here.
        self.state.lock().up()
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let state = self.state.lock();
        state.up()?;
        let inside = state.names.keys().filter(|p| p.parent() == Some(dir));
        Ok(inside.filter_map(|p| p.file_name()?.to_str().map(str::to_owned)).collect())
    }

    fn create(&self, path: &Path) -> io::Result<SimFile> {
        let mut state = self.state.lock();
        state.operation()?;
        let inode = state.new_inode();
        state.inodes.insert(inode, Inode::default());
        state.change_name(NameChange::Set(path.to_owned(), inode));
        Ok(SimFile { state: Arc::clone(&self.state), inode, life: state.life, write: true })
    }

    fn open(&self, path: &Path, write: bool) -> io::Result<SimFile> {
        let state = self.state.lock();
        state.up()?;
        let inode = *state.names.get(path).ok_or(ErrorKind::NotFound)?;
        Ok(SimFile { state: Arc::clone(&self.state), inode, life: state.life, write })
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        state.operation()?;
        state.syncs += 1;
        if state.ignore_sync {
            return Ok(());
        }
        let inside = |change: &NameChange| match change {
            NameChange::Set(p, _) | NameChange::Remove(p) | NameChange::Rename(_, p, _) => {
                p.parent() == Some(dir)
            }
        };
        let (synced, rest): (Vec<_>, Vec<_>) = state.unsynced_names.drain(..).partition(inside);
        state.unsynced_names = rest;
        for change in &synced {
            apply_name(&mut state.durable_names, change);
        }
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        state.operation()?;
        if !state.names.contains_key(path) {
            return Err(ErrorKind::NotFound.into());
        }
        state.change_name(NameChange::Remove(path.to_owned()));
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        state.operation()?;
        let inode = *state.names.get(from).ok_or(ErrorKind::NotFound)?;
        state.change_name(NameChange::Rename(from.to_owned(), to.to_owned(), inode));
        Ok(())
    }

    fn free_space(&self, _dir: &Path) -> io::Result<u64> {
        let state = self.state.lock();
        state.up()?;
        Ok(state.capacity.map_or(u64::MAX, |c| c.saturating_sub(state.used())))
    }
}

impl SimFile {
    fn check(&self, state: &State) -> io::Result<()> {
        state.up()?;
        if state.life == self.life { Ok(()) } else { Err(io::Error::other("handle of before the crash")) }
    }

    fn change(&self, change: Change) -> io::Result<()> {
        let mut state = self.state.lock();
        // A call that meets the crash has begun: the disk may have some of it.
        let result = state.operation();
        if state.life == self.life
            && self.write
            && (result.is_ok() || state.crash_at == Some(state.operations - 1))
        {
            state.change(self.inode, change)?;
        }
        result?;
        self.check(&state)?;
        if self.write { Ok(()) } else { Err(ErrorKind::PermissionDenied.into()) }
    }
}

impl DiskFile for SimFile {
    fn len(&self) -> io::Result<u64> {
        let state = self.state.lock();
        self.check(&state)?;
        Ok(state.inodes.get(&self.inode).map_or(0, |i| i.visible.len() as u64))
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let state = self.state.lock();
        self.check(&state)?;
        let visible = state.inodes.get(&self.inode).map_or(&[][..], |i| &i.visible);
        let from = (offset as usize).min(visible.len());
        let n = buf.len().min(visible.len() - from);
        buf[..n].copy_from_slice(&visible[from..from + n]);
        Ok(n)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        self.change(Change::Write(offset as usize, buf.to_vec()))
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.state.lock();
        state.operation()?;
        self.check(&state)?;
        let fails = state.failing_syncs > 0;
        let ignored = state.ignore_sync;
        let Some(inode) = state.inodes.get_mut(&self.inode) else { return Ok(()) };
        if fails {
            // As on Linux: the pages count as clean from now on, though they never reached the disk.
            inode.unsynced.clear();
            state.failing_syncs -= 1;
            return Err(io::Error::other("simulated failure of the sync"));
        }
        if !ignored {
            for change in std::mem::take(&mut inode.unsynced) {
                change.apply(&mut inode.durable);
            }
        }
        state.syncs += 1;
        Ok(())
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.change(Change::SetLen(len as usize))
    }

    fn preallocate(&self, offset: u64, len: u64) -> io::Result<()> {
        let end = offset + len;
        if self.len()? >= end { Ok(()) } else { self.change(Change::SetLen(end as usize)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(name: &str) -> PathBuf {
        Path::new("/d").join(name)
    }

    #[test]
    fn what_was_synced_survives_and_what_was_not_may_go() {
        let mut outcomes = std::collections::BTreeSet::new();
        for seed in 0..200 {
            let disk = SimDisk::new(seed);
            let file = disk.create(&path("a")).unwrap();
            file.write_at(b"durable", 0).unwrap();
            file.sync_data().unwrap();
            disk.sync_dir(Path::new("/d")).unwrap();
            file.write_at(b"--", 7).unwrap();
            drop(disk.create(&path("b")).unwrap());
            disk.crash();
            assert!(file.write_at(b"x", 0).is_err(), "a handle of before the crash is dead");
            let a = disk.contents(&path("a")).unwrap();
            assert!(a.starts_with(b"durable"));
            outcomes.insert((a, disk.contents(&path("b")).is_some()));
        }
        // Kept, lost and torn, each with and without the other file.
        assert!(outcomes.len() >= 6, "{outcomes:?}");
    }

    #[test]
    fn the_same_seed_crashes_the_same_way() {
        let run = |seed| {
            let disk = SimDisk::new(seed);
            let file = disk.create(&path("a")).unwrap();
            disk.sync_dir(Path::new("/d")).unwrap();
            for i in 0..20u8 {
                file.write_at(&[i; 600], u64::from(i) * 600).unwrap();
            }
            disk.crash();
            disk.contents(&path("a")).unwrap()
        };
        assert_eq!(run(5), run(5));
        assert_ne!(run(5), run(6));
    }

    #[test]
    fn faults_happen_as_asked() {
        let disk = SimDisk::new(1);
        let file = disk.create(&path("a")).unwrap();
        disk.sync_dir(Path::new("/d")).unwrap();
        disk.set_capacity(Some(10));
        file.write_at(&[1; 10], 0).unwrap();
        assert!(flowlog::is_full(&file.write_at(&[1; 1], 10).unwrap_err()));
        // A failed sync: still visible, a second sync says yes, and the crash takes it.
        disk.fail_syncs(1);
        assert!(file.sync_data().is_err());
        file.sync_data().unwrap();
        assert_eq!(disk.contents(&path("a")).unwrap().len(), 10);
        disk.crash();
        assert_eq!(disk.contents(&path("a")).unwrap().len(), 0);
        disk.go_down_after(1);
        let file = disk.open(&path("a"), true).unwrap();
        file.write_at(b"x", 0).unwrap();
        assert!(file.sync_data().is_err() && disk.is_down());
        disk.crash();
        // Ignored syncs protect nothing.
        disk.set_ignore_sync(true);
        let lost = (0..50).any(|_| {
            let file = disk.open(&path("a"), true).unwrap();
            file.truncate(0).unwrap();
            file.write_at(b"y", 0).unwrap();
            file.sync_data().unwrap();
            disk.crash();
            disk.contents(&path("a")).unwrap() != b"y"
        });
        assert!(lost);
    }
}
