//! The only place that reads clocks: everything else is handed the time, so that tests choose it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Wall clock in ms that never runs back in this process, and time since start.
///
/// Books are ordered by it: an event stamped after another one read the clock is never earlier, even if the system's
/// clock is set back or the newest journalled payout is ahead of it.
#[derive(Debug)]
pub struct Clock {
    start: Instant,
    floor_ms: AtomicU64,
}

impl Default for Clock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock {
    /// Starts now.
    #[must_use]
    #[allow(clippy::disallowed_methods)] // the one place where time comes in
    pub fn new() -> Self {
        Self { start: Instant::now(), floor_ms: AtomicU64::new(0) }
    }

    /// Milliseconds UTC, never less than any value given out or set as floor before.
    #[must_use]
    #[allow(clippy::disallowed_methods)]
    pub fn now_ms(&self) -> u64 {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        let wall_ms = u64::try_from(wall.as_millis()).unwrap_or(u64::MAX);
        self.floor_ms.fetch_max(wall_ms, Ordering::Relaxed).max(wall_ms)
    }

    /// Nothing earlier than `ms` is given out from now on: called with the newest instant in a journal.
    pub fn raise(&self, ms: u64) {
        self.floor_ms.fetch_max(ms, Ordering::Relaxed);
    }

    /// Since start, monotonic.
    #[must_use]
    pub fn uptime(&self) -> Duration {
        self.start.elapsed()
    }
}

#[cfg(test)]
mod tests {
    use super::Clock;

    #[test]
    fn never_runs_back_behind_what_a_journal_said() {
        let clock = Clock::new();
        let ahead = clock.now_ms() + 60_000;
        clock.raise(ahead);
        assert_eq!(clock.now_ms(), ahead);
        clock.raise(5);
        assert_eq!(clock.now_ms(), ahead);
    }
}
