//! The world: virtual time, and what happens when.

mod trouble;

use super::ask::{Ask, AskKind};
use super::book::BookCall;
use super::device::{DeviceStep, User};
use super::load::{Data, Load};
use super::node::{Node, Side};
use super::store::Store;
use super::{ChatConfig, ChatCounters, ChatViolation};
use crate::trace::Trace;
use chat::ChatOptions;
use chat::cluster::{Ack, Batch, Hand, PresenceWord, SyncPlan, Want};
use chat::core::Entry;
use chat::store::owned::{ConversationOutcome, Outcomes, TimelineOutcome};
use hashring::bucket_of;
use protocol::calls::DeviceAt;
use protocol::v1::{PresenceOf, ReadAt, Send, SendAnswer};
use std::collections::BTreeMap;
use std::sync::Arc;
use testkit::SimRng;

/// When the world begins, ms UTC.
pub(super) const BEGIN_MS: u64 = 1_767_196_800_000;
/// Buckets that have owners here. All of 4,096 would only take longer.
pub(super) const BUCKETS: u16 = 24;
/// Virtual time that the cluster gets to come to rest.
const DRAIN_MAX_MS: u64 = 180_000;
/// Events after which a run is given up.
const EVENTS_MAX: u64 = 2_000_000;
/// Length of a break, in which everybody is away: memory lets go of whatever it may.
const BREAK_MS: u64 = 45_000;

/// A device, by its numbers in the world.
pub(super) type Who = (usize, usize);

/// Something that happens.
pub(super) enum Event {
    /// A node tries to begin anew.
    Begin(usize),
    /// A node's timer.
    Tick(usize, u32),
    /// A node calls the owners' book.
    Book(usize, u32),
    /// The call comes to the store.
    BookComes(Box<BookCall>),
    /// Its answer comes back.
    BookAnswers(Box<BookCall>),
    /// A batch comes to the store: node, life, side, number; whether the node hears of it.
    Step(usize, u32, Side, u64, Arc<Batch>, bool),
    /// The outcome comes to the node.
    Stepped(usize, u32, Side, u64, Box<Outcomes>),
    /// There was no outcome: the node sends the batch again.
    StepAgain(usize, u32, Side, u64),
    /// The store refuses the batch for the sake of something in it.
    StepRefused(usize, u32, Side, u64),
    /// A question comes to the store.
    Load(usize, u32, Load),
    /// The answer; nothing when it was lost.
    Loaded(usize, u32, Option<Want>, Box<Option<Data>>),
    /// A hand comes to a node.
    Hand(u16, Arc<Hand>),
    /// An acknowledgement comes to a node.
    Ack(Ack),
    /// A message comes to a node, with the sender's mark.
    Sends(u16, Who, u64, Send),
    /// Its answer comes to the device.
    Answer(Who, u64, Box<SendAnswer>),
    /// A request comes to a node.
    Asks(u16, Ask),
    /// Its answer: whether it was done.
    Asked(Who, u64, bool, u64),
    /// A device logs in, or is gone.
    Arrives(u16, DeviceAt, bool),
    /// A device asks for what it missed: to which node, its question's number, from which cursor.
    Sync(u16, Who, u64, u64),
    /// The store is read for it.
    SyncReads(Who, u64, Box<SyncPlan>),
    /// The answer.
    Synced(Who, u64, Vec<Entry>, u64, bool),
    /// A device has everything up to a cursor.
    Confirms(u16, DeviceAt, u64),
    /// A push: the connection, from, to, conversation, seq.
    Push(DeviceAt, u64, u64, u64, u64),
    /// A device hears how its user has read.
    HearsRead(DeviceAt, ReadAt),
    /// A device asks about users, and watches them.
    Watches(u16, DeviceAt, Vec<u64>),
    /// A front door says whom a device watches.
    WatchesAgain(u16, DeviceAt, Vec<u64>),
    /// A device hears who is online.
    Sees(DeviceAt, Vec<PresenceOf>),
    /// A node asks another who is online: to which, from which, about whom.
    PresenceAsked(u16, u16, Vec<u64>),
    /// A node is told.
    PresenceSaid(u16, Vec<PresenceWord>),
    /// A device does something.
    Device(usize, usize, DeviceStep),
    /// Something goes wrong.
    Upset,
    /// A node goes on.
    Wakes(usize),
}

