//! A node: its cores, its calls to store and book, what it sends to others.

use super::ask::Ask;
use super::book::BookCall;
use super::load::Load;
use super::world::{Event, Who, World};
use chat::cluster::{Ack, Batch, Conversations, Hand, Reply, Sent, Timelines, Want};
use chat::core::{Key, Pushing, stored};
use chat::store::owned::Outcomes;
use hashring::bucket_of;
use protocol::calls::DeviceAt;
use protocol::v1::{Send, SendAnswer, SendOutcome};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Time between two timers of a node, ms.
const TICK_MS: u64 = 50;

/// Who waits for a decision.
#[derive(Clone, Copy, Debug)]
pub(super) enum Then {
    /// A sender, with his own mark of the message.
    Sender(Who, u64),
    /// Who made a request: its number, the conversation.
    Ask(Who, u64, u64),
}

/// Which core a batch is of.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Side {
    Conversations,
    Timelines,
}

/// A machine.
pub(super) struct Node {
    pub number: u16,
    /// Rises with each start and kill.
    pub life: u32,
    pub up: Option<Up>,
    pub frozen_until: u64,
    pub is_draining: bool,
}

/// A running node.
pub(super) struct Up {
    pub epoch: u32,
    pub conversations: Conversations<Then>,
    pub timelines: Timelines,
    /// Requests that wait for something.
    pub asks: BTreeMap<u64, Ask>,
    /// Buckets and their terms.
    pub owned: BTreeMap<u16, u32>,
    /// Those that are to be given up.
    pub closing: BTreeSet<u16>,
    /// Free ones, under the terms that were seen.
    pub free: BTreeMap<u16, u32>,
    /// Who owned what when the book was last heard.
    pub seen: BTreeMap<u16, u16>,
    /// The call to the book that is under way.
    pub call: Option<BookCall>,
    flights: BTreeMap<(Side, u64), Arc<Batch>>,
    next_flight: u64,
    pub out: Pushing,
}

impl Node {
    pub fn new(number: u16) -> Node {
        Node { number, life: 0, up: None, frozen_until: 0, is_draining: false }
    }

    /// Why it is not quiet.
    pub fn unrest(&self) -> String {
        let Some(up) = &self.up else { return format!("{} is down", self.number) };
        let (flights, asks) = (up.flights.len(), up.asks.keys().collect::<Vec<_>>());
        let (owned, fanning) = (up.owned.len(), up.conversations.fanning());
        format!("{}: {owned} buckets, {flights} flights, {fanning} fanning, asks {asks:?}", self.number)
    }
}

impl Up {
    pub fn is_quiet(&self) -> bool {
        self.flights.is_empty()
            && self.asks.is_empty()
            && self.conversations.fanning() == 0
            && self.conversations.resting() + self.timelines.resting() == 0
    }
}

impl World {
    /// A node tries to begin anew.
    pub fn node_begins(&mut self, n: usize) {
        if self.nodes[n].up.is_some() {
            return;
        }
        let number = self.nodes[n].number;
        let begun = if self.is_out() { None } else { self.store.begin(number, self.now_ms) };
        let Some(epoch) = begun else {
            let wait = self.between(200, 600);
            return self.push(wait, Event::Begin(n));
        };
        let above_ms = self.store.ids.get(&number).copied().unwrap_or(0);
        let until_ms = self.now_ms.max(above_ms) + 5_000;
        self.store.ids.insert(number, until_ms);
        let mut conversations = Conversations::new(self.options(number), number, epoch, above_ms);
        conversations.state.ids.reserved(until_ms);
        #[cfg_attr(not(feature = "planted"), allow(unused_mut))]
        let mut timelines = Timelines::new(self.options(number), number, epoch);
        #[cfg(feature = "planted")]
        if self.config.reads_past {
            timelines.plant_reading_past_committed();
        }
        let node = &mut self.nodes[n];
        node.life += 1;
        let life = node.life;
        node.up = Some(Up {
            epoch,
            conversations,
            timelines,
            asks: BTreeMap::new(),
            owned: BTreeMap::new(),
            closing: BTreeSet::new(),
            free: BTreeMap::new(),
            seen: BTreeMap::new(),
            call: None,
            flights: BTreeMap::new(),
            next_flight: 0,
            out: Pushing::default(),
        });
        self.counters.epochs += 1;
        self.say(format_args!("node {number} begins epoch {epoch}"));
        self.push(0, Event::Tick(n, life));
        self.push(0, Event::Book(n, life));
    }

