use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use client::{PlayerRules, ReconnectPolicy};
use loadgen::players::{self, PlayersConfig, PlayersReport};
use loadgen::token::TokenKey;
use parking_lot::Mutex;
use runtime::{Clock, Shutdown, SystemClock};

use crate::platform::{Book, Platform};

fn config(platform: &Platform, dir: &std::path::Path) -> PlayersConfig {
    PlayersConfig {
        frames: vec![platform.frames],
        http: vec![platform.http],
        players: 300,
        first_user: 1_000,
        gateways: 3,
        own_permille: 100,
        http_permille: 200,
        http_connections: 4,
        key: Some(TokenKey::new("k", &[3; 32]).unwrap()),
        shakes_per_second: 50.0,
        claim_delay_ms: 50,
        look_permille: 0,
        vendors: vec![1],
        reconnect: ReconnectPolicy::default().scaled(10),
        rules: PlayerRules { answer_ms: 200, answer_max_ms: 400, retry_min_ms: 20, give_up_ms: 60_000 },
        wait_ms: 30_000,
        grace_ms: 60_000,
        told: Some(dir.join("told.csv")),
        rounds: Some(dir.join("rounds.csv")),
        ..PlayersConfig::default()
    }
}

fn book(open_ms: u64, length_ms: u64) -> Arc<Mutex<Book>> {
    let open_ms = SystemClock.now_ms() + open_ms;
    Arc::new(Mutex::new(Book { open_ms, close_ms: open_ms + length_ms, ..Book::default() }))
}

/// Every row of told.csv is a win in the book, to the letter, and every award is in one row.
fn check_told(dir: &std::path::Path, book: &Book, report: &PlayersReport) -> usize {
    let text = std::fs::read_to_string(dir.join("told.csv")).unwrap();
    let awards: HashMap<String, (u64, u32, i64)> = book
        .draws
        .iter()
        .filter_map(|((user, round, _), award)| {
            award.as_ref().map(|a| (a.award.clone(), (*user, *round, a.fen)))
        })
        .collect();
    let mut seen = HashSet::new();
    let mut lines = text.lines();
    assert_eq!(lines.next(), Some("award,user,campaign,round,prize,fen"));
    for line in lines {
        let fields: Vec<_> = line.split(',').collect();
        let (user, round, fen) = awards[fields[0]];
        assert_eq!(line, format!("{},{user},1,{round},3,{fen}", fields[0]));
        assert!(seen.insert(fields[0].to_owned()), "{line} is there twice");
    }
    assert_eq!((seen.len() as u64, report.contradictions), (report.told, 0));
    assert!(seen.len() <= awards.len());
    awards.len() - seen.len()
}

/// Lengths of a round that is played again, longer, where the machine had other things to do and little happened.
const ROUNDS_MS: [u64; 3] = [1_200, 6_000, 30_000];

/// Draws of a round in which everything that a bad network does has happened.
const ENOUGH: u64 = 600;

#[test]
fn a_bad_network_loses_nothing() {
    for length_ms in ROUNDS_MS {
        let book = book(300, length_ms);
        // Nobody is taken for dead here because the platform's thread had to wait for its turn.
        book.lock().heartbeat_ms = 10_000;
        lose_nothing(&book);
        if book.lock().asked >= ENOUGH {
            return;
        }
    }
    panic!("fewer than {ENOUGH} draws in {} ms", ROUNDS_MS[2]);
}