impl Event {
    /// The node and the life of it that this is a matter of: one that stands still does it when it wakes, a later life never.
    fn own_of(&self) -> Option<(usize, u32)> {
        match self {
            Event::Tick(n, life)
            | Event::Book(n, life)
            | Event::Stepped(n, life, ..)
            | Event::StepAgain(n, life, ..)
            | Event::StepRefused(n, life, ..)
            | Event::Loaded(n, life, ..) => Some((*n, *life)),
            _ => None,
        }
    }
}

/// Everything there is.
pub(super) struct World {
    pub config: ChatConfig,
    pub rng: SimRng,
    pub now_ms: u64,
    queue: BTreeMap<(u64, u64, u64), Event>,
    number: u64,
    pub trace: Trace,
    pub counters: ChatCounters,
    pub problems: Vec<ChatViolation>,
    pub store: Store,
    pub outage_until: u64,
    /// Conversations and users whose steps the store refuses, and until when.
    refuses: BTreeMap<u64, u64>,
    pub nodes: Vec<Node>,
    pub users: Vec<User>,
    /// Groups that were made.
    pub groups: Vec<u64>,
    upsets: u32,
    /// Nothing goes wrong any more, and nobody begins anything.
    pub is_calm: bool,
    /// The break of this run, if there is one: from, to.
    pub pause: Option<(u64, u64)>,
    pub next_id: u64,
}

impl World {
    pub fn new(seed: u64, mut config: ChatConfig) -> World {
        let mut rng = SimRng::new(seed);
        let from = BEGIN_MS + config.active_ms / 2;
        let pause = rng.one_in(3).then_some((from, from + BREAK_MS));
        config.active_ms += pause.map_or(0, |_| BREAK_MS);
        let count = 4 + rng.below(config.users.saturating_sub(3).max(1));
        let in_play = (1u64..).filter(|user| bucket_of(*user).get() < BUCKETS);
        let ids: Vec<u64> = in_play.take(count as usize).collect();
        let users = ids.iter().map(|id| User::new(*id, 1 + rng.below(config.devices))).collect();
        let nodes = (1..=config.nodes).map(Node::new).collect();
        World {
            upsets: config.upsets,
            config,
            rng,
            now_ms: BEGIN_MS,
            queue: BTreeMap::new(),
            number: 0,
            trace: Trace::new(),
            counters: ChatCounters::default(),
            problems: Vec::new(),
            store: Store::default(),
            outage_until: 0,
            refuses: BTreeMap::new(),
            nodes,
            users,
            groups: Vec::new(),
            is_calm: false,
            pause,
            next_id: 0,
        }
    }

    /// Small bounds, so that what is rare elsewhere happens.
    pub fn options(&self, node: u16) -> ChatOptions {
        let (conversations_max, users_max) = if self.pause.is_some() { (0, 0) } else { (1_000, 1_000) };
        ChatOptions {
            node,
            conversations_max,
            users_max,
            friends_only: false,
            write_members_max: 4,
            heartbeat_ms: 1_000,
            confirm_log_ms: 700,
            recent_messages: 2,
            recent_entries: 2,
            ..ChatOptions::default()
        }
    }

    pub fn push(&mut self, wait_ms: u64, event: Event) {
        self.number += 1;
        let order = self.rng.next_u64();
        self.queue.insert((self.now_ms + wait_ms, order, self.number), event);
    }

    pub fn between(&mut self, least: u64, most: u64) -> u64 {
        least + self.rng.below(most - least + 1)
    }

    pub fn say(&mut self, what: std::fmt::Arguments<'_>) {
        self.trace.add(self.now_ms - BEGIN_MS, what);
    }

