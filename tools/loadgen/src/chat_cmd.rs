//! The commands of people who chat: crowd, flood and idle.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use client::ReconnectPolicy;
use client::chat::ChatRules;
use loadgen::chat::Harm;
use loadgen::chat::crowd::{self, CrowdConfig};
use loadgen::chat::flood::{self, FloodConfig, Talk};
use loadgen::chat::idle::{self, IdleConfig};
use loadgen::token::TokenKey;
use runtime::{Shutdown, SystemClock, exit};

use crate::{Keys, address, say, share};

#[derive(Args)]
pub struct CrowdArgs {
    /// HOST:PORT of frames; several with commas: devices share them, and go to the next when one is away.
    #[arg(long, value_delimiter = ',', required = true)]
    frames: Vec<String>,
    #[command(flatten)]
    keys: Keys,
    /// Users.
    #[arg(long, default_value_t = 1_000)]
    users: u32,
    /// User id of the first.
    #[arg(long, default_value_t = 1)]
    first_user: u64,
    /// Devices a user; those behind the first go offline from time to time.
    #[arg(long, default_value_t = 2)]
    devices: u32,
    /// Groups of neighbours.
    #[arg(long, default_value_t = 20)]
    groups: u32,
    /// Members of each.
    #[arg(long, default_value_t = 50)]
    group_size: u32,
    /// Members of one large group; more than the platform's bound of write fan-out makes it one that is read.
    #[arg(long, default_value_t = 0)]
    large: u32,
    /// Share of messages to groups, such as 30%.
    #[arg(long, default_value = "30%", value_parser = share)]
    group_share: u32,
    /// Share of messages to the large group.
    #[arg(long, default_value = "0%", value_parser = share)]
    large_share: u32,
    /// Messages a second.
    #[arg(long, default_value_t = 500.0)]
    rate: f64,
    /// Bytes a message.
    #[arg(long, default_value_t = 128)]
    body: usize,
    /// How long messages are sent, in ms.
    #[arg(long, default_value_t = 30_000)]
    run_ms: u64,
    /// How long logins may take at the start, and what is open at the end, in ms.
    #[arg(long, default_value_t = 60_000)]
    grace_ms: u64,
    /// Seed of all chance.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Chance of a connection to be cut, each second.
    #[arg(long, default_value = "2%", value_parser = share)]
    cut: u32,
    /// Chance of a connection to stand still, each second,
    #[arg(long, default_value = "5%", value_parser = share)]
    stall: u32,
    /// for up to so long, in ms.
    #[arg(long, default_value_t = 3_000)]
    stall_ms: u64,
    /// Share of frames that never arrive.
    #[arg(long, default_value = "1%", value_parser = share)]
    lose: u32,
    /// Share of frames that arrive twice.
    #[arg(long, default_value = "2%", value_parser = share)]
    repeat: u32,
    /// Chance of a second device to go offline, each second,
    #[arg(long, default_value = "5%", value_parser = share)]
    offline: u32,
    /// for up to so long, in ms.
    #[arg(long, default_value_t = 10_000)]
    offline_ms: u64,
    /// Scale of the pauses before connecting again.
    #[arg(long, default_value = "10%", value_parser = share)]
    reconnect_scale: u32,
    /// JSON of the whole run.
    #[arg(long)]
    report: Option<PathBuf>,
}

#[derive(Clone, Copy, ValueEnum)]
enum FloodKind {
    /// Neighbours, one to one.
    Pairs,
    /// Groups of --group-size.
    Groups,
}

#[derive(Args)]
pub struct FloodArgs {
    /// With whom.
    kind: FloodKind,
    /// HOST:PORT of frames.
    #[arg(long)]
    address: String,
    #[command(flatten)]
    keys: Keys,
    /// Users, a connection each.
    #[arg(long, default_value_t = 10_000)]
    users: u32,
    /// User id of the first.
    #[arg(long, default_value_t = 1)]
    first_user: u64,
    /// Members of a group; as many as there are users makes one large one.
    #[arg(long, default_value_t = 500)]
    group_size: u32,
    /// Messages a second.
    #[arg(long, default_value_t = 1_000.0)]
    rate: f64,
    /// Bytes a message.
    #[arg(long, default_value_t = 128)]
    body: usize,
    /// Time before anything counts, in ms.
    #[arg(long, default_value_t = 2_000)]
    warm_ms: u64,
    /// Time that counts, in ms.
    #[arg(long, default_value_t = 10_000)]
    run_ms: u64,
    /// Time for logins and groups, in ms.
    #[arg(long, default_value_t = 60_000)]
    wait_ms: u64,
}

