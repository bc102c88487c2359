//! Who is online, across nodes: the owner of a user's timeline knows, other nodes ask it and are told.
//!
//! A node whose connections look at a user asks the owner of that user's bucket ([`Timelines::presence_asks`]), and asks
//! again every few seconds as long as somebody looks. The owner answers each time, and tells whoever has asked lately when
//! it changes ([`Timelines::presence_words`]). So words may be lost, doubled and late: each carries a number that rises
//! over all owners, the newest counts, and the next question mends the rest. Nothing of it is stored.
//!
//! A silent connection counts as online only until its next beat is due, as everywhere; a user whose owner has said
//! nothing for a while counts as away. A new owner of a bucket says of nobody that he is away before his devices have had
//! time to arrive. Whoever watches is a connection, and a watch ends with it. When its user's timeline goes to another node,
//! or its node begins anew, the front door says whom it watches ([`Timelines::watch_again`]): it has not heard of what
//! changed in between, so it is told of each once more, whatever it knows.

use super::timelines::Timelines;
use crate::core::Pushing;
use crate::limits::{WATCHED_MAX, WATCHERS_MAX};
use hashring::bucket_of;
use protocol::calls::{ConnectionAt, DeviceAt};
use protocol::v1::PresenceOf;
use std::collections::{BTreeMap, BTreeSet};

/// A node that has asked is told of changes for so long, in ms.
pub const TOLD_MS: u64 = 15_000;
/// Time between two questions, in ms; and while there is no answer.
const RENEW_MS: u64 = 5_000;
const UNANSWERED_MS: u64 = 1_000;
/// A user whose owner has said nothing for so long counts as away, in ms.
const STALE_MS: u64 = 30_000;
/// A new owner says of nobody that he is away for so long, in ms.
const YOUNG_MS: u64 = 5_000;
/// Users whom the connections of a node look at; of more it asks nothing.
const LOOKED_AT_MAX: usize = 1 << 20;
/// Users looked after in one tick.
const TICK_MAX: usize = 8_192;

/// A user's presence, as the owner of his timeline says.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct PresenceWord {
    /// The presence.
    pub presence: PresenceOf,
    /// The term under which the owner has the user's bucket.
    pub term: u32,
    /// Rises within a term.
    pub number: u64,
}

/// What is known of some users.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct PresenceView {
    /// Of these.
    pub said: Vec<PresenceOf>,
    /// These have been asked for: look again when words have come, for as long as the asker has patience.
    pub missing: Vec<u64>,
}

/// A connection that watches.
#[derive(Clone, Copy)]
struct Watcher {
    user: u64,
    device: u64,
    at: ConnectionAt,
    /// What it knows may be old: it hears the next word, whatever that says.
    owed: bool,
}

impl Watcher {
    fn is(&self, who: DeviceAt) -> bool {
        (self.user, self.device, self.at) == (who.user, who.device, who.at)
    }
}

/// A user at whom somebody here looks.
#[derive(Default)]
struct LookedAt {
    /// Connections that are to hear of changes.
    watchers: Vec<Watcher>,
    /// Somebody has asked without watching; that is over then.
    until_ms: u64,
    since_ms: u64,
    /// The owner's last word, and when it came.
    said: Option<(PresenceWord, u64)>,
}

/// A node's part in it.
#[derive(Default)]
pub(super) struct Presences {
    looked_at: BTreeMap<u64, LookedAt>,
    /// When each of them is looked after: time, user.
    due: BTreeSet<(u64, u64)>,
    asks: Vec<u64>,
    /// Users of this node of whom others are told: node, until when.
    told: BTreeMap<u64, BTreeMap<u16, u64>>,
    /// Users of whom a node is to hear now.
    words: BTreeMap<u16, BTreeSet<u64>>,
    number: u64,
    sweep_ms: u64,
}

impl Timelines {
    /// Whether a user is online, if this node knows: his timeline is its own, and his devices have had time to arrive.
    pub(super) fn says(&self, user: u64, now_ms: u64) -> Option<PresenceOf> {
        let since_ms = self.since_ms(bucket_of(user).get())?;
        let presence = self.presence_of(user);
        let is_young = since_ms == 0 || now_ms < since_ms + YOUNG_MS;
        (presence.online || !is_young).then_some(presence)
    }

