//! `chat.restart.10m`: from the start of a process that was killed in the midst of 40,000 messages a second, with ten
//! million of them stored, to the first acknowledgement.
//!
//! The messages are made through the front door, by pairs. A `kill -9` comes while more of them are under way, so that
//! log, store and everything between them stand as they happen to stand; what the store does not have is read from the log.

use super::world::{BODY, Wanted, World, alone, people};
use crate::Plan;
use crate::front::ask::ask;
use crate::measure::{Samples, now_ns};
use crate::report::{Report, short};
use anyhow::{Context, Result, bail};
use loadgen::chat::flood::{self, Talk};
use runtime::{Clock, Shutdown, SystemClock};
use serde_json::Value;
use std::time::Duration;

/// What this file measures.
pub const FIGURES: &[&str] = &["chat.restart.10m"];

const MESSAGES: u64 = 10_000_000;

/// Messages a second while it is filled, and users who write them.
const RATE: u64 = 40_000;
const USERS: u32 = 10_000;

/// Length of a piece of the filling, in ms.
const PIECE_MS: u64 = 60_000;

/// Messages go on for so long before a kill: longer than from checkpoint to checkpoint.
const UNDER_WAY: Duration = Duration::from_millis(8_500);

/// Between two tries to reach a platform that starts.
const TRY: Duration = Duration::from_millis(2);

/// How long a start is watched, in s.
const PATIENCE_S: f64 = 300.0;

/// Measures it.
pub fn run(plan: &Plan, report: &mut Report) -> Result<()> {
    let mut world = World::start(plan, &[])?;
    // At a hundredth of the rate, a hundredth of them would take as long.
    let (mut stored, wanted) = (0, if plan.quick { 800 } else { MESSAGES });
    while stored < wanted {
        stored += fill(plan, &mut world, wanted - stored)?;
    }
    let mut samples = Samples::default();
    let mut told = String::new();
    for _ in 0..plan.runs.min(3) {
        let (friends, more) = kill(plan, &mut world)?;
        stored += more;
        samples.push(first_ack(&mut world, friends)?);
        told = recovered(&world)?;
    }
    let note = format!(
        "{} messages of {BODY} B between {} users acknowledged before the last kill, each kill in the midst of {RATE} a second; files in the page cache; the last start {told}; the message of the start was a new one, over HTTP, stored and synced",
        short(stored as f64),
        people(plan, USERS)
    );
    alone(report, "chat.restart.10m", &samples, "s", "reported", &note);
    Ok(())
}

fn wanted(plan: &Plan, run_ms: u64) -> Wanted {
    let rate = plan.sized(RATE) as f64;
    Wanted { talk: Talk::Pairs, users: people(plan, USERS), rate, run_ms }
}

/// Up to a minute of messages; how many were acknowledged.
fn fill(plan: &Plan, world: &mut World, left: u64) -> Result<u64> {
    let run_ms = (left * 1_000).div_ceil(plan.sized(RATE)).clamp(1_000, PIECE_MS);
    let wanted = wanted(plan, run_ms);
    let first_user = world.users(wanted.users);
    let mut config = world.config(&wanted, first_user);
    config.warm_ms = 0;
    let done = flood::run(&config, &SystemClock::shared(), &Shutdown::new()).context("fill")?;
    world.platform.must_run()?;
    if done.acked == 0 {
        bail!("none of the messages that fill it was acknowledged: {}", done.first_refusal);
    }
    Ok(done.acked)
}

/// Kills the platform while messages are under way; the first of two friends among those who wrote, and how many messages
/// there were about.
fn kill(plan: &Plan, world: &mut World) -> Result<(u64, u64)> {
    let wanted = wanted(plan, 120_000);
    let first_user = world.users(wanted.users);
    let config = world.config(&wanted, first_user);
    let going = if plan.quick { Duration::from_millis(1_500) } else { UNDER_WAY };
    let (begun, begins) = std::sync::mpsc::sync_channel(1);
    std::thread::scope(|scope| {
        let config = &config;
        let flood = scope.spawn(move || {
            let tell = || {
                // Somebody listens as long as this runs.
                let _ = begun.send(());
            };
            flood::run_telling(config, &SystemClock::shared(), &Shutdown::new(), tell)
        });
        // Logins and friendships come first. If they fail nothing begins, and the flood says why.
        let messages = begins.recv().is_ok();
        if messages {
            std::thread::sleep(going);
        }
        if !messages || flood.is_finished() {
            let why = flood.join().map_err(|_| anyhow::anyhow!("the messages' thread panicked"))?;
            bail!("the messages ended before the kill: {:?}", why.err().map(|e| e.to_string()));
        }
        world.platform.kill();
        // It ends because its connections do.
        let _ = flood.join();
        Ok((first_user, (wanted.rate * going.as_secs_f64()) as u64))
    })
}

/// Starts the platform; how long until a message of the first friend to the second was acknowledged.
fn first_ack(world: &mut World, friends: u64) -> Result<f64> {
    let start = now_ns();
    world.platform.start_again()?;
    let token = world.platform.key.user(friends, SystemClock.now_ms());
    let device = SystemClock.now_ms();
    let body = format!(
        r#"{{"toUser":"{}","device":"{device}","counter":"1","kind":"MESSAGE_KIND_TEXT","body":"aGVsbG8="}}"#,
        friends + 1
    );
    loop {
        // Not listening yet: asked again.
        if let Ok((status, answer)) = ask(world.platform.http, "/v1/chat/send", &token, &body) {
            let answer: Value = serde_json::from_slice(&answer).unwrap_or_default();
            match answer["outcome"].as_str() {
                Some("SEND_OUTCOME_STORED") => return Ok((now_ns() - start) as f64 / 1e9),
                Some("SEND_OUTCOME_BUSY" | "SEND_OUTCOME_PENDING") => {}
                _ => bail!("a message was answered {status}: {answer}"),
            }
        }
        world.platform.must_run()?;
        if (now_ns() - start) as f64 / 1e9 > PATIENCE_S {
            bail!("no acknowledgement within {PATIENCE_S} s of the start");
        }
        std::thread::sleep(TRY);
    }
}

/// What the platform said of its last start.
fn recovered(world: &World) -> Result<String> {
    let said = world.platform.said("read the message log")?;
    let fields = said.last().map(|l| l["fields"].clone()).unwrap_or_default();
    Ok(format!("read {} records of the log behind the store", fields["records"]))
}
