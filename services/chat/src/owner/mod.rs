//! A chat node among several: the owners' cores with the store, the owners' book and the other nodes around them.
//!
//! [`OwnerNode`] is a composition of [`cluster`](crate::cluster)'s cores, which decide and know no I/O. Each core is behind
//! a lock that is held for moments; around them run
//!
//! - [`tenure`](self): the node's epoch and session in the owners' book, which buckets it claims and gives up;
//! - two loops that bring what the cores have decided into the store, several transactions at a time, and tell whoever
//!   waits, push, hand on and acknowledge when those are committed;
//! - a loop that reads what the cores want;
//! - a loop that reserves ids, and one that keeps what other nodes may read in common memory.
//!
//! **When it acts.** It owns what the owners' book says it owns, and wishes for what the ring over the member list gives it.
//! A bucket that it wants and that is free is claimed; one that it has and that is another's by the ring is given up: nothing
//! more is decided in it, and it is sealed when nothing of it is under way in either core.
//!
//! **When it refuses.** What belongs to a bucket that is not its own is refused with a time to come again: the front door's
//! table is stale, or the bucket is changing hands. Nothing is answered or pushed once 2 s have passed since it sent the
//! last call to the book that succeeded. While the store is away, steps are repeated as they are and who waits hears nothing
//! before his call's own time is over. A conversation or a timeline that the store refuses for good, or that can't be read
//! from it, rests by itself, and who waits for it is told that it is not known, or to come again later.
//!
//! **How it recovers.** An epoch that has ended takes everything with it that was in memory; the node begins another, with
//! fresh cores, and claims again. Devices that are connected are remembered over that, and are told to sync. What was not
//! handed on by a former owner of a bucket, itself or another, is read from the store when the bucket is claimed.

mod account;
mod arrivals;
mod ask;
mod buckets;
mod calls;
mod common;
mod hear;
mod ids;
mod lines;
mod loads;
mod open;
mod presence;
mod read;
mod reign;
mod relay;
mod reply;
mod routes;
mod say;
mod session;
mod steps;
mod tenure;
mod wire;
mod write;

use crate::core::{Risk, Words, WordsError};
use crate::options::ChatOptions;
use crate::store::OwnedShelf;
use crate::store::books::{PresenceBook, RecentBook, RouteBook, UnreadBook};
use crate::store::owners::OwnerBook;
use arrivals::Arrivals;
use hashring::{Ring, RingError};
use ownership::MemberList;
use parking_lot::{Mutex, RwLock};
use protocol::calls::{ChatPeers, Pushes};
use reign::Reign;
use relay::Relays;
use routes::Routes;
use runtime::{SharedClock, Shutdown};
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::{Notify, watch};

pub use buckets::BucketCounts;
pub use open::OpenOwnerError;

/// The common memory of a cluster's chat nodes.
pub trait Books: UnreadBook + PresenceBook + RouteBook + RecentBook {}
impl<B: UnreadBook + PresenceBook + RouteBook + RecentBook> Books for B {}

/// What stands behind a node.
#[derive(Clone)]
pub struct OwnerStores {
    /// Conversations and timelines: the truth.
    pub shelf: Arc<dyn OwnedShelf>,
    /// Who owns what, in the same database.
    pub owners: Arc<dyn OwnerBook>,
    /// Common memory, if there is one. It may be away or forget everything at any time.
    pub books: Option<Arc<dyn Books>>,
}

/// A chat node among several. See [`OwnerNode::open`].
pub struct OwnerNode {
    options: ChatOptions,
    stores: OwnerStores,
    peers: Arc<dyn ChatPeers>,
    clock: SharedClock,
    words: Words,
    risk: Box<dyn Risk>,
    doors: RwLock<BTreeMap<u16, Arc<dyn Pushes>>>,
    /// Pushes leave in the order in which the timelines gave them.
    pushing: Mutex<()>,
    /// The present epoch with its cores.
    reign: watch::Sender<Option<Arc<Reign>>>,
    /// Whom the ring gives what, and how often that has changed.
    ring: Mutex<(u64, Option<Arc<Ring>>)>,
    routes: RwLock<Arc<Routes>>,
    /// Connected devices of users who are not this node's (yet).
    arrivals: Mutex<Arrivals>,
    relays: Mutex<Relays>,
    /// Messages for common memory.
    keeping: Mutex<common::Keeping>,
    drains: Shutdown,
    /// This node has nothing any more and wants nothing.
    is_empty: watch::Sender<bool>,
    wakes: Wakes,
    /// Rises when something has come from the store, or a change has settled; whether the store failed.
    loads: watch::Sender<(u64, bool)>,
    /// The same for timelines: a user has come, a step is durable, somebody has said who is online.
    line_news: watch::Sender<(u64, bool)>,
    counters: Counters,
}

#[derive(Default)]
struct Wakes {
    conversations: Notify,
    lines: Notify,
    loads: Notify,
    tenure: Notify,
    relays: Notify,
    keeping: Notify,
}

#[derive(Default)]
struct Counters {
    messages: AtomicU64,
    targets: AtomicU64,
    refused: AtomicU64,
    silenced: AtomicU64,
    steps: AtomicU64,
    step_failures: AtomicU64,
    refused_steps: AtomicU64,
    done_steps: AtomicU64,
    epochs: AtomicU64,
}

