//! A lease in use: which of its units are winnable, and which come when.
//!
//! A unit becomes winnable at a random instant inside its slot, given by the round's seed and its number. Units
//! whose slot is near are kept in a heap by instant; the others stay in their ranges until their slot comes.

use campaign::{LeaseId, Ranges, RoundKeys, SLOT_MS, Slot, UnitRange};
use records::{LeaseGot, LeaseRange};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

/// A lease from which units are drawn.
pub struct Lease {
    /// The lease.
    pub id: LeaseId,
    /// Lane position of its `LeaseGot`.
    pub got_at: u64,
    prize: u32,
    keys: RoundKeys,
    ahead: VecDeque<LeaseRange>,
    near: BinaryHeap<Reverse<(u64, u64)>>,
    used: u64,
}

/// The instant, ms UTC, at which a unit of a slot becomes winnable.
pub fn instant_of(keys: &RoundKeys, prize: u32, unit: u64, slot: Slot) -> u64 {
    slot.start_ms() + campaign::seed::below(keys.instant(prize, unit), SLOT_MS)
}

impl Lease {
    /// A lease whose `LeaseGot` stands in the log at `got_at`.
    pub fn new(got: &LeaseGot, got_at: u64, keys: RoundKeys) -> Lease {
        let mut ahead: Vec<LeaseRange> = got.ranges.clone();
        ahead.sort_by_key(|r| r.first_slot);
        Lease {
            id: got.lease,
            got_at,
            prize: got.prize.0,
            keys,
            ahead: ahead.into(),
            near: BinaryHeap::new(),
            used: 0,
        }
    }

    /// The next unit and its instant, looking ahead as far as needed. `None`: every unit is used.
    ///
    /// Slots that have begun by `now_ms` are brought near first, so that units left over from an earlier slot
    /// and units of this one stand in one order.
    pub fn next(&mut self, now_ms: u64) -> Option<(u64, u64)> {
        while let Some(range) = self.ahead.front() {
            if !self.near.is_empty() && range.first_slot > Slot::at(now_ms) {
                break;
            }
            self.bring_slot_near();
        }
        self.near.peek().map(|Reverse(next)| *next)
    }

    /// Moves the units of the first range's first slot into the heap.
    fn bring_slot_near(&mut self) {
        let Some(range) = self.ahead.pop_front() else { return };
        let count = u64::from(range.per_slot).min(range.units.count);
        for unit in range.units.first..range.units.first + count {
            let instant = instant_of(&self.keys, self.prize, unit, range.first_slot);
            self.near.push(Reverse((instant, unit)));
        }
        let rest = UnitRange { first: range.units.first + count, count: range.units.count - count };
        if rest.count > 0 {
            let rest = LeaseRange {
                units: rest,
                first_slot: range.first_slot.plus(u64::from(range.every)),
                ..range
            };
            let at = self.ahead.partition_point(|r| r.first_slot <= rest.first_slot);
            self.ahead.insert(at, rest);
        }
    }

    /// Takes the unit that [`Lease::next`] named.
    pub fn take(&mut self) -> Option<u64> {
        let Reverse((_, unit)) = self.near.pop()?;
        self.used += 1;
        Some(unit)
    }

    /// Units that became awards.
    pub fn used(&self) -> u64 {
        self.used
    }

    /// Units not taken.
    pub fn left(&self) -> u64 {
        self.near.len() as u64 + self.ahead.iter().map(|r| r.units.count).sum::<u64>()
    }

    /// Seals the lease: what is left goes back.
    pub fn seal(self) -> (u64, Ranges) {
        let near = self.near.into_iter().map(|Reverse((_, unit))| unit);
        let ahead = self.ahead.into_iter().flat_map(|r| r.units.first..r.units.end());
        (self.used, near.chain(ahead).collect())
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::{Lease, instant_of};
    use campaign::{CampaignId, LeaseId, PrizeId, RoundId, RoundSeed, SeqNo, Slot, UnitRange};
    use proptest::prelude::*;
    use records::{LeaseGot, LeaseRange};

    pub(crate) fn got(lease: u64, prize: u32, ranges: &[(u64, u64, u64, u32, u32)]) -> LeaseGot {
        let range = |&(first, count, slot, per_slot, every): &(u64, u64, u64, u32, u32)| LeaseRange {
            units: UnitRange { first, count },
            first_slot: Slot(slot),
            per_slot,
            every,
        };
        LeaseGot {
            lease: LeaseId(lease),
            campaign: CampaignId(1),
            round: RoundId(1),
            prize: PrizeId(prize),
            seq_no: SeqNo(1),
            ranges: ranges.iter().map(range).collect(),
        }
    }

    proptest! {
        /// Each unit is winnable from its own instant on, in the slot that the ledger gave it, once.
        #[test]
        fn units_come_at_their_instants(
            ranges in prop::collection::vec((1u64..30, 0u64..20, 1u32..6, 1u32..4), 1..6), step in 1u64..400, cut in 0u64..5000,
        ) {
            let keys = RoundSeed([5; 32]).keys();
            let mut first = 0;
            let spec: Vec<_> = ranges.iter().map(|&(count, slot, per, every)| {
                first += count;
                (first - count, count, 1000 + slot, per, every)
            }).collect();
            let got = got(1, 9, &spec);
            let slot_of = |unit: u64| got.ranges.iter().find(|r| r.units.first <= unit && unit < r.units.end()).unwrap().slot_of(unit);
            let mut lease = Lease::new(&got, 0, keys);
            let (mut now, mut taken) = (100_000, Vec::new());
            while let Some((instant, unit)) = lease.next(now) {
                prop_assert_eq!(instant, instant_of(&keys, 9, unit, slot_of(unit)));
                prop_assert_eq!(Slot::at(instant), slot_of(unit));
                if now > 100_000 + cut { break; }
                if instant <= now {
                    prop_assert_eq!(lease.take(), Some(unit));
                    taken.push(unit);
                } else {
                    // nothing that is due was overlooked
                    for r in &got.ranges {
                        for u in r.units.first..r.units.end() {
                            prop_assert!(taken.contains(&u) || instant_of(&keys, 9, u, slot_of(u)) > now);
                        }
                    }
                    now += step;
                }
            }
            prop_assert_eq!(lease.left() + lease.used(), first);
            let (used, back) = lease.seal();
            prop_assert_eq!(used, taken.len() as u64);
            taken.extend(back.numbers());
            taken.sort_unstable();
            prop_assert_eq!(taken, (0..first).collect::<Vec<_>>());
        }
    }
}
