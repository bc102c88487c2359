//! Messages at a rate, for figures: how long until they are acknowledged, and until they are there.
//!
//! Open loop: message n is meant for start + n / rate and both of its latencies count from there, whenever it could be
//! written; the instant travels in the body. One device a user and connection, messages by hand ([`super::fast`]), one
//! thread. Holes and duplicates are counted on the way, cheaply, because pushes of one connection come in order: a seq that
//! is not above the last is a duplicate, and at the end each conversation's seqs must add up.

mod set_up;
mod talker;
mod worker;

use std::net::SocketAddr;

use runtime::{SharedClock, Shutdown};
use serde::Serialize;

use super::STAMP_BYTES;
use crate::LoadError;
use crate::bench::CONNECTIONS_MAX;
use crate::meter::LatencySummary;
use crate::token::TokenKey;
use worker::Flood;

/// With whom.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Talk {
    /// Neighbours, one to one.
    Pairs,
    /// Groups of so many neighbours; everybody is in one.
    Groups(u32),
}

/// A run.
#[derive(Clone)]
pub struct FloodConfig {
    /// Where.
    pub address: SocketAddr,
    /// Signs the users' tokens.
    pub key: TokenKey,
    /// Users, each with a connection.
    pub users: u32,
    /// User id of the first.
    pub first_user: u64,
    /// With whom.
    pub talk: Talk,
    /// Messages a second.
    pub rate: f64,
    /// Bytes of a message; at least 16.
    pub body: usize,
    /// Time before anything counts, in ms.
    pub warm_ms: u64,
    /// Time that counts, in ms.
    pub run_ms: u64,
    /// Time for logins and groups, in ms.
    pub wait_ms: u64,
}

/// What came of it.
#[derive(Clone, Debug, Default, Serialize)]
pub struct FloodReport {
    /// Messages acknowledged in the time that counts.
    pub acked: u64,
    /// Those a second.
    pub acked_per_second: f64,
    /// From the intended instant to the acknowledgement.
    pub ack_latency: LatencySummary,
    /// Messages pushed to others in the time that counts.
    pub delivered: u64,
    /// Those a second.
    pub delivered_per_second: f64,
    /// From the intended instant to the push's arrival.
    pub delivery_latency: LatencySummary,
    /// Messages pushed a second time, over the whole run.
    pub duplicates: u64,
    /// Messages that had not come when the run was over.
    pub holes: u64,
    /// Answers other than stored; those messages were sent again.
    pub not_at_once: u64,
    /// Messages never acknowledged.
    pub unanswered: u64,
    /// Messages refused for good, with the first reason.
    pub refused: u64,
    /// See above.
    pub first_refusal: String,
    /// Pulls of what a head did not bring.
    pub pulls: u64,
    /// Length of what counts, in s.
    pub seconds: f64,
    /// CPU time of the generator within what counts, in s.
    pub cpu_s: f64,
    /// Its share of all cores.
    pub cpu_share: f64,
}

/// Runs. Blocks until it is over; ends early on shutdown.
///
/// # Errors
/// When the configuration makes no sense, a connection can't be made or breaks, or groups can't be made.
pub fn run(config: &FloodConfig, clock: &SharedClock, shutdown: &Shutdown) -> Result<FloodReport, LoadError> {
    run_telling(config, clock, shutdown, || ())
}

/// The same; `begun` is called when everybody is logged in and knows his conversation, before the first message that counts or
/// warms up.
///
/// # Errors
/// As [`run`].
pub fn run_telling(
    config: &FloodConfig,
    clock: &SharedClock,
    shutdown: &Shutdown,
    begun: impl FnOnce(),
) -> Result<FloodReport, LoadError> {
    config.check()?;
    Flood::new(config, clock)?.run_all(shutdown, begun)
}

impl FloodConfig {
    fn check(&self) -> Result<(), LoadError> {
        let no = |text: String| Err(LoadError::Config(text));
        if self.users < 2 || self.users as usize > CONNECTIONS_MAX || self.first_user == 0 {
            return no(format!("{} users: 2 to {CONNECTIONS_MAX} are possible, with ids from 1", self.users));
        }
        if self.talk == Talk::Pairs && !self.users.is_multiple_of(2) {
            return no(format!("{} users don't make pairs", self.users));
        }
        if let Talk::Groups(size) = self.talk
            && (size < 2 || size > self.users || !self.users.is_multiple_of(size))
        {
            return no(format!("{} users don't make groups of {size}", self.users));
        }
        if !(STAMP_BYTES..=protocol::calls::SEND_BODY_MAX).contains(&self.body) {
            return no(format!("{} bytes a message: 16 to 3072 are possible", self.body));
        }
        if !(self.rate > 0.0 && self.rate < 1e7) {
            return no("the rate must be above 0".to_owned());
        }
        Ok(())
    }
}
