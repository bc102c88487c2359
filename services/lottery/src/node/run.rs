//! A running node: draws come in by [`Draws`], a tick goes out every 100 ms.

use super::journal::Journal;
use super::leases::{Leases, Progress};
use super::plans::{ApplyError, Plans};
use super::session::Session;
use super::snapshot::{self, Snapshot};
use super::start::NodeConfig;
use crate::core::{BUCKETS, Core, Tally, WinLog};
use crate::grey::Grey;
use crate::ledger::{QuotaLedger, StoreError, Tick, TickError};
use campaign::{NodeEpoch, Plan};
use flowlog::Position;
use ownership::ClaimBucket;
use parking_lot::Mutex;
use protocol::calls::{Draws, Inbox, SubmitCall, SubmitReply};
use records::SnapshotWin;
use runtime::{SharedClock, Shutdown};
use serde::Serialize;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// Time from tick to tick.
const TICK: Duration = Duration::from_millis(100);

/// Ticks that a stopping node takes to give its leases back, at most.
const STOP_TICKS: usize = 30;

/// A user who has won nothing and has not entered for so long is forgotten when room is short.
const IDLE_MS: u64 = 600_000;

/// Room is looked at once in so many ticks.
const ROOM_TICKS: u64 = 50;

/// Bytes that a win takes in the log, for the first guess of when a snapshot is due.
const WIN_BYTES: u64 = 132;

/// A lottery node.
pub struct Node {
    config: NodeConfig,
    epoch: NodeEpoch,
    core: Arc<Core>,
    journal: Arc<Journal>,
    session: Arc<Session>,
    ledger: Arc<dyn QuotaLedger>,
    clock: SharedClock,
    stopping: AtomicBool,
    loading: Mutex<Option<Loading>>,
    loaded: AtomicU64,
    snapshot_dir: PathBuf,
    snapshot_running: Arc<AtomicBool>,
    snapshot_at_bytes: AtomicU64,
    ticks_failed: AtomicU64,
    ledger_away: AtomicBool,
    closes_refused: AtomicU64,
    plans: Plans,
}

/// What was read at start and waits for its buckets.
struct Loading {
    snapshot: Option<Snapshot>,
    tail: Vec<Vec<SnapshotWin>>,
}

/// How a node stands, for people and programs.
#[derive(Clone, Debug, Serialize)]
pub struct NodeStatus {
    /// The node.
    pub node: u16,
    /// Its epoch.
    pub epoch: u32,
    /// The ledger has answered within two seconds.
    pub session: bool,
    /// Buckets whose users can draw.
    pub buckets: u64,
    /// Users in memory.
    pub users: usize,
    /// Bytes of their lines.
    pub user_bytes: usize,
    /// Winners who wait for the log.
    pub pending: usize,
    /// Entries for which a draw was made, since the start.
    pub draws: u64,
    /// Wins since the start.
    pub wins: u64,
    /// Durable end of the log.
    pub log_end: u64,
    /// Bytes written to the log since the start.
    pub log_bytes: u64,
    /// Why the log takes nothing, if so.
    pub log_failure: Option<String>,
    /// Ticks that the ledger did not answer.
    pub ticks_failed: u64,
    /// Leases that the ledger refused to close: a person must look.
    pub closes_refused: u64,
}

impl Node {
    #[allow(clippy::too_many_arguments)] // the parts that `start` has put together, each once
    pub(super) fn new(
        config: NodeConfig,
        epoch: NodeEpoch,
        core: Core,
        journal: Arc<Journal>,
        session: Arc<Session>,
        ledger: Arc<dyn QuotaLedger>,
        clock: SharedClock,
        snapshot: Option<Snapshot>,
        tail: Vec<Vec<SnapshotWin>>,
        snapshot_dir: PathBuf,
    ) -> Node {
        let core = Arc::new(core);
        let replayed = tail.iter().map(Vec::len).sum::<usize>() as u64 * WIN_BYTES;
        Node {
            snapshot_at_bytes: AtomicU64::new(config.snapshot_bytes.saturating_sub(replayed)),
            config,
            epoch,
            plans: Plans::new(Arc::clone(&core), Arc::clone(&ledger)),
            core,
            journal,
            session,
            ledger,
            clock,
            stopping: AtomicBool::new(false),
            loading: Mutex::new(Some(Loading { snapshot, tail })),
            loaded: AtomicU64::new(0),
            snapshot_dir,
            snapshot_running: Arc::default(),
            ticks_failed: AtomicU64::new(0),
            ledger_away: AtomicBool::new(false),
            closes_refused: AtomicU64::new(0),
        }
    }

