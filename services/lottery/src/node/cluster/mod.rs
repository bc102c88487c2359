//! A lottery node among others: it shares the users with them bucket by bucket, its log is shipped into its lane before
//! a winner hears of it, and it ends the epochs of those that died.
//!
//! What decides is pure and runs in the simulation too:
//! - [`buckets`]: which buckets to claim, to wait with, to open, to give up;
//! - [`shipping`]: what of the log to send next, and what has arrived;
//! - [`undertaker`]: ending others' epochs and settling their leases;
//! - [`histories`]: whose past wins to ask for.
//!
//! Around it: [`start()`] (from whatever the last process left to a new epoch), [`ClusterNode::run`] (one call a tick, a
//! shipper, an undertaker, a reader of histories), [`bury()`] and [`end_by_hand`].
//!
//! It refuses to decide or to answer without a session, and ends with [`Exit::EpochEnded`] when its epoch was ended by
//! others: then it is started anew. Asked to stop, it gives its buckets and leases back, ships its log to the end, and
//! ends its epoch itself.

pub mod buckets;
mod bury;
pub mod cache;
mod fetch;
pub mod histories;
mod node;
mod run;
mod ship;
pub mod shipping;
mod start;
pub mod undertaker;

pub use buckets::BucketCounts;
pub use bury::{Buried, BuryError, EndByHandError, bury, end_by_hand};
pub use cache::{HistoryCache, MemoryCache, NoCache};
pub use node::{ClusterNode, ClusterStatus};
pub use run::{Exit, RunError};
pub use start::{ClusterParts, Origin, Pause, StartError, Started, recover, start};
