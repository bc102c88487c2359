//! `chat.idle`: what an idle connection costs: memory of the process and CPU for heartbeats, with 19,000 connections of
//! devices that are logged in with chat, over TCP and over WebSockets; and with 100,000 over several processes.
//!
//! Memory is the growth of the process's own pages (`RssAnon`) from before the first connection, divided by the
//! connections: with everything that the front door and chat keep for a user who is online, and without the kernel's part
//! of a socket. A process holds 20,000 file descriptors on many machines; so does a generator, and each platform has
//! its own.

use super::world::{World, alone};
use crate::Plan;
use crate::front::process::{Process, beside};
use crate::measure::{Samples, now_ns};
use crate::report::{Report, short};
use anyhow::{Context, Result, bail};
use loadgen::chat::idle::{Idle, IdleConfig, IdleReport};
use loadgen::meter::cores;
use runtime::{Shutdown, SystemClock};
use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

/// What this file measures.
pub const FIGURES: &[&str] = &[
    "chat.idle.tcp",
    "chat.idle.tcp.cpu",
    "chat.idle.websocket",
    "chat.idle.websocket.cpu",
    "chat.idle.100k",
    "chat.idle.100k.cpu",
];

/// Connections of one process.
const CONNECTIONS: u32 = 19_000;
/// The bound is raised by so much that they fit.
const BOUND: &str = "access.limits.connections_max=19500";

/// All connections of the large figure.
const MANY: u32 = 100_000;

/// Memory that one connection takes on this machine at most, for the platform, the generator and the kernel.
const EACH_BYTES: u64 = 24 << 10;

/// Time for everything that a start or a login leads to, before memory is looked at: registrations, checkpoints, the first
/// heartbeat, and what all of them used and freed, which the process keeps for some 35 s.
const REST_MS: u64 = 60_000;

/// Between two looks at a generator's process.
const LOOK: Duration = Duration::from_millis(200);

/// Measures it.
pub fn run(plan: &Plan, report: &mut Report) -> Result<()> {
    for websocket in [false, true] {
        let name = if websocket { "chat.idle.websocket" } else { "chat.idle.tcp" };
        if plan.wants(name) || plan.wants(&format!("{name}.cpu")) {
            one(plan, report, name, websocket)?;
        }
    }
    if plan.wants("chat.idle.100k") || plan.wants("chat.idle.100k.cpu") {
        many(plan, report)?;
    }
    Ok(())
}

/// How long connections are kept while CPU is counted, in ms: every device beats at least once.
fn keep_ms(plan: &Plan) -> u64 {
    if plan.quick { 2_000 } else { (plan.seconds * 1_000).max(35_000) }
}

/// How long memory is left alone before it is looked at, in ms.
fn rest_ms(plan: &Plan) -> u64 {
    if plan.quick { 500 } else { REST_MS }
}

fn rest(plan: &Plan) {
    std::thread::sleep(Duration::from_millis(rest_ms(plan)));
}

/// What a platform needs for a process full of connections.
struct Before {
    bytes: u64,
    cpu_s: f64,
}

fn one(plan: &Plan, report: &mut Report, name: &str, websocket: bool) -> Result<()> {
    let connections = plan.sized(CONNECTIONS.into()) as u32;
    let [mut bytes, mut cpu]: [Samples; 2] = Default::default();
    let mut last = (IdleReport::default(), 0);
    for _ in 0..plan.runs.min(3) {
        // Each run on a fresh platform: what one has freed, the next would not have to ask for.
        let mut world = World::start(plan, &[BOUND])?;
        let address = if websocket { world.platform.http } else { world.platform.frames };
        let config = config(&mut world, address, websocket, connections);
        let (clock, never) = (SystemClock::shared(), Shutdown::new());
        rest(plan);
        let before = world.platform.own_bytes()?;
        let mut idle = Idle::open(&config, &clock)?;
        idle.keep(rest_ms(plan), &clock, &never)?;
        let own = world.platform.own_bytes()?;
        let (cpu_s, start) = (world.platform.cpu_s()?, now_ns());
        let kept = idle.keep(keep_ms(plan), &clock, &never)?;
        let seconds = (now_ns() - start) as f64 / 1e9;
        cpu.push((world.platform.cpu_s()? - cpu_s) / seconds * 100.0);
        bytes.push(own.saturating_sub(before) as f64 / f64::from(connections));
        if kept.lost > 0 || kept.beats == 0 && !plan.quick {
            bail!("{} of {connections} idle connections were lost, {} beats sent", kept.lost, kept.beats);
        }
        last = (kept, before);
    }
    let (kept, before) = last;
    let over = if websocket { "WebSockets" } else { "TCP" };
    let note = format!(
        "{connections} devices over {over}, logged in with chat, each another user; growth of RssAnon from {:.1} MiB before the first, {:.0} s after the last login (all took {:.1} s); the kernel's part of a socket is not in it; connections_max raised to 19,500, all else as shipped",
        before as f64 / f64::from(1 << 20),
        REST_MS as f64 / 1e3,
        kept.login_ms as f64 / 1e3
    );
    let goal = if websocket { "< 3 KB" } else { "< 2 KB" };
    alone(report, name, &bytes, "B/connection", goal, &note);
    let note = format!(
        "of one core ({} there are), over {:.0} s, with {} heartbeats answered; the generator took {:.1} % of all",
        cores(),
        kept.seconds,
        kept.answered,
        kept.cpu_share * 100.0
    );
    alone(report, &format!("{name}.cpu"), &cpu, "% of a core", "reported", &note);
    Ok(())
}

