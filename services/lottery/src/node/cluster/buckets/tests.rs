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
    Ring::new(&[Member { node: 0, weight: weights[0] }, Member { node: 1, weight: weights[1] }], 1).unwrap()
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
    assert_eq!((w.nodes[1].1.how(7), w.nodes[1].1.how(8)), ("wait", "open"), "nothing was won in bucket 8");
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
