//! A crowd whose devices are the client's own, on networks that cut, stall, lose and repeat; an oracle at the end.
//!
//! One thread. First everybody logs in and befriends his neighbour, and the groups are made; then messages are sent by the
//! clock, to the neighbour, a group or the large one; then the networks heal, everybody connects once more, and the
//! oracle compares what senders were told with what every device was handed.

mod world;

use std::net::SocketAddr;

use client::ReconnectPolicy;
use client::chat::ChatRules;
use runtime::{SharedClock, Shutdown};
use serde::Serialize;

use super::STAMP_BYTES;
use super::link::Harm;
use super::oracle::Verdict;
use crate::LoadError;
use crate::meter::LatencySummary;
use crate::token::TokenKey;
use world::World;

/// The crowd and what it does.
#[derive(Clone)]
pub struct CrowdConfig {
    /// Where frames are spoken. With several, connections share them, and go to the next when one is away.
    pub frames: Vec<SocketAddr>,
    /// Signs the users' tokens.
    pub key: TokenKey,
    /// How many users.
    pub users: u32,
    /// User id of the first.
    pub first_user: u64,
    /// Devices a user, 1 to 4; those behind the first go offline from time to time.
    pub devices: u32,
    /// Groups of `group_size` neighbours.
    pub groups: u32,
    /// Members of each.
    pub group_size: u32,
    /// Members of the large group; 0: none.
    pub large: u32,
    /// Shares of messages to groups and to the large one, in thousandths; the rest goes to neighbours.
    pub group_permille: u32,
    /// See above.
    pub large_permille: u32,
    /// Messages a second, all together.
    pub rate: f64,
    /// Bytes of a message; at least 16.
    pub body: usize,
    /// How long messages are sent, in ms.
    pub run_ms: u64,
    /// How long logins and groups may take at the start, and everything that is open at the end, in ms.
    pub grace_ms: u64,
    /// Of all chance.
    pub seed: u64,
    /// What the networks do.
    pub harm: Harm,
    /// Pauses between connections.
    pub reconnect: ReconnectPolicy,
    /// Patience of the devices.
    pub rules: ChatRules,
}

impl CrowdConfig {
    fn check(&self) -> Result<(), LoadError> {
        let no = |text: &str| Err(LoadError::Config(text.to_owned()));
        if self.frames.is_empty() || self.users < 2 || self.first_user == 0 {
            return no("a crowd needs an address of frames, two users and user ids from 1");
        }
        if !(1..=4).contains(&self.devices) || self.users.saturating_mul(self.devices) > 19_500 {
            return no("a user has 1 to 4 devices, and all together have at most 19500");
        }
        if self.group_permille + self.large_permille > 1000 {
            return no("the shares of groups and of the large group are more than 100 % together");
        }
        if (self.group_permille > 0 && (self.groups == 0 || self.group_size < 2))
            || (self.large_permille > 0 && self.large < 2)
        {
            return no("messages to groups need groups with two members or more");
        }
        if !(STAMP_BYTES..=protocol::calls::SEND_BODY_MAX).contains(&self.body) {
            return no("a message has 16 to 3072 bytes");
        }
        if !(self.rate > 0.0 && self.rate <= 1e6) {
            return no("the rate must be above 0");
        }
        Ok(())
    }
}

/// The run.
#[derive(Clone, Debug, Default, Serialize)]
pub struct CrowdReport {
    /// The oracle's findings.
    pub verdict: Verdict,
    /// Whether everything came to rest within the grace.
    pub at_rest: bool,
    /// Messages that were sent.
    pub sent: u64,
    /// Messages not sent because too many of their device waited.
    pub held_back: u64,
    /// Messages told to be refused.
    pub refused: u64,
    /// Messages whose fate was not told when the run ended.
    pub unsettled: u64,
    /// Connections lost or cut.
    pub drops: u64,
    /// Connections that could not be made.
    pub connect_failures: u64,
    /// Times that a device went offline.
    pub absences: u64,
    /// What went wrong first on a connection that was not cut here.
    pub first_fault: Option<String>,
    /// From the intended instant to the answer.
    pub ack_latency: LatencySummary,
    /// From the intended instant to each handing out at another device that was online all the time.
    pub delivery_latency: LatencySummary,
    /// Length, in ms.
    pub took_ms: u64,
    /// Share of all cores that the generator took, in thousandths.
    pub cpu_permille: u64,
}

impl CrowdReport {
    /// Whether all is as it must be.
    pub fn is_good(&self) -> bool {
        self.at_rest && self.unsettled == 0 && self.verdict.is_good() && self.verdict.acknowledged > 0
    }
}

/// Runs. Blocks until it is over; on shutdown the run goes on to its oracle at once.
///
/// # Errors
/// When the configuration makes no sense, or logins and groups are not done within the grace.
pub fn run(config: CrowdConfig, clock: SharedClock, shutdown: &Shutdown) -> Result<CrowdReport, LoadError> {
    config.check()?;
    World::new(config, clock)?.run(shutdown)
}
