//! Generated sequences of calls: every ledger answers alike, and after each call an auditor who has only seen the
//! answers finds the laws kept.

use super::{OPEN_MS, Sketch, key, pg_ledger, plan, raise, run, sql_ledger};
use crate::ledger::port::*;
use crate::ledger::rows::{LeaseKey, PrizeKey, Rows};
use crate::ledger::{MemoryLedger, QuotaLedger};
use campaign::{CampaignId, LeaseId, NodeEpoch, NodeId, Plan, Ranges, SeqNo, Slot};
use ownership::{ClaimBucket, EndReason, SealBucket};
use proptest::prelude::*;
use records::LeaseRange;
use runtime::ManualClock;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use testkit::servers::FreshDatabase;

/// A call, or time that passes.
#[derive(Clone, Debug)]
enum Op {
    Wait(u64),
    /// Node, prize, units wanted; closes its oldest lease of the prize, of which `used` of 8 parts were used.
    Tick {
        node: u16,
        prize: u32,
        units: u32,
        close: Option<u8>,
        twice: bool,
    },
    /// The node stops without a word; its open leases are left with `used` of 8 parts used. It comes back later.
    Crash {
        node: u16,
        used: u8,
    },
    Raise {
        prize: u32,
        units: u64,
    },
    Lower {
        prize: u32,
        units: u64,
    },
    Pause {
        prize: u32,
    },
    Resume {
        prize: u32,
    },
    Register {
        back: u64,
    },
    Buckets {
        node: u16,
        bucket: u16,
        seal: bool,
    },
    /// An old call of an ended epoch arrives.
    Late,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => (1u64..900).prop_map(Op::Wait),
        1 => (900u64..9_000).prop_map(Op::Wait),
        9 => (1u16..4, 1u32..5, 1u32..80, prop::option::of(0u8..=8), any::<bool>())
            .prop_map(|(node, prize, units, close, twice)| Op::Tick { node, prize, units, close, twice }),
        1 => (1u16..4, 0u8..=8).prop_map(|(node, used)| Op::Crash { node, used }),
        1 => (1u32..5, 1u64..90).prop_map(|(prize, units)| Op::Raise { prize, units }),
        1 => (1u32..5, 1u64..90).prop_map(|(prize, units)| Op::Lower { prize, units }),
        1 => (1u32..5).prop_map(|prize| Op::Pause { prize }),
        2 => (1u32..5).prop_map(|prize| Op::Resume { prize }),
        1 => (0u64..3).prop_map(|back| Op::Register { back }),
        1 => (1u16..4, 0u16..3, any::<bool>()).prop_map(|(node, bucket, seal)| Op::Buckets { node, bucket, seal }),
        1 => Just(Op::Late),
    ]
}

/// A node as it sees itself.
#[derive(Default)]
struct Player {
    epoch: u32,
    next_lease: u64,
    /// Lease numbers that were answered with 'nothing': used again for the same prize.
    pending: BTreeMap<PrizeKey, LeaseId>,
    open: Vec<(LeaseId, PrizeKey, Vec<LeaseRange>)>,
    terms: BTreeMap<u16, u32>,
}

struct World {
    clock: Arc<ManualClock>,
    ledgers: Vec<Arc<dyn QuotaLedger>>,
    memory: Arc<MemoryLedger>,
    plans: Vec<Plan>,
    seq_no: u64,
    players: BTreeMap<u16, Player>,
    /// Units that became awards.
    awards: BTreeSet<(PrizeKey, u64)>,
    /// Units of a vendor's prizes by slot.
    placed: BTreeMap<(u32, Slot), u64>,
    last_call: Option<Tick>,
}

/// Which ledgers play along beside the one in memory.
#[derive(Default)]
struct Others<'a> {
    sqlite: Option<&'a tempfile::TempDir>,
    postgres: Option<&'a FreshDatabase>,
}

/// Asks every ledger; the answers must be the same.
macro_rules! all {
    ($world:expr, $ledger:ident => $call:expr) => {{
        let mut answers = Vec::new();
        for $ledger in &$world.ledgers {
            answers.push($call.await);
        }
        let first = answers.swap_remove(0);
        for other in answers {
            assert_eq!(first, other);
        }
        first
    }};
}

