//! How loaded a worker is, and by how much clients are asked to come less often.
//!
//! Two signs, measured once a tick: the share of the time that the worker's thread ran, and how late the tick itself
//! came (a worker that waits for a core, or has much in its queue, is late without running more). The larger one
//! counts. It rises at once and falls slowly: asking too many to come back too soon is the costlier mistake.

/// Length of a tick in ms.
pub const TICK_MS: u64 = 100;

/// Busy share, in thousandths, up to which nothing is stretched.
const BUSY_CALM: u64 = 600;
/// Busy share at which the interval is the longest.
const BUSY_FULL: u64 = 950;
/// Lateness, in ms, up to which nothing is stretched.
const LATE_CALM_MS: u64 = 5;
/// Lateness at which the interval is the longest.
const LATE_FULL_MS: u64 = 200;

/// A worker's load, from 0 (calm) to 1000 (full).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct LoadGauge {
    load: u64,
}

impl LoadGauge {
    /// Takes one tick's measure: ns that the thread ran, ns since the tick before, both monotonic.
    pub fn observe(&mut self, ran_ns: u64, passed_ns: u64) {
        if passed_ns == 0 {
            // A clock that stands still measures nothing.
            return;
        }
        let busy = ran_ns.saturating_mul(1000) / passed_ns;
        let late_ms = (passed_ns / 1_000_000).saturating_sub(TICK_MS);
        let now = share(busy, BUSY_CALM, BUSY_FULL).max(share(late_ms, LATE_CALM_MS, LATE_FULL_MS));
        self.load = now.max(self.load * 7 / 8);
    }

    /// From 0 to 1000.
    pub fn load(&self) -> u32 {
        self.load as u32
    }

    /// The interval to name: between the plan's shortest and longest by load, and never below lottery's own.
    #[inline]
    pub fn interval_ms(&self, own_ms: u32, min_ms: u32, max_ms: u32) -> u32 {
        let room = u64::from(max_ms.saturating_sub(min_ms));
        own_ms.max(min_ms + (room * self.load / 1000) as u32)
    }
}

fn share(value: u64, calm: u64, full: u64) -> u64 {
    (value.saturating_sub(calm) * 1000 / (full - calm)).min(1000)
}

#[cfg(test)]
mod tests {
    use super::LoadGauge;
    use proptest::prelude::*;

    const MS: u64 = 1_000_000;

    #[test]
    fn rises_at_once_and_falls_slowly() {
        let mut gauge = LoadGauge::default();
        gauge.observe(50 * MS, 100 * MS);
        assert_eq!((gauge.load(), gauge.interval_ms(0, 1000, 3000)), (0, 1000));
        gauge.observe(96 * MS, 100 * MS);
        assert_eq!((gauge.load(), gauge.interval_ms(0, 1000, 3000)), (1000, 3000));
        gauge.observe(0, 100 * MS);
        assert_eq!(gauge.load(), 875);
        for _ in 0..100 {
            gauge.observe(0, 100 * MS);
        }
        assert_eq!(gauge.load(), 0);
        gauge.observe(MS, 400 * MS);
        assert_eq!(gauge.load(), 1000, "late though idle: it waited for a core");
    }

    proptest! {
        #[test]
        fn never_shorter_than_lottery_says(ran: u32, passed: u32, own: u32, min in 0u32..10_000, more in 0u32..10_000) {
            let mut gauge = LoadGauge::default();
            gauge.observe(u64::from(ran), u64::from(passed));
            let named = gauge.interval_ms(own, min, min + more);
            prop_assert!(named >= own && named >= min && named <= own.max(min + more));
        }
    }
}