    /// A node's timer.
    pub fn node_ticks(&mut self, n: usize) {
        let now_ms = self.now_ms;
        let Some(up) = self.nodes[n].up.as_mut() else { return };
        let before = up.conversations.in_memory() + up.timelines.in_memory();
        let ticked = up.conversations.tick(now_ms);
        up.timelines.tick(now_ms, &mut up.out);
        self.counters.late += up.conversations.late() as u64;
        let after = up.conversations.in_memory() + up.timelines.in_memory();
        self.counters.evicted += before.saturating_sub(after) as u64;
        let watched: Vec<u64> = up.timelines.watched().collect();
        let life = self.nodes[n].life;
        // Heads and watches are hints, and syncs do without them: between the nodes of this world they are always in time.
        for id in watched {
            for other in &mut self.nodes {
                if let Some(other) = &mut other.up {
                    other.conversations.watch(id, n as u16 + 1, now_ms);
                }
            }
        }
        for (node, head) in ticked.heads {
            if let Some(up) = self.nodes[usize::from(node - 1)].up.as_mut() {
                up.timelines.head(&head, &mut up.out);
            }
        }
        self.push(TICK_MS, Event::Tick(n, life));
        self.pump(n);
    }

    /// Whoever waited is to come again.
    pub fn refuse(&mut self, then: Then) {
        if let Then::Sender(who, tag) = then {
            let outcome = SendOutcome::Busy as i32;
            let answer = SendAnswer { outcome, ..SendAnswer::default() };
            self.post(|| Event::Answer(who, tag, Box::new(answer.clone())));
        }
    }

    /// Sends on whatever the cores want to send.
    pub fn pump(&mut self, n: usize) {
        for _ in 0..64 {
            let now_ms = self.now_ms;
            let Some(up) = self.nodes[n].up.as_mut() else { return };
            let wants = up.conversations.wants();
            let users = up.timelines.wants();
            let doubts = up.timelines.doubts();
            let (owned, is_settled) = (up.owned.clone(), !up.conversations.settled().is_empty());
            let again = [
                (Side::Conversations, up.conversations.again(now_ms)),
                (Side::Timelines, up.timelines.again(now_ms)),
            ];
            let conversations = up.conversations.batch(now_ms);
            let timelines = up.timelines.batch(&mut up.out);
            let hands = up.conversations.hands(now_ms);
            let acks = up.timelines.acks();
            let pushes = up.out.take();
            let is_done =
                wants.is_empty() && users.is_empty() && doubts.is_empty() && !is_settled && hands.is_empty();
            let is_done = is_done && acks.is_empty() && conversations.is_none() && timelines.is_none();
            for want in wants {
                let term = term_of(&want, &owned);
                self.load(n, Load::Want(want, term));
            }
            for user in users {
                let term = owned.get(&bucket_of(user).get()).copied().unwrap_or(0);
                self.load(n, Load::User(user, term));
            }
            for (user, asked) in doubts {
                let term = owned.get(&bucket_of(user).get()).copied().unwrap_or(0);
                self.load(n, Load::Links(user, asked, term));
            }
            let fresh = [(Side::Conversations, conversations), (Side::Timelines, timelines)];
            for (side, batch) in again.into_iter().chain(fresh) {
                if let Some(batch) = batch {
                    self.step_begins(n, side, batch);
                }
            }
            hands.into_iter().for_each(|hand| self.hand_out(n, &hand));
            for ack in acks {
                let troubled = self.post(|| Event::Ack(ack.clone()));
                self.counters.hand_troubles += u64::from(troubled);
            }
            self.push_out(pushes);
            self.pump_presence(n);
            if is_settled {
                self.retry(n);
            }
            if is_done {
                return;
            }
        }
    }

