//! Which buckets of users this node draws for, and how they change hands. Pure.
//!
//! What comes in: the ring, the owners' table, how far lane and award store are, and the answers to ticks. What goes out:
//! what the next tick asks for, and how the core holds each bucket ([`Holder`]). A bucket goes this way:
//!
//! - the ring gives it to us, and it stands free in the table: it is claimed;
//! - claimed: nobody draws until the award store has passed every lane position that its owners left ([`State::Waiting`]);
//! - then it is open, until the ring gives it to somebody else, or the node is drained;
//! - then nobody draws, and when every win of it is acknowledged in the lane, it is sealed in the table and forgotten.
//!
//! The ring is a wish: who draws is decided by the answers to claims and seals, which name the bucket's term. What an
//! answer does not name as ours is not ours. A claim whose answer was lost is made again until one is heard, also when the
//! ring has changed its mind meanwhile: otherwise the bucket would stay ours in the table, and nobody would draw for it.

use crate::core::{BUCKETS, Core};
use crate::ledger::TickAnswer;
use hashring::{Bucket, Ring};
use ownership::{BucketRow, ClaimBucket, Claimed, LaneEnd, SealBucket};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// Most buckets claimed by one tick, and most given up: a tick stays short, and others follow it at once.
pub const MOVES_MAX: usize = 1_024;

/// Who holds the users. The decision core does; a test may.
pub trait Holder {
    /// Claimed under this term; nobody may draw yet.
    fn wait(&self, bucket: u16, term: u32);
    /// Ours under this term.
    fn open(&self, bucket: u16, term: u32);
    /// Nobody draws any more. The log position behind the bucket's last win; 0: none.
    fn seal(&self, bucket: u16) -> u64;
    /// Somebody else's: users are forgotten.
    fn release(&self, bucket: u16);
}

impl Holder for Core {
    fn wait(&self, bucket: u16, term: u32) {
        Core::wait(self, usize::from(bucket), term);
    }

    fn open(&self, bucket: u16, term: u32) {
        Core::open(self, usize::from(bucket), term);
    }

    fn seal(&self, bucket: u16) -> u64 {
        Core::seal(self, usize::from(bucket))
    }

    fn release(&self, bucket: u16) {
        Core::release(self, usize::from(bucket));
    }
}

/// Where a bucket is on its way.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum State {
    /// Not ours.
    Elsewhere,
    /// Ours; the award store has not passed these positions.
    Waiting {
        /// Our term.
        term: u32,
        /// What it has still to pass.
        wait_for: Vec<LaneEnd>,
    },
    /// Ours, and drawn for.
    Open {
        /// Our term.
        term: u32,
    },
    /// Being given up: not drawn for any more.
    Sealing {
        /// Our term.
        term: u32,
        /// Behind its last win in our lane.
        end: u64,
    },
}

struct Slot {
    state: State,
    /// The ring gives it to us.
    wanted: bool,
    /// The term under which it stands free in the table, as far as we know.
    free: Option<u32>,
    /// Claimed under this term, and no answer was heard: it may be ours.
    asked: Option<u32>,
}

/// Buckets by state, for people and programs.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
pub struct BucketCounts {
    /// Drawn for.
    pub open: usize,
    /// Ours; the award store has not passed what their owners left.
    pub waiting: usize,
    /// Being given up.
    pub sealing: usize,
    /// The ring gives them to us, and somebody else has them.
    pub wanted: usize,
}

/// The buckets as one epoch of a node has them.
pub struct Buckets {
    node: u16,
    slots: Vec<Slot>,
    draining: bool,
    /// A bucket is drawn for before the award store has passed: only ever true in the simulation.
    open_early: bool,
}

impl Buckets {
    /// A node that has no bucket yet.
    pub fn new(node: u16) -> Buckets {
        let slot = || Slot { state: State::Elsewhere, wanted: false, free: None, asked: None };
        let slots = std::iter::repeat_with(slot).take(BUCKETS).collect();
        Buckets { node, slots, draining: false, open_early: false }
    }

    /// Plants a fault that the simulation must find: buckets are drawn for as soon as they are claimed.
    #[cfg(feature = "planted")]
    pub fn plant_open_early(&mut self) {
        self.open_early = true;
    }

