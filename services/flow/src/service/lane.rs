//! From the lane to the store and the orders, one stage at a time.
//!
//! A batch is polled, applied, its orders are made durable, and only then it is committed. Killed between any two stages, the
//! next process is given the batch again: applying it changes nothing, and its orders are sent once more under the
//! same award ids.
//!
//! Several nodes share the lanes through their group. What is remembered of a lane is read from the store when its first
//! batch comes, and read again when a batch begins behind it: the lane was another node's meanwhile. The store takes a
//! lane's batches one at a time, so a node that still works on one that it has lost does the same once more, and no
//! harm.

use std::collections::BTreeMap;
use std::sync::Arc;

use campaign::{NodeEpoch, NodeId};
use flowlog::fault;
use queue::{Batch, CommitError, Consumer, LANE, Position};
use records::Order;

use super::cadence::Worker;
use super::live::LiveStatistics;
use super::orders::OrderSender;
use super::progress::FlowProgress;
use super::{FlowError, FlowParts, GROUP};
use crate::core::{Collector, LaneBatch, LaneGroup, LaneState, PlanView};
use crate::limits::{LANE_BYTES_MAX, LANE_RECORDS_MAX};
use crate::store::AwardStore;

/// The lane's loop. Call [`LaneWorker::step`] again and again.
pub struct LaneWorker {
    consumer: Box<dyn Consumer>,
    collector: Collector,
    lanes: BTreeMap<NodeId, LaneState>,
    store: Arc<dyn AwardStore>,
    plans: Arc<dyn PlanView>,
    orders: OrderSender,
    progress: Arc<FlowProgress>,
    live: Arc<LiveStatistics>,
    stage: Stage,
    /// How many records the last poll brought.
    polled: usize,
}

/// What is to be done next.
enum Stage {
    Poll,
    Apply { todo: Vec<Batch> },
    Send { orders: Vec<Order>, partition: u16, next: Position, todo: Vec<Batch> },
    Commit { partition: u16, next: Position, todo: Vec<Batch> },
}

impl Worker for LaneWorker {
    async fn step(&mut self) -> Result<bool, FlowError> {
        LaneWorker::step(self).await
    }

    async fn ready(&mut self) {
        LaneWorker::ready(self).await;
    }

    fn is_between_batches(&self) -> bool {
        matches!(self.stage, Stage::Poll)
    }

    fn was_full(&self) -> bool {
        self.polled >= LANE_RECORDS_MAX / 2
    }
}

impl LaneWorker {
    /// Joins the lane's group where it left off.
    ///
    /// # Errors
    /// When a topic can't be read.
    pub async fn new(
        parts: &FlowParts,
        progress: Arc<FlowProgress>,
        live: Arc<LiveStatistics>,
    ) -> Result<LaneWorker, FlowError> {
        Ok(LaneWorker {
            consumer: parts.queue.consumer(LANE, GROUP).await?,
            collector: Collector::new(parts.keys.clone()),
            lanes: BTreeMap::new(),
            store: Arc::clone(&parts.store),
            plans: Arc::clone(&parts.plans),
            orders: OrderSender::new(Arc::clone(&parts.queue))?,
            progress,
            live,
            stage: Stage::Poll,
            polled: 0,
        })
    }

    /// Plants a fault that the simulation must find; see [`Collector::plant_accept_ended`].
    #[cfg(feature = "planted")]
    pub fn plant_accept_ended(&mut self) {
        self.collector.plant_accept_ended();
    }

    /// Returns when the lane may have something.
    pub async fn ready(&mut self) {
        self.consumer.ready().await;
    }

