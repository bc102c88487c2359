//! Users and their devices: they write, read, ask for things, lose their connections, and come back.

use super::ask::{Ask, AskKind};
use super::world::{Event, Who, World};
use chat::core::{Entry, Wish};
use hashring::bucket_of;
use protocol::calls::{ConnectionAt, DeviceAt};
use protocol::v1::{MessageKind, RangeRequest, Role, Send, SendAnswer, SendOutcome};
use records::FriendStep;
use std::collections::{BTreeMap, BTreeSet};

/// An answer that stays out for so long is not waited for any more, ms.
const PATIENCE_MS: u64 = 300;
/// A device says so often that it is there, ms.
const ARRIVE_MS: u64 = 2_500;
/// Sync when nothing has been heard for so long, ms.
const SYNC_MS: u64 = 1_500;

/// What a device does.
pub(super) enum DeviceStep {
    /// Whatever comes to its mind.
    Act,
    /// Its network is back.
    Back,
}

/// Where a device writes to.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Place {
    Group(u64),
    Peer(u64),
}

/// A user.
pub(super) struct User {
    pub id: u64,
    pub devices: Vec<Device>,
}

/// A message that its sender has been told of.
pub(super) struct Told {
    pub conversation: u64,
    pub seq: u64,
    pub message_id: u64,
    pub counter: u64,
}

/// A message that is not answered.
struct Out {
    tag: u64,
    place: Place,
    send: Send,
    sent_ms: u64,
}

/// A device.
#[derive(Default)]
pub(super) struct Device {
    /// Its number among the user's.
    pub number: u64,
    is_online: bool,
    connection: u64,
    /// Where it has arrived, and when it said so.
    node: Option<u16>,
    arrived_ms: u64,
    /// It knows everything behind this cursor, since it began with it.
    pub start: Option<u64>,
    /// ... and up to this one.
    pub cursor: u64,
    pub got: BTreeSet<(u64, u64)>,
    question: Option<(u64, u64)>,
    is_behind: bool,
    synced_ms: u64,
    counters: BTreeMap<Place, (u64, u64)>,
    conversations: BTreeMap<u64, u64>,
    out: Option<Out>,
    ask: Option<(Ask, u64)>,
    confirmed: u64,
    requests: u64,
    pub told: Vec<Told>,
    /// How far it was told that its user has read, by its own requests and by pushes.
    pub read: BTreeMap<u64, u64>,
    pub heard_read: BTreeMap<u64, u64>,
    /// What it was told to be deleted.
    pub deleted: BTreeSet<(u64, u64)>,
    /// Whom it watches, and whether it believes them online.
    pub sees: BTreeMap<u64, bool>,
    pub watched_ms: u64,
    /// The connection on which it was last told of them.
    pub watched_on: u64,
}

impl Device {
    /// Whether it is there, on this connection.
    pub fn is_on(&self, connection: u64) -> bool {
        self.is_online && self.connection == connection
    }

    /// Whether it has been answered on its connection whom it watches.
    pub fn watches(&self) -> bool {
        self.is_online && self.connection != 0 && self.watched_on == self.connection
    }
}

impl User {
    pub fn new(id: u64, devices: u64) -> User {
        let device = |number| Device { number, ..Device::default() };
        User { id, devices: (1..=devices).map(device).collect() }
    }
}

impl World {
    pub fn at(&self, (u, d): Who) -> DeviceAt {
        let (user, device) = (&self.users[u], &self.users[u].devices[d]);
        let at = ConnectionAt { access: 1, connection: device.connection };
        DeviceAt { user: user.id, device: device.number, at }
    }

    pub fn device_step(&mut self, u: usize, d: usize, step: DeviceStep) {
        match step {
            DeviceStep::Back => self.connect(u, d),
            DeviceStep::Act => {
                if self.users[u].devices[d].is_online {
                    self.act(u, d);
                } else if self.is_calm || self.users[u].devices[d].connection == 0 {
                    self.connect(u, d);
                }
                let wait = self.between(20, 120);
                self.push(wait, Event::Device(u, d, DeviceStep::Act));
            }
        }
    }

    fn connect(&mut self, u: usize, d: usize) {
        self.next_id += 1;
        let connection = self.next_id;
        let device = &mut self.users[u].devices[d];
        if device.is_online {
            return;
        }
        (device.is_online, device.connection) = (true, connection);
        (device.node, device.question, device.is_behind) = (None, None, true);
        self.arrive((u, d));
    }

    fn arrive(&mut self, who: Who) {
        let node = self.door(self.users[who.0].id);
        let (at, now_ms) = (self.at(who), self.now_ms);
        let device = &mut self.users[who.0].devices[who.1];
        (device.node, device.arrived_ms) = (Some(node), now_ms);
        self.post(|| Event::Arrives(node, at, true));
        self.tell_watches(who, node);
    }