/// The first parts of a lease, in the order of its numbers.
fn used_part(ranges: &[LeaseRange], eighths: u8) -> (Ranges, Ranges) {
    let mut rest: Ranges = ranges.iter().flat_map(|r| r.units.first..r.units.end()).collect();
    let used = rest.take_lowest(rest.len() * u64::from(eighths) / 8);
    (used, rest)
}

/// Units a second of vendor 1 in these tests.
const VENDOR_LIMIT: u64 = 40;

fn first_plan() -> Plan {
    let prizes = [Sketch(1, 300, 1, 0), Sketch(2, 200, 1, 0), Sketch(3, 3, 2, 0), Sketch(4, 100, 2, 7)];
    plan(1, 30_000, &prizes, &[(1, VENDOR_LIMIT), (2, 0)])
}

impl World {
    async fn new(others: &Others<'_>) -> World {
        let clock = ManualClock::new(OPEN_MS - 500);
        let memory = Arc::new(MemoryLedger::new(clock.clone()));
        let mut ledgers: Vec<Arc<dyn QuotaLedger>> = vec![memory.clone()];
        if let Some(folder) = others.sqlite {
            ledgers.push(Arc::new(sql_ledger(&clock, folder).await));
        }
        if let Some(database) = others.postgres {
            ledgers.push(Arc::new(pg_ledger(&clock, database).await));
        }
        let plans = vec![first_plan()];
        let (players, awards, placed) = (BTreeMap::new(), BTreeSet::new(), BTreeMap::new());
        let mut world =
            World { clock, ledgers, memory, plans, seq_no: 1, players, awards, placed, last_call: None };
        let plan = world.plans[0].clone();
        let _ = all!(world, l => l.register(&plan));
        for node in 1..4 {
            world.begin(node).await;
        }
        world
    }

    async fn begin(&mut self, node: u16) {
        let epoch = all!(self, l => l.begin_epoch(NodeId(node), NodeEpoch(0))).unwrap();
        self.players.insert(node, Player { epoch: epoch.0, ..Player::default() });
    }

    async fn apply(&mut self, op: &Op) {
        match *op {
            Op::Wait(ms) => self.clock.advance_ms(ms),
            Op::Tick { node, prize, units, close, twice } => {
                self.tick(node, prize, units, close, twice).await
            }
            Op::Crash { node, used } => self.crash(node, used).await,
            Op::Raise { prize, units } => {
                let mut plan = self.plans[self.plans.len() - 1].clone();
                raise(&mut plan, prize, units);
                self.seq_no += 1;
                plan.seq_no = SeqNo(self.seq_no);
                all!(self, l => l.register(&plan)).unwrap();
                self.plans.push(plan);
            }
            Op::Register { back } => {
                let at = self.plans.len().saturating_sub(1 + back as usize);
                let plan = self.plans[at].clone();
                let before = self.money();
                all!(self, l => l.register(&plan)).unwrap();
                assert_eq!(self.money(), before, "a plan that is known raises nothing");
            }
            Op::Lower { prize, units } => {
                let (prize, seq_no) = (key(prize), self.next_seq_no());
                let before = self.money();
                let done = all!(self, l => l.lower(prize, seq_no, units)).unwrap();
                assert_eq!(done.budget.units + done.cancelled, before[&prize]);
                let again = all!(self, l => l.lower(prize, seq_no, units)).unwrap();
                assert_eq!((again.cancelled, again.budget.units), (0, done.budget.units));
            }
            Op::Pause { prize } => {
                let (prize, seq_no) = (key(prize), self.next_seq_no());
                assert!(all!(self, l => l.pause(prize, seq_no)).unwrap().paused);
            }
            Op::Resume { prize } => {
                let (prize, seq_no) = (key(prize), self.next_seq_no());
                assert!(!all!(self, l => l.resume(prize, seq_no)).unwrap().paused);
            }
            Op::Buckets { node, bucket, seal } => self.buckets(node, bucket, seal).await,
            Op::Late => {
                let Some(call) = self.last_call.clone() else { return };
                let before = self.money();
                let _ = all!(self, l => l.tick(&call));
                assert_eq!(self.money(), before);
            }
        }
    }

    fn next_seq_no(&mut self) -> SeqNo {
        self.seq_no += 1;
        SeqNo(self.seq_no)
    }

    fn money(&self) -> BTreeMap<PrizeKey, u64> {
        self.memory.rows().prizes.into_iter().map(|(key, row)| (key, row.budget())).collect()
    }

