//! `reach`: from the moment at which an operator sends a change to the admin API until every node says that it runs it.
//!
//! The real binary and the admin API: a change is a POST, and the status is asked for again and again until all nodes
//! name the SeqNo that the change made. Two kinds, for they go two ways: a weight, which nodes notice by themselves; and a
//! pause, which goes to the ledger first and is answered when no node can get another unit. The status itself takes time,
//! and that counts too.

use super::ask::{ask, ask_json};
use super::campaign::Campaign;
use super::platform::{Platform, Setup};
use crate::Plan;
use crate::measure::{Samples, now_ns};
use crate::report::{Figure, Report};
use anyhow::{Result, bail};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::time::Duration;

/// What this file measures.
pub const FIGURES: &[&str] = &["reach.weight", "reach.pause"];

/// Between two looks at the status.
const LOOK: Duration = Duration::from_millis(25);

/// A change that takes longer is no figure but a fault.
const PATIENCE_S: f64 = 20.0;

/// Changes of one run: nodes look at fixed intervals, and a change comes at any moment of one.
const CHANGES: u64 = 20;

/// Steps from change to change, so that they come at other moments of the nodes' interval each time.
const STEP: Duration = Duration::from_millis(83);

/// Measures it.
pub fn run(plan: &Plan, report: &mut Report) -> Result<()> {
    let campaign = Campaign { wins_per_second: 100, interval_ms: 1_000, times: 1 };
    let platform = Platform::start(&plan.scratch, Setup::held_back(campaign))?;
    let desk = Desk { at: platform.console, token: platform.operator()? };
    let changes = if plan.quick { 2 } else { CHANGES };
    let mut weight = 0;
    let mut weights = || {
        weight += 1;
        ("weight", json!({"prize": "1/1", "weight": 50 + weight % 2, "reason": "bench"}))
    };
    figure(plan, report, &desk, FIGURES[0], changes, &mut weights)?;
    let mut paused = false;
    let mut pauses = || {
        paused = !paused;
        let what = if paused { "pause" } else { "resume" };
        (what, json!({"target": "prize:1/1", "reason": "bench"}))
    };
    figure(plan, report, &desk, FIGURES[1], changes, &mut pauses)
}

fn figure(
    plan: &Plan,
    report: &mut Report,
    desk: &Desk,
    name: &str,
    changes: u64,
    next: &mut dyn FnMut() -> (&'static str, Value),
) -> Result<()> {
    if !plan.wants(name) {
        return Ok(());
    }
    let (mut worst, mut all) = (Samples::default(), Samples::default());
    for run in 0..=plan.runs {
        let mut slowest = 0f64;
        for _ in 0..changes {
            let (what, body) = next();
            let took = desk.change(what, &body)?;
            slowest = slowest.max(took);
            if run > 0 {
                all.push(took);
            }
            std::thread::sleep(STEP);
        }
        // The first run warms up.
        if run > 0 {
            worst.push(slowest);
        }
    }
    let note = format!(
        "the slowest of {changes} changes in a run; median of all changes {:.3} s; nodes look four times a second, all of \
         them in one process here",
        all.median()
    );
    report.add(Figure::alone(name, &worst, "s", "< 1 s to 100 % of nodes", note));
    Ok(())
}

/// Where changes are made.
struct Desk {
    at: SocketAddr,
    token: String,
}

impl Desk {
    /// Makes a change; how long it took until all nodes ran it, in s.
    fn change(&self, what: &str, body: &Value) -> Result<f64> {
        let begin = now_ns();
        let (status, answer) =
            ask(self.at, &format!("/v1/campaigns/3/{what}"), &self.token, &body.to_string())?;
        let answer: Value = serde_json::from_slice(&answer)?;
        if status != 201 {
            bail!("{what} was answered {status}: {answer}");
        }
        let seq_no = number(&answer["seq_no"]);
        loop {
            let now = ask_json(self.at, "/v1/status", &self.token, "")?;
            let nodes = now["nodes"].as_array().cloned().unwrap_or_default();
            let runs = |node: &Value| {
                let plans = node["plans"].as_array().cloned().unwrap_or_default();
                plans.iter().any(|p| p["campaign"] == 3 && number(&p["seq_no"]) >= seq_no)
            };
            let took = (now_ns() - begin) as f64 / 1e9;
            if !nodes.is_empty() && nodes.iter().all(runs) {
                return Ok(took);
            }
            if took > PATIENCE_S {
                bail!("SeqNo {seq_no:?} does not reach all nodes: {now}");
            }
            std::thread::sleep(LOOK);
        }
    }
}

/// A number of 64 bits, as it is written; `None` comes before all.
fn number(value: &Value) -> Option<u64> {
    value.as_str()?.parse().ok()
}
