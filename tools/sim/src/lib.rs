//! The whole platform on virtual time: lottery node, flow log, ledger, flow, delivery and vendors in one thread, driven by
//! one seed, with everything that can go wrong going wrong.
//!
//! It exists because the laws of the money must hold at every moment of every failure, and real time shows only a few
//! of them. A run plays a small campaign: players on bad networks, a disk that tears unsynced writes, a ledger whose
//! answers are lost or late, a queue that delivers again, vendors that pay and keep silent; the node, flow and
//! delivery are killed between any two steps. When the campaign is over everything is repaired, the platform comes to
//! rest, and an auditor who reads only what is written down checks each law.
//!
//! The components are the platform's own cores and loops over their adapters in memory; only what owns threads and
//! sockets is replaced. The same seed gives the same events in the same order, and so the same [`Report::trace_hash`].
//!
//! [`chat`] does the same for the chat service in a cluster, which shares nothing with the rest.
//!
//! [`rehearse`] is the other use of virtual time: a real plan with millions of players, and nothing going wrong.
//!
//! With the feature `planted` faults can be built in, to show that the auditor finds them.

mod audit;
pub mod chat;
mod cluster;
mod config;
mod delivery;
mod flow;
mod link;
mod log;
mod operator;
mod plan;
mod players;
mod records;
pub mod rehearse;
mod single;
mod trace;
mod vendor;
mod world;

pub use audit::Violation;
pub use config::Config;
#[cfg(feature = "planted")]
pub use config::Fault;

/// How much happened in a run.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counters {
    /// Kills and power failures.
    pub kills: u64,
    /// Epochs in which the node served.
    pub epochs: u64,
    /// Wins that the node decided.
    pub wins: u64,
    /// Wins that players heard of.
    pub wins_told: u64,
    /// Losses that players heard of.
    pub losses_told: u64,
    /// Calls to the ledger that went wrong.
    pub ledger_troubles: u64,
    /// Shipments to a lane that went wrong.
    pub lane_troubles: u64,
    /// Nodes that stood still and woke.
    pub freezes: u64,
    /// Nodes that died for ever.
    pub deaths: u64,
    /// Nodes that were asked to stop.
    pub drains: u64,
    /// Epochs that somebody else ended.
    pub ended_by_others: u64,
    /// Buckets that changed hands.
    pub moves: u64,
    /// Users whose past wins came from the cache.
    pub cache_hits: u64,
    /// Groups that landed in a lane behind the end of their epoch.
    pub behind_ended: u64,
    /// Awards in the log when all was over.
    pub awards: u64,
    /// Those of them that were drawn under a plan tried on some of the players.
    pub grey_awards: u64,
    /// Payouts that vendors made.
    pub payments: u64,
    /// Lines of the delivery journal.
    pub steps: u64,
    /// Awards that were not claimed in their term.
    pub lapsed: u64,
    /// Awards that a person must decide on.
    pub with_person: u64,
    /// Rounds whose end was calm and had players enough, so that nothing may be left.
    pub full_rounds: u64,
    /// Snapshots of the node.
    pub snapshots: u64,
    /// Events.
    pub events: u64,
}

/// What came of a run.
#[derive(Clone, Debug)]
pub struct Report {
    /// Hash of every event: the same for the same seed and configuration.
    pub trace_hash: u64,
    /// What breaks a law, in the order of the checks; empty if all hold.
    pub violations: Vec<Violation>,
    /// How much happened.
    pub counters: Counters,
    /// The last events, for people: ms since the world began, and what happened.
    pub tail: Vec<String>,
}

/// Plays a campaign and audits it.
pub fn run(seed: u64, config: Config) -> Report {
    let mut world = world::World::new(seed, config);
    world.run();
    let evidence = audit::Evidence::of(&world);
    let mut violations: Vec<Violation> =
        world.problems.iter().map(|what| Violation { law: 0, what: what.clone() }).collect();
    let mut counters = world.counters;
    violations.extend(audit::audit(&evidence, &mut counters));
    let in_state = |state| evidence.orders.values().filter(|row| row.state == state).count() as u64;
    counters.lapsed = in_state(::records::DeliveryState::Lapsed);
    counters.with_person = in_state(::records::DeliveryState::Rejected);
    counters.awards = evidence.stored.len() as u64;
    counters.payments = evidence.payments.values().filter(|p| p.pays()).count() as u64;
    counters.steps = evidence.journal.len() as u64;
    counters.events = world.trace.events();
    drop(evidence);
    let trace = world.trace;
    Report { trace_hash: trace.hash(), violations, counters, tail: trace.tail() }
}
