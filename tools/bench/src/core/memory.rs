//! `core.bytes_per_user`: memory that a user costs while the core grows.

use super::world::World;
use crate::Plan;
use crate::measure::Samples;
use crate::report::{Figure, Report, short};
use anyhow::{Context, Result};

/// What this file measures.
pub const FIGURES: &[&str] = &["core.bytes_per_user"];

const FROM: u64 = 5_000_000;
const TO: u64 = 10_000_000;
const STEP: u64 = 50_000;

/// Measures it. One growth is one run: memory does not scatter as time does.
pub fn run(plan: &Plan, report: &mut Report) -> Result<()> {
    let (from, to, step) = (plan.sized(FROM), plan.sized(TO), plan.sized(STEP));
    let before = resident()?;
    let mut world = World::new(to, 5);
    world.grow_to(from);
    let (mut worst, mut at) = (0.0f64, 0);
    let last = loop {
        world.collect();
        let last = resident()?.saturating_sub(before) as f64 / world.users() as f64;
        if last > worst {
            (worst, at) = (last, world.users());
        }
        if world.users() >= to {
            break last;
        }
        world.grow_to((world.users() + step).min(to));
    };
    let mut samples = Samples::default();
    samples.push(worst);
    let lines = world.core.bytes() as f64 / world.users() as f64;
    let note = format!(
        "largest of {} looks at the resident size (all of the core: lines, index, {} wins) while growing from {} to {}; it was at {} users; at the end {last:.1}, of which lines {lines:.1}",
        (to - from) / step + 1,
        world.core.tally().wins,
        short(from as f64),
        short(to as f64),
        short(at as f64),
    );
    report.add(Figure::alone("core.bytes_per_user", &samples, "bytes", "<= 96", note));
    Ok(())
}

/// Resident bytes of this process.
fn resident() -> Result<u64> {
    let text = std::fs::read_to_string("/proc/self/status").context("read /proc/self/status")?;
    let line = text.lines().find_map(|l| l.strip_prefix("VmRSS:")).context("the status names VmRSS")?;
    let kib: u64 = line.trim().trim_end_matches(" kB").parse().context("VmRSS is a number of kB")?;
    Ok(kib * 1024)
}
