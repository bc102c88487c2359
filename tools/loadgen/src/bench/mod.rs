//! Submits as fast as they are answered, or at a rate: what the figures of the front door are measured with.
//!
//! One thread for each `threads`, each with connections of its own that it never shares. Answers are read many at a
//! time, the clock is read once a read, submits are written many at a time, and nothing is allocated for one. Players
//! come from a population that is walked through in turn, so that each one's next submit comes only after his
//! interval; with one player a connection he asks again as soon as he is answered.
//!
//! At a rate the run is open loop: submit number n is meant for start + n / rate, and its latency counts from there,
//! whenever it could be sent. At full speed a latency counts from the writing.

mod population;
mod thread;

use std::net::SocketAddr;
use std::time::Duration;

use client::{Credential, Event, ServerTime, Session};
use prost::Message;
use protocol::frame::{FRAME_MAX, FrameKind, next, put};
use protocol::v1;
use runtime::{SharedClock, Shutdown};
use serde::Serialize;

use crate::LoadError;
use crate::http1::{next_response, put_request};
use crate::meter::{LatencySummary, cores};
use crate::net::{Poller, SCRATCH_BYTES, Wire};
use crate::token::TokenKey;
use population::Population;
use thread::{Conn, Tally, Worker};

/// What is spoken, and by whom.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Frames on connections that many players share, as a gateway's.
    FramesShared,
    /// Frames, one player a connection, one submit unanswered.
    FramesOwn,
    /// HTTP with JSON on kept-alive connections, one request unanswered on each.
    Http,
}

/// How much.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Load {
    /// As much as is answered.
    Max,
    /// So many submits a second, by the clock.
    Rate(f64),
}

/// A run.
#[derive(Clone)]
pub struct BenchConfig {
    /// Where.
    pub address: SocketAddr,
    /// What is spoken.
    pub kind: Kind,
    /// Connections.
    pub connections: usize,
    /// Unanswered submits of each connection; only [`Kind::FramesShared`] has more than one.
    pub outstanding: usize,
    /// Threads.
    pub threads: usize,
    /// How much.
    pub load: Load,
    /// Time before anything counts, in ms.
    pub warm_ms: u64,
    /// Time that counts, in ms.
    pub run_ms: u64,
    /// The campaign; `None`: the first that has a round open.
    pub campaign: Option<u32>,
    /// User id of the first player.
    pub first_user: u64,
    /// Players of a shared run.
    pub users: u64,
    /// Shakes a submit.
    pub shakes: u32,
    /// Credential of the gateway; without it one is made with `key`.
    pub gateway_token: Option<String>,
    /// Signs tokens; needed for one player a connection.
    pub key: Option<TokenKey>,
}

/// What came of it.
#[derive(Clone, Debug, Default, Serialize)]
pub struct BenchReport {
    /// Submits answered LOST or WON in the time that counts.
    pub draws: u64,
    /// Those a second.
    pub draws_per_second: f64,
    /// Wins among them.
    pub won: u64,
    /// Shakes that they carried.
    pub shakes: u64,
    /// Other answers, by their number in `Outcome`.
    pub others: [u64; 12],
    /// Errors in place of an answer.
    pub errors: u64,
    /// Submits that were not answered when the run was over.
    pub unanswered: u64,
    /// Length of what counts, in s.
    pub seconds: f64,
    /// Latency of losing submits.
    pub lost_latency: LatencySummary,
    /// Latency of winning submits.
    pub won_latency: LatencySummary,
    /// Players that a shared run walked through, or connections with a player each.
    pub users: u64,
    /// How often the population was too small for the players' interval, so that a connection had to wait.
    pub waits_for_players: u64,
    /// CPU time of the generator within what counts, in s.
    pub cpu_s: f64,
    /// Its share of all cores.
    pub cpu_share: f64,
}

/// The round that is asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Target {
    pub campaign: u32,
    pub round: u32,
    pub open_ms: u64,
    pub interval_ms: u64,
    pub time: ServerTime,
}

