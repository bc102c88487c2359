//! The node's right to decide, and its time.
//!
//! Both come from the ledger: a successful tick gives two seconds from the moment it was sent, and shows the
//! ledger's clock. Between ticks time goes on by the monotonic clock, so that a jump of the machine's clock
//! moves no window.

use crate::core::Now;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

/// How long a tick's success carries, from when it was sent.
pub const SESSION_NS: u64 = 2_000_000_000;

/// Doubt about the ledger's clock above which nothing is won.
pub const DOUBT_NS_MAX: u64 = 100_000_000;

/// A sample is taken, although it is less sharp than the one in use, when that is this old.
const SAMPLE_NS_MAX: u64 = 10_000_000_000;

/// What a node knows of its session. Written by the tick, read by everyone.
#[derive(Default)]
pub struct Session {
    valid_until_ns: AtomicU64,
    offset_ns: AtomicI64,
    doubt_ns: AtomicU64,
    sampled_ns: AtomicU64,
}

impl Session {
    /// A tick that was sent and answered at these monotonic instants, with the ledger's time in its answer.
    pub fn renew(&self, sent_ns: u64, answered_ns: u64, ledger_ms: u64) {
        let doubt = (answered_ns - sent_ns) / 2;
        let old = answered_ns - self.sampled_ns.load(Ordering::Relaxed).min(answered_ns) > SAMPLE_NS_MAX;
        if old || doubt <= self.doubt_ns.load(Ordering::Relaxed) {
            let offset = i128::from(ledger_ms) * 1_000_000 - i128::from(sent_ns + doubt);
            self.offset_ns.store(offset as i64, Ordering::Relaxed);
            self.doubt_ns.store(doubt, Ordering::Relaxed);
            self.sampled_ns.store(answered_ns, Ordering::Relaxed);
        }
        self.valid_until_ns.store(sent_ns + SESSION_NS, Ordering::Release);
    }

    /// Nothing may be decided or answered any more.
    pub fn end(&self) {
        self.valid_until_ns.store(0, Ordering::Release);
    }

    /// May a win be told at this monotonic instant?
    #[inline]
    pub fn is_valid(&self, mono_ns: u64) -> bool {
        mono_ns < self.valid_until_ns.load(Ordering::Acquire)
    }

    /// The time and the right at a monotonic instant.
    #[inline]
    pub fn now(&self, mono_ns: u64) -> Now {
        let ns = i128::from(mono_ns) + i128::from(self.offset_ns.load(Ordering::Relaxed));
        let sure = self.doubt_ns.load(Ordering::Relaxed) <= DOUBT_NS_MAX;
        Now { ms: (ns.max(0) / 1_000_000) as u64, may_win: sure && self.is_valid(mono_ns) }
    }
}

#[cfg(test)]
mod tests {
    use super::Session;
    use crate::core::Now;

    const S: u64 = 1_000_000_000;

    #[test]
    fn lasts_two_seconds_from_sending() {
        let s = Session::default();
        assert!(!s.now(5 * S).may_win);
        s.renew(10 * S, 10 * S + 2_000_000, 1_000_000);
        assert_eq!(s.now(10 * S + 1_000_000), Now { ms: 1_000_000, may_win: true });
        assert_eq!(s.now(11 * S + 1_000_000), Now { ms: 1_001_000, may_win: true });
        assert!(!s.now(12 * S).may_win, "two seconds from sending, not from the answer");
        s.renew(11 * S, 11 * S + 9_000_000, 1_000_900);
        assert_eq!(s.now(11 * S + 1_000_000).ms, 1_001_000, "a blunter sample leaves the clock alone");
        s.end();
        assert!(!s.is_valid(11 * S));
    }

    #[test]
    fn wins_nothing_while_the_time_is_in_doubt() {
        let s = Session::default();
        s.renew(20 * S, 20 * S + 300_000_000, 1_000_000);
        assert!(s.is_valid(20 * S + 1) && !s.now(20 * S + 1).may_win);
    }
}
