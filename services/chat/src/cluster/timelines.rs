//! The owner of timelines: gives what is handed to it a place in each, brings that into the store, pushes it.
//!
//! It is the only one who allots cursors in its buckets, and has one step under way for each timeline, so entries become
//! durable in the order of their cursors. A cursor is the bucket's term and a number that counts within it: a new
//! owner's are above all that were before. Nobody is told of a cursor that is not durable ([`Timelines::sync`] ends below
//! the step under way), so no device can confirm what it has not been able to see.
//!
//! A user to whom something goes need not be in memory. His own part is loaded when a device of his comes, or somebody
//! becomes his friend. What is unread is what the conversations' owners say, each as of a version of the conversation;
//! the total is their sum.

use super::hand::{Ack, Hand, HandKey};
use super::line::{Draft, Flight, Item, Line, SyncPlan};
use super::presence::Presences;
use super::rest::Unreadable;
use super::{Batch, CURSOR_BITS};
use crate::core::{Conn, Entry, Pushing, User};
use crate::options::ChatOptions;
use crate::store::owned::{Fence, Outcomes, Step, TimelineOutcome, TimelineStep};
use hashring::bucket_of;
use protocol::calls::{ConnectionAt, DeviceAt};
use records::ChatMessage;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

/// Timelines of a batch.
const BATCH_TIMELINES: usize = 1_024;
/// Entries of a batch, about.
const BATCH_ENTRIES: usize = 4_096;

/// An owned bucket.
pub(super) struct Owned {
    pub(super) term: u32,
    /// The last cursor that was allotted in it.
    last: u64,
    /// Nothing new goes to the store.
    pub(super) closing: bool,
    /// Since when it is owned; 0: since less than a tick.
    since_ms: u64,
}

/// What came of a batch, beside pushes and acknowledgements.
#[derive(Debug, Default)]
pub struct Placed {
    /// Buckets that turned out to belong to others; they are disowned.
    pub lost: BTreeSet<u16>,
    /// Devices on connections whose users belong to others now: they are to arrive there.
    pub moved: Vec<Moved>,
}

/// A device whose user belongs to another now.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Moved {
    /// The device.
    pub device: DeviceAt,
    /// Whom it watches.
    pub watching: Vec<u64>,
}

/// Timelines of a node.
pub struct Timelines {
    pub(super) options: ChatOptions,
    pub(super) node: u16,
    pub(super) epoch: u32,
    pub(super) buckets: BTreeMap<u16, Owned>,
    pub(super) lines: HashMap<u64, Line>,
    /// Users of each bucket that are in memory.
    pub(super) in_bucket: BTreeMap<u16, BTreeSet<u64>>,
    ready: VecDeque<u64>,
    acks: BTreeMap<HandKey, Vec<u64>>,
    pub(super) wanted: BTreeSet<u64>,
    /// Users whose step the store refuses.
    pub(super) resting: BTreeSet<u64>,
    /// Users of whom something can't be read.
    pub(super) unreadable: Unreadable<u64>,
    /// The time of the last tick.
    pub(super) ticked_ms: u64,
    /// Users with places that only the store knows.
    pub(super) doubtful: BTreeSet<u64>,
    pub(super) again: VecDeque<(u64, u64, ConnectionAt, u64, u64)>,
    pub(super) silence: VecDeque<(u64, u64, ConnectionAt, u64)>,
    pub(super) unlogged: VecDeque<u64>,
    pub(super) confirm_due_ms: u64,
    /// Large conversations with members who are online.
    pub(super) watched: BTreeMap<u64, BTreeSet<u64>>,
    /// Users who came or went, of whom nobody has been told yet.
    pub(super) presence: BTreeSet<u64>,
    pub(super) presences: Presences,
    /// Users whose devices are to hear how they have read.
    pub(super) telling: BTreeSet<u64>,
    #[cfg(feature = "planted")]
    reads_past: bool,
}

impl Timelines {
    /// Of a node in an epoch; it owns nothing yet.
    pub fn new(options: ChatOptions, node: u16, epoch: u32) -> Timelines {
        Timelines {
            options,
            node,
            epoch,
            buckets: BTreeMap::new(),
            lines: HashMap::new(),
            in_bucket: BTreeMap::new(),
            ready: VecDeque::new(),
            acks: BTreeMap::new(),
            wanted: BTreeSet::new(),
            resting: BTreeSet::new(),
            unreadable: Unreadable::default(),
            ticked_ms: 0,
            doubtful: BTreeSet::new(),
            again: VecDeque::new(),
            silence: VecDeque::new(),
            unlogged: VecDeque::new(),
            confirm_due_ms: 0,
            watched: BTreeMap::new(),
            presence: BTreeSet::new(),
            presences: Presences::default(),
            telling: BTreeSet::new(),
            #[cfg(feature = "planted")]
            reads_past: false,
        }
    }

