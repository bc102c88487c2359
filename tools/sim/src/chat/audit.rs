//! The auditor: what stands in the store, what devices heard, and what timelines' owners would say in the end, against
//! the plain words of the laws. Membership and counts are made anew from messages.

use super::ChatViolation;
use super::world::World;
use chat::core::relation;
use chat::store::tables::KeptConversation;
use hashring::bucket_of;
use prost::Message as _;
use protocol::v1::change::What;
use protocol::v1::{Change, FanOut, MessageKind, Recalled};
use records::ChatMessage;
use std::collections::{BTreeMap, BTreeSet};

/// Violations that are reported.
const REPORTED_MAX: usize = 40;

/// A conversation made anew from its messages.
#[derive(Default)]
pub(super) struct Anew {
    pub members: BTreeSet<u64>,
    /// Who gets which message into his timeline.
    entries: BTreeSet<(u64, u64)>,
    pub recalled: BTreeSet<u64>,
    is_large: bool,
    is_pair: bool,
    moves: u64,
}

pub(super) struct Audit<'a> {
    pub world: &'a World,
    found: Vec<ChatViolation>,
}

/// Checks everything.
pub(super) fn audit(world: &mut World) -> Vec<ChatViolation> {
    let mut counters = world.counters;
    counters.messages =
        world.store.tables.conversations.values().map(|kept| kept.messages.len() as u64).sum();
    counters.entries = world.store.tables.users.values().map(|kept| kept.entries.len() as u64).sum();
    let devices = world.users.iter().flat_map(|user| &user.devices);
    counters.told = devices.map(|device| device.told.len() as u64).sum();
    let mut audit = Audit { world, found: world.problems.clone() };
    for what in &world.store.tables.problems {
        audit.found.push(ChatViolation { law: 0, what: what.clone() });
    }
    let mut anew = BTreeMap::new();
    for (id, kept) in &world.store.tables.conversations {
        audit.messages(*id, kept);
        let made = Anew::of(*id, kept);
        counters.moves += made.moves;
        anew.insert(*id, made);
    }
    audit.told();
    audit.timelines(&anew);
    audit.devices();
    audit.own_things();
    // What is asked of nodes has an answer only where the cluster has come to rest.
    if world.problems.is_empty() {
        audit.unread(&anew);
        audit.lists(&anew);
        audit.friends();
    }
    let mut found = audit.found;
    found.truncate(REPORTED_MAX);
    world.counters = counters;
    found
}

impl Anew {
    fn of(id: u64, kept: &KeptConversation) -> Anew {
        let mut anew = Anew::default();
        let is_group = kept.messages.get(&1).is_some_and(|m| change_of(m).is_some());
        if !is_group {
            anew.is_pair = true;
            anew.members = kept.members.keys().copied().collect();
        }
        for message in kept.messages.values() {
            let change = change_of(message);
            match &change {
                Some(What::Made(made)) => anew.members.extend(&made.members),
                Some(What::Joined(more)) => anew.members.extend(&more.users),
                _ => {}
            }
            anew.moves += u64::from(change.is_some());
            if i32::from(message.fan_out) == FanOut::Write as i32 {
                anew.entries.extend(anew.members.iter().map(|user| (*user, message.seq)));
            }
            match change {
                Some(What::Left(gone)) => anew.members.retain(|user| !gone.users.contains(user)),
                Some(What::FanOut(_)) => anew.is_large = true,
                Some(What::Made(_)) => anew.is_large = i32::from(message.fan_out) == FanOut::Read as i32,
                _ => {}
            }
            if i32::from(message.kind) == MessageKind::Recall as i32
                && let Ok(recalled) = Recalled::decode(&*message.body)
            {
                anew.recalled.insert(recalled.seq);
            }
        }
        debug_assert!(id != 0);
        anew
    }

    /// The other one of two.
    pub fn peer_of(&self, user: u64) -> Option<u64> {
        self.members.iter().find(|other| **other != user && self.is_pair).copied()
    }
}

