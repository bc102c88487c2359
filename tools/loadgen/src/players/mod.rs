//! A crowd of players, each driven by the same core as an app's, over connections that a gateway shares among many,
//! connections of their own, and HTTP.
//!
//! One thread, one poll loop, virtually no memory beyond the players. Players shake at random from a seed, submit when
//! the answers let them, ask again what was not answered, and come back when the server was killed. What each was told
//! goes into a file as it is told. A latency counts from the instant at which the player wanted to submit to the final
//! answer of that draw, however often it had to be asked: waiting that the server caused is in it.
//!
//! The run ends when every round is over and nothing is open any more, at the latest `grace_ms` later; or after
//! `duration_ms`; or on shutdown.

mod answers;
mod errands;
mod links;
mod told;
mod wires;
mod world;

use std::net::SocketAddr;
use std::path::PathBuf;

use client::{PlayerRules, ReconnectPolicy};
use runtime::{SharedClock, Shutdown};
use serde::Serialize;

use crate::LoadError;
use crate::meter::LatencySummary;
use crate::token::TokenKey;

/// The crowd and what it does. Shares are in thousandths.
#[derive(Clone)]
pub struct PlayersConfig {
    /// Where frames are spoken. With several, connections share them, and go to the next when one is away.
    pub frames: Vec<SocketAddr>,
    /// Where HTTP is spoken.
    pub http: Vec<SocketAddr>,
    /// How many players.
    pub players: u32,
    /// User id of the first; the others follow.
    pub first_user: u64,
    /// Connections that players without one of their own share.
    pub gateways: u32,
    /// Share of players with a frame connection of their own.
    pub own_permille: u32,
    /// Share of players over HTTP; every other one of them speaks JSON, the rest Protobuf.
    pub http_permille: u32,
    /// Kept-alive connections that the HTTP players share.
    pub http_connections: u32,
    /// Credential of the gateway; without it one is made with `key`.
    pub gateway_token: Option<String>,
    /// Signs the players' tokens; needed for connections of their own and HTTP.
    pub key: Option<TokenKey>,
    /// The campaign; `None`: the first that has rounds.
    pub campaign: Option<u32>,
    /// Of all chance.
    pub seed: u64,
    /// Mean shakes a second of a player.
    pub shakes_per_second: f64,
    /// Share of claimable prizes that are claimed.
    pub claim_permille: u32,
    /// Mean time from win to claim, in ms.
    pub claim_delay_ms: u64,
    /// Share of wins after which the player looks at his prizes, and hears what needs an account.
    pub look_permille: u32,
    /// Mean time from win to look, in ms.
    pub look_delay_ms: u64,
    /// Vendors at which a player registers when he is told that a prize needs an account.
    pub vendors: Vec<u32>,
    /// Share of players who register before they play.
    pub registered_permille: u32,
    /// Pauses between connections.
    pub reconnect: ReconnectPolicy,
    /// Patience of the players.
    pub rules: PlayerRules,
    /// How long to wait for a connection and a campaign at the start, in ms.
    pub wait_ms: u64,
    /// How long after the last round open draws and claims are waited for, in ms.
    pub grace_ms: u64,
    /// Ends the run; `None`: the campaign does.
    pub duration_ms: Option<u64>,
    /// Where to write what players were told (award,user,campaign,round,prize,fen).
    pub told: Option<PathBuf>,
    /// Where to write what happened in each round.
    pub rounds: Option<PathBuf>,
}

impl Default for PlayersConfig {
    fn default() -> Self {
        Self {
            frames: Vec::new(),
            http: Vec::new(),
            players: 20_000,
            first_user: 1,
            gateways: 8,
            own_permille: 0,
            http_permille: 0,
            http_connections: 16,
            gateway_token: None,
            key: None,
            campaign: None,
            seed: 1,
            shakes_per_second: 3.0,
            claim_permille: 900,
            claim_delay_ms: 2_000,
            look_permille: 100,
            look_delay_ms: 2_000,
            vendors: Vec::new(),
            registered_permille: 0,
            reconnect: ReconnectPolicy::default(),
            rules: PlayerRules::default(),
            wait_ms: 60_000,
            grace_ms: 15_000,
            duration_ms: None,
            told: None,
            rounds: None,
        }
    }
}

impl PlayersConfig {
    fn check(&self) -> Result<(), LoadError> {
        let no = |text: &str| Err(LoadError::Config(text.to_owned()));
        if self.players == 0 || self.first_user == 0 {
            return no("players and the first user id must be at least 1");
        }
        if self.own_permille + self.http_permille > 1000 {
            return no("the shares of own connections and of HTTP are more than 100 % together");
        }
        if self.http_permille > 0 && (self.http.is_empty() || self.http_connections == 0) {
            return no("players over HTTP need an HTTP address and at least one connection");
        }
        if self.http_permille < 1000 && self.frames.is_empty() {
            return no("players over frames need an address of frames");
        }
        let shared = self.own_permille + self.http_permille < 1000;
        if shared && (self.gateways == 0 || (self.gateway_token.is_none() && self.key.is_none())) {
            return no("shared connections need gateways >= 1 and a gateway token or a key to make one");
        }
        if (self.own_permille > 0 || self.http_permille > 0) && self.key.is_none() {
            return no("players with connections of their own or over HTTP need a key for their tokens");
        }
        if !(self.shakes_per_second > 0.0 && self.shakes_per_second <= 100.0) {
            return no("shakes a second must be above 0 and at most 100");
        }
        Ok(())
    }
}

