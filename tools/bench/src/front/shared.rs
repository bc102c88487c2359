//! `frames.shared`: connections that many players share, for a minute, everything durable; and what was held back then.
//!
//! One submit in a hundred wins: a short run on a platform of its own finds out how many submits are drawn, and the
//! campaign of the minute releases a hundredth of that. Delivery is held back during the minute and released after it.

use super::campaign::Campaign;
use super::drain::{Backlog, Drained, drain};
use super::load::{full_speed, hundredth, measure, measure_draws, refused};
use super::peer::{Peer, Speaks};
use super::platform::{Platform, Setup};
use super::vendors::Vendors;
use crate::Plan;
use crate::measure::{Duel, Samples};
use crate::report::{Figure, Report, short};
use anyhow::Result;
use loadgen::bench::{BenchConfig, BenchReport, Kind};
use loadgen::meter::cores;
use std::net::SocketAddr;
use std::time::Duration;

/// What this file measures.
pub const FIGURES: &[&str] = &[
    "frames.shared",
    "frames.shared.shakes",
    "frames.shared.p50.lost",
    "frames.shared.p99.lost",
    "frames.shared.p999.lost",
    "frames.shared.p50.won",
    "frames.shared.p99.won",
    "frames.shared.p999.won",
    "frames.shared.users",
    "frames.shared.refused",
    "frames.shared.generator_cpu",
    "frames.shared.backlog",
    "frames.shared.drain",
];

const CONNECTIONS: usize = 64;
const OUTSTANDING: usize = 64;
const USERS: u64 = 10_000_000;

/// Wins a second while the speed is not known: a hundredth of the aim.
const FIRST_GUESS: u64 = 8_300;

/// How long a drain is watched.
const DRAIN: Duration = Duration::from_secs(600);

/// Runs of the peer; the minute stands in their middle.
const PEER_RUNS: usize = 4;

fn config(plan: &Plan, platform: &Platform, address: SocketAddr, seconds: u64) -> BenchConfig {
    BenchConfig {
        outstanding: OUTSTANDING,
        users: USERS,
        run_ms: seconds * 1_000,
        ..full_speed(plan, Kind::FramesShared, CONNECTIONS, address, &platform.key)
    }
}

/// Measures all of it.
pub fn run(plan: &Plan, report: &mut Report) -> Result<()> {
    let (seconds, turn) = if plan.quick { (2, 1) } else { (plan.seconds, plan.seconds.clamp(1, 10)) };
    let wins_per_second = calibrate(plan, turn)?;
    let vendors = Vendors::start(&plan.scratch)?;
    let campaign = Campaign { wins_per_second, interval_ms: 1_000, times: 1 };
    let mut setup = Setup::held_back(campaign);
    setup.config.clone_from(&vendors.config);
    let mut platform = Platform::start(&plan.scratch, setup)?;
    let peer = Peer::start(Speaks::Frames)?;
    let bare = config(plan, &platform, peer.address, turn);
    let mut peers = Vec::new();
    measure(&bare)?;
    for _ in 0..PEER_RUNS / 2 {
        peers.push(measure(&bare)?.draws_per_second);
    }
    let cpu_s = platform.cpu_s()?;
    let done = measure_draws(plan, &config(plan, &platform, platform.frames, seconds))?;
    let cpu_s = platform.cpu_s()? - cpu_s;
    let backlog = Backlog::of(&platform)?;
    let in_memory = platform.counts()?.users;
    let drained = drain(&mut platform, DRAIN)?;
    // Only now is the platform quiet again.
    for _ in 0..PEER_RUNS / 2 {
        peers.push(measure(&bare)?.draws_per_second);
    }
    let mut duel = Duel::default();
    peers.iter().for_each(|bare| duel.push(done.draws_per_second, *bare));
    let note = format!(
        "one run of {:.0} s beside {PEER_RUNS} of the peer of {turn} s, half before it and half after what was held back was delivered; {CONNECTIONS} connections with {OUTSTANDING} submits unanswered on each, {:.2} % of the draws won, each in the log and synced before its answer; {} other answers, {} errors, {} unanswered; the platform took {:.0} % of {} cores; {} users in its memory, delivery held back",
        done.seconds,
        done.won as f64 * 100.0 / done.draws as f64,
        done.others.iter().sum::<u64>(),
        done.errors,
        done.unanswered,
        cpu_s * 100.0 / done.seconds / cores(),
        cores(),
        short(in_memory as f64),
    );
    let goal = "aim 830 k submits/s";
    report.add(Figure {
        runs: 1,
        ..Figure::beside("frames.shared", &duel, "submits/s", "bare frame server, same pattern", goal, note)
    });
    rest(report, &done);
    behind(report, backlog, drained);
    Ok(())
}

