//! The fold against an oracle that reads the whole log anew, by the plain words of the rules.
//!
//! Any sequence of sends, resends, recalls, deletions, readings, joining and leaving, growth, checkpoints, forgetting and
//! crashes must give each member's timeline, cursors and counts exactly.

use crate::world;
use chat::core::{Entry, Key, Logged, Pushing, Sending, State, Stop, Wish};
use chat::store::{MemoryShelf, MessageStore, Shelf, Timeline};
use proptest::prelude::*;
use prost::Message as _;
use protocol::v1::change::What;
use protocol::v1::{Change, MessageKind, Recalled};
use records::{ChatFact, ChatMessage};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

const USERS: u64 = 5;

#[derive(Clone, Debug)]
enum Op {
    Send { user: u64, place: usize },
    Resend { user: u64, place: usize },
    Recall { user: u64, place: usize, seq: u64 },
    Delete { user: u64, place: usize, seq: u64 },
    Clear { user: u64, place: usize },
    Read { user: u64, place: usize, seq: u64 },
    Add { user: u64, place: usize, other: u64 },
    Remove { place: usize, other: u64 },
    Apply(usize),
    Begin,
    TakeOut(usize),
    Checkpoint { forget: bool },
    Crash,
}

fn op() -> impl Strategy<Value = Op> {
    let (user, place, seq) = (1..=USERS, 0usize..3, 1u64..25);
    let at = (user.clone(), place.clone(), seq);
    prop_oneof![
        6 => (user.clone(), place.clone()).prop_map(|(user, place)| Op::Send { user, place }),
        1 => (user.clone(), place.clone()).prop_map(|(user, place)| Op::Resend { user, place }),
        2 => at.clone().prop_map(|(user, place, seq)| Op::Recall { user, place, seq }),
        2 => at.clone().prop_map(|(user, place, seq)| Op::Delete { user, place, seq }),
        1 => (user.clone(), place.clone()).prop_map(|(user, place)| Op::Clear { user, place }),
        3 => at.prop_map(|(user, place, seq)| Op::Read { user, place, seq }),
        2 => (user.clone(), place.clone(), user.clone()).prop_map(|(user, place, other)| Op::Add { user, place, other }),
        1 => (place, user).prop_map(|(place, other)| Op::Remove { place, other }),
        2 => (1usize..6).prop_map(Op::Apply),
        2 => any::<bool>().prop_map(|forget| Op::Checkpoint { forget }),
        2 => Just(Op::Begin),
        3 => (1usize..4).prop_map(Op::TakeOut),
        1 => Just(Op::Crash),
    ]
}

/// A node without threads: the log is a list, each record a group of its own.
struct Fold {
    state: State,
    log: Vec<Logged>,
    applied: usize,
    shelf: MemoryShelf,
    now_ms: u64,
    /// Two groups, and the conversation of users 1 and 2.
    places: Vec<u64>,
}

fn done<T>(future: impl Future<Output = T>) -> T {
    // Nothing in memory ever waits.
    let mut future = std::pin::pin!(future);
    match future.as_mut().poll(&mut std::task::Context::from_waker(std::task::Waker::noop())) {
        std::task::Poll::Ready(value) => value,
        std::task::Poll::Pending => panic!("the memory shelf waited"),
    }
}

impl Fold {
    fn new() -> Fold {
        let options = chat::ChatOptions {
            write_members_max: 3,
            conversations_max: 0,
            users_max: 0,
            ..world::options()
        };
        let mut state = State::new(options, Default::default(), 0, 0);
        state.ids.reserved(u64::MAX >> 30);
        let shelf = MemoryShelf::default();
        let mut fold =
            Fold { state, log: Vec::new(), applied: 0, shelf, now_ms: 1_000_000, places: Vec::new() };
        for (members, request) in [(vec![2], 1), (vec![2, 3], 2)] {
            let now_ms = fold.now_ms;
            let made = fold.decide(|s| s.decide_group(1, (1, request), "g", &members, now_ms));
            let (id, records) = made.unwrap();
            fold.write(records);
            fold.apply(usize::MAX);
            fold.places.push(id);
        }
        fold.send(1, None, 0);
        fold.apply(usize::MAX);
        let Ok(Some(pair)) = fold.state.pair(1, 2) else { panic!("no pair") };
        fold.places.push(pair);
        fold
    }

