//! The report: one entry a figure, for programs as JSON and for people as a table.

use crate::measure::{Duel, Samples};
use anyhow::{Context, Result};
use serde::Serialize;
use std::path::Path;

/// One figure. Names are stable: scripts compare reports of different days by them.
#[derive(Clone, Debug, Serialize)]
pub struct Figure {
    /// Stable name.
    pub name: String,
    /// Median of the runs.
    pub value: f64,
    /// Unit of `value` and `peer_value`.
    pub unit: String,
    /// What it is compared with.
    pub peer: Option<String>,
    /// The peer's median.
    pub peer_value: Option<f64>,
    /// Median of value by peer's value, turn by turn.
    pub ratio: Option<f64>,
    /// What is promised, in words.
    pub goal: String,
    /// Measured runs.
    pub runs: usize,
    /// (best - worst) / median.
    pub spread: f64,
    /// What one must know to read the number.
    pub note: String,
}

impl Figure {
    /// A figure without a peer.
    pub fn alone(name: &str, samples: &Samples, unit: &str, goal: &str, note: String) -> Figure {
        Figure {
            name: name.to_owned(),
            value: samples.median(),
            unit: unit.to_owned(),
            peer: None,
            peer_value: None,
            ratio: None,
            goal: goal.to_owned(),
            runs: samples.len(),
            spread: samples.spread(),
            note,
        }
    }

    /// A figure with its peer.
    pub fn beside(name: &str, duel: &Duel, unit: &str, peer: &str, goal: &str, note: String) -> Figure {
        Figure {
            peer: Some(peer.to_owned()),
            peer_value: Some(duel.peer.median()),
            ratio: Some(duel.ratio()),
            ..Figure::alone(name, &duel.ours, unit, goal, note)
        }
    }
}

/// All figures of a run.
#[derive(Default)]
pub struct Report(Vec<Figure>);

impl Report {
    /// Adds a figure, and says so at once: a bench takes minutes.
    pub fn add(&mut self, figure: Figure) {
        println!("{}", row(&figure));
        self.0.push(figure);
    }

    /// Writes the JSON; figures of an earlier report that were not measured now are kept.
    pub fn write(&self, path: &Path) -> Result<()> {
        let mut all: Vec<serde_json::Value> = match std::fs::read(path) {
            Ok(bytes) => serde_json::from_slice(&bytes).unwrap_or_default(),
            Err(_) => Vec::new(),
        };
        all.retain(|old| !self.0.iter().any(|f| old["name"] == f.name.as_str()));
        for figure in &self.0 {
            all.push(serde_json::to_value(figure)?);
        }
        all.sort_by_key(|f| f["name"].as_str().unwrap_or_default().to_owned());
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
        }
        let text = serde_json::to_string_pretty(&all)? + "\n";
        std::fs::write(path, text).with_context(|| format!("write {}", path.display()))
    }

    /// The table, with the notes below it.
    pub fn print(&self) {
        println!(
            "\n{:<24} {:>12} {:<14} {:>12} {:>8} {:>8}  goal",
            "figure", "value", "unit", "peer", "ratio", "spread"
        );
        self.0.iter().for_each(|f| println!("{}", row(f)));
        println!();
        for f in &self.0 {
            let peer = f.peer.as_ref().map_or(String::new(), |p| format!(" peer: {p};"));
            println!("{}:{peer} {} runs; {}", f.name, f.runs, f.note);
        }
    }
}

fn row(f: &Figure) -> String {
    let number = |v: Option<f64>| v.map_or("-".to_owned(), short);
    let ratio = f.ratio.map_or("-".to_owned(), |r| format!("{r:.2}"));
    format!(
        "{:<24} {:>12} {:<14} {:>12} {:>8} {:>7.0}%  {}",
        f.name,
        short(f.value),
        f.unit,
        number(f.peer_value),
        ratio,
        f.spread * 100.0,
        f.goal
    )
}

/// A number with three or four digits that count.
pub fn short(value: f64) -> String {
    match value.abs() {
        v if v >= 1e6 => format!("{:.2} M", value / 1e6),
        v if v >= 1e4 => format!("{:.1} k", value / 1e3),
        v if v >= 100.0 => format!("{value:.0}"),
        v if v >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.4}"),
    }
}
