//! A node and the owners' book: sessions, buckets to give up and to claim, epochs of the dead.

use super::load::Load;
use super::world::{BUCKETS, Event, World};
use std::collections::{BTreeMap, BTreeSet};

/// Time between two calls to the book, ms.
const BOOK_MS: u64 = 200;

/// A call to the owners' book, and its answer. A node has one under way, and repeats it until it is answered.
#[derive(Clone)]
pub(super) struct BookCall {
    n: usize,
    life: u32,
    number: u64,
    by: (u16, u32),
    seals: Vec<(u16, u32)>,
    claims: Vec<(u16, u32)>,
    ids_until_ms: u64,
    is_over: bool,
    sealed: Vec<u16>,
    claimed: Vec<(u16, u32)>,
    owners: BTreeMap<u16, u16>,
    free: BTreeMap<u16, u32>,
    wanted: BTreeSet<u16>,
}

impl World {
    /// A node calls the book: with the call that is not answered, or another.
    pub fn book_called(&mut self, n: usize) {
        let life = self.nodes[n].life;
        self.next_id += 1;
        let number = self.next_id;
        let (node, now_ms) = (self.nodes[n].number, self.now_ms);
        let Some(up) = self.nodes[n].up.as_mut() else { return };
        let idle = |bucket: &&u16| up.conversations.is_idle(**bucket) && up.timelines.is_idle(**bucket);
        let seals = up.closing.iter().filter(idle).filter_map(|b| Some((*b, *up.owned.get(b)?))).collect();
        let fresh = || BookCall {
            n,
            life,
            number,
            by: (node, up.epoch),
            seals,
            claims: up.free.iter().map(|(bucket, term)| (*bucket, *term)).collect(),
            ids_until_ms: up.conversations.state.ids.wants(now_ms).unwrap_or(0),
            is_over: false,
            sealed: Vec::new(),
            claimed: Vec::new(),
            owners: BTreeMap::new(),
            free: BTreeMap::new(),
            wanted: BTreeSet::new(),
        };
        let call = up.call.take().unwrap_or_else(fresh);
        up.call = Some(call.clone());
        let trouble = self.config.store_trouble;
        let wait = if self.trouble(trouble) { self.between(300, 4_000) } else { self.between(1, 8) };
        self.push(wait, Event::BookComes(Box::new(call)));
        self.push(BOOK_MS, Event::Book(n, life));
    }

    /// The call comes to the book.
    pub fn book_comes(&mut self, mut call: BookCall) {
        if self.is_out() {
            return;
        }
        let (now_ms, by) = (self.now_ms, call.by);
        if !self.store.renew(by.0, by.1, now_ms) {
            call.is_over = true;
        } else {
            call.sealed =
                call.seals.iter().filter(|(b, t)| self.store.seal(by, *b, *t)).map(|(b, _)| *b).collect();
            for (bucket, seen) in &call.claims {
                if let Some(term) = self.store.claim(by, *bucket, *seen) {
                    call.claimed.push((*bucket, term));
                }
            }
            let reserved = self.store.ids.entry(by.0).or_default();
            *reserved = (*reserved).max(call.ids_until_ms);
            let open: Vec<(u16, u32)> = self
                .store
                .nodes
                .values()
                .filter(|row| row.is_open())
                .map(|row| (row.node, row.epoch))
                .collect();
            for (node, epoch) in open {
                if self.store.end(node, epoch, ownership::EndReason::Expired, now_ms) {
                    self.say(format_args!("node {} ends epoch {epoch} of node {node}", by.0));
                }
            }
            self.book_read(&mut call);
        }
        let trouble = self.config.store_trouble;
        if !self.trouble(trouble) {
            let wait = self.between(1, 10);
            self.push(wait, Event::BookAnswers(Box::new(call)));
        }
    }

    /// What stands in the book, and which buckets the node is to have.
    fn book_read(&self, call: &mut BookCall) {
        let alive = self.store.alive(self.now_ms);
        let takes = |node: &u16| !self.nodes[usize::from(*node - 1)].is_draining;
        let mut members: Vec<u16> = alive.iter().copied().filter(takes).collect();
        if members.is_empty() {
            members = alive.into_iter().collect();
        }
        for bucket in 0..BUCKETS {
            if let Some((node, _)) = self.store.owner(bucket) {
                call.owners.insert(bucket, node);
            } else {
                call.free.insert(bucket, self.store.buckets.get(&bucket).map_or(0, |row| row.term));
            }
            // Neighbours go to different nodes, and every change of the members moves many.
            if members.get((usize::from(bucket) * 7 + 3) % members.len().max(1)) == Some(&call.by.0) {
                call.wanted.insert(bucket);
            }
        }
    }

    /// The book's answer comes back.
    pub fn book_answers(&mut self, call: BookCall) {
        let n = call.n;
        if !self.is_there(n, call.life) {
            return;
        }
        if self.is_frozen(n) {
            let wait = self.nodes[n].frozen_until - self.now_ms;
            return self.push(wait, Event::BookAnswers(Box::new(call)));
        }
        if call.is_over {
            self.say(format_args!("node {} hears that its epoch is over", n + 1));
            return self.kill(n, 10);
        }
        let Some(up) = self.nodes[n].up.as_mut() else { return };
        if up.call.take_if(|under_way| under_way.number == call.number).is_none() {
            return;
        }
        up.conversations.state.ids.reserved(call.ids_until_ms);
        up.free = call.free.into_iter().filter(|(bucket, _)| call.wanted.contains(bucket)).collect();
        up.seen = call.owners;
        up.conversations.hand_again();
        let mut lost: BTreeSet<u16> = call.sealed.into_iter().collect();
        // What the book gives to another is another's.
        let ours = |bucket: &u16| up.seen.get(bucket) == Some(&call.by.0);
        let claimed: BTreeSet<u16> = call.claimed.iter().map(|(b, _)| *b).collect();
        lost.extend(
            up.owned.keys().filter(|b| up.seen.contains_key(*b) && !ours(b) && !claimed.contains(*b)),
        );
        for bucket in up.owned.keys().filter(|bucket| !call.wanted.contains(*bucket)) {
            up.closing.insert(*bucket);
            up.conversations.give_up(*bucket);
            up.timelines.give_up(*bucket);
        }
        self.lose(n, &lost);
        for (bucket, term) in call.claimed {
            self.own(n, bucket, term);
        }
        self.pump(n);
    }

    fn own(&mut self, n: usize, bucket: u16, term: u32) {
        let Some(up) = self.nodes[n].up.as_mut() else { return };
        up.free.remove(&bucket);
        if up.owned.get(&bucket).is_some_and(|owned| *owned >= term) {
            return;
        }
        up.owned.insert(bucket, term);
        up.closing.remove(&bucket);
        up.conversations.own(bucket, term);
        up.timelines.own(bucket, term);
        self.counters.claims += 1;
        self.say(format_args!("node {} owns bucket {bucket} under term {term}", n + 1));
        self.load(n, Load::Unfanned(bucket, term));
    }

    /// Buckets are not this node's any more.
    pub fn lose(&mut self, n: usize, buckets: &BTreeSet<u16>) {
        let mut refused = Vec::new();
        let Some(up) = self.nodes[n].up.as_mut() else { return };
        for bucket in buckets {
            up.owned.remove(bucket);
            up.closing.remove(bucket);
            refused.extend(up.conversations.disown(*bucket));
            up.timelines.disown(*bucket);
        }
        refused.into_iter().for_each(|then| self.refuse(then));
    }
}
