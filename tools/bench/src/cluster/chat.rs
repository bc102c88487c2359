//! `cluster.chat`: one-to-one messages of 128 bytes through one access node and two chat nodes that share the conversations in
//! PostgreSQL, each stored and synced there before it is acknowledged, at three rates and at the highest that is held.
//!
//! Everybody has a connection of his own and writes to his friend. A message is a step at the owner of its conversation and,
//! behind its acknowledgement, a step at the owner of each of the two timelines: half of those are at the other node.

use super::fleet::Fleet;
use super::{ON, open};
use crate::Plan;
use crate::chat::world::{BODY, Hold, alone, clean, ms, people, run_ms};
use crate::measure::{Samples, now_ns};
use crate::report::Report;
use anyhow::{Context, Result};
use loadgen::chat::flood::{self, FloodConfig, FloodReport, Talk};
use loadgen::meter::cores;
use runtime::{Shutdown, SystemClock};

/// What this file measures.
pub const FIGURES: &[&str] = &[
    "cluster.chat.250",
    "cluster.chat.250.p50",
    "cluster.chat.250.p99",
    "cluster.chat.250.delivery.p50",
    "cluster.chat.250.delivery.p99",
    "cluster.chat.1k",
    "cluster.chat.1k.p50",
    "cluster.chat.1k.p99",
    "cluster.chat.1k.delivery.p50",
    "cluster.chat.1k.delivery.p99",
    "cluster.chat.4k",
    "cluster.chat.4k.p50",
    "cluster.chat.4k.p99",
    "cluster.chat.4k.delivery.p50",
    "cluster.chat.4k.delivery.p99",
    "cluster.chat.held",
];

const RATES: [(&str, u64); 3] =
    [("cluster.chat.250", 250), ("cluster.chat.1k", 1_000), ("cluster.chat.4k", 4_000)];

/// Chat nodes.
const NODES: [u16; 2] = [21, 22];

/// Users, each with a connection.
const USERS: u32 = 1_000;

/// The shipped bound of 20 messages a user and second ends the search.
const HELD: Hold =
    Hold { name: "cluster.chat.held", aim: 4_000, step: 500, most: 19_000, p99_ms: 100.0, goal: "reported" };

/// A flood, and what the platform took for it.
struct Done {
    report: FloodReport,
    /// CPU of the chat nodes, and of the access node, s a second.
    chat: f64,
    access: f64,
    /// Transactions of conversations and of timelines, and how many of them were tries again.
    steps: u64,
    failures: u64,
}

struct World {
    fleet: Fleet,
    next_user: u64,
}

/// Measures all of it.
pub fn run(plan: &Plan, report: &mut Report) -> Result<()> {
    let Some(servers) = open()? else { return Ok(()) };
    let mut world = World { fleet: Fleet::talk(&servers, &plan.scratch, &NODES)?, next_user: 1_000_000 };
    for (name, rate) in RATES {
        if FIGURES.iter().any(|f| f.starts_with(name) && plan.wants(f)) {
            one_rate(plan, report, &mut world, (name, plan.sized(rate)))?;
        }
    }
    if plan.wants(HELD.name) {
        HELD.find(plan, report, |rate| world.flood(plan, rate), |done| &done.report, busy)?;
    }
    Ok(())
}

impl World {
    /// A flood of people who never chatted before.
    fn flood(&mut self, plan: &Plan, rate: u64) -> Result<Done> {
        let users = people(plan, USERS);
        let run_ms = run_ms(plan);
        let config = FloodConfig {
            address: self.fleet.frames,
            key: self.fleet.key.clone(),
            users,
            first_user: self.next_user,
            talk: Talk::Pairs,
            rate: rate as f64,
            body: BODY,
            warm_ms: if run_ms < 2_000 { 300 } else { 2_000 },
            run_ms,
            wait_ms: 120_000,
        };
        self.next_user += u64::from(users);
        let before = (self.fleet.cpu_s("chat")?, self.fleet.cpu_s("access")?, self.fleet.chat_steps()?);
        let began_ns = now_ns();
        let report = flood::run(&config, &SystemClock::shared(), &Shutdown::new());
        let seconds = (now_ns() - began_ns) as f64 / 1e9;
        let report = report.with_context(|| format!("chat at {rate} messages/s"))?;
        self.fleet.must_run()?;
        let after = (self.fleet.cpu_s("chat")?, self.fleet.cpu_s("access")?, self.fleet.chat_steps()?);
        Ok(Done {
            report,
            chat: (after.0 - before.0) / seconds,
            access: (after.1 - before.1) / seconds,
            steps: after.2.0 - before.2.0,
            failures: after.2.1 - before.2.1,
        })
    }
}

/// How busy the machine was, and what was not answered at once.
fn busy(all: &[Done]) -> String {
    let mean = |of: &dyn Fn(&Done) -> f64| all.iter().map(of).sum::<f64>() / all.len().max(1) as f64;
    let sum = |of: &dyn Fn(&Done) -> u64| all.iter().map(of).sum::<u64>();
    format!(
        "the chat nodes took {:.0} % of {} cores, access {:.0} %, the generator {:.0} %, PostgreSQL the rest; {} transactions, {} of them again; {} answers 'come again'; {ON}",
        mean(&|d| d.chat) * 100.0 / cores(),
        cores(),
        mean(&|d| d.access) * 100.0 / cores(),
        mean(&|d| d.report.cpu_share) * 100.0,
        sum(&|d| d.steps),
        sum(&|d| d.failures),
        sum(&|d| d.report.not_at_once),
    )
}

fn one_rate(plan: &Plan, report: &mut Report, world: &mut World, (name, rate): (&str, u64)) -> Result<()> {
    let [mut speed, mut p50, mut p99, mut delivery_p50, mut delivery_p99] =
        [(); 5].map(|()| Samples::default());
    let mut all = Vec::new();
    for turn in 0..=plan.runs.min(3) {
        let done = world.flood(plan, rate)?;
        // The first warms up.
        if turn == 0 {
            continue;
        }
        clean(&done.report)?;
        let FloodReport { acked_per_second, ack_latency: ack, delivery_latency: delivery, .. } = &done.report;
        speed.push(*acked_per_second);
        p50.push(ms(ack.p50_us));
        p99.push(ms(ack.p99_us));
        delivery_p50.push(ms(delivery.p50_us));
        delivery_p99.push(ms(delivery.p99_us));
        all.push(done);
    }
    let worst = all.iter().map(|done| done.report.ack_latency.max_us).max().unwrap_or(0);
    let note = format!(
        "open loop, {rate} messages/s of {BODY} B asked for on {} connections, {:.0} s a run; every one acknowledged after its commit and delivered once; slowest acknowledgement of all runs {:.0} ms; {}",
        people(plan, USERS),
        run_ms(plan) as f64 / 1e3,
        ms(worst),
        busy(&all)
    );
    alone(report, name, &speed, "messages/s", "the rate asked for", &note);
    let path = "from the instant the message was due to the reading of its acknowledgement";
    alone(report, &format!("{name}.p50"), &p50, "ms", "reported", path);
    alone(report, &format!("{name}.p99"), &p99, "ms", "reported", path);
    let path = "from the instant the message was due to the reading of the push at its receiver";
    alone(report, &format!("{name}.delivery.p50"), &delivery_p50, "ms", "reported", path);
    alone(report, &format!("{name}.delivery.p99"), &delivery_p99, "ms", "reported", path);
    Ok(())
}
