//! Several nodes: no law is broken, and the same seed gives the same run.

use crate::seeds::{no_law_is_broken, show, the_same_again};
use sim::{Config, Report, run};

#[test]
fn three_hundred_seeds_of_a_cluster_break_no_law() {
    no_law_is_broken(|seed| run(seed, Config::cluster()));
}

#[test]
fn the_same_seed_gives_the_same_run_of_a_cluster() {
    the_same_again([3, 40], |seed| run(seed, Config::cluster()));
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
    show(|seed| run(seed, Config::cluster()));
}
