//! Rates: the senders' declared one, checked by their own send stamps; the arrivals; and the capacity behind 429.
//!
//! Stamps come out of order, since a sender uses many connections. [`StampChecker`] keeps the last second of stamps
//! sorted and judges a stamp only when no earlier one is expected any more; one that comes still later is counted as
//! late and not judged.

use std::collections::VecDeque;

/// The window in which a limit holds, ns.
pub const WINDOW_NS: u64 = 100_000_000;
/// How far behind the newest stamp another may arrive and still be judged, ns of stamp time.
const HORIZON_NS: u64 = 1_000_000_000;
/// Stamps kept for judging: a second at ten times the largest seed figure. Beyond it the oldest are judged early.
const PENDING_MAX: usize = 400_000;

/// How many sends are allowed in how long a window (ns) for a limit per second.
#[must_use]
pub fn allowance(limit_per_second: u32) -> (usize, u64) {
    if limit_per_second >= 10 {
        ((limit_per_second / 10) as usize, WINDOW_NS)
    } else {
        (1, 1_000_000_000u64.div_ceil(u64::from(limit_per_second.max(1))))
    }
}

/// What a checker found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct StampReport {
    /// Stamps seen.
    pub stamps: u64,
    /// Requests without a readable stamp.
    pub stamps_missing: u64,
    /// Stamps that came too late to be judged.
    pub stamps_late: u64,
    /// Sends that were one too many in the window ending with them.
    pub stamp_violations: u64,
    /// Most sends in any window.
    pub stamps_max_in_window: u64,
}

/// Judges send stamps of one vendor against a limit: in any half-open window of 100 ms at most a tenth of it.
#[derive(Debug, Clone)]
pub struct StampChecker {
    limit: u32,
    lower_from: Option<(u64, u32)>,
    pending: VecDeque<u64>,
    window: VecDeque<u64>,
    newest_ns: u64,
    judged_ns: u64,
    report: StampReport,
}

impl StampChecker {
    /// For a limit per second.
    #[must_use]
    pub fn new(limit: u32) -> Self {
        Self {
            limit,
            lower_from: None,
            pending: VecDeque::new(),
            window: VecDeque::new(),
            newest_ns: 0,
            judged_ns: 0,
            report: StampReport::default(),
        }
    }

    /// Changes the limit: a higher one at once, a lower one for stamps 1 s after the newest, since senders have a second
    /// to follow.
    pub fn set_limit(&mut self, limit: u32) {
        if limit >= self.limit {
            self.limit = limit;
            self.lower_from = None;
        } else {
            self.lower_from = Some((self.newest_ns.saturating_add(HORIZON_NS), limit));
        }
    }

    /// A request arrived with this stamp, or without one.
    pub fn record(&mut self, stamp_ns: Option<u64>) {
        let Some(stamp) = stamp_ns else {
            self.report.stamps_missing += 1;
            return;
        };
        self.report.stamps += 1;
        if stamp.saturating_add(HORIZON_NS) < self.newest_ns || stamp < self.judged_ns {
            self.report.stamps_late += 1;
            return;
        }
        let at = self.pending.partition_point(|&other| other <= stamp);
        self.pending.insert(at, stamp);
        self.newest_ns = self.newest_ns.max(stamp);
        while let Some(&oldest) = self.pending.front() {
            if oldest.saturating_add(HORIZON_NS) >= self.newest_ns && self.pending.len() <= PENDING_MAX {
                break;
            }
            self.pending.pop_front();
            self.judge(oldest);
        }
    }

    fn judge(&mut self, stamp: u64) {
        self.judged_ns = stamp;
        if let Some((from, limit)) = self.lower_from
            && stamp >= from
        {
            self.limit = limit;
            self.lower_from = None;
        }
        let (sends_max, window_ns) = allowance(self.limit);
        while self.window.front().is_some_and(|&first| first.saturating_add(window_ns) <= stamp) {
            self.window.pop_front();
        }
        self.window.push_back(stamp);
        self.report.stamps_max_in_window = self.report.stamps_max_in_window.max(self.window.len() as u64);
        if self.window.len() > sends_max {
            self.report.stamp_violations += 1;
        }
    }

    /// What was found up to now, the stamps still waiting included as if no earlier one came.
    #[must_use]
    pub fn report(&self) -> StampReport {
        let mut end = self.clone();
        while let Some(stamp) = end.pending.pop_front() {
            end.judge(stamp);
        }
        end.report
    }
}

/// Counts arrivals in windows of 100 ms laid end to end.
#[derive(Debug, Clone, Copy, Default)]
pub struct ArrivalCounter {
    window: u64,
    count: u64,
    /// Most arrivals in one window.
    pub max: u64,
    /// Windows with more arrivals than a tenth of the limit.
    pub windows_over: u64,
}