    fn act(&mut self, u: usize, d: usize) {
        let (who, now_ms) = ((u, d), self.now_ms);
        if let Some(until_ms) = self.pauses_until() {
            return self.disconnect(who, until_ms - now_ms);
        }
        let owner = self.store.owner(bucket_of(self.users[u].id).get()).map(|(node, _)| node);
        let device = &self.users[u].devices[d];
        if (owner.is_some() && device.node != owner) || now_ms >= device.arrived_ms + ARRIVE_MS {
            self.arrive(who);
        }
        if self.trouble(60) {
            let wait = self.between(300, 4_000);
            return self.disconnect(who, wait);
        }
        let device = &self.users[u].devices[d];
        let asked = device.question.is_some_and(|(_, since)| now_ms < since + PATIENCE_MS);
        if !asked && (device.is_behind || now_ms >= device.synced_ms + SYNC_MS) {
            self.ask_sync(who);
        }
        if self.users[u].devices[d].cursor > self.users[u].devices[d].confirmed {
            self.confirm(who);
        }
        self.write(who);
        self.request(who);
        self.device_watches(who);
    }

    fn disconnect(&mut self, who: Who, wait: u64) {
        let at = self.at(who);
        let device = &mut self.users[who.0].devices[who.1];
        device.is_online = false;
        if let Some(node) = device.node {
            self.post(|| Event::Arrives(node, at, false));
        }
        self.push(wait, Event::Device(who.0, who.1, DeviceStep::Back));
    }

    fn ask_sync(&mut self, who: Who) {
        self.next_id += 1;
        let (number, now_ms) = (self.next_id, self.now_ms);
        let node = self.door(self.users[who.0].id);
        let device = &mut self.users[who.0].devices[who.1];
        device.question = Some((number, now_ms));
        let after = device.cursor;
        self.post(|| Event::Sync(node, who, number, after));
    }

    /// The store is read for a sync.
    pub fn sync_reads(&mut self, who: Who, number: u64, plan: &chat::cluster::SyncPlan) {
        if self.is_out() {
            return;
        }
        let limit = 1 + self.rng.below(8) as usize;
        let user = self.users[who.0].id;
        let (entries, cursor, more) = if plan.after == 0 {
            (Vec::new(), plan.committed, false)
        } else {
            let stored = if plan.reads() {
                self.store.tables.entries(user, plan.after, limit + 1)
            } else {
                Vec::new()
            };
            plan.answer(stored, limit)
        };
        self.post(|| Event::Synced(who, number, entries.clone(), cursor, more));
    }

    pub fn synced(&mut self, who: Who, number: u64, entries: &[Entry], cursor: u64, more: bool) {
        let now_ms = self.now_ms;
        let device = &mut self.users[who.0].devices[who.1];
        if device.question.is_none_or(|(asked, _)| asked != number) {
            return;
        }
        (device.question, device.is_behind, device.synced_ms) = (None, more, now_ms);
        device.start.get_or_insert(cursor);
        device.got.extend(entries.iter().map(|e| (e.conversation, e.seq)));
        device.cursor = device.cursor.max(cursor);
        self.counters.syncs += 1;
    }

    pub fn pushed(&mut self, at: DeviceAt, (after, cursor): (u64, u64), (conversation, seq): (u64, u64)) {
        let Some(user) = self.users.iter_mut().find(|user| user.id == at.user) else { return };
        let Some(device) = user.devices.iter_mut().find(|d| d.number == at.device) else { return };
        if !device.is_on(at.at.connection) {
            return;
        }
        if device.start.is_none() {
            // It begins with a sync.
            return;
        }
        device.got.insert((conversation, seq));
        self.counters.pushes += 1;
        if after <= device.cursor {
            device.cursor = device.cursor.max(cursor);
        } else {
            device.is_behind = true;
        }
    }

    fn confirm(&mut self, who: Who) {
        let (at, node) = (self.at(who), self.door(self.users[who.0].id));
        let device = &mut self.users[who.0].devices[who.1];
        let cursor = device.cursor;
        device.confirmed = cursor;
        self.post(|| Event::Confirms(node, at, cursor));
    }

