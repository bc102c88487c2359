//! `hongbao demo`: a whole campaign on this machine, with a crash in the middle, settled to the fen.
//!
//! It exists so that a newcomer sees with one command what the platform promises, and so that the promise is tested end
//! to end by what users run, not by a test's stand-ins: the same binary, a vendor simulator that misbehaves, a crowd of
//! players who write down what they were told, SIGKILL, and the settlement. It needs the programs `vendor-sim` and
//! `loadgen` beside itself, free loopback ports, and nothing else; it asks the system for ports and leaves nothing
//! running, however it ends.
//!
//! It refuses a folder that is not empty: it would mix its books with others. Exit codes: 0 every law was checked and
//! holds; 3 one is broken or could not be checked; 1 the demonstration itself failed; 130 it was interrupted. The folder
//! is removed when all is well, and kept otherwise.

mod around;
mod children;
pub mod cluster;
mod folder;
mod last_wish;
mod report;
mod script;
mod setup;
mod told;
mod view;
mod watch;

use std::path::PathBuf;

use anyhow::Context as _;
use runtime::exit;
use tokio::signal::unix::{SignalKind, signal};

use folder::Folder;
use script::Script;
use view::Screen;

/// The example campaign, carried along so that the binary can show it anywhere.
const CAMPAIGN: &str = include_str!("../../../../quota-config/campaigns/new-years-eve.yaml");

/// Exit code after SIGINT or SIGTERM, as shells have it.
const INTERRUPTED: u8 = 130;

/// Plays a whole campaign on this machine, kills the platform in the middle, and settles the books.
#[derive(clap::Args, Debug)]
pub struct DemoArgs {
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
    /// Another campaign than the example. Its rounds should be over within a minute or so.
    #[arg(long, value_name = "FILE")]
    pub campaign: Option<PathBuf>,
}

/// Runs the demonstration; the exit code.
///
/// # Errors
/// When a process can't be started, ends by itself or does not get ready, or the books can't be read.
pub async fn run(args: DemoArgs) -> anyhow::Result<u8> {
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