    /// The ring as it is now.
    pub fn follow(&mut self, ring: &Ring) {
        for (bucket, slot) in Bucket::all().zip(&mut self.slots) {
            slot.wanted = !self.draining && ring.owner(bucket) == self.node;
        }
    }

    /// Everything is to be given up, whatever the ring says.
    pub fn drain(&mut self) {
        self.draining = true;
        self.slots.iter_mut().for_each(|slot| slot.wanted = false);
    }

    /// Lets nobody draw any more for buckets that are to be given up. Call it before [`Buckets::asks`].
    pub fn hold(&mut self, holder: &impl Holder) {
        for (bucket, slot) in (0u16..).zip(&mut self.slots) {
            if let State::Waiting { term, .. } | State::Open { term } = slot.state
                && !slot.wanted
            {
                slot.state = State::Sealing { term, end: holder.seal(bucket) };
            }
        }
    }

    /// The ring has taken away a bucket that is still drawn for: [`Buckets::hold`] is due.
    pub fn gives_up(&self) -> bool {
        let ours = |s: &Slot| matches!(s.state, State::Waiting { .. } | State::Open { .. });
        self.slots.iter().any(|slot| !slot.wanted && ours(slot))
    }

    /// Somebody else has a bucket that the ring gives to us: look at the table.
    pub fn looks(&self) -> bool {
        self.slots.iter().any(|s| s.wanted && s.state == State::Elsewhere && s.free.is_none())
    }

    /// What stands in the table: every bucket that ever had an owner.
    pub fn rows(&mut self, rows: &[BucketRow]) {
        let mut free = vec![Some(0); BUCKETS];
        for row in rows {
            if let Some(place) = free.get_mut(usize::from(row.bucket)) {
                *place = row.is_free().then_some(row.term);
            }
        }
        self.slots.iter_mut().zip(free).for_each(|(slot, free)| slot.free = free);
    }

    /// What the next tick asks for, when everything in the lane below `acknowledged` is safe.
    pub fn asks(&mut self, acknowledged: u64) -> (Vec<SealBucket>, Vec<ClaimBucket>) {
        let (mut seals, mut claims) = (Vec::new(), Vec::new());
        for (bucket, slot) in (0u16..).zip(&mut self.slots) {
            match slot.state {
                State::Sealing { term, end } if end <= acknowledged => {
                    seals.push(SealBucket { bucket, term, position: end });
                }
                State::Elsewhere if claims.len() < MOVES_MAX => {
                    slot.asked = slot.asked.or(slot.free.filter(|_| slot.wanted));
                    claims.extend(slot.asked.map(|term| ClaimBucket { bucket, term }));
                }
                _ => {}
            }
        }
        seals.truncate(MOVES_MAX);
        (seals, claims)
    }

    /// The answer to a tick that asked for these seals.
    pub fn answered(&mut self, seals: &[SealBucket], answer: &TickAnswer, holder: &impl Holder) {
        for seal in seals {
            // One that the answer doesn't name is somebody else's already; in either case it is not ours.
            let slot = &mut self.slots[usize::from(seal.bucket)];
            if slot.state == (State::Sealing { term: seal.term, end: seal.position }) {
                slot.state = State::Elsewhere;
                slot.free = None;
                holder.release(seal.bucket);
            }
        }
        for claimed in &answer.claimed {
            self.claimed(claimed, holder);
        }
        for refused in &answer.claims_refused {
            let slot = &mut self.slots[usize::from(refused.bucket)];
            (slot.free, slot.asked) = (refused.free.then_some(refused.term), None);
        }
    }

    fn claimed(&mut self, claimed: &Claimed, holder: &impl Holder) {
        let Claimed { bucket, term, wait_for } = claimed;
        let slot = &mut self.slots[usize::from(*bucket)];
        if slot.state != State::Elsewhere {
            return;
        }
        (slot.free, slot.asked) = (None, None);
        let wait_for: Vec<LaneEnd> = wait_for.iter().copied().filter(|w| w.position > 0).collect();
        if wait_for.is_empty() || self.open_early {
            slot.state = State::Open { term: *term };
            holder.open(*bucket, *term);
        } else {
            slot.state = State::Waiting { term: *term, wait_for };
            holder.wait(*bucket, *term);
        }
    }

