//! Which buckets this node has, wants and gives up, in one epoch. Pure.
//!
//! The ring is a wish. A bucket that it gives to this node and that stands free in the book is claimed, under the term in
//! which it was seen free; what the answer names is ours. A bucket of ours that the ring gives to somebody else is given up:
//! it is closing until nothing of it is under way, then it is sealed in the book, and forgotten when the book has answered.
//! A claim or a seal without an answer is made again as it was, also when the ring has changed its mind meanwhile.

use crate::store::owners::{BucketTerm, OwnerAnswer, OwnerTick};
use hashring::{BUCKET_COUNT, Bucket, Ring};
use ownership::BucketRow;
use serde::Serialize;

/// Where a bucket is on its way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    /// Not ours.
    Elsewhere,
    /// Ours under a term.
    Open(u32),
    /// Ours, and nothing new is begun in it.
    Closing(u32),
    /// Nothing of it is under way; the book is being told.
    Sealing(u32),
}

#[derive(Clone, Copy)]
struct Slot {
    state: State,
    /// The ring gives it to us.
    wanted: bool,
    /// The term under which it stands free in the book, as far as we know.
    free: Option<u32>,
    /// Claimed under this term, and no answer was heard: it may be ours.
    asked: Option<u32>,
}

/// Buckets by state, for people and programs.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
pub struct BucketCounts {
    /// Owned.
    pub open: usize,
    /// Owned, and being given up.
    pub closing: usize,
    /// The ring gives them to this node, and it does not have them yet.
    pub wanted: usize,
}

/// What an answer of the book changes.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Moves {
    /// Ours now.
    pub came: Vec<BucketTerm>,
    /// Not ours any more.
    pub gone: Vec<u16>,
}

/// The buckets of an epoch.
pub(super) struct Buckets {
    node: u16,
    epoch: u32,
    slots: Vec<Slot>,
    draining: bool,
}

impl Buckets {
    /// A node that has none in its epoch yet.
    pub fn new(node: u16, epoch: u32) -> Buckets {
        let slot = Slot { state: State::Elsewhere, wanted: false, free: None, asked: None };
        Buckets { node, epoch, slots: vec![slot; BUCKET_COUNT], draining: false }
    }

    /// The ring as it is now.
    pub fn follow(&mut self, ring: &Ring) {
        for (bucket, slot) in Bucket::all().zip(&mut self.slots) {
            slot.wanted = !self.draining && ring.owner(bucket) == self.node;
        }
    }

    /// Everything is given up, whatever the ring says.
    pub fn drain(&mut self) {
        self.draining = true;
        self.slots.iter_mut().for_each(|slot| slot.wanted = false);
    }

    /// Buckets that are to be given up from now on.
    pub fn close(&mut self) -> Vec<u16> {
        let mut closing = Vec::new();
        for (bucket, slot) in (0u16..).zip(&mut self.slots) {
            if let State::Open(term) = slot.state
                && !slot.wanted
            {
                slot.state = State::Closing(term);
                closing.push(bucket);
            }
        }
        closing
    }

    /// Whether the book is to be looked at: somebody else has a bucket that the ring gives to us.
    pub fn looks(&self) -> bool {
        let is_looked_for = |s: &Slot| s.wanted && s.state == State::Elsewhere && s.free.is_none();
        self.slots.iter().any(is_looked_for)
    }

    /// What stands in the book: every bucket that ever had an owner.
    pub fn rows(&mut self, rows: &[BucketRow]) {
        let mut free = vec![Some(0); BUCKET_COUNT];
        let mut ours = Vec::new();
        for row in rows {
            let Some(place) = free.get_mut(usize::from(row.bucket)) else { continue };
            *place = row.is_free().then_some(row.term);
            if row.owner == Some((self.node, self.epoch)) && !row.is_free() {
                ours.push((usize::from(row.bucket), row.term));
            }
        }
        self.slots.iter_mut().zip(free).for_each(|(slot, free)| slot.free = free);
        // Ours in the book, and we don't know it: the same claim again tells, and it can be given up then.
        for (bucket, term) in ours {
            let slot = &mut self.slots[bucket];
            if slot.state == State::Elsewhere && slot.asked.is_none() {
                slot.asked = term.checked_sub(1);
            }
        }
    }

    /// What the next tick asks for: buckets to seal and buckets to claim, at most `max` of each. `is_idle`: nothing of a
    /// bucket is under way.
    pub fn asks(&mut self, max: usize, is_idle: impl Fn(u16) -> bool) -> (Vec<BucketTerm>, Vec<BucketTerm>) {
        let (mut seals, mut claims) = (Vec::new(), Vec::new());
        for (bucket, slot) in (0u16..).zip(&mut self.slots) {
            if let State::Closing(term) = slot.state
                && is_idle(bucket)
            {
                slot.state = State::Sealing(term);
            }
            match slot.state {
                State::Sealing(term) if seals.len() < max => seals.push(BucketTerm { bucket, term }),
                State::Elsewhere if claims.len() < max => {
                    slot.asked = slot.asked.or(slot.free.filter(|_| slot.wanted));
                    claims.extend(slot.asked.map(|term| BucketTerm { bucket, term }));
                }
                _ => {}
            }
        }
        (seals, claims)
    }

