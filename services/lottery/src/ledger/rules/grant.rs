//! Granting: which units a lease gets, and in which slots they become winnable.

use campaign::{Ranges, Slot, SlotRate, UnitRange};
use records::LeaseRange;

use super::release::{HORIZON_SLOTS, LAST_GRANT_MS, LOOK_BACK_SLOTS};
use crate::ledger::port::Nothing;
use crate::ledger::rows::{PrizeRow, VendorRow};

/// Most units of a lease. What comes back of it then has at most 1,024 ranges, however it was used, and fits the
/// record that closes it.
pub const LEASE_UNITS_MAX: u64 = 1_792;

/// From so long before the end of the round on, the rest is divided no more: what a node uses up now comes back in time for
/// two or three further grants.
const LAST_SHARES_MS: u64 = 700;

/// Most ranges of a lease.
pub const GRANT_RANGES_MAX: usize = 256;

const _: () = assert!((LEASE_UNITS_MAX as usize + GRANT_RANGES_MAX) / 2 <= records::LEASE_RANGES_MAX);

/// Open leases that a node may hold of a prize: it draws from one while the other is fetched.
pub const LEASES_A_PRIZE: usize = 2;

/// Takes up to `wanted` units out of the prize, for slots from now to 2 s ahead. `alive` nodes have a session.
///
/// # Errors
/// Why there is nothing, and before which slot it is vain to ask again.
pub fn grant(
    prize: &mut PrizeRow,
    vendor: &mut VendorRow,
    wanted: u32,
    alive: u32,
    now_ms: u64,
) -> Result<Vec<LeaseRange>, (Nothing, Slot)> {
    let now = Slot::at(now_ms);
    if now_ms >= prize.close_ms.saturating_sub(LAST_GRANT_MS) {
        return Err((Nothing::Over, Slot(u64::MAX)));
    }
    if now_ms < prize.open_ms {
        return Err((Nothing::NotOpen, Slot::at(prize.open_ms)));
    }
    if prize.paused {
        return Err((Nothing::Paused, now.plus(HORIZON_SLOTS / 2)));
    }
    if prize.available() == 0 {
        return Err((Nothing::Exhausted, now.plus(HORIZON_SLOTS / 4)));
    }
    prize.window.forget_before(Slot(now.0.saturating_sub(LOOK_BACK_SLOTS)));
    vendor.window.forget_before(Slot(now.0.saturating_sub(LOOK_BACK_SLOTS)));
    let wanted = u64::from(wanted.max(1)).min(LEASE_UNITS_MAX);
    let ranges = match now >= prize.tail_slot() {
        false => fill(prize, vendor, now, now.plus(HORIZON_SLOTS).min(prize.tail_slot()), wanted, None),
        true => {
            let end = prize.spread_end(now);
            let cap = prize.cap_spread(now, end);
            let parts = match (end == now.plus(1), now_ms + LAST_SHARES_MS >= prize.close_ms) {
                (false, _) => 4,
                (true, false) => 1,
                (true, true) => 0,
            };
            let share = last_share(prize.available(), alive, parts);
            fill(prize, vendor, now, end.min(now.plus(HORIZON_SLOTS)), wanted.min(share), Some(cap))
        }
    };
    if ranges.is_empty() { Err((Nothing::Paced, again(prize, now))) } else { Ok(ranges) }
}

/// Most units of a lease in the round's last seconds, when the rest is divided into `parts` for each node. With several
/// nodes leases shrink, down to single units, so that nothing is left behind on a node that nobody comes to. In the last
/// second, when each unit is winnable as soon as it is granted, a node gets its share of the rest (1 part), because there
/// is no time for many small steps; and at last (0 parts) the first to ask gets all of it: shares of shares would never
/// come to an end, and only a node that somebody has just come to asks.
fn last_share(left: u64, alive: u32, parts: u64) -> u64 {
    let parts = u64::from(alive) * parts;
    if alive <= 1 || parts == 0 { left } else { left.div_ceil(parts).max(1) }
}

/// Fills the slots `from .. to` in order. `spread`: units of each slot in the last seconds; `None`: by the curve.
fn fill(
    prize: &mut PrizeRow,
    vendor: &mut VendorRow,
    from: Slot,
    to: Slot,
    wanted: u64,
    spread: Option<u64>,
) -> Vec<LeaseRange> {
    let limit = SlotRate::per_second(vendor.release_per_second).unwrap_or(SlotRate::UNLIMITED);
    let mut lease = Builder::default();
    let mut left = wanted;
    // A clock that was set back finds no room in slots that are forgotten.
    let from = from.max(prize.window.first()).max(vendor.window.first());
    for slot in (from.0..to.0).map(Slot) {
        let (cap, behind) = match spread {
            Some(cap) => (cap.min(prize.speed_cap(slot)), u64::MAX),
            None => (prize.cap_on_curve(slot), prize.released_at(slot.end_ms()).saturating_sub(prize.out())),
        };
        let room = cap.saturating_sub(u64::from(prize.window.count(slot)));
        let room = room.min(behind).min(u64::from(vendor.window.room(slot, limit))).min(left);
        let taken = take(prize, &mut lease, slot, room);
        // At most LEASE_UNITS_MAX.
        prize.window.add(slot, taken as u32);
        vendor.window.add(slot, taken as u32);
        left -= taken;
        if left == 0 || prize.available() == 0 || lease.is_full() {
            break;
        }
    }
    lease.ranges
}