    /// The decision core.
    pub fn core(&self) -> &Core {
        &self.core
    }

    /// The node's log.
    pub fn journal(&self) -> &Journal {
        &self.journal
    }

    /// The ledger's time as the node knows it, ms UTC.
    pub fn now_ms(&self) -> u64 {
        self.session.now(self.clock.mono_ns()).ms
    }

    /// Puts a plan into force; see [`Plans::apply`].
    pub async fn apply(&self, plan: Arc<Plan>) -> Result<bool, ApplyError> {
        self.plans.apply(plan).await
    }

    /// Puts a campaign's plans into force; see [`Plans::apply_grey`].
    pub async fn apply_grey(&self, active: Arc<Plan>, grey: Option<Grey>) -> Result<bool, ApplyError> {
        self.plans.apply_grey(active, grey).await
    }

    /// How it stands.
    pub fn status(&self) -> NodeStatus {
        let Tally { draws, wins, .. } = self.core.tally();
        let log = self.journal.log();
        NodeStatus {
            node: self.config.node.0,
            epoch: self.epoch.0,
            session: self.session.is_valid(self.clock.mono_ns()),
            buckets: self.loaded.load(Ordering::Relaxed),
            users: self.core.users(),
            user_bytes: self.core.bytes(),
            pending: self.journal.waiting(),
            draws,
            wins,
            log_end: log.durable().0,
            log_bytes: log.stats().bytes,
            log_failure: log.failure(),
            ticks_failed: self.ticks_failed.load(Ordering::Relaxed),
            closes_refused: self.closes_refused.load(Ordering::Relaxed),
        }
    }

    /// What was decided since the start.
    pub fn tally(&self) -> Tally {
        self.core.tally()
    }

    /// Claims the buckets, then ticks until it is asked to stop; gives its leases back then. An error means that
    /// the node must start anew: its epoch was ended, or its memory can't be read back.
    pub async fn run(self: Arc<Self>, shutdown: Shutdown) -> anyhow::Result<()> {
        let mut leases = Leases::new(self.config.node, self.epoch);
        self.claim().await?;
        let mut unanswered = None;
        let mut stop_ticks = 0;
        let mut ticks = 0u64;
        loop {
            let stop = shutdown.is_requested();
            self.stopping.store(stop, Ordering::Release);
            self.tick(&mut leases, &mut unanswered, stop).await?;
            self.closes_refused.store(leases.refused(), Ordering::Relaxed);
            if stop {
                stop_ticks += 1;
                if (leases.closing() == 0 && stop_ticks > 1) || stop_ticks > STOP_TICKS {
                    break;
                }
            } else {
                self.snapshot_if_due();
                ticks += 1;
                if ticks.is_multiple_of(ROOM_TICKS) && self.core.users() >= self.config.users_max / 10 * 9 {
                    let stay = self.core.forget_idle(self.now_ms().saturating_sub(IDLE_MS));
                    tracing::warn!(
                        stay,
                        "memory is nearly full of users; forgot those who have not come for ten minutes"
                    );
                }
            }
            tokio::select! {
                () = tokio::time::sleep(TICK) => {}
                () = shutdown.wait(), if !stop => {}
            }
        }
        self.session.end();
        let log = self.journal.log().clone();
        tokio::task::spawn_blocking(move || log.close()).await??;
        Ok(())
    }

    /// One tick. `unanswered` is a tick that may have been done: it is repeated as it was.
    async fn tick(
        &self,
        leases: &mut Leases,
        unanswered: &mut Option<Tick>,
        stop: bool,
    ) -> anyhow::Result<()> {
        let mut log = &*self.journal;
        let progress = Progress { acknowledged: self.journal.acknowledged() };
        let tick = match unanswered.take() {
            Some(tick) => tick,
            None => leases.tick(&self.core, self.now_ms(), progress, stop, &mut log),
        };
        let sent = self.clock.mono_ns();
        flowlog::fault::point("tick.before_send");
        match self.ledger.tick(&tick).await {
            Ok(answer) => {
                flowlog::fault::point("tick.after_answer");
                self.session.renew(sent, self.clock.mono_ns(), answer.now_ms);
                leases.answered(&self.core, &tick, &answer, &mut log);
                if self.ledger_away.swap(false, Ordering::Relaxed) {
                    tracing::info!("the ledger answers again");
                }
                Ok(())
            }
            Err(TickError::Store(error)) => {
                self.ticks_failed.fetch_add(1, Ordering::Relaxed);
                if !self.ledger_away.swap(true, Ordering::Relaxed) {
                    tracing::warn!(%error, "the ledger did not answer; draws lose until it does");
                }
                if matches!(error, StoreError::Unknown(_)) {
                    *unanswered = Some(tick);
                }
                Ok(())
            }
            Err(error) => {
                self.session.end();
                Err(error.into())
            }
        }
    }

