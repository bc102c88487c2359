//! Several nodes: no law is broken, and the same seed gives the same run.

use crate::clean::{describe, no_law_is_broken};
use sim::{Config, Report, run};

#[test]
fn three_hundred_seeds_of_a_cluster_break_no_law() {
    no_law_is_broken(&Config::cluster());
}

#[test]
fn the_same_seed_gives_the_same_run_of_a_cluster() {
    for seed in [3, 40] {
        let (a, b) = (run(seed, Config::cluster()), run(seed, Config::cluster()));
        assert_eq!(a.trace_hash, b.trace_hash, "seed {seed}");
        assert_eq!((a.counters, a.tail), (b.counters, b.tail));
    }
}

#[test]
fn a_run_of_a_cluster_is_worth_its_name() {
    let reports: Vec<Report> = (0..20).map(|seed| run(seed, Config::cluster())).collect();
    let sum = |f: fn(&Report) -> u64| reports.iter().map(f).sum::<u64>();
    assert!(sum(|r| r.counters.awards) > 500);
    assert!(sum(|r| r.counters.kills) > 20);
    assert!(sum(|r| r.counters.epochs) > 80);
    assert!(sum(|r| r.counters.freezes) > 20);
    assert!(sum(|r| r.counters.deaths) > 3);
    assert!(sum(|r| r.counters.drains) > 5);
    assert!(sum(|r| r.counters.ended_by_others) > 20);
    assert!(sum(|r| r.counters.moves) > 200_000);
    assert!(sum(|r| r.counters.cache_hits) > 20);
    assert!(sum(|r| r.counters.ledger_troubles) > 200);
    assert!(sum(|r| r.counters.lane_troubles) > 50);
    assert!(sum(|r| r.counters.full_rounds) > 2);
}

/// `SIM_SEED=639 cargo test -p sim one_seed_of_a_cluster -- --ignored --nocapture` shows one run.
#[test]
#[ignore = "for people who look at one seed"]
fn one_seed_of_a_cluster() {
    let seed = std::env::var("SIM_SEED").ok().and_then(|n| n.parse().ok()).unwrap_or(0);
    eprintln!("{}", describe(seed, &run(seed, Config::cluster())));
}
