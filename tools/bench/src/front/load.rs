//! The generator, as the benches use it.

use crate::Plan;
use anyhow::{Context, Result, bail};
use loadgen::bench::{BenchConfig, BenchReport, Kind, Load, run};
use loadgen::token::TokenKey;
use runtime::{Shutdown, SystemClock};
use std::net::SocketAddr;

/// Time before anything counts, in ms.
const WARM_MS: u64 = 1_000;

/// Length of a turn, in ms.
const TURN_MS: u64 = 5_000;

/// Share of submits that were no draws above which a run is not what it says.
const REFUSED_MAX: f64 = 0.01;

/// A run at full speed from one thread.
pub fn full_speed(
    plan: &Plan,
    kind: Kind,
    connections: usize,
    address: SocketAddr,
    key: &TokenKey,
) -> BenchConfig {
    BenchConfig {
        address,
        kind,
        connections,
        outstanding: 1,
        threads: 1,
        load: Load::Max,
        warm_ms: if plan.quick { 300 } else { WARM_MS },
        run_ms: if plan.quick { 500 } else { TURN_MS },
        campaign: None,
        first_user: 1,
        users: 1_000_000,
        shakes: 3,
        gateway_token: None,
        key: Some(key.clone()),
    }
}

/// Runs it.
pub fn measure(config: &BenchConfig) -> Result<BenchReport> {
    let what = || format!("ask {} ({:?})", config.address, config.kind);
    run(config, &SystemClock::shared(), &Shutdown::new()).with_context(what)
}

/// Share of answers that were no draws.
pub fn refused(report: &BenchReport) -> f64 {
    let no = report.others.iter().sum::<u64>() + report.errors;
    no as f64 / (no + report.draws).max(1) as f64
}

/// Runs it against the platform: what is not a draw of the core may be a hundredth at most. (Quick runs follow each
/// other faster than players may come.)
pub fn measure_draws(plan: &Plan, config: &BenchConfig) -> Result<BenchReport> {
    let report = measure(config)?;
    if report.draws == 0 || (refused(&report) > REFUSED_MAX && !plan.quick) {
        let BenchReport { draws, others, errors, .. } = report;
        bail!("{draws} draws, {errors} errors, other answers by number: {others:?}; that measures no draws");
    }
    Ok(report)
}

/// Wins a second that make a hundredth of the draws of a run: what the campaign of the measured runs releases.
pub fn hundredth(trial: &BenchReport) -> u64 {
    (trial.draws_per_second / 100.0) as u64
}

/// The same for runs that take turns with those of a peer of the same length: the campaign's clock goes on meanwhile, and what
/// it releases in the peer's turn is won in the next one.
pub fn hundredth_of_turns(trial: &BenchReport) -> u64 {
    (hundredth(trial) / 2).max(1)
}

/// What several runs came to, for a note.
#[derive(Default)]
pub struct Sum {
    draws: u64,
    won: u64,
    refused: u64,
    unanswered: u64,
    cpu_s: f64,
    seconds: f64,
    p99_us: u64,
}

impl Sum {
    /// Adds a run.
    pub fn add(&mut self, report: &BenchReport) {
        self.draws += report.draws;
        self.won += report.won;
        self.refused += report.others.iter().sum::<u64>() + report.errors;
        self.unanswered += report.unanswered;
        self.cpu_s += report.cpu_s;
        self.seconds += report.seconds;
        self.p99_us = self.p99_us.max(report.lost_latency.p99_us);
    }

    /// In words.
    pub fn words(&self) -> String {
        let cores = loadgen::meter::cores();
        format!(
            "{} draws of the core, {:.2} % won, {} answers that were no draw ({:.3} %), {} unanswered; worst p99 of a losing submit {:.1} ms; the generator took {:.0} % of {cores} cores",
            self.draws,
            self.won as f64 * 100.0 / self.draws.max(1) as f64,
            self.refused,
            self.refused as f64 * 100.0 / (self.refused + self.draws).max(1) as f64,
            self.unanswered,
            self.p99_us as f64 / 1e3,
            self.cpu_s * 100.0 / (self.seconds * cores).max(1e-9),
        )
    }
}
