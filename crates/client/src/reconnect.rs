//! How long to wait before connecting again, so that millions of clients don't come back in one instant.
//!
//! A connection that was good and broke is tried again after 4, 8, 16 ... 30 s; one that could not be made after 2,
//! 2, 4, 4, 8, 8 ... 120 s. Both are shortened by a random share. The count of drops is forgotten only once a
//! connection has lasted, so a server that takes connections and cuts them at once is not hammered.

use runtime::{Backoff, BackoffPolicy};

/// The pauses. All times in ms.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ReconnectPolicy {
    /// After a drop.
    pub dropped: BackoffPolicy,
    /// After a failed attempt to connect.
    pub failed: BackoffPolicy,
    /// A connection that lived so long was a good one: drops are counted anew behind it.
    pub good_after_ms: u64,
}

impl Default for ReconnectPolicy {
    fn default() -> Self {
        Self {
            dropped: BackoffPolicy { first_ms: 4_000, max_ms: 30_000, repeats: 1, spread_permille: 250 },
            failed: BackoffPolicy { first_ms: 2_000, max_ms: 120_000, repeats: 2, spread_permille: 250 },
            good_after_ms: 60_000,
        }
    }
}

impl ReconnectPolicy {
    /// The same shape with every time multiplied by `permille` / 1000, and no time below 1 ms: for tests, and for
    /// demonstrations that can't wait for minutes.
    #[must_use]
    pub fn scaled(self, permille: u64) -> Self {
        let scale = |ms: u64| (ms.saturating_mul(permille) / 1000).max(1);
        let policy =
            |p: BackoffPolicy| BackoffPolicy { first_ms: scale(p.first_ms), max_ms: scale(p.max_ms), ..p };
        Self {
            dropped: policy(self.dropped),
            failed: policy(self.failed),
            good_after_ms: scale(self.good_after_ms),
        }
    }
}

/// Counts what went wrong and names the pauses.
#[derive(Clone, Debug)]
pub struct Reconnect {
    dropped: Backoff,
    failed: Backoff,
    good_after_ms: u64,
    since_ms: Option<u64>,
}

impl Reconnect {
    /// Before the first connection.
    pub fn new(policy: ReconnectPolicy) -> Self {
        Self {
            dropped: Backoff::new(policy.dropped),
            failed: Backoff::new(policy.failed),
            good_after_ms: policy.good_after_ms,
            since_ms: None,
        }
    }

    /// A connection is made and logged in. Times are monotonic ms.
    pub fn connected(&mut self, now_ms: u64) {
        self.failed.succeeded();
        self.since_ms = Some(now_ms);
    }

    /// A connection is over that was logged in; gives the pause in ms. `random` is uniform.
    pub fn dropped(&mut self, now_ms: u64, random: u64) -> u64 {
        if self.since_ms.take().is_some_and(|since| now_ms.saturating_sub(since) >= self.good_after_ms) {
            self.dropped.succeeded();
        }
        self.dropped.failed(random)
    }

    /// Connecting or logging in failed; gives the pause in ms. `random` is uniform.
    pub fn failed(&mut self, random: u64) -> u64 {
        self.since_ms = None;
        self.failed.failed(random)
    }

    /// Failed attempts in a row.
    pub fn failures(&self) -> u32 {
        self.failed.failures()
    }
}

#[cfg(test)]
mod tests {
    use super::{Reconnect, ReconnectPolicy};

    #[test]
    fn pauses_are_those_promised() {
        let mut r = Reconnect::new(ReconnectPolicy::default());
        let failed: Vec<_> = (0..14).map(|_| r.failed(0) / 1000).collect();
        assert_eq!(failed, [2, 2, 4, 4, 8, 8, 16, 16, 32, 32, 64, 64, 120, 120]);
        r.connected(0);
        let dropped: Vec<_> = (0..5).map(|i| r.dropped(i, 0) / 1000).collect();
        assert_eq!(dropped, [4, 8, 16, 30, 30]);
        assert_eq!(r.failed(0), 2_000, "a connection that was made ends a row of failures");
        assert_eq!(r.failed(u64::MAX), 1_500, "spread shortens by up to a quarter");
    }

    #[test]
    fn only_a_connection_that_lasted_forgives_drops() {
        let mut r = Reconnect::new(ReconnectPolicy::default());
        r.connected(0);
        assert_eq!(r.dropped(59_999, 0), 4_000);
        r.connected(100_000);
        assert_eq!(r.dropped(100_001, 0), 8_000);
        r.connected(200_000);
        assert_eq!(r.dropped(260_000, 0), 4_000);
    }

    #[test]
    fn scales_every_time() {
        let mut r = Reconnect::new(ReconnectPolicy::default().scaled(100));
        assert_eq!((r.failed(0), r.dropped(0, 0)), (200, 400));
        let mut r = Reconnect::new(ReconnectPolicy::default().scaled(0));
        assert_eq!((r.failed(0), r.dropped(0, 0)), (1, 1));
    }
}
