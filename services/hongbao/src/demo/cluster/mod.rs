//! `hongbao demo-cluster`: the demonstration's campaign on roles apart and replicated servers, several of which die.
//!
//! It plays what `hongbao demo` plays, with the same players, vendors and laws; what is killed is different, and more:
//! see [`events`]. The servers are those that `deploy/local/services up --replicated` has started; `make demo-cluster`
//! does that first. Exit codes as of `hongbao demo`.

mod chain;
mod events;
mod fleet;
mod script;
mod servers;

use std::path::PathBuf;

use anyhow::Context as _;
use runtime::exit;
use tokio::signal::unix::{SignalKind, signal};

use super::folder::Folder;
use super::view::Screen;
use super::{INTERRUPTED, report};
use script::Script;

/// Plays a whole campaign on roles apart and replicated servers, kills some of each, and settles the books.
#[derive(clap::Args, Debug)]
pub struct DemoClusterArgs {
    /// The file in which `deploy/local/services up --replicated` has written where the servers are.
    #[arg(long, value_name = "FILE", default_value = "target/services-replicated/env")]
    pub servers: PathBuf,
    /// The script that started them: it promotes the standby of PostgreSQL.
    #[arg(long, value_name = "FILE", default_value = "deploy/local/services")]
    pub services: PathBuf,
    /// Write the settlement as JSON: laws and prizes.
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,
    /// Players.
    #[arg(long, value_name = "N", default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub players: u32,
    /// Folder for everything; must be empty or missing, and is kept. Otherwise a fresh one under target/demo is used.
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Keep the folder also when all is well.
    #[arg(long)]
    pub keep: bool,
    /// Seed of the players and of the vendors' faults.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// Progress and settlement as JSON, one object a line.
    #[arg(long)]
    pub json: bool,
    /// Nothing is killed, drained or flushed.
    #[arg(long)]
    pub calm: bool,
}

/// Runs the demonstration; the exit code.
///
/// # Errors
/// When a process can't be started, ends by itself or does not get ready, or the books can't be read.
pub async fn run(args: DemoClusterArgs) -> anyhow::Result<u8> {
    let mut terminate = signal(SignalKind::terminate()).context("watching for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("watching for SIGINT")?;
    let mut folder = Folder::open(args.data.as_deref())?;
    let mut screen = Screen::new(args.json);
    // Dropping the script's future kills every process that it started.
    let played = tokio::select! {
        played = Script::play(&args, folder.path(), &mut screen) => played,
        _ = interrupt.recv() => return Ok(INTERRUPTED),
        _ = terminate.recv() => return Ok(INTERRUPTED),
    };
    let settlement = match played {
        Ok(settlement) => settlement,
        Err(error) => {
            folder.keep();
            return Err(error
                .context(format!("the demonstration failed; its files are in {}", folder.path().display())));
        }
    };
    let value = report::report(&settlement);
    if let Some(path) = &args.report {
        let text = serde_json::to_string_pretty(&value)? + "\n";
        std::fs::write(path, text).with_context(|| format!("writing {}", path.display()))?;
    }
    screen.settled(&settlement, &value);
    let holds = settlement.all_hold();
    if args.keep || !holds {
        folder.keep();
        screen.say(&format!("Files, logs and books: {}", folder.path().display()));
    }
    Ok(if holds { exit::OK } else { exit::CHECK_FAILED })
}