    /// The answer to a tick.
    pub fn answered(&mut self, tick: &OwnerTick, answer: &OwnerAnswer) -> Moves {
        let mut moves = Moves::default();
        for seal in &tick.seals {
            // One that the answer doesn't name is somebody else's already: in either case it is not ours.
            let slot = &mut self.slots[usize::from(seal.bucket)];
            if slot.state == State::Sealing(seal.term) {
                (slot.state, slot.free) = (State::Elsewhere, None);
                moves.gone.push(seal.bucket);
            }
        }
        for claimed in &answer.claimed {
            let slot = &mut self.slots[usize::from(claimed.bucket)];
            if slot.state == State::Elsewhere {
                *slot = Slot { state: State::Open(claimed.term), free: None, asked: None, ..*slot };
                moves.came.push(*claimed);
            }
        }
        for refused in &answer.refused {
            let slot = &mut self.slots[usize::from(refused.bucket)];
            (slot.free, slot.asked) = (refused.free.then_some(refused.term), None);
        }
        moves
    }

    /// A step found a bucket to be somebody else's. False when that is known, or was said of another term.
    pub fn lost(&mut self, bucket: u16, term: u32) -> bool {
        let slot = &mut self.slots[usize::from(bucket)];
        let (State::Open(had) | State::Closing(had) | State::Sealing(had)) = slot.state else { return false };
        if had != term {
            return false;
        }
        *slot = Slot { state: State::Elsewhere, free: None, asked: None, ..*slot };
        true
    }

    /// Some bucket is closing or being sealed, or was asked for: the next tick need not wait.
    pub fn is_moving(&self) -> bool {
        let moves = |s: &Slot| {
            matches!(s.state, State::Closing(_) | State::Sealing(_))
                || (s.state == State::Elsewhere && (s.asked.is_some() || (s.wanted && s.free.is_some())))
        };
        self.slots.iter().any(moves)
    }

    /// Buckets that are being given up.
    pub fn closing(&self) -> impl Iterator<Item = u16> + '_ {
        let is_closing = |slot: &Slot| matches!(slot.state, State::Closing(_));
        (0u16..).zip(&self.slots).filter(move |(_, slot)| is_closing(slot)).map(|(bucket, _)| bucket)
    }

    /// Whether a bucket is ours.
    pub fn has(&self, bucket: u16) -> bool {
        self.slots.get(usize::from(bucket)).is_some_and(|slot| slot.state != State::Elsewhere)
    }

    /// Nothing is ours, and no claim may still make something ours.
    pub fn is_empty(&self) -> bool {
        self.slots.iter().all(|slot| slot.state == State::Elsewhere && slot.asked.is_none())
    }

    /// Buckets by state.
    pub fn counts(&self) -> BucketCounts {
        let mut counts = BucketCounts::default();
        for slot in &self.slots {
            match slot.state {
                State::Open(_) => counts.open += 1,
                State::Closing(_) | State::Sealing(_) => counts.closing += 1,
                State::Elsewhere => counts.wanted += usize::from(slot.wanted),
            }
        }
        counts
    }
}

#[cfg(test)]
mod tests {
    use super::{BucketTerm, Buckets, OwnerTick, State};
    use crate::store::owners::{MemoryOwners, OwnerAnswer, OwnerBook};
    use hashring::{BUCKET_COUNT, Member, Ring};
    use proptest::prelude::*;
    use runtime::ManualClock;
    use std::collections::{BTreeMap, BTreeSet};

    fn ring(weights: [u32; 2]) -> Ring {
        Ring::new(&[Member { node: 1, weight: weights[0] }, Member { node: 2, weight: weights[1] }], 1)
            .unwrap()
    }

    /// Two nodes with one book, and what is under way in each node's buckets.
    struct World {
        book: MemoryOwners,
        nodes: Vec<Buckets>,
        /// What each believes to own.
        owned: Vec<BTreeMap<u16, u32>>,
        busy: BTreeSet<u16>,
    }

    impl World {
        async fn new() -> World {
            let book = MemoryOwners::new(ManualClock::new(1_000_000));
            let mut nodes = Vec::new();
            for node in [1, 2] {
                let begun = book.begin(node, 0).await.unwrap();
                nodes.push(Buckets::new(node, begun.epoch));
            }
            World { book, nodes, owned: vec![BTreeMap::new(); 2], busy: BTreeSet::new() }
        }

        /// Something begins in a bucket, unless somebody gives it up.
        fn begin(&mut self, bucket: u16) {
            let gives_up = |buckets: &Buckets| {
                matches!(buckets.slots[usize::from(bucket)].state, State::Closing(_) | State::Sealing(_))
            };
            if !self.nodes.iter().any(gives_up) {
                self.busy.insert(bucket);
            }
        }

