//! The platform as it is: no law is broken, and the same seed gives the same run.

use sim::{Config, Report, run};

/// Seeds of one run; `SIM_SEEDS=3000` for more.
const SEEDS: u64 = 300;
const THREADS: u64 = 2;

pub fn describe(seed: u64, report: &Report) -> String {
    let found: Vec<String> = report.violations.iter().map(ToString::to_string).collect();
    // `SIM_TRACE=5000` shows more.
    let lines = std::env::var("SIM_TRACE").ok().and_then(|n| n.parse().ok()).unwrap_or(120);
    let from = report.tail.len().saturating_sub(lines);
    format!(
        "seed {seed}, trace {:016x}, {:?}\n{}\n--- the last events\n{}",
        report.trace_hash,
        report.counters,
        found.join("\n"),
        report.tail[from..].join("\n")
    )
}

/// Runs the seeds, on two threads.
pub fn no_law_is_broken(config: &Config) {
    let seeds = std::env::var("SIM_SEEDS").ok().and_then(|n| n.parse().ok()).unwrap_or(SEEDS);
    let failed: Vec<String> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|t| {
                scope.spawn(move || {
                    let mine = (0..seeds).filter(|s| s % THREADS == t);
                    let failed =
                        mine.map(|s| (s, run(s, config.clone()))).find(|(_, r)| !r.violations.is_empty());
                    failed.map(|(seed, report)| describe(seed, &report))
                })
            })
            .collect();
        threads.into_iter().filter_map(|t| t.join().unwrap()).collect()
    });
    assert!(failed.is_empty(), "{}", failed.join("\n\n"));
}

#[test]
fn three_hundred_seeds_break_no_law() {
    no_law_is_broken(&Config::default());
}

#[test]
fn the_same_seed_gives_the_same_run() {
    for seed in [1, 2, 77] {
        let (a, b) = (run(seed, Config::default()), run(seed, Config::default()));
        assert_eq!(a.trace_hash, b.trace_hash, "seed {seed}");
        assert_eq!((a.counters, a.tail), (b.counters, b.tail));
    }
    assert_ne!(run(1, Config::default()).trace_hash, run(2, Config::default()).trace_hash);
}

#[test]
fn a_run_is_worth_its_name() {
    let reports: Vec<Report> = (0..20).map(|seed| run(seed, Config::default())).collect();
    let sum = |f: fn(&Report) -> u64| reports.iter().map(f).sum::<u64>();
    assert!(sum(|r| r.counters.awards) > 500);
    assert!(sum(|r| r.counters.kills) > 20);
    assert!(sum(|r| r.counters.epochs) > 40);
    assert!(sum(|r| r.counters.payments) > 200);
    assert!(sum(|r| r.counters.ledger_troubles) > 100);
    assert!(sum(|r| r.counters.lapsed) > 10);
    assert!(sum(|r| r.counters.with_person) > 10);
    let full = sum(|r| r.counters.full_rounds);
    assert!(full > 5, "{full}");
    assert!(sum(|r| r.counters.snapshots) > 20);
    assert!(sum(|r| r.counters.grey_awards) > 40);
}

/// `SIM_SEED=639 cargo test -p sim one_seed -- --ignored --nocapture` shows one run.
#[test]
#[ignore = "for people who look at one seed"]
fn one_seed() {
    let seed = std::env::var("SIM_SEED").ok().and_then(|n| n.parse().ok()).unwrap_or(0);
    eprintln!("{}", describe(seed, &run(seed, Config::default())));
}
