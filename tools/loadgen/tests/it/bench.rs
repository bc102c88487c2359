use loadgen::bench::{self, BenchConfig, Kind, Load};
use loadgen::echo::{FrameEcho, HttpEcho};
use loadgen::token::TokenKey;
use runtime::{Shutdown, SystemClock};

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
        let report = bench::run(&config(address, kind), &clock, &Shutdown::new()).unwrap();
        assert!(report.draws > 50, "{kind:?}: {report:?}");
        assert_eq!(
            (report.errors, report.unanswered, report.others, report.won),
            (0, 0, [0; 12], 0),
            "{kind:?}"
        );
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
    let open =
        BenchConfig { load: Load::Rate(2_000.0), run_ms: 400, ..config(echo.address(), Kind::FramesShared) };
    let report = bench::run(&open, &clock, &Shutdown::new()).unwrap();
    // As many as were due, give or take what a busy machine catches up from before the count began.
    assert!((600..=1_000).contains(&report.draws), "{report:?}");
    let few = BenchConfig { users: 100, ..config(echo.address(), Kind::FramesShared) };
    let report = bench::run(&few, &clock, &Shutdown::new()).unwrap();
    assert!(report.draws <= 100 && report.waits_for_players > 0, "{report:?}");
}

#[test]
fn says_where_nobody_answers_and_what_makes_no_sense() {
    let clock = SystemClock::shared();
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let error =
        bench::run(&config(free, Kind::FramesShared), &clock, &Shutdown::new()).unwrap_err().to_string();
    assert!(error.contains(&free.to_string()) && error.contains("connection 1 of 6"), "{error}");
    let wrong = BenchConfig { outstanding: 2, ..config(free, Kind::Http) };
    assert!(bench::run(&wrong, &clock, &Shutdown::new()).unwrap_err().to_string().contains("only shared"));
}