    /// Plants a fault: what is allotted counts as committed.
    #[cfg(feature = "planted")]
    pub fn plant_reading_past_committed(&mut self) {
        self.reads_past = true;
    }

    /// A bucket is this node's.
    pub fn own(&mut self, bucket: u16, term: u32) {
        if self.buckets.get(&bucket).is_some_and(|owned| owned.term == term) {
            return;
        }
        self.drop_bucket(bucket);
        let last = u64::from(term) << CURSOR_BITS;
        self.buckets.insert(bucket, Owned { term, last, closing: false, since_ms: 0 });
    }

    /// The term under which a user's bucket is owned.
    pub fn term(&self, bucket: u16) -> Option<u32> {
        self.buckets.get(&bucket).map(|owned| owned.term)
    }

    /// Since when a bucket is owned; 0: since less than a tick.
    pub(super) fn since_ms(&self, bucket: u16) -> Option<u64> {
        self.buckets.get(&bucket).map(|owned| owned.since_ms)
    }

    /// Buckets that have come since the last tick are owned since now.
    pub(super) fn note_own(&mut self, now_ms: u64) {
        let new = self.buckets.values_mut().filter(|owned| owned.since_ms == 0);
        new.for_each(|owned| owned.since_ms = now_ms);
    }

    /// Users in memory.
    pub fn in_memory(&self) -> usize {
        self.lines.len()
    }

    /// Whether a user's timeline is this node's.
    pub fn owns(&self, user: u64) -> bool {
        self.buckets.contains_key(&bucket_of(user).get())
    }

    /// Nothing more of a bucket is brought into the store; what is under way is heard of.
    pub fn give_up(&mut self, bucket: u16) {
        if let Some(owned) = self.buckets.get_mut(&bucket) {
            owned.closing = true;
        }
    }

    /// Nothing of a bucket is under way, but for what the store refuses.
    pub fn is_idle(&self, bucket: u16) -> bool {
        let mut lines =
            self.in_bucket.get(&bucket).into_iter().flatten().filter_map(|user| self.lines.get(user));
        lines.all(Line::is_stored)
    }

    /// A bucket is not this node's any more. Devices that are to arrive at the next owner's.
    pub fn disown(&mut self, bucket: u16) -> Vec<Moved> {
        self.buckets.remove(&bucket);
        self.drop_bucket(bucket)
    }

    fn drop_bucket(&mut self, bucket: u16) -> Vec<Moved> {
        let mut moved = Vec::new();
        for id in self.in_bucket.remove(&bucket).unwrap_or_default() {
            self.unwatch(id);
            self.wanted.remove(&id);
            self.resting.remove(&id);
            let Some(line) = self.lines.remove(&id) else { continue };
            let device = |c: Conn| Moved {
                device: DeviceAt { user: id, device: c.device, at: c.at },
                watching: c.watching.into_vec(),
            };
            moved.extend(line.user.conns.into_iter().map(device));
        }
        moved
    }

    /// A user's line, if his bucket is this node's.
    pub(super) fn line(&mut self, user: u64, now_ms: u64) -> Option<&mut Line> {
        let bucket = bucket_of(user).get();
        let last = self.buckets.get(&bucket)?.last;
        let in_bucket = &mut self.in_bucket;
        let line = self.lines.entry(user).or_insert_with(|| {
            in_bucket.entry(bucket).or_default().insert(user);
            // Nothing of his is under way, so the store has all there is.
            let user = User { id: user, hot_after: last, ..User::default() };
            Line { user, ..Line::default() }
        });
        line.user.touched_ms = now_ms;
        Some(line)
    }

    /// Whatever a user will ever have with a cursor up to here is durable.
    pub(super) fn committed(&self, user: u64) -> Option<u64> {
        let last = self.buckets.get(&bucket_of(user).get())?.last;
        #[cfg(feature = "planted")]
        if self.reads_past {
            return Some(last);
        }
        let flight = self.lines.get(&user).and_then(|line| line.flight.as_ref());
        Some(flight.map_or(last, |flight| flight.stamp - 1))
    }