    fn load(&mut self, key: Key) {
        match key {
            Key::User(user) => {
                for found in done(self.shelf.users(&[user])).unwrap() {
                    assert!(self.state.install_user(found, self.now_ms));
                }
            }
            Key::Conversation(id) => match done(self.shelf.conversations(&[id])).unwrap().pop() {
                Some(found) => self.state.install_conversation(found, self.now_ms),
                None => self.state.install_missing(id),
            },
            Key::Pair(low, high) => {
                let found = done(self.shelf.pairs(&[(low, high)])).unwrap().pop();
                self.state.install_pair(low, high, found.map(|f| f.2));
            }
            Key::Sent(key) => {
                let found = done(self.shelf.sent(key, self.now_ms)).unwrap();
                self.state.install_found(key, found.ok().map(|m| chat::core::stored(&m)));
            }
            Key::Settled(_) => self.apply(usize::MAX),
            Key::Elsewhere(_) => unreachable!("there is one node"),
        }
    }

    fn decide<T>(&mut self, mut decide: impl FnMut(&mut State) -> Result<T, Stop>) -> Option<T> {
        loop {
            match decide(&mut self.state) {
                Ok(decided) => return Some(decided),
                Err(Stop::Need(key)) => self.load(key),
                Err(Stop::No(_)) => return None,
            }
        }
    }

    fn write(&mut self, records: Vec<Logged>) {
        for logged in records {
            self.state.take(&logged, self.now_ms);
            self.log.push(logged);
        }
    }

    fn apply(&mut self, count: usize) {
        let end = self.log.len().min(self.applied.saturating_add(count));
        let mut out = Pushing::default();
        for position in self.applied..end {
            self.state.at = chat::core::At { position: position as u64, index: 0 };
            let logged = self.log[position].clone();
            self.state.apply(&logged, self.now_ms, &mut out).unwrap();
        }
        self.applied = end;
    }

    fn send(&mut self, user: u64, id: Option<u64>, back: u64) {
        let mut send = world::to(user, 1, if id.is_some() { 0 } else { 2 }, 1);
        if let Some(id) = id {
            send.conversation = id;
            let of = |s: &mut State| {
                s.settled(id).map(|c| c.map_or(0, |c| c.counter(user, 1))).map_err(Stop::from)
            };
            send.counter = (self.decide(of).unwrap_or(0) + 1).saturating_sub(back).max(1);
        }
        loop {
            match self.state.decide_send(&send, &Ok(()), self.now_ms) {
                Sending::Need(key) => self.load(key),
                Sending::Take(records) => return self.write(records),
                Sending::Answer(answer) => {
                    if back > 0 && answer.seq > 0 {
                        // A resend is answered with where the first one is.
                        let same = |l: &Logged| {
                            matches!(l, Logged::Message(m) if (m.conversation, m.seq, m.sender, m.counter)
                            == (answer.conversation, answer.seq, user, send.counter))
                        };
                        assert!(self.log.iter().any(same));
                    }
                    return;
                }
            }
        }
    }

    fn messages(&self, id: u64) -> Vec<ChatMessage> {
        let mut all = done(self.shelf.messages(id, 1, u64::MAX)).unwrap();
        if let Some(conversation) = self.state.conversations.get(&id) {
            all.retain(|m| m.seq < conversation.recent_from());
            all.extend(conversation.recent.iter().map(|m| (**m).clone()));
        }
        all
    }

    fn run(&mut self, op: &Op) {
        self.now_ms += 1;
        let now_ms = self.now_ms;
        match *op {
            Op::Send { user, place } => self.send(user, Some(self.places[place]), 0),
            Op::Resend { user, place } => self.send(user, Some(self.places[place]), 1),
            Op::Recall { user, place, seq } => {
                let found = self.messages(self.places[place]).into_iter().find(|m| m.seq == seq);
                if let Some(message) = found
                    && let Some(records) = self.decide(|s| s.decide_recall(user, &message, now_ms))
                {
                    self.write(records);
                }
            }
            Op::Delete { user, place, seq } => {
                let id = self.places[place];
                let found = self.messages(id).into_iter().find(|m| m.seq == seq);
                if let (Some(m), Some(true)) = (found, self.member(user, id, |_, m| m.sees(seq))) {
                    let marks = vec![(seq, m.sender != user && chat::core::counts(m.kind))];
                    self.write(vec![Logged::Fact(ChatFact::Deleted { user, conversation: id, marks })]);
                }
            }
            Op::Clear { user, place } => {
                let id = self.places[place];
                if let Some((seq, own)) = self.member(user, id, |c, _| (c.head.last_seq, c.own(user))) {
                    self.write(vec![Logged::Fact(ChatFact::Cleared { user, conversation: id, seq, own })]);
                }
            }
            Op::Read { user, place, seq } => {
                let id = self.places[place];
                if let Some(seq) = self.member(user, id, |c, _| seq.min(c.head.last_seq)) {
                    let own =
                        self.messages(id).iter().filter(|m| m.seq <= seq && m.sender == user).count() as u64;
                    self.write(vec![Logged::Fact(ChatFact::Read { user, conversation: id, seq, own })]);
                }
            }
            Op::Add { user, place, other } => {
                let wish = Wish::Add(vec![other]);
                let id = self.places[place];
                let records = self.decide(|s| s.decide_change(id, user, &wish, now_ms));
                self.write(records.unwrap_or_default());
            }
            Op::Remove { place, other } => {
                let wish = Wish::Remove(vec![other]);
                let id = self.places[place];
                let records = self.decide(|s| s.decide_change(id, 1, &wish, now_ms));
                self.write(records.unwrap_or_default());
            }
            Op::Apply(count) => self.apply(count),
            Op::Begin => self.state.begin_checkpoint(),
            Op::TakeOut(most) => self.take_out(most, false),
            Op::Checkpoint { forget } => {
                self.take_out(usize::MAX, false);
                self.state.begin_checkpoint();
                self.take_out(usize::MAX, forget);
            }
            Op::Crash => self.crash(),
        }
    }

