//! A bucket of permits in plain integers, for state that one task owns. Time is handed in.

/// Permits that refill with time; never more than one second's worth, and at least one.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Bucket {
    /// Thousandths of a permit.
    level: u64,
    last_ms: u64,
}

impl Bucket {
    /// A full bucket.
    pub fn full(per_second: u32, now_ms: u64) -> Self {
        Self { level: u64::from(per_second) * 1000, last_ms: now_ms }
    }

    /// Adds what has come in since the last call. Once for a batch of [`Bucket::take`].
    #[inline]
    pub fn refill(&mut self, per_second: u32, now_ms: u64) {
        let passed_ms = now_ms.saturating_sub(self.last_ms).min(1000);
        let full = u64::from(per_second) * 1000;
        self.level = (self.level + passed_ms * u64::from(per_second)).min(full);
        self.last_ms = now_ms;
    }

    /// Takes a permit, if there is one.
    #[inline]
    pub fn take(&mut self) -> bool {
        if self.level < 1000 {
            return false;
        }
        self.level -= 1000;
        true
    }

    /// Whether every permit is there that there may be.
    pub fn is_full(&self, per_second: u32) -> bool {
        self.level >= u64::from(per_second) * 1000
    }

    /// Time until the next permit, in ms.
    pub fn wait_ms(&self, per_second: u32) -> u32 {
        let missing = 1000u64.saturating_sub(self.level);
        missing.div_ceil(u64::from(per_second.max(1))) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::Bucket;
    use proptest::prelude::*;

    #[test]
    fn says_when_the_next_one_comes() {
        let mut bucket = Bucket::full(2, 0);
        assert!(bucket.take() && bucket.take() && !bucket.take());
        assert_eq!(bucket.wait_ms(2), 500);
        bucket.refill(2, 499);
        assert!(!bucket.take());
        bucket.refill(2, 500);
        assert!(bucket.take());
        bucket.refill(2, 1_499);
        assert!(!bucket.is_full(2));
        bucket.refill(2, 1_500);
        assert!(bucket.is_full(2) && !bucket.is_full(3) && Bucket::full(3, 0).is_full(3));
    }

    proptest! {
        /// Over any time, at most the burst and the rate's share pass.
        #[test]
        fn never_above_rate_and_burst(rate in 1u32..50, steps in prop::collection::vec((0u64..700, 0u32..80), 1..100)) {
            let mut bucket = Bucket::full(rate, 0);
            let (mut now, mut passed) = (0, 0u64);
            for (step, asks) in steps {
                now += step;
                bucket.refill(rate, now);
                passed += (0..asks).filter(|_| bucket.take()).count() as u64;
                prop_assert!(passed * 1000 <= u64::from(rate) * (1000 + now));
            }
        }
    }
}