    /// Takes a hand. Places of users of other nodes are passed over: who handed them tries elsewhere.
    pub fn receive(&mut self, hand: &Arc<Hand>, now_ms: u64) {
        for at in 0..hand.places.len() {
            let user = hand.places[at].user;
            let Some(line) = self.line(user, now_ms) else { continue };
            if line.receive(Item { hand: Arc::clone(hand), at }) {
                if line.needs_loading() {
                    self.wanted.insert(user);
                } else {
                    self.make_ready(user);
                }
            }
        }
    }

    pub(super) fn make_ready(&mut self, user: u64) {
        if let Some(line) = self.lines.get_mut(&user)
            && line.flight.is_none()
            && (!line.waiting.is_empty() || line.user.person_dirty)
            && !std::mem::replace(&mut line.queued, true)
        {
            self.ready.push_back(user);
        }
    }

    /// The next steps, if there are any. Several batches may be under way; each goes to the store until there is an
    /// outcome. What needs no store is told through `out` at once.
    pub fn batch(&mut self, out: &mut Pushing) -> Option<Batch> {
        self.tell_reads(out);
        let fence = Fence { node: self.node, epoch: self.epoch, terms: Vec::new() };
        let mut batch = Batch { fence, step: Step::default() };
        let (mut terms, mut entries) = (BTreeMap::new(), 0);
        let mut closing = Vec::new();
        while batch.step.timelines.len() < BATCH_TIMELINES
            && entries < BATCH_ENTRIES
            && let Some(user) = self.ready.pop_front()
        {
            let bucket = bucket_of(user).get();
            let Some(Owned { term, closing: is_closing, .. }) = self.buckets.get(&bucket) else { continue };
            let term = *term;
            if *is_closing {
                closing.push(user);
            } else if let Some(step) = self.step_of(user, out) {
                entries += step.entries.len();
                terms.insert(bucket, term);
                batch.step.timelines.push(step);
            }
        }
        self.ready.extend(closing);
        batch.fence.terms = terms.into_iter().collect();
        (!batch.step.is_empty()).then_some(batch)
    }

    /// Allots cursors for what waits.
    fn step_of(&mut self, user: u64, out: &mut Pushing) -> Option<TimelineStep> {
        let line = self.lines.get_mut(&user)?;
        line.queued = false;
        if line.flight.is_some() {
            return None;
        }
        if line.needs_loading() {
            self.wanted.insert(user);
            return None;
        }
        let Draft { messages, links, items } = line.draft();
        if messages.is_empty() && links.is_empty() && !line.user.person_dirty {
            // The store has nothing to learn of it.
            self.heard(user, &items, out);
            self.make_ready(user);
            return None;
        }
        let owned = self.buckets.get_mut(&bucket_of(user).get())?;
        let stamp = owned.last + 1;
        // A step without entries takes a number too.
        owned.last += messages.len().max(1) as u64;
        let line = self.lines.get_mut(&user)?;
        let entry = |(at, m): (usize, &Arc<ChatMessage>)| Entry {
            cursor: stamp + at as u64,
            conversation: m.conversation,
            seq: m.seq,
        };
        let entries = messages.iter().enumerate().map(entry).collect();
        let changed = std::mem::take(&mut line.user.person_dirty);
        let person = line.user.loaded.as_ref().filter(|_| changed).map(|l| l.person.clone());
        line.flight = Some(Flight { stamp, messages, items, rest: None });
        Some(TimelineStep { user, stamp, person, entries, links })
    }

    /// What the store said to a batch: entries that are new are pushed.
    pub fn stepped(&mut self, batch: &Batch, outcomes: &Outcomes, now_ms: u64, out: &mut Pushing) -> Placed {
        let mut placed = Placed::default();
        let mut gives: Vec<(u64, u64, u64, u64, Arc<ChatMessage>)> = Vec::new();
        let mut done = Vec::new();
        for (step, outcome) in batch.step.timelines.iter().zip(&outcomes.timelines) {
            let Some(line) = self.lines.get_mut(&step.user) else { continue };
            let Some(flight) = line.flight.take_if(|flight| flight.stamp == step.stamp) else { continue };
            if flight.rest.is_some() {
                self.resting.remove(&step.user);
                tracing::info!(user = step.user, "the store takes this timeline again");
            }
            let TimelineOutcome::Added { new } = outcome else {
                placed.lost.insert(bucket_of(step.user).get());
                continue;
            };
            for ((entry, new), message) in step.entries.iter().zip(new).zip(flight.messages) {
                if *new {
                    gives.push((entry.conversation, entry.seq, step.user, entry.cursor, message));
                }
            }
            done.push((step.user, flight.items));
        }
        // Each message once, and a user's in the order of his cursors.
        gives.sort_unstable_by_key(|(conversation, seq, user, ..)| (*conversation, *seq, *user));
        let mut current = None;
        for (conversation, seq, user, cursor, message) in gives {
            if current.replace((conversation, seq)) != Some((conversation, seq)) {
                out.message(&message);
            }
            self.give(user, Entry { cursor, conversation, seq }, message, now_ms, out);
        }
        for (user, items) in done {
            self.heard(user, &items, out);
            self.make_ready(user);
        }
        for bucket in &placed.lost {
            placed.moved.extend(self.disown(*bucket));
        }
        placed
    }