#[derive(Args)]
pub struct IdleArgs {
    /// HOST:PORT of frames; of HTTP with `--websocket`.
    #[arg(long)]
    address: String,
    /// Frames in WebSocket messages.
    #[arg(long)]
    websocket: bool,
    #[command(flatten)]
    keys: Keys,
    /// Connections, one a user.
    #[arg(long, default_value_t = 10_000)]
    connections: u32,
    /// User id of the first.
    #[arg(long, default_value_t = 1)]
    first_user: u64,
    /// How long they are kept, in ms.
    #[arg(long, default_value_t = 60_000)]
    run_ms: u64,
    /// Time for all logins, in ms.
    #[arg(long, default_value_t = 120_000)]
    wait_ms: u64,
}

fn key(keys: &Keys) -> anyhow::Result<TokenKey> {
    keys.key()?.ok_or_else(|| anyhow::anyhow!("--user-key is needed: it signs the users' tokens"))
}

pub fn crowd(args: &CrowdArgs, shutdown: &Shutdown) -> anyhow::Result<u8> {
    let config = CrowdConfig {
        frames: args.frames.iter().map(|text| address(text)).collect::<anyhow::Result<_>>()?,
        key: key(&args.keys)?,
        users: args.users,
        first_user: args.first_user,
        devices: args.devices,
        groups: args.groups,
        group_size: args.group_size,
        large: args.large,
        group_permille: args.group_share,
        large_permille: args.large_share,
        rate: args.rate,
        body: args.body,
        run_ms: args.run_ms,
        grace_ms: args.grace_ms,
        seed: args.seed,
        harm: Harm {
            cut: args.cut,
            stall: args.stall,
            stall_ms: args.stall_ms,
            lose: args.lose,
            repeat: args.repeat,
            offline: args.offline,
            offline_ms: args.offline_ms,
        },
        reconnect: ReconnectPolicy::default().scaled(args.reconnect_scale.into()),
        rules: ChatRules::default(),
    };
    let report = crowd::run(config, SystemClock::shared(), shutdown)?;
    let text = serde_json::to_string_pretty(&report)?;
    match &args.report {
        Some(path) => std::fs::write(path, text)
            .map_err(|error| anyhow::anyhow!("writing {}: {error}", path.display()))?,
        None => say(&text),
    }
    Ok(if report.is_good() { exit::OK } else { exit::CHECK_FAILED })
}

pub fn flood(args: &FloodArgs, shutdown: &Shutdown) -> anyhow::Result<u8> {
    let config = FloodConfig {
        address: address(&args.address)?,
        key: key(&args.keys)?,
        users: args.users,
        first_user: args.first_user,
        talk: match args.kind {
            FloodKind::Pairs => Talk::Pairs,
            FloodKind::Groups => Talk::Groups(args.group_size),
        },
        rate: args.rate,
        body: args.body,
        warm_ms: args.warm_ms,
        run_ms: args.run_ms,
        wait_ms: args.wait_ms,
    };
    let report = flood::run(&config, &SystemClock::shared(), shutdown)?;
    say(&serde_json::to_string_pretty(&report)?);
    let bad = report.holes > 0 || report.unanswered > 0 || report.refused > 0;
    Ok(if bad { exit::CHECK_FAILED } else { exit::OK })
}

pub fn idle(args: &IdleArgs, shutdown: &Shutdown) -> anyhow::Result<u8> {
    let config = IdleConfig {
        address: address(&args.address)?,
        websocket: args.websocket,
        key: key(&args.keys)?,
        connections: args.connections,
        first_user: args.first_user,
        run_ms: args.run_ms,
        wait_ms: args.wait_ms,
    };
    let report = idle::run(&config, &SystemClock::shared(), shutdown)?;
    say(&serde_json::to_string_pretty(&report)?);
    Ok(if report.lost > 0 { exit::CHECK_FAILED } else { exit::OK })
}