    /// A device writes, or says again what has not been answered.
    fn write(&mut self, who: Who) {
        let now_ms = self.now_ms;
        let (u, d) = who;
        let waits = self.users[u].devices[d].out.as_ref().map(|out| now_ms < out.sent_ms + PATIENCE_MS);
        match waits {
            Some(true) => {}
            Some(false) => self.send(who),
            None if !self.is_calm && !self.rng.one_in(4) => {
                let place = self.some_place(u);
                self.next_id += 1;
                let tag = self.next_id;
                let (user, device) = (self.users[u].id, &mut self.users[u].devices[d]);
                let (counter, given_up) = device.counters.get(&place).copied().unwrap_or_default();
                let (conversation, to_user) = match place {
                    Place::Group(id) => (id, 0),
                    Place::Peer(peer) => match device.conversations.get(&peer) {
                        Some(id) => (*id, 0),
                        None => (0, peer),
                    },
                };
                let send = Send {
                    conversation,
                    to_user,
                    counter: counter + 1,
                    given_up,
                    kind: MessageKind::Text as i32,
                    body: b"hello".to_vec(),
                    user,
                    device: device.number,
                };
                device.out = Some(Out { tag, place, send, sent_ms: now_ms });
                self.send(who);
            }
            None => {}
        }
    }

    fn some_place(&mut self, u: usize) -> Place {
        let user = self.users[u].id;
        let is_in = |id: &&u64| {
            self.store.tables.conversations.get(id).is_some_and(|c| c.members.contains_key(&user))
        };
        let mine: Vec<u64> = self.groups.iter().filter(is_in).copied().collect();
        // Now and then he has not heard that he is out.
        let from = if mine.is_empty() || self.rng.one_in(10) { &self.groups } else { &mine };
        if !from.is_empty() && !self.rng.one_in(3) {
            return Place::Group(from[self.rng.below(from.len() as u64) as usize]);
        }
        let other = (u + 1 + self.rng.below(self.users.len() as u64 - 1) as usize) % self.users.len();
        Place::Peer(self.users[other].id)
    }

    fn send(&mut self, who: Who) {
        let now_ms = self.now_ms;
        let Some(out) = &mut self.users[who.0].devices[who.1].out else { return };
        out.sent_ms = now_ms;
        let (tag, send) = (out.tag, out.send.clone());
        let key = if send.conversation == 0 { send.user.min(send.to_user) } else { send.conversation };
        let node = self.door(key);
        self.post(|| Event::Sends(node, who, tag, send.clone()));
    }

    pub fn send_answered(&mut self, who: Who, tag: u64, answer: &SendAnswer) {
        let user = self.users[who.0].id;
        let (outcome, counter) = (answer.outcome, answer.counter);
        self.say(format_args!("user {user} hears {outcome} of message {counter}: {}", answer.reason));
        let device = &mut self.users[who.0].devices[who.1];
        let Some(Out { place, send, .. }) = device.out.take_if(|out| out.tag == tag) else { return };
        let outcome = SendOutcome::try_from(outcome).unwrap_or_default();
        match outcome {
            SendOutcome::Stored | SendOutcome::StoredBefore => {
                if let Place::Peer(peer) = place {
                    device.conversations.insert(peer, answer.conversation);
                }
                device.counters.insert(place, (counter, counter));
                if outcome == SendOutcome::Stored {
                    let SendAnswer { conversation, seq, message_id, .. } = *answer;
                    device.got.insert((conversation, seq));
                    device.told.push(Told { conversation, seq, message_id, counter });
                }
            }
            SendOutcome::NotAllowed => drop(device.counters.insert(place, (send.counter, send.counter))),
            SendOutcome::Busy | SendOutcome::Pending => {
                device.out = Some(Out { tag, place, send, sent_ms: self.now_ms });
            }
            other => {
                let what = format!("message {counter} of user {user} is answered with {other:?}");
                self.problems.push(super::ChatViolation { law: 1, what });
            }
        }
    }

    /// A device asks for something, or again.
    fn request(&mut self, who: Who) {
        let now_ms = self.now_ms;
        let (u, d) = who;
        let waits = self.users[u].devices[d].ask.as_ref().map(|(_, sent_ms)| now_ms < sent_ms + PATIENCE_MS);
        match waits {
            Some(true) => {}
            Some(false) => self.send_ask(who),
            None if !self.is_calm && self.rng.one_in(6) => {
                if let Some(kind) = self.some_ask(u, d) {
                    let ask = self.new_ask(who, kind);
                    self.users[u].devices[d].ask = Some((ask, now_ms));
                    self.send_ask(who);
                }
            }
            None => {}
        }
    }

