//! Law 6 and the speeds, over whole rounds: nodes tick, players come, and by the end everything is given out, never
//! faster than curve, catch-up and vendor allow.

use super::{OPEN_MS, Sketch, key, plan, run};
use crate::ledger::port::*;
use crate::ledger::rows::PrizeKey;
use crate::ledger::{MemoryLedger, QuotaLedger};
use campaign::{LeaseId, NodeEpoch, NodeId, Ranges, Slot};
use ownership::EndReason;
use proptest::prelude::*;
use records::LeaseRange;
use runtime::{Clock, ManualClock};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

const TICK_MS: u64 = 200;

/// What happens in a round.
#[derive(Clone, Debug)]
struct Story {
    units: Vec<u64>,
    nodes: u16,
    length_ms: u64,
    /// Percent of winnable units that find a player before the last 3 s.
    demand: u64,
    /// When node 1 dies, ms since the opening, if it does: long enough before the end that it can be settled.
    death_ms: Option<u64>,
    wanted: u32,
}

fn story() -> impl Strategy<Value = Story> {
    let units = prop::collection::vec(1u64..1_500, 1..4);
    (units, 1u16..4, 12_000u64..40_000, 0u64..=100, prop::option::of(0.0..1.0f64), 200u32..600).prop_map(
        |(units, nodes, length_ms, demand, death, wanted)| {
            let death_ms = death.map(|d| (d * (length_ms - 9_000) as f64) as u64);
            Story { units, nodes, length_ms, demand, death_ms, wanted }
        },
    )
}

struct Held {
    lease: LeaseId,
    prize: PrizeKey,
    ranges: Vec<LeaseRange>,
    left: Ranges,
}

#[derive(Default)]
struct Node {
    epoch: u32,
    next: u64,
    held: Vec<Held>,
    used: BTreeMap<LeaseId, Ranges>,
}

struct Round<'a> {
    story: &'a Story,
    clock: Arc<ManualClock>,
    ledger: MemoryLedger,
    nodes: BTreeMap<u16, Node>,
    awards: BTreeSet<(PrizeKey, u64)>,
    placed: BTreeMap<(PrizeKey, Slot), u64>,
}

impl Round<'_> {
    fn now(&self) -> u64 {
        self.clock.now_ms()
    }

    /// Players take what is winnable: all of it in the last 3 s, a share of it before.
    fn draw(&mut self) {
        let now = Slot::at(self.now());
        let last = self.now() + 3_000 >= OPEN_MS + self.story.length_ms;
        for node in self.nodes.values_mut() {
            for held in &mut node.held {
                for range in &held.ranges {
                    for unit in range.units.first..range.units.end() {
                        let comes = last || (unit * 37 + now.0 * 11) % 100 < self.story.demand;
                        if comes && range.slot_of(unit) <= now && held.left.remove(unit) {
                            assert!(self.awards.insert((held.prize, unit)));
                            let used = node.used.entry(held.lease).or_default();
                            used.add(campaign::UnitRange { first: unit, count: 1 }).unwrap();
                        }
                    }
                }
            }
        }
    }

    /// A node closes what is used up, or wanted back, and asks for the next.
    async fn tick(&mut self, id: u16) {
        let prizes: Vec<PrizeKey> = (1..=self.story.units.len() as u32).map(key).collect();
        let now = Slot::at(self.now());
        let Some(node) = self.nodes.get_mut(&id) else { return };
        let mut call = Tick { node: NodeId(id), epoch: NodeEpoch(node.epoch), ..Tick::default() };
        let over = self.clock.now_ms() >= OPEN_MS + self.story.length_ms;
        node.held.retain(|held| {
            if !held.left.is_empty() && !over {
                return true;
            }
            let used = node.used.get(&held.lease).map_or(0, Ranges::len);
            call.closes.push(CloseAsk { lease: held.lease, used, returned: held.left.clone() });
            false
        });
        for prize in prizes {
            if node.held.iter().filter(|h| h.prize == prize).count() < 2 && !over {
                call.asks.push(GrantAsk { lease: LeaseId(node.next), prize, units: self.story.wanted });
                node.next += 1;
            }
        }
        let answer = self.ledger.tick(&call).await.unwrap();
        assert_eq!(answer.refused, vec![]);
        for ((lease, got), ask) in answer.grants.into_iter().zip(&call.asks) {
            let GrantAnswer::Granted { ranges, .. } = got else { continue };
            for range in &ranges {
                assert!(range.first_slot >= now);
                for unit in range.units.first..range.units.end() {
                    *self.placed.entry((ask.prize, range.slot_of(unit))).or_default() += 1;
                }
            }
            let left = ranges.iter().flat_map(|r| r.units.first..r.units.end()).collect();
            node.held.push(Held { lease, prize: ask.prize, ranges, left });
        }
    }

    /// A dead node is noticed, its epoch ended, its leases settled.
    async fn bury(&mut self, id: u16, node: &Node) {
        let (node_id, epoch) = (NodeId(id), NodeEpoch(node.epoch));
        self.ledger.end_epoch(node_id, epoch, EndReason::Expired).await.unwrap();
        self.ledger.record_end_position(node_id, epoch, 1).await.unwrap();
        for lease in self.ledger.open_leases(node_id).await.unwrap() {
            let used = node.used.get(&lease.key.lease).cloned().unwrap_or_default();
            self.ledger.settle(lease.key, &used).await.unwrap();
        }
    }

    async fn play(&mut self) {
        let mut dead: Option<(u64, u16, Node)> = None;
        while self.now() < OPEN_MS + self.story.length_ms + TICK_MS {
            self.clock.advance_ms(50);
            self.draw();
            let since = self.now() - OPEN_MS;
            if self.story.death_ms.is_some_and(|at| since >= at) && dead.is_none() && self.nodes.len() > 1 {
                dead = self.nodes.remove(&1).map(|node| (since, 1, node));
            }
            if let Some((_, id, node)) = dead.take_if(|d| since >= d.0 + 3_500 && d.1 != 0) {
                self.bury(id, &node).await;
                dead = Some((u64::MAX / 2, 0, node));
            }
            if since.is_multiple_of(TICK_MS) {
                for id in 1..=self.story.nodes {
                    self.tick(id).await;
                }
            }
        }
    }
}

