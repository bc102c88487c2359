//! Orders that delivery has consumed and not journalled, again: the schedule is [`RepeatSchedule`]'s. Of several flow nodes
//! the one that has the first lane repeats; while that changes two may, which costs a few orders that delivery knows.

use std::sync::Arc;

use queue::ORDERS;
use runtime::SharedClock;

use super::orders::OrderSender;
use super::progress::FlowProgress;
use super::{DELIVERY_GROUP, FlowError, FlowParts};
use crate::core::{RepeatSchedule, Round};
use crate::limits::REPEAT_ORDERS_MAX;
use crate::store::AwardStore;

/// How often a node looks whether it has become the one that repeats.
const FOLLOWER_LOOKS_MS: u64 = 1_000;

/// The loop that repeats. Call [`RepeatWorker::step`] when the time that it names has come.
pub struct RepeatWorker {
    schedule: RepeatSchedule,
    store: Arc<dyn AwardStore>,
    orders: OrderSender,
    clock: SharedClock,
    progress: Arc<FlowProgress>,
}

impl RepeatWorker {
    /// A loop that has not looked yet.
    ///
    /// # Errors
    /// When there is no topic for orders.
    pub fn new(parts: &FlowParts, progress: Arc<FlowProgress>) -> Result<RepeatWorker, FlowError> {
        Ok(RepeatWorker {
            schedule: RepeatSchedule::new(parts.repeat),
            store: Arc::clone(&parts.store),
            orders: OrderSender::new(Arc::clone(&parts.queue))?,
            clock: parts.clock.clone(),
            progress,
        })
    }

    /// One look; in how many ms to look again.
    ///
    /// # Errors
    /// See [`FlowError`]; what was not repeated is in the next round.
    pub async fn step(&mut self) -> Result<u64, FlowError> {
        if self.progress.follows() {
            return Ok(FOLLOWER_LOOKS_MS);
        }
        let (queue, now_ms) = (self.orders.queue(), self.clock.now_ms());
        let (mut heads, mut committed) = (Vec::new(), Vec::new());
        for partition in self.orders.partitions() {
            heads.push(queue.head(ORDERS, *partition).await?.0);
            committed.push(queue.committed(ORDERS, DELIVERY_GROUP, *partition).await?.0);
        }
        let before = match self.schedule.look(now_ms, &heads, &committed) {
            Round::Wait(until_ms) => return Ok(until_ms.saturating_sub(now_ms)),
            Round::Repeat(before) => before,
        };
        let due = self.store.orders_due(before, REPEAT_ORDERS_MAX).await?;
        let orders: Vec<_> = due.iter().map(|record| record.row.order(record.row.order)).collect();
        self.orders.send(&orders).await?;
        if !orders.is_empty() {
            self.progress.repeated.add(orders.len() as u64);
            tracing::warn!(orders = orders.len(), "repeated orders that delivery has not journalled");
        }
        Ok(0)
    }
}
