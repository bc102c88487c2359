//! Which access nodes there are, and what waits for them.
//!
//! An access node has one connection at a time; a later one takes the place of the one before. What devices it had is kept
//! over a broken connection for a while: when it comes back it tells of all that it still has, and the others have left.

use crate::calls::chat_wire::weight;
use crate::calls::limits::PUSHES_WAITING_MAX;
use crate::calls::{ChatHost, DeviceAt, PushBatch, Pushes};
use parking_lot::Mutex;
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::Notify;

/// Pushes on their way to one access node.
#[derive(Default)]
pub(super) struct Door {
    waiting: Mutex<Waiting>,
    bell: Notify,
    dropped: AtomicU64,
}

#[derive(Default)]
struct Waiting {
    batches: VecDeque<PushBatch>,
    bytes: usize,
}

impl Pushes for Door {
    fn push(&self, batch: PushBatch) {
        let bytes = weight(&batch);
        let mut waiting = self.waiting.lock();
        if waiting.bytes + bytes > PUSHES_WAITING_MAX && !waiting.batches.is_empty() {
            drop(waiting);
            self.dropped.fetch_add(batch.targets.len() as u64, Ordering::Relaxed);
            return;
        }
        waiting.bytes += bytes;
        let first = waiting.batches.is_empty();
        waiting.batches.push_back(batch);
        drop(waiting);
        if first {
            self.bell.notify_one();
        }
    }
}

impl Door {
    /// Waits until there is something.
    pub async fn rung(&self) {
        self.bell.notified().await;
    }

    /// Whether there is something.
    pub fn has_more(&self) -> bool {
        !self.waiting.lock().batches.is_empty()
    }

    /// The next batch.
    pub fn next(&self) -> Option<PushBatch> {
        let mut waiting = self.waiting.lock();
        let batch = waiting.batches.pop_front()?;
        waiting.bytes -= weight(&batch);
        Some(batch)
    }

    /// Targets left out since the last time.
    pub fn take_dropped(&self) -> u64 {
        self.dropped.swap(0, Ordering::Relaxed)
    }
}

/// Devices of an access node.
#[derive(Default)]
pub(super) struct Devices {
    /// Those it has told of on its connection.
    pub now: HashSet<DeviceAt>,
    /// Those it had on connections before, and has not told of on this one.
    pub before: HashSet<DeviceAt>,
}

impl Devices {
    fn take_all(&mut self) -> HashSet<DeviceAt> {
        let mut all = std::mem::take(&mut self.before);
        all.extend(self.now.drain());
        all
    }
}

struct FrontDoor {
    /// Which connection has it now, or had it last.
    session: u64,
    devices: Arc<Mutex<Devices>>,
    /// Tells the connection that another has taken its place.
    replaced: Arc<Notify>,
}

/// All access nodes of a server.
#[derive(Default)]
pub(in crate::calls::server) struct FrontDoors {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    doors: HashMap<u16, FrontDoor>,
    sessions: u64,
}

/// A connection's place among them.
pub(super) struct Place {
    pub session: u64,
    pub devices: Arc<Mutex<Devices>>,
    pub replaced: Arc<Notify>,
}

impl FrontDoors {
    /// An access node has connected: pushes for it go to `door` from now on.
    pub(super) fn open(&self, access: u16, host: &dyn ChatHost, door: Arc<Door>) -> Place {
        let mut state = self.state.lock();
        state.sessions += 1;
        let session = state.sessions;
        let (devices, replaced) = (Arc::<Mutex<Devices>>::default(), Arc::new(Notify::new()));
        let new = FrontDoor { session, devices: Arc::clone(&devices), replaced: Arc::clone(&replaced) };
        let old = state.doors.insert(access, new);
        host.attach(access, door);
        drop(state);
        if let Some(old) = old {
            old.replaced.notify_one();
            devices.lock().before = old.devices.lock().take_all();
        }
        Place { session, devices, replaced }
    }

    /// Whether the access node's connection is still this one.
    pub(super) fn is_current(&self, access: u16, session: u64) -> bool {
        self.state.lock().doors.get(&access).is_some_and(|door| door.session == session)
    }

    /// The connection has ended: pushes have no way, unless there is another one by now.
    pub(super) fn close(&self, access: u16, session: u64, host: &dyn ChatHost) {
        let state = self.state.lock();
        if state.doors.get(&access).is_some_and(|door| door.session == session) {
            host.detach(access);
        }
    }

    /// The access node has not come back: its devices, which have left.
    pub(super) fn forget(&self, access: u16, session: u64) -> HashSet<DeviceAt> {
        let mut state = self.state.lock();
        if state.doors.get(&access).is_none_or(|door| door.session != session) {
            return HashSet::new();
        }
        let door = state.doors.remove(&access);
        drop(state);
        door.map(|door| door.devices.lock().take_all()).unwrap_or_default()
    }
}