    /// The presence of users whom the asker may see. With `watch` his connection hears of changes from now on.
    pub fn presence(&mut self, who: DeviceAt, others: &[u64], watch: bool, now_ms: u64) -> PresenceView {
        let mut view = PresenceView::default();
        for other in others.iter().copied() {
            let is_here = self.owns(other);
            if watch || !is_here {
                self.look_at(other, watch.then_some(who), now_ms);
            }
            let known = if is_here { self.says(other, now_ms) } else { self.heard_of(other, now_ms) };
            match known {
                Some(presence) => view.said.push(presence),
                None => view.missing.push(other),
            }
        }
        view
    }

    fn heard_of(&self, other: u64, now_ms: u64) -> Option<PresenceOf> {
        let (word, said_ms) = self.presences.looked_at.get(&other)?.said.as_ref()?;
        (now_ms < said_ms + STALE_MS).then_some(word.presence)
    }

    fn look_at(&mut self, other: u64, watcher: Option<DeviceAt>, now_ms: u64) {
        let presences = &mut self.presences;
        if !presences.looked_at.contains_key(&other) {
            if presences.looked_at.len() >= LOOKED_AT_MAX {
                return;
            }
            let fresh = LookedAt { since_ms: now_ms, ..LookedAt::default() };
            presences.looked_at.insert(other, fresh);
            presences.asks.push(other);
            presences.due.insert((now_ms + UNANSWERED_MS, other));
        }
        let Some(looked_at) = presences.looked_at.get_mut(&other) else { return };
        looked_at.until_ms = now_ms + TOLD_MS;
        let Some(who @ DeviceAt { user, device, at }) = watcher else { return };
        let line = self.lines.get_mut(&user);
        let Some(conn) = line.and_then(|line| line.user.conn_mut(at, device)) else { return };
        let has_room = conn.watching.len() < WATCHED_MAX && looked_at.watchers.len() < WATCHERS_MAX;
        if has_room && !looked_at.watchers.iter().any(|watcher| watcher.is(who)) {
            looked_at.watchers.push(Watcher { user, device, at, owed: false });
            conn.watching.push(other);
        }
    }

    /// A connection goes on watching, as it did before its user's timeline came here. What is known of each is pushed, since
    /// it may have changed meanwhile; of whom nothing is known, the first word is. False when there is no such connection.
    pub fn watch_again(&mut self, who: DeviceAt, others: &[u64], now_ms: u64, out: &mut Pushing) -> bool {
        let line = self.lines.get_mut(&who.user);
        let Some(pushed) = line.and_then(|l| l.user.conn_mut(who.at, who.device)).map(|c| c.pushed) else {
            return false;
        };
        for other in others.iter().copied().take(WATCHED_MAX) {
            self.look_at(other, Some(who), now_ms);
            let known =
                if self.owns(other) { self.says(other, now_ms) } else { self.heard_of(other, now_ms) };
            if let Some(presence) = known {
                out.presence(&presence);
                out.target_at(who.user, who.device, who.at, pushed, pushed);
                continue;
            }
            let looked_at = self.presences.looked_at.get_mut(&other);
            let watchers = looked_at.into_iter().flat_map(|looked_at| &mut looked_at.watchers);
            watchers.filter(|watcher| watcher.is(who)).for_each(|watcher| watcher.owed = true);
        }
        true
    }

    /// Users whose owners are to be asked, each the owner of its bucket, this node too
    /// ([`presence_asked`](Timelines::presence_asked)).
    pub fn presence_asks(&mut self) -> Vec<u64> {
        std::mem::take(&mut self.presences.asks)
    }

    /// A node asks for users. Those of other owners are passed over: it asks again.
    pub fn presence_asked(&mut self, from: u16, users: &[u64], now_ms: u64) {
        for user in users.iter().copied().filter(|user| self.owns(*user)).collect::<Vec<_>>() {
            self.presences.told.entry(user).or_default().insert(from, now_ms + TOLD_MS);
            self.presences.words.entry(from).or_default().insert(user);
        }
    }