        async fn look(&mut self, n: usize) {
            let rows = self.book.buckets().await.unwrap();
            self.nodes[n].rows(&rows);
        }

        /// A tick; `is_heard`: its answer arrives.
        async fn tick(&mut self, n: usize, is_heard: bool) {
            let buckets = &mut self.nodes[n];
            buckets.close();
            let busy = &self.busy;
            let (seals, claims) = buckets.asks(BUCKET_COUNT, |bucket| !busy.contains(&bucket));
            assert!(seals.iter().all(|seal| !self.busy.contains(&seal.bucket)));
            let tick = OwnerTick { node: buckets.node, epoch: buckets.epoch, seals, claims };
            let answer = self.book.tick(&tick).await.unwrap();
            if is_heard {
                self.answered(n, &tick, &answer);
            }
        }

        fn answered(&mut self, n: usize, tick: &OwnerTick, answer: &OwnerAnswer) {
            let moves = self.nodes[n].answered(tick, answer);
            for bucket in moves.gone {
                assert!(self.owned[n].remove(&bucket).is_some());
            }
            for BucketTerm { bucket, term } in moves.came {
                assert!(self.owned[1 - n].get(&bucket).is_none_or(|other| *other < term));
                assert_eq!(self.owned[n].insert(bucket, term), None);
            }
        }
    }

    #[tokio::test]
    async fn a_bucket_changes_hands_when_nothing_of_it_is_under_way() {
        let mut w = World::new().await;
        w.nodes[0].follow(&ring([1, 0]));
        assert!(w.nodes[0].looks() && w.nodes[0].is_empty());
        w.look(0).await;
        w.tick(0, false).await;
        w.tick(0, true).await;
        assert_eq!(w.nodes[0].counts().open, BUCKET_COUNT, "the claim's second answer was heard");
        assert!(!w.nodes[0].looks() && !w.nodes[0].is_moving());
        (0..2).for_each(|n| w.nodes[n].follow(&ring([0, 1])));
        w.busy.insert(9);
        w.tick(0, true).await;
        assert_eq!(w.nodes[0].counts().closing, 1, "one is busy");
        w.look(1).await;
        w.tick(1, true).await;
        assert_eq!((w.nodes[1].counts().open, w.nodes[1].looks()), (BUCKET_COUNT - 1, true));
        w.busy.clear();
        w.tick(0, true).await;
        assert!(w.nodes[0].is_empty() && !w.nodes[0].has(9));
        w.look(1).await;
        w.tick(1, true).await;
        assert_eq!(w.owned[1].len(), BUCKET_COUNT);
        assert_eq!(w.owned[1][&9], 2);
        w.nodes[1].drain();
        w.tick(1, true).await;
        assert!(w.nodes[1].is_empty());
    }

    #[tokio::test]
    async fn what_a_step_found_lost_is_looked_for_again() {
        let mut w = World::new().await;
        w.nodes[0].follow(&ring([1, 0]));
        w.look(0).await;
        w.tick(0, true).await;
        assert!(!w.nodes[0].lost(5, 7), "said of another term");
        assert!(w.nodes[0].lost(5, 1) && !w.nodes[0].lost(5, 1));
        assert!(w.nodes[0].looks() && !w.nodes[0].has(5));
        // The book says that it is ours after all: it is claimed as before, and ours.
        w.owned[0].remove(&5);
        w.look(0).await;
        w.tick(0, true).await;
        assert_eq!(w.owned[0].get(&5), Some(&1));
    }

    proptest! {
        // Each case moves all buckets many times.
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn two_nodes_never_own_a_bucket_and_the_ring_comes_true(
            steps in prop::collection::vec((0usize..2, 0u8..6, 0u32..3, 0u32..3), 1..40)
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            runtime.block_on(async {
                let mut w = World::new().await;
                let mut last = [1, 1];
                for (n, what, a, b) in steps {
                    match what {
                        0 if a + b > 0 => {
                            last = [a, b];
                            w.nodes[n].follow(&ring(last));
                        }
                        1 => w.look(n).await,
                        2 => w.tick(n, false).await,
                        // Nothing new begins in a bucket that is given up.
                        3 => w.begin(a as u16 * 7),
                        4 => w.busy.clear(),
                        _ => w.tick(n, true).await,
                    }
                }
                w.busy.clear();
                (0..2).for_each(|n| w.nodes[n].follow(&ring(last)));
                for _ in 0..4 {
                    for n in 0..2 {
                        w.look(n).await;
                        w.tick(n, true).await;
                    }
                }
                let ring = ring(last);
                for bucket in hashring::Bucket::all() {
                    let owner = usize::from(ring.owner(bucket)) - 1;
                    assert!(w.owned[owner].contains_key(&bucket.get()));
                    assert!(!w.owned[1 - owner].contains_key(&bucket.get()));
                }
            });
        }
    }
}
