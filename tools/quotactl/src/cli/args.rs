//! What each command is told.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::words::{self, Pace, PrizeAt, Speed, Target};

/// How a change is made.
#[derive(Args, Clone)]
pub struct Making {
    /// Show what it would do, and change nothing.
    #[arg(long)]
    pub dry_run: bool,
    /// Don't ask; needed where standard input is no terminal.
    #[arg(long, short)]
    pub yes: bool,
    /// Key of an earlier try whose answer was lost: hear that answer, instead of making the change twice.
    #[arg(long, value_name = "KEY", value_parser = words::key, conflicts_with = "dry_run")]
    pub idempotency_key: Option<String>,
}

/// Why.
#[derive(Args, Clone)]
pub struct Why {
    /// Why; it stays in the history.
    #[arg(long, value_name = "TEXT", value_parser = words::reason)]
    pub reason: String,
}

/// `validate`.
#[derive(Args)]
pub struct Validate {
    /// The campaign file; `-` is standard input.
    pub file: PathBuf,
    /// Check against the law of a country too.
    #[arg(long)]
    pub jurisdiction: Option<Jurisdiction>,
}

/// Countries whose law is known.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq)]
pub enum Jurisdiction {
    /// The People's Republic of China.
    Cn,
}

/// `apply`.
#[derive(Args)]
pub struct Apply {
    /// The campaign file; `-` is standard input, and then `--yes` is needed.
    pub file: PathBuf,
    #[command(flatten)]
    pub why: Why,
    /// Only to this share of users at first: `10%`, `0.5%`.
    #[arg(long, value_name = "SHARE", value_parser = words::per_mille, conflicts_with = "grey_nodes")]
    pub grey_users: Option<u16>,
    /// Only on these nodes at first.
    #[arg(long, value_name = "NODE,...", value_delimiter = ',', num_args = 1)]
    pub grey_nodes: Vec<u16>,
    #[command(flatten)]
    pub making: Making,
}

/// `approve`, `reject`.
#[derive(Args)]
pub struct Decide {
    /// The proposal, as `proposals` lists it.
    #[arg(value_parser = words::proposal)]
    pub id: String,
    /// Why; it stays in the history.
    #[arg(long, value_name = "TEXT", value_parser = words::reason)]
    pub reason: Option<String>,
    #[command(flatten)]
    pub making: Making,
}

/// A part of a long list.
#[derive(Args, Clone)]
pub struct Page {
    /// How many at most.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub limit: Option<u16>,
    /// Go on behind this one, as the answer before named it.
    #[arg(long, value_name = "NEXT")]
    pub after: Option<String>,
}

/// `proposals`.
#[derive(Args)]
pub struct Proposals {
    /// Which.
    #[arg(long, default_value = "waiting")]
    pub state: ProposalState,
    #[command(flatten)]
    pub page: Page,
}

/// States of proposals.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq)]
pub enum ProposalState {
    /// Not decided.
    Waiting,
    /// In force.
    Approved,
    /// Turned down.
    Rejected,
    /// Overtaken by another change.
    Superseded,
    /// All of them.
    All,
}

/// `history`.
#[derive(Args)]
pub struct History {
    /// The campaign.
    #[arg(value_parser = words::id)]
    pub campaign: u32,
    #[command(flatten)]
    pub page: Page,
}

/// `show`.
#[derive(Args)]
pub struct Show {
    /// The campaign.
    #[arg(value_parser = words::id)]
    pub campaign: u32,
    /// One of its versions; left out: what runs.
    #[arg(value_parser = words::seq_no)]
    pub seq_no: Option<u64>,
    /// The campaign file as it was applied.
    #[arg(long)]
    pub source: bool,
}

/// `rollback`.
#[derive(Args)]
pub struct Rollback {
    /// The campaign.
    #[arg(value_parser = words::id)]
    pub campaign: u32,
    /// The version to go back to.
    #[arg(value_parser = words::seq_no)]
    pub seq_no: u64,
    #[command(flatten)]
    pub why: Why,
    #[command(flatten)]
    pub making: Making,
}

/// `pause`, `resume`, `stop`.
#[derive(Args)]
pub struct Switch {
    /// The campaign.
    #[arg(value_parser = words::id)]
    pub campaign: u32,
    /// `campaign`, `round:2`, `vendor:3` or `prize:2/11`.
    pub target: Target,
    #[command(flatten)]
    pub why: Why,
    #[command(flatten)]
    pub making: Making,
}

