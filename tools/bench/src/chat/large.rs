//! `chat.large`: one group of 10,000, all of them online. It is too large for timelines: a message is stored once, and the
//! members are told at most once a tick (100 ms as shipped) how far the conversation has come, with the last messages
//! beside it.

use super::world::{BODY, Wanted, World, alone, busy, clean, ms, people, run_ms};
use crate::Plan;
use crate::measure::Samples;
use crate::report::Report;
use anyhow::Result;
use loadgen::chat::flood::Talk;

/// What this file measures.
pub const FIGURES: &[&str] = &["chat.large", "chat.large.p50", "chat.large.p99", "chat.large.ack.p99"];

const MEMBERS: u32 = 10_000;

/// Messages a second into the group; each goes to everybody.
const RATE: f64 = 20.0;

/// Members up to which messages are written into timelines, in a quick run: its group is smaller than the shipped bound.
const QUICK_WRITE: &str = "chat.write_members_max=50";

/// Measures it.
pub fn run(plan: &Plan, report: &mut Report) -> Result<()> {
    let set: &[&str] = if plan.quick { &[QUICK_WRITE] } else { &[] };
    let mut world = World::start(plan, set)?;
    let members = people(plan, MEMBERS);
    let wanted = Wanted { talk: Talk::Groups(members), users: members, rate: RATE, run_ms: run_ms(plan) };
    let [mut speed, mut p50, mut p99, mut ack]: [Samples; 4] = Default::default();
    let mut all = Vec::new();
    for turn in 0..=plan.runs.min(5) {
        let done = world.flood(&wanted)?;
        // The first warms up.
        if turn == 0 {
            continue;
        }
        clean(&done.0)?;
        speed.push(done.0.delivered_per_second);
        p50.push(ms(done.0.delivery_latency.p50_us));
        p99.push(ms(done.0.delivery_latency.p99_us));
        ack.push(ms(done.0.ack_latency.p99_us));
        all.push(done);
    }
    let note = format!(
        "open loop, {RATE} messages/s of {BODY} B into one group of {members} members, all online on connections of their own, {:.0} s a run; every message reached every other member once; {} times a member had to ask for what a push had left out; {}",
        wanted.run_ms as f64 / 1e3,
        all.iter().map(|r| r.0.pulls).sum::<u64>(),
        busy(&all)
    );
    alone(report, "chat.large", &speed, "deliveries/s", "reported", &note);
    let path =
        "from the instant the message was due to its reading at a member; members are told once in 100 ms";
    alone(report, "chat.large.p50", &p50, "ms", "reported", path);
    alone(report, "chat.large.p99", &p99, "ms", "reported", path);
    let path = "from the instant the message was due to the reading of its acknowledgement";
    alone(report, "chat.large.ack.p99", &ack, "ms", "reported", path);
    Ok(())
}
