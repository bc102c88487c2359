//! `chat.groups`: messages into groups of 500, each stored, synced, written into every member's timeline and pushed to
//! everybody who is online, which all of them are.
//!
//! The peer is the plainest way to tell 500 people something: one write and one read of the same bytes for each of them,
//! over loopback, by two threads that do nothing else.

use super::world::{BODY, Wanted, World, alone, busy, clean, highest, ms, run_ms};
use crate::Plan;
use crate::measure::{Duel, Samples, rate};
use crate::report::{Figure, Report};
use anyhow::{Context, Result};
use loadgen::chat::flood::{FloodReport, Talk};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

/// What this file measures.
pub const FIGURES: &[&str] = &[
    "chat.groups",
    "chat.groups.p50",
    "chat.groups.p99",
    "chat.groups.ack.p50",
    "chat.groups.ack.p99",
    "chat.groups.held",
];

const GROUP: u32 = 500;
const GROUPS: u32 = 4;

/// Deliveries a second that are asked for.
const AIM: u64 = 250_000;

/// A rate is held when deliveries take no longer at p99, in ms, and hardly anything is left behind.
const HELD_P99_MS: f64 = 50.0;
const HELD_SHARE: f64 = 0.99;
const STEP: u64 = 50_000;
const MOST: u64 = 1_000_000;

/// Bytes of one delivery: a push with one entry.
const DELIVERY: usize = BODY + 64;

/// Sockets and rounds of the peer.
const SOCKETS: usize = 500;
const ROUNDS: usize = 400;

fn wanted(plan: &Plan, deliveries: u64) -> Wanted {
    let group = if plan.quick { 50 } else { GROUP };
    Wanted {
        talk: Talk::Groups(group),
        users: group * GROUPS,
        rate: deliveries as f64 / f64::from(group - 1),
        run_ms: run_ms(plan),
    }
}

/// Measures it.
pub fn run(plan: &Plan, report: &mut Report) -> Result<()> {
    let mut world = World::start(plan, &[])?;
    if FIGURES.iter().any(|f| *f != "chat.groups.held" && plan.wants(f)) {
        aim(plan, report, &mut world)?;
    }
    if plan.wants("chat.groups.held") {
        held(plan, report, &mut world)?;
    }
    Ok(())
}

fn aim(plan: &Plan, report: &mut Report, world: &mut World) -> Result<()> {
    let wanted = wanted(plan, plan.sized(AIM));
    let mut speed = Duel::default();
    let [mut p50, mut p99, mut ack_p50, mut ack_p99]: [Samples; 4] = Default::default();
    let mut all = Vec::new();
    for turn in 0..=plan.runs.min(5) {
        let done = world.flood(&wanted)?;
        let bare = one_by_one(plan)?;
        // The first warms up.
        if turn == 0 {
            continue;
        }
        clean(&done.0)?;
        let FloodReport { ack_latency: ack, delivery_latency: delivery, .. } = &done.0;
        speed.push(done.0.delivered_per_second, bare);
        p50.push(ms(delivery.p50_us));
        p99.push(ms(delivery.p99_us));
        ack_p50.push(ms(ack.p50_us));
        ack_p99.push(ms(ack.p99_us));
        all.push(done);
    }
    let note = format!(
        "open loop, {:.0} messages/s of {BODY} B into groups of {} members, {} connections, {:.0} s a run; each message acknowledged after its sync, stored once and pushed to {} others, none lost, none twice; {}",
        wanted.rate,
        wanted.users / GROUPS,
        wanted.users,
        wanted.run_ms as f64 / 1e3,
        wanted.users / GROUPS - 1,
        busy(&all)
    );
    let peer = "one write and one read a delivery over loopback, two threads, nothing stored";
    report.add(Figure::beside("chat.groups", &speed, "deliveries/s", peer, ">= 250 k/s", note));
    let path = "from the instant the message was due to the reading of the push, all receivers";
    alone(report, "chat.groups.p50", &p50, "ms", "reported", path);
    alone(report, "chat.groups.p99", &p99, "ms", "< 50 ms", path);
    let path = "from the instant the message was due to the reading of its acknowledgement";
    alone(report, "chat.groups.ack.p50", &ack_p50, "ms", "reported", path);
    alone(report, "chat.groups.ack.p99", &ack_p99, "ms", "reported", path);
    Ok(())
}

/// The highest rate that is held.
fn held(plan: &Plan, report: &mut Report, world: &mut World) -> Result<()> {
    let step = plan.sized(STEP);
    let best = highest((plan.sized(AIM), step, plan.sized(MOST)), |rate| {
        let done = world.flood(&wanted(plan, rate))?;
        let held = clean(&done.0).is_ok()
            && ms(done.0.delivery_latency.p99_us) < HELD_P99_MS
            && done.0.delivered_per_second >= rate as f64 * HELD_SHARE;
        Ok((done, held))
    })?;
    let mut samples = Samples::default();
    samples.push(best.as_ref().map_or(0.0, |(_, done)| done.0.delivered_per_second));
    let told = best.map_or("none was held".to_owned(), |(_, done)| {
        let p99 = ms(done.0.delivery_latency.p99_us);
        format!("at it p99 {p99:.1} ms; {}", busy(&[done]))
    });
    let note = format!(
        "highest rate, in steps of {step} deliveries/s, that was delivered to {:.0} % with p99 below {HELD_P99_MS} ms in one of two runs of {:.0} s; {told}",
        HELD_SHARE * 100.0,
        run_ms(plan) as f64 / 1e3
    );
    alone(report, "chat.groups.held", &samples, "deliveries/s", ">= 250 k/s", &note);
    Ok(())
}

/// Deliveries a second of somebody who tells everyone by a write of his own.
fn one_by_one(plan: &Plan) -> Result<f64> {
    let sockets = if plan.quick { 20 } else { SOCKETS };
    let rounds = if plan.quick { 20 } else { ROUNDS };
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let (mut writers, mut readers) = (Vec::new(), Vec::new());
    for _ in 0..sockets {
        writers.push(TcpStream::connect(address)?);
        readers.push(listener.accept()?.0);
    }
    for socket in writers.iter().chain(&readers) {
        socket.set_nodelay(true)?;
    }
    std::thread::scope(|scope| {
        let reading = scope.spawn(move || -> std::io::Result<()> {
            let mut buffer = [0; DELIVERY];
            for _ in 0..rounds {
                for reader in &mut readers {
                    reader.read_exact(&mut buffer)?;
                }
            }
            Ok(())
        });
        let mut failed = Ok(());
        let speed = rate(|| {
            for _ in 0..rounds {
                for writer in &mut writers {
                    if failed.is_ok() {
                        failed = writer.write_all(&[0x5a; DELIVERY]);
                    }
                }
            }
            // Who could not write any more has readers that wait for nothing.
            writers.clear();
            if let Ok(Err(error)) = reading.join() {
                failed = Err(error);
            }
            (rounds * sockets) as u64
        });
        failed.context("write to the peer's sockets, and read from them")?;
        Ok(speed)
    })
}