/// `lower`.
#[derive(Args)]
pub struct Lower {
    /// The campaign.
    #[arg(value_parser = words::id)]
    pub campaign: u32,
    /// The prize: ROUND/PRIZE.
    pub prize: PrizeAt,
    /// Units to take away.
    #[arg(value_parser = clap::value_parser!(u64).range(1..))]
    pub units: u64,
    #[command(flatten)]
    pub why: Why,
    #[command(flatten)]
    pub making: Making,
}

/// `set-rate`.
#[derive(Args)]
pub struct SetRate {
    /// The campaign.
    #[arg(value_parser = words::id)]
    pub campaign: u32,
    /// `prize:2/11` or `vendor:3`.
    #[arg(value_parser = words::paced)]
    pub target: Target,
    /// Units a second, from 1 on; `none`: no limit; `file`: what the campaign file says.
    #[arg(value_name = "PER_SECOND")]
    pub speed: Speed,
    #[command(flatten)]
    pub why: Why,
    #[command(flatten)]
    pub making: Making,
}

/// `set-weight`.
#[derive(Args)]
pub struct SetWeight {
    /// The campaign.
    #[arg(value_parser = words::id)]
    pub campaign: u32,
    /// The prize: ROUND/PRIZE.
    pub prize: PrizeAt,
    /// Its weight; 0: only by falling through from other prizes.
    pub weight: u32,
    #[command(flatten)]
    pub why: Why,
    #[command(flatten)]
    pub making: Making,
}

/// `promote`, `withdraw`.
#[derive(Args)]
pub struct Named {
    /// The campaign.
    #[arg(value_parser = words::id)]
    pub campaign: u32,
    #[command(flatten)]
    pub why: Why,
    #[command(flatten)]
    pub making: Making,
}

/// `vendor-limit`.
#[derive(Args)]
pub struct VendorLimit {
    /// The vendor.
    #[arg(value_parser = words::id)]
    pub vendor: u32,
    /// Sends a second, 0: nothing is sent; `configured`: as many as the platform is configured to.
    #[arg(value_name = "PER_SECOND")]
    pub pace: Pace,
    #[command(flatten)]
    pub why: Why,
    #[command(flatten)]
    pub making: Making,
}

/// `watch`.
#[derive(Args)]
pub struct Watch {
    /// Lines instead of the full screen, also on a terminal.
    #[arg(long)]
    pub lines: bool,
    /// End after so many looks, one a second.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,
}

/// `simulate`.
#[derive(Args)]
pub struct Simulate {
    /// The campaign file.
    pub file: PathBuf,
    /// How many players take part.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    pub players: u64,
    /// When they come: CSV `minute,players` (or `second`, `ms`; or `share`), counted from the first opening.
    #[arg(long, value_name = "FILE.csv")]
    pub arrivals: PathBuf,
    /// Where they are: CSV `district,players` (or `share`). Left out: nowhere that is known, so that prizes limited to regions
    /// are won by nobody.
    #[arg(long, value_name = "FILE.csv")]
    pub districts: Option<PathBuf>,
    /// Write the report there, as one HTML page.
    #[arg(long, value_name = "OUT")]
    pub html: Option<PathBuf>,
    /// The `hongbao` to run; left out: the one beside this program, or on the PATH.
    #[arg(long, value_name = "PATH", env = "HONGBAO_BIN")]
    pub hongbao: Option<PathBuf>,
    /// More arguments for `hongbao rehearse`, behind `--`.
    #[arg(last = true, value_name = "ARGUMENT")]
    pub more: Vec<std::ffi::OsString>,
}

/// `disclosure`.
#[derive(Args)]
pub struct Disclosure {
    /// The campaign.
    #[arg(value_parser = words::id)]
    pub campaign: u32,
    /// One language alone.
    #[arg(long)]
    pub lang: Option<Lang>,
}

/// Languages of the disclosure.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq)]
pub enum Lang {
    /// Chinese.
    Zh,
    /// English.
    En,
}

/// `tax`.
#[derive(Args)]
pub struct Export {
    /// The campaign.
    #[arg(value_parser = words::id)]
    pub campaign: u32,
    /// Write there instead of standard output; the file appears when it is whole.
    #[arg(long, short, value_name = "FILE")]
    pub out: Option<PathBuf>,
}

/// `winners`.
#[derive(Args)]
pub struct Winners {
    #[command(flatten)]
    pub export: Export,
    /// Only above this amount, in yuan.
    #[arg(long, value_name = "YUAN", value_parser = words::fen, default_value = "500")]
    pub min_yuan: i64,
}

/// `login`.
#[derive(Args)]
pub struct Login {
    /// Keep the token without asking the server whether it knows it.
    #[arg(long)]
    pub unchecked: bool,
}
