//! What tests of all simulations share: many seeds on two threads, the same seed twice, one seed for people.

use sim::Report;
use sim::chat::ChatReport;

/// Seeds of one run; `SIM_SEEDS=3000` for more, `SIM_FROM=300` for others.
pub const SEEDS: u64 = 300;
const THREADS: u64 = 2;

/// What any run tells, in words.
#[derive(PartialEq, Debug)]
pub struct Run {
    pub violations: Vec<String>,
    pub trace_hash: u64,
    counters: String,
    tail: Vec<String>,
}

macro_rules! from {
    ($report:ty) => {
        impl From<$report> for Run {
            fn from(report: $report) -> Run {
                Run {
                    violations: report.violations.iter().map(ToString::to_string).collect(),
                    trace_hash: report.trace_hash,
                    counters: format!("{:?}", report.counters),
                    tail: report.tail,
                }
            }
        }
    };
}

from!(Report);
from!(ChatReport);

impl Run {
    /// All of it, with the last events. `SIM_TRACE=5000` shows more of them.
    pub fn describe(&self, seed: u64) -> String {
        let lines = number("SIM_TRACE").unwrap_or(120) as usize;
        let from = self.tail.len().saturating_sub(lines);
        format!(
            "seed {seed}, trace {:016x}, {}\n{}\n--- the last events\n{}",
            self.trace_hash,
            self.counters,
            self.violations.join("\n"),
            self.tail[from..].join("\n")
        )
    }

    /// Its first lines; all of it where `SIM_TRACE` is set.
    pub fn brief(&self, seed: u64) -> String {
        let lines = if std::env::var_os("SIM_TRACE").is_some() { usize::MAX } else { 4 };
        self.describe(seed).lines().take(lines).collect::<Vec<_>>().join("\n")
    }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Runs the seeds, on two threads.
pub fn no_law_is_broken<R: Into<Run>>(run: impl Fn(u64) -> R + Sync) {
    let (first, seeds) = (number("SIM_FROM").unwrap_or(0), number("SIM_SEEDS").unwrap_or(SEEDS));
    let run = &run;
    let failed: Vec<String> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|t| {
                scope.spawn(move || {
                    let mine = (first..first + seeds).filter(|seed| seed % THREADS == t);
                    let mut runs = mine.map(|seed| (seed, run(seed).into()));
                    let failed = runs.find(|(_, run): &(u64, Run)| !run.violations.is_empty());
                    failed.map(|(seed, run)| run.describe(seed))
                })
            })
            .collect();
        threads.into_iter().filter_map(|t| t.join().unwrap()).collect()
    });
    assert!(failed.is_empty(), "{}", failed.join("\n\n"));
}

/// Runs each seed twice; no two seeds give the same run.
pub fn the_same_again<R: Into<Run>>(seeds: [u64; 2], run: impl Fn(u64) -> R) {
    let [one, other] = seeds.map(|seed| {
        let (once, again): (Run, Run) = (run(seed).into(), run(seed).into());
        assert_eq!(once, again, "seed {seed}");
        once.trace_hash
    });
    assert_ne!(one, other);
}

/// Shows the run of the seed that `SIM_SEED` names.
pub fn show<R: Into<Run>>(run: impl Fn(u64) -> R) {
    let seed = number("SIM_SEED").unwrap_or(0);
    let run: Run = run(seed).into();
    eprintln!("{}", run.describe(seed));
}
