//! Rehearsal: a campaign played through on virtual time before it is played for money.
//!
//! An operator wants to know, before the evening, when each prize will be gone, what a player's odds are minute by
//! minute, how long vendors will still be delivering, and what a node must bear. So [`rehearse`] plays the plan with
//! as many players as are expected. Every draw is made, none is sampled: each submit goes through the real decision
//! core, units come through the real rules of the ledger and the node's own leases, and orders leave through the
//! real pacer of delivery. Only sockets, disks and clocks are missing.
//!
//! The same plan, setup and seed give the same rehearsal. Round seeds are made from the rehearsal's own seed, never
//! from the installation's keys: a rehearsal tells nobody what the real evening will give to whom.
//!
//! How it is so fast: waiting players stand in a wheel of milliseconds (`wheel`) instead of a heap; a virtual node
//! takes its players' submits in batches, so that the core fetches their lines together; virtual nodes share nothing,
//! so each thread plays its own for 100 ms of virtual time and then waits for the others (`run`).
//!
//! It ends with a check of the laws of the money (`laws`); a rehearsal that breaks one says so in
//! [`Rehearsal::laws`].

mod arrivals;
mod assemble;
mod books;
mod districts;
mod ground;
mod laws;
mod part;
mod record;
mod report;
mod result;
mod run;
mod setup;
#[cfg(test)]
mod testing;
mod vendors;
mod warnings;
mod wheel;

pub use arrivals::{Arrivals, ArrivalsError};
pub use districts::{Districts, DistrictsError};
pub use report::{html, text};
pub use result::{
    LawCheck, NodeResult, PrizeResult, Rehearsal, RoundResult, SetupSummary, Stretch, Totals, VendorResult,
    Warning, WinsLine,
};
pub use setup::{Behaviour, PARTS_MAX, PLAYERS_MAX, Setup, SetupError, VendorSetup};

use campaign::{Plan, SeedKey};
use ground::Ground;
use lottery::core::PlanRefused;
use std::ops::ControlFlow;
use std::sync::Arc;

/// The instant that stands for 'now' in campaign files that are rehearsed, ms UTC: 20:00 of New Year's Eve 2026 in
/// Shanghai. It is fixed, so that a rehearsal does not depend on when it is made.
pub const START_MS: u64 = 1_771_243_200_000;

/// How far a rehearsal is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Progress {
    /// Virtual time, ms UTC.
    pub at_ms: u64,
    /// Virtual time that has gone by until the last round's close, in thousandths.
    pub permille: u32,
    /// Players that have come.
    pub come: u64,
    /// Submits until now.
    pub submits: u64,
    /// Draws until now.
    pub draws: u64,
    /// Wins until now.
    pub wins: u64,
}

/// Why there is no rehearsal.
#[derive(Debug, thiserror::Error)]
pub enum RehearseError {
    /// The setup can't be.
    #[error(transparent)]
    Setup(#[from] SetupError),
    /// The core does not take the plan.
    #[error(transparent)]
    Plan(#[from] PlanRefused),
    /// The ledger refused something: a bug.
    #[error(
        "the quota ledger refused a rehearsed call: {0}; this is a bug, please report it with the plan and the seed"
    )]
    Ledger(String),
    /// A thread broke down: a bug.
    #[error("a part of the rehearsal broke down; this is a bug, please report it with the plan and the seed")]
    Broken,
    /// The observer ended it.
    #[error("the rehearsal was ended before it was over")]
    Cancelled,
}

/// Plays a campaign through. `observe` is told how far it is some thousand times in all, on the calling thread;
/// [`ControlFlow::Break`] ends the rehearsal.
///
/// # Errors
/// When the setup does not fit the plan, or the observer ended it. A broken law is no error here:
/// see [`Rehearsal::holds`].
pub fn rehearse(
    plan: &Plan,
    setup: &Setup,
    mut observe: impl FnMut(&Progress) -> ControlFlow<()>,
) -> Result<Rehearsal, RehearseError> {
    setup.check(plan)?;
    let mut world = run::World::new(Arc::new(Ground::new(plan, setup)))?;
    world.run(&mut observe)?;
    assemble::assemble(world)
}

/// A seed key with which a campaign file can be compiled for a rehearsal; what it commits to is replaced.
pub fn compile_key() -> SeedKey {
    SeedKey { id: 1, key: [0; 32] }
}
