//! Latencies, and the CPU that the generator took itself.

use hdrhistogram::Histogram;
use serde::Serialize;

/// Longest latency that is told apart, in us: ten minutes.
const MAX_US: u64 = 600_000_000;

/// Latencies in us, to three digits.
#[derive(Clone, Debug)]
pub struct Latencies {
    histogram: Histogram<u64>,
    run: (u64, u64),
}

impl Default for Latencies {
    fn default() -> Self {
        // The bounds are constants that the library takes.
        let histogram = Histogram::new_with_bounds(1, MAX_US, 3).unwrap_or_else(|_| unreachable!());
        Self { histogram, run: (0, 0) }
    }
}

impl Latencies {
    /// Counts one. Equal ones in a row are counted together.
    #[inline]
    pub fn record_us(&mut self, us: u64) {
        if self.run.0 == us {
            self.run.1 += 1;
        } else {
            self.flush();
            self.run = (us, 1);
        }
    }

    fn flush(&mut self) {
        let (us, n) = std::mem::take(&mut self.run);
        if n > 0 {
            self.histogram.saturating_record_n(us.max(1), n);
        }
    }

    /// Adds another's.
    pub fn add(&mut self, mut other: Latencies) {
        self.flush();
        other.flush();
        // Both have the same bounds.
        let _ = self.histogram.add(&other.histogram);
    }

    /// Percentiles.
    pub fn summary(&mut self) -> LatencySummary {
        self.flush();
        let at = |q| if self.histogram.is_empty() { 0 } else { self.histogram.value_at_quantile(q) };
        LatencySummary {
            count: self.histogram.len(),
            p50_us: at(0.5),
            p99_us: at(0.99),
            p999_us: at(0.999),
            max_us: if self.histogram.is_empty() { 0 } else { self.histogram.max() },
        }
    }
}

/// Percentiles of latencies, in us.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
pub struct LatencySummary {
    /// How many.
    pub count: u64,
    /// Median.
    pub p50_us: u64,
    /// 99th percentile.
    pub p99_us: u64,
    /// 99.9th percentile.
    pub p999_us: u64,
    /// Longest.
    pub max_us: u64,
}

/// CPU time of the calling thread, in ns.
pub fn thread_cpu_ns() -> u64 {
    let ran = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    ran.tv_sec.unsigned_abs() * 1_000_000_000 + ran.tv_nsec.unsigned_abs()
}

/// Cores that this process may use.
pub fn cores() -> f64 {
    std::thread::available_parallelism().map_or(1.0, |n| n.get() as f64)
}

#[cfg(test)]
mod tests {
    use super::Latencies;

    #[test]
    fn counts_runs_and_single_ones_alike() {
        let (mut a, mut b) = (Latencies::default(), Latencies::default());
        (0..990).for_each(|_| a.record_us(10));
        (0..10).for_each(|i| b.record_us(1_000 + i % 2));
        a.add(b);
        let s = a.summary();
        assert_eq!((s.count, s.p50_us, s.p99_us, s.p999_us), (1_000, 10, 10, 1_001));
        assert_eq!(Latencies::default().summary().count, 0);
    }
}
