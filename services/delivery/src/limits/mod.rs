//! Paces towards vendors that people have set, for all delivery nodes of a cluster.
//!
//! A setting is made at a desk, in another process, and must reach every node and survive them all. So it stands in a table
//! of delivery's own database, which nodes read before they send anything and every 250 ms from then on ([`Follower`]). A
//! node that can't read the table can't write the book either, and nothing is sent that the book does not have: so nobody
//! goes on for long at a pace that was changed. Nodes write beside it what they do, for whoever looks.
//!
//! **Order.** Settings have numbers (rows of the audit trail) and may come late, twice and out of order; the highest stands.
//! **Durability.** What [`LimitBook::set`] has returned from survives. Reports are of the moment only.

mod follow;
mod memory;
mod pg;

pub use follow::{Follower, POLL_MS};
pub use memory::MemoryLimits;
pub use pg::PgLimits;

use crate::book::BookError;
use async_trait::async_trait;
use campaign::VendorId;

/// How old a node's report may be to count, ms.
pub const REPORT_MS: u64 = 5_000;

/// A pace that somebody has set.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Setting {
    /// The vendor.
    pub vendor: VendorId,
    /// Calls a second, 0: none; `None`: as many as the node is configured to.
    pub per_second: Option<u32>,
    /// Later settings have higher numbers, from 1.
    pub number: u64,
    /// Who set it.
    pub who: String,
    /// When, ms UTC.
    pub at_ms: u64,
}

/// What a node does for a vendor.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NodeVendor {
    /// The node.
    pub node: u16,
    /// The vendor.
    pub vendor: VendorId,
    /// The limit that it keeps, of all nodes together, calls a second.
    pub limit_per_second: u32,
    /// Its breaker is open: it sends nothing but probes.
    pub cut_off: bool,
}

/// See the module.
#[async_trait]
pub trait LimitBook: Send + Sync + 'static {
    /// The settings that stand, by vendor.
    async fn settings(&self) -> Result<Vec<Setting>, BookError>;

    /// Sets a pace, unless the same or a higher number stands for the vendor. Whether it was set now.
    async fn set(&self, setting: &Setting) -> Result<bool, BookError>;

    /// Says what a node does, in place of what it said before. What others said long ago is forgotten.
    async fn report(&self, node: u16, vendors: &[NodeVendor]) -> Result<(), BookError>;

    /// What nodes have said within [`REPORT_MS`], by node and vendor.
    async fn reports(&self) -> Result<Vec<NodeVendor>, BookError>;
}