async fn round(
    story: &Story,
    vendor_limit: u64,
) -> (BTreeMap<PrizeKey, u64>, BTreeMap<(PrizeKey, Slot), u64>) {
    let clock = ManualClock::new(OPEN_MS - 1_000);
    let ledger = MemoryLedger::new(clock.clone());
    let prizes: Vec<_> = (1..).zip(&story.units).map(|(id, units)| Sketch(id, *units, 1, 0)).collect();
    ledger.register(&plan(1, story.length_ms, &prizes, &[(1, vendor_limit)])).await.unwrap();
    let mut nodes = BTreeMap::new();
    for id in 1..=story.nodes {
        let epoch = ledger.begin_epoch(NodeId(id), NodeEpoch(0)).await.unwrap().0;
        nodes.insert(id, Node { epoch, ..Node::default() });
    }
    clock.advance_ms(1_000);
    let (awards, placed) = (BTreeSet::new(), BTreeMap::new());
    let mut round = Round { story, clock, ledger, nodes, awards, placed };
    round.play().await;
    let mut given = BTreeMap::new();
    for (prize, _) in &round.awards {
        *given.entry(*prize).or_default() += 1;
    }
    (given, round.placed)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    /// Whatever the demand before, and whoever died: with players in the last 3 s nothing is left.
    #[test]
    fn nothing_is_stranded(story in story()) {
        let (given, _) = run(round(&story, 0));
        for (id, units) in (1..).zip(&story.units) {
            prop_assert_eq!(given.get(&key(id)).copied().unwrap_or(0), *units, "prize {}", id);
        }
    }

    /// Before the last 3 s no slot has more than twice the curve's speed, nor has any second.
    #[test]
    fn never_faster_than_catch_up(story in story()) {
        let (_, placed) = run(round(&story, 0));
        let tail = Slot::at(OPEN_MS + story.length_ms - 3_000);
        for (id, units) in (1..).zip(&story.units) {
            let span = u128::from(story.length_ms - 3_000);
            let twice = |slots: u128| (u128::from(2 * units) * 100 * slots).div_ceil(span) as u64 + 1;
            let of: BTreeMap<Slot, u64> = placed.range((key(id), Slot(0))..(key(id), tail)).map(|(k, n)| (k.1, *n)).collect();
            for (slot, n) in &of {
                prop_assert!(*n <= twice(1), "{} in a slot, {} allowed", n, twice(1));
                let second: u64 = of.range(*slot..slot.plus(10)).map(|(_, n)| *n).sum();
                prop_assert!(second <= twice(10));
            }
        }
    }

    /// All prizes of a vendor together keep its limit in every slot and second, in the last 3 s too, and use what
    /// it leaves.
    #[test]
    fn a_vendor_is_never_overrun(story in story(), limit in 1u64..120) {
        let (given, placed) = run(round(&story, limit));
        let mut slots: BTreeMap<Slot, u64> = BTreeMap::new();
        for ((_, slot), n) in &placed {
            *slots.entry(*slot).or_default() += n;
        }
        for (slot, n) in &slots {
            prop_assert!(*n <= (limit / 10).max(1));
            prop_assert!(slots.range(*slot..slot.plus(10)).map(|(_, n)| *n).sum::<u64>() <= limit);
        }
        let total: u64 = story.units.iter().sum();
        prop_assert!(given.values().sum::<u64>() <= total);
    }
}

/// A slow prize takes its places far ahead; a fast one of the same vendor must not lose the slots before them.
#[test]
fn a_slow_prize_does_not_starve_a_fast_one_of_its_vendor() {
    let story =
        Story { units: vec![15, 900], nodes: 1, length_ms: 33_000, demand: 100, death_ms: None, wanted: 600 };
    let (given, _) = run(round(&story, 40));
    assert_eq!(given[&key(1)] + given[&key(2)], 915);
}

/// A lottery of 3 units in 10 minutes still gives each of them when its time has come, not at the end.
#[test]
fn a_slow_curve_loses_nothing_to_rounding() {
    let story =
        Story { units: vec![3], nodes: 2, length_ms: 600_000, demand: 100, death_ms: None, wanted: 5 };
    let (given, placed) = run(round(&story, 0));
    assert_eq!(given[&key(1)], 3);
    // The curve ends at 597 s; each slot stands for the unit that is released by its end.
    let at: Vec<u64> = placed.keys().map(|(_, slot)| (slot.start_ms() - OPEN_MS) / 1_000).collect();
    assert_eq!(at, [199, 398, 596]);
}
