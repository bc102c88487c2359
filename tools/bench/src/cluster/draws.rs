//! Draws through access and lottery in two processes, beside the same draws in one; and what the ledger has to do meanwhile.

use super::fleet::Fleet;
use super::{ON, open};
use crate::Plan;
use crate::front::campaign::Campaign;
use crate::front::load::{Sum, full_speed, measure, measure_draws};
use crate::front::platform::{Platform, Setup};
use crate::measure::{Samples, now_ns, try_duel};
use crate::report::{Figure, Report};
use anyhow::Result;
use loadgen::bench::{BenchConfig, Kind};
use loadgen::token::TokenKey;
use std::net::SocketAddr;

/// What this file measures.
pub const FIGURES: &[&str] =
    &["cluster.draws", "cluster.ledger.ticks", "cluster.ledger.tick_ms", "cluster.ledger.leases"];

const CONNECTIONS: usize = 64;
const OUTSTANDING: usize = 64;

/// Few enough that a warm-up brings all of them into the node's memory: the first draw of each is answered 'pending'.
const USERS: u64 = 200_000;

/// Wins a second: about a hundredth of the draws of two cores.
const WINS: u64 = 4_000;

/// Least interval between two submits of a player, ms.
const INTERVAL_MS: u32 = 100;

fn config(plan: &Plan, address: SocketAddr, key: &TokenKey) -> BenchConfig {
    BenchConfig {
        outstanding: OUTSTANDING,
        users: if plan.quick { 2_000 } else { USERS },
        ..full_speed(plan, Kind::FramesShared, CONNECTIONS, address, key)
    }
}

/// Measures all of it.
pub fn run(plan: &Plan, report: &mut Report) -> Result<()> {
    let Some(servers) = open()? else { return Ok(()) };
    let campaign = Campaign { wins_per_second: plan.sized(WINS), interval_ms: INTERVAL_MS, times: 1 };
    let one = Platform::start(&plan.scratch, Setup::held_back(campaign))?;
    let mut fleet = Fleet::start(&servers, &plan.scratch, campaign, &[1])?;
    let (apart, together) = (config(plan, fleet.frames, &fleet.key), config(plan, one.frames, &one.key));
    // Everybody has come once.
    measure(&apart)?;
    measure(&together)?;
    let (mut sum, mut ticks, mut leases, mut tick_ms) =
        (Sum::default(), Samples::default(), Samples::default(), Samples::default());
    let duel = try_duel(
        plan.runs,
        || {
            let (before, began_ns) = (fleet.account()?, now_ns());
            let done = measure_draws(plan, &apart)?;
            let (after, s) = (fleet.account()?, (now_ns() - began_ns) as f64 / 1e9);
            sum.add(&done);
            ticks.push((after.ticks - before.ticks) as f64 / s);
            leases.push((after.leases - before.leases) as f64 / s);
            let count = (after.ticks - before.ticks).max(1);
            tick_ms.push((after.tick_us - before.tick_us) as f64 / 1e3 / count as f64);
            Ok(done.draws_per_second)
        },
        || Ok(measure_draws(plan, &together)?.draws_per_second),
    )?;
    fleet.must_run()?;
    let note = format!(
        "{CONNECTIONS} connections with {OUTSTANDING} submits unanswered on each; access and one lottery node in two processes; {ON}; {}",
        sum.words()
    );
    let peer = "the same in one process";
    report.add(Figure::beside("cluster.draws", &duel, "submits/s", peer, "reported", note));
    let at = format!("one lottery node at the speed of cluster.draws, {WINS} wins/s; {ON}");
    report.add(Figure::alone("cluster.ledger.ticks", &ticks, "ticks/s", "reported", at.clone()));
    report.add(Figure::alone("cluster.ledger.tick_ms", &tick_ms, "ms", "reported", at.clone()));
    report.add(Figure::alone("cluster.ledger.leases", &leases, "leases/s", "reported", at));
    Ok(())
}
