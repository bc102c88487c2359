//! A small metrics registry, rendered in the Prometheus text format.
//!
//! A process makes one [`Metrics`] and hands it to its rooms; there is no global one, so that tests don't see each
//! other's numbers. Asking twice for the same name and labels gives the same series. A counter that every core
//! touches for every request is a [`CoreCounter`]: each thread adds to a cache line of its own, and only the
//! reader pays for the sum.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering};

use parking_lot::Mutex;

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter {
    value: AtomicU64,
}

impl Counter {
    /// Adds one.
    pub fn inc(&self) {
        self.add(1);
    }

    /// Adds `by`.
    pub fn add(&self, by: u64) {
        self.value.fetch_add(by, Ordering::Relaxed);
    }

    /// The count so far.
    pub fn get(&self) -> u64 {
        self.value.load(Ordering::Relaxed)
    }
}

/// A number that goes up and down.
#[derive(Debug, Default)]
pub struct Gauge {
    value: AtomicI64,
}

impl Gauge {
    /// Sets it.
    pub fn set(&self, to: i64) {
        self.value.store(to, Ordering::Relaxed);
    }

    /// Adds `by`, which may be negative.
    pub fn add(&self, by: i64) {
        self.value.fetch_add(by, Ordering::Relaxed);
    }

    /// The value now.
    pub fn get(&self) -> i64 {
        self.value.load(Ordering::Relaxed)
    }
}

/// Two cache lines: processors that fetch lines in pairs don't make neighbours contend either.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Cell128 {
    value: AtomicU64,
}

/// A counter for the hot path: threads add to separate cache lines.
///
/// With more threads than cells two threads may share one; the sum stays right, only slower to reach.
#[derive(Debug)]
pub struct CoreCounter {
    cells: Box<[Cell128]>,
}

impl Default for CoreCounter {
    fn default() -> Self {
        // Twice the cores: runtimes have a few threads beside their workers.
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let cells = (2 * cores).next_power_of_two();
        Self { cells: (0..cells).map(|_| Cell128::default()).collect() }
    }
}

impl CoreCounter {
    /// Adds `by` to the calling thread's cell.
    pub fn add(&self, by: u64) {
        let cell = thread_number() & (self.cells.len() - 1);
        self.cells[cell].value.fetch_add(by, Ordering::Relaxed);
    }

    /// Adds one.
    pub fn inc(&self) {
        self.add(1);
    }

    /// The sum of all cells. Not a snapshot: additions made meanwhile may or may not be in it.
    pub fn get(&self) -> u64 {
        self.cells.iter().map(|cell| cell.value.load(Ordering::Relaxed)).sum()
    }
}

/// Small numbers for threads, in the order in which they first count something.
fn thread_number() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static NUMBER: Cell<usize> = const { Cell::new(usize::MAX) };
    }
    NUMBER.with(|number| {
        if number.get() == usize::MAX {
            number.set(NEXT.fetch_add(1, Ordering::Relaxed));
        }
        number.get()
    })
}

/// Counts observations by size, in buckets fixed when it is made.
#[derive(Debug)]
pub struct Histogram {
    bounds: &'static [u64],
    /// One for each bound, and one for what lies above the last.
    buckets: Box<[AtomicU64]>,
    sum: AtomicU64,
}

impl Histogram {
    /// A histogram with inclusive upper bounds, ascending, in the unit that its name ends in.
    pub fn new(bounds: &'static [u64]) -> Self {
        debug_assert!(bounds.is_sorted(), "bounds ascend");
        let buckets = (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect();
        Self { bounds, buckets, sum: AtomicU64::new(0) }
    }

    /// Counts one observation.
    pub fn observe(&self, value: u64) {
        let bucket = self.bounds.partition_point(|bound| *bound < value);
        self.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        self.sum.fetch_add(value, Ordering::Relaxed);
    }

    /// How many observations there were.
    pub fn count(&self) -> u64 {
        self.buckets.iter().map(|bucket| bucket.load(Ordering::Relaxed)).sum()
    }

    /// Their sum.
    pub fn sum(&self) -> u64 {
        self.sum.load(Ordering::Relaxed)
    }
}

#[derive(Debug, Clone)]
enum Series {
    Counter(Arc<Counter>),
    Core(Arc<CoreCounter>),
    Gauge(Arc<Gauge>),
    Histogram(Arc<Histogram>),
}

impl Series {
    fn kind(&self) -> &'static str {
        match self {
            Series::Counter(_) | Series::Core(_) => "counter",
            Series::Gauge(_) => "gauge",
            Series::Histogram(_) => "histogram",
        }
    }
}

#[derive(Debug)]
struct Family {
    help: &'static str,
    /// By rendered labels, so that the output is stable.
    series: BTreeMap<String, Series>,
}

/// Labels of a series: names are fixed in code, values come from configuration. Never a user id: the number of
/// series has to stay small.
pub type Labels<'a> = &'a [(&'static str, &'a str)];

/// A registry. Cloning gives another handle to the same one.
#[derive(Debug, Clone, Default)]
pub struct Metrics {
    families: Arc<Mutex<BTreeMap<&'static str, Family>>>,
}

