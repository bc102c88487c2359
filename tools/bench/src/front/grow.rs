//! `grow.connections`: what a submit costs the platform with 10,000 connections beside 1,000.

use super::load::{full_speed, measure_draws};
use super::own::{FIRST_GUESS, restless};
use super::platform::Platform;
use crate::Plan;
use crate::measure::{Samples, try_duel};
use crate::report::{Figure, Report, short};
use anyhow::Result;
use loadgen::bench::{BenchConfig, Kind};

/// What this file measures.
pub const FIGURES: &[&str] = &["grow.connections"];

const MANY: u64 = 10_000;
const FEW: u64 = 1_000;

/// Measures it.
pub fn run(plan: &Plan, report: &mut Report) -> Result<()> {
    let platform = restless(plan, FIRST_GUESS)?;
    let config =
        |n: u64| full_speed(plan, Kind::FramesOwn, plan.sized(n) as usize, platform.frames, &platform.key);
    let (many, few) = (config(MANY), config(FEW));
    let (mut many_rate, mut few_rate) = (Samples::default(), Samples::default());
    let duel = try_duel(
        plan.runs.min(5),
        || cost_ns(plan, &platform, &many, &mut many_rate),
        || cost_ns(plan, &platform, &few, &mut few_rate),
    )?;
    let note = format!(
        "CPU time of the platform by the submits that it drew for, logins included, at full speed: {} submits/s with {} connections, {} with {}",
        short(many_rate.median()),
        many.connections,
        short(few_rate.median()),
        few.connections
    );
    let peer = format!("the same with {} connections", few.connections);
    let goal = "does not grow, but for the cache misses of ten times the sockets";
    report.add(Figure::beside("grow.connections", &duel, "ns/submit", &peer, goal, note));
    Ok(())
}

/// CPU time of the platform a draw, in ns.
fn cost_ns(plan: &Plan, platform: &Platform, config: &BenchConfig, rates: &mut Samples) -> Result<f64> {
    // Counting takes CPU time too: outside of what is measured.
    let draws = platform.counts()?.draws;
    let cpu_s = platform.cpu_s()?;
    let done = measure_draws(plan, config)?;
    rates.push(done.draws_per_second);
    let cpu_s = platform.cpu_s()? - cpu_s;
    let draws = platform.counts()?.draws - draws;
    Ok(cpu_s * 1e9 / draws.max(1) as f64)
}
