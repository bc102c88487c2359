//! What of the node's log is on its way into the lane, and what has arrived. Pure.
//!
//! Groups go in order, several calls at once. A call that failed is repeated from the first group that is not known to be
//! there, when those behind it have returned too: readers skip what comes twice, and nothing may ever be missing. When
//! the epoch has ended, nothing is shipped any more.

use std::collections::VecDeque;
use std::ops::Range;

/// Calls that may be unanswered at once.
pub const CALLS_MAX: usize = 4;

/// The state of the shipping of one epoch. Positions are those of the log, which are those of the lane.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Shipping {
    acknowledged: u64,
    /// Ends of what the calls under way carry, oldest first.
    under_way: VecDeque<u64>,
    /// A call has failed, and others that went out before that are under way.
    failing: bool,
    ended: bool,
}

impl Shipping {
    /// Everything below `from` is in the lane.
    pub fn new(from: u64) -> Shipping {
        Shipping { acknowledged: from, under_way: VecDeque::new(), failing: false, ended: false }
    }

    /// The first group that no call carries.
    pub fn sent(&self) -> u64 {
        self.under_way.back().copied().unwrap_or(self.acknowledged)
    }

    /// The groups of which the next call carries as many as fit, when the log is durable up to `durable`. `None`: nothing
    /// is to be sent now.
    pub fn next(&self, durable: u64) -> Option<Range<u64>> {
        let may = !self.ended && !self.failing && self.under_way.len() < CALLS_MAX;
        (may && durable > self.sent()).then(|| self.sent()..durable)
    }

    /// A call goes out that carries the groups from [`Shipping::sent`] up to `end`.
    pub fn send(&mut self, end: u64) {
        debug_assert!(end > self.sent());
        self.under_way.push_back(end);
    }

    /// The oldest call under way has been answered: whether every group of it is in the lane, on all replicas that are in
    /// sync. The end of what is acknowledged, if it has moved. (One behind a failed call succeeds only when everything
    /// before it is in the lane after all.)
    pub fn answered(&mut self, arrived: bool) -> Option<u64> {
        let end = self.under_way.pop_front()?;
        self.failing = (self.failing || !arrived) && !self.under_way.is_empty();
        if arrived {
            self.acknowledged = end;
        }
        arrived.then_some(end)
    }

    /// The epoch has ended. What is under way may still arrive, behind the end mark or just before it.
    pub fn end(&mut self) {
        self.ended = true;
    }

    /// The epoch has ended.
    pub fn is_ended(&self) -> bool {
        self.ended
    }

    /// The end of what is known to be in the lane.
    pub fn acknowledged(&self) -> u64 {
        self.acknowledged
    }
}

#[cfg(test)]
mod tests {
    use super::{CALLS_MAX, Shipping};
    use proptest::prelude::*;
    use std::collections::VecDeque;
    use std::ops::Range;

    #[test]
    fn an_ended_epoch_ships_nothing_more() {
        let mut s = Shipping::new(10);
        assert_eq!((s.next(10), s.next(13)), (None, Some(10..13)));
        s.send(12);
        assert_eq!(s.next(20), Some(12..20));
        s.end();
        assert_eq!(s.answered(true), Some(12), "what was under way has arrived");
        assert_eq!((s.next(20), s.acknowledged(), s.is_ended()), (None, 12, true));
    }

    #[test]
    fn a_failure_waits_for_those_behind_it() {
        let mut s = Shipping::new(0);
        (1..=CALLS_MAX as u64).for_each(|end| s.send(end));
        assert_eq!(s.next(9), None, "enough calls are out");
        assert_eq!((s.answered(false), s.next(9)), (None, None));
        assert_eq!((s.answered(false), s.next(9)), (None, None));
        assert_eq!((s.answered(true), s.next(9)), (Some(3), None), "they are there after all");
        assert_eq!((s.answered(false), s.next(9)), (None, Some(3..9)));
    }

    proptest! {
        /// A lane that takes all, the first few, or nothing of a call and then nothing of those behind it, and says so or
        /// not: read without what came twice it is the log from its first group on, and what is acknowledged is there.
        #[test]
        fn nothing_is_ever_missing(steps in prop::collection::vec((0u64..6, 0u64..6, any::<bool>(), any::<bool>()), 1..80)) {
            let (mut s, mut lane, mut durable) = (Shipping::new(3), Vec::new(), 3u64);
            let mut calls: VecDeque<Range<u64>> = VecDeque::new();
            let mut broken = false;
            for (more, arrive, known, send) in steps {
                durable += more;
                if let Some(groups) = s.next(durable).filter(|_| send) {
                    broken &= !calls.is_empty();
                    s.send(groups.end);
                    calls.push_back(groups);
                } else if let Some(groups) = calls.pop_front() {
                    let arrived = groups.clone().take(if broken { 0 } else { arrive as usize + 2 });
                    lane.extend(arrived);
                    broken |= lane.last() != Some(&(groups.end - 1));
                    let failed = broken || !known;
                    broken |= failed;
                    s.answered(!failed);
                }
                let mut read = 3;
                for group in &lane {
                    prop_assert!(*group <= read, "group {} comes where {} must", group, read);
                    read = read.max(group + 1);
                }
                prop_assert!(s.acknowledged() <= read);
            }
        }
    }
}
