//! The book of deliveries: the truth about where each award stands.
//!
//! # What an adapter promises
//! **Durability.** What a call has written is on disk when it returns `Ok`. After [`BookError::Unsure`] it may be there
//! or not; the caller reads before it goes on. After any other error nothing was written.
//!
//! **Atomicity.** A call is one transaction: a row and its line in the journal are written together or not at all, and
//! the journal of an award counts its steps 1, 2, 3 ... without a hole.
//!
//! **Shards.** A user's orders lie in one shard of the book ([`shard_of`]), and each shard has a journal of its own, so that
//! several nodes write side by side. How many there are is fixed when the book is made: one, or one for each partition of
//! the order topic.
//!
//! **Order.** Positions of a shard's journal rise in the order of commits and have no holes, so whoever has read up to a
//! position has missed nothing below it.
//!
//! **Writers.** Any number of processes, on any shard. Which node takes which rows is the service's to say; the book
//! decides by the fence alone.
//!
//! **Idempotency.** [`DeliveryBook::take_orders`] by award; [`DeliveryBook::transition`] by (award, step): a
//! repetition loses against what it wrote the first time and changes nothing.

mod memory;
mod newest;
pub mod pg;
mod sql;
mod sql_rows;

pub use memory::MemoryBook;
pub use pg::{OpenBookError, PgBook};
pub use sql::{MIGRATIONS, SERVICE, SqlBook};

use crate::core::{Lane, OrderRow, Reason, Step};
use async_trait::async_trait;
use campaign::{AwardId, Fen, UserId, VendorId};
use hashring::bucket_of;
use records::{DeliveryEvent, DeliveryState};

/// Most rows that one call takes or returns.
pub const BATCH_MAX: usize = 4_096;

/// Most distinct alarms that are kept; further ones are only counted.
pub const ALARMS_MAX: u64 = 100_000;

/// Why a call to the book failed.
#[derive(Debug, thiserror::Error)]
pub enum BookError {
    /// Nothing was done; a later try may succeed.
    #[error("the delivery book is not available now: {0}")]
    Unavailable(String),
    /// It may have been done or not.
    #[error("the delivery book did not answer; what was asked may have been done: {0}")]
    Unsure(String),
    /// Trying again gives the same: a broken row, a full disk, a mistake in the program.
    #[error("the delivery book is broken or was asked wrongly: {0}")]
    Broken(String),
}

/// A step to be written if its row still stands where it was read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Transition {
    /// The step that the row must have: the fence.
    pub from_step: u32,
    /// The state that the row had then.
    pub from_state: DeliveryState,
    /// What is written.
    pub step: Step,
}

/// A line of the journal.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct JournalRow {
    /// Its position in its shard's journal, from 1.
    pub position: u64,
    /// The event, as the topic repeats it.
    pub event: DeliveryEvent,
    /// Why.
    pub reason: Reason,
    /// A vendor's code or a few words.
    pub note: String,
}

/// How many orders of a vendor are in a state.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Count {
    /// The vendor.
    pub vendor: VendorId,
    /// The state's number.
    pub state: u8,
    /// Orders.
    pub orders: u64,
    /// Their money.
    pub fen: Fen,
}

/// Something that a person should hear of. Kept once for each (kind, award); repetitions are counted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Alarm {
    /// What happened: a short fixed text.
    pub kind: String,
    /// The award, as far as one is named.
    pub award: AwardId,
    /// Details.
    pub detail: String,
    /// When it was first seen, ms UTC.
    pub at_ms: u64,
    /// How often.
    pub times: u64,
}

/// The shard of a user's orders, of so many: the partition of the order topic, where there are as many.
pub fn shard_of(user: UserId, shards: u16) -> u16 {
    bucket_of(user.0).get() % shards.max(1)
}

