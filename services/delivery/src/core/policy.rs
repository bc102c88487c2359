//! What a vendor has declared, and how patient we are with it.

use serde::{Deserialize, Serialize};

/// Delays between tries: the first failure waits for the first entry, and so on; the last one repeats.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RetrySchedule {
    /// Delays in ms, after the first, second, ... failure in a row; the last one repeats. Never empty.
    pub delays_ms: Vec<u64>,
    /// How far a delay may be lengthened or shortened, in thousandths (200: between 80 % and 120 %).
    pub spread_permille: u32,
    /// Least delay after a time-out or an over-limit answer, ms; the spread never goes below it.
    pub slow_down_min_ms: u64,
}

impl Default for RetrySchedule {
    /// 5 s, 5 min, 30 min, 2 h, 5 h, 10 h, with 20 % spread and 60 s after a slow-down, as good senders do.
    fn default() -> Self {
        Self {
            delays_ms: [5, 300, 1_800, 7_200, 18_000, 36_000].map(|s| s * 1_000).to_vec(),
            spread_permille: 200,
            slow_down_min_ms: 60_000,
        }
    }
}

impl RetrySchedule {
    /// The delay after `failures` failures in a row (at least 1). `random` is any uniform number. `slow_down`: the
    /// vendor did not answer in time, or said that we are too fast.
    pub fn delay_ms(&self, failures: u32, slow_down: bool, random: u64) -> u64 {
        let at = (failures.max(1) as usize - 1).min(self.delays_ms.len().saturating_sub(1));
        let nominal = self.delays_ms.get(at).copied().unwrap_or(60_000);
        let spread = u128::from(self.spread_permille.min(1_000));
        let half = u128::from(nominal) * spread / 1_000;
        // Multiply-shift: uniform in 0 ..= 2 * half.
        let part = (u128::from(random) * (2 * half + 1)) >> 64;
        let delay = (u128::from(nominal) - half + part).min(u128::from(u64::MAX)) as u64;
        if slow_down { delay.max(self.slow_down_min_ms) } else { delay }
    }
}

/// Everything that the state machine must know of a vendor. Times in ms.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VendorPolicy {
    /// How long a call may take before we stop listening.
    pub timeout_ms: u64,
    /// How long behind that the vendor may still take a call that was lost on its way.
    pub settle_ms: u64,
    /// How long after its transition to `sending` a call may begin; a later one is not made.
    pub begin_within_ms: u64,
    /// How long after its first call a number may be asked about.
    pub query_window_ms: u64,
    /// How long after its first call a number may be repeated and is still recognised.
    pub repeat_window_ms: u64,
    /// Delays between sends.
    pub retry: RetrySchedule,
    /// Delays between questions about what is accepted or unknown.
    pub ask: RetrySchedule,
    /// How often an order held for want of an account is looked at again, although nobody registered one.
    pub held_recheck_ms: u64,
    /// Highest generation that is used before a person decides; at most [`super::GENERATION_MAX`].
    pub generation_max: u16,
}

impl VendorPolicy {
    /// From which instant a 'not found' about a call made at `called_ms` may be believed.
    pub fn settled_ms(&self, called_ms: u64) -> u64 {
        called_ms
            .saturating_add(self.begin_within_ms)
            .saturating_add(self.timeout_ms)
            .saturating_add(self.settle_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::RetrySchedule;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn delays_stay_in_their_spread_and_above_the_floor(failures in 0u32..20, slow: bool, random: u64) {
            let s = RetrySchedule::default();
            let nominal = s.delays_ms[(failures.max(1) as usize - 1).min(5)];
            let d = s.delay_ms(failures, slow, random);
            if slow { prop_assert!(d >= 60_000); }
            let (low, high) = (nominal * 8 / 10, nominal * 12 / 10);
            prop_assert!(d >= low && d <= high.max(60_000), "{d} of {nominal}");
        }
    }

    #[test]
    fn the_spread_reaches_both_ends() {
        let s = RetrySchedule::default();
        assert_eq!(s.delay_ms(1, false, 0), 4_000);
        assert_eq!(s.delay_ms(1, false, u64::MAX), 6_000);
    }
}