    /// Takes out so many more for the checkpoint that was begun, and brings it into the store once it is whole.
    fn take_out(&mut self, most: usize, forget: bool) {
        let Some(checkpoint) = self.state.take_out(most) else { return };
        done(self.shelf.commit(&checkpoint)).unwrap();
        let now_ms = self.now_ms;
        self.now_ms += if forget { 100_000 } else { 0 };
        let (mut from, mut gone) = (0, Vec::new());
        while let Some(next) = self.state.stored(&checkpoint, (from, 2), now_ms, &mut gone) {
            from = next;
        }
        self.state.evict(self.now_ms);
    }

    fn member<T>(
        &mut self,
        user: u64,
        id: u64,
        of: impl Fn(&chat::core::Conversation, &chat::core::Member) -> T,
    ) -> Option<T> {
        self.decide(|s| {
            s.loaded(user)?;
            Ok(s.settled(id)?.and_then(|c| c.member(user).map(|m| of(c, m))))
        })
        .flatten()
    }

    /// What is not applied is lost; the rest is read again from the last checkpoint.
    fn crash(&mut self) {
        self.log.truncate(self.applied);
        let mark = done(self.shelf.mark()).unwrap();
        let options = self.state.options.clone();
        let mut ids = chat::core::Ids::new(2, self.now_ms);
        ids.reserved(u64::MAX >> 30);
        self.state = State::new(options, mark.at, mark.cursor, 0);
        self.state.ids = ids;
        self.applied = mark.at.position as usize + mark.at.index as usize;
        let tail = self.log[self.applied..].to_vec();
        for logged in tail {
            let users: Vec<u64> = match &logged {
                Logged::Fact(_) => (1..=USERS).collect(),
                Logged::Message(m) => {
                    if !self.state.conversations.contains_key(&m.conversation) {
                        self.load(Key::Conversation(m.conversation));
                    }
                    vec![1]
                }
            };
            if let Logged::Fact(
                ChatFact::Read { conversation, .. }
                | ChatFact::Cleared { conversation, .. }
                | ChatFact::Deleted { conversation, .. },
            ) = &logged
                && !self.state.conversations.contains_key(conversation)
            {
                self.load(Key::Conversation(*conversation));
            }
            for user in users {
                if self.state.loaded(user).is_err() {
                    self.load(Key::User(user));
                }
            }
            self.state.take(&logged, self.now_ms);
            self.apply(1);
        }
    }

    /// A timeline, from memory and store.
    fn timeline(&self, user: u64) -> Vec<Entry> {
        let mut all = done(self.shelf.entries(user, 0, usize::MAX)).unwrap();
        if let Some(hot) = self.state.user(user) {
            all.retain(|e| e.cursor <= hot.hot_after);
            all.extend(&hot.entries);
        }
        all
    }

    fn check(&mut self) {
        self.apply(usize::MAX);
        let oracle = Oracle::of(&self.log);
        for user in 1..=USERS {
            let expected = oracle.timelines.get(&user).cloned().unwrap_or_default();
            assert_eq!(self.timeline(user), expected, "timeline of user {user}");
        }
        for id in self.places.clone() {
            let stored = self.messages(id);
            let all: Vec<&ChatMessage> = stored.iter().collect();
            let expected: Vec<&ChatMessage> = oracle.messages[&id].iter().map(|m| &**m).collect();
            assert_eq!(all, expected);
        }
        for user in 1..=USERS {
            let mut total = 0;
            for id in self.places.clone() {
                let expected = oracle.unread(user, id);
                let found = self.member(user, id, |c, m| c.unread(m));
                assert_eq!(found, expected, "user {user} in {id}");
                total += expected.unwrap_or(0);
            }
            let sum = self.decide(|s| {
                for large in s.loaded(user)?.large.clone() {
                    s.settled(large)?;
                }
                Ok(s.user(user).map_or(0, |u| s.unread_total(u)))
            });
            assert_eq!(sum, Some(total), "total of user {user}");
        }
    }
}

