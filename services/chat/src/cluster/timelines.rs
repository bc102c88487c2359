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
use super::{Batch, CURSOR_BITS};
use crate::core::{Conn, Entry, LINGER_MS, Pushing, Registration, Stop, StoredUser, User, check_profile};
use crate::options::ChatOptions;
use crate::store::owned::{Fence, Outcomes, Step, TimelineOutcome, TimelineStep};
use hashring::bucket_of;
use protocol::calls::{CallError, ConnectionAt, DeviceAt};
use protocol::v1::{Head, PresenceOf, ReadAt};
use records::ChatMessage;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

/// Timelines of a batch.
const BATCH_TIMELINES: usize = 1_024;
/// Entries of a batch, about.
const BATCH_ENTRIES: usize = 4_096;
/// Confirmed cursors that become due in one go.
const CONFIRMS_MAX: usize = 4_096;

/// An owned bucket.
struct Owned {
    term: u32,
    /// The last cursor that was allotted in it.
    last: u64,
    /// Nothing new goes to the store.
    closing: bool,
}

/// What came of a batch, beside pushes and acknowledgements.
#[derive(Debug, Default)]
pub struct Placed {
    /// Buckets that turned out to belong to others; they are disowned.
    pub lost: BTreeSet<u16>,
    /// Devices on connections whose users belong to others now: they are to arrive there.
    pub moved: Vec<DeviceAt>,
}