    pub fn run(&mut self) {
        for n in 0..self.nodes.len() {
            self.push(0, Event::Begin(n));
        }
        for u in 0..self.users.len() {
            for d in 0..self.users[u].devices.len() {
                let wait = self.between(600, 2_000);
                self.push(wait, Event::Device(u, d, DeviceStep::Act));
            }
        }
        let wait = self.between(1_000, 2_500);
        self.push(wait, Event::Upset);
        let end_ms = BEGIN_MS + self.config.active_ms;
        let mut look_ms = end_ms;
        while let Some(((at, order, _), event)) = self.queue.pop_first() {
            if at >= end_ms && !self.is_calm {
                self.calm();
            }
            self.now_ms = at;
            self.trace.mix(at - BEGIN_MS, order);
            self.happens(event);
            if self.is_calm && at >= look_ms {
                look_ms = at + 500;
                if self.is_at_rest() {
                    return;
                }
            }
            if at > end_ms + DRAIN_MAX_MS || self.trace.events() > EVENTS_MAX {
                let what = self.unrest();
                self.problems.push(ChatViolation { law: 0, what });
                return;
            }
        }
    }

    fn happens(&mut self, event: Event) {
        if let Some((n, life)) = event.own_of() {
            if !self.is_there(n, life) {
                return;
            }
            if self.is_frozen(n) {
                return self.later(n, event);
            }
        }
        match event {
            Event::Begin(n) => self.node_begins(n),
            Event::Tick(n, _) => self.node_ticks(n),
            Event::Book(n, _) => self.book_called(n),
            Event::BookComes(call) => self.book_comes(*call),
            Event::BookAnswers(call) => self.book_answers(*call),
            Event::Step(n, life, side, number, batch, hears) => {
                self.step_comes(n, life, side, number, &batch, hears);
            }
            Event::Stepped(n, _, side, number, outcomes) => self.stepped(n, side, number, &outcomes),
            Event::StepAgain(n, _, side, number) => self.step_sent(n, side, number),
            Event::StepRefused(n, _, side, number) => self.step_refused(n, side, number),
            Event::Load(n, life, load) => self.load_comes(n, life, load),
            Event::Loaded(n, _, want, data) => self.loaded(n, want, *data),
            Event::Hand(node, hand) => self.at_node(node, |world, n| world.handed(n, &hand)),
            Event::Ack(ack) => self.at_node(ack.key.node, |world, n| world.acked(n, &ack)),
            Event::Sends(node, who, tag, send) => {
                self.at_node(node, |world, n| world.send_comes(n, who, tag, send));
            }
            Event::Answer(who, tag, answer) => self.send_answered(who, tag, &answer),
            Event::Asks(node, ask) => self.at_node(node, |world, n| world.ask_comes(n, ask)),
            Event::Asked(who, number, done, made) => self.asked(who, number, done, made),
            Event::Arrives(node, at, comes) => {
                self.at_node(node, |world, n| world.device_arrives(n, at, comes))
            }
            Event::Sync(node, who, number, after) => {
                self.at_node(node, |world, n| world.sync_comes(n, who, number, after));
            }
            Event::SyncReads(who, number, plan) => self.sync_reads(who, number, &plan),
            Event::Synced(who, number, entries, cursor, more) => {
                self.synced(who, number, &entries, cursor, more);
            }
            Event::Confirms(node, at, cursor) => {
                self.at_node(node, |world, n| world.confirm_comes(n, at, cursor))
            }
            Event::Push(at, after, cursor, conversation, seq) => {
                self.pushed(at, (after, cursor), (conversation, seq));
            }
            Event::HearsRead(at, read) => self.hears_read(at, read),
            Event::Watches(node, at, users) => {
                self.at_node(node, |world, n| world.watch_comes(n, at, &users));
            }
            Event::WatchesAgain(node, at, users) => {
                self.at_node(node, |world, n| world.watches_again(n, at, &users));
            }
            Event::Sees(at, said) => self.device_sees(at, &said),
            Event::PresenceAsked(node, from, users) => {
                self.at_node(node, |world, n| world.presence_asked(n, from, &users));
            }
            Event::PresenceSaid(node, words) => {
                self.at_node(node, |world, n| world.presence_said(n, &words));
            }
            Event::Device(u, d, step) => self.device_step(u, d, step),
            Event::Upset => self.upset(),
            Event::Wakes(n) => self.say(format_args!("node {} wakes", n + 1)),
        }
    }

    pub fn is_there(&self, n: usize, life: u32) -> bool {
        self.nodes[n].life == life && self.nodes[n].up.is_some()
    }

    pub fn is_frozen(&self, n: usize) -> bool {
        self.nodes[n].frozen_until > self.now_ms
    }

