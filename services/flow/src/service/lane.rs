//! From the lane to the store and the orders, one stage at a time.
//!
//! What is polled of all lanes is applied, its orders are made durable, and only then it is committed, soon rather than at
//! once: a commit is another replicated write, and nobody waits for it. Killed between any two stages, or before the
//! commit is there, the next process is given the batch again: applying it changes nothing, and its orders are sent once
//! more under the same award ids.
//!
//! Several nodes share the lanes through their group. What is remembered of a lane is read from the store when its first
//! batch comes, and read again when a batch begins behind it: the lane was another node's meanwhile. The store takes a
//! lane's batches one at a time, so a node that still works on one that it has lost does the same once more, and no
//! harm.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use campaign::{NodeEpoch, NodeId};
use flowlog::fault;
use futures_util::future::join_all;
use queue::{Batch, CommitError, Consumer, LANE, Position};
use records::Order;

use super::cadence::Worker;
use super::live::LiveStatistics;
use super::orders::OrderSender;
use super::progress::FlowProgress;
use super::{FlowError, FlowParts, GROUP};
use crate::core::{Collector, LaneBatch, LaneGroup, LaneState, PlanView};
use crate::limits::{LANE_BYTES_MAX, LANE_RECORDS_MAX};
use crate::store::{Applied, AwardStore};

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
    Send { done: Done, todo: Vec<Batch> },
    Commit { ends: VecDeque<(u16, Position)>, todo: Vec<Batch> },
}

/// What was applied of a poll: orders to send, and then positions to commit.
#[derive(Default)]
struct Done {
    orders: Vec<Order>,
    ends: VecDeque<(u16, Position)>,
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
                let mut done = Done::default();
                let applied = self.apply(&mut todo, &mut done).await;
                self.stage = if done.ends.is_empty() {
                    Stage::Apply { todo }
                } else {
                    fault::point("flow.after_apply");
                    // Lanes that could not be applied hold up nobody.
                    Stage::Send { done, todo }
                };
                applied?;
            }
            Stage::Send { done, todo } => {
                if let Err(error) = self.orders.send(&done.orders).await {
                    self.stage = Stage::Send { done, todo };
                    return Err(error.into());
                }
                fault::point("flow.after_orders");
                self.progress.orders.add(done.orders.len() as u64);
                self.stage = Stage::Commit { ends: done.ends, todo };
            }
            Stage::Commit { mut ends, todo } => {
                let end = ends.pop_front();
                self.stage = match (ends.is_empty(), todo.is_empty()) {
                    (false, _) => Stage::Commit { ends, todo },
                    (true, false) => Stage::Apply { todo },
                    (true, true) => Stage::Poll,
                };
                let Some((partition, next)) = end else { return Ok(true) };
                match self.consumer.commit_soon(partition, next).await {
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

    /// Applies the lanes' groups, all lanes at once: a transaction is mostly waiting. Batches that are done move from `todo`
    /// to `done`; of an error, those of other lanes are done all the same.
    async fn apply(&mut self, todo: &mut Vec<Batch>, done: &mut Done) -> Result<(), FlowError> {
        for batch in &*todo {
            self.take_up(NodeId(batch.partition), batch.groups.first().map(|g| g.position.0)).await?;
        }
        let mut collected = Vec::with_capacity(todo.len());
        let mut failed = None;
        for batch in &*todo {
            match self.collect(batch) {
                Ok(batch) => collected.push(batch),
                Err(error) => {
                    failed = Some(error);
                    break;
                }
            }
        }
        let applied = join_all(collected.iter().map(|lane| self.store.apply(lane))).await;
        let mut left = Vec::new();
        let mut batches = todo.drain(..);
        for (collected, applied) in collected.iter().zip(applied) {
            let Some(batch) = batches.next() else { break };
            match applied {
                Ok(applied) => {
                    self.applied(collected, applied, done);
                    done.ends.push_back((batch.partition, batch.next()));
                }
                Err(error) => {
                    failed.get_or_insert(error.into());
                    left.push(batch);
                }
            }
        }
        left.extend(batches);
        *todo = left;
        failed.map_or(Ok(()), Err)
    }

    /// What one lane's groups come to.
    fn collect(&mut self, batch: &Batch) -> Result<LaneBatch, FlowError> {
        let node = NodeId(batch.partition);
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
        Ok(self.collector.collect(lane, &groups, &*self.plans)?)
    }

    /// The store has them.
    fn applied(&mut self, collected: &LaneBatch, applied: Applied, done: &mut Done) {
        let lane = self.lanes.entry(collected.node).or_insert_with(|| LaneState::new(collected.node));
        for mark in &collected.marks {
            lane.end(*mark);
        }
        lane.pass(collected.next, collected.epoch);
        self.live.add(&applied.delta);
        self.note(collected, applied.new_awards, applied.new_alarms);
        let good = collected.awards.iter().filter(|row| !applied.refused.contains(&row.won.award));
        done.orders.extend(good.map(|row| row.order(row.order)));
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
