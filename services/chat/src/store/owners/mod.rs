//! Who owns which bucket: epochs and sessions of chat nodes, claims and seals, in chat's own tables.
//!
//! The rules are those of crate [`ownership`], and lottery's ledger uses the same; but here the truth is the database
//! that the steps go into, not a log that has to be read to its end first. So a bucket carries no positions to wait for:
//! whoever claims it finds in the store everything that its owners have committed, because
//!
//! - a step that is committed under an epoch holds the epoch's row, and ending the epoch waits for it: behind the end
//!   nothing of that epoch is committed any more;
//! - an owner gives a bucket up (a seal) only when every step for it has its outcome. A step whose commit is unknown is
//!   repeated until it is known, or the node lets its epoch end instead.
//!
//! A node makes one call a tick ([`OwnerBook::tick`]); it answers nobody and pushes nothing once 2 s have passed since
//! it *sent* the last call that succeeded, and others may end its epoch 3 s after the book saw it. Who is refused begins
//! anew with another epoch. The book's clock is the database's.

mod memory;
mod pg;
mod rules;

use super::StoreError;
use async_trait::async_trait;
use hashring::BUCKET_COUNT;
use ownership::{BucketRow, ClaimRefused, EndError, EndReason, NodeRow, SessionError};

pub use memory::MemoryOwners;
pub use pg::PgOwners;

/// Most buckets that one call claims, and most that it seals: a call stays short, and others follow it at once.
pub const MOVES_MAX: usize = BUCKET_COUNT;

/// A bucket, under a term.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct BucketTerm {
    /// The bucket.
    pub bucket: u16,
    /// Of a seal and of what was claimed: the owner's term. Of a claim: the term in which it stands free; 0 before the
    /// first.
    pub term: u32,
}

/// What a node says every tick.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct OwnerTick {
    /// The node.
    pub node: u16,
    /// Its epoch.
    pub epoch: u32,
    /// Given up. Every step for them has its outcome.
    pub seals: Vec<BucketTerm>,
    /// Asked for.
    pub claims: Vec<BucketTerm>,
}

/// What the book says to that.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct OwnerAnswer {
    /// The book's time, ms UTC.
    pub now_ms: u64,
    /// Sealed under the term named, now or before. One that is missing is not the caller's either.
    pub sealed: Vec<u16>,
    /// The caller's now, under these terms.
    pub claimed: Vec<BucketTerm>,
    /// Not given, and what stands there.
    pub refused: Vec<ClaimRefused>,
    /// Open epochs of others whose session is dead: node and epoch. To be ended by whoever hears of it.
    pub dead: Vec<(u16, u32)>,
}

/// A node has begun.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Begun {
    /// Its epoch.
    pub epoch: u32,
    /// The book's time, ms UTC.
    pub now_ms: u64,
}

/// Why a node did not begin.
#[derive(Debug, thiserror::Error)]
pub enum BeginError {
    /// Its last epoch is alive: another process has this number, or this one had it a moment ago.
    #[error(
        "chat node {node} was seen {ago_ms} ms ago in epoch {epoch}: if no other process has this number, it is free 3 s \
         after that one's last call"
    )]
    StillSeen {
        /// The node.
        node: u16,
        /// Its epoch.
        epoch: u32,
        /// How long ago.
        ago_ms: u64,
    },
    /// Numbers are used up.
    #[error(transparent)]
    Number(#[from] ownership::BeginError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why a tick was refused.
#[derive(Debug, thiserror::Error)]
pub enum TickError {
    /// The epoch is over: the node owns nothing.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// More than one call may carry.
    #[error("{count} {what}, and one call takes at most {MOVES_MAX}")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many.
        count: usize,
    },
    /// No bucket.
    #[error("bucket {0} does not exist: they are numbered from 0 to {max}", max = BUCKET_COUNT - 1)]
    NoSuchBucket(u16),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why an epoch was not ended.
#[derive(Debug, thiserror::Error)]
pub enum EndEpochError {
    /// It is unknown, or its node alive.
    #[error(transparent)]
    End(#[from] EndError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Port: the owners' book.
///
/// **Durability.** What was answered is kept.
/// **Order.** Calls take effect one after the other; time as the book has it never decides against a row that is newer.
/// **Idempotency.** After an error of the store the same call again is safe, whatever became of the first: a claim and
/// a seal name the term that they saw. (A second [`OwnerBook::begin`] may have to wait until the epoch that the first
/// made is dead.)
#[async_trait]
pub trait OwnerBook: Send + Sync {
    /// A node begins: with a new epoch above its last and above `above`, owning nothing. Its last epoch is ended by
    /// this, if its session is dead.
    ///
    /// # Errors
    /// While the last epoch is alive.
    async fn begin(&self, node: u16, above: u32) -> Result<Begun, BeginError>;

    /// Renews a session, gives buckets up, claims others.
    ///
    /// # Errors
    /// When the epoch is over; nothing was done then.
    async fn tick(&self, tick: &OwnerTick) -> Result<OwnerAnswer, TickError>;

    /// Ends an epoch and frees its buckets; false if it was over. When this has returned, no step of the epoch is
    /// committed any more. `BySelf` is for the node itself, which has stopped stepping.
    ///
    /// # Errors
    /// When the epoch is unknown, or alive and somebody else wants to end it.
    async fn end(&self, node: u16, epoch: u32, reason: EndReason) -> Result<bool, EndEpochError>;

    /// Every bucket that ever had an owner, rising.
    ///
    /// # Errors
    /// When it can't be read.
    async fn buckets(&self) -> Result<Vec<BucketRow>, StoreError>;

    /// The epochs of a node, rising.
    ///
    /// # Errors
    /// When it can't be read.
    async fn epochs(&self, node: u16) -> Result<Vec<NodeRow>, StoreError>;
}