    async fn tick(&mut self, node: u16, prize: u32, units: u32, close: Option<u8>, twice: bool) {
        let player = self.players.get_mut(&node).unwrap();
        let mut call = Tick { node: NodeId(node), epoch: NodeEpoch(player.epoch), ..Tick::default() };
        let lease = *player.pending.entry(key(prize)).or_insert_with(|| {
            player.next_lease += 1;
            LeaseId(player.next_lease)
        });
        call.asks.push(GrantAsk { lease, prize: key(prize), units });
        let closing = player.open.iter().position(|(_, p, _)| *p == key(prize)).zip(close);
        if let Some((at, eighths)) = closing {
            let (lease, prize, ranges) = player.open.remove(at);
            let (used, returned) = used_part(&ranges, eighths);
            call.closes.push(CloseAsk { lease, used: used.len(), returned });
            for unit in used.numbers() {
                assert!(self.awards.insert((prize, unit)), "unit {unit} of {prize} was given twice");
            }
        }
        let before = self.memory.rows().leases;
        let answer = all!(self, l => l.tick(&call)).unwrap();
        if twice {
            let rows = self.memory.rows();
            assert_eq!(all!(self, l => l.tick(&call)), Ok(answer.clone()));
            assert_eq!(self.memory.rows(), rows, "a repeated call changed something");
        }
        assert!(answer.refused.is_empty());
        if let (lease, GrantAnswer::Granted { ranges, .. }) = &answer.grants[0] {
            let player = self.players.get_mut(&node).unwrap();
            player.pending.remove(&key(prize));
            player.open.push((*lease, key(prize), ranges.clone()));
            // What an old copy of the call got is older than this call's clock and curve.
            if !before.contains_key(&LeaseKey { node: NodeId(node), epoch: call.epoch, lease: *lease }) {
                self.check_pace(key(prize), ranges);
            }
        }
        // What an old copy of a call was granted has a number that the node will ask under again.
        let player = &self.players[&node];
        let known: BTreeSet<LeaseId> = player.open.iter().map(|o| o.0).collect();
        let pending: BTreeSet<LeaseId> = player.pending.values().copied().collect();
        let open: BTreeSet<LeaseId> = answer.open.iter().copied().collect();
        assert!(open.is_superset(&known) && open.difference(&known).all(|l| pending.contains(l)));
        self.last_call = Some(call);
    }

    /// No slot of the past, none too far ahead; the curve and the vendor's limit hold.
    fn check_pace(&mut self, prize: PrizeKey, ranges: &[LeaseRange]) {
        let rows = self.memory.rows();
        let row = &rows.prizes[&prize];
        let now = Slot::at(now_ms(&self.clock));
        let last = ranges.iter().map(LeaseRange::last_slot).max().unwrap();
        assert!(ranges.iter().all(|r| r.first_slot >= now) && last < now.plus(20));
        if now < row.tail_slot() {
            assert!(row.out() <= row.released_at(last.end_ms()), "{prize} runs ahead of its curve");
            assert!(last < row.tail_slot());
        }
        for range in ranges {
            for unit in range.units.first..range.units.end() {
                *self.placed.entry((row.vendor.0, range.slot_of(unit))).or_default() += 1;
            }
        }
        for slot in (now.0..=last.0).map(Slot).filter(|_| row.vendor.0 == 1) {
            assert!(self.placed.get(&(1, slot)).is_none_or(|n| *n <= VENDOR_LIMIT / 10));
        }
    }

    async fn crash(&mut self, node: u16, eighths: u8) {
        let player = self.players.remove(&node).unwrap();
        let (id, epoch) = (NodeId(node), NodeEpoch(player.epoch));
        self.clock.advance_ms(3_000);
        assert_eq!(all!(self, l => l.end_epoch(id, epoch, EndReason::Expired)), Ok(true));
        let mark = now_ms(&self.clock) - OPEN_MS;
        all!(self, l => l.record_end_position(id, epoch, mark)).unwrap();
        let open = all!(self, l => l.open_leases(id)).unwrap();
        for lease in open {
            let known = player.open.iter().any(|o| o.0 == lease.key.lease);
            let (used, rest) = used_part(&lease.ranges, if known { eighths } else { 0 });
            for unit in used.numbers() {
                assert!(
                    self.awards.insert((lease.prize, unit)),
                    "unit {unit} of {} was given twice",
                    lease.prize
                );
            }
            let settled = all!(self, l => l.settle(lease.key, &used)).unwrap();
            assert_eq!(settled, Settled { returned: rest.clone(), already: false });
            let again = all!(self, l => l.settle(lease.key, &Ranges::new())).unwrap();
            assert_eq!(again, Settled { returned: rest, already: true });
        }
        self.begin(node).await;
    }

