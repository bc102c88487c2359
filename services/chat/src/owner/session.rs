//! The node's right to answer: two seconds from the moment it sent a call to the owners' book that succeeded.
//!
//! By the monotonic clock, which goes on while a process or its machine is stopped: who wakes up late finds his right
//! expired, before anybody could have told him so.

use std::sync::atomic::{AtomicU64, Ordering};

/// How long a call's success carries, from when it was sent. Others may end the epoch a second later.
pub(super) const SESSION_NS: u64 = 2_000_000_000;

const _: () = assert!(SESSION_NS / 1_000_000 < ownership::SESSION_DEAD_MS);

/// Written by the tenure, read by everyone.
#[derive(Default)]
pub(super) struct Session {
    valid_until_ns: AtomicU64,
}

impl Session {
    /// A call that was sent at this monotonic instant has succeeded.
    pub fn renew(&self, sent_ns: u64) {
        self.valid_until_ns.fetch_max(sent_ns + SESSION_NS, Ordering::Release);
    }

    /// Nothing may be answered any more, whatever comes.
    pub fn end(&self) {
        self.valid_until_ns.store(0, Ordering::Release);
    }

    /// May anything be answered at this monotonic instant?
    pub fn is_valid(&self, mono_ns: u64) -> bool {
        mono_ns < self.valid_until_ns.load(Ordering::Acquire)
    }
}

#[cfg(test)]
mod tests {
    use super::Session;

    const S: u64 = 1_000_000_000;

    #[test]
    fn lasts_two_seconds_from_sending() {
        let session = Session::default();
        assert!(!session.is_valid(5 * S), "before the first call");
        session.renew(10 * S);
        assert!(session.is_valid(12 * S - 1) && !session.is_valid(12 * S));
        // An answer that comes late does not shorten what a later call has brought.
        session.renew(11 * S);
        session.renew(10 * S);
        assert!(session.is_valid(13 * S - 1));
        session.end();
        assert!(!session.is_valid(11 * S));
    }
}
