//! Rehearsals: one at a time, a few waiting, the last ones kept in memory.
//!
//! They are no records: after a restart they are gone, and can be run again.

use crate::config::ConsoleConfig;
use crate::problem::Problem;
use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use quota_config::By;
use runtime::{SharedClock, TaskKind, Tasks};
use serde::Serialize;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use utoipa::ToSchema;

/// Most players of a rehearsal.
pub const PLAYERS_MAX: u64 = 1_000_000_000;
/// Most rows of arrivals: a week by the second.
pub const ARRIVALS_MAX: usize = 700_000;

/// Longest table of districts, bytes.
pub const DISTRICTS_BYTES_MAX: usize = 4 << 20;

/// Plays a campaign on virtual time.
#[async_trait]
pub trait Rehearse: Send + Sync {
    /// Plays it to its end. Work that keeps a processor busy belongs on a thread of its own; it should look at
    /// `progress` and end soon when it is called off.
    async fn rehearse(
        &self,
        request: RehearsalRequest,
        progress: Arc<Progress>,
    ) -> Result<Report, RehearseError>;
}

/// What is played.
#[derive(Clone, PartialEq, Debug)]
pub struct RehearsalRequest {
    /// The campaign file.
    pub source: Vec<u8>,
    /// Players in all.
    pub players: u64,
    /// When they come; rising.
    pub arrivals: Vec<Arrival>,
    /// Where they are, as CSV; `None`: nowhere that is known.
    pub districts: Option<String>,
}

/// From here until the next one, so many come.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Arrival {
    /// From the first opening, ms; may be before it.
    pub at_ms: i64,
    /// Weight among all arrivals: players or a share.
    pub share: f64,
}

/// What came of it.
#[derive(Clone, PartialEq, Debug)]
pub struct Report {
    /// For programs.
    pub summary: serde_json::Value,
    /// For people: one page without anything from elsewhere.
    pub html: Vec<u8>,
}

/// Why it could not be played.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0}")]
pub struct RehearseError(pub String);

/// How far it is.
#[derive(Debug, Default)]
pub struct Progress {
    per_mille: AtomicU32,
    called_off: AtomicBool,
}

impl Progress {
    /// Notes how far it is, in thousandths.
    pub fn set(&self, per_mille: u32) {
        self.per_mille.store(per_mille.min(1_000), Ordering::Relaxed);
    }

    /// Whether to end without a report: the platform stops.
    pub fn is_called_off(&self) -> bool {
        self.called_off.load(Ordering::Relaxed)
    }
}

/// Where a rehearsal stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RehearsalState {
    /// It waits for the one before.
    Waiting,
    /// It is played.
    Running,
    /// It is over.
    Done,
    /// It could not be played.
    Failed,
}

/// A rehearsal as it is shown.
#[derive(Clone, PartialEq, Debug, Serialize, ToSchema)]
pub struct RehearsalStatus {
    /// Its name.
    pub id: String,
    /// Where it stands.
    pub state: RehearsalState,
    /// How much of it is played, from 0 to 1.
    pub progress: f64,
    /// Who asked for it.
    pub author: String,
    /// When, ms UTC.
    #[schema(pattern = "^[0-9]+$")]
    pub at_ms: String,
    /// What came of it, once it is done.
    #[schema(value_type = Option<Object>)]
    pub summary: Option<serde_json::Value>,
    /// Why it could not be played.
    pub error: Option<String>,
}

struct Rehearsal {
    id: String,
    author: String,
    at_ms: u64,
    state: RehearsalState,
    request: Option<RehearsalRequest>,
    progress: Arc<Progress>,
    summary: Option<serde_json::Value>,
    html: Option<Bytes>,
    error: Option<String>,
}

struct Queue {
    list: VecDeque<Rehearsal>,
    runs: bool,
}

/// All rehearsals.
#[derive(Clone)]
pub(crate) struct Rehearsals {
    rehearse: Arc<dyn Rehearse>,
    queue: Arc<Mutex<Queue>>,
    waiting_max: usize,
    kept: usize,
    tasks: Tasks,
    clock: SharedClock,
}

impl Rehearsals {
    pub fn new(
        rehearse: Arc<dyn Rehearse>,
        config: &ConsoleConfig,
        tasks: Tasks,
        clock: SharedClock,
    ) -> Rehearsals {
        let queue = Arc::new(Mutex::new(Queue { list: VecDeque::new(), runs: false }));
        let (waiting_max, kept) = (config.rehearsals_waiting_max, config.rehearsals_kept);
        Rehearsals { rehearse, queue, waiting_max, kept, tasks, clock }
    }