    fn some_ask(&mut self, u: usize, d: usize) -> Option<AskKind> {
        let count = self.users.len() as u64;
        let other = self.users[(u + 1 + self.rng.below(count - 1) as usize) % count as usize].id;
        let group = match self.groups.len() as u64 {
            0 => None,
            groups => Some(self.groups[self.rng.below(groups) as usize]),
        };
        let got = &self.users[u].devices[d].got;
        let some = got.iter().nth(self.rng.below(got.len() as u64) as usize).copied();
        Some(match self.rng.below(20) {
            0 | 1 if self.groups.len() < 4 => {
                let members = self.users.iter().filter(|_| self.rng.one_in(2)).map(|user| user.id).collect();
                let device = &mut self.users[u].devices[d];
                device.requests += 1;
                AskKind::MakeGroup(members, device.requests)
            }
            0..=2 => AskKind::Change(group?, Wish::Add(vec![other])),
            3 => AskKind::Change(group?, Wish::Remove(vec![other])),
            4 => AskKind::Change(group?, Wish::Remove(vec![self.users[u].id])),
            5..=7 => AskKind::Read(some?.0, some?.1),
            8 => AskKind::Recall(some?.0, some?.1),
            9 if self.rng.one_in(3) => AskKind::Clear(some?.0),
            10 => {
                let step = [FriendStep::Ask, FriendStep::Ask, FriendStep::End, FriendStep::Block];
                AskKind::Friend(other, step[self.rng.below(4) as usize])
            }
            11 | 12 => AskKind::Delete(some?.0, self.some_seqs(u, d, some?.0)),
            13 => AskKind::Notice(some?.0, self.rng.one_in(2)),
            14 | 15 => {
                let (from_seq, to_seq) = (self.rng.below(12), self.rng.below(20));
                let (limit, newest_first) = (1 + self.rng.below(9) as u32, self.rng.one_in(2));
                let conversation = some?.0;
                AskKind::Range(
                    conversation,
                    RangeRequest { conversation, from_seq, to_seq, limit, newest_first },
                )
            }
            16 => AskKind::Change(group?, Wish::Mute(other, self.rng.one_in(3))),
            17 => AskKind::Change(group?, Wish::Role(other, Role::Admin as i32)),
            18 => AskKind::Change(group?, Wish::Name(format!("g{}", self.rng.below(9)))),
            _ => return None,
        })
    }

    /// Some messages of a conversation that a device has.
    fn some_seqs(&mut self, u: usize, d: usize, id: u64) -> Vec<u64> {
        let got = &self.users[u].devices[d].got;
        let seqs: Vec<u64> = got.range((id, 0)..=(id, u64::MAX)).map(|(_, seq)| *seq).collect();
        let at = self.rng.below(seqs.len().max(1) as u64) as usize;
        let some = seqs.iter().enumerate().filter(|(n, _)| *n == at || self.rng.one_in(4));
        some.map(|(_, seq)| *seq).collect()
    }

    fn send_ask(&mut self, who: Who) {
        let now_ms = self.now_ms;
        let Some((ask, sent_ms)) = &mut self.users[who.0].devices[who.1].ask else { return };
        *sent_ms = now_ms;
        let ask = ask.clone();
        let key = match &ask.kind {
            AskKind::Friend(other, _) => ask.user.min(*other),
            kind => kind.conversation().unwrap_or(ask.user),
        };
        let node = self.door(key);
        self.post(|| Event::Asks(node, ask.clone()));
    }

    pub fn asked(&mut self, who: Who, number: u64, done: bool, made: u64) {
        let device = &mut self.users[who.0].devices[who.1];
        let Some((ask, _)) = device.ask.take_if(|(ask, _)| ask.number == number) else { return };
        if !done {
            return;
        }
        match ask.kind {
            AskKind::MakeGroup(..) if !self.groups.contains(&made) => self.groups.push(made),
            AskKind::Read(id, _) => {
                self.counters.reads += 1;
                let read = device.read.entry(id).or_default();
                *read = (*read).max(made);
            }
            AskKind::Delete(id, seqs) if made == 1 => {
                self.counters.deletions += 1;
                device.deleted.extend(seqs.into_iter().map(|seq| (id, seq)));
            }
            _ => {}
        }
    }

    /// A user has everything and waits for nothing.
    pub fn is_content(&self, u: usize) -> bool {
        let user = &self.users[u];
        let owner = self.store.owner(bucket_of(user.id).get()).map(|(node, _)| node);
        let last =
            self.store.tables.users.get(&user.id).and_then(|kept| kept.entries.keys().next_back()).copied();
        let known = owner.and_then(|node| self.nodes[usize::from(node) - 1].up.as_ref());
        let is_known = known
            .is_some_and(|up| up.timelines.links(user.id).is_some() && !up.timelines.is_storing(user.id));
        is_known
            && user.devices.iter().all(|d| {
                d.is_online
                    && d.node == owner
                    && d.out.is_none()
                    && d.ask.is_none()
                    && !d.is_behind
                    && d.start.is_some()
                    && d.cursor >= last.unwrap_or(0)
                    && d.sees.values().all(|online| *online)
            })
    }
}
