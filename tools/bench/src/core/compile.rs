//! `compile`: a campaign file to a plan, as a node does it with every new version.
//!
//! A thousand rounds of fifty prizes, once with each prize of each round written out, once with one list that all rounds
//! share. The peer of the long one is the least that a compiler has to do with a file: to read its bytes once and hash
//! them, as the plan's `source_sha256` says.

use crate::Plan;
use crate::measure::{Duel, Samples, now_ns};
use crate::report::{Figure, Report};
use anyhow::{Result, bail};
use campaign::{SeedKey, SeqNo};
use quota_config::{CompileOptions, compile};
use std::fmt::Write as _;

/// What this file measures.
pub const FIGURES: &[&str] = &["compile.written", "compile.shared"];

const KEY: SeedKey = SeedKey { id: 7, key: [9; 32] };

/// 2026-02-16 20:00 in Shanghai.
const EVENING_MS: u64 = 1_771_243_200_000;

/// Measures it.
pub fn run(plan: &Plan, report: &mut Report) -> Result<()> {
    let (rounds, prizes) = (plan.sized(1_000), if plan.quick { 5 } else { 50 });
    if plan.wants(FIGURES[0]) {
        let text = written(rounds, prizes);
        once(&text, rounds)?;
        let sides = (|| took(|| plan_of(&text)), || took(|| checksum(&text)));
        let duel = Duel::run(plan.runs, sides.0, sides.1);
        let note = format!(
            "{rounds} rounds x {prizes} prizes, {} bytes in {} lines",
            text.len(),
            text.lines().count()
        );
        let peer = "reading the bytes once";
        report.add(Figure::beside(FIGURES[0], &duel, "ms", peer, "< 100 ms", note));
    }
    if plan.wants(FIGURES[1]) {
        let text = shared(rounds, prizes);
        once(&text, rounds)?;
        let mut samples = Samples::default();
        for run in 0..=plan.runs {
            let ms = took(|| plan_of(&text));
            if run > 0 {
                samples.push(ms);
            }
        }
        let note = format!("the same plan from {} bytes", text.len());
        report.add(Figure::alone(FIGURES[1], &samples, "ms", "< 100 ms", note));
    }
    Ok(())
}

/// What is measured must be what is meant.
fn once(text: &str, rounds: u64) -> Result<()> {
    match plan_of(text) {
        found if found == rounds => Ok(()),
        found => bail!("the file has {found} rounds in its plan, not {rounds}"),
    }
}

fn took(work: impl FnOnce() -> u64) -> f64 {
    let begin = now_ns();
    std::hint::black_box(work());
    (now_ns() - begin) as f64 / 1e6
}

fn plan_of(text: &str) -> u64 {
    let options = CompileOptions { seq_no: SeqNo(1), base_ms: EVENING_MS, seeds: &KEY, after: None };
    compile(text.as_bytes(), &options).map_or(0, |compiled| compiled.plan.rounds.len() as u64)
}

fn checksum(text: &str) -> u64 {
    text.bytes().fold(0, |sum, byte| sum.rotate_left(5) ^ u64::from(byte))
}

fn head(prizes: u64) -> String {
    let mut text = "campaign: 5\nname: Large\ntime_zone: Asia/Shanghai\nvendors:\n".to_string();
    for vendor in 1..=prizes {
        let _ = writeln!(text, "  - {{id: {vendor}, name: Vendor {vendor}, release_per_second: 2000}}");
    }
    text + "limits: {wins_per_round: 3, interval: 2s}\n"
}

fn list(prizes: u64, indent: &str, text: &mut String) {
    for prize in 1..=prizes {
        let (units, sum) = (1_000 + prize, 4_000 + 7 * prize);
        let _ = writeln!(
            text,
            "{indent}- id: {prize}\n{indent}  name: Prize number {prize}\n{indent}  kind: cash\n{indent}  weight: {prize}\n\
             {indent}  vendor: {prize}\n{indent}  units: {units}\n{indent}  sum: {sum}\n{indent}  min: 0.50\n\
             {indent}  max: 200\n{indent}  speed_max: 1000\n{indent}  curve: front-loaded"
        );
    }
}

fn written(rounds: u64, prizes: u64) -> String {
    let mut text = head(prizes) + "rounds:\n";
    for round in 1..=rounds {
        let open = round * 15;
        let _ = writeln!(
            text,
            "  - id: {round}\n    name: Round {round}\n    open: +{open}m\n    duration: 10m\n    prizes:"
        );
        list(prizes, "      ", &mut text);
    }
    text
}

fn shared(rounds: u64, prizes: u64) -> String {
    let mut text = head(prizes) + "prize_sets:\n  all:\n";
    list(prizes, "    ", &mut text);
    text += "rounds:\n";
    for round in 1..=rounds {
        let open = round * 15;
        let _ = writeln!(
            text,
            "  - {{id: {round}, name: Round {round}, open: +{open}m, duration: 10m, prizes: all}}"
        );
    }
    text
}
