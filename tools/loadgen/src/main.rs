//! `loadgen`: players and benches from the command line.

mod chat_cmd;

use std::io::Write;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};
use client::ReconnectPolicy;
use loadgen::bench::{self, BenchConfig, Kind, Load};
use loadgen::echo::{FrameEcho, HttpEcho};
use loadgen::players::{self, PlayersConfig, Progress};
use loadgen::token::TokenKey;
use runtime::{Shutdown, SystemClock, Tasks, exit};

#[derive(Parser)]
#[command(name = "loadgen", version, about = "Players and people who chat, on bad networks, and benches")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Plays a campaign with a crowd and writes down what each player was told.
    Players(Box<PlayersArgs>),
    /// Asks as fast as answers come, or at a rate.
    Bench(BenchArgs),
    /// Chats on bad networks and judges at the end: every acknowledged message once, in order, at every device.
    Crowd(Box<chat_cmd::CrowdArgs>),
    /// Chats at a rate, for figures.
    Flood(chat_cmd::FloodArgs),
    /// Keeps idle connections with chat.
    Idle(chat_cmd::IdleArgs),
}

#[derive(Args)]
struct Keys {
    /// File with a line 'KEY_ID SECRET' (hexadecimal): signs the tokens of players and gateway.
    #[arg(long)]
    user_key: Option<PathBuf>,
    /// Audience that tokens name, if the platform asks for one.
    #[arg(long)]
    audience: Option<String>,
    /// Credential of the gateway.
    #[arg(long)]
    gateway_token: Option<String>,
}

impl Keys {
    fn key(&self) -> anyhow::Result<Option<TokenKey>> {
        let key = self.user_key.as_deref().map(TokenKey::from_file).transpose()?;
        Ok(key.map(|key| key.for_audience(self.audience.clone())))
    }
}

#[derive(Args)]
struct PlayersArgs {
    /// HOST:PORT of frames; several with commas: connections share them, and go to the next when one is away.
    #[arg(long, value_delimiter = ',')]
    frames: Vec<String>,
    /// HOST:PORT of HTTP; several as with frames.
    #[arg(long, value_delimiter = ',')]
    http: Vec<String>,
    #[command(flatten)]
    keys: Keys,
    /// Players.
    #[arg(long, default_value_t = 20_000)]
    players: u32,
    /// User id of the first.
    #[arg(long, default_value_t = 1)]
    first_user: u64,
    /// Connections that players share.
    #[arg(long, default_value_t = 8)]
    gateways: u32,
    /// Share with a connection of their own, such as 2%.
    #[arg(long, default_value = "0%", value_parser = share)]
    own_share: u32,
    /// Share over HTTP, such as 5%.
    #[arg(long, default_value = "0%", value_parser = share)]
    http_share: u32,
    /// HTTP connections that those players share.
    #[arg(long, default_value_t = 16)]
    http_connections: u32,
    /// Campaign; left out: the first with rounds.
    #[arg(long)]
    campaign: Option<u32>,
    /// Seed of all chance.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Mean shakes a second of a player.
    #[arg(long, default_value_t = 3.0)]
    shakes_per_second: f64,
    /// Share of claimable prizes that are claimed.
    #[arg(long, default_value = "90%", value_parser = share)]
    claim: u32,
    /// Mean time from win to claim, in ms.
    #[arg(long, default_value_t = 2_000)]
    claim_delay_ms: u64,
    /// Share of wins after which the player looks at his prizes.
    #[arg(long, default_value = "10%", value_parser = share)]
    look: u32,
    /// Mean time from win to look, in ms.
    #[arg(long, default_value_t = 2_000)]
    look_delay_ms: u64,
    /// Vendors at which players register accounts when told that a prize needs one: 1,11,12.
    #[arg(long, value_delimiter = ',')]
    vendors: Vec<u32>,
    /// Share of players who register before they play.
    #[arg(long, default_value = "0%", value_parser = share)]
    registered: u32,
    /// Scale of the pauses before connecting again, such as 10%, for demonstrations that can't wait.
    #[arg(long, default_value = "100%", value_parser = share)]
    reconnect_scale: u32,
    /// Time an answer may take before the draw is asked again, in ms.
    #[arg(long, default_value_t = 3_000)]
    answer_ms: u32,
    /// How long to wait for the platform and a campaign, in ms.
    #[arg(long, default_value_t = 60_000)]
    wait_ms: u64,
    /// How long open draws and claims are waited for behind the last round, in ms.
    #[arg(long, default_value_t = 15_000)]
    grace_ms: u64,
    /// Ends after so many ms, whatever the campaign says.
    #[arg(long)]
    duration_ms: Option<u64>,
    /// CSV of what players were told.
    #[arg(long)]
    told: Option<PathBuf>,
    /// CSV of what happened in each round.
    #[arg(long)]
    rounds: Option<PathBuf>,
    /// JSON of the whole run.
    #[arg(long)]
    report: Option<PathBuf>,
    /// Progress as JSON lines.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum BenchKind {
    FramesShared,
    #[value(name = "frames-10k")]
    Frames10k,
    Http,
}