fn change_of(message: &ChatMessage) -> Option<What> {
    if i32::from(message.kind) != MessageKind::Change as i32 {
        return None;
    }
    Change::decode(&*message.body).ok()?.what
}

impl Audit<'_> {
    pub(super) fn wrong(&mut self, law: u8, what: String) {
        self.found.push(ChatViolation { law, what });
    }

    /// Law 1, within a conversation.
    fn messages(&mut self, id: u64, kept: &KeptConversation) {
        let seqs: Vec<u64> = kept.messages.keys().copied().collect();
        if seqs != (1..=kept.head.last_seq).collect::<Vec<_>>() {
            self.wrong(1, format!("conversation {id} stands at {} and has {seqs:?}", kept.head.last_seq));
        }
        let mut counters: BTreeMap<(u64, u64), u64> = BTreeMap::new();
        let mut ids = BTreeSet::new();
        for message in kept.messages.values() {
            if !ids.insert(message.message_id) {
                self.wrong(1, format!("conversation {id} has message id {} twice", message.message_id));
            }
            if message.sender == 0 {
                continue;
            }
            let last = counters.entry((message.sender, message.device)).or_default();
            if message.counter <= *last {
                let (sender, seq) = (message.sender, message.seq);
                self.wrong(
                    1,
                    format!("conversation {id}: {seq} of user {sender} is out of his order, or twice"),
                );
            }
            *last = message.counter;
        }
    }

    /// Law 1, for what senders heard.
    fn told(&mut self) {
        let world = self.world;
        for user in &world.users {
            for device in &user.devices {
                for told in &device.told {
                    let kept = world.store.tables.conversations.get(&told.conversation);
                    let message = kept.and_then(|kept| kept.messages.get(&told.seq));
                    let is_it = message.is_some_and(|m| {
                        (m.message_id, m.sender, m.device, m.counter)
                            == (told.message_id, user.id, device.number, told.counter)
                    });
                    if !is_it {
                        let (id, seq) = (told.conversation, told.seq);
                        self.wrong(1, format!("user {} was told of {id}/{seq}, which is not there", user.id));
                    }
                }
            }
        }
    }

    /// Law 2.
    fn timelines(&mut self, anew: &BTreeMap<u64, Anew>) {
        let world = self.world;
        let mut expected: BTreeSet<(u64, u64, u64)> = BTreeSet::new();
        for (id, anew) in anew {
            expected.extend(anew.entries.iter().map(|(user, seq)| (*user, *id, *seq)));
        }
        for (user, kept) in &world.store.tables.users {
            let mut last: BTreeMap<u64, u64> = BTreeMap::new();
            for entry in kept.entries.values() {
                let (id, seq) = (entry.conversation, entry.seq);
                let before = last.insert(id, seq).unwrap_or(0);
                if seq <= before {
                    self.wrong(2, format!("timeline of {user} has {id}/{seq} behind {before}"));
                }
                if !expected.remove(&(*user, id, seq)) {
                    self.wrong(
                        2,
                        format!("timeline of {user} has {id}/{seq}, which is not for him, or twice"),
                    );
                }
            }
            for (id, anew) in anew {
                let link = kept.links.get(id).filter(|link| link.member);
                let is_member = anew.members.contains(user);
                if link.is_some() != is_member || link.is_some_and(|link| link.large != anew.is_large) {
                    self.wrong(
                        2,
                        format!("timeline of {user} says {link:?} of {id}; he is in it: {is_member}"),
                    );
                }
            }
        }
        for (user, id, seq) in expected {
            self.wrong(2, format!("timeline of {user} lacks {id}/{seq}"));
        }
        for (id, kept) in &world.store.tables.conversations {
            let members: BTreeSet<u64> = kept.members.keys().copied().collect();
            if anew.get(id).is_some_and(|anew| anew.members != members) {
                self.wrong(2, format!("conversation {id} has other members than its messages say"));
            }
        }
    }

    /// Law 3.
    fn devices(&mut self) {
        let world = self.world;
        let is_at_rest = world.problems.is_empty();
        for user in &world.users {
            let Some(kept) = world.store.tables.users.get(&user.id) else { continue };
            for device in &user.devices {
                let Some(start) = device.start else { continue };
                for entry in kept.entries.range(start + 1..).map(|(_, entry)| entry) {
                    let (id, seq) = (entry.conversation, entry.seq);
                    let message =
                        world.store.tables.conversations.get(&id).and_then(|kept| kept.messages.get(&seq));
                    let is_own = message.is_some_and(|m| (m.sender, m.device) == (user.id, device.number));
                    let is_missing = !is_own && !device.got.contains(&(id, seq));
                    if is_missing && (is_at_rest || entry.cursor <= device.cursor) {
                        let (number, cursor) = (device.number, device.cursor);
                        let what = format!(
                            "device {number} of {} lacks {id}/{seq} (cursor {}) and has confirmed {cursor}",
                            user.id, entry.cursor
                        );
                        self.wrong(3, what);
                    }
                }
                let stored = kept.person.device(device.number).map_or(0, |d| d.cursor);
                if stored > device.cursor {
                    let what = format!("user {}: {stored} is taken for confirmed", user.id);
                    self.wrong(3, what);
                }
            }
        }
    }

    /// Law 4.
    fn unread(&mut self, anew: &BTreeMap<u64, Anew>) {
        let world = self.world;
        for user in &world.users {
            let owner = world.store.owner(bucket_of(user.id).get());
            let up = owner.and_then(|(node, _)| world.nodes[usize::from(node) - 1].up.as_ref());
            let Some(timelines) = up.map(|up| &up.timelines) else { continue };
            let mut total = 0;
            for (id, anew) in anew.iter().filter(|(_, anew)| anew.members.contains(&user.id)) {
                let unread = self.unread_of(user.id, *id, anew);
                if anew.is_large {
                    continue;
                }
                total += unread;
                let said = timelines.unread(user.id, *id).map(|(_, one)| one);
                if said != Some(unread) {
                    let what = format!("user {} has {unread} unread in {id}, and hears {said:?}", user.id);
                    self.wrong(4, what);
                }
            }
            let said: BTreeSet<u64> =
                timelines.links(user.id).unwrap_or_default().into_iter().map(|(id, _)| id).collect();
            let is_in = |(id, anew): (&u64, &Anew)| anew.members.contains(&user.id).then_some(*id);
            let expected: BTreeSet<u64> = anew.iter().filter_map(is_in).collect();
            if said != expected {
                self.wrong(4, format!("user {} is in {expected:?}, and hears {said:?}", user.id));
            }
            let said = timelines.unread(user.id, 0).map(|(total, _)| total);
            if said != Some(total) {
                self.wrong(4, format!("user {} has {total} unread, and hears {said:?}", user.id));
            }
        }
    }

    /// Law 5.
    fn friends(&mut self) {
        let world = self.world;
        for (id, kept) in &world.store.tables.conversations {
            let users: Vec<u64> = kept.members.keys().copied().collect();
            let [low, high] = users[..] else { continue };
            if !world
                .store
                .tables
                .names
                .iter()
                .any(|(name, named)| named == id && matches!(name, chat::store::owned::Name::Pair { .. }))
            {
                continue;
            }
            for (user, other) in [(low, high), (high, low)] {
                let both = kept.head.relation;
                let (mine, theirs) = (relation::of(both, user < other), relation::of(both, other < user));
                let bits =
                    (mine & relation::ASKS != 0, theirs & relation::ASKS != 0, mine & relation::BLOCKS != 0);
                let person = world.store.tables.users.get(&user).map(|kept| &kept.person);
                let friend = person.and_then(|person| person.friend(other));
                let said = friend.map_or((false, false, false), |f| (f.asks, f.asked, f.blocks));
                if bits != said {
                    self.wrong(
                        5,
                        format!("{user} and {other} stand {bits:?} in {id}, and {user} has {said:?}"),
                    );
                }
            }
        }
    }
}