#[derive(Default)]
struct Oracle {
    messages: BTreeMap<u64, Vec<Arc<ChatMessage>>>,
    members: BTreeMap<u64, BTreeMap<u64, u64>>,
    large: BTreeSet<u64>,
    timelines: BTreeMap<u64, Vec<Entry>>,
    recalled: BTreeSet<(u64, u64)>,
    deleted: BTreeSet<(u64, u64, u64)>,
    /// (user, conversation) -> read up to.
    read: BTreeMap<(u64, u64), u64>,
}

impl Oracle {
    fn of(log: &[Logged]) -> Oracle {
        let (mut oracle, mut cursor) = (Oracle::default(), 1);
        for logged in log {
            match logged {
                Logged::Message(message) => {
                    cursor += 1;
                    oracle.message(message, cursor);
                }
                Logged::Fact(fact) => oracle.fact(fact),
            }
        }
        oracle
    }

    fn message(&mut self, message: &Arc<ChatMessage>, cursor: u64) {
        let (id, seq) = (message.conversation, message.seq);
        self.messages.entry(id).or_default().push(Arc::clone(message));
        let was_large = self.large.contains(&id) || message.fan_out == 2;
        let members = self.members.entry(id).or_default();
        let mut gets: BTreeSet<u64> = members.keys().copied().collect();
        if i32::from(message.kind) == MessageKind::Change as i32 {
            match Change::decode(&*message.body).unwrap().what.unwrap() {
                What::Made(made) => members.extend(made.members.iter().map(|u| (*u, seq))),
                What::Joined(more) => members.extend(more.users.iter().map(|u| (*u, seq))),
                What::Left(gone) => {
                    for user in gone.users {
                        members.remove(&user);
                        self.read.remove(&(user, id));
                        self.deleted.retain(|(u, c, _)| (*u, *c) != (user, id));
                    }
                }
                What::FanOut(_) => drop(self.large.insert(id)),
                _ => {}
            }
        }
        if i32::from(message.kind) == MessageKind::Recall as i32 {
            self.recalled.insert((id, Recalled::decode(&*message.body).unwrap().seq));
        }
        gets.extend(self.members[&id].keys());
        if !was_large {
            for user in gets {
                self.timelines.entry(user).or_default().push(Entry { cursor, conversation: id, seq });
            }
        }
    }

    fn fact(&mut self, fact: &ChatFact) {
        match fact {
            ChatFact::PairMade { conversation, low, high, .. } => {
                self.members.insert(*conversation, [(*low, 0), (*high, 0)].into());
            }
            ChatFact::Read { user, conversation, seq, .. }
            | ChatFact::Cleared { user, conversation, seq, .. } => {
                let member = self.members[conversation].contains_key(user);
                let read = self.read.entry((*user, *conversation)).or_default();
                *read = (*read).max(if member { *seq } else { 0 });
            }
            ChatFact::Deleted { user, conversation, marks }
                if self.members[conversation].contains_key(user) =>
            {
                self.deleted.extend(marks.iter().map(|(seq, _)| (*user, *conversation, *seq)));
            }
            _ => {}
        }
    }

    fn unread(&self, user: u64, id: u64) -> Option<u64> {
        let joined = *self.members.get(&id)?.get(&user)?;
        let read = self.read.get(&(user, id)).copied().unwrap_or(0).max(joined);
        let counts = |m: &&Arc<ChatMessage>| {
            m.seq > read
                && m.sender != user
                && i32::from(m.kind) < MessageKind::Change as i32
                && !self.recalled.contains(&(id, m.seq))
                && !self.deleted.contains(&(user, id, m.seq))
        };
        Some(self.messages[&id].iter().filter(counts).count() as u64)
    }
}

proptest! {
    #[test]
    fn the_fold_is_what_the_oracle_says(ops in prop::collection::vec(op(), 1..80)) {
        let mut fold = Fold::new();
        for op in &ops {
            fold.run(op);
            if matches!(op, Op::Crash) {
                fold.check();
            }
        }
        fold.check();
        fold.crash();
        fold.check();
    }
}