const WITHIN: Duration = Duration::from_secs(10);

/// Largest number of connections of one run: what a process can have open, with room for others.
pub const CONNECTIONS_MAX: usize = 19_500;

impl BenchConfig {
    fn check(&self) -> Result<(), LoadError> {
        let no = |text: String| Err(LoadError::Config(text));
        if self.connections == 0 || self.connections > CONNECTIONS_MAX {
            return no(format!("{} connections: 1 to {CONNECTIONS_MAX} are possible", self.connections));
        }
        if self.threads == 0 || self.threads > self.connections {
            return no(format!("{} threads: 1 to as many as connections are possible", self.threads));
        }
        if self.outstanding == 0 || self.outstanding > usize::from(u16::MAX) {
            return no(format!(
                "{} unanswered submits a connection: 1 to 65535 are possible",
                self.outstanding
            ));
        }
        if self.outstanding > 1 && self.kind != Kind::FramesShared {
            return no("only shared connections have more than one unanswered submit".to_owned());
        }
        if matches!(self.load, Load::Rate(rate) if !(rate > 0.0 && rate < 1e8)) {
            return no("the rate must be above 0".to_owned());
        }
        if self.first_user == 0 || (self.kind != Kind::FramesOwn && self.users < self.threads as u64) {
            return no(
                "user ids begin at 1, and a shared run needs at least a user for each thread".to_owned()
            );
        }
        if self.key.is_none() && (self.kind == Kind::FramesOwn || self.gateway_token.is_none()) {
            return no(
                "a key is needed to make the players' tokens, or a gateway token for shared runs".to_owned()
            );
        }
        Ok(())
    }

    fn gateway(&self, now_ms: u64) -> String {
        let made = || self.key.as_ref().map(|key| key.gateway("loadgen", now_ms));
        self.gateway_token.clone().or_else(made).unwrap_or_default()
    }
}

/// Runs. Blocks until it is over; ends early on shutdown, with what was counted so far.
///
/// # Errors
/// When the configuration makes no sense, a connection can't be made or breaks, or no round is open.
pub fn run(config: &BenchConfig, clock: &SharedClock, shutdown: &Shutdown) -> Result<BenchReport, LoadError> {
    config.check()?;
    let (mut conns, target) = connect(config, clock)?;
    wait_for_counters(&target, clock, shutdown)?;
    let threads = config.threads;
    let start_ns = clock.mono_ns() + 5_000_000;
    let mut workers = Vec::with_capacity(threads);
    for number in 0..threads {
        let share = conns.len() / (threads - number);
        let own: Vec<_> = conns.drain(..share).collect();
        let per_thread = config.users / threads as u64;
        let population = (config.kind != Kind::FramesOwn).then(|| {
            Population::new(config.first_user + number as u64 * per_thread, per_thread.max(1), target)
        });
        workers.push(Worker::new(config, own, population, target, start_ns, clock, shutdown)?);
    }
    let tallies: Vec<Result<Tally, LoadError>> = std::thread::scope(|scope| {
        let running: Vec<_> = workers.into_iter().map(|worker| scope.spawn(move || worker.run())).collect();
        let panicked = || Err(LoadError::Server("a thread of the generator panicked".to_owned()));
        running.into_iter().map(|thread| thread.join().unwrap_or_else(|_| panicked())).collect()
    });
    let mut all = Tally::default();
    for tally in tallies {
        all.add(tally?);
    }
    Ok(report(config, all))
}

fn report(config: &BenchConfig, mut tally: Tally) -> BenchReport {
    let seconds = tally.counted_ns as f64 / 1e9;
    let cpu_s = tally.cpu_ns as f64 / 1e9;
    let per = |value: f64| if seconds > 0.0 { value / seconds } else { 0.0 };
    BenchReport {
        draws: tally.lost + tally.won,
        draws_per_second: per((tally.lost + tally.won) as f64),
        won: tally.won,
        shakes: (tally.lost + tally.won) * u64::from(config.shakes),
        others: tally.others,
        errors: tally.errors,
        unanswered: tally.unanswered,
        seconds,
        lost_latency: tally.lost_latency.summary(),
        won_latency: tally.won_latency.summary(),
        users: tally.users,
        waits_for_players: tally.waits,
        cpu_s,
        cpu_share: per(cpu_s) / cores(),
    }
}

