//! Faults built in on purpose: an auditor that misses one is worth nothing.

use crate::seeds::{Run, SEEDS};
use sim::{Config, Fault, Report, run};

fn is_found(fault: Fault) {
    let config = fault.config();
    // Law 0 is the platform's own word; the auditor must find it in the records.
    let is_broken = |report: &Report| report.violations.iter().any(|v| v.law != 0);
    let found = (0..SEEDS).map(|s| (s, run(s, config.clone()))).find(|(_, r)| is_broken(r));
    match found {
        Some((seed, report)) => {
            assert!(
                run(seed, Config { fault: None, ..config }).violations.is_empty(),
                "seed {seed} is clean without {fault:?}"
            );
            eprintln!("{fault:?}: {}", Run::from(report).brief(seed));
        }
        None => panic!("{fault:?} was not found within {SEEDS} seeds"),
    }
}

#[test]
fn a_disk_that_does_not_sync() {
    is_found(Fault::NoSync);
}

#[test]
fn a_lease_settled_twice() {
    is_found(Fault::SettledTwice);
}

#[test]
fn a_lease_closed_before_its_wins_are_safe() {
    is_found(Fault::ClosedEarly);
}

#[test]
fn an_unknown_payout_taken_for_a_failed_one() {
    is_found(Fault::UnknownIsFailed);
}

#[test]
fn a_lost_answer_taken_for_not_done() {
    is_found(Fault::LostIsNotDone);
}

#[test]
fn a_record_accepted_behind_the_end_of_its_epoch() {
    is_found(Fault::BehindEnded);
}

#[test]
fn a_win_answered_without_a_look_at_the_session() {
    is_found(Fault::NoSessionCheck);
}

#[test]
fn a_bucket_drawn_for_before_its_past_is_known() {
    is_found(Fault::NoWaiting);
}

#[test]
fn a_grant_repeated_under_a_new_number() {
    is_found(Fault::NewNumbers);
}