macro_rules! getter {
    ($(#[$doc:meta])* $method:ident, $kind:ident, $type:ty) => {
        $(#[$doc])*
        ///
        /// # Panics
        /// When the same name and labels were registered as another type, which is a mistake in the program.
        pub fn $method(&self, name: &'static str, help: &'static str, labels: Labels<'_>) -> Arc<$type> {
            match self.series(name, help, labels, || Series::$kind(Arc::default())) {
                Series::$kind(series) => series,
                other => panic!("metric {name} is a {}", other.kind()),
            }
        }
    };
}

impl Metrics {
    /// An empty registry.
    pub fn new() -> Self {
        Self::default()
    }

    getter!(
        /// A counter; by custom its name ends in `_total`.
        counter, Counter, Counter
    );
    getter!(
        /// A counter for the hot path; by custom its name ends in `_total`.
        core_counter, Core, CoreCounter
    );
    getter!(
        /// A gauge.
        gauge, Gauge, Gauge
    );

    /// A histogram with the given inclusive upper bounds, ascending.
    ///
    /// # Panics
    /// When the same name and labels were registered as another type, which is a mistake in the program.
    pub fn histogram(
        &self,
        name: &'static str,
        help: &'static str,
        labels: Labels<'_>,
        bounds: &'static [u64],
    ) -> Arc<Histogram> {
        match self.series(name, help, labels, || Series::Histogram(Arc::new(Histogram::new(bounds)))) {
            Series::Histogram(series) => series,
            other => panic!("metric {name} is a {}", other.kind()),
        }
    }

    fn series(
        &self,
        name: &'static str,
        help: &'static str,
        labels: Labels<'_>,
        make: impl FnOnce() -> Series,
    ) -> Series {
        let mut families = self.families.lock();
        let family = families.entry(name).or_insert_with(|| Family { help, series: BTreeMap::new() });
        family.series.entry(rendered(labels)).or_insert_with(make).clone()
    }

    /// Everything in the Prometheus text format, version 0.0.4.
    pub fn render(&self) -> String {
        let mut out = String::new();
        for (name, family) in &*self.families.lock() {
            let Some(first) = family.series.values().next() else { continue };
            let help = family.help.replace('\\', "\\\\").replace('\n', "\\n");
            let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {}", first.kind());
            for (labels, series) in &family.series {
                render_series(&mut out, name, labels, series);
            }
        }
        out
    }
}

// Writing into a String can't fail.
fn render_series(out: &mut String, name: &str, labels: &str, series: &Series) {
    let braced = if labels.is_empty() { String::new() } else { format!("{{{labels}}}") };
    let _ = match series {
        Series::Counter(counter) => writeln!(out, "{name}{braced} {}", counter.get()),
        Series::Core(counter) => writeln!(out, "{name}{braced} {}", counter.get()),
        Series::Gauge(gauge) => writeln!(out, "{name}{braced} {}", gauge.get()),
        Series::Histogram(histogram) => {
            let comma = if labels.is_empty() { "" } else { "," };
            let mut below = 0;
            for (index, bucket) in histogram.buckets.iter().enumerate() {
                below += bucket.load(Ordering::Relaxed);
                let bound = histogram.bounds.get(index).map_or("+Inf".to_owned(), u64::to_string);
                let _ = writeln!(out, "{name}_bucket{{{labels}{comma}le=\"{bound}\"}} {below}");
            }
            writeln!(out, "{name}_sum{braced} {}\n{name}_count{braced} {below}", histogram.sum())
        }
    };
}

fn rendered(labels: Labels<'_>) -> String {
    let mut out = String::new();
    for (index, (name, value)) in labels.iter().enumerate() {
        let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
        let comma = if index == 0 { "" } else { "," };
        let _ = write!(out, "{comma}{name}=\"{value}\"");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renders_the_text_format() {
        let metrics = Metrics::new();
        metrics.counter("draws_total", "Draws made.", &[("result", "win")]).add(3);
        metrics.counter("draws_total", "Draws made.", &[("result", "lo\"ss")]).inc();
        metrics.gauge("open", "Open\nconnections.", &[]).set(-2);
        let sizes = metrics.histogram("wait_ms", "Waits.", &[("at", "log")], &[1, 10]);
        for value in [0, 1, 2, 10, 11] {
            sizes.observe(value);
        }
        let expected = r#"# HELP draws_total Draws made.
# TYPE draws_total counter
draws_total{result="lo\"ss"} 1
draws_total{result="win"} 3
# HELP open Open\nconnections.
# TYPE open gauge
open -2
# HELP wait_ms Waits.
# TYPE wait_ms histogram
wait_ms_bucket{at="log",le="1"} 2
wait_ms_bucket{at="log",le="10"} 4
wait_ms_bucket{at="log",le="+Inf"} 5
wait_ms_sum{at="log"} 24
wait_ms_count{at="log"} 5
"#;
        assert_eq!(metrics.render(), expected);
    }

    #[test]
    fn the_same_name_is_the_same_series() {
        let metrics = Metrics::new();
        let one = metrics.counter("a_total", "A.", &[]);
        let two = metrics.clone().counter("a_total", "A.", &[]);
        one.inc();
        two.inc();
        assert_eq!(one.get(), 2);
    }

    #[test]
    #[should_panic(expected = "metric a_total is a counter")]
    fn another_type_under_the_same_name_is_refused() {
        let metrics = Metrics::new();
        metrics.counter("a_total", "A.", &[]);
        metrics.gauge("a_total", "A.", &[]);
    }

    #[test]
    fn core_counter_loses_nothing_between_threads() {
        let counter = CoreCounter::default();
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| (0..10_000).for_each(|_| counter.inc()));
            }
        });
        assert_eq!(counter.get(), 80_000);
    }
}
