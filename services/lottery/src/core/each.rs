//! What a round with prizes for some regions only keeps of each prize beside its lock.
//!
//! A round whose prizes can be won everywhere has one instant before which nobody can win, and one at which somebody
//! came last. Where a prize is limited to regions, its units lie there while all others draw and lose: they must not
//! have to take the round's lock for it, and they are nobody for whom it is kept. So such a round keeps both instants
//! for each prize as well. They are hints: who reads an old one draws in vain, or takes the lock in vain.

use super::pool::CAME_EXACT_MS;
use campaign::plan::PRIZES_MAX;
use std::sync::atomic::{AtomicU64, Ordering};

/// Both instants of each prize, by its place in the pool. Prizes behind the first [`PRIZES_MAX`] (a pool keeps those
/// that plans took out) have none: they count as winnable at any time, and as come for by whoever could win them.
pub(super) struct Each {
    next: [AtomicU64; PRIZES_MAX],
    came: [AtomicU64; PRIZES_MAX],
}

impl Each {
    /// Nothing is known yet: anything may be winnable, and nobody has come.
    pub fn new() -> Each {
        let zeros = || std::array::from_fn(|_| AtomicU64::new(0));
        Each { next: zeros(), came: zeros() }
    }

    /// The prize's next unit comes at this instant; `u64::MAX`: none does.
    pub fn set_next(&self, at: usize, ms: u64) {
        if let Some(next) = self.next.get(at) {
            next.store(ms, Ordering::Release);
        }
    }

    /// Could a unit of the prize be winnable at `now_ms`?
    #[inline]
    pub fn may_hit(&self, at: usize, now_ms: u64) -> bool {
        self.next.get(at).is_none_or(|next| now_ms >= next.load(Ordering::Acquire))
    }

    /// Somebody draws at `now_ms` who could win the prize. False: that is not kept for this one.
    #[inline]
    pub fn came(&self, at: usize, now_ms: u64) -> bool {
        let Some(came) = self.came.get(at) else { return false };
        if now_ms > came.load(Ordering::Relaxed) + CAME_EXACT_MS {
            came.store(now_ms, Ordering::Relaxed);
        }
        true
    }

    /// When somebody came last who could win this prize and not all; 0: nobody yet.
    pub fn came_ms(&self, at: usize) -> u64 {
        self.came.get(at).map_or(0, |came| came.load(Ordering::Relaxed))
    }
}