impl ArrivalCounter {
    /// A request arrived `uptime_ns` after start, under this limit per second.
    pub fn record(&mut self, uptime_ns: u64, limit_per_second: u32) {
        let window = uptime_ns / WINDOW_NS;
        if window != self.window {
            self.window = window;
            self.count = 0;
        }
        self.count += 1;
        self.max = self.max.max(self.count);
        if self.count == allowance(limit_per_second).0 as u64 + 1 {
            self.windows_over += 1;
        }
    }
}

/// The capacity of a vendor: GCRA, that is, the instant at which an evenly paced sender would be due next; a request
/// more than the burst ahead of it is turned away.
#[derive(Debug, Clone, Copy, Default)]
pub struct Capacity {
    due_ns: u64,
}

impl Capacity {
    /// Takes one request at `now_ns`, or says how many ns to wait.
    pub fn take(&mut self, now_ns: u64, per_second: u32, burst_ms: u32) -> Result<(), u64> {
        let due = self.due_ns.max(now_ns);
        let ahead = due - now_ns;
        let burst_ns = u64::from(burst_ms) * 1_000_000;
        if ahead > burst_ns {
            return Err(ahead - burst_ns);
        }
        self.due_ns = due + 1_000_000_000 / u64::from(per_second.max(1));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MS: u64 = 1_000_000;

    fn run(limit: u32, stamps: impl IntoIterator<Item = u64>) -> StampReport {
        let mut checker = StampChecker::new(limit);
        stamps.into_iter().for_each(|s| checker.record(Some(s)));
        checker.report()
    }

    #[test]
    fn an_even_pace_at_the_limit_is_fine() {
        let report = run(1000, (0..5000).map(|i| 7 + i * MS));
        assert_eq!((report.stamps, report.stamp_violations, report.stamps_max_in_window), (5000, 0, 100));
    }

    #[test]
    fn one_more_in_any_window_is_found_wherever_the_window_begins() {
        let mut stamps: Vec<u64> = (0..3000).map(|i| i * MS).collect();
        stamps.insert(1501, 1500 * MS + 17);
        assert!(run(1000, stamps).stamp_violations > 0);
        // A burst across the border of two aligned windows: no aligned window holds too many.
        let straddle = (0..100).map(|i| 60 * MS + i).chain((0..100).map(|i| 110 * MS + i));
        assert_eq!(run(1000, straddle).stamp_violations, 100);
    }

    #[test]
    fn below_ten_a_second_sends_keep_their_distance() {
        assert_eq!(run(2, [0, 500 * MS, 1000 * MS]).stamp_violations, 0);
        assert_eq!(run(2, [0, 499 * MS, 1000 * MS]).stamp_violations, 1);
    }

    #[test]
    fn late_and_missing_stamps_are_counted_not_judged() {
        let mut checker = StampChecker::new(10);
        checker.record(Some(5000 * MS));
        checker.record(Some(3000 * MS));
        checker.record(None);
        let report = checker.report();
        assert_eq!((report.stamps_late, report.stamps_missing, report.stamp_violations), (1, 1, 0));
    }

    #[test]
    fn a_lowered_limit_counts_a_second_later() {
        let mut checker = StampChecker::new(100);
        (0..10).for_each(|i| checker.record(Some(i * MS)));
        checker.set_limit(10);
        (0..10).for_each(|i| checker.record(Some((500 + i) * MS)));
        assert_eq!(checker.report().stamp_violations, 0);
        (0..10).for_each(|i| checker.record(Some((2000 + i) * MS)));
        assert_eq!(checker.report().stamp_violations, 9);
    }

    #[test]
    fn arrivals_are_counted_by_window() {
        let mut counter = ArrivalCounter::default();
        (0..15).for_each(|_| counter.record(50 * MS, 100));
        (0..5).for_each(|_| counter.record(150 * MS, 100));
        assert_eq!((counter.max, counter.windows_over), (15, 1));
    }

    #[test]
    fn capacity_gives_its_rate_and_its_burst() {
        let mut capacity = Capacity::default();
        let taken = (0..1000).filter(|_| capacity.take(0, 1000, 100).is_ok()).count();
        assert_eq!(taken, 101);
        let wait = capacity.take(0, 1000, 100).unwrap_err();
        assert!(capacity.take(wait, 1000, 100).is_ok());
        assert!(capacity.take(wait, 1000, 100).is_err());
    }

    proptest! {
        /// Whatever the order of arrival within the horizon, the verdict is that of a plain look at all windows.
        #[test]
        fn agrees_with_a_plain_count(mut stamps in prop::collection::vec(0u64..900, 1..200), limit in 10u32..200) {
            let shuffled = run(limit, stamps.iter().map(|s| s * MS));
            stamps.sort_unstable();
            let sends_max = (limit / 10) as usize;
            let plain = stamps.iter().enumerate().filter(|&(i, &s)| {
                stamps[..=i].iter().filter(|&&t| t + 100 > s).count() > sends_max
            }).count();
            prop_assert_eq!(shuffled.stamp_violations, plain as u64);
        }
    }
}
