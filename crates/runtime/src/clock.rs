//! The one place where time is read.
//!
//! Two clocks, because they answer different questions. [`Clock::now_ms`] says what time it is for people and
//! records; it may jump when the machine's clock is set. [`Clock::mono_ns`] says how long something took; it
//! never runs back and goes on while the machine sleeps, which is what a lease needs: a process that was
//! suspended must find its right to act expired.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A source of time. Cheap to call and safe to share.
pub trait Clock: Send + Sync {
    /// Milliseconds since 1970-01-01T00:00:00 UTC. May jump in either direction.
    fn now_ms(&self) -> u64;

    /// Nanoseconds since an arbitrary start (on Linux: `CLOCK_BOOTTIME`, so the time the machine slept counts).
    /// Never runs back; comparable only within one process.
    fn mono_ns(&self) -> u64;
}

/// A clock as it is handed from room to room.
pub type SharedClock = Arc<dyn Clock>;

/// The machine's clocks.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl SystemClock {
    /// The system clock, ready to be handed around.
    pub fn shared() -> SharedClock {
        Arc::new(SystemClock)
    }
}

impl Clock for SystemClock {
    #[allow(clippy::disallowed_methods)] // the wall clock is read here and nowhere else
    fn now_ms(&self) -> u64 {
        // A clock set before 1970 counts as 1970: every window is then in the future and nothing is drawn.
        std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }

    fn mono_ns(&self) -> u64 {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        // Both fields of a boot-time clock are never negative.
        now.tv_sec.unsigned_abs() * 1_000_000_000 + now.tv_nsec.unsigned_abs()
    }
}

/// A clock that stands still until a test moves it.
#[derive(Debug)]
pub struct ManualClock {
    wall_ms: AtomicU64,
    mono_ns: AtomicU64,
}

impl ManualClock {
    /// A clock whose wall time is `now_ms`; its monotonic time starts at one second, so that "a little
    /// earlier" can be expressed.
    pub fn new(now_ms: u64) -> Arc<Self> {
        Arc::new(Self { wall_ms: AtomicU64::new(now_ms), mono_ns: AtomicU64::new(1_000_000_000) })
    }

    /// Lets `by_ms` milliseconds pass on both clocks.
    pub fn advance_ms(&self, by_ms: u64) {
        self.wall_ms.fetch_add(by_ms, Ordering::SeqCst);
        self.mono_ns.fetch_add(by_ms * 1_000_000, Ordering::SeqCst);
    }

    /// Sets the wall clock alone, as an operator or NTP would: the monotonic clock does not notice.
    pub fn set_wall_ms(&self, now_ms: u64) {
        self.wall_ms.store(now_ms, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now_ms(&self) -> u64 {
        self.wall_ms.load(Ordering::SeqCst)
    }

    fn mono_ns(&self) -> u64 {
        self.mono_ns.load(Ordering::SeqCst)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn system_clock_is_after_the_project_began_and_never_runs_back() {
        let clock = SystemClock;
        assert!(clock.now_ms() > 1_700_000_000_000);
        let mut last = clock.mono_ns();
        for _ in 0..1000 {
            let now = clock.mono_ns();
            assert!(now >= last);
            last = now;
        }
    }

    #[test]
    fn manual_clock_moves_both_or_the_wall_alone() {
        let clock = ManualClock::new(5_000);
        let start = clock.mono_ns();
        clock.advance_ms(250);
        assert_eq!(clock.now_ms(), 5_250);
        assert_eq!(clock.mono_ns() - start, 250_000_000);
        clock.set_wall_ms(1_000);
        assert_eq!(clock.now_ms(), 1_000);
        assert_eq!(clock.mono_ns() - start, 250_000_000);
    }
}