/// How a node stands, for people and programs.
#[derive(Clone, Debug, Serialize)]
pub struct OwnerStatus {
    /// Its number in ids and in the member list.
    pub node: u16,
    /// Its epoch; none while it has none.
    pub epoch: Option<u32>,
    /// The owners' book was reached within the last 2 s: it answers.
    pub is_fresh: bool,
    /// Its buckets.
    pub buckets: BucketCounts,
    /// It gives everything up.
    pub draining: bool,
    /// Timelines in memory.
    pub users: usize,
    /// Conversations in memory.
    pub conversations: usize,
    /// Decisions that wait for a step.
    pub pending: usize,
    /// Conversations of which some timeline has not heard everything yet.
    pub fanning: usize,
    /// Connected devices whose users are not this node's (yet).
    pub waiting_devices: usize,
    /// Messages stored since the start.
    pub messages: u64,
    /// Targets of pushes since the start.
    pub targets: u64,
    /// Messages refused with BUSY since the start.
    pub refused: u64,
    /// Answers and pushes that were held back because the session was not fresh.
    pub silenced: u64,
    /// Transactions since the start, with those that were tried again.
    pub steps: u64,
    /// Transactions since the start that have their outcomes.
    pub done_steps: u64,
    /// Tries of transactions that failed; each was made again.
    pub step_failures: u64,
    /// Conversations whose last step the store refuses: they rest, and are tried again.
    pub resting_conversations: usize,
    /// Timelines whose last step the store refuses.
    pub resting_timelines: usize,
    /// Conversations that go on although some of their timelines have not taken what was handed to them.
    pub late_conversations: usize,
    /// Things in the store that can't be read, and are looked at again.
    pub unreadable: usize,
    /// Tries since the start of single conversations or timelines that the store refused.
    pub refused_steps: u64,
    /// Epochs begun since the start.
    pub epochs: u64,
}

impl OwnerNode {
    /// Follows a member list: what its ring gives this node is claimed as it becomes free, what it gives to others is given
    /// up.
    ///
    /// # Errors
    /// When no ring can be made of the list; the one before stays.
    pub fn follow(&self, list: &MemberList) -> Result<(), RingError> {
        let ring = Arc::new(list.ring()?);
        {
            let mut now = self.ring.lock();
            if now.1.as_ref().is_some_and(|before| before.epoch() == ring.epoch()) {
                return Ok(());
            }
            *now = (now.0 + 1, Some(ring));
        }
        self.wakes.tenure.notify_one();
        Ok(())
    }

    /// Gives every bucket up and claims none any more; returns when the last one is sealed, or the node ends. Calling it again
    /// waits again.
    pub async fn drain(&self) {
        self.drains.request();
        self.wakes.tenure.notify_one();
        // The sender is this node's.
        let _ = self.is_empty.subscribe().wait_for(|empty| *empty).await;
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
    pub fn status(&self) -> OwnerStatus {
        let get = |c: &AtomicU64| c.load(Ordering::Relaxed);
        let reign = self.reign_now();
        let (conversations, pending, fanning) = reign.as_ref().map_or((0, 0, 0), |reign| {
            let on = reign.conversations.lock();
            (on.in_memory(), on.pending(), on.fanning())
        });
        let (resting_conversations, late_conversations, unread) = reign.as_ref().map_or((0, 0, 0), |reign| {
            let on = reign.conversations.lock();
            (on.resting(), on.late(), on.unreadable())
        });
        let (users, resting_timelines, unread_users) = reign.as_ref().map_or((0, 0, 0), |reign| {
            let core = &reign.lines.lock().core;
            (core.in_memory(), core.resting(), core.unreadable())
        });
        OwnerStatus {
            node: self.options.node,
            epoch: reign.as_ref().map(|reign| reign.epoch),
            is_fresh: reign.as_ref().is_some_and(|reign| self.is_fresh(reign)),
            buckets: reign.as_ref().map(|reign| *reign.counts.lock()).unwrap_or_default(),
            draining: self.drains.is_requested(),
            users,
            conversations,
            pending,
            fanning,
            waiting_devices: self.arrivals.lock().len(),
            messages: get(&self.counters.messages),
            targets: get(&self.counters.targets),
            refused: get(&self.counters.refused),
            silenced: get(&self.counters.silenced),
            steps: get(&self.counters.steps),
            done_steps: get(&self.counters.done_steps),
            step_failures: get(&self.counters.step_failures),
            resting_conversations,
            resting_timelines,
            late_conversations,
            unreadable: unread + unread_users,
            refused_steps: get(&self.counters.refused_steps),
            epochs: get(&self.counters.epochs),
        }
    }

    fn reign_now(&self) -> Option<Arc<Reign>> {
        self.reign.borrow().clone()
    }

    /// Whether anything may be answered or pushed.
    fn is_fresh(&self, reign: &Reign) -> bool {
        !reign.over.is_requested() && reign.session.is_valid(self.clock.mono_ns())
    }

    /// Tells who waits for the store or for a change to look again.
    fn tell_waiters(&self, failed: bool) {
        tell(&self.loads, failed);
    }

    /// The same for who waits for something of a timeline.
    fn tell_lines(&self, failed: bool) {
        tell(&self.line_news, failed);
    }
}

fn tell(news: &watch::Sender<(u64, bool)>, failed: bool) {
    if news.receiver_count() > 0 {
        news.send_modify(|(round, last)| (*round, *last) = (*round + 1, failed));
    }
}