/// Wins a second that make a hundredth of the draws.
fn calibrate(plan: &Plan, seconds: u64) -> Result<u64> {
    let campaign = Campaign { wins_per_second: FIRST_GUESS, interval_ms: 1_000, times: 1 };
    let platform = Platform::start(&plan.scratch, Setup::held_back(campaign))?;
    Ok(hundredth(&measure_draws(plan, &config(plan, &platform, platform.frames, seconds))?))
}

fn alone(report: &mut Report, name: &str, value: f64, unit: &str, goal: &str, note: &str) {
    let mut samples = Samples::default();
    samples.push(value);
    report.add(Figure::alone(&format!("frames.shared.{name}"), &samples, unit, goal, note.to_owned()));
}

/// What else the minute showed.
fn rest(report: &mut Report, done: &BenchReport) {
    let shakes = done.shakes as f64 / done.seconds;
    alone(report, "shakes", shakes, "shakes/s", ">= 830 k/s", "three shakes counted in each submit");
    let full = "at full speed, from the writing of the submit to the reading of its answer";
    let lost = done.lost_latency;
    alone(report, "p50.lost", lost.p50_us as f64 / 1e3, "ms", "reported", full);
    alone(report, "p99.lost", lost.p99_us as f64 / 1e3, "ms", "reported", full);
    alone(report, "p999.lost", lost.p999_us as f64 / 1e3, "ms", "reported", full);
    let (won, goal) = (done.won_latency, "< 5 ms at 8,000 wins/s");
    let won_note = format!("{} wins; {full}", won.count);
    alone(report, "p50.won", won.p50_us as f64 / 1e3, "ms", "reported", &won_note);
    alone(report, "p99.won", won.p99_us as f64 / 1e3, "ms", goal, &won_note);
    alone(report, "p999.won", won.p999_us as f64 / 1e3, "ms", "reported", &won_note);
    alone(report, "users", done.users as f64, "users", "reported", "players that submitted");
    let others = format!("other answers by their number in Outcome: {:?}", done.others);
    alone(report, "refused", refused(done) * 100.0, "%", "<= 1 %", &others);
    let cpu = format!("of {} cores, one thread", cores());
    alone(report, "generator_cpu", done.cpu_share * 100.0, "%", "reported", &cpu);
}

/// What was held back, and what became of it.
fn behind(report: &mut Report, at_end: Backlog, drained: Drained) {
    let Backlog { won, stored, taken, open } = at_end;
    let note = format!(
        "when the minute was over: {won} awards won, {stored} stored by flow, {taken} taken down by delivery, of which {open} wait to be sent"
    );
    alone(report, "backlog", at_end.left() as f64, "awards", "reported", &note);
    let s = |at: Option<f64>| at.map_or("not".to_owned(), |s| format!("after {s:.0} s"));
    let last = drained.last;
    let left = match drained.delivered_s {
        Some(_) => String::new(),
        None => format!(
            "; {} awards were left after {} s, when it was no longer watched",
            last.left(),
            DRAIN.as_secs()
        ),
    };
    let note = format!(
        "from the release, against the vendor simulator on the same machine: flow had stored everything {}, delivery had taken it down {}, everything to be paid at once was delivered {}{left}",
        s(drained.stored_s),
        s(drained.taken_s),
        s(drained.delivered_s)
    );
    let value = drained.delivered_s.unwrap_or(DRAIN.as_secs_f64());
    alone(report, "drain", value, "s", "reported", &note);
}
