//! The way of a win with Kafka and PostgreSQL behind it: local sync, lane, answer; at rising rates, and whether anything
//! piles up at them.

use super::fleet::Fleet;
use super::{ON, open};
use crate::Plan;
use crate::front::campaign::Campaign;
use crate::front::load::{full_speed, measure};
use crate::measure::Samples;
use crate::report::{Figure, Report};
use anyhow::Result;
use loadgen::bench::{BenchConfig, BenchReport, Kind, Load};

/// What this file measures: at each asked rate what was won a second, and how long winners waited.
pub const FIGURES: &[&str] = &[
    "cluster.wins.20k",
    "cluster.wins.20k.p50",
    "cluster.wins.20k.p99",
    "cluster.wins.10k",
    "cluster.wins.10k.p50",
    "cluster.wins.10k.p99",
    "cluster.wins.5k",
    "cluster.wins.5k.p50",
    "cluster.wins.5k.p99",
];

/// Rates asked for, wins/s.
const RATES: [(&str, u64); 3] =
    [("cluster.wins.20k", 20_000), ("cluster.wins.10k", 10_000), ("cluster.wins.5k", 5_000)];

const CONNECTIONS: usize = 64;
const OUTSTANDING: usize = 1_024;
const USERS: u64 = 200_000;
const INTERVAL_MS: u32 = 100;

/// Submits for each unit that is released, so that each finds a player at once.
const SUBMITS_A_WIN: f64 = 1.5;

/// A node holds two leases of a prize at a time, which bounds a prize's speed.
const TIMES: u32 = 8;

/// Measures all of it.
pub fn run(plan: &Plan, report: &mut Report) -> Result<()> {
    let Some(servers) = open()? else { return Ok(()) };
    for (name, rate) in RATES {
        if !["", ".p50", ".p99"].iter().any(|end| plan.wants(&format!("{name}{end}"))) {
            continue;
        }
        let rate = plan.sized(rate);
        let campaign = Campaign { wins_per_second: rate, interval_ms: INTERVAL_MS, times: TIMES };
        let mut fleet = Fleet::start(&servers, &plan.scratch, campaign, &[1])?;
        let mut config = config(plan, &fleet);
        config.load = Load::Rate(rate as f64 * SUBMITS_A_WIN);
        // Everybody has come once, and the brokers have warmed up.
        measure(&config)?;
        let before = fleet.account()?;
        let stored = fleet.stored()?;
        let done = measure(&config)?;
        let after = fleet.account()?;
        let stored = fleet.stored()? - stored;
        fleet.must_run()?;
        let piled = (after.unshipped, (after.wins - before.wins).saturating_sub(stored));
        add(report, name, rate, &done, piled);
    }
    Ok(())
}

fn config(plan: &Plan, fleet: &Fleet) -> BenchConfig {
    BenchConfig {
        outstanding: OUTSTANDING,
        users: if plan.quick { 2_000 } else { USERS },
        run_ms: if plan.quick { 1_000 } else { (plan.seconds * 1_000).clamp(1_000, 15_000) },
        warm_ms: 2_000,
        ..full_speed(plan, Kind::FramesShared, CONNECTIONS, fleet.frames, &fleet.key)
    }
}

fn add(report: &mut Report, name: &str, rate: u64, done: &BenchReport, (unshipped, behind): (u64, u64)) {
    let won = done.won_latency;
    let note = format!(
        "open loop, {:.0} submits/s asked for {rate} units/s released; {} wins in {:.0} s; at the end {unshipped} groups of the log were on their way into the lane, and flow had stored {behind} awards less than were won meanwhile; {} other answers, {} unanswered; the generator took {:.0} % of all cores; {ON}",
        rate as f64 * SUBMITS_A_WIN,
        done.won,
        done.seconds,
        done.others.iter().sum::<u64>() + done.errors,
        done.unanswered,
        done.cpu_share * 100.0
    );
    let mut figure = |name: String, value: f64, unit: &str, note: &str| {
        let mut samples = Samples::default();
        samples.push(value);
        report.add(Figure::alone(&name, &samples, unit, "reported", note.to_owned()));
    };
    figure(name.to_owned(), done.won as f64 / done.seconds, "wins/s", &note);
    let path = "from the instant the submit was due to the reading of the answer, behind local sync, lane and session";
    figure(format!("{name}.p50"), won.p50_us as f64 / 1e3, "ms", path);
    figure(format!("{name}.p99"), won.p99_us as f64 / 1e3, "ms", path);
}