/// Takes up to `room` units for a slot: what came back first, then fresh numbers.
fn take(prize: &mut PrizeRow, lease: &mut Builder, slot: Slot, room: u64) -> u64 {
    let mut taken = 0;
    while taken < room && !lease.is_full() {
        let pool = if prize.returned.is_empty() { &mut prize.fresh } else { &mut prize.returned };
        let Some(units) = take_run(pool, room - taken) else { break };
        lease.push(units, slot);
        taken += units.count;
        prize.leased += units.count;
    }
    taken
}

/// The lowest numbers of the set that follow each other, at most `count`.
fn take_run(pool: &mut Ranges, count: u64) -> Option<UnitRange> {
    let run = pool.iter().next()?.count.min(count);
    pool.take_lowest(run).iter().next()
}

/// The first slot at whose beginning there may be something: when a unit comes within reach of a grant.
fn again(prize: &PrizeRow, now: Slot) -> Slot {
    let (soon, late) = (now.plus(1), now.plus(HORIZON_SLOTS));
    if late >= prize.tail_slot() {
        return soon;
    }
    // The curve rises: look for the slot in which it passes what is out.
    let due = |slot: u64| prize.released_at(Slot(slot).end_ms()) > prize.out();
    let (mut low, mut high) = (now.0, late.0 + HORIZON_SLOTS);
    while low < high {
        let middle = low + (high - low) / 2;
        if due(middle) { high = middle } else { low = middle + 1 }
    }
    Slot(low.saturating_sub(HORIZON_SLOTS - 1)).clamp(soon, late)
}

/// Joins units and slots to as few ranges as say the same.
#[derive(Default)]
struct Builder {
    ranges: Vec<LeaseRange>,
    /// The slot of the last range's last unit, the units in it, and whether its range has earlier slots.
    last: (Slot, u32),
    several: bool,
}

impl Builder {
    fn is_full(&self) -> bool {
        self.ranges.len() >= GRANT_RANGES_MAX
    }

    fn push(&mut self, units: UnitRange, slot: Slot) {
        let count = units.count as u32;
        if self.joins(units, slot, count) {
            return;
        }
        self.ranges.push(LeaseRange { units, first_slot: slot, per_slot: count, every: 1 });
        (self.last, self.several) = ((slot, count), false);
    }

    fn joins(&mut self, units: UnitRange, slot: Slot, count: u32) -> bool {
        let Some(range) = self.ranges.last_mut().filter(|r| r.units.end() == units.first) else {
            return false;
        };
        let (last_slot, in_last) = self.last;
        let (steps, in_slot) = if slot == last_slot {
            if !self.several {
                range.per_slot += count;
            }
            (0, in_last + count)
        } else {
            (slot.0 - last_slot.0, count)
        };
        if in_slot > range.per_slot {
            return false;
        }
        if steps > 0 {
            // The slot before must be full, or the next unit would count into it.
            if in_last < range.per_slot || (self.several && steps != u64::from(range.every)) {
                return false;
            }
            range.every = steps as u32;
            self.several = true;
        }
        range.units.count += units.count;
        self.last = (slot, in_slot);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// However units and slots come, the ranges say for each unit the slot that was meant.
        #[test]
        fn ranges_say_the_slots_that_were_meant(steps in prop::collection::vec((0u64..4, 1u64..6, 0u64..3), 1..40)) {
            let (mut builder, mut slot, mut number) = (Builder::default(), 100, 0);
            let mut meant = Vec::new();
            for (ahead, count, gap) in steps {
                slot += ahead;
                number += if gap == 2 { 7 } else { 0 };
                builder.push(UnitRange { first: number, count }, Slot(slot));
                meant.extend((number..number + count).map(|n| (n, Slot(slot))));
                number += count;
            }
            let said: Vec<_> = builder.ranges.iter()
                .flat_map(|r| (r.units.first..r.units.end()).map(|n| (n, r.slot_of(n)))).collect();
            prop_assert_eq!(said, meant);
        }
    }

    #[test]
    fn an_even_pace_is_one_range() {
        let mut builder = Builder::default();
        for i in 0..20 {
            builder.push(UnitRange { first: i * 5, count: 5 }, Slot(100 + i * 2));
        }
        builder.push(UnitRange { first: 100, count: 3 }, Slot(140));
        assert_eq!(
            builder.ranges,
            [LeaseRange {
                units: UnitRange { first: 0, count: 103 },
                first_slot: Slot(100),
                per_slot: 5,
                every: 2
            }]
        );
    }
}
