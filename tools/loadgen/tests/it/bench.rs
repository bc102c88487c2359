use loadgen::bench::{self, BenchConfig, BenchReport, Kind, Load};
use loadgen::echo::{FrameEcho, HttpEcho};
use loadgen::token::TokenKey;
use runtime::{Shutdown, SystemClock};

/// Lengths of a run that is repeated until enough has happened in it: a machine with other work may leave a short one
/// without any.
const LENGTHS_MS: [u64; 6] = [150, 400, 1_600, 6_400, 15_000, 30_000];

/// Runs until `enough`, longer each time. `check` must hold of every run.
#[track_caller]
fn run_until(
    config: &BenchConfig,
    check: impl Fn(&BenchReport, u64),
    enough: impl Fn(&BenchReport, u64) -> bool,
) -> BenchReport {
    let clock = SystemClock::shared();
    let mut last = None;
    for run_ms in LENGTHS_MS {
        let report = bench::run(&BenchConfig { run_ms, ..config.clone() }, &clock, &Shutdown::new()).unwrap();
        check(&report, run_ms);
        if enough(&report, run_ms) {
            return report;
        }
        last = Some(report);
    }
    panic!("too little happened: {last:?}");
}

fn config(address: std::net::SocketAddr, kind: Kind) -> BenchConfig {
    BenchConfig {
        address,
        kind,
        connections: 6,
        outstanding: if kind == Kind::FramesShared { 16 } else { 1 },
        threads: 2,
        load: Load::Max,
        warm_ms: 20,
        run_ms: 150,
        campaign: None,
        first_user: 1,
        users: 3_000_000,
        shakes: 3,
        gateway_token: None,
        key: Some(TokenKey::new("k", &[1; 32]).unwrap()),
    }
}

#[test]
fn every_kind_runs_against_its_echo() {
    let clock = SystemClock::shared();
    let frames = FrameEcho::start(2, clock.clone()).unwrap();
    let http = HttpEcho::start(2, clock.clone()).unwrap();
    for (kind, address) in [
        (Kind::FramesShared, frames.address()),
        (Kind::FramesOwn, frames.address()),
        (Kind::Http, http.address()),
    ] {
        let check = |report: &BenchReport, _| {
            assert_eq!(
                (report.errors, report.unanswered, report.others, report.won),
                (0, 0, [0; 12], 0),
                "{kind:?}"
            );
        };
        let report = run_until(&config(address, kind), check, |report, _| report.draws > 50);
        assert!(
            report.lost_latency.count == report.draws
                && report.cpu_s > 0.0
                && report.shakes == 3 * report.draws
        );
    }
}

#[test]
fn an_open_loop_keeps_its_rate_and_a_small_population_its_intervals() {
    let clock = SystemClock::shared();
    let echo = FrameEcho::start(1, clock.clone()).unwrap();
    let rate = 500u32;
    let open =
        BenchConfig { load: Load::Rate(f64::from(rate)), ..config(echo.address(), Kind::FramesShared) };
    // Never more than were due since the start, whatever a busy machine catches up; and, when it lets us, about as many.
    let due = |ms: u64| ms * u64::from(rate) / 1_000;
    let check = |report: &BenchReport, run_ms| {
        assert!(report.draws <= due(open.warm_ms + run_ms) + open.threads as u64, "{report:?}");
    };
    let is_kept = |report: &BenchReport, run_ms| run_ms >= 400 && report.draws >= due(run_ms) * 3 / 4;
    run_until(&open, check, is_kept);
    // Everybody once, and nobody again before his interval: so long is no run of this.
    let few = BenchConfig { users: 100, ..config(echo.address(), Kind::FramesShared) };
    for _ in 0..20 {
        let report = bench::run(&few, &clock, &Shutdown::new()).unwrap();
        assert!(report.draws <= 100, "{report:?}");
        if report.waits_for_players > 0 {
            return;
        }
    }
    panic!("it never had to wait for players");
}

#[test]
fn says_where_nobody_answers_and_what_makes_no_sense() {
    let clock = SystemClock::shared();
    // Nobody listens there; a port that was free a moment ago may be somebody's by now.
    let free: std::net::SocketAddr = "127.0.0.1:1".parse().unwrap();
    let error =
        bench::run(&config(free, Kind::FramesShared), &clock, &Shutdown::new()).unwrap_err().to_string();
    assert!(error.contains(&free.to_string()) && error.contains("connection 1 of 6"), "{error}");
    let wrong = BenchConfig { outstanding: 2, ..config(free, Kind::Http) };
    assert!(bench::run(&wrong, &clock, &Shutdown::new()).unwrap_err().to_string().contains("only shared"));
}
