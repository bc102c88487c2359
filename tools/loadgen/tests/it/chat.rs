use std::time::Duration;

use client::ReconnectPolicy;
use client::chat::ChatRules;
use loadgen::chat::Harm;
use loadgen::chat::crowd::{self, CrowdConfig, CrowdReport};
use loadgen::chat::flood::{self, FloodConfig, FloodReport, Talk};
use loadgen::chat::idle::{Idle, IdleConfig};
use loadgen::token::TokenKey;
use runtime::{Shutdown, SystemClock};

use crate::talkers::{Book, Sin, Talkers};

fn key() -> TokenKey {
    TokenKey::new("k", &[3; 32]).unwrap()
}

fn config(platform: &Talkers) -> CrowdConfig {
    CrowdConfig {
        frames: vec![platform.frames],
        key: key(),
        users: 60,
        first_user: 500,
        devices: 2,
        groups: 6,
        group_size: 10,
        large: 0,
        group_permille: 400,
        large_permille: 0,
        rate: 400.0,
        body: 40,
        run_ms: 3_000,
        grace_ms: 120_000,
        seed: 5,
        harm: Harm {
            cut: 100,
            stall: 100,
            stall_ms: 500,
            lose: 20,
            repeat: 30,
            offline: 200,
            offline_ms: 1_500,
        },
        reconnect: ReconnectPolicy::default().scaled(20),
        rules: ChatRules { answer_ms: 500, answer_max_ms: 1_000, ..ChatRules::default() },
    }
}

fn run(config: CrowdConfig) -> CrowdReport {
    crowd::run(config, SystemClock::shared(), &Shutdown::new()).unwrap()
}

#[test]
fn a_good_platform_is_found_good_over_bad_networks_and_kills() {
    let book = Book::new(Sin::None);
    let mut platform = Talkers::start(&book, None);
    let config = config(&platform);
    let running = std::thread::spawn(move || run(config));
    for _ in 0..3 {
        std::thread::sleep(Duration::from_millis(1_000));
        let at = platform.frames;
        platform.kill(&book);
        std::thread::sleep(Duration::from_millis(60));
        platform = Talkers::start(&book, Some(at));
    }
    let report = running.join().unwrap();
    assert!(report.is_good(), "{report:#?}");
    let v = &report.verdict;
    assert!(v.acknowledged == report.sent && v.unread_compared > 60, "{report:#?}");
    assert!(report.drops > 10 && report.absences > 0, "{report:#?}");
    assert!(v.deliveries > 2 * v.acknowledged, "two devices of two or ten members each: {report:#?}");
}

#[test]
fn a_bad_platform_is_found_out() {
    for sin in [Sin::Forget, Sin::StoreTwice, Sin::Miscount] {
        let book = Book::new(sin);
        let platform = Talkers::start(&book, None);
        // Unread counts are asked for at rest, which those never come to who wait for what was forgotten.
        let grace_ms = if sin == Sin::Miscount { 60_000 } else { 15_000 };
        let report = run(CrowdConfig { run_ms: 1_500, grace_ms, ..config(&platform) });
        let v = &report.verdict;
        let found = match sin {
            Sin::Forget => v.lost + v.contradictions,
            Sin::StoreTwice => v.stored_twice,
            _ => v.unread_wrong,
        };
        assert!(found > 0 && !report.is_good(), "{sin:?}: {report:#?}");
        platform.kill(&book);
    }
}

/// Floods until enough has happened in the time that counts, longer each time and among other users: a machine with other
/// work may leave a short run without anything. No run may have lost or doubled a message.
#[track_caller]
fn flood_until(config: &FloodConfig, enough: impl Fn(&FloodReport) -> bool) -> FloodReport {
    let mut last = None;
    for (first_user, run_ms) in (config.first_user..).step_by(1_000).zip([1_000, 3_000, 9_000, 20_000]) {
        let config = FloodConfig { first_user, run_ms, ..config.clone() };
        let report = flood::run(&config, &SystemClock::shared(), &Shutdown::new()).unwrap();
        let bad = (report.duplicates, report.holes, report.unanswered, report.refused);
        assert_eq!(bad, (0, 0, 0, 0), "{report:#?}");
        if enough(&report) {
            return report;
        }
        last = Some(report);
    }
    panic!("too little happened: {last:#?}");
}

#[test]
fn a_flood_counts_what_came_and_when() {
    let book = Book::new(Sin::None);
    book.lock().heartbeat_ms = 10_000;
    let platform = Talkers::start(&book, None);
    let pairs = FloodConfig {
        address: platform.frames,
        key: key(),
        users: 20,
        first_user: 1,
        talk: Talk::Pairs,
        rate: 500.0,
        body: 64,
        warm_ms: 200,
        run_ms: 1_000,
        wait_ms: 30_000,
    };
    let report = flood_until(&pairs, |report| report.acked > 100 && report.delivered > 100);
    assert!(report.ack_latency.count == report.acked && report.delivery_latency.p50_us > 0);
    let groups = FloodConfig { talk: Talk::Groups(10), first_user: 100, rate: 100.0, ..pairs.clone() };
    // Each message goes to nine others.
    flood_until(&groups, |report| report.acked > 20 && report.delivered > 5 * report.acked);
    let wrong = FloodConfig { users: 21, ..pairs };
    let refused = flood::run(&wrong, &SystemClock::shared(), &Shutdown::new());
    assert!(refused.unwrap_err().to_string().contains("pairs"));
}

#[test]
fn idle_connections_beat_and_stay() {
    let book = Book::new(Sin::None);
    book.lock().heartbeat_ms = 5_000;
    let platform = Talkers::start(&book, None);
    let config = IdleConfig {
        address: platform.frames,
        websocket: false,
        key: key(),
        connections: 300,
        first_user: 1,
        run_ms: 1_000,
        wait_ms: 30_000,
    };
    let clock = SystemClock::shared();
    let mut idle = Idle::open(&config, &clock).unwrap();
    let (mut beats, mut answered) = (0, 0);
    for _ in 0..90 {
        let report = idle.keep(config.run_ms, &clock, &Shutdown::new()).unwrap();
        assert_eq!((report.connections, report.lost), (300, 0), "{report:?}");
        (beats, answered) = (beats + report.beats, answered + report.answered);
        if beats >= 300 && answered >= 300 {
            return;
        }
    }
    panic!("{beats} beats, {answered} answers");
}