/// Counters follow the clock: number n belongs to the n-th interval since the opening, so that runs one after the other
/// never use one twice. In the first two intervals there is none yet.
fn wait_for_counters(target: &Target, clock: &SharedClock, shutdown: &Shutdown) -> Result<(), LoadError> {
    let from_ms = target.open_ms + 2 * target.interval_ms;
    let wait_ms = from_ms.saturating_sub(target.time.at(clock.now_ms()));
    if wait_ms > 60_000 {
        return Err(LoadError::Server(format!(
            "round {} can be measured in {wait_ms} ms only",
            target.round
        )));
    }
    shutdown.sleep_blocking(Duration::from_millis(wait_ms));
    Ok(())
}

fn connect(config: &BenchConfig, clock: &SharedClock) -> Result<(Vec<Conn>, Target), LoadError> {
    let address = config.address.to_string();
    let mut conns = Vec::with_capacity(config.connections);
    for i in 0..config.connections {
        let tried = format!("connection {} of {}", i + 1, config.connections);
        let wire = Wire::connect(config.address, WITHIN).map_err(|error| LoadError::Connect {
            address: address.clone(),
            tried,
            error,
        })?;
        conns.push(Conn::new(wire, config.outstanding));
    }
    let now_ms = clock.now_ms();
    let campaigns = if config.kind == Kind::Http {
        ask_http(config, &mut conns[0], clock)?
    } else {
        for (i, conn) in conns.iter_mut().enumerate() {
            let credential = match (&config.key, config.kind) {
                (Some(key), Kind::FramesOwn) => {
                    Credential::User(key.user(config.first_user + i as u64, now_ms))
                }
                _ => Credential::Gateway(config.gateway(now_ms)),
            };
            let out = &mut conn.wire.out;
            conn.session = Some(Session::begin(&credential, crate::CLIENT, clock.mono_ns() / 1_000_000, out));
        }
        log_in(config, &mut conns, clock)?
    };
    let mut time = ServerTime::default();
    let (campaigns, asked_ms, server_ms) = campaigns;
    time.sample(asked_ms, clock.now_ms(), server_ms);
    let now_ms = time.at(clock.now_ms());
    let named = |view: &&v1::CampaignView| config.campaign.is_none_or(|id| id == view.campaign);
    let round = campaigns.iter().filter(named).find_map(|view| {
        let open =
            view.rounds.iter().find(|round| round.open_ms <= now_ms + 60_000 && now_ms < round.close_ms)?;
        Some((view, open))
    });
    let Some((view, round)) = round else {
        let which = config.campaign.map_or(String::new(), |id| format!(" of campaign {id}"));
        return Err(LoadError::Server(format!(
            "{address} has no round{which} that is open or opens within a minute"
        )));
    };
    let interval_ms = u64::from(view.interval_ms.max(view.submit_min_ms)).max(1);
    let target =
        Target { campaign: view.campaign, round: round.round, open_ms: round.open_ms, interval_ms, time };
    Ok((conns, target))
}

/// Campaigns, when they were asked for, and the server's time.
type Asked = (Vec<v1::CampaignView>, u64, u64);