/// Counts of what was sent and heard.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Submits sent, resends among them.
    pub submits: u64,
    /// Submits of a draw that had been asked before.
    pub resends: u64,
    /// Draws that were answered LOST.
    pub lost: u64,
    /// Draws that were answered WON.
    pub won: u64,
    /// Answers PENDING.
    pub pending: u64,
    /// Answers TOO_EARLY.
    pub too_early: u64,
    /// Answers NOT_OPEN.
    pub not_open: u64,
    /// Answers LIMIT_REACHED.
    pub limit_reached: u64,
    /// Answers BUSY.
    pub busy: u64,
    /// Answers UNAVAILABLE.
    pub unavailable: u64,
    /// Answers BAD_COUNTER.
    pub bad_counter: u64,
    /// Answers UNKNOWN_CAMPAIGN.
    pub unknown_campaign: u64,
    /// Answers that make no sense.
    pub nonsense: u64,
    /// Answers that came when their draw was over.
    pub stale: u64,
    /// Errors in place of an answer.
    pub errors: u64,
    /// Connections that were lost.
    pub drops: u64,
    /// Connections that were made again.
    pub reconnects: u64,
    /// Attempts to connect that failed.
    pub connect_failures: u64,
    /// Claims that were answered.
    pub claims: u64,
    /// Looks at prizes that were answered.
    pub looks: u64,
    /// Accounts that were registered.
    pub accounts: u64,
    /// Claims, looks and accounts that failed for good.
    pub errands_failed: u64,
}

/// Where the run is, once a second.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Progress {
    /// Seconds since the start.
    pub second: u64,
    /// Round that is open; 0: none.
    pub round: u32,
    /// Connections that are open, of `connections`.
    pub open: usize,
    /// Connections.
    pub connections: usize,
    /// Players with a draw under way.
    pub under_way: usize,
    /// Draws answered within the last second.
    pub draws_per_second: u64,
    /// Sum so far.
    pub counts: Counts,
}

/// What happened in a round, as far as players heard.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct RoundReport {
    /// The campaign.
    pub campaign: u32,
    /// The round.
    pub round: u32,
    /// Opening, ms UTC.
    pub open_ms: u64,
    /// Close, ms UTC.
    pub close_ms: u64,
    /// Draws answered LOST or WON.
    pub entries: u64,
    /// Those that were sent in the last 3 s, for the first time. Who hears LOST or WON was below his limits.
    pub entries_last_3s: u64,
    /// Different players with an entry.
    pub players: u64,
    /// Wins told.
    pub wins_told: u64,
}

/// The run.
#[derive(Clone, Debug, Serialize)]
pub struct PlayersReport {
    /// Players.
    pub players: u32,
    /// Length, in ms.
    pub took_ms: u64,
    /// Why it ended.
    pub ended: &'static str,
    /// Sums.
    pub counts: Counts,
    /// Each round.
    pub rounds: Vec<RoundReport>,
    /// Different awards told.
    pub told: u64,
    /// The same award told twice with different contents, or without what an award needs. Must be 0.
    pub contradictions: u64,
    /// Draws that were still open at the end.
    pub unanswered: usize,
    /// Errands (claims, looks, accounts) still open at the end.
    pub errands_open: usize,
    /// Latency of lost draws, from the intended start.
    pub lost_latency: LatencySummary,
    /// Latency of won draws, from the intended start.
    pub won_latency: LatencySummary,
    /// For each second in which a draw was answered at last: the longest that one of them had waited, ms. Seconds of UTC,
    /// rising; a gap in service shows here as it felt.
    pub waits: Vec<Wait>,
    /// CPU time of the generator, in ms.
    pub cpu_ms: u64,
    /// Share of all cores that the generator took, in thousandths.
    pub cpu_permille: u64,
}

/// The longest wait that ended in a second.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Wait {
    /// The second, since 1970 UTC.
    pub at_s: u64,
    /// From the player's wish to his answer, ms.
    pub longest_ms: u64,
}

/// Plays. `progress` is called once a second. Blocks the calling thread.
///
/// # Errors
/// When the configuration makes no sense, nobody answers at the start, there is no campaign, or a file can't be
/// written.
pub fn run(
    config: PlayersConfig,
    clock: SharedClock,
    shutdown: &Shutdown,
    progress: &mut dyn FnMut(&Progress),
) -> Result<PlayersReport, LoadError> {
    config.check()?;
    world::World::new(config, clock)?.run(shutdown, progress)
}
