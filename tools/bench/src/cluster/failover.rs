//! From SIGKILL of one of two lottery nodes to the other drawing for all users.

use super::fleet::{BUCKETS, Fleet};
use super::{ON, open};
use crate::Plan;
use crate::front::campaign::Campaign;
use crate::front::load::full_speed;
use crate::measure::{Samples, now_ns};
use crate::report::{Figure, Report};
use anyhow::{Context, Result, bail};
use loadgen::bench::{BenchConfig, Kind, Load};
use runtime::{Shutdown, SystemClock};
use std::time::Duration;

/// What this file measures.
pub const FIGURES: &[&str] = &["cluster.failover"];

/// Submits a second meanwhile, and wins among them.
const SUBMITS: f64 = 2_000.0;
const WINS: u64 = 200;

/// More than that is no hand-over any more.
const GIVE_UP: Duration = Duration::from_secs(30);

/// Measures it, on a platform of its own each time.
pub fn run(plan: &Plan, report: &mut Report) -> Result<()> {
    let Some(servers) = open()? else { return Ok(()) };
    let mut seconds = Samples::default();
    for _ in 0..plan.runs.min(3) {
        let campaign = Campaign { wins_per_second: WINS, interval_ms: 100, times: 1 };
        let mut fleet = Fleet::start(&servers, &plan.scratch, campaign, &[1, 2])?;
        let config = BenchConfig {
            outstanding: 256,
            users: 20_000,
            load: Load::Rate(SUBMITS),
            run_ms: 10_000,
            ..full_speed(plan, Kind::FramesShared, 8, fleet.frames, &fleet.key)
        };
        let stop = Shutdown::new();
        let playing = {
            let stop = stop.clone();
            std::thread::spawn(move || loadgen::bench::run(&config, &SystemClock::shared(), &stop))
        };
        std::thread::sleep(Duration::from_secs(4));
        seconds.push(kill_one(&mut fleet)?);
        stop.request();
        // Its figures are of no interest: half of the players were without a node.
        drop(playing.join().ok().context("the generator panicked")?);
        fleet.must_run()?;
    }
    let note = format!(
        "from SIGKILL of one of two lottery nodes, each with half of the users and {WINS} wins/s between them, until the other draws for every bucket: the dead node's session runs out after 3 s; {ON}"
    );
    report.add(Figure::alone("cluster.failover", &seconds, "s", "<= 5 s", note));
    Ok(())
}

fn kill_one(fleet: &mut Fleet) -> Result<f64> {
    let killed_ns = now_ns();
    fleet.kill(2);
    loop {
        let passed_ns = now_ns() - killed_ns;
        if fleet.open_buckets()? == BUCKETS {
            return Ok(passed_ns as f64 / 1e9);
        }
        if passed_ns > GIVE_UP.as_nanos() as u64 {
            bail!("the users of a dead lottery node were not drawn for within {GIVE_UP:?}");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}
