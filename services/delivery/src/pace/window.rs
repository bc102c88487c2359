//! A true sliding window over send stamps: whatever 100 ms one looks at, it holds at most a tenth of a second's limit.
//!
//! The stamps of the last 100 ms are kept; the next send waits until the stamp `n` places back is 100 ms old. Inside
//! the window sends are spread evenly (GCRA, ITU-T I.371, with 20 ms of tolerance to catch up a late wake-up), since a
//! vendor's own limiter may count in smaller windows than ours.

use std::collections::VecDeque;

/// Highest limit, calls a second; bounds the memory of a window to 100,000 stamps.
pub const LIMIT_MAX: u32 = 1_000_000;

const WINDOW_NS: u64 = 100_000_000;
const TOLERANCE_NS: u64 = 20_000_000;

/// See the module.
#[derive(Debug)]
pub struct SendWindow {
    /// Stamps of the last window, rising; the newest stays however old it is.
    stamps: VecDeque<u64>,
    /// Sends in `window_ns`; 0: none at all.
    per_window: usize,
    window_ns: u64,
    /// When the next send is due if all go evenly.
    even_ns: u64,
}

impl SendWindow {
    /// A window without sends, for a rate of calls in 1,000 s.
    pub fn new(rate_milli: u64) -> SendWindow {
        let mut window =
            SendWindow { stamps: VecDeque::new(), per_window: 0, window_ns: WINDOW_NS, even_ns: 0 };
        window.set_rate(rate_milli);
        window
    }

    /// Changes the rate (calls in 1,000 s), never above what it allows: ten a second and more are rounded down to
    /// whole calls in 100 ms, less is one call every `1/rate`.
    pub fn set_rate(&mut self, rate_milli: u64) {
        let rate_milli = rate_milli.min(u64::from(LIMIT_MAX) * 1_000);
        (self.per_window, self.window_ns) = match rate_milli {
            0 => (0, WINDOW_NS),
            1..10_000 => (1, 1_000_000_000_000u64.div_ceil(rate_milli)),
            _ => ((rate_milli / 10_000) as usize, WINDOW_NS),
        };
    }

    /// When the next place is free, ns; `u64::MAX` at rate 0.
    pub fn free_ns(&self) -> u64 {
        if self.per_window == 0 {
            return u64::MAX;
        }
        let full_until_ns = match self.stamps.len().checked_sub(self.per_window) {
            Some(at) => self.stamps[at] + self.window_ns,
            None => 0,
        };
        let tolerance_ns = if self.per_window == 1 { 0 } else { TOLERANCE_NS };
        full_until_ns.max(self.even_ns.saturating_sub(tolerance_ns))
    }

    /// Takes a place at `now_ns` and returns its stamp.
    ///
    /// # Errors
    /// [`SendWindow::free_ns`], when it is still to come.
    pub fn take(&mut self, now_ns: u64) -> Result<u64, u64> {
        let now_ns = self.stamps.back().map_or(now_ns, |last| now_ns.max(*last));
        while self.stamps.len() > 1 && self.stamps[0] + WINDOW_NS <= now_ns {
            self.stamps.pop_front();
        }
        let free_ns = self.free_ns();
        if free_ns > now_ns {
            return Err(free_ns);
        }
        // A lower rate set earlier may have left `even_ns` far ahead; the window alone decides then.
        let gap_ns = self.window_ns / self.per_window as u64;
        self.even_ns = self.even_ns.clamp(now_ns, now_ns + TOLERANCE_NS) + gap_ns;
        self.stamps.push_back(now_ns);
        Ok(now_ns)
    }
}

#[cfg(test)]
mod tests {
    use super::{SendWindow, WINDOW_NS};
    use proptest::prelude::*;

    const MS: u64 = 1_000_000;

    fn fullest(stamps: &[u64], window_ns: u64) -> usize {
        let mut first = 0;
        (0..stamps.len())
            .map(|i| {
                while stamps[first] + window_ns <= stamps[i] {
                    first += 1;
                }
                i + 1 - first
            })
            .max()
            .unwrap_or(0)
    }

    proptest! {
        /// Whatever arrives when, no 100 ms hold more than the limit allows.
        #[test]
        fn no_window_is_overfull(limit in 1u64..3_000, arrivals in prop::collection::vec((0u64..30 * MS, 1usize..200), 1..300)) {
            let mut window = SendWindow::new(limit * 1_000);
            let (mut now, mut stamps) = (0u64, Vec::new());
            for (gap, burst) in arrivals {
                now += gap;
                for _ in 0..burst {
                    if let Ok(stamp) = window.take(now) { stamps.push(stamp); }
                }
            }
            if limit >= 10 {
                prop_assert!(fullest(&stamps, WINDOW_NS) as u64 <= limit / 10);
            } else {
                for pair in stamps.windows(2) { prop_assert!(pair[1] - pair[0] >= 1_000_000_000u64.div_ceil(limit)); }
            }
        }

        /// After a change every window is within the new limit, the sends before the change counted.
        #[test]
        fn a_change_holds_at_once(limits in prop::collection::vec(1u64..2_000, 1..8), jitter in prop::collection::vec(0u64..8 * MS, 400)) {
            let mut window = SendWindow::new(0);
            let (mut now, mut stamps) = (0u64, Vec::<u64>::new());
            for (i, gap) in jitter.iter().enumerate() {
                let limit = limits[i * limits.len() / jitter.len()];
                window.set_rate(limit * 1_000);
                now += gap;
                while let Ok(stamp) = window.take(now) {
                    stamps.push(stamp);
                    let in_window = stamps.iter().rev().take_while(|s| **s + WINDOW_NS > stamp).count() as u64;
                    prop_assert!(in_window <= (limit / 10).max(1), "{in_window} at limit {limit}");
                }
            }
        }

        /// Under backlog, woken up to 3 ms late each time, at least 97 % of what the rule allows is used.
        #[test]
        fn backlog_uses_the_limit(limit in prop::sample::select(vec![3u64, 10, 50, 200, 2_000, 40_000]), late in prop::collection::vec(0u64..3 * MS, 64)) {
            let mut window = SendWindow::new(limit * 1_000);
            let (mut now, mut sent, mut wakes) = (0u64, 0u64, 0usize);
            let seconds = if limit < 10 { 60 } else { 10 };
            while now < seconds * 1_000 * MS {
                match window.take(now) {
                    Ok(_) => sent += 1,
                    Err(at) => {
                        now = at + late[wakes % late.len()];
                        wakes += 1;
                    }
                }
            }
            let allowed = if limit >= 10 { limit / 10 * 10 } else { limit } * seconds;
            prop_assert!(sent * 100 >= allowed * 97, "{sent} of {allowed}");
        }
    }

    #[test]
    fn nothing_passes_at_rate_zero_and_time_never_runs_back() {
        let mut window = SendWindow::new(0);
        assert_eq!(window.take(5), Err(u64::MAX));
        window.set_rate(100_000);
        assert_eq!(window.take(1_000), Ok(1_000));
        let next = window.take(500);
        assert!(next.is_ok_and(|stamp| stamp >= 1_000) || next.is_err());
    }
}