/// Timelines of a node.
pub struct Timelines {
    options: ChatOptions,
    node: u16,
    epoch: u32,
    buckets: BTreeMap<u16, Owned>,
    lines: HashMap<u64, Line>,
    /// Users of each bucket that are in memory.
    in_bucket: BTreeMap<u16, BTreeSet<u64>>,
    ready: VecDeque<u64>,
    acks: BTreeMap<HandKey, Vec<u64>>,
    wanted: BTreeSet<u64>,
    again: VecDeque<(u64, u64, ConnectionAt, u64)>,
    silence: VecDeque<(u64, u64, ConnectionAt, u64)>,
    unlogged: VecDeque<u64>,
    confirm_due_ms: u64,
    /// Large conversations with members who are online.
    watched: BTreeMap<u64, BTreeSet<u64>>,
    presence: BTreeSet<u64>,
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
            again: VecDeque::new(),
            silence: VecDeque::new(),
            unlogged: VecDeque::new(),
            confirm_due_ms: 0,
            watched: BTreeMap::new(),
            presence: BTreeSet::new(),
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
        self.buckets.insert(bucket, Owned { term, last, closing: false });
    }

    /// The term under which a user's bucket is owned.
    pub fn term(&self, bucket: u16) -> Option<u32> {
        self.buckets.get(&bucket).map(|owned| owned.term)
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

    /// Nothing of a bucket is under way.
    pub fn is_idle(&self, bucket: u16) -> bool {
        let mut lines =
            self.in_bucket.get(&bucket).into_iter().flatten().filter_map(|user| self.lines.get(user));
        lines.all(|line| line.flight.is_none())
    }

    /// A bucket is not this node's any more. Devices that are to arrive at the next owner's.
    pub fn disown(&mut self, bucket: u16) -> Vec<DeviceAt> {
        self.buckets.remove(&bucket);
        self.drop_bucket(bucket)
    }

    fn drop_bucket(&mut self, bucket: u16) -> Vec<DeviceAt> {
        let mut moved = Vec::new();
        for id in self.in_bucket.remove(&bucket).unwrap_or_default() {
            self.unwatch(id);
            self.wanted.remove(&id);
            let Some(line) = self.lines.remove(&id) else { continue };
            let device = |c: &Conn| DeviceAt { user: id, device: c.device, at: c.at };
            moved.extend(line.user.conns.iter().map(device));
        }
        moved
    }

    /// A user's line, if his bucket is this node's.
    fn line(&mut self, user: u64, now_ms: u64) -> Option<&mut Line> {
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
    fn committed(&self, user: u64) -> Option<u64> {
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

    fn make_ready(&mut self, user: u64) {
        if let Some(line) = self.lines.get_mut(&user)
            && line.flight.is_none()
            && (!line.waiting.is_empty() || line.user.person_dirty)
            && !std::mem::replace(&mut line.queued, true)
        {
            self.ready.push_back(user);
        }
    }

    /// Users whose stored part is to be read; whoever takes them reads them, each once, and brings them in with
    /// [`install`](Timelines::install).
    pub fn wants(&mut self) -> Vec<u64> {
        std::mem::take(&mut self.wanted).into_iter().collect()
    }

    /// A user's stored part. `term`: of his bucket, when the reading began.
    pub fn install(&mut self, stored: StoredUser, term: u32, now_ms: u64) {
        let user = stored.id;
        if self.term(bucket_of(user).get()) != Some(term) {
            return;
        }
        let Some(line) = self.line(user, now_ms) else { return };
        line.install(stored);
        self.register(user, now_ms);
        self.rewatch(user);
        self.make_ready(user);
    }

    /// The next steps, if there are any. Several batches may be under way; each goes to the store until there is an
    /// outcome. What needs no store is told through `out` at once.
    pub fn batch(&mut self, out: &mut Pushing) -> Option<Batch> {
        let fence = Fence { node: self.node, epoch: self.epoch, terms: Vec::new() };
        let mut batch = Batch { fence, step: Step::default() };
        let (mut terms, mut entries) = (BTreeMap::new(), 0);
        let mut closing = Vec::new();
        while batch.step.timelines.len() < BATCH_TIMELINES
            && entries < BATCH_ENTRIES
            && let Some(user) = self.ready.pop_front()
        {
            let bucket = bucket_of(user).get();
            let Some(owned) = self.buckets.get(&bucket) else { continue };
            if owned.closing {
                closing.push(user);
                continue;
            }
            terms.insert(bucket, owned.term);
            if let Some(step) = self.step_of(user, out) {
                entries += step.entries.len();
                batch.step.timelines.push(step);
            }
        }
        self.ready.extend(closing);
        terms.retain(|bucket, _| {
            batch.step.timelines.iter().any(|step| bucket_of(step.user).get() == *bucket)
        });
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
        line.flight = Some(Flight { stamp, messages, items });
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
        line.user.give(&message, entry, out, |at, device| queue.push_back((again_ms, user, at, device)));
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
                let place = item.place();
                out.read(&ReadAt {
                    conversation: item.hand.key.conversation,
                    seq: place.read_seq,
                    unread: place.unread,
                    unread_total: line.unread_total(),
                });
                for conn in &line.user.conns {
                    out.target(user, conn, conn.pushed, conn.pushed);
                }
            }
        }
        if has_moved {
            self.rewatch(user);
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

    /// A device has logged in. False when its user's bucket is not this node's.
    pub fn arrive(&mut self, device: DeviceAt, now_ms: u64) -> bool {
        let Some(pushed) = self.committed(device.user) else { return false };
        let silent_ms = now_ms + self.options.presence_ms();
        let Some(line) = self.line(device.user, now_ms) else { return false };
        let was_away = line.user.arrive(device, pushed, now_ms);
        let is_loaded = line.user.loaded.is_some();
        self.silence.push_back((silent_ms, device.user, device.at, device.device));
        if was_away {
            self.presence.insert(device.user);
        }
        if is_loaded {
            self.register(device.user, now_ms);
            self.rewatch(device.user);
        } else {
            self.wanted.insert(device.user);
        }
        true
    }

    /// New devices on connections are registered.
    fn register(&mut self, user: u64, now_ms: u64) {
        let Some(line) = self.lines.get_mut(&user) else { return };
        let Some(loaded) = &mut line.user.loaded else { return };
        let steps = loaded.person.registrations(&line.user.conns, self.options.devices_max, now_ms);
        line.user.person_dirty |= !steps.is_empty();
        for step in steps {
            match step {
                Registration::Forget(device) => loaded.person.forget(device),
                Registration::Know(device) => loaded.person.know(device, now_ms),
            }
        }
        self.make_ready(user);
    }

    /// A connection is gone.
    pub fn leave(&mut self, device: DeviceAt, now_ms: u64) {
        let Some(line) = self.lines.get_mut(&device.user) else { return };
        let (_, is_away) = line.user.depart(device.at, device.device, now_ms);
        if is_away {
            line.bodies.clear();
            self.presence.insert(device.user);
            self.unwatch(device.user);
        }
    }

    /// A device has been heard of.
    pub fn beat(&mut self, device: DeviceAt, now_ms: u64) {
        let line = self.lines.get_mut(&device.user);
        if let Some(conn) = line.and_then(|line| line.user.conn_mut(device.at, device.device)) {
            conn.beat_ms = now_ms;
        }
    }

    /// A device has everything up to a cursor. What was not durable it can't have.
    pub fn confirm(&mut self, device: DeviceAt, cursor: u64, now_ms: u64) {
        self.beat(device, now_ms);
        let Some(committed) = self.committed(device.user) else { return };
        let Some(line) = self.lines.get_mut(&device.user) else { return };
        let Some(loaded) = &mut line.user.loaded else { return };
        if loaded.confirm(device.device, cursor.min(committed), now_ms) {
            self.unlogged.push_back(device.user);
        }
    }

    /// Another name or language.
    ///
    /// # Errors
    /// What is wrong with it. Nothing: `Ok(false)`, his own part must be loaded first, which is asked for.
    pub fn set_profile(&mut self, user: u64, name: &str, language: &str, now_ms: u64) -> Result<bool, Stop> {
        check_profile(name, language)?;
        if self.user(user, now_ms).is_none() {
            return Ok(false);
        }
        let Some(line) = self.lines.get_mut(&user) else { return Ok(false) };
        if let Some(loaded) = &mut line.user.loaded {
            name.clone_into(&mut loaded.person.name);
            language.clone_into(&mut loaded.person.language);
            line.user.person_dirty = true;
        }
        self.make_ready(user);
        Ok(true)
    }

    /// A device is forgotten.
    ///
    /// # Errors
    /// There is no such device. `Ok(false)` as in [`set_profile`](Timelines::set_profile).
    pub fn forget_device(&mut self, user: u64, device: u64, now_ms: u64) -> Result<bool, Stop> {
        let Some(known) = self.user(user, now_ms).and_then(|user| user.loaded.as_ref()) else {
            return Ok(false);
        };
        if known.person.device(device).is_none() {
            return Err(CallError::NotFound(format!("you have no device {device}")).into());
        }
        let Some(line) = self.lines.get_mut(&user) else { return Ok(false) };
        if let Some(loaded) = &mut line.user.loaded {
            loaded.person.forget(device);
            line.user.person_dirty = true;
        }
        self.make_ready(user);
        Ok(true)
    }

    /// Whether a step of a user is waiting or under way: what was changed of his own part is durable when not.
    pub fn is_storing(&self, user: u64) -> bool {
        self.lines.get(&user).is_some_and(|line| line.flight.is_some() || line.user.person_dirty)
    }

    /// Whether a user is online, and when he was last heard of.
    pub fn presence_of(&self, user: u64) -> PresenceOf {
        let nothing = PresenceOf { user, online: false, seen_ms: 0 };
        self.lines.get(&user).map_or(nothing, |line| line.user.presence())
    }

    /// Users who came or went since this was last asked.
    pub fn presence_news(&mut self) -> Vec<PresenceOf> {
        let users = std::mem::take(&mut self.presence);
        users.into_iter().map(|user| self.presence_of(user)).collect()
    }

    /// Large conversations that somebody here watches; their owners are to be told every now and then
    /// ([`Conversations::watch`](super::Conversations::watch)).
    pub fn watched(&self) -> impl Iterator<Item = u64> + '_ {
        self.watched.keys().copied()
    }

    /// A head for those who watch.
    pub fn head(&self, head: &Head, out: &mut Pushing) {
        let Some(users) = self.watched.get(&head.conversation) else { return };
        out.head(head);
        for (user, line) in users.iter().filter_map(|user| Some((user, self.lines.get(user)?))) {
            line.user.conns.iter().for_each(|conn| out.target(*user, conn, conn.pushed, conn.pushed));
        }
    }

    fn rewatch(&mut self, user: u64) {
        self.unwatch(user);
        let Some(line) = self.lines.get_mut(&user) else { return };
        if !line.user.conns.is_empty() && line.user.loaded.is_some() {
            line.watching = line.large();
            for conversation in &line.watching {
                self.watched.entry(*conversation).or_default().insert(user);
            }
        }
    }

    fn unwatch(&mut self, user: u64) {
        let Some(line) = self.lines.get_mut(&user) else { return };
        for conversation in std::mem::take(&mut line.watching) {
            if let Some(users) = self.watched.get_mut(&conversation) {
                users.remove(&user);
                if users.is_empty() {
                    self.watched.remove(&conversation);
                }
            }
        }
    }

    /// Everything that is due at a time.
    pub fn tick(&mut self, now_ms: u64, out: &mut Pushing) {
        while self.silence.front().is_some_and(|(due, ..)| *due <= now_ms) {
            let Some((_, user, at, device)) = self.silence.pop_front() else { break };
            let line = self.lines.get_mut(&user);
            let Some(conn) = line.and_then(|line| line.user.conn_mut(at, device)) else { continue };
            let due = conn.beat_ms + self.options.presence_ms();
            if due > now_ms {
                self.silence.push_back((due, user, at, device));
            } else {
                self.leave(DeviceAt { user, device, at }, now_ms);
            }
        }
        self.push_again(now_ms, out);
        if now_ms >= self.confirm_due_ms {
            self.confirm_due_ms = now_ms + self.options.confirm_log_ms;
            let count = self.unlogged.len().min(CONFIRMS_MAX);
            let users: Vec<u64> = self.unlogged.drain(..count).collect();
            for user in users {
                if let Some(line) = self.lines.get_mut(&user)
                    && let Some(loaded) = &mut line.user.loaded
                {
                    loaded.unlogged = false;
                    line.user.person_dirty = true;
                }
                self.make_ready(user);
            }
        }
        self.evict(now_ms);
    }

    /// Entries that nobody has confirmed for a while go out once more, to devices that are still there.
    fn push_again(&mut self, now_ms: u64, out: &mut Pushing) {
        while self.again.front().is_some_and(|(due, ..)| *due <= now_ms) {
            let Some((_, user, at, device)) = self.again.pop_front() else { break };
            let Some(line) = self.lines.get_mut(&user) else { continue };
            let Some(conn) = line.user.conn_mut(at, device) else { continue };
            conn.again = 0;
            let conn = conn.clone();
            let Some((mut after, entries)) = line.user.unconfirmed(conn.pushed) else { continue };
            for entry in entries {
                let body = line.bodies.iter().find(|(cursor, _)| *cursor == entry.cursor);
                let Some((_, message)) = body else { break };
                if (message.sender, message.device) != (user, device) {
                    out.message(message);
                    out.target(user, &conn, after, entry.cursor);
                    after = entry.cursor;
                }
            }
        }
    }

    /// Users of whom nothing has been heard for a while leave when there are more than memory should hold.
    fn evict(&mut self, now_ms: u64) {
        let excess = self.lines.len().saturating_sub(self.options.users_max);
        if excess == 0 {
            return;
        }
        let before = now_ms.saturating_sub(LINGER_MS);
        let is_idle = |(_, line): &(&u64, &Line)| {
            let is_unlogged = line.user.loaded.as_ref().is_some_and(|loaded| loaded.unlogged);
            line.is_idle() && !is_unlogged && line.user.touched_ms < before
        };
        let gone: Vec<u64> = self.lines.iter().filter(is_idle).take(excess).map(|(user, _)| *user).collect();
        for user in gone {
            self.lines.remove(&user);
            if let Some(bucket) = self.in_bucket.get_mut(&bucket_of(user).get()) {
                bucket.remove(&user);
            }
        }
    }
}
