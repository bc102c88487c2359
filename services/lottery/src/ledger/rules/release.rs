//! How many units of a prize may fall into which slot.
//!
//! The curve is computed from a fixed base pair each time, never step by step, so a slow prize loses no unit to
//! rounding. What lies behind the curve follows at the catch-up speed; in the last seconds of the round the rest
//! is spread evenly.

use campaign::plan::CURVE_TAIL_MS;
use campaign::{SLOT_MS, Slot};

use crate::ledger::rows::PrizeRow;

/// A grant reaches so many slots ahead, the current one among them: 2 s.
pub const HORIZON_SLOTS: u64 = 20;

/// What is left in the last seconds of a round is spread until so long before its end.
pub const SPREAD_END_MS: u64 = 1_000;

/// From so long before the end of the round on, nothing is granted.
pub const LAST_GRANT_MS: u64 = 300;

/// Slots of the past that a window keeps: limits below ten a second look back at most so far.
pub const LOOK_BACK_SLOTS: u64 = 10;

impl PrizeRow {
    /// Units that the curve has released by an instant, never above the effective budget.
    pub fn released_at(&self, ms: u64) -> u64 {
        let budget = self.budget();
        if self.paused {
            return self.base_units.min(budget);
        }
        let since_open = |at: u64| at.saturating_sub(self.open_ms);
        self.curve.released(
            self.base_units,
            since_open(self.base_ms),
            budget,
            since_open(ms.max(self.base_ms)),
        )
    }

    /// Moves the base pair to now along the curve as it stands; what is changed behind this shapes only what is
    /// still to come.
    pub fn rebase(&mut self, now_ms: u64) {
        self.base_units = self.released_at(now_ms);
        self.base_ms = self.base_ms.max(now_ms);
    }

    /// The first slot of the round's last seconds, in which the rest is spread.
    pub fn tail_slot(&self) -> Slot {
        Slot::at(self.close_ms.saturating_sub(CURVE_TAIL_MS).max(self.open_ms))
    }

    /// Units for a slot at the curve's speed, or at catch-up speed if that is more.
    pub fn cap_on_curve(&self, slot: Slot) -> u64 {
        let on_curve = self.released_at(slot.end_ms()) - self.released_at(slot.start_ms());
        on_curve.max(self.catch_up(slot)).min(self.speed_cap(slot))
    }

    /// Units for each of the slots `.. end` when everything left is spread over them, what has been placed there
    /// already among it.
    pub fn cap_spread(&self, current: Slot, end: Slot) -> u64 {
        let slots = end.0.saturating_sub(current.0).max(1);
        (self.available() + self.window.sum(current, end)).div_ceil(slots)
    }

    /// The last slot, exclusive, over which the rest is spread at the end of the round.
    pub fn spread_end(&self, current: Slot) -> Slot {
        Slot::at(self.close_ms.saturating_sub(SPREAD_END_MS)).max(current.plus(1))
    }

    /// Catch-up share of a slot. Whole units are laid out evenly over the slots since the opening, so that a
    /// share below one a slot is neither lost nor rounded up.
    fn catch_up(&self, slot: Slot) -> u64 {
        let span_ms = (self.curve.end_ms() - self.curve.begin_ms()).max(1);
        let per_slot = u128::from(self.budget()) * u128::from(self.catch_up_percent) * u128::from(SLOT_MS);
        let since = slot.0.saturating_sub(Slot::at(self.open_ms).0);
        share_of(per_slot, 100 * u128::from(span_ms), since)
    }

    /// Highest speed, as units of a slot; ten neighbouring slots have exactly the second's units.
    pub fn speed_cap(&self, slot: Slot) -> u64 {
        if self.speed_max == 0 {
            return u64::MAX;
        }
        share_of(u128::from(self.speed_max) * u128::from(SLOT_MS), 1_000, slot.0)
    }
}

/// Whole units of place `at` when `num / den` units a place are laid out evenly (Bresenham's line).
fn share_of(num: u128, den: u128, at: u64) -> u64 {
    let until = |n: u128| num.saturating_mul(n) / den;
    let at = u128::from(at);
    u64::try_from(until(at + 1) - until(at)).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::share_of;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn shares_add_up(num in 0u128..5_000, den in 1u128..5_000, from in 0u64..100_000, n in 1u64..200) {
            let sum: u128 = (from..from + n).map(|at| u128::from(share_of(num, den, at))).sum();
            let exact = num * u128::from(n);
            prop_assert!(sum * den <= exact + den && exact <= (sum + 1) * den);
        }
    }
}
