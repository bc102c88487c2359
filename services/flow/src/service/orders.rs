//! Orders on their way into the queue.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::future::try_join_all;
use hashring::bucket_of;
use queue::{ORDERS, ProduceError, Queue, TopicError};
use records::{Order, Record};

use crate::limits::ORDER_BYTES_MAX;

/// Puts orders into their partitions: bucket of the user modulo the number of partitions.
#[derive(Clone)]
pub(super) struct OrderSender {
    queue: Arc<dyn Queue>,
    partitions: Vec<u16>,
}

impl OrderSender {
    pub fn new(queue: Arc<dyn Queue>) -> Result<OrderSender, TopicError> {
        let partitions = queue.partitions(ORDERS)?;
        Ok(OrderSender { queue, partitions })
    }

    pub fn partitions(&self) -> &[u16] {
        &self.partitions
    }

    pub fn queue(&self) -> &Arc<dyn Queue> {
        &self.queue
    }

    /// Returns when all of them are durable. After an error some may be; sending again is harmless.
    pub async fn send(&self, orders: &[Order]) -> Result<(), ProduceError> {
        let mut shares: BTreeMap<u16, Vec<Vec<u8>>> = BTreeMap::new();
        for order in orders {
            let share = bucket_of(order.user.0).index() % self.partitions.len().max(1);
            let Some(partition) = self.partitions.get(share) else { return Err(ProduceError::Closed) };
            shares.entry(*partition).or_default().push(order.encode());
        }
        // Partitions at once, one behind the other within each, so that an award's orders keep their order.
        try_join_all(shares.iter().map(|(partition, records)| self.share(*partition, records))).await?;
        Ok(())
    }

    async fn share(&self, partition: u16, records: &[Vec<u8>]) -> Result<(), ProduceError> {
        let per_group = ORDER_BYTES_MAX / (4 + records.iter().map(Vec::len).max().unwrap_or(1));
        for chunk in records.chunks(per_group.max(1)) {
            let slices: Vec<&[u8]> = chunk.iter().map(Vec::as_slice).collect();
            self.queue.produce(ORDERS, partition, &slices).await?;
        }
        Ok(())
    }
}
