//! `http.submit`: JSON submits over kept-alive HTTP through the front door and the core.

use super::campaign::Campaign;
use super::load::{Sum, full_speed, hundredth_of_turns, measure, measure_draws};
use super::peer::{Peer, Speaks};
use super::platform::{Platform, Setup};
use crate::Plan;
use crate::measure::{Duel, try_duel};
use crate::report::{Figure, Report};
use anyhow::Result;
use loadgen::bench::Kind;

/// What this file measures.
pub const FIGURES: &[&str] = &["http.submit"];

const CONNECTIONS: usize = 64;

/// Wins a second while the speed is not known: a hundredth of what two cores answer over HTTP.
const FIRST_GUESS: u64 = 200;

fn platform(plan: &Plan, wins_per_second: u64) -> Result<Platform> {
    let campaign = Campaign { wins_per_second, interval_ms: 1_000, times: 1 };
    Platform::start(&plan.scratch, Setup::held_back(campaign))
}

/// Measures it.
pub fn run(plan: &Plan, report: &mut Report) -> Result<()> {
    let config = |p: &Platform| full_speed(plan, Kind::Http, CONNECTIONS, p.http, &p.key);
    let trial = platform(plan, FIRST_GUESS)?;
    let wins_per_second = hundredth_of_turns(&measure_draws(plan, &config(&trial))?);
    drop(trial);
    let platform = platform(plan, wins_per_second)?;
    let peer = Peer::start(Speaks::Http)?;
    let config = config(&platform);
    let mut bare = config.clone();
    bare.address = peer.address;
    let mut sum = Sum::default();
    let duel: Duel = try_duel(
        plan.runs.min(5),
        || {
            let done = measure_draws(plan, &config)?;
            sum.add(&done);
            Ok(done.draws_per_second)
        },
        || Ok(measure(&bare)?.draws_per_second),
    )?;
    let note = format!(
        "{CONNECTIONS} kept-alive connections, one request unanswered on each, a gateway's credential and 1 M users; {}",
        sum.words()
    );
    let peer = "bare hyper server that reads the same requests and answers with a body of the same size";
    report.add(Figure::beside("http.submit", &duel, "submits/s", peer, "ratio >= 0.8", note));
    Ok(())
}