    /// The lanes that some bucket waits for.
    pub fn waits_for(&self) -> BTreeSet<u16> {
        self.waits_until().into_keys().collect()
    }

    /// How far the award store must come until no bucket waits any more, by lane.
    pub fn waits_until(&self) -> BTreeMap<u16, u64> {
        let mut until = BTreeMap::new();
        for slot in &self.slots {
            let State::Waiting { wait_for, .. } = &slot.state else { continue };
            for end in wait_for {
                let highest = until.entry(end.lane).or_insert(0);
                *highest = end.position.max(*highest);
            }
        }
        until
    }

    /// How far the award store is, by lane. Buckets that need not wait any longer are opened.
    pub fn passed(&mut self, positions: &BTreeMap<u16, u64>, holder: &impl Holder) {
        for (bucket, slot) in (0u16..).zip(&mut self.slots) {
            let State::Waiting { term, wait_for } = &mut slot.state else { continue };
            wait_for.retain(|end| positions.get(&end.lane).is_none_or(|passed| *passed < end.position));
            if wait_for.is_empty() {
                let term = *term;
                slot.state = State::Open { term };
                holder.open(bucket, term);
            }
        }
    }

    /// Some bucket is drawn for.
    pub fn is_serving(&self) -> bool {
        self.slots.iter().any(|slot| matches!(slot.state, State::Open { .. }))
    }

    /// No bucket is ours.
    pub fn is_empty(&self) -> bool {
        self.slots.iter().all(|slot| slot.state == State::Elsewhere)
    }

    /// Where a bucket is.
    pub fn state(&self, bucket: u16) -> &State {
        &self.slots[usize::from(bucket)].state
    }

    /// Buckets by state.
    pub fn counts(&self) -> BucketCounts {
        let mut counts = BucketCounts::default();
        for slot in &self.slots {
            match slot.state {
                State::Open { .. } => counts.open += 1,
                State::Waiting { .. } => counts.waiting += 1,
                State::Sealing { .. } => counts.sealing += 1,
                State::Elsewhere => counts.wanted += usize::from(slot.wanted),
            }
        }
        counts
    }
}