    /// Does one stage. False when there is nothing to do.
    ///
    /// # Errors
    /// See [`FlowError`]; the stage is done again by the next call, unless the partition was lost to another member.
    pub async fn step(&mut self) -> Result<bool, FlowError> {
        match std::mem::replace(&mut self.stage, Stage::Poll) {
            Stage::Poll => {
                self.follow_assignment()?;
                let todo = self.consumer.poll(LANE_RECORDS_MAX, LANE_BYTES_MAX).await?;
                self.polled = todo.iter().flat_map(|b| &b.groups).map(queue::Group::len).sum();
                if todo.is_empty() {
                    return Ok(false);
                }
                self.stage = Stage::Apply { todo };
            }
            Stage::Apply { mut todo } => {
                let Some(batch) = todo.first() else { return Ok(true) };
                let (partition, next) = (batch.partition, batch.next());
                match self.apply(batch).await {
                    Ok(orders) => {
                        fault::point("flow.after_apply");
                        todo.remove(0);
                        self.stage = Stage::Send { orders, partition, next, todo };
                    }
                    Err(error) => {
                        self.stage = Stage::Apply { todo };
                        return Err(error);
                    }
                }
            }
            Stage::Send { orders, partition, next, todo } => {
                if let Err(error) = self.orders.send(&orders).await {
                    self.stage = Stage::Send { orders, partition, next, todo };
                    return Err(error.into());
                }
                fault::point("flow.after_orders");
                self.progress.orders.add(orders.len() as u64);
                self.stage = Stage::Commit { partition, next, todo };
            }
            Stage::Commit { partition, next, todo } => {
                self.stage = if todo.is_empty() { Stage::Poll } else { Stage::Apply { todo } };
                match self.consumer.commit(partition, next).await {
                    Err(CommitError::Lost { .. }) => {
                        tracing::info!(node = partition, "lane handed over");
                        self.lanes.remove(&NodeId(partition));
                    }
                    done => done?,
                }
                fault::point("flow.after_commit");
            }
        }
        Ok(true)
    }

    /// Forgets the lanes that were lost, and notes whether this node has the first one.
    fn follow_assignment(&mut self) -> Result<(), FlowError> {
        let mine = self.consumer.assignment();
        self.lanes.retain(|node, _| mine.contains(&node.0));
        let all = self.orders.queue().partitions(LANE)?;
        self.progress.leads(all.first().is_none_or(|first| mine.contains(first)));
        Ok(())
    }

    /// Reads what the store knows of a lane, unless the batch goes on from what is known here.
    async fn take_up(&mut self, node: NodeId, first: Option<u64>) -> Result<(), FlowError> {
        let known = self.lanes.get(&node);
        if known.is_none_or(|lane| first.is_some_and(|first| first > lane.next)) {
            let lane = self.store.lane(node).await?;
            self.lanes.insert(node, lane);
        }
        Ok(())
    }

    /// Applies one lane's groups; the orders to send.
    async fn apply(&mut self, batch: &Batch) -> Result<Vec<Order>, FlowError> {
        let node = NodeId(batch.partition);
        self.take_up(node, batch.groups.first().map(|g| g.position.0)).await?;
        let lane = self.lanes.entry(node).or_insert_with(|| LaneState::new(node));
        let groups: Vec<LaneGroup<'_>> = batch
            .groups
            .iter()
            .map(|g| LaneGroup {
                epoch: NodeEpoch(g.epoch),
                position: g.position.0,
                records: g.records().collect(),
            })
            .collect();
        let collected = self.collector.collect(lane, &groups, &*self.plans)?;
        let applied = self.store.apply(&collected).await?;
        for mark in &collected.marks {
            lane.end(*mark);
        }
        lane.pass(collected.next, collected.epoch);
        self.live.add(&applied.delta);
        self.note(&collected, applied.new_awards, applied.new_alarms);
        let good = collected.awards.iter().filter(|row| !applied.refused.contains(&row.won.award));
        Ok(good.map(|row| row.order(row.order)).collect())
    }

    fn note(&self, collected: &LaneBatch, new_awards: u64, new_alarms: u64) {
        self.progress.groups.add(collected.next - collected.from);
        self.progress.awards.add(new_awards);
        self.progress.unindexed.add(new_awards as i64);
        self.progress.ignored.add(collected.ignored);
        if new_alarms > 0 {
            self.progress.alarms.add(new_alarms);
            tracing::error!(
                node = collected.node.0,
                new_alarms,
                from = collected.from,
                "awards raised alarms"
            );
        }
    }
}