    /// A node that stands still does it when it wakes.
    fn later(&mut self, n: usize, event: Event) {
        let wait = self.nodes[n].frozen_until.saturating_sub(self.now_ms) + self.rng.below(5);
        self.push(wait, event);
    }

    /// Something comes over the network. A node that stands still loses it: what counts is sent again.
    fn at_node(&mut self, node: u16, step: impl FnOnce(&mut World, usize)) {
        let n = usize::from(node - 1);
        if self.nodes[n].up.is_some() && !self.is_frozen(n) {
            step(self, n);
            self.pump(n);
        }
    }

    /// Whether the store can't be reached.
    pub fn is_out(&self) -> bool {
        self.now_ms < self.outage_until
    }

    /// A batch comes to the store.
    fn step_comes(&mut self, n: usize, life: u32, side: Side, number: u64, batch: &Arc<Batch>, hears: bool) {
        let wait = self.between(1, 8);
        if self.is_out() {
            if hears {
                self.push(wait + 200, Event::StepAgain(n, life, side, number));
            }
            return;
        }
        if self.refuses(batch) {
            if hears {
                self.push(wait, Event::StepRefused(n, life, side, number));
            }
            return;
        }
        let outcomes = self.store.step(batch);
        let refused = |o: &ConversationOutcome| matches!(o, ConversationOutcome::NotOwner);
        self.counters.refused += outcomes.conversations.iter().filter(|o| refused(o)).count() as u64;
        for (step, outcome) in batch.step.timelines.iter().zip(&outcomes.timelines) {
            match outcome {
                TimelineOutcome::Added { new } => {
                    self.counters.known_entries += new.iter().filter(|new| !**new).count() as u64;
                }
                TimelineOutcome::NotOwner => self.counters.refused += 1,
            }
            self.trace.add(
                self.now_ms - BEGIN_MS,
                format_args!("node {} user {} {:?}: {outcome:?}", n + 1, step.user, step.entries),
            );
        }
        for (step, outcome) in batch.step.conversations.iter().zip(&outcomes.conversations) {
            let (id, version, last) = (step.rows.id, step.version, step.rows.head.last_seq);
            self.say(format_args!("node {} conversation {id} v{version} to {last}: {outcome:?}", n + 1));
        }
        if !hears {
            self.counters.late_steps += 1;
        } else if self.trouble(self.config.store_trouble) {
            self.counters.ambiguous += 1;
            let wait = self.between(50, 400);
            self.push(wait, Event::StepAgain(n, life, side, number));
        } else {
            self.push(wait, Event::Stepped(n, life, side, number, Box::new(outcomes)));
        }
    }

    /// Where a front door believes a bucket to be.
    pub fn door(&mut self, id: u64) -> u16 {
        match self.store.owner(bucket_of(id).get()) {
            Some((node, _)) if self.is_calm || !self.rng.one_in(20) => node,
            _ => 1 + self.rng.below(self.nodes.len() as u64) as u16,
        }
    }

    fn is_at_rest(&mut self) -> bool {
        let owned: usize =
            self.nodes.iter().filter_map(|node| node.up.as_ref()).map(|up| up.owned.len()).sum();
        owned == usize::from(BUCKETS)
            && self.nodes.iter().all(|node| node.up.as_ref().is_some_and(super::node::Up::is_quiet))
            && self.store.tables.conversations.values().all(|kept| !kept.is_behind())
            && (0..self.users.len()).all(|u| self.is_content(u))
    }

    /// Why it is not at rest.
    fn unrest(&self) -> String {
        let behind: Vec<u64> = self
            .store
            .tables
            .conversations
            .iter()
            .filter(|(_, kept)| kept.is_behind())
            .map(|(id, _)| *id)
            .collect();
        let nodes: Vec<String> = self.nodes.iter().map(Node::unrest).collect();
        let users: Vec<u64> =
            (0..self.users.len()).filter(|u| !self.is_content(*u)).map(|u| self.users[u].id).collect();
        format!("it does not come to rest: not handed on {behind:?}, nodes {nodes:?}, users {users:?}")
    }

    /// A request in the world's words.
    pub fn new_ask(&mut self, who: Who, kind: AskKind) -> Ask {
        self.next_id += 1;
        Ask { number: self.next_id, who, user: self.users[who.0].id, kind }
    }
}