    /// Puts a rehearsal into the queue; says its name.
    pub fn start(&self, request: RehearsalRequest, by: &By) -> Result<String, Problem> {
        let mut random = [0; 8];
        getrandom::fill(&mut random).map_err(|e| Problem::internal(e.to_string()))?;
        let id = format!("r-{}", hex::encode(random));
        let mut queue = self.queue.lock();
        let waiting = queue.list.iter().filter(|r| r.state == RehearsalState::Waiting).count();
        if waiting >= self.waiting_max {
            let detail = format!("{waiting} rehearsals wait already, which is as many as there may be");
            return Err(Problem::unavailable(detail).again_after(10));
        }
        queue.list.push_back(Rehearsal {
            id: id.clone(),
            author: by.name.clone(),
            at_ms: self.clock.now_ms(),
            state: RehearsalState::Waiting,
            request: Some(request),
            progress: Arc::default(),
            summary: None,
            html: None,
            error: None,
        });
        if !std::mem::replace(&mut queue.runs, true) {
            let all = self.clone();
            self.tasks.spawn("rehearsals of the console", TaskKind::BestEffort, async move {
                all.run().await;
                Ok(())
            });
        }
        Ok(id)
    }

    /// Plays one after the other until none waits.
    async fn run(&self) {
        while let Some((id, request, progress)) = self.next() {
            let shutdown = self.tasks.shutdown();
            let called = Arc::clone(&progress);
            let played = self.rehearse.rehearse(request, progress);
            let mut played = std::pin::pin!(tokio::task::unconstrained(played));
            let outcome = tokio::select! {
                outcome = &mut played => outcome,
                () = shutdown.wait() => {
                    called.called_off.store(true, Ordering::Relaxed);
                    Err(RehearseError("the platform stops".into()))
                }
            };
            self.done(&id, outcome);
        }
    }

    fn next(&self) -> Option<(String, RehearsalRequest, Arc<Progress>)> {
        let mut queue = self.queue.lock();
        let waiting = queue.list.iter_mut().find(|r| r.state == RehearsalState::Waiting);
        let next = waiting.and_then(|rehearsal| {
            rehearsal.state = RehearsalState::Running;
            let request = rehearsal.request.take()?;
            Some((rehearsal.id.clone(), request, Arc::clone(&rehearsal.progress)))
        });
        queue.runs = next.is_some();
        next
    }

    fn done(&self, id: &str, outcome: Result<Report, RehearseError>) {
        let mut queue = self.queue.lock();
        if let Some(rehearsal) = queue.list.iter_mut().find(|r| r.id == id) {
            match outcome {
                Ok(report) => {
                    rehearsal.state = RehearsalState::Done;
                    rehearsal.progress.set(1_000);
                    rehearsal.summary = Some(report.summary);
                    rehearsal.html = Some(report.html.into());
                }
                Err(error) => {
                    rehearsal.state = RehearsalState::Failed;
                    rehearsal.error = Some(error.to_string());
                }
            }
        }
        let over = |r: &Rehearsal| matches!(r.state, RehearsalState::Done | RehearsalState::Failed);
        while queue.list.iter().filter(|r| over(r)).count() > self.kept {
            let oldest = queue.list.iter().position(over);
            oldest.and_then(|oldest| queue.list.remove(oldest));
        }
    }

    pub fn status(&self, id: &str) -> Result<RehearsalStatus, Problem> {
        let queue = self.queue.lock();
        let r = queue.list.iter().find(|r| r.id == id).ok_or_else(|| self.unknown())?;
        Ok(RehearsalStatus {
            id: r.id.clone(),
            state: r.state,
            progress: f64::from(r.progress.per_mille.load(Ordering::Relaxed)) / 1_000.0,
            author: r.author.clone(),
            at_ms: r.at_ms.to_string(),
            summary: r.summary.clone(),
            error: r.error.clone(),
        })
    }

    pub fn report(&self, id: &str) -> Result<Bytes, Problem> {
        let queue = self.queue.lock();
        let rehearsal = queue.list.iter().find(|r| r.id == id).ok_or_else(|| self.unknown())?;
        let missing = || Problem::conflict("this rehearsal has no report, or none yet; its status says more");
        rehearsal.html.clone().ok_or_else(missing)
    }

    fn unknown(&self) -> Problem {
        let kept = self.kept;
        Problem::not_found(format!(
            "there is no such rehearsal; the last {kept} are kept until the platform stops"
        ))
    }
}
