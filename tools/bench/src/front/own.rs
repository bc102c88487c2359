//! `frames.10k`: one player a connection, 10,000 connections, one submit unanswered on each.
//!
//! A player who asks again as soon as he is answered does so about ten times a second: so the campaign's least interval
//! is a millisecond and the front door's rate for a user is lifted. All else is as shipped.

use super::campaign::Campaign;
use super::load::{Sum, full_speed, hundredth_of_turns, measure, measure_draws};
use super::peer::{Peer, Speaks};
use super::platform::{Platform, Setup};
use crate::Plan;
use crate::measure::try_duel;
use crate::report::{Figure, Report};
use anyhow::Result;
use loadgen::bench::Kind;

/// What this file measures.
pub const FIGURES: &[&str] = &["frames.10k"];

const CONNECTIONS: u64 = 10_000;

/// Wins a second while the speed is not known: a hundredth of a hundred thousand submits.
pub const FIRST_GUESS: u64 = 1_000;

/// A platform for players who never pause.
pub fn restless(plan: &Plan, wins_per_second: u64) -> Result<Platform> {
    let campaign = Campaign { wins_per_second, interval_ms: 1, times: 1 };
    let mut setup = Setup::held_back(campaign);
    setup.set.push("access.limits.user_submits_per_second=1000000".to_owned());
    Platform::start(&plan.scratch, setup)
}

/// Measures it.
pub fn run(plan: &Plan, report: &mut Report) -> Result<()> {
    let connections = plan.sized(CONNECTIONS) as usize;
    let config = |p: &Platform| full_speed(plan, Kind::FramesOwn, connections, p.frames, &p.key);
    let trial = restless(plan, FIRST_GUESS)?;
    let wins_per_second = hundredth_of_turns(&measure_draws(plan, &config(&trial))?);
    drop(trial);
    let platform = restless(plan, wins_per_second)?;
    let peer = Peer::start(Speaks::Frames)?;
    let config = config(&platform);
    let mut bare = config.clone();
    bare.address = peer.address;
    let mut sum = Sum::default();
    let duel = try_duel(
        plan.runs.min(5),
        || {
            let done = measure_draws(plan, &config)?;
            sum.add(&done);
            Ok(done.draws_per_second)
        },
        || Ok(measure(&bare)?.draws_per_second),
    )?;
    let note = format!(
        "{connections} connections, each its own user with a token, who asks again when he is answered (least interval 1 ms and no rate for a user, else as shipped); {}",
        sum.words()
    );
    let peer =
        "bare frame server: a poll loop on each core that answers every submit with a loss of the same size";
    report.add(Figure::beside("frames.10k", &duel, "submits/s", peer, "ratio >= 0.7", note));
    Ok(())
}