    /// Claims every bucket, and reads their users' wins in the background.
    async fn claim(self: &Arc<Self>) -> anyhow::Result<()> {
        let rows = self.ledger.buckets(None).await?;
        let mut terms = vec![0; BUCKETS];
        rows.iter().for_each(|row| terms[usize::from(row.bucket)] = row.term);
        let claims = terms
            .iter()
            .enumerate()
            .map(|(bucket, &term)| ClaimBucket { bucket: bucket as u16, term })
            .collect();
        let tick = Tick { node: self.config.node, epoch: self.epoch, claims, ..Tick::default() };
        let sent = self.clock.mono_ns();
        let answer = self.ledger.tick(&tick).await?;
        flowlog::fault::point("start.after_claim");
        self.session.renew(sent, self.clock.mono_ns(), answer.now_ms);
        for refused in &answer.claims_refused {
            tracing::warn!(bucket = refused.bucket, owner = ?refused.owner, "a bucket belongs to another node");
        }
        let mut mine = Vec::with_capacity(answer.claimed.len());
        for claimed in &answer.claimed {
            // The own lane was read at start, to its end; what another lane holds is not here.
            if let Some(other) = claimed.wait_for.iter().find(|w| w.lane != self.config.node.0) {
                anyhow::bail!(
                    "bucket {} waits for lane {} up to position {}, and this node can read its own lane only; \
                     run it with the award store of the cluster",
                    claimed.bucket,
                    other.lane,
                    other.position
                );
            }
            self.core.begin_loading(usize::from(claimed.bucket));
            mine.push(usize::from(claimed.bucket));
        }
        let node = Arc::clone(self);
        let loading = tokio::task::spawn_blocking(move || node.load(&mine));
        // Small worlds are ready before the first player; large ones are read behind the first answers.
        if let Ok(done) = tokio::time::timeout(Duration::from_millis(50), loading).await {
            done??;
        }
        Ok(())
    }

    fn load(&self, buckets: &[usize]) -> anyhow::Result<()> {
        let Some(mut from) = self.loading.lock().take() else { return Ok(()) };
        for &bucket in buckets {
            let kept = match from.snapshot.as_ref().map_or(Ok(vec![]), |s| s.bucket(bucket)) {
                Ok(kept) => kept,
                Err(error) => {
                    tracing::error!(%error, "a snapshot turned out to be damaged; it is set aside, start again");
                    if let Some(snapshot) = &from.snapshot {
                        snapshot.set_aside()?;
                    }
                    self.session.end();
                    return Err(error.into());
                }
            };
            let tail = std::mem::take(&mut from.tail[bucket]);
            self.core.load(bucket, kept.into_iter().chain(tail));
            self.loaded.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Starts a snapshot when enough log has been written since the last one.
    fn snapshot_if_due(&self) {
        let bytes = self.journal.log().stats().bytes;
        let due = self.snapshot_at_bytes.load(Ordering::Relaxed);
        if bytes < due || self.snapshot_running.swap(true, Ordering::AcqRel) {
            return;
        }
        self.snapshot_at_bytes.store(bytes + self.config.snapshot_bytes, Ordering::Relaxed);
        let (core, log) = (Arc::clone(&self.core), self.journal.log().clone());
        let (dir, who) = (self.snapshot_dir.clone(), (self.config.node, self.epoch));
        let (time_ms, running) = (self.now_ms(), Arc::clone(&self.snapshot_running));
        tokio::task::spawn_blocking(move || {
            let from = log.durable().0;
            let wait = |to: u64| to == 0 || log.wait_durable_blocking(Position(to - 1)).is_ok();
            match snapshot::write(&dir, &core, who, from, time_ms, wait) {
                Ok(Some(header)) => tracing::info!(from, wins = header.wins, "wrote a snapshot"),
                Ok(None) => tracing::info!("no snapshot now: not every bucket is loaded"),
                Err(error) => {
                    tracing::error!(%error, "could not write a snapshot; a restart will read more log")
                }
            }
            running.store(false, Ordering::Release);
        });
    }
}

impl Draws for Node {
    fn submit(&self, calls: &[SubmitCall], inbox: &Arc<Inbox>, out: &mut Vec<SubmitReply>) {
        let mut now = self.session.now(self.clock.mono_ns());
        now.may_win &= !self.stopping.load(Ordering::Acquire);
        self.core.submit(now, calls, inbox, out);
    }
}
