//! A lottery node: the decision core with its log, its session at the ledger, its leases and its snapshots.
//!
//! Start ([`start`]): recover the log, end what the last process left open, begin a new epoch, claim the buckets,
//! read their users' wins behind the first answers. Run: a tick of the ledger every 100 ms, a snapshot every so
//! many bytes of log. It refuses to win while the ledger has not answered for two seconds; it ends when its epoch
//! was ended by somebody else, or when the log fails.
//!
//! That is a node that is alone and holds everything; one among others is in [`cluster`].

pub mod cluster;
pub mod journal;
pub mod leases;
pub mod plans;
pub mod replay;
mod run;
pub mod session;
pub mod snapshot;
mod start;

pub use plans::ApplyError;
pub use run::{Node, NodeStatus};
pub use start::{NodeConfig, Recovered, StartError, start};