/// See the module.
#[async_trait]
pub trait DeliveryBook: Send + Sync + 'static {
    /// How many shards there are, at least one.
    fn shards(&self) -> u16;

    /// Writes the first steps of orders that the book does not know. Returns for each whether it was new. The MAC has
    /// been checked by the caller; an award may occur once in a call.
    async fn take_orders(&self, first: &[Step]) -> Result<Vec<bool>, BookError>;

    /// Writes those steps whose row still has `from_step`. Returns for each whether it won. An award may occur once in a
    /// call.
    async fn transition(&self, batch: &[Transition]) -> Result<Vec<bool>, BookError>;

    /// Rows by award, in any order; unknown awards are left out.
    async fn rows(&self, awards: &[AwardId]) -> Result<Vec<OrderRow>, BookError>;

    /// Rows of a vendor's lane, in these shards, that are due at `now_ms`, longest due first.
    async fn due(
        &self,
        shards: &[u16],
        vendor: VendorId,
        lane: Lane,
        now_ms: u64,
        limit: usize,
    ) -> Result<Vec<OrderRow>, BookError>;

    /// Rows of all vendors, in these shards, that have not been claimed within their term at `now_ms`.
    async fn lapse_due(&self, shards: &[u16], now_ms: u64, limit: usize) -> Result<Vec<OrderRow>, BookError>;

    /// When the longest waiting row of a vendor's lane was or will be due, ms UTC.
    async fn oldest_due(&self, vendor: VendorId, lane: Lane) -> Result<Option<u64>, BookError>;

    /// Orders of a user that are held for want of an account at the vendor.
    async fn held(&self, user: UserId, vendor: VendorId, limit: usize) -> Result<Vec<OrderRow>, BookError>;

    /// Orders that wait for a person, behind an award, in order of awards.
    async fn with_person(&self, after: Option<AwardId>, limit: usize) -> Result<Vec<OrderRow>, BookError>;

    /// All orders behind an award. In an order that is the same at every call and the adapter's own: by award, or spread.
    async fn scan(&self, after: Option<AwardId>, limit: usize) -> Result<Vec<OrderRow>, BookError>;

    /// Lines of a shard's journal behind a position, in order.
    async fn journal(&self, shard: u16, after: u64, limit: usize) -> Result<Vec<JournalRow>, BookError>;

    /// All steps of one award, in order.
    async fn history(&self, award: AwardId) -> Result<Vec<JournalRow>, BookError>;

    /// The position up to which a shard's journal has been published.
    async fn published(&self, shard: u16) -> Result<u64, BookError>;

    /// Remembers that position; it never goes back.
    async fn set_published(&self, shard: u16, position: u64) -> Result<(), BookError>;

    /// Those of the shards whose journal may have lines that were not published.
    async fn unpublished(&self, shards: &[u16]) -> Result<Vec<u16>, BookError> {
        Ok(shards.to_vec())
    }

    /// Orders by vendor and state, sorted; without those that are 0.
    async fn counts(&self) -> Result<Vec<Count>, BookError>;

    /// Raises alarms. Beyond [`ALARMS_MAX`] distinct ones, new ones are only logged.
    async fn alarm(&self, alarms: &[Alarm]) -> Result<(), BookError>;

    /// Alarms, newest first.
    async fn alarms(&self, limit: usize) -> Result<Vec<Alarm>, BookError>;
}

/// What the counts change by when a row goes from one state to another: used by every adapter, so that all agree.
pub(crate) fn count_changes(
    changes: impl IntoIterator<Item = (VendorId, Option<DeliveryState>, DeliveryState, Fen)>,
) -> std::collections::BTreeMap<(VendorId, u8), (i64, i64)> {
    let mut deltas = std::collections::BTreeMap::<(VendorId, u8), (i64, i64)>::new();
    for (vendor, from, to, fen) in changes {
        if let Some(from) = from {
            let at = deltas.entry((vendor, from as u8)).or_default();
            *at = (at.0 - 1, at.1 - fen.0);
        }
        let at = deltas.entry((vendor, to as u8)).or_default();
        *at = (at.0 + 1, at.1 + fen.0);
    }
    deltas.retain(|_, change| *change != (0, 0));
    deltas
}
