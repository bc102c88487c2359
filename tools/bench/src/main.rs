//! Measures what the design promises, each figure beside its peer: the bare thing that the machine could do, or
//! the usual design for the same job. Peer and figure take turns in one run, because a shared machine is twice as
//! slow in one minute as in the next; the ratio holds where the absolute numbers do not.
//!
//! `make bench` runs everything and writes `target/bench/report.json`; `make bench FAMILY="core."` runs the figures
//! whose names begin so; `--quick` runs everything small, to see that it works, and its numbers mean nothing.
#![allow(clippy::print_stdout)] // a table for people is what it is for

mod chat;
mod cluster;
mod core;
mod front;
mod log;
mod measure;
mod report;

use anyhow::{Context, Result, bail};
use clap::Parser;
use report::Report;
use std::path::PathBuf;

/// What the platform runs with; the bare peers too.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What to run.
#[derive(Parser)]
#[command(about = "Measures every figure beside its peer and writes target/bench/report.json")]
struct Args {
    /// Figures or beginnings of their names; all without any.
    names: Vec<String>,
    /// Small sizes and few runs: shows that the benches work, says nothing about speed.
    #[arg(long)]
    quick: bool,
    /// Measured runs of each figure, after a warm-up.
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..=1000))]
    runs: u32,
    /// Where the report goes.
    #[arg(long, default_value = "target/bench/report.json")]
    report: PathBuf,
    /// Folder for logs and databases while they are measured; its disk is what the log figures measure.
    #[arg(long, default_value = "target/bench")]
    scratch: PathBuf,
    /// Length of the long runs of the front door, in s; less is a trial.
    #[arg(long, env = "BENCH_SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=3600))]
    seconds: u64,
    /// Names of all figures, and nothing else.
    #[arg(long)]
    list: bool,
    /// Be the bare server that the front door is compared with: how this program starts its peers.
    #[arg(long, hide = true)]
    serve_echo: Option<front::peer::Speaks>,
}

/// How a bench is to run.
pub struct Plan {
    /// Small sizes.
    pub quick: bool,
    /// Measured runs.
    pub runs: usize,
    /// Length of the long runs of the front door, in s.
    pub seconds: u64,
    /// Folder for files, on the disk that is measured.
    pub scratch: PathBuf,
    wanted: Vec<String>,
}

impl Plan {
    /// Is any of these figures asked for?
    pub fn wants(&self, name: &str) -> bool {
        self.wanted.is_empty() || self.wanted.iter().any(|w| name.starts_with(w.as_str()))
    }

    /// A count, or a hundredth of it in a quick run.
    pub fn sized(&self, count: u64) -> u64 {
        if self.quick { (count / 100).max(1) } else { count }
    }
}

/// A family: the figures it can measure, and how.
type Family = (&'static [&'static str], fn(&Plan, &mut Report) -> Result<()>);

const FAMILIES: &[Family] = &[
    // First: what other benches leave in the allocator would be counted as used before.
    (core::memory::FIGURES, core::memory::run),
    (core::speed::FIGURES, core::speed::run),
    (core::grow::FIGURES, core::grow::run),
    (core::swap::FIGURES, core::swap::run),
    (core::compile::FIGURES, core::compile::run),
    (log::append::FIGURES, log::append::run),
    (log::latency::FIGURES, log::latency::run),
    (front::http::FIGURES, front::http::run),
    (front::own::FIGURES, front::own::run),
    (front::grow::FIGURES, front::grow::run),
    (front::shared::FIGURES, front::shared::run),
    (front::reach::FIGURES, front::reach::run),
    (front::restart::FIGURES, front::restart::run),
    (chat::pairs::FIGURES, chat::pairs::run),
    (chat::groups::FIGURES, chat::groups::run),
    (chat::large::FIGURES, chat::large::run),
    (chat::idle::FIGURES, chat::idle::run),
    (chat::sync::FIGURES, chat::sync::run),
    (chat::restart::FIGURES, chat::restart::run),
    (cluster::chat::FIGURES, cluster::chat::run),
    (cluster::draws::FIGURES, cluster::draws::run),
    (cluster::wins::FIGURES, cluster::wins::run),
    (cluster::failover::FIGURES, cluster::failover::run),
];

fn main() -> Result<()> {
    let args = Args::parse();
    if let Some(speaks) = args.serve_echo {
        return front::peer::serve(speaks);
    }
    let all: Vec<&str> = FAMILIES.iter().flat_map(|(names, _)| names.iter().copied()).collect();
    if args.list {
        all.iter().for_each(|name| println!("{name}"));
        return Ok(());
    }
    if let Some(wrong) = args.names.iter().find(|w| !all.iter().any(|n| n.starts_with(w.as_str()))) {
        bail!("no figure begins with '{wrong}'; there are: {}", all.join(", "));
    }
    std::fs::create_dir_all(&args.scratch).with_context(|| format!("make {}", args.scratch.display()))?;
    let runs = if args.quick { 2 } else { args.runs as usize };
    let plan =
        Plan { quick: args.quick, runs, seconds: args.seconds, scratch: args.scratch, wanted: args.names };
    let mut report = Report::default();
    for (names, run) in FAMILIES {
        if names.iter().any(|n| plan.wants(n)) {
            run(&plan, &mut report).with_context(|| format!("measure {}", names.join(", ")))?;
        }
    }
    report.write(&args.report)?;
    report.print();
    println!("\nwritten to {}", args.report.display());
    Ok(())
}
