//! A running node of a cluster, as its callers see it.

use super::buckets::{BucketCounts, Buckets};
use super::start::ClusterParts;
use crate::core::{Core, Tally, WinLog as _};
use crate::grey::Grey;
use crate::node::NodeConfig;
use crate::node::journal::{Journal, Waiting, not_yet};
use crate::node::plans::{ApplyError, Plans};
use crate::node::session::Session;
use campaign::{NodeEpoch, Plan};
use parking_lot::Mutex;
use protocol::calls::{Draws, Inbox, SubmitCall, SubmitReply};
use protocol::v1::Outcome;
use serde::Serialize;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use tokio::sync::Notify;

/// Least wait named while the node has no session.
const NO_SESSION_MS: u32 = 200;

/// A lottery node of a cluster, in one epoch.
pub struct ClusterNode {
    pub(super) config: NodeConfig,
    pub(super) epoch: NodeEpoch,
    /// Position of the epoch's first group.
    pub(super) first: u64,
    pub(super) core: Arc<Core>,
    pub(super) journal: Arc<Journal>,
    pub(super) waiting: Arc<Waiting>,
    pub(super) session: Arc<Session>,
    pub(super) parts: ClusterParts,
    pub(super) plans: Plans,
    pub(super) buckets: Mutex<Buckets>,
    /// Somebody's past wins are wanted.
    pub(super) wanted: Notify,
    /// A bucket waits for the award store.
    pub(super) waits: Notify,
    /// What is acknowledged has moved, or a bucket has.
    pub(super) moved: Notify,
    /// The epoch is over: nothing is shipped any more.
    pub(super) over: AtomicBool,
    pub(super) counts: Counts,
}

/// What has happened since the start.
#[derive(Default)]
pub(super) struct Counts {
    pub ticks: AtomicU64,
    pub tick_us: AtomicU64,
    pub leases: AtomicU64,
    pub ticks_failed: AtomicU64,
    pub closes_refused: AtomicU64,
    pub ships_failed: AtomicU64,
    pub histories_asked: AtomicU64,
    pub histories_failed: AtomicU64,
    pub cache_hits: AtomicU64,
    pub buried: AtomicU64,
}

/// How a node stands, for people and programs.
#[derive(Clone, Debug, Serialize)]
pub struct ClusterStatus {
    /// The node.
    pub node: u16,
    /// Its epoch.
    pub epoch: u32,
    /// The ledger has answered within two seconds.
    pub session: bool,
    /// Buckets of users, by state.
    pub buckets: BucketCounts,
    /// Users in memory.
    pub users: usize,
    /// Bytes of their lines.
    pub user_bytes: usize,
    /// Winners who wait for the lane.
    pub pending: usize,
    /// Entries for which a draw was made, since the start.
    pub draws: u64,
    /// Wins since the start.
    pub wins: u64,
    /// Durable end of the log.
    pub log_end: u64,
    /// Bytes written to the log since the start.
    pub log_bytes: u64,
    /// Position up to which the lane has acknowledged the log.
    pub lane_position: u64,
    /// Durable groups that the lane has not acknowledged.
    pub unshipped: u64,
    /// Why the log takes nothing, if so.
    pub log_failure: Option<String>,
    /// Ticks that the ledger answered.
    pub ticks: u64,
    /// Time that they took together, us.
    pub tick_us: u64,
    /// Leases that they brought.
    pub leases: u64,
    /// Ticks that the ledger did not answer.
    pub ticks_failed: u64,
    /// Leases that the ledger refused to close: a person must look.
    pub closes_refused: u64,
    /// Calls to the lane that failed and were repeated.
    pub ships_failed: u64,
    /// Users whose past wins were asked for at flow.
    pub histories_asked: u64,
    /// Calls for them that failed.
    pub histories_failed: u64,
    /// Users whose past wins the cache had.
    pub cache_hits: u64,
    /// Epochs of other nodes that this one saw to.
    pub buried: u64,
}

