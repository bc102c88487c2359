//! The loops between queue and store, and the handle that access calls.
//!
//! - [`lane`]: lane -> store -> orders -> commit.
//! - [`events`]: delivery's journal -> store -> commit.
//! - [`repeat`]: orders that delivery never journalled, again.
//! - [`live`]: statistics that anybody may read at any time.
//! - [`handle`]: what players ask: their prizes, their claims; and lottery nodes: what users won before.
//!
//! When the store is slow or away, the loops wait and the queue keeps what they have not taken: nothing is held in
//! memory beyond one batch. What can't be right (a damaged record, a gap) ends the process with its place.

mod cadence;
mod claims;
pub mod events;
pub mod handle;
mod histories;
pub mod lane;
pub mod live;
mod orders;
pub mod progress;
pub mod repeat;

use std::sync::Arc;
use std::time::Duration;

use campaign::MacKeys;
use queue::{CommitError, PollError, ProduceError, Queue, TopicError};
use runtime::{Backoff, BackoffPolicy, SharedClock, TaskKind, Tasks};

use crate::core::{CollectError, EtaLimits, PlanView, RepeatConfig};
use crate::limits::{
    EVENTS_EVERY_MS, INDEX_ROWS_MAX, INDEX_ROWS_MIN, LANE_EVERY_MS, SHARED_STATISTICS_EVERY_MS,
};
use crate::store::{AwardStore, StoreError};
use events::EventsWorker;
use handle::FlowHandle;
use lane::LaneWorker;
use live::LiveStatistics;
use progress::FlowProgress;
use repeat::RepeatWorker;

/// Name of flow's group of consumers, in the lane and in the journal.
pub const GROUP: &str = "flow";
/// Name of delivery's group of consumers, in the orders.
pub const DELIVERY_GROUP: &str = "delivery";

