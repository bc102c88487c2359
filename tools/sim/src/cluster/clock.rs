//! A machine's clocks: its wall clock is off and jumps, its monotonic clock goes a little too fast or too slow.

use runtime::{Clock, ManualClock};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use testkit::SimRng;

/// A quartz is off by at most so many millionths.
const DRIFT_PPM_MAX: u64 = 200;
/// A wall clock is off by at most so much, ms: most machines are close, some have never heard of NTP.
const OFF_MS_MAX: u64 = 7_200_000;

/// The clocks of one machine.
pub(crate) struct MachineClock {
    world: Arc<ManualClock>,
    off_ms: AtomicI64,
    drift_ppm: i64,
    /// Monotonic time begins at the machine's own start.
    from_ns: u64,
}

impl MachineClock {
    pub fn new(world: Arc<ManualClock>, rng: &mut SimRng) -> MachineClock {
        let drift_ppm = rng.below(2 * DRIFT_PPM_MAX + 1) as i64 - DRIFT_PPM_MAX as i64;
        let from_ns = rng.below(1 << 50);
        let clock = MachineClock { world, off_ms: AtomicI64::new(0), drift_ppm, from_ns };
        clock.jump(rng);
        clock
    }

    /// Somebody sets the wall clock.
    pub fn jump(&self, rng: &mut SimRng) {
        let most = if rng.one_in(4) { OFF_MS_MAX } else { 50 };
        self.off_ms.store(rng.below(2 * most + 1) as i64 - most as i64, Ordering::Relaxed);
    }
}

impl Clock for MachineClock {
    fn now_ms(&self) -> u64 {
        self.world.now_ms().saturating_add_signed(self.off_ms.load(Ordering::Relaxed))
    }

    fn mono_ns(&self) -> u64 {
        let ns = self.world.mono_ns();
        self.from_ns + ns.saturating_add_signed(ns as i64 / 1_000_000 * self.drift_ppm)
    }
}

#[cfg(test)]
mod tests {
    use super::MachineClock;
    use runtime::{Clock as _, ManualClock};
    use testkit::SimRng;

    #[test]
    fn drifts_and_never_runs_back() {
        let (world, mut rng) = (ManualClock::new(1_000_000_000), SimRng::new(4));
        for _ in 0..20 {
            let clock = MachineClock::new(world.clone(), &mut rng);
            let mut last = clock.mono_ns();
            let from = last;
            for _ in 0..10_000 {
                world.advance_ms(1);
                let now = clock.mono_ns();
                assert!(now >= last);
                last = now;
            }
            assert!((9_990_000_000..=10_010_000_000).contains(&(last - from)), "{}", last - from);
        }
    }
}