impl ClusterNode {
    #[allow(clippy::too_many_arguments)] // the parts that `start` has put together, each once
    pub(super) fn new(
        config: NodeConfig,
        epoch: NodeEpoch,
        first: u64,
        core: Arc<Core>,
        journal: Arc<Journal>,
        waiting: Arc<Waiting>,
        session: Arc<Session>,
        parts: ClusterParts,
    ) -> ClusterNode {
        ClusterNode {
            plans: Plans::new(Arc::clone(&core), Arc::clone(&parts.ledger)),
            buckets: Mutex::new(Buckets::new(config.node.0)),
            config,
            epoch,
            first,
            core,
            journal,
            waiting,
            session,
            parts,
            wanted: Notify::new(),
            waits: Notify::new(),
            moved: Notify::new(),
            over: AtomicBool::new(false),
            counts: Counts::default(),
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

    /// The epoch that it serves under.
    pub fn epoch(&self) -> NodeEpoch {
        self.epoch
    }

    /// The ledger's time as the node knows it, ms UTC.
    pub fn now_ms(&self) -> u64 {
        self.session.now(self.parts.clock.mono_ns()).ms
    }

    /// Puts a plan into force; see [`Plans::apply`].
    pub async fn apply(&self, plan: Arc<Plan>) -> Result<bool, ApplyError> {
        self.plans.apply(plan).await
    }

    /// Puts a campaign's plans into force; see [`Plans::apply_grey`].
    pub async fn apply_grey(&self, active: Arc<Plan>, grey: Option<Grey>) -> Result<bool, ApplyError> {
        self.plans.apply_grey(active, grey).await
    }

    /// What was decided since the start.
    pub fn tally(&self) -> Tally {
        self.core.tally()
    }

    pub(super) fn has_session(&self) -> bool {
        self.session.is_valid(self.parts.clock.mono_ns())
    }

    /// How it stands.
    pub fn status(&self) -> ClusterStatus {
        let Tally { draws, wins, .. } = self.core.tally();
        let log = self.journal.log();
        let (log_end, lane_position) = (log.durable().0, self.journal.acknowledged());
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let counts = &self.counts;
        ClusterStatus {
            node: self.config.node.0,
            epoch: self.epoch.0,
            session: self.has_session(),
            buckets: self.buckets.lock().counts(),
            users: self.core.users(),
            user_bytes: self.core.bytes(),
            pending: self.journal.waiting(),
            draws,
            wins,
            log_end,
            log_bytes: log.stats().bytes,
            lane_position,
            unshipped: log_end.saturating_sub(lane_position),
            log_failure: log.failure(),
            ticks: read(&counts.ticks),
            tick_us: read(&counts.tick_us),
            leases: read(&counts.leases),
            ticks_failed: read(&counts.ticks_failed),
            closes_refused: read(&counts.closes_refused),
            ships_failed: read(&counts.ships_failed),
            histories_asked: read(&counts.histories_asked),
            histories_failed: read(&counts.histories_failed),
            cache_hits: read(&counts.cache_hits),
            buried: read(&counts.buried),
        }
    }
}

impl Draws for ClusterNode {
    /// Without a session nothing is decided and nothing told: another node may own the users by now. The session is
    /// looked at again behind the decisions, because a stored win that was acknowledged meanwhile is only true if the
    /// epoch lives: what the lane takes of an ended epoch never was.
    fn submit(&self, calls: &[SubmitCall], inbox: &Arc<Inbox>, out: &mut Vec<SubmitReply>) {
        let mono_ns = self.parts.clock.mono_ns();
        if !self.session.is_valid(mono_ns) {
            out.extend(calls.iter().map(put_off));
            return;
        }
        let first = out.len();
        self.core.submit(self.session.now(mono_ns), calls, inbox, out);
        if !self.has_session() {
            out[first..].iter_mut().for_each(not_yet);
        }
        if self.core.wants() {
            self.wanted.notify_one();
        }
    }
}

fn put_off(call: &SubmitCall) -> SubmitReply {
    SubmitReply {
        tag: call.tag,
        user: call.user,
        counter: call.counter,
        next_counter: call.counter,
        outcome: Outcome::Pending,
        next_submit_ms: NO_SESSION_MS,
        until_ms: 0,
        award: None,
    }
}
