//! Capped exponential back-off with random spread.
//!
//! The randomness is handed in, so the same seed gives the same delays: the simulation and the tests can
//! repeat a run. Spread matters more than the curve: after an outage all clients would otherwise come back in
//! the same instant.

/// The shape of a back-off. All times in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BackoffPolicy {
    /// The first delay.
    pub first_ms: u64,
    /// No delay is longer than this, spread included.
    pub max_ms: u64,
    /// How often each delay is used before it doubles; 0 counts as 1.
    pub repeats: u32,
    /// How far a delay may be shortened, in thousandths: 250 means each delay lies between 75 % and 100 % of
    /// its nominal value. More than 1000 counts as 1000.
    pub spread_permille: u32,
}

impl BackoffPolicy {
    /// The delay before attempt number `failures + 1`, when `failures` attempts have failed in a row (so at least
    /// 1; 0 counts as 1). `random` is any uniformly distributed number.
    pub fn delay_ms(&self, failures: u32, random: u64) -> u64 {
        let doublings = failures.saturating_sub(1) / self.repeats.max(1);
        let nominal_ms = 1u64
            .checked_shl(doublings)
            .and_then(|factor| self.first_ms.checked_mul(factor))
            .map_or(self.max_ms, |delay_ms| delay_ms.min(self.max_ms));
        let spread = u64::from(self.spread_permille.min(1000));
        let room_ms = (u128::from(nominal_ms) * u128::from(spread) / 1000) as u64;
        // Multiply-shift instead of a remainder: no bias worth speaking of, and no division.
        let shorten_ms = ((u128::from(random) * (u128::from(room_ms) + 1)) >> 64) as u64;
        nominal_ms - shorten_ms
    }
}

/// A back-off that counts its own failures.
#[derive(Debug, Clone)]
pub struct Backoff {
    policy: BackoffPolicy,
    failures: u32,
}

impl Backoff {
    /// A back-off before its first failure.
    pub fn new(policy: BackoffPolicy) -> Self {
        Self { policy, failures: 0 }
    }

    /// Counts one more failure and says how long to wait now, in milliseconds.
    pub fn failed(&mut self, random: u64) -> u64 {
        self.failures = self.failures.saturating_add(1);
        self.policy.delay_ms(self.failures, random)
    }

    /// Starts again from the first delay.
    pub fn succeeded(&mut self) {
        self.failures = 0;
    }

    /// Failures in a row.
    pub fn failures(&self) -> u32 {
        self.failures
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_the_cap() {
        let mut backoff =
            Backoff::new(BackoffPolicy { first_ms: 4_000, max_ms: 30_000, repeats: 1, spread_permille: 0 });
        let delays: Vec<u64> = (0..5).map(|_| backoff.failed(u64::MAX)).collect();
        assert_eq!(delays, [4_000, 8_000, 16_000, 30_000, 30_000]);
        backoff.succeeded();
        assert_eq!(backoff.failed(0), 4_000);
        assert_eq!(backoff.failures(), 1);
    }

    #[test]
    fn each_delay_can_be_repeated() {
        let policy = BackoffPolicy { first_ms: 2, max_ms: 120, repeats: 2, spread_permille: 0 };
        let delays: Vec<u64> = (1..=6).map(|failures| policy.delay_ms(failures, 7)).collect();
        assert_eq!(delays, [2, 2, 4, 4, 8, 8]);
    }

    #[test]
    fn spread_stays_between_its_bounds_and_reaches_both() {
        let policy = BackoffPolicy { first_ms: 1_000, max_ms: 1_000, repeats: 1, spread_permille: 250 };
        assert_eq!(policy.delay_ms(1, 0), 1_000);
        assert_eq!(policy.delay_ms(1, u64::MAX), 750);
        assert_eq!(policy.delay_ms(u32::MAX, u64::MAX / 2), 875);
    }
}