#[derive(Args)]
struct BenchArgs {
    /// What is spoken, and by whom.
    kind: BenchKind,
    /// HOST:PORT.
    #[arg(long, required_unless_present = "echo", conflicts_with = "echo")]
    address: Option<String>,
    /// Against a bare echo server with so many threads in this process.
    #[arg(long)]
    echo: Option<usize>,
    #[command(flatten)]
    keys: Keys,
    /// Connections; left out: 64, or 10,000 for frames-10k.
    #[arg(long)]
    connections: Option<usize>,
    /// Unanswered submits a connection (frames-shared).
    #[arg(long, default_value_t = 64)]
    outstanding: usize,
    /// Threads of the generator.
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// Submits a second; left out: as many as are answered.
    #[arg(long)]
    rate: Option<f64>,
    /// Time before anything counts, in ms.
    #[arg(long, default_value_t = 2_000)]
    warm_ms: u64,
    /// Time that counts, in ms.
    #[arg(long, default_value_t = 10_000)]
    run_ms: u64,
    /// Campaign; left out: the first with an open round.
    #[arg(long)]
    campaign: Option<u32>,
    /// User id of the first player.
    #[arg(long, default_value_t = 1)]
    first_user: u64,
    /// Players of a shared run.
    #[arg(long, default_value_t = 10_000_000)]
    users: u64,
    /// Shakes a submit.
    #[arg(long, default_value_t = 3)]
    shakes: u32,
}

fn share(text: &str) -> Result<u32, String> {
    let number = text.strip_suffix('%').and_then(|number| number.parse::<f64>().ok());
    let number = number.filter(|number| (0.0..=100.0).contains(number));
    number
        .map(|number| (number * 10.0).round() as u32)
        .ok_or_else(|| format!("{text:?} is no share; an example: 2.5%"))
}

fn address(text: &str) -> anyhow::Result<SocketAddr> {
    let mut found =
        text.to_socket_addrs().map_err(|error| anyhow::anyhow!("{text:?} is no HOST:PORT: {error}"))?;
    found.next().ok_or_else(|| anyhow::anyhow!("{text:?} has no address"))
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let done = with_signals(|shutdown| match cli.command {
        Command::Players(args) => play(&args, shutdown),
        Command::Bench(args) => measure(&args, shutdown),
        Command::Crowd(args) => chat_cmd::crowd(&args, shutdown),
        Command::Flood(args) => chat_cmd::flood(&args, shutdown),
        Command::Idle(args) => chat_cmd::idle(&args, shutdown),
    });
    match done {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            say_error(&format!("loadgen: {error:#}"));
            ExitCode::from(exit::FAILURE)
        }
    }
}

/// SIGTERM and SIGINT end a run early, with its files and its report.
fn with_signals(run: impl FnOnce(&Shutdown) -> anyhow::Result<u8>) -> anyhow::Result<u8> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let tasks = runtime.block_on(async { Tasks::new(Shutdown::new()) });
    tasks.stop_on_signals()?;
    let done = run(tasks.shutdown());
    tasks.shutdown().request();
    runtime.shutdown_timeout(std::time::Duration::from_secs(1));
    done
}

