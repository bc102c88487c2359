//! Chat in a cluster: no law is broken, the same seed gives the same run, and the planted fault is found.

use sim::chat::{ChatConfig, ChatReport, run};

/// Seeds of one run; `SIM_SEEDS=3000` for more.
const SEEDS: u64 = 300;
const THREADS: u64 = 2;

fn describe(seed: u64, report: &ChatReport) -> String {
    let found: Vec<String> = report.violations.iter().map(ToString::to_string).collect();
    // `SIM_TRACE=5000` shows more.
    let lines = std::env::var("SIM_TRACE").ok().and_then(|n| n.parse().ok()).unwrap_or(60);
    let from = report.tail.len().saturating_sub(lines);
    format!(
        "seed {seed}, trace {:016x}, {:?}\n{}\n--- the last events\n{}",
        report.trace_hash,
        report.counters,
        found.join("\n"),
        report.tail[from..].join("\n")
    )
}

#[test]
fn three_hundred_seeds_of_chat_break_no_law() {
    let number = |name| std::env::var(name).ok().and_then(|n| n.parse().ok());
    let (first, seeds) = (number("SIM_FROM").unwrap_or(0), number("SIM_SEEDS").unwrap_or(SEEDS));
    let failed: Vec<String> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|t| {
                scope.spawn(move || {
                    let mine = (first..first + seeds).filter(|s| s % THREADS == t);
                    let failed = mine
                        .map(|s| (s, run(s, ChatConfig::default())))
                        .find(|(_, report)| !report.violations.is_empty());
                    failed.map(|(seed, report)| describe(seed, &report))
                })
            })
            .collect();
        threads.into_iter().filter_map(|t| t.join().unwrap()).collect()
    });
    assert!(failed.is_empty(), "{}", failed.join("\n\n"));
}

#[test]
fn the_same_seed_gives_the_same_run_of_chat() {
    for seed in [4, 31] {
        let (a, b) = (run(seed, ChatConfig::default()), run(seed, ChatConfig::default()));
        assert_eq!(a.trace_hash, b.trace_hash, "seed {seed}");
        assert_eq!((a.counters, a.tail), (b.counters, b.tail));
    }
    assert_ne!(run(1, ChatConfig::default()).trace_hash, run(2, ChatConfig::default()).trace_hash);
}

#[test]
fn a_run_of_chat_is_worth_its_name() {
    let reports: Vec<ChatReport> = (0..20).map(|seed| run(seed, ChatConfig::default())).collect();
    let sum = |f: fn(&ChatReport) -> u64| reports.iter().map(f).sum::<u64>();
    assert!(sum(|r| r.counters.messages) > 1_000);
    assert!(sum(|r| r.counters.told) > 900);
    assert!(sum(|r| r.counters.entries) > 2_000);
    assert!(sum(|r| r.counters.moves) > 80);
    assert!(sum(|r| r.counters.kills) > 30);
    assert!(sum(|r| r.counters.freezes) > 20);
    assert!(sum(|r| r.counters.epochs) > 60);
    assert!(sum(|r| r.counters.claims) > 900);
    assert!(sum(|r| r.counters.refused) > 40);
    assert!(sum(|r| r.counters.ambiguous) > 300);
    assert!(sum(|r| r.counters.late_steps) > 150);
    assert!(sum(|r| r.counters.hand_troubles) > 300);
    assert!(sum(|r| r.counters.known_entries) > 100);
    assert!(sum(|r| r.counters.found_unfanned) > 100);
    assert!(sum(|r| r.counters.syncs) > 800);
    assert!(sum(|r| r.counters.pushes) > 1_200);
    assert!(sum(|r| r.counters.read_pushes) > 100);
    assert!(sum(|r| r.counters.presence_pushes) > 20);
    assert!(sum(|r| r.counters.reads) > 100);
    assert!(sum(|r| r.counters.deletions) > 30);
    assert!(sum(|r| r.counters.evicted) > 50);
    assert!(sum(|r| r.counters.rests) > 30);
    assert!(sum(|r| r.counters.late) > 20);
}

#[test]
fn reading_past_the_committed_cursor() {
    let config = ChatConfig { reads_past: true, ..ChatConfig::default() };
    let is_broken = |report: &ChatReport| report.violations.iter().any(|v| v.law == 3);
    let found = (0..SEEDS).map(|s| (s, run(s, config.clone()))).find(|(_, report)| is_broken(report));
    let Some((seed, report)) = found else {
        panic!("reading past the committed cursor was not found within {SEEDS} seeds");
    };
    assert!(run(seed, ChatConfig::default()).violations.is_empty(), "seed {seed} is clean without it");
    eprintln!("{}", describe(seed, &report).lines().take(4).collect::<Vec<_>>().join("\n"));
}

/// `SIM_SEED=639 cargo test -p sim one_seed_of_chat -- --ignored --nocapture` shows one run.
#[test]
#[ignore = "for people who look at one seed"]
fn one_seed_of_chat() {
    let seed = std::env::var("SIM_SEED").ok().and_then(|n| n.parse().ok()).unwrap_or(0);
    eprintln!("{}", describe(seed, &run(seed, ChatConfig::default())));
}
