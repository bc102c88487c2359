//! A lottery node: the decision core with its log, its session at the ledger, its leases and its snapshots.
//!
//! Start ([`start`]): recover the log, end what the last process left open, begin a new epoch, claim the buckets,
//! read their users' wins behind the first answers. Run: a tick of the ledger every 100 ms, a snapshot every so
//! many bytes of log. It refuses to win while the ledger has not answered for two seconds; it ends when its epoch
//! was ended by somebody else, or when the log fails.

pub mod journal;
pub mod leases;
pub mod replay;
mod run;
pub mod session;
pub mod snapshot;
mod start;

pub use run::{ApplyError, Node, NodeStatus};
pub use start::{NodeConfig, Recovered, StartError, start};