    fn step_begins(&mut self, n: usize, side: Side, batch: Batch) {
        let Some(up) = self.nodes[n].up.as_mut() else { return };
        up.next_flight += 1;
        let number = up.next_flight;
        up.flights.insert((side, number), Arc::new(batch));
        self.step_sent(n, side, number);
    }

    /// The store refuses a batch: its halves go by themselves, and what stands alone rests.
    pub fn step_refused(&mut self, n: usize, side: Side, number: u64) {
        let now_ms = self.now_ms;
        let Some(up) = self.nodes[n].up.as_mut() else { return };
        let Some(batch) = up.flights.remove(&(side, number)) else { return };
        match ((*batch).clone().split(), side) {
            (Ok((one, other)), _) => {
                self.step_begins(n, side, one);
                self.step_begins(n, side, other);
            }
            (Err(alone), Side::Conversations) => {
                let refused = up.conversations.refused(&alone, true, now_ms);
                self.counters.rests += u64::from(refused.is_some());
                let waiting = refused.map(|(waiting, _)| waiting).unwrap_or_default();
                waiting.into_iter().for_each(|then| self.refuse(then));
            }
            (Err(alone), Side::Timelines) => {
                self.counters.rests += u64::from(up.timelines.refused(&alone, true, now_ms).is_some());
            }
        }
        self.pump(n);
    }

    /// A batch goes to the store, and perhaps a copy of it, late.
    pub fn step_sent(&mut self, n: usize, side: Side, number: u64) {
        let life = self.nodes[n].life;
        let batch = self.nodes[n].up.as_ref().and_then(|up| up.flights.get(&(side, number)));
        let Some(batch) = batch.map(Arc::clone) else { return };
        let trouble = self.config.store_trouble;
        if self.trouble(2 * trouble) {
            // Lost on the way.
            let wait = self.between(100, 400);
            return self.push(wait, Event::StepAgain(n, life, side, number));
        }
        if self.trouble(2 * trouble) {
            let wait = self.between(20, 5_000);
            self.push(wait, Event::Step(n, life, side, number, Arc::clone(&batch), false));
        }
        let wait = self.between(1, 12);
        self.push(wait, Event::Step(n, life, side, number, batch, true));
    }

    /// The outcome of a batch.
    pub fn stepped(&mut self, n: usize, side: Side, number: u64, outcomes: &Outcomes) {
        let now_ms = self.now_ms;
        let Some(up) = self.nodes[n].up.as_mut() else { return };
        let Some(batch) = up.flights.remove(&(side, number)) else { return };
        let lost = match side {
            Side::Timelines => up.timelines.stepped(&batch, outcomes, now_ms, &mut up.out).lost,
            Side::Conversations => {
                let stepped = up.conversations.stepped(&batch, outcomes, now_ms);
                for done in stepped.done {
                    match (done.then, &done.message) {
                        (Then::Sender(who, tag), Some(message)) => {
                            let answer = stored(message);
                            self.post(|| Event::Answer(who, tag, Box::new(answer.clone())));
                        }
                        (Then::Ask(who, number, made), _) => {
                            self.post(|| Event::Asked(who, number, true, made));
                        }
                        (Then::Sender(..), None) => {}
                    }
                }
                stepped.refused.into_iter().for_each(|then| self.refuse(then));
                stepped.lost
            }
        };
        self.lose(n, &lost);
        self.pump(n);
    }

