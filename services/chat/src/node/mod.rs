//! A chat node: the state, its log, the store behind it and the front doors.
//!
//! A request is decided under the desk's lock, its records are written to the log in the order of the decisions, and one
//! thread applies them in that order once they are durable: it answers the senders, tells the front doors, and does what
//! time brings. A second task brings in what is not in memory, a third fills the store behind the log.
//!
//! It refuses sends while the disk is full or more waits than its bounds allow, and goes on answering reads. What was
//! acknowledged is in the log; a start reads the log from the last checkpoint on and stands where it stood.

mod applier;
mod ask;
mod calls;
mod desk;
mod fill;
mod load;
mod messages;
mod official;
mod read;
mod start;
mod write;

use crate::core::{Risk, Words, WordsError};
use crate::options::ChatOptions;
use crate::store::Shelf;
use applier::Signal;
use desk::Desk;
use flowlog::{Disk, FlowLog, RealDisk};
use parking_lot::{Mutex, RwLock};
use protocol::calls::Pushes;
use runtime::{SharedClock, Shutdown};
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::{Notify, watch};

pub use official::Notice;
pub use start::{ChatDisk, StartError};

/// A chat node. See [`ChatNode::open`].
pub struct ChatNode<D: Disk = RealDisk> {
    options: ChatOptions,
    desk: Mutex<Desk>,
    log: FlowLog<D>,
    shelf: Arc<dyn Shelf>,
    clock: SharedClock,
    signal: Arc<Signal>,
    doors: RwLock<BTreeMap<u16, Arc<dyn Pushes>>>,
    words: Words,
    risk: Box<dyn Risk>,
    /// Something is wanted from the store.
    wanted: Notify,
    /// Rises when something has come from the store, or a change has settled; whether the store failed.
    loads: watch::Sender<(u64, bool)>,
    /// Everything that was written is applied, and nothing more comes.
    drained: Shutdown,
    counters: Counters,
}

#[derive(Default)]
struct Counters {
    messages: AtomicU64,
    targets: AtomicU64,
    refused: AtomicU64,
    checkpoints: AtomicU64,
}

/// How a node stands, for people and programs.
#[derive(Clone, Debug, Serialize)]
pub struct ChatStatus {
    /// Its number in ids.
    pub node: u16,
    /// Users in memory.
    pub users: usize,
    /// Conversations in memory.
    pub conversations: usize,
    /// The cursor of the last message.
    pub cursor: u64,
    /// Records that wait for the disk.
    pub pending: usize,
    /// Bytes of messages that the store does not have yet.
    pub unstored_bytes: usize,
    /// Messages applied since the start.
    pub messages: u64,
    /// Targets of pushes since the start.
    pub targets: u64,
    /// Sends refused since the start for want of room.
    pub refused: u64,
    /// Checkpoints since the start.
    pub checkpoints: u64,
    /// Durable end of the log.
    pub log_end: u64,
    /// Why the log takes nothing, if so.
    pub log_failure: Option<String>,
}

impl<D: Disk> ChatNode<D> {
    /// Pushes for connections of an access node go there from now on. An access node without a door gets none, and its
    /// devices sync.
    pub fn attach(&self, access: u16, door: Arc<dyn Pushes>) {
        self.doors.write().insert(access, door);
    }

    /// An access node is gone.
    pub fn detach(&self, access: u16) {
        self.doors.write().remove(&access);
    }

    /// Other sensitive words, at once.
    ///
    /// # Errors
    /// When the list can't be used; the one before stays.
    pub fn set_words<S: AsRef<str>>(&self, words: &[S]) -> Result<(), WordsError> {
        self.words.set(words)
    }

    /// Settings.
    pub fn options(&self) -> &ChatOptions {
        &self.options
    }

    /// How it stands.
    pub fn status(&self) -> ChatStatus {
        let get = |c: &AtomicU64| c.load(Ordering::Relaxed);
        let (log_end, log_failure) = (self.log.durable().0, self.log.failure());
        let desk = self.desk.lock();
        ChatStatus {
            node: self.options.node,
            users: desk.state.users_len(),
            conversations: desk.state.conversations.len(),
            cursor: desk.state.cursor,
            pending: desk.pending.len(),
            unstored_bytes: desk.state.unstored_bytes,
            messages: get(&self.counters.messages),
            targets: get(&self.counters.targets),
            refused: get(&self.counters.refused),
            checkpoints: get(&self.counters.checkpoints),
            log_end,
            log_failure,
        }
    }

    /// Tells who waits for the store or for a change to look again.
    fn tell_waiters(&self, failed: bool) {
        if self.loads.receiver_count() > 0 {
            self.loads.send_modify(|(round, last)| (*round, *last) = (*round + 1, failed));
        }
    }
}