    /// What other nodes, and this one, are to be told ([`presence_said`](Timelines::presence_said)).
    pub fn presence_words(&mut self, now_ms: u64) -> Vec<(u16, Vec<PresenceWord>)> {
        for user in std::mem::take(&mut self.presence) {
            let nodes = self.presences.told.get(&user).into_iter().flatten();
            for (node, _) in nodes.filter(|(_, until)| **until > now_ms) {
                self.presences.words.entry(*node).or_default().insert(user);
            }
        }
        let mut words = Vec::new();
        for (node, users) in std::mem::take(&mut self.presences.words) {
            let mut some = Vec::with_capacity(users.len());
            for user in users {
                let term = self.term(bucket_of(user).get());
                let (Some(presence), Some(term)) = (self.says(user, now_ms), term) else { continue };
                self.presences.number += 1;
                some.push(PresenceWord { presence, term, number: self.presences.number });
            }
            if !some.is_empty() {
                words.push((node, some));
            }
        }
        words
    }

    /// What owners say. Connections that watch hear what has changed.
    pub fn presence_said(&mut self, words: &[PresenceWord], now_ms: u64, out: &mut Pushing) {
        for word in words {
            let Some(looked_at) = self.presences.looked_at.get_mut(&word.presence.user) else { continue };
            let before = looked_at.said.map(|(before, _)| before);
            if before.is_some_and(|before| (before.term, before.number) >= (word.term, word.number)) {
                continue;
            }
            looked_at.said = Some((*word, now_ms));
            let is_news = match before {
                Some(before) => before.presence.online != word.presence.online,
                // The first word is in the answer to whoever asked, unless he has given up waiting.
                None => word.presence.online && now_ms >= looked_at.since_ms + UNANSWERED_MS,
            };
            self.tell_presence(word.presence, is_news, out);
        }
    }

    /// Whoever watches is told, or those alone who know something that may be old.
    fn tell_presence(&mut self, presence: PresenceOf, all: bool, out: &mut Pushing) {
        let Some(looked_at) = self.presences.looked_at.get_mut(&presence.user) else { return };
        let mut has_begun = false;
        for watcher in &mut looked_at.watchers {
            if !std::mem::take(&mut watcher.owed) && !all {
                continue;
            }
            if !std::mem::replace(&mut has_begun, true) {
                out.presence(&presence);
            }
            let Watcher { user, device, at, .. } = *watcher;
            let conns = self.lines.get(&user).into_iter().flat_map(|line| &line.user.conns);
            for conn in conns.filter(|c| c.at == at && c.device == device) {
                out.target(user, conn, conn.pushed, conn.pushed);
            }
        }
    }

    /// What time brings to presence.
    pub(super) fn tick_presence(&mut self, now_ms: u64, out: &mut Pushing) {
        for _ in 0..TICK_MAX {
            let Some((due, other)) = self.presences.due.first().copied().filter(|(due, _)| *due <= now_ms)
            else {
                break;
            };
            self.presences.due.remove(&(due, other));
            self.look_after(other, now_ms, out);
        }
        if now_ms >= self.presences.sweep_ms {
            self.presences.sweep_ms = now_ms + TOLD_MS;
            self.presences.told.retain(|_, nodes| {
                nodes.retain(|_, until| *until > now_ms);
                !nodes.is_empty()
            });
        }
    }

