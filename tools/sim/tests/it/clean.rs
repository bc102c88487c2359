//! The platform as it is: no law is broken, and the same seed gives the same run.

use crate::seeds::{no_law_is_broken, show, the_same_again};
use sim::{Config, Report, run};

#[test]
fn three_hundred_seeds_break_no_law() {
    no_law_is_broken(|seed| run(seed, Config::default()));
}

#[test]
fn the_same_seed_gives_the_same_run() {
    the_same_again([1, 77], |seed| run(seed, Config::default()));
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
    show(|seed| run(seed, Config::default()));
}
