//! What a simulated disk holds, and what a crash makes of what was not synced.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, ErrorKind};
use std::path::PathBuf;

use crate::rng::SimRng;

/// Torn writes keep or lose pieces of this size, beside one that is cut at any byte.
const SECTOR_BYTES: usize = 512;

/// Everything that is on a disk, or on its way there.
pub(super) struct State {
    rng: SimRng,
    pub inodes: BTreeMap<u64, Inode>,
    next_inode: u64,
    /// Names as processes see them.
    pub names: BTreeMap<PathBuf, u64>,
    /// Names that a crash can't take away.
    pub durable_names: BTreeMap<PathBuf, u64>,
    /// Changes of names since the last sync of their folder, in order.
    pub unsynced_names: Vec<NameChange>,
    /// Rises with each crash; handles of an earlier life are dead.
    pub life: u64,
    pub operations: u64,
    pub crash_at: Option<u64>,
    pub down: bool,
    pub capacity: Option<u64>,
    pub failing_syncs: u32,
    pub ignore_sync: bool,
    pub syncs: u64,
}

/// A change of the names in a folder.
#[derive(Clone)]
pub(super) enum NameChange {
    Set(PathBuf, u64),
    Remove(PathBuf),
    Rename(PathBuf, PathBuf, u64),
}

/// A file's contents: what readers see, what no crash can take away, and what lies between the two.
#[derive(Default)]
pub(super) struct Inode {
    pub visible: Vec<u8>,
    pub durable: Vec<u8>,
    pub unsynced: Vec<Change>,
}

/// A change of a file.
#[derive(Clone)]
pub(super) enum Change {
    Write(usize, Vec<u8>),
    SetLen(usize),
}

impl State {
    /// An empty disk.
    pub fn new(seed: u64) -> State {
        State {
            rng: SimRng::new(seed),
            inodes: BTreeMap::new(),
            next_inode: 1,
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            unsynced_names: Vec::new(),
            life: 0,
            operations: 0,
            crash_at: None,
            down: false,
            capacity: None,
            failing_syncs: 0,
            ignore_sync: false,
            syncs: 0,
        }
    }

    pub fn new_inode(&mut self) -> u64 {
        let inode = self.next_inode;
        self.next_inode += 1;
        inode
    }

    /// Counts a changing call; fails if the disk is down.
    pub fn operation(&mut self) -> io::Result<()> {
        self.operations += 1;
        if self.crash_at.is_some_and(|at| self.operations > at) {
            self.down = true;
        }
        self.up()
    }

    /// Fails if the disk is down.
    pub fn up(&self) -> io::Result<()> {
        if self.down { Err(io::Error::other("simulated disk is down")) } else { Ok(()) }
    }

    /// What was not synced is kept, lost or torn; handles are dead.
    pub fn crash(&mut self) {
        self.life += 1;
        self.down = false;
        self.crash_at = None;
        let keep = self.rng.below(self.unsynced_names.len() as u64 + 1) as usize;
        let changes: Vec<NameChange> = self.unsynced_names.drain(..).take(keep).collect();
        for change in &changes {
            apply_name(&mut self.durable_names, change);
        }
        self.names = self.durable_names.clone();
        let live: BTreeSet<u64> = self.names.values().copied().collect();
        self.inodes.retain(|i, _| live.contains(i));
        for inode in self.inodes.values_mut() {
            for change in std::mem::take(&mut inode.unsynced) {
                tear(&mut self.rng, &mut inode.durable, change);
            }
            inode.visible = inode.durable.clone();
        }
    }

    /// Bytes that files hold together.
    pub fn used(&self) -> u64 {
        self.inodes.values().map(|i| i.visible.len() as u64).sum()
    }

    fn room_for(&self, bytes: u64) -> io::Result<()> {
        match self.capacity {
            Some(capacity) if self.used() + bytes > capacity => Err(ErrorKind::StorageFull.into()),
            _ => Ok(()),
        }
    }

    /// Applies a change to what readers see, and remembers it for the next sync or crash.
    pub fn change(&mut self, inode: u64, change: Change) -> io::Result<()> {
        let len = self.inodes.get(&inode).map_or(0, |i| i.visible.len());
        let grown = change.end().saturating_sub(len) as u64;
        if grown > 0 {
            self.room_for(grown)?;
        }
        let Some(inode) = self.inodes.get_mut(&inode) else { return Err(ErrorKind::NotFound.into()) };
        change.apply(&mut inode.visible);
        inode.unsynced.push(change);
        Ok(())
    }

    /// The same for names.
    pub fn change_name(&mut self, change: NameChange) {
        apply_name(&mut self.names, &change);
        self.unsynced_names.push(change);
        // A file without a name that no crash can bring back gives its room back.
        let mut named: BTreeSet<u64> = self.names.values().copied().collect();
        named.extend(self.durable_names.values());
        for change in &self.unsynced_names {
            if let NameChange::Set(_, i) | NameChange::Rename(_, _, i) = change {
                named.insert(*i);
            }
        }
        self.inodes.retain(|i, _| named.contains(i));
    }
}

pub(super) fn apply_name(names: &mut BTreeMap<PathBuf, u64>, change: &NameChange) {
    match change {
        NameChange::Set(path, inode) => {
            names.insert(path.clone(), *inode);
        }
        NameChange::Remove(path) => {
            names.remove(path);
        }
        NameChange::Rename(from, to, inode) => {
            names.remove(from);
            names.insert(to.clone(), *inode);
        }
    }
}

impl Change {
    fn end(&self) -> usize {
        match self {
            Change::Write(at, bytes) => at + bytes.len(),
            Change::SetLen(len) => *len,
        }
    }

    pub fn apply(&self, file: &mut Vec<u8>) {
        match self {
            Change::Write(at, bytes) => {
                let end = at + bytes.len();
                if file.len() < end {
                    file.resize(end, 0);
                }
                file[*at..end].copy_from_slice(bytes);
            }
            Change::SetLen(len) => file.resize(*len, 0),
        }
    }
}

/// What a crash makes of an unsynced change: all, nothing, a beginning, an end, or some sectors of it.
fn tear(rng: &mut SimRng, file: &mut Vec<u8>, change: Change) {
    let Change::Write(at, bytes) = &change else {
        if rng.one_in(2) {
            change.apply(file);
        }
        return;
    };
    let cut = rng.below(bytes.len() as u64 + 1) as usize;
    match rng.below(5) {
        0 => {}
        1 => change.apply(file),
        2 => Change::Write(*at, bytes[..cut].to_vec()).apply(file),
        3 => Change::Write(at + cut, bytes[cut..].to_vec()).apply(file),
        _ => {
            for (i, sector) in bytes.chunks(SECTOR_BYTES).enumerate() {
                if rng.one_in(2) {
                    Change::Write(at + i * SECTOR_BYTES, sector.to_vec()).apply(file);
                }
            }
        }
    }
}