fn log_in(config: &BenchConfig, conns: &mut [Conn], clock: &SharedClock) -> Result<Asked, LoadError> {
    let address = || config.address.to_string();
    let broken = |error| LoadError::Io { what: format!("logging in at {}", config.address), error };
    let poller = Poller::new().map_err(broken)?;
    let mut scratch = vec![0; SCRATCH_BYTES];
    for (key, conn) in conns.iter_mut().enumerate() {
        conn.wire.watch(&poller, key as u64).map_err(broken)?;
        conn.wire.flush(&poller, key as u64).map_err(broken)?;
    }
    let (mut left, mut ready, mut found) = (conns.len(), Vec::new(), None);
    let mut asked_ms = clock.now_ms();
    let end_ns = clock.mono_ns() + 3 * WITHIN.as_nanos() as u64;
    while found.is_none() || left > 0 {
        if clock.mono_ns() > end_ns {
            return Err(LoadError::Server(format!(
                "{left} of {} logins were not answered in time",
                conns.len()
            )));
        }
        poller.wait(100_000_000, &mut ready).map_err(broken)?;
        for ready in &ready {
            let key = ready.key as usize;
            let conn = &mut conns[key];
            conn.wire.flush(&poller, ready.key).map_err(broken)?;
            let Some(filled) = conn.wire.read(&mut scratch).map_err(broken)? else { continue };
            let mut used = 0;
            let fault = |error| LoadError::Session { connection: key, address: address(), error };
            while let Some((frame, size)) =
                next(&scratch[used..filled], FRAME_MAX).map_err(|e| fault(e.into()))?
            {
                used += size;
                let Some(session) = &mut conn.session else { continue };
                match session.take(&frame, clock.mono_ns() / 1_000_000).map_err(fault)? {
                    Event::Open(_) => {
                        left -= 1;
                        if left == 0 {
                            // One asks, now that nothing else is under way: its answer has the clock.
                            asked_ms = clock.now_ms();
                            put(&mut conn.wire.out, FrameKind::Campaigns, 0, |_| ());
                            conn.wire.flush(&poller, ready.key).map_err(broken)?;
                        }
                    }
                    Event::Answer if frame.kind == FrameKind::CampaignsAnswer => {
                        let answer = v1::CampaignsAnswer::decode(frame.body);
                        found = Some(answer.map_err(|error| LoadError::Server(error.to_string()))?);
                    }
                    _ => {}
                }
            }
            conn.wire.keep(&scratch[used..filled]);
        }
    }
    let answer = found.unwrap_or_default();
    Ok((answer.campaigns, asked_ms, answer.server_time_ms))
}

fn ask_http(config: &BenchConfig, conn: &mut Conn, clock: &SharedClock) -> Result<Asked, LoadError> {
    let broken =
        |error| LoadError::Io { what: format!("asking {} for the campaigns", config.address), error };
    let poller = Poller::new().map_err(broken)?;
    conn.wire.watch(&poller, 0).map_err(broken)?;
    let asked_ms = clock.now_ms();
    put_request(&mut conn.wire.out, "/v1/campaigns", &config.gateway(asked_ms), "application/json", b"");
    conn.wire.flush(&poller, 0).map_err(broken)?;
    let (mut scratch, mut ready) = (vec![0; SCRATCH_BYTES], Vec::new());
    let end_ns = clock.mono_ns() + WITHIN.as_nanos() as u64;
    while clock.mono_ns() < end_ns {
        poller.wait(100_000_000, &mut ready).map_err(broken)?;
        let Some(filled) = conn.wire.read(&mut scratch).map_err(broken)? else { continue };
        match next_response(&scratch[..filled]).map_err(LoadError::Server)? {
            Some(answer) if answer.status == 200 => {
                conn.wire.keep(&[]);
                let answer: v1::CampaignsAnswer = protocol::json::read(answer.body)
                    .map_err(|error| LoadError::Server(format!("the campaigns are not readable: {error}")))?;
                return Ok((answer.campaigns, asked_ms, answer.server_time_ms));
            }
            Some(answer) => {
                let body = String::from_utf8_lossy(answer.body).into_owned();
                return Err(LoadError::Server(format!(
                    "GET /v1/campaigns was answered {}: {body}",
                    answer.status
                )));
            }
            None => conn.wire.keep(&scratch[..filled]),
        }
    }
    Err(LoadError::Server(format!("{} did not answer GET /v1/campaigns within {WITHIN:?}", config.address)))
}