fn lose_nothing(book: &Arc<Mutex<Book>>) {
    let dir = tempfile::tempdir().unwrap();
    let platform = Platform::start(book, None);
    let config = config(&platform, dir.path());
    let report = players::run(config, SystemClock::shared(), &Shutdown::new(), &mut |_| ()).unwrap();
    // Before the kill, with which losses are forgotten.
    let entered: HashSet<_> = book.lock().draws.keys().copied().collect();
    platform.kill(book);
    let book = book.lock();
    assert_eq!(check_told(dir.path(), &book, &report), 0, "every win was told: {report:?}");
    let c = &report.counts;
    assert_eq!((report.unanswered, report.errands_open, c.drops, c.nonsense), (0, 0, 0, 0), "{report:?}");
    assert_eq!(report.lost_latency.count + report.won_latency.count, c.lost + c.won);
    assert!(c.accounts <= 300, "{c:?}");
    if book.asked < ENOUGH {
        return;
    }
    assert!(
        c.resends > 0 && c.too_early > 0 && c.busy > 0 && c.pending > 0 && c.errors > 0 && c.stale > 0,
        "{c:?}"
    );
    let round = &report.rounds[0];
    assert!(report.rounds.len() == 1 && round.entries == c.lost + c.won && round.wins_told == report.told);
    let players: HashSet<_> = entered.iter().map(|(user, _, _)| user).collect();
    assert_eq!((round.entries, round.players), (entered.len() as u64, players.len() as u64), "{round:?}");
    assert!(book.claimed > 0 && book.accounts > 0 && c.claims > 0);
    let rounds = std::fs::read_to_string(dir.path().join("rounds.csv")).unwrap();
    assert!(rounds.lines().nth(1).unwrap().starts_with("1,1,"), "{rounds}");
}

#[test]
fn told_is_exact_over_kills() {
    for length_ms in ROUNDS_MS {
        let dir = tempfile::tempdir().unwrap();
        let book = book(200, length_ms + 1_300);
        let (kills, report) = play_over_kills(&book, dir.path());
        let book = book.lock();
        assert_eq!(check_told(dir.path(), &book, &report), 0, "every win was told in the end: {report:?}");
        if kills == 3 && report.told > 100 {
            assert!(report.counts.drops >= 3 && report.counts.reconnects >= 3, "{report:?}");
            return;
        }
    }
    panic!("the rounds were over before the platform was killed thrice, or 100 had won");
}

/// Kills the platform three times while the round is open, each time when people have drawn again: how often that was.
fn play_over_kills(book: &Arc<Mutex<Book>>, dir: &std::path::Path) -> (u32, PlayersReport) {
    let mut platform = Platform::start(book, None);
    let config = config(&platform, dir);
    let run = std::thread::spawn(move || {
        players::run(config, SystemClock::shared(), &Shutdown::new(), &mut |_| ())
    });
    let (mut kills, mut drawn) = (0, 0);
    while kills < 3 && !run.is_finished() && SystemClock.now_ms() < book.lock().close_ms {
        std::thread::sleep(Duration::from_millis(400));
        if book.lock().asked < drawn + 100 {
            continue;
        }
        let at = (platform.frames, platform.http);
        platform.kill(book);
        kills += 1;
        drawn = book.lock().asked;
        std::thread::sleep(Duration::from_millis(60));
        platform = Platform::start(book, Some(at));
    }
    (kills, run.join().unwrap().unwrap())
}

#[test]
fn ends_by_itself_and_says_why() {
    let dir = tempfile::tempdir().unwrap();
    let book = book(60_000, 1_000);
    let platform = Platform::start(&book, None);
    let base = config(&platform, dir.path());
    let run = |config| players::run(config, SystemClock::shared(), &Shutdown::new(), &mut |_| ());
    let timed = PlayersConfig { duration_ms: Some(100), ..base.clone() };
    assert_eq!(run(timed).unwrap().ended, "its time was up");
    let other = PlayersConfig { campaign: Some(9), wait_ms: 100, ..base.clone() };
    assert!(run(other).unwrap_err().to_string().contains("campaign 9"));
    let nobody = PlayersConfig { wait_ms: 1_000, own_permille: 0, http_permille: 0, ..base.clone() };
    let (frames, _) = (platform.frames, platform.kill(&book));
    let error = run(nobody).unwrap_err().to_string();
    assert!(error.contains(&frames.to_string()), "{error}");
    let wrong = PlayersConfig { key: None, ..base };
    assert!(run(wrong).unwrap_err().to_string().contains("key"));
}