    fn look_after(&mut self, other: u64, now_ms: u64, out: &mut Pushing) {
        let lines = &self.lines;
        let Some(looked_at) = self.presences.looked_at.get_mut(&other) else { return };
        looked_at.watchers.retain(|Watcher { user, device, at, .. }| {
            let line = lines.get(user);
            line.is_some_and(|line| line.user.conns.iter().any(|c| c.at == *at && c.device == *device))
        });
        if looked_at.watchers.is_empty() && looked_at.until_ms <= now_ms {
            self.presences.looked_at.remove(&other);
            return;
        }
        let mut silent = None;
        let mut wait_ms = UNANSWERED_MS;
        let heard_ms = looked_at.said.map_or(looked_at.since_ms, |(_, said_ms)| said_ms);
        if looked_at.said.is_some() && now_ms < heard_ms + 2 * RENEW_MS {
            wait_ms = RENEW_MS;
        } else if now_ms >= heard_ms + STALE_MS {
            let was_online = looked_at
                .said
                .as_mut()
                .is_some_and(|(word, _)| std::mem::replace(&mut word.presence.online, false));
            let away = PresenceOf { user: other, online: false, seen_ms: 0 };
            silent = Some((looked_at.said.map_or(away, |(word, _)| word.presence), was_online));
        }
        self.presences.asks.push(other);
        self.presences.due.insert((now_ms + wait_ms, other));
        if let Some((presence, was_online)) = silent {
            self.tell_presence(presence, was_online, out);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::ChatOptions;
    use protocol::calls::PartKind;

    const WATCHER: u64 = 3;
    const OTHER: u64 = 4;

    fn device(user: u64, connection: u64) -> DeviceAt {
        DeviceAt { user, device: 1, at: ConnectionAt { access: 1, connection } }
    }

    /// Two nodes, with a timeline each.
    fn nodes() -> (Timelines, Timelines) {
        assert_ne!(bucket_of(WATCHER), bucket_of(OTHER));
        let mut nodes = [(1, WATCHER), (2, OTHER)].map(|(node, user)| {
            let mut timelines = Timelines::new(ChatOptions::default(), node, 1);
            timelines.own(bucket_of(user).get(), 1);
            timelines
        });
        tick(&mut nodes[0], 1_000);
        tick(&mut nodes[1], 1_000);
        let [watcher, owner] = nodes;
        (watcher, owner)
    }

    fn tick(node: &mut Timelines, now_ms: u64) -> usize {
        let mut out = Pushing::default();
        node.tick(now_ms, &mut out);
        out.targets()
    }

    /// Everything that the nodes have to say to each other; how many pushes came of it.
    fn talk(watcher: &mut Timelines, owner: &mut Timelines, now_ms: u64) -> usize {
        let mut out = Pushing::default();
        owner.presence_asked(1, &watcher.presence_asks(), now_ms);
        for (node, words) in owner.presence_words(now_ms) {
            assert_eq!(node, 1);
            watcher.presence_said(&words, now_ms, &mut out);
        }
        let batches = out.take();
        let parts = batches.iter().flat_map(|(_, batch)| &batch.parts);
        assert!(parts.into_iter().all(|part| part.kind == PartKind::Presence));
        batches.iter().map(|(_, batch)| batch.targets.len()).sum()
    }

    #[test]
    fn a_watcher_hears_of_changes_at_another_node() {
        let (mut watcher, mut owner) = nodes();
        assert!(watcher.arrive(device(WATCHER, 8), 10_000));
        let view = watcher.presence(device(WATCHER, 8), &[OTHER, WATCHER], true, 10_000);
        assert_eq!((view.said.len(), &view.missing[..]), (1, &[OTHER][..]));
        assert_eq!(talk(&mut watcher, &mut owner, 10_010), 0, "it is in the answer");
        let view = watcher.presence(device(WATCHER, 8), &[OTHER], true, 10_020);
        assert_eq!((view.said[0].online, view.missing.len()), (false, 0));
        // He comes, twice; he goes.
        assert!(owner.arrive(device(OTHER, 9), 10_100));
        assert_eq!(talk(&mut watcher, &mut owner, 10_110), 1);
        assert!(owner.arrive(device(OTHER, 9), 10_200));
        assert_eq!(talk(&mut watcher, &mut owner, 10_210), 0);
        owner.leave(device(OTHER, 9), 10_300);
        assert_eq!(talk(&mut watcher, &mut owner, 10_310), 1);
        // A word is lost: the next question brings it.
        owner.arrive(device(OTHER, 9), 10_400);
        assert_eq!(owner.presence_words(10_410).len(), 1);
        tick(&mut watcher, 17_000);
        assert_eq!(talk(&mut watcher, &mut owner, 17_010), 1);
        // The watcher is gone: nobody is asked, and in the end nobody told.
        watcher.leave(device(WATCHER, 8), 18_000);
        tick(&mut watcher, 40_000);
        assert!(watcher.presence_asks().is_empty() && watcher.presences.looked_at.is_empty());
        tick(&mut owner, 40_000);
        owner.leave(device(OTHER, 9), 40_001);
        assert!(owner.presence_words(40_002).is_empty() && owner.presences.told.is_empty());
    }

    #[test]
    fn a_late_word_changes_nothing_and_a_silent_owner_means_away() {
        let (mut watcher, mut owner) = nodes();
        watcher.arrive(device(WATCHER, 8), 10_000);
        owner.arrive(device(OTHER, 9), 10_000);
        watcher.presence(device(WATCHER, 8), &[OTHER], true, 10_000);
        talk(&mut watcher, &mut owner, 10_010);
        owner.leave(device(OTHER, 9), 10_100);
        let away = owner.presence_words(10_100);
        owner.arrive(device(OTHER, 9), 10_200);
        assert_eq!(talk(&mut watcher, &mut owner, 10_210), 0, "he was online before");
        let mut out = Pushing::default();
        watcher.presence_said(&away[0].1, 10_300, &mut out);
        assert_eq!(out.targets(), 0);
        assert!(watcher.presence(device(WATCHER, 8), &[OTHER], true, 10_300).said[0].online);
        let pushed: usize = (11..50).map(|s| tick(&mut watcher, s * 1_000)).sum();
        assert_eq!(pushed, 1);
        assert_eq!(watcher.presence(device(WATCHER, 8), &[OTHER], true, 50_000).missing, [OTHER]);
    }

    /// What a connection that goes on watching is told at once.
    fn again(node: &mut Timelines, now_ms: u64) -> usize {
        let mut out = Pushing::default();
        assert!(node.watch_again(device(WATCHER, 8), &[OTHER], now_ms, &mut out));
        out.targets()
    }

    #[test]
    fn a_watch_goes_on_at_the_next_owner_of_the_watcher() {
        let (mut watcher, mut owner) = nodes();
        assert!(watcher.arrive(device(WATCHER, 8), 10_000) && owner.arrive(device(OTHER, 9), 10_000));
        watcher.presence(device(WATCHER, 8), &[OTHER], true, 10_000);
        talk(&mut watcher, &mut owner, 10_010);
        // His timeline goes to another node, and the other one goes away meanwhile: he believes him there.
        let moved = watcher.disown(bucket_of(WATCHER).get());
        assert_eq!((moved[0].device, &moved[0].watching[..]), (device(WATCHER, 8), &[OTHER][..]));
        owner.leave(device(OTHER, 9), 11_000);
        let mut next = Timelines::new(ChatOptions::default(), 1, 2);
        next.own(bucket_of(WATCHER).get(), 2);
        let mut out = Pushing::default();
        assert!(!next.watch_again(device(WATCHER, 8), &[OTHER], 11_000, &mut out), "he is not there yet");
        next.arrive(device(WATCHER, 8), 11_000);
        assert_eq!(again(&mut next, 11_000), 0);
        assert_eq!(
            talk(&mut next, &mut owner, 11_010),
            1,
            "the first word, although it says that nobody is there"
        );
        owner.arrive(device(OTHER, 9), 12_000);
        assert_eq!(talk(&mut next, &mut owner, 12_010), 1, "and every change from then on");
        assert_eq!(talk(&mut next, &mut owner, 12_020), 0);
        // Said once more, he hears at once what is known.
        assert_eq!(again(&mut next, 12_030), 1);
        // Of an owner who says nothing, he hears in the end that the other counts as away.
        let mut last = Timelines::new(ChatOptions::default(), 1, 3);
        last.own(bucket_of(WATCHER).get(), 3);
        last.arrive(device(WATCHER, 8), 13_000);
        assert_eq!(again(&mut last, 13_000), 0);
        assert_eq!((14..50).map(|s| tick(&mut last, s * 1_000)).sum::<usize>(), 1);
    }

    #[test]
    fn a_new_owner_lets_devices_arrive_first() {
        let (mut watcher, _) = nodes();
        let mut next = Timelines::new(ChatOptions::default(), 3, 1);
        next.own(bucket_of(OTHER).get(), 2);
        watcher.arrive(device(WATCHER, 8), 10_000);
        watcher.presence(device(WATCHER, 8), &[OTHER], true, 10_000);
        assert_eq!(talk(&mut watcher, &mut next, 10_000), 0);
        assert_eq!(watcher.presence(device(WATCHER, 8), &[OTHER], true, 10_001).missing, [OTHER]);
        tick(&mut next, 10_010);
        tick(&mut watcher, 20_000);
        tick(&mut next, 20_000);
        talk(&mut watcher, &mut next, 20_010);
        let view = watcher.presence(device(WATCHER, 8), &[OTHER], true, 20_020);
        assert_eq!((view.missing.len(), view.said[0].online), (0, false));
    }
}