#[cfg(test)]
mod tests {
    use super::{Buckets, Holder, MOVES_MAX, State};
    use crate::core::BUCKETS;
    use crate::ledger::TickAnswer;
    use hashring::{Member, Ring};
    use ownership::{BucketRow, ClaimBucket, SealBucket};
    use parking_lot::Mutex;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    /// What each bucket was last told, and where its last win stands.
    #[derive(Default)]
    struct Held(Mutex<BTreeMap<u16, (&'static str, u64)>>);

    impl Held {
        fn tell(&self, bucket: u16, how: &'static str) {
            self.0.lock().entry(bucket).or_default().0 = how;
        }
        fn how(&self, bucket: u16) -> &'static str {
            self.0.lock().get(&bucket).map_or("", |h| h.0)
        }
        fn won(&self, bucket: u16, end: u64) {
            assert_eq!(self.how(bucket), "open", "bucket {bucket} is drawn for");
            self.0.lock().entry(bucket).or_default().1 = end;
        }
    }

    impl Holder for Held {
        fn wait(&self, bucket: u16, _: u32) {
            self.tell(bucket, "wait");
        }
        fn open(&self, bucket: u16, _: u32) {
            self.0.lock().insert(bucket, ("open", 0));
        }
        fn seal(&self, bucket: u16) -> u64 {
            self.tell(bucket, "held");
            self.0.lock()[&bucket].1
        }
        fn release(&self, bucket: u16) {
            self.tell(bucket, "");
        }
    }

    /// The owners' table and two nodes.
    struct World {
        rows: BTreeMap<u16, BucketRow>,
        nodes: [(Buckets, Held); 2],
    }

    fn ring(weights: [u32; 2]) -> Ring {
        Ring::new(&[Member { node: 0, weight: weights[0] }, Member { node: 1, weight: weights[1] }], 1)
            .unwrap()
    }

    impl World {
        fn new() -> World {
            World { rows: BTreeMap::new(), nodes: [0, 1].map(|n| (Buckets::new(n), Held::default())) }
        }

        fn look(&mut self, n: usize) {
            let rows: Vec<BucketRow> = self.rows.values().cloned().collect();
            self.nodes[n].0.rows(&rows);
        }

        fn send(&mut self, n: usize, acknowledged: u64) -> (Vec<SealBucket>, TickAnswer) {
            let (buckets, held) = &mut self.nodes[n];
            buckets.hold(held);
            let (seals, claims) = buckets.asks(acknowledged);
            let answer = self.done(n, &seals, &claims);
            (seals, answer)
        }

        fn done(&mut self, n: usize, seals: &[SealBucket], claims: &[ClaimBucket]) -> TickAnswer {
            let mut answer = TickAnswer::default();
            let by = (n as u16, 1);
            for seal in seals {
                if self.rows.get_mut(&seal.bucket).is_some_and(|row| row.seal(by, seal)) {
                    answer.sealed.push(seal.bucket);
                }
            }
            for claim in claims {
                let row = self.rows.entry(claim.bucket).or_insert_with(|| BucketRow::fresh(claim.bucket));
                match row.claim(by, claim) {
                    Ok(claimed) => answer.claimed.push(claimed),
                    Err(refused) => answer.claims_refused.push(refused),
                }
            }
            answer
        }

        fn tick(&mut self, n: usize, acknowledged: u64) {
            let (seals, answer) = self.send(n, acknowledged);
            let (buckets, held) = &mut self.nodes[n];
            buckets.answered(&seals, &answer, held);
        }
    }

    #[test]
    fn a_bucket_changes_hands_when_its_wins_are_safe_and_read() {
        let mut w = World::new();
        w.nodes[0].0.follow(&ring([1, 0]));
        assert!(w.nodes[0].0.looks());
        w.look(0);
        for _ in 0..BUCKETS / MOVES_MAX {
            assert!(!w.nodes[0].0.looks());
            w.tick(0, 0);
        }
        assert_eq!(w.nodes[0].0.counts().open, BUCKETS);
        assert_eq!(w.nodes[0].0.asks(0), (vec![], vec![]));
        w.nodes[0].1.won(7, 41);
        (0..2).for_each(|n| w.nodes[n].0.follow(&ring([0, 1])));
        w.look(1);
        assert!(w.nodes[1].0.looks(), "they are not free");
        w.nodes[0].0.hold(&w.nodes[0].1);
        assert_eq!((w.nodes[0].1.how(7), w.nodes[0].0.is_serving()), ("held", false));
        for _ in 0..5 {
            w.tick(0, 40);
        }
        assert_eq!(w.nodes[0].0.state(7), &State::Sealing { term: 1, end: 41 }, "a win is not safe");
        assert_eq!(w.nodes[0].0.counts().sealing, 1);
        w.tick(0, 41);
        assert!(w.nodes[0].0.is_empty());
        w.look(1);
        for _ in 0..4 {
            w.tick(1, 0);
        }
        assert_eq!(
            (w.nodes[1].1.how(7), w.nodes[1].1.how(8)),
            ("wait", "open"),
            "nothing was won in bucket 8"
        );
        assert_eq!(w.nodes[1].0.waits_for().into_iter().collect::<Vec<_>>(), [0]);
        w.nodes[1].0.passed(&BTreeMap::from([(0, 40), (1, 900)]), &w.nodes[1].1);
        assert_eq!(w.nodes[1].1.how(7), "wait");
        w.nodes[1].0.passed(&BTreeMap::from([(0, 41)]), &w.nodes[1].1);
        assert_eq!(w.nodes[1].1.how(7), "open");
        w.nodes[1].0.drain();
        w.nodes[1].0.follow(&ring([0, 1]));
        for _ in 0..4 {
            w.tick(1, 0);
        }
        assert!(w.nodes[1].0.is_empty(), "a drained node keeps nothing, whatever the ring says");
    }

    #[derive(Clone, Debug)]
    enum Op {
        Ring(usize, [u32; 2]),
        Look(usize),
        Tick(usize),
        /// A tick whose answer is lost; it is repeated as it was.
        Lost(usize),
        /// A tick whose answer is lost for good.
        Unheard(usize),
        Copy(prop::sample::Index),
        Win(usize, u16),
        Passed(usize),
    }

    fn op() -> impl Strategy<Value = Op> {
        let n = 0usize..2;
        prop_oneof![
            (n.clone(), prop::sample::select(vec![[1, 0], [0, 1], [1, 1], [1, 3]]))
                .prop_map(|(n, w)| Op::Ring(n, w)),
            n.clone().prop_map(Op::Look),
            n.clone().prop_map(Op::Tick),
            n.clone().prop_map(Op::Tick),
            n.clone().prop_map(Op::Lost),
            n.clone().prop_map(Op::Unheard),
            any::<prop::sample::Index>().prop_map(Op::Copy),
            (n.clone(), 0u16..8).prop_map(|(n, b)| Op::Win(n, b)),
            n.prop_map(Op::Passed),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        /// Whatever rings, answers and old copies do: never do two nodes draw for a bucket, nobody draws before every
        /// win of it is known, and when peace comes every bucket is drawn for by whom the ring gives it to.
        #[test]
        fn nobody_else_draws(ops in prop::collection::vec(op(), 1..80)) {
            let mut w = World::new();
            let mut copies: Vec<(usize, Vec<SealBucket>, Vec<ClaimBucket>)> = Vec::new();
            // By bucket: lane, end and term of every win there was.
            let mut wins: BTreeMap<u16, Vec<(usize, u64, u32)>> = BTreeMap::new();
            let mut lanes = [0u64; 2];
            let mut store = [0u64; 2];
            for op in ops {
                match op {
                    Op::Ring(n, weights) => w.nodes[n].0.follow(&ring(weights)),
                    Op::Look(n) => w.look(n),
                    Op::Tick(n) | Op::Lost(n) => {
                        let (buckets, held) = &mut w.nodes[n];
                        buckets.hold(held);
                        let (seals, claims) = buckets.asks(lanes[n]);
                        copies.push((n, seals.clone(), claims.clone()));
                        if matches!(op, Op::Lost(_)) {
                            w.done(n, &seals, &claims);
                        }
                        let answer = w.done(n, &seals, &claims);
                        let (buckets, held) = &mut w.nodes[n];
                        buckets.answered(&seals, &answer, held);
                    }
                    Op::Unheard(n) => drop(w.send(n, lanes[n])),
                    Op::Copy(which) => {
                        if !copies.is_empty() {
                            let (n, seals, claims) = copies[which.index(copies.len())].clone();
                            w.done(n, &seals, &claims);
                        }
                    }
                    Op::Win(n, bucket) => {
                        if w.nodes[n].1.how(bucket) == "open" {
                            let &State::Open { term } = w.nodes[n].0.state(bucket) else { unreachable!() };
                            for (lane, end, of) in wins.get(&bucket).into_iter().flatten() {
                                prop_assert!(store[*lane] >= *end || *of == term, "a win in lane {} is not read", lane);
                            }
                            lanes[n] += 1;
                            wins.entry(bucket).or_default().push((n, lanes[n], term));
                            w.nodes[n].1.won(bucket, lanes[n]);
                        }
                    }
                    Op::Passed(n) => {
                        store = lanes;
                        let positions = BTreeMap::from([(0, store[0]), (1, store[1])]);
                        let (buckets, held) = &mut w.nodes[n];
                        buckets.passed(&positions, held);
                    }
                }
                for bucket in 0..8 {
                    prop_assert!((0..2).filter(|n| w.nodes[*n].1.how(bucket) == "open").count() < 2);
                }
            }
            let ring = ring([1, 1]);
            for turn in 0..24 {
                let n = turn % 2;
                w.nodes[n].0.follow(&ring);
                w.look(n);
                w.tick(n, lanes[n]);
                let (buckets, held) = &mut w.nodes[n];
                buckets.passed(&BTreeMap::from([(0, lanes[0]), (1, lanes[1])]), held);
            }
            for bucket in hashring::Bucket::all() {
                let owner = usize::from(ring.owner(bucket));
                prop_assert!(matches!(w.nodes[owner].0.state(bucket.get()), State::Open { .. }), "{:?}", bucket);
            }
        }
    }
}
