//! What the store does not take, or can't say, and how long it is left alone.
//!
//! A transaction carries many conversations and timelines. If one of them is such that the store refuses it for good, the
//! transaction fails with all the others in it, as often as it is made. So it is divided ([`Batch::split`](super::Batch::split)) until the one stands
//! alone, and that one rests: the others go on, whoever waits for it is told that it is not known, and the same step is
//! made again after a while, by itself. It stays the same step, because it may be that an earlier try of it was done after all.

use std::collections::HashMap;
use std::hash::Hash;

/// The first rest, in ms; each further one is twice as long ...
const REST_MS: u64 = 1_000;
/// ... up to this.
const REST_MAX_MS: u64 = 30_000;

/// The rest after so many refusals, in ms.
fn rest_ms(refusals: u32) -> u64 {
    (REST_MS << refusals.saturating_sub(1).min(8)).min(REST_MAX_MS)
}

/// A step that the store has refused, with the step.
pub(super) struct Rest<S> {
    pub step: S,
    refusals: u32,
    until_ms: u64,
    is_trying: bool,
    /// By the store's own word nothing of the last try was done.
    is_sure: bool,
}

impl<S: Clone> Rest<S> {
    pub fn new(step: S) -> Rest<S> {
        Rest { step, refusals: 0, until_ms: 0, is_trying: false, is_sure: false }
    }

    /// It was refused (once more); how often it has been.
    pub fn refused(&mut self, is_sure: bool, now_ms: u64) -> u32 {
        self.refusals += 1;
        self.until_ms = now_ms + rest_ms(self.refusals);
        (self.is_trying, self.is_sure) = (false, is_sure);
        self.refusals
    }

    /// The step, if its time has come; it is in the store's hands from then on.
    pub fn again(&mut self, now_ms: u64) -> Option<S> {
        if self.is_trying || now_ms < self.until_ms {
            return None;
        }
        self.is_trying = true;
        Some(self.step.clone())
    }

    /// Nothing of it is in the store's hands, and nothing of it was done.
    pub fn is_idle(&self) -> bool {
        !self.is_trying && self.is_sure
    }

    /// How long it is until the next try, in ms, about.
    pub fn wait_ms(&self, now_ms: u64) -> u64 {
        self.until_ms.saturating_sub(now_ms).max(REST_MS)
    }
}

/// What could not be read, because something stands there that no program of ours wrote.
pub(super) struct Unreadable<K>(HashMap<K, (u32, u64)>);

impl<K> Default for Unreadable<K> {
    fn default() -> Unreadable<K> {
        Unreadable(HashMap::new())
    }
}

impl<K: Hash + Eq> Unreadable<K> {
    /// It was found so (once more); how often it has been.
    pub fn found(&mut self, key: K, now_ms: u64) -> u32 {
        let (times, until_ms) = self.0.entry(key).or_default();
        *times += 1;
        *until_ms = now_ms + rest_ms(*times);
        *times
    }

    /// It is not to be read yet.
    pub fn is_left_alone(&self, key: &K, now_ms: u64) -> bool {
        self.0.get(key).is_some_and(|(_, until_ms)| now_ms < *until_ms)
    }

    /// It was read.
    pub fn was_read(&mut self, key: &K) {
        if !self.0.is_empty() {
            self.0.remove(key);
        }
    }

    /// Things that nobody has asked for since they could have been read again are forgotten.
    pub fn expire(&mut self, now_ms: u64) {
        if !self.0.is_empty() {
            self.0.retain(|_, (_, until_ms)| now_ms < *until_ms + 2 * REST_MAX_MS);
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }
}

#[cfg(test)]
mod tests {
    use super::{Rest, Unreadable};

    #[test]
    fn rests_grow_and_a_try_under_way_is_not_made_twice() {
        let mut rest = Rest::new(7);
        assert_eq!(rest.refused(true, 1_000), 1);
        assert!(rest.is_idle());
        assert_eq!((rest.again(1_999), rest.again(2_000), rest.again(9_000)), (None, Some(7), None));
        assert!(!rest.is_idle(), "it may be done any moment");
        assert_eq!(rest.refused(false, 3_000), 2);
        assert!(!rest.is_idle(), "it may have been done");
        assert_eq!((rest.again(4_999), rest.again(5_000)), (None, Some(7)));
        for _ in 0..10 {
            rest.refused(true, 10_000);
        }
        assert_eq!((rest.again(39_999), rest.again(40_000)), (None, Some(7)));
    }

    #[test]
    fn what_can_not_be_read_is_left_alone_for_a_while() {
        let mut unreadable = Unreadable::default();
        assert_eq!((unreadable.found(7, 1_000), unreadable.found(7, 2_000)), (1, 2));
        assert!(unreadable.is_left_alone(&7, 3_999) && !unreadable.is_left_alone(&7, 4_000));
        assert!(!unreadable.is_left_alone(&8, 2_000));
        unreadable.expire(63_999);
        assert_eq!(unreadable.len(), 1);
        unreadable.expire(64_000);
        assert_eq!(unreadable.len(), 0);
        unreadable.found(7, 1_000);
        unreadable.was_read(&7);
        assert_eq!(unreadable.len(), 0);
    }
}
