//! Claims that were passed on a moment ago, so that a burst of them makes one order.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use campaign::AwardId;
use parking_lot::Mutex;
use tokio::sync::OnceCell;

use crate::limits::{CLAIM_MEMORY_MS, CLAIMS_MAX};

/// One claim: filled when its order is durable. Whoever finds it empty waits for the one who sends, or sends itself.
pub(super) type Sent = Arc<OnceCell<()>>;

/// Remembered claims, bounded in number and time.
#[derive(Default)]
pub(super) struct Claims {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    sent: HashMap<AwardId, (u64, Sent)>,
    by_time: VecDeque<(u64, AwardId)>,
}

impl Claims {
    /// The claim of an award, remembered from now on; none when too many are remembered already.
    pub fn of(&self, award: AwardId, now_ms: u64) -> Option<Sent> {
        let mut inner = self.inner.lock();
        inner.forget(now_ms);
        if let Some((_, sent)) = inner.sent.get(&award) {
            return Some(Arc::clone(sent));
        }
        if inner.sent.len() >= CLAIMS_MAX {
            return None;
        }
        let sent = Sent::default();
        inner.sent.insert(award, (now_ms, Arc::clone(&sent)));
        inner.by_time.push_back((now_ms, award));
        Some(sent)
    }

    /// Whether a claim of the award was passed on a moment ago.
    pub fn was_sent(&self, award: AwardId, now_ms: u64) -> bool {
        let mut inner = self.inner.lock();
        inner.forget(now_ms);
        inner.sent.get(&award).is_some_and(|(_, sent)| sent.initialized())
    }
}

impl Inner {
    fn forget(&mut self, now_ms: u64) {
        while let Some((at_ms, award)) = self.by_time.front().copied() {
            // A clock that was set back must not keep claims for ever.
            if at_ms <= now_ms && now_ms - at_ms < CLAIM_MEMORY_MS {
                return;
            }
            self.by_time.pop_front();
            self.sent.remove(&award);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Claims;
    use crate::limits::{CLAIM_MEMORY_MS, CLAIMS_MAX};
    use campaign::AwardId;

    #[test]
    fn remembers_for_a_while_and_not_too_many() {
        let claims = Claims::default();
        claims.of(AwardId(1), 5).unwrap().set(()).unwrap();
        assert!(claims.was_sent(AwardId(1), 6));
        assert!(claims.of(AwardId(1), 6).unwrap().initialized());
        assert!(!claims.was_sent(AwardId(1), 5 + CLAIM_MEMORY_MS));
        for id in 0..CLAIMS_MAX as u128 {
            assert!(claims.of(AwardId(id), 99_999).is_some());
        }
        assert!(claims.of(AwardId(1 << 100), 99_999).is_none());
        assert!(claims.of(AwardId(1 << 100), 99_999 + CLAIM_MEMORY_MS).is_some());
    }
}