fn config(world: &mut World, address: SocketAddr, websocket: bool, connections: u32) -> IdleConfig {
    IdleConfig {
        address,
        websocket,
        key: world.platform.key.clone(),
        connections,
        first_user: world.users(connections),
        run_ms: 0,
        wait_ms: 300_000,
    }
}

/// Memory that is free on this machine, in bytes.
fn free_bytes() -> Result<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").context("read /proc/meminfo")?;
    let line = text.lines().find_map(|l| l.strip_prefix("MemAvailable:"));
    let kib = line.and_then(|l| l.trim().trim_end_matches("kB").trim().parse::<u64>().ok());
    Ok(kib.context("MemAvailable in /proc/meminfo")? << 10)
}

/// Several platforms, each with a generator in a process of its own.
fn many(plan: &Plan, report: &mut Report) -> Result<()> {
    let wanted = plan.sized(MANY.into()) as u32;
    let fits = u32::try_from(free_bytes()? / 2 / EACH_BYTES).unwrap_or(u32::MAX);
    let all = wanted.min(fits);
    let each = plan.sized(CONNECTIONS.into()) as u32;
    let (mut worlds, mut generators, mut before) = (Vec::new(), Vec::new(), Vec::new());
    let mut left = all;
    while left > 0 {
        let connections = left.min(each);
        left -= connections;
        worlds.push((World::start(plan, &[BOUND])?, connections));
    }
    rest(plan);
    for (world, connections) in &mut worlds {
        before.push(Before { bytes: world.platform.own_bytes()?, cpu_s: 0.0 });
        generators.push(generator(plan, world, *connections)?);
    }
    // All of them log in at once, and say nothing until they are done: so the platforms are asked.
    let end_ns = now_ns() + 600_000_000_000;
    while connected(&worlds)? < u64::from(all) {
        generators.iter_mut().try_for_each(Process::must_run)?;
        if now_ns() > end_ns {
            bail!("{} of {all} devices were logged in after 600 s", connected(&worlds)?);
        }
        std::thread::sleep(LOOK);
    }
    rest(plan);
    let mut grown = 0;
    for ((world, _), before) in worlds.iter().zip(&mut before) {
        grown += world.platform.own_bytes()?.saturating_sub(before.bytes);
        before.cpu_s = world.platform.cpu_s()?;
    }
    let start = now_ns();
    std::thread::sleep(Duration::from_millis(keep_ms(plan)));
    let seconds = (now_ns() - start) as f64 / 1e9;
    let mut cpu_s = 0.0;
    for ((world, _), before) in worlds.iter().zip(&before) {
        cpu_s += world.platform.cpu_s()? - before.cpu_s;
    }
    generators.iter_mut().try_for_each(Process::must_run)?;
    let there = connected(&worlds)?;
    if there < u64::from(all) {
        bail!("{there} of {all} devices are still connected after {seconds:.0} s");
    }
    let [mut bytes, mut cpu]: [Samples; 2] = Default::default();
    bytes.push(grown as f64 / f64::from(all));
    cpu.push(cpu_s / seconds * 100.0);
    let short_of = if all < wanted { format!(" (of {wanted}: memory for no more)") } else { String::new() };
    let note = format!(
        "{all} devices{short_of} over TCP on {} platforms with up to {each} each, generators in processes of their own; growth of RssAnon of all platforms; {} free on the machine meanwhile",
        worlds.len(),
        short(free_bytes()? as f64)
    );
    alone(report, "chat.idle.100k", &bytes, "B/connection", "< 2 KB", &note);
    let note = format!("of one core ({} there are), all platforms together, over {seconds:.0} s", cores());
    alone(report, "chat.idle.100k.cpu", &cpu, "% of a core", "reported", &note);
    Ok(())
}

/// Devices that are connected, on all platforms.
fn connected(worlds: &[(World, u32)]) -> Result<u64> {
    worlds.iter().map(|(world, _)| world.platform.connected()).sum()
}

/// A generator that keeps idle connections until it is killed.
fn generator(plan: &Plan, world: &mut World, connections: u32) -> Result<Process> {
    let first_user = world.users(connections);
    let run_ms = 10 * keep_ms(plan) + 600_000;
    let mut command = Command::new(beside("loadgen")?);
    command.arg("idle").args(["--address", &world.platform.frames.to_string()]);
    command.args(["--user-key".as_ref(), world.platform.key_file().as_os_str()]);
    command.args(["--connections", &connections.to_string(), "--first-user", &first_user.to_string()]);
    command.args(["--run-ms", &run_ms.to_string(), "--wait-ms", "600000"]);
    Process::start("loadgen idle", command, &world.platform.folder().join("generator.log"))
}
