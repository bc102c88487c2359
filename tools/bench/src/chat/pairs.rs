//! `chat.pairs`: one-to-one messages of 128 bytes, each in the log and synced before it is acknowledged, at three rates and
//! at the highest that is held.
//!
//! Everybody has a connection of his own and writes to his friend; the load is spread over 5,000 of them, so that nobody
//! comes near the shipped bound of 20 messages a second, and friends do not write at the same time. The peer is a bare frame
//! server that answers frames at the same rate on as many connections and stores nothing: what of the latency is the machine's and
//! the generator's.

use super::world::{BODY, Hold, Wanted, World, alone, busy, clean, ms, people, run_ms};
use crate::Plan;
use crate::front::load::{full_speed, measure};
use crate::front::peer::{Peer, Speaks};
use crate::log::world::Bare;
use crate::measure::{Duel, Samples, now_ns};
use crate::report::{Figure, Report, short};
use anyhow::Result;
use loadgen::bench::{BenchConfig, Kind, Load};
use loadgen::chat::flood::{FloodReport, Talk};

/// What this file measures.
pub const FIGURES: &[&str] = &[
    "chat.pairs.1k",
    "chat.pairs.1k.p50",
    "chat.pairs.1k.p99",
    "chat.pairs.1k.delivery.p50",
    "chat.pairs.1k.delivery.p99",
    "chat.pairs.10k",
    "chat.pairs.10k.p50",
    "chat.pairs.10k.p99",
    "chat.pairs.10k.delivery.p50",
    "chat.pairs.10k.delivery.p99",
    "chat.pairs.40k",
    "chat.pairs.40k.p50",
    "chat.pairs.40k.p99",
    "chat.pairs.40k.delivery.p50",
    "chat.pairs.40k.delivery.p99",
    "chat.pairs.held",
];

const RATES: [(&str, u64); 3] =
    [("chat.pairs.1k", 1_000), ("chat.pairs.10k", 10_000), ("chat.pairs.40k", 40_000)];

/// Users, each with a connection.
const USERS: u32 = 5_000;

/// The shipped bound of 20 messages a user and second ends the search.
const HELD: Hold =
    Hold { name: "chat.pairs.held", aim: 40_000, step: 5_000, most: 95_000, p99_ms: 20.0, goal: ">= 40 k/s" };

/// Syncs of a raw file, for the note.
const SYNCS: usize = 500;

/// Measures all of it.
pub fn run(plan: &Plan, report: &mut Report) -> Result<()> {
    let mut world = World::start(plan, &[])?;
    let peer = Peer::start(Speaks::Frames)?;
    let sync = raw_sync(plan)?;
    for (name, rate) in RATES {
        if FIGURES.iter().any(|f| f.starts_with(name) && plan.wants(f)) {
            one_rate(plan, report, &mut world, &peer, (name, plan.sized(rate)), &sync)?;
        }
    }
    if plan.wants(HELD.name) {
        HELD.find(plan, report, |rate| world.flood(&wanted(plan, rate)), |done| &done.0, busy)?;
    }
    Ok(())
}

fn wanted(plan: &Plan, rate: u64) -> Wanted {
    let users = people(plan, USERS);
    Wanted { talk: Talk::Pairs, users, rate: rate as f64, run_ms: run_ms(plan) }
}

fn one_rate(
    plan: &Plan,
    report: &mut Report,
    world: &mut World,
    peer: &Peer,
    (name, rate): (&str, u64),
    sync: &str,
) -> Result<()> {
    let wanted = wanted(plan, rate);
    let bare = BenchConfig {
        load: Load::Rate(rate as f64),
        run_ms: wanted.run_ms,
        ..full_speed(plan, Kind::FramesOwn, wanted.users as usize, peer.address, &world.platform.key)
    };
    let (mut speed, mut p50, mut p99) = (Duel::default(), Duel::default(), Duel::default());
    let (mut delivery_p50, mut delivery_p99) = (Samples::default(), Samples::default());
    let mut all = Vec::new();
    for turn in 0..=plan.runs.min(5) {
        let done = world.flood(&wanted)?;
        let echo = measure(&bare)?;
        // The first warms up.
        if turn == 0 {
            continue;
        }
        clean(&done.0)?;
        let FloodReport { acked_per_second, ack_latency: ack, delivery_latency: delivery, .. } = &done.0;
        speed.push(*acked_per_second, echo.draws_per_second);
        p50.push(ms(ack.p50_us), ms(echo.lost_latency.p50_us));
        p99.push(ms(ack.p99_us), ms(echo.lost_latency.p99_us));
        delivery_p50.push(ms(delivery.p50_us));
        delivery_p99.push(ms(delivery.p99_us));
        all.push(done);
    }
    let worst = all.iter().map(|r| r.0.ack_latency.max_us).max().unwrap_or(0);
    let note = format!(
        "open loop, {rate} messages/s of {BODY} B asked for on {} connections, {:.0} s a run; every one acknowledged after its sync and delivered once; slowest acknowledgement of all runs {:.1} ms; {}; {sync}",
        wanted.users,
        wanted.run_ms as f64 / 1e3,
        ms(worst),
        busy(&all)
    );
    let bare = "bare frame server, same rate and connections, nothing stored or delivered";
    report.add(Figure::beside(name, &speed, "messages/s", bare, "the rate asked for", note));
    let path = "from the instant the message was due to the reading of its acknowledgement".to_owned();
    let goal = if name.ends_with("40k") { "< 20 ms" } else { "reported" };
    report.add(Figure::beside(&format!("{name}.p50"), &p50, "ms", bare, "reported", path.clone()));
    report.add(Figure::beside(&format!("{name}.p99"), &p99, "ms", bare, goal, path));
    let path = "from the instant the message was due to the reading of the push at its receiver";
    alone(report, &format!("{name}.delivery.p50"), &delivery_p50, "ms", "reported", path);
    alone(report, &format!("{name}.delivery.p99"), &delivery_p99, "ms", "reported", path);
    Ok(())
}

/// How long the disk takes for a piece, without anything around it.
fn raw_sync(plan: &Plan) -> Result<String> {
    let size = 256;
    let mut bare = Bare::new(&plan.scratch, (SYNCS * size) as u64, size)?;
    let mut times = Vec::with_capacity(SYNCS);
    for _ in 0..SYNCS {
        let start = now_ns();
        bare.write(size)?;
        times.push(now_ns() - start);
    }
    times.sort_unstable();
    let at = |share: usize| short(times[SYNCS * share / 100] as f64 / 1e6);
    Ok(format!("a bare write and fdatasync of {size} B took p50 {} ms and p99 {} ms here", at(50), at(99)))
}