    fn give(&mut self, user: u64, entry: Entry, message: Arc<ChatMessage>, now_ms: u64, out: &mut Pushing) {
        let Some(line) = self.lines.get_mut(&user) else { return };
        line.user.touched_ms = now_ms;
        let (again_ms, queue) = (now_ms + self.options.again_ms, &mut self.again);
        let again = |at, device, mark| queue.push_back((again_ms, user, at, device, mark));
        line.user.give(&message, entry, out, again);
        line.user.trim(entry.cursor, self.options.recent_entries);
        if line.user.conns.is_empty() {
            line.bodies.clear();
        } else {
            line.bodies.push_back((entry.cursor, message));
            if line.bodies.len() > crate::limits::AGAIN_ENTRIES_MAX {
                line.bodies.pop_front();
            }
        }
    }

    /// What was handed is durable: it is acknowledged, and counts follow.
    fn heard(&mut self, user: u64, items: &[Item], out: &mut Pushing) {
        let Some(line) = self.lines.get_mut(&user) else { return };
        let mut has_moved = false;
        for item in items {
            self.acks.entry(item.hand.key).or_default().push(user);
            has_moved |= item.place().link;
            if line.hear(item) && !line.user.conns.is_empty() {
                line.telling.insert(item.hand.key.conversation);
            }
        }
        if !line.telling.is_empty() {
            line.count_large();
            self.telling.insert(user);
        }
        if has_moved {
            self.rewatch(user);
        }
        self.doubt(user);
        self.tell_reads(out);
    }

    /// Devices hear how their users have read, with the total; of whom something is in doubt, when that is known.
    fn tell_reads(&mut self, out: &mut Pushing) {
        for user in std::mem::take(&mut self.telling) {
            let Some(line) = self.lines.get_mut(&user) else { continue };
            for read in line.reads_to_tell() {
                out.read(&read);
                for conn in &line.user.conns {
                    out.target(user, conn, conn.pushed, conn.pushed);
                }
            }
        }
    }

    /// Acknowledgements for the conversations' owners, each for the node in its key.
    pub fn acks(&mut self) -> Vec<Ack> {
        std::mem::take(&mut self.acks).into_iter().map(|(key, users)| Ack { key, users }).collect()
    }

    /// What a sync of a user's device is answered with, from a cursor that is not 0. Nothing when his bucket is not this
    /// node's. With cursor 0 the answer is the start: [`SyncPlan::committed`] alone.
    pub fn sync(&mut self, user: u64, after: u64, now_ms: u64) -> Option<SyncPlan> {
        let committed = self.committed(user)?;
        Some(self.line(user, now_ms)?.sync(after, committed))
    }

    /// A user in memory, with what is known of him; wanted from the store if his own part is not there.
    pub fn user(&mut self, user: u64, now_ms: u64) -> Option<&User> {
        let is_loaded = self.line(user, now_ms)?.user.loaded.is_some();
        if !is_loaded {
            self.wanted.insert(user);
            return None;
        }
        self.lines.get(&user).map(|line| &line.user)
    }

    /// Conversations of a loaded user: id, and whether it is a large one.
    pub fn links(&self, user: u64) -> Option<Vec<(u64, bool)>> {
        let line = self.lines.get(&user).filter(|line| line.user.loaded.is_some())?;
        let links = line.heard.iter().filter(|(_, heard)| heard.member);
        Some(links.map(|(conversation, heard)| (*conversation, heard.large)).collect())
    }

    /// Unread messages of a loaded user: in all small conversations, and in one of any size as far as was heard.
    pub fn unread(&self, user: u64, conversation: u64) -> Option<(u64, u64)> {
        let line = self.lines.get(&user).filter(|line| line.user.loaded.is_some())?;
        let one = line.heard.get(&conversation).filter(|heard| heard.member).map_or(0, |heard| heard.unread);
        Some((line.user.unread, one))
    }
}
