//! Pace in slots: at most so many in each slot, filled from the first slot that still has room.
//!
//! A rate of ten a second and more is a whole number in every slot (rounded down, so that the second's
//! limit holds too); a lower one is a single unit every so many slots.

use crate::time::Slot;

/// A speed, expressed in slots.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SlotRate {
    /// Units in a slot that has any; at least 1.
    pub per_slot: u32,
    /// Distance between slots that have any; 1 means every slot.
    pub every: u32,
}

impl SlotRate {
    /// No limit that anyone could reach.
    pub const UNLIMITED: SlotRate = SlotRate { per_slot: u32::MAX, every: 1 };

    /// The rate of `units` in `ms` milliseconds; `None` where that is no units at all.
    ///
    /// Never above the rate asked for: a slot gets the whole part only, and a rate below one a slot
    /// is spaced by the next whole number of slots.
    pub fn of(units: u64, ms: u64) -> Option<SlotRate> {
        if units == 0 || ms == 0 {
            return None;
        }
        let per_slot = (u128::from(units) * 100 / u128::from(ms)).min(u128::from(u32::MAX)) as u32;
        if per_slot >= 1 {
            return Some(SlotRate { per_slot, every: 1 });
        }
        let every = u128::from(ms).div_ceil(u128::from(units) * 100);
        Some(SlotRate { per_slot: 1, every: every.min(u128::from(u32::MAX)) as u32 })
    }

    /// The rate of `units` a second.
    pub fn per_second(units: u64) -> Option<SlotRate> {
        SlotRate::of(units, 1000)
    }
}

/// How far a rate has been used: the first slot that still has room, and the count in it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SlotPace {
    /// The first slot that still has room.
    pub slot: Slot,
    /// Units already placed in it.
    pub used: u32,
}

impl SlotPace {
    /// Room in slot `slot` under `rate`, when nothing behind it was used; 0 in a slot already full or past.
    pub fn room(&self, slot: Slot, rate: SlotRate) -> u32 {
        if slot < self.slot {
            0
        } else if slot == self.slot {
            rate.per_slot.saturating_sub(self.used)
        } else {
            rate.per_slot
        }
    }

    /// Puts `units` into `slot`. The caller has asked [`SlotPace::room`].
    pub fn put(&mut self, slot: Slot, units: u32, rate: SlotRate) {
        if units == 0 {
            return;
        }
        let used = if slot == self.slot { self.used + units } else { units };
        debug_assert!(slot >= self.slot && used <= rate.per_slot);
        *self = if used >= rate.per_slot {
            SlotPace { slot: slot.plus(u64::from(rate.every)), used: 0 }
        } else {
            SlotPace { slot, used }
        };
    }
}

#[cfg(test)]
mod tests {
    use super::{SlotPace, SlotRate};
    use crate::time::Slot;
    use proptest::prelude::*;

    #[test]
    fn rates_round_down() {
        assert_eq!(SlotRate::per_second(25), Some(SlotRate { per_slot: 2, every: 1 }));
        assert_eq!(SlotRate::per_second(10), Some(SlotRate { per_slot: 1, every: 1 }));
        assert_eq!(SlotRate::per_second(3), Some(SlotRate { per_slot: 1, every: 4 }));
        assert_eq!(SlotRate::of(1, 60_000), Some(SlotRate { per_slot: 1, every: 600 }));
        assert_eq!(SlotRate::per_second(0), None);
    }

    proptest! {
        /// However the room is used, no second carries more than the rate.
        #[test]
        fn never_above_the_rate(rate in 1u64..500, asks in prop::collection::vec(0u32..40, 1..200)) {
            let slots = SlotRate::per_second(rate).unwrap();
            let mut pace = SlotPace::default();
            let mut placed = vec![0u64; asks.len()];
            for (i, ask) in asks.iter().enumerate() {
                let slot = Slot(i as u64);
                let n = pace.room(slot, slots).min(*ask);
                pace.put(slot, n, slots);
                placed[i] += u64::from(n);
            }
            for second in placed.windows(10) {
                prop_assert!(second.iter().sum::<u64>() <= rate.max(1));
            }
        }
    }
}