fn play(args: &PlayersArgs, shutdown: &Shutdown) -> anyhow::Result<u8> {
    let defaults = PlayersConfig::default();
    let config = PlayersConfig {
        frames: args.frames.iter().map(|text| address(text)).collect::<anyhow::Result<_>>()?,
        http: args.http.iter().map(|text| address(text)).collect::<anyhow::Result<_>>()?,
        players: args.players,
        first_user: args.first_user,
        gateways: args.gateways,
        own_permille: args.own_share,
        http_permille: args.http_share,
        http_connections: args.http_connections,
        gateway_token: args.keys.gateway_token.clone(),
        key: args.keys.key()?,
        campaign: args.campaign,
        seed: args.seed,
        shakes_per_second: args.shakes_per_second,
        claim_permille: args.claim,
        claim_delay_ms: args.claim_delay_ms,
        look_permille: args.look,
        look_delay_ms: args.look_delay_ms,
        vendors: args.vendors.clone(),
        registered_permille: args.registered,
        reconnect: ReconnectPolicy::default().scaled(args.reconnect_scale.into()),
        rules: client::PlayerRules { answer_ms: args.answer_ms, ..defaults.rules },
        wait_ms: args.wait_ms,
        grace_ms: args.grace_ms,
        duration_ms: args.duration_ms,
        told: args.told.clone(),
        rounds: args.rounds.clone(),
    };
    let json = args.json;
    let report = players::run(config, SystemClock::shared(), shutdown, &mut |progress| {
        say(&if json { serde_json::to_string(progress).unwrap_or_default() } else { line(progress) });
    })?;
    let text = serde_json::to_string_pretty(&report)?;
    match &args.report {
        Some(path) => {
            std::fs::write(path, text)
                .map_err(|error| anyhow::anyhow!("writing {}: {error}", path.display()))?;
        }
        None => say(&text),
    }
    Ok(if report.contradictions > 0 { exit::CHECK_FAILED } else { exit::OK })
}

fn line(p: &Progress) -> String {
    let c = &p.counts;
    let round = if p.round == 0 { "no round".to_owned() } else { format!("round {}", p.round) };
    format!(
        "{:>4} s  {round:<9} {:>7} draws/s  {:>8} won  {:>6} under way  {:>5} of {} connections  {} resends  {} drops",
        p.second, p.draws_per_second, c.won, p.under_way, p.open, p.connections, c.resends, c.drops
    )
}

fn measure(args: &BenchArgs, shutdown: &Shutdown) -> anyhow::Result<u8> {
    let clock = SystemClock::shared();
    let kind = match args.kind {
        BenchKind::FramesShared => Kind::FramesShared,
        BenchKind::Frames10k => Kind::FramesOwn,
        BenchKind::Http => Kind::Http,
    };
    let (mut frames, mut http) = (None, None);
    let address = match (args.echo, args.address.as_deref()) {
        (Some(threads), _) if kind == Kind::Http => {
            http.insert(HttpEcho::start(threads, clock.clone())?).address()
        }
        (Some(threads), _) => frames.insert(FrameEcho::start(threads, clock.clone())?).address(),
        (None, text) => address(text.unwrap_or_default())?,
    };
    let mut key = args.keys.key()?;
    if args.echo.is_some() && key.is_none() {
        // The echo takes any token of the usual length.
        key = Some(TokenKey::new("echo", &[0; 32])?);
    }
    let usual = if kind == Kind::FramesOwn { 10_000 } else { 64 };
    let config = BenchConfig {
        address,
        kind,
        connections: args.connections.unwrap_or(usual),
        outstanding: if kind == Kind::FramesShared { args.outstanding } else { 1 },
        threads: args.threads,
        load: args.rate.map_or(Load::Max, Load::Rate),
        warm_ms: args.warm_ms,
        run_ms: args.run_ms,
        campaign: args.campaign,
        first_user: args.first_user,
        users: args.users,
        shakes: args.shakes,
        gateway_token: args.keys.gateway_token.clone(),
        key,
    };
    let report = bench::run(&config, &clock, shutdown)?;
    say(&serde_json::to_string_pretty(&report)?);
    drop((frames, http));
    Ok(exit::OK)
}

/// Whoever closed our output doesn't end the run.
fn say(text: &str) {
    let _ = writeln!(std::io::stdout(), "{text}");
}

fn say_error(text: &str) {
    eprintln!("{text}");
}