/// Why a loop stopped.
#[derive(Debug, thiserror::Error)]
pub enum FlowError {
    /// The lane can't be understood, or not yet.
    #[error(transparent)]
    Collect(#[from] CollectError),
    /// A record of the journal that can't be read.
    #[error("journal, partition {partition}, group {position}: {error}")]
    Event {
        /// The partition.
        partition: u16,
        /// Position of the group.
        position: u64,
        /// What is wrong.
        error: records::DecodeError,
    },
    /// The award store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A topic.
    #[error(transparent)]
    Topic(#[from] TopicError),
    /// Reading a topic.
    #[error(transparent)]
    Poll(#[from] PollError),
    /// Writing orders.
    #[error(transparent)]
    Produce(#[from] ProduceError),
    /// Committing a position.
    #[error(transparent)]
    Commit(#[from] CommitError),
}

impl FlowError {
    /// The same step again may succeed.
    pub fn is_retryable(&self) -> bool {
        match self {
            FlowError::Collect(error) => matches!(error, CollectError::NoPlan { .. }),
            FlowError::Store(error) => error.is_retryable(),
            FlowError::Produce(error) => error.is_retryable(),
            // Another member has the partition: what was taken of it comes to that one.
            FlowError::Commit(error) => matches!(error, CommitError::Lost { .. } | CommitError::Unsure(_)),
            FlowError::Topic(error) => matches!(error, TopicError::Unavailable { .. }),
            FlowError::Event { .. } | FlowError::Poll(_) => false,
        }
    }
}

/// What flow stands on.
#[derive(Clone)]
pub struct FlowParts {
    /// Lane, orders, journal.
    pub queue: Arc<dyn Queue>,
    /// Awards.
    pub store: Arc<dyn AwardStore>,
    /// Plans as they become known.
    pub plans: Arc<dyn PlanView>,
    /// Keys that check awards.
    pub keys: MacKeys,
    /// Time.
    pub clock: SharedClock,
    /// When orders are repeated.
    pub repeat: RepeatConfig,
    /// When players are told of delays.
    pub eta: EtaLimits,
}

/// Starts flow's loops in a set of tasks and gives the handle to it. They end with the set's shutdown, between two steps.
///
/// # Errors
/// When the store or a topic can't be read.
pub async fn start(parts: FlowParts, tasks: &Tasks) -> Result<FlowHandle, FlowError> {
    let progress = Arc::new(FlowProgress::default());
    let (lines, now_ms) = (parts.store.statistics().await?, parts.clock.now_ms());
    let is_shared = parts.store.has_other_writers();
    let live =
        if is_shared { LiveStatistics::shared(lines, now_ms) } else { LiveStatistics::new(lines, now_ms) };
    let live = Arc::new(live);
    let handle = FlowHandle::new(&parts, Arc::clone(&progress), Arc::clone(&live))?;
    let lane = LaneWorker::new(&parts, Arc::clone(&progress), Arc::clone(&live)).await?;
    let events = EventsWorker::new(&parts, Arc::clone(&progress), Arc::clone(&live)).await?;
    let mut repeat = RepeatWorker::new(&parts, Arc::clone(&progress))?;

    cadence::spawn(tasks, "flow-lane", "lane", LANE_EVERY_MS, lane, Arc::clone(&progress));
    cadence::spawn(tasks, "flow-events", "journal", EVENTS_EVERY_MS, events, Arc::clone(&progress));
    let (stop, note) = (tasks.shutdown().clone(), Arc::clone(&progress));
    tasks.spawn("flow-repeat", TaskKind::Service, async move {
        let mut patience = Patience::new("repeat");
        while !stop.is_requested() {
            match repeat.step().await {
                Ok(wait_ms) => {
                    patience.well(&note);
                    let wait = Duration::from_millis(wait_ms.clamp(100, 5_000));
                    tokio::select! { () = tokio::time::sleep(wait) => {}, () = stop.wait() => break }
                }
                Err(error) => {
                    tokio::select! { r = patience.after(error, &note) => r?, () = stop.wait() => break }
                }
            }
        }
        Ok(())
    });
    if is_shared {
        spawn_statistics(&parts, tasks, Arc::clone(&live), Arc::clone(&progress));
    }
    spawn_upkeep(&parts, tasks, live, Arc::clone(&progress));
    Ok(handle)
}

/// Reads the statistics that several nodes write.
fn spawn_statistics(
    parts: &FlowParts,
    tasks: &Tasks,
    live: Arc<LiveStatistics>,
    progress: Arc<FlowProgress>,
) {
    let (store, stop) = (Arc::clone(&parts.store), tasks.shutdown().clone());
    tasks.spawn("flow-statistics", TaskKind::Service, async move {
        let mut patience = Patience::new("statistics");
        while !stop.is_requested() {
            match store.statistics().await {
                Ok(lines) => {
                    live.replace(lines);
                    patience.well(&progress);
                    let wait = Duration::from_millis(SHARED_STATISTICS_EVERY_MS);
                    tokio::select! { () = tokio::time::sleep(wait) => {}, () = stop.wait() => break }
                }
                Err(error) => {
                    let error = FlowError::from(error);
                    tokio::select! { r = patience.after(error, &progress) => r?, () = stop.wait() => break }
                }
            }
        }
        Ok(())
    });
}

/// Publishes the statistics and moves users into their table.
fn spawn_upkeep(parts: &FlowParts, tasks: &Tasks, live: Arc<LiveStatistics>, progress: Arc<FlowProgress>) {
    let (store, clock, stop) = (Arc::clone(&parts.store), parts.clock.clone(), tasks.shutdown().clone());
    tasks.spawn("flow-upkeep", TaskKind::Service, async move {
        let mut patience = Patience::new("upkeep");
        let mut seen = 0;
        // Some may wait since before the start.
        progress.unindexed.set(1);
        while !stop.is_requested() {
            live.publish(clock.now_ms());
            // Large batches while awards come; what is left when they have stopped coming.
            let awards = progress.awards.get();
            let (quiet, waiting) = (awards == seen, progress.unindexed.get().unsigned_abs() as usize);
            seen = awards;
            if waiting >= INDEX_ROWS_MIN || (quiet && waiting > 0) {
                match store.index_users(INDEX_ROWS_MAX).await {
                    Ok(left) => {
                        progress.unindexed.set(left as i64);
                        patience.well(&progress);
                    }
                    Err(error) => {
                        let error = FlowError::from(error);
                        tokio::select! { r = patience.after(error, &progress) => r?, () = stop.wait() => break }
                    }
                }
            }
            tokio::select! { () = tokio::time::sleep(Duration::from_millis(250)) => {}, () = stop.wait() => break }
        }
        Ok(())
    });
}

/// Plans are looked for every 250 ms, and a full disk may stay full for long.
const RETRY: BackoffPolicy = BackoffPolicy { first_ms: 50, max_ms: 2_000, repeats: 2, spread_permille: 0 };

/// Waits between tries of a step that failed for now; gives up on one that failed for good.
struct Patience {
    what: &'static str,
    backoff: Backoff,
    stalled: bool,
}

impl Patience {
    fn new(what: &'static str) -> Patience {
        Patience { what, backoff: Backoff::new(RETRY), stalled: false }
    }

    fn well(&mut self, progress: &FlowProgress) {
        if self.stalled {
            self.stalled = false;
            self.backoff.succeeded();
            progress.went_on(self.what);
            tracing::info!(what = self.what, "going on");
        }
    }

    async fn after(&mut self, error: FlowError, progress: &FlowProgress) -> anyhow::Result<()> {
        if !error.is_retryable() {
            return Err(error.into());
        }
        if !self.stalled {
            self.stalled = true;
            tracing::warn!(what = self.what, %error, "stalled, trying again");
        }
        progress.stalled(self.what, error.to_string());
        // One process waits for its own disk: nobody to spread against.
        tokio::time::sleep(Duration::from_millis(self.backoff.failed(0))).await;
        Ok(())
    }
}