    async fn buckets(&mut self, node: u16, bucket: u16, seal: bool) {
        let terms = all!(self, l => l.buckets(None)).unwrap();
        let term = terms.iter().find(|b| b.bucket == bucket).map_or(0, |b| b.term);
        let player = self.players.get_mut(&node).unwrap();
        let mut call = Tick { node: NodeId(node), epoch: NodeEpoch(player.epoch), ..Tick::default() };
        match player.terms.get(&bucket).filter(|_| seal) {
            Some(&term) => call.seals.push(SealBucket { bucket, term, position: u64::from(term) * 10 }),
            None => call.claims.push(ClaimBucket { bucket, term }),
        }
        let answer = all!(self, l => l.tick(&call)).unwrap();
        for claimed in &answer.claimed {
            let others = self.players.iter().filter(|(n, _)| **n != node);
            assert!(
                others.into_iter().all(|(_, p)| !p.terms.contains_key(&bucket)),
                "two owners of a bucket"
            );
            self.players.get_mut(&node).unwrap().terms.insert(claimed.bucket, claimed.term);
        }
        for bucket in &call.seals {
            self.players.get_mut(&node).unwrap().terms.remove(&bucket.bucket);
        }
    }

    /// Every number stands in one place, and awards stand nowhere else.
    fn audit(&self) {
        let rows: Rows = self.memory.rows();
        for (prize, row) in &rows.prizes {
            row.check().unwrap();
            let mut all = row.fresh.clone();
            for set in [&row.returned, &row.cancelled] {
                all.add_all(set).unwrap();
            }
            for lease in rows.leases.values().filter(|l| l.prize == *prize && l.closed.is_none()) {
                all.add_all(&lease.numbers()).unwrap();
            }
            let awards: Ranges =
                self.awards.iter().filter(|(p, _)| p == prize).map(|(_, unit)| *unit).collect();
            assert_eq!(awards.len(), row.used);
            all.add_all(&awards).unwrap();
            assert_eq!(all, Ranges::one(0, row.made));
            assert!(row.used + row.leased <= row.budget());
        }
    }
}

fn now_ms(clock: &ManualClock) -> u64 {
    runtime::Clock::now_ms(clock)
}

async fn play(ops: Vec<Op>, others: Others<'_>) {
    let mut world = World::new(&others).await;
    for op in &ops {
        world.apply(op).await;
        world.audit();
    }
    let mut leases = Vec::new();
    loop {
        let after = leases.last().map(|l: &crate::ledger::LeaseRow| l.key);
        let page = all!(world, l => l.leases(CampaignId(1), after, 7)).unwrap();
        if page.is_empty() {
            break;
        }
        leases.extend(page);
    }
    let keys: Vec<LeaseKey> = world.memory.rows().leases.into_keys().collect();
    assert_eq!(leases.iter().map(|l| l.key).collect::<Vec<_>>(), keys);
    let _ = all!(world, l => l.prizes(CampaignId(1)));
    let _ = all!(world, l => l.buckets(None));
    let _ = all!(world, l => l.dead_epochs());
    let _ = all!(world, l => l.unsettled());
    let _ = all!(world, l => l.epochs(NodeId(1)));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]
    #[test]
    fn no_sequence_breaks_a_law(ops in prop::collection::vec(op(), 1..90)) {
        run(play(ops, Others::default()));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
    #[test]
    fn memory_and_sql_answer_alike(ops in prop::collection::vec(op(), 1..60)) {
        let folder = tempfile::tempdir().unwrap();
        run(play(ops, Others { sqlite: Some(&folder), ..Others::default() }));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]
    #[test]
    fn memory_sqlite_and_postgres_answer_alike(ops in prop::collection::vec(op(), 1..60)) {
        let folder = tempfile::tempdir().unwrap();
        if let Some(database) = FreshDatabase::new() {
            run(play(ops, Others { sqlite: Some(&folder), postgres: Some(&database) }));
        }
    }
}
