//! From delivery's journal to the store: polled, applied, committed.

use std::sync::Arc;

use queue::{Batch, CommitError, Consumer, JOURNAL};
use records::{DeliveryEvent, Record};

use super::cadence::Worker;
use super::live::LiveStatistics;
use super::progress::FlowProgress;
use super::{FlowError, FlowParts, GROUP};
use crate::limits::{EVENT_BYTES_MAX, EVENT_RECORDS_MAX};
use crate::store::AwardStore;

/// The journal's loop. Call [`EventsWorker::step`] again and again.
pub struct EventsWorker {
    consumer: Box<dyn Consumer>,
    store: Arc<dyn AwardStore>,
    progress: Arc<FlowProgress>,
    live: Arc<LiveStatistics>,
    stage: Stage,
    /// How many records the last poll brought.
    polled: usize,
}

enum Stage {
    Poll,
    Apply(Vec<Batch>),
    Commit(Vec<Batch>),
}

impl Worker for EventsWorker {
    async fn step(&mut self) -> Result<bool, FlowError> {
        EventsWorker::step(self).await
    }

    async fn ready(&mut self) {
        EventsWorker::ready(self).await;
    }

    fn is_between_batches(&self) -> bool {
        matches!(self.stage, Stage::Poll)
    }

    fn was_full(&self) -> bool {
        self.polled >= EVENT_RECORDS_MAX / 2
    }
}

impl EventsWorker {
    /// Joins the journal's group where it left off.
    ///
    /// # Errors
    /// When the topic can't be read.
    pub async fn new(
        parts: &FlowParts,
        progress: Arc<FlowProgress>,
        live: Arc<LiveStatistics>,
    ) -> Result<EventsWorker, FlowError> {
        let consumer = parts.queue.consumer(JOURNAL, GROUP).await?;
        Ok(EventsWorker {
            consumer,
            store: Arc::clone(&parts.store),
            progress,
            live,
            stage: Stage::Poll,
            polled: 0,
        })
    }

    /// Returns when the journal may have something.
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
                let batches = self.consumer.poll(EVENT_RECORDS_MAX, EVENT_BYTES_MAX).await?;
                self.polled = batches.iter().flat_map(|b| &b.groups).map(queue::Group::len).sum();
                if batches.is_empty() {
                    return Ok(false);
                }
                self.stage = Stage::Apply(batches);
            }
            Stage::Apply(batches) => match self.apply(&batches).await {
                Ok(()) => {
                    flowlog::fault::point("flow.after_events");
                    self.stage = Stage::Commit(batches);
                }
                Err(error) => {
                    self.stage = Stage::Apply(batches);
                    return Err(error);
                }
            },
            Stage::Commit(mut batches) => {
                if let Some(batch) = batches.pop() {
                    let (partition, next) = (batch.partition, batch.next());
                    self.stage = if batches.is_empty() { Stage::Poll } else { Stage::Commit(batches) };
                    match self.consumer.commit_soon(partition, next).await {
                        // It is another node's by now, which applies the same events once more: they change nothing.
                        Err(CommitError::Lost { .. }) => {
                            tracing::info!(partition, "partition of the journal handed over");
                        }
                        done => done?,
                    }
                }
            }
        }
        Ok(true)
    }

    async fn apply(&mut self, batches: &[Batch]) -> Result<(), FlowError> {
        let mut events = Vec::new();
        for batch in batches {
            for group in &batch.groups {
                for record in group.records() {
                    let (partition, position) = (batch.partition, group.position.0);
                    let event = DeliveryEvent::decode(record).map_err(|error| FlowError::Event {
                        partition,
                        position,
                        error,
                    })?;
                    events.push(event);
                }
            }
        }
        let applied = self.store.apply_events(&events).await?;
        self.live.add(&applied.delta);
        self.progress.events.add(events.len() as u64);
        Ok(())
    }
}
