//! The rate beneath the limit: cut in proportion to what goes wrong, raised in equal steps up to the limit.
//!
//! Additive increase, multiplicative decrease (Chiu and Jain, 1989), decided once an interval over all answers in it:
//! a vendor that fails a tenth of the calls is slowed down by a tenth of the cut, one that fails all of them by all of
//! it, and a single late answer among thousands changes nothing that anyone would notice.

use super::Outcome;
use super::window::LIMIT_MAX;

/// How the rate follows the vendor.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct AdaptOptions {
    /// Time over which answers are counted before the rate is changed, ms.
    pub interval_ms: u64,
    /// Share of the rate that goes when every answer of an interval is bad, thousandths.
    pub cut_permille: u32,
    /// Share of the limit that each interval with answers gives back, thousandths.
    pub raise_permille: u32,
    /// The rate never goes below this share of the limit, thousandths (and never below one call in 10 s).
    pub floor_permille: u32,
}

impl Default for AdaptOptions {
    /// Halved and a bit more by an interval of 500 ms in which all fails, back from nothing in 10 s.
    fn default() -> Self {
        Self { interval_ms: 500, cut_permille: 600, raise_permille: 50, floor_permille: 10 }
    }
}

/// See the module.
#[derive(Debug)]
pub struct AdaptiveRate {
    options: AdaptOptions,
    limit: u32,
    rate_milli: u64,
    good: u64,
    bad: u64,
    interval_ends_ns: Option<u64>,
}

impl AdaptiveRate {
    /// Starts at the limit (calls a second).
    pub fn new(limit: u32, options: AdaptOptions) -> AdaptiveRate {
        let limit = limit.min(LIMIT_MAX);
        let rate_milli = u64::from(limit) * 1_000;
        AdaptiveRate { options, limit, rate_milli, good: 0, bad: 0, interval_ends_ns: None }
    }

    /// The limit, calls a second.
    pub fn limit(&self) -> u32 {
        self.limit
    }

    /// The rate, calls in 1,000 s. Never above the limit.
    pub fn rate_milli(&self) -> u64 {
        self.rate_milli
    }

    /// Changes the limit; the rate keeps its share of it.
    pub fn set_limit(&mut self, limit: u32) {
        let limit = limit.min(LIMIT_MAX);
        self.rate_milli = match u64::from(self.limit) {
            0 => u64::from(limit) * 1_000,
            old => (u128::from(self.rate_milli) * u128::from(limit) / u128::from(old)) as u64,
        };
        self.limit = limit;
        self.settle(self.rate_milli);
    }

    /// After an outage: begin with a tenth of the limit and climb from there.
    pub fn restart_low(&mut self) {
        self.settle(u64::from(self.limit) * 100);
    }

    /// Counts an answer; changes the rate when its interval is over.
    pub fn record(&mut self, outcome: Outcome, now_ns: u64) {
        match outcome {
            Outcome::Good => self.good += 1,
            Outcome::OverLimit | Outcome::Failed => self.bad += 1,
        }
        let interval_ns = self.options.interval_ms.max(1) * 1_000_000;
        let ends_ns = *self.interval_ends_ns.get_or_insert(now_ns + interval_ns);
        if now_ns < ends_ns {
            return;
        }
        let (limit_milli, all) = (u128::from(self.limit) * 1_000, u128::from(self.good + self.bad));
        let rate = u128::from(self.rate_milli);
        let cut =
            rate * u128::from(self.options.cut_permille.min(1_000)) * u128::from(self.bad) / (1_000 * all);
        let raise = limit_milli * u128::from(self.options.raise_permille) / 1_000;
        self.settle((rate - cut + raise) as u64);
        (self.good, self.bad, self.interval_ends_ns) = (0, 0, None);
    }

    fn settle(&mut self, rate_milli: u64) {
        let limit_milli = u64::from(self.limit) * 1_000;
        let floor = (limit_milli * u64::from(self.options.floor_permille.min(1_000)) / 1_000).max(100);
        self.rate_milli = rate_milli.clamp(floor.min(limit_milli), limit_milli);
    }
}

#[cfg(test)]
mod tests {
    use super::{AdaptOptions, AdaptiveRate, Outcome};

    const SECOND: u64 = 1_000_000_000;

    fn run(rate: &mut AdaptiveRate, from_s: u64, seconds: u64, bad_percent: u64) {
        for i in 0..seconds * 100 {
            let outcome = if i % 100 < bad_percent { Outcome::Failed } else { Outcome::Good };
            // Spread the bad ones over the second.
            let at = from_s * SECOND + (i * 37 % 100) * 10_000_000 + i / 100 * SECOND;
            rate.record(outcome, at);
        }
    }

    #[test]
    fn failing_cuts_and_succeeding_recovers_to_the_limit() {
        let mut rate = AdaptiveRate::new(2_000, AdaptOptions::default());
        for i in 0..200 {
            rate.record(Outcome::Failed, i * SECOND / 20);
        }
        let low = rate.rate_milli();
        assert!(low < 2_000_000 / 5, "{low}");
        assert!(low >= 20_000, "{low}");
        run(&mut rate, 100, 20, 0);
        assert_eq!(rate.rate_milli(), 2_000_000);
    }

    #[test]
    fn the_cut_is_in_proportion() {
        let mut few = AdaptiveRate::new(1_000, AdaptOptions::default());
        let mut many = AdaptiveRate::new(1_000, AdaptOptions::default());
        for i in 0..400u64 {
            let at = i * SECOND / 50;
            few.record(if i % 20 == 0 { Outcome::OverLimit } else { Outcome::Good }, at);
            many.record(if i % 2 == 0 { Outcome::OverLimit } else { Outcome::Good }, at);
        }
        assert!(few.rate_milli() > 900_000, "{}", few.rate_milli());
        assert!(many.rate_milli() < 400_000, "{}", many.rate_milli());
    }

    #[test]
    fn a_limit_of_zero_stops_and_comes_back() {
        let mut rate = AdaptiveRate::new(50, AdaptOptions::default());
        rate.set_limit(0);
        assert_eq!(rate.rate_milli(), 0);
        rate.set_limit(80);
        assert_eq!(rate.rate_milli(), 80_000);
    }
}
