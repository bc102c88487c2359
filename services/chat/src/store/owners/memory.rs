//! The book in memory: for one process alone, for tests and for the simulation. It lasts as long as its last clone.

use super::rules::{self, Rows};
use super::{BeginError, Begun, EndEpochError, OwnerAnswer, OwnerBook, OwnerTick, TickError};
use crate::store::StoreError;
use async_trait::async_trait;
use ownership::{BucketRow, EndReason, NodeRow};
use parking_lot::Mutex;
use runtime::SharedClock;
use std::sync::Arc;

/// The book.
#[derive(Clone)]
pub struct MemoryOwners {
    rows: Arc<Mutex<Rows>>,
    clock: SharedClock,
}

impl MemoryOwners {
    /// An empty book with this clock.
    pub fn new(clock: SharedClock) -> MemoryOwners {
        MemoryOwners { rows: Arc::default(), clock }
    }

    /// Whether an epoch is open and owns these buckets under these terms: what a step is conditional on.
    pub fn holds(&self, node: u16, epoch: u32, terms: impl IntoIterator<Item = (u16, u32)>) -> bool {
        let rows = self.rows.lock();
        let owned = |(bucket, term): (u16, u32)| {
            rows.buckets
                .get(&bucket)
                .is_some_and(|row| row.owner == Some((node, epoch)) && row.term == term && !row.is_free())
        };
        rows.epochs.get(&(node, epoch)).is_some_and(NodeRow::is_open) && terms.into_iter().all(owned)
    }

    /// A call on a copy of the rows, kept unless it is refused.
    fn call<T, E>(&self, act: impl FnOnce(&mut Rows, u64) -> Result<T, E>) -> Result<T, E> {
        let now_ms = self.clock.now_ms();
        let mut rows = self.rows.lock();
        let mut after = rows.clone();
        let done = act(&mut after, now_ms)?;
        *rows = after;
        Ok(done)
    }
}

#[async_trait]
impl OwnerBook for MemoryOwners {
    async fn begin(&self, node: u16, above: u32) -> Result<Begun, BeginError> {
        self.call(|rows, now_ms| rules::begin(rows, node, above, now_ms))
    }

    async fn tick(&self, tick: &OwnerTick) -> Result<OwnerAnswer, TickError> {
        rules::check(tick)?;
        self.call(|rows, now_ms| {
            rules::renew(rows, tick, now_ms)?;
            let mut answer = OwnerAnswer { now_ms, ..OwnerAnswer::default() };
            rules::moves(rows, tick, &mut answer);
            let dead = rows.epochs.values().filter(|row| row.is_open() && !row.is_alive(now_ms));
            answer.dead = dead.map(|row| (row.node, row.epoch)).collect();
            Ok(answer)
        })
    }

    async fn end(&self, node: u16, epoch: u32, reason: EndReason) -> Result<bool, EndEpochError> {
        self.call(|rows, now_ms| rules::end(rows, node, epoch, reason, now_ms))
    }

    async fn buckets(&self) -> Result<Vec<BucketRow>, StoreError> {
        Ok(self.rows.lock().buckets.values().cloned().collect())
    }

    async fn epochs(&self, node: u16) -> Result<Vec<NodeRow>, StoreError> {
        Ok(self.rows.lock().epochs.range((node, 0)..=(node, u32::MAX)).map(|(_, row)| row.clone()).collect())
    }
}