    /// A hand goes to the owners of its users' buckets, as the node knows them.
    fn hand_out(&mut self, n: usize, hand: &Hand) {
        let Some(up) = self.nodes[n].up.as_ref() else { return };
        let seen = up.seen.clone();
        for node in 1..=self.config.nodes {
            let is_his = |user: u64| seen.get(&bucket_of(user).get()) == Some(&node);
            if let Some(part) = hand.part(is_his).map(Arc::new) {
                let troubled = self.post(|| Event::Hand(node, Arc::clone(&part)));
                self.counters.hand_troubles += u64::from(troubled);
            }
        }
    }

    pub fn handed(&mut self, n: usize, hand: &Arc<Hand>) {
        let now_ms = self.now_ms;
        if let Some(up) = self.nodes[n].up.as_mut() {
            up.timelines.receive(hand, now_ms);
        }
    }

    pub fn acked(&mut self, n: usize, ack: &Ack) {
        if let Some(up) = self.nodes[n].up.as_mut() {
            up.conversations.acked(ack);
        }
    }

    /// A message comes to a node.
    pub fn send_comes(&mut self, n: usize, who: Who, tag: u64, send: Send) {
        let now_ms = self.now_ms;
        let Some(up) = self.nodes[n].up.as_mut() else { return };
        let then = Then::Sender(who, tag);
        let reply = up.conversations.send(Sent { send, content: Ok(()), then }, now_ms);
        reply.into_iter().for_each(|reply| self.reply(n, reply));
    }

    fn reply(&mut self, n: usize, reply: Reply<Then>) {
        match reply {
            Reply::Answer { then: Then::Sender(who, tag), answer } => {
                self.post(|| Event::Answer(who, tag, Box::new(answer.clone())));
            }
            Reply::Elsewhere { conversation, sent: Sent { send, then: Then::Sender(who, tag), .. } } => {
                let owner = self.store.owner(bucket_of(conversation).get());
                if let Some((node, _)) = owner.filter(|(node, _)| usize::from(*node) != n + 1) {
                    self.post(|| Event::Sends(node, who, tag, send.clone()));
                }
            }
            _ => {}
        }
    }

    /// Everything that waits is decided again.
    pub fn retry(&mut self, n: usize) {
        let now_ms = self.now_ms;
        let Some(up) = self.nodes[n].up.as_mut() else { return };
        let replies = up.conversations.retry(now_ms);
        replies.into_iter().for_each(|reply| self.reply(n, reply));
        self.retry_asks(n);
    }

    /// A device logs in, or is gone.
    pub fn device_arrives(&mut self, n: usize, at: DeviceAt, comes: bool) {
        let now_ms = self.now_ms;
        let Some(up) = self.nodes[n].up.as_mut() else { return };
        if comes {
            up.timelines.arrive(at, now_ms);
        } else {
            up.timelines.leave(at, now_ms);
        }
    }

    pub fn confirm_comes(&mut self, n: usize, at: DeviceAt, cursor: u64) {
        let now_ms = self.now_ms;
        if let Some(up) = self.nodes[n].up.as_mut() {
            up.timelines.confirm(at, cursor, now_ms);
        }
    }

    /// A device asks for what it missed.
    pub fn sync_comes(&mut self, n: usize, who: Who, number: u64, after: u64) {
        let (now_ms, user) = (self.now_ms, self.users[who.0].id);
        let Some(up) = self.nodes[n].up.as_mut() else { return };
        if let Some(plan) = up.timelines.sync(user, after, now_ms) {
            let wait = self.between(1, 12);
            self.push(wait, Event::SyncReads(who, number, Box::new(plan)));
        }
    }
}

fn term_of(want: &Want, owned: &BTreeMap<u16, u32>) -> u32 {
    let id = match want {
        Want::Key(Key::Conversation(id)) => *id,
        Want::Key(Key::Sent(key)) => key.conversation,
        Want::Messages { conversation, .. } => *conversation,
        Want::Key(_) => return 0,
    };
    owned.get(&bucket_of(id).get()).copied().unwrap_or(0)
}
