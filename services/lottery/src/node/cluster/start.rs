//! Starting a node of a cluster: from whatever the last process left, here or on another disk, to a new epoch.
//!
//! The lane is the truth. If the node's last epoch is open and this disk has its log, the rest of it is shipped, because
//! every win in it may still be told; then the epoch is ended. If others have ended it, nothing of it is shipped any
//! more. Either way the epoch's mark is in the lane and its leases are settled before a new one begins, and the new
//! one's first group has a position that nobody has used.

use super::bury::{BuryError, bury, newest};
use super::cache::HistoryCache;
use super::node::ClusterNode;
use crate::core::{Core, CoreConfig};
use crate::ledger::{EpochError, QuotaLedger, StoreError, Tick, TickError};
use crate::node::NodeConfig;
use crate::node::journal::{Journal, Waiting};
use crate::node::session::Session;
use bytes::Bytes;
use campaign::{NodeEpoch, NodeId};
use flowlog::format::{SegmentHeader, epoch_genesis};
use flowlog::{
    Class, Disk, DiskFile as _, FlowLog, Hooks, LogError, LogKind, LogOptions, LogReader, LogWriter,
    Position, RealDisk, Recovery, WriteError, fault,
};
use ownership::{EndError, EndReason, Members, NodeRow, SESSION_DEAD_MS};
use protocol::calls::Histories;
use queue::lanes::{LaneError, LaneState, Lanes};
use records::{Ended, EpochBegan, Record as _};
use runtime::SharedClock;
use serde::Serialize;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

/// Bytes of one call that ships the rest of a log.
const SHIP_BYTES: usize = 1 << 20;

/// Most groups that are added to a log that lies behind its lane.
const FILL_MAX: u64 = 4_096;

/// How often a call to the lane is repeated at start, and after what pause.
const LANE_TRIES: u32 = 50;
const LANE_PAUSE: Duration = Duration::from_millis(200);

/// What a node of a cluster works with.
#[derive(Clone)]
pub struct ClusterParts {
    /// The quota ledger of the cluster.
    pub ledger: Arc<dyn QuotaLedger>,
    /// The nodes' lanes.
    pub lanes: Arc<dyn Lanes>,
    /// Flow's memory of wins.
    pub histories: Arc<dyn Histories>,
    /// A cache of it.
    pub cache: Arc<dyn HistoryCache>,
    /// The lottery nodes that may serve.
    pub members: Arc<dyn Members>,
    /// Time.
    pub clock: SharedClock,
}

/// Why a node does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The log can't be read or written.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The log can't be written.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// The ledger did not answer.
    #[error(transparent)]
    Ledger(#[from] StoreError),
    /// The ledger refused an epoch.
    #[error(transparent)]
    Epoch(#[from] EpochError),
    /// The lane did not answer, or is damaged.
    #[error(transparent)]
    Lane(#[from] LaneError),
    /// The last epoch could not be brought to its end.
    #[error(transparent)]
    Bury(#[from] BuryError),
    /// Another process serves under this node's number.
    #[error(
        "node {node} serves elsewhere: its epoch {epoch} is not in this node's log and was seen {ago_ms} ms ago; give this machine another node number, or stop the other process"
    )]
    InUse {
        /// The node.
        node: u16,
        /// Its epoch there.
        epoch: u32,
        /// When it was last seen.
        ago_ms: u64,
    },
    /// The log is that of long ago.
    #[error(
        "the log in {} ends at group {end}, and the lane of node {node} at group {lane}: this is an old copy; move the folder away, and the node begins with an empty one", .dir.display()
    )]
    Behind {
        /// The log's folder.
        dir: PathBuf,
        /// Its end.
        end: u64,
        /// The node.
        node: u16,
        /// The lane's end.
        lane: u64,
    },
    /// The folder.
    #[error("{path}: {error}")]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        error: std::io::Error,
    },
}

/// What a start found and did.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Started {
    /// The epoch that begins.
    pub epoch: u32,
    /// The position of its first group.
    pub first: u64,
    /// Groups of the last epoch that were shipped now.
    pub shipped: u64,
    /// This start ended the last epoch; otherwise there was none, or it had ended.
    pub ended: bool,
    /// Leases that were settled.
    pub settled: u64,
    /// Nothing was on the disk.
    pub fresh: bool,
}

/// Recovers and starts a node; [`ClusterNode::run`] must follow at once. `on_fatal` is called when its log has failed: the
/// process must end.
///
/// # Errors
/// See [`StartError`]. After an error of ledger or lane the same again may succeed.
pub async fn start(
    config: NodeConfig,
    parts: ClusterParts,
    on_fatal: impl FnOnce(String) + Send + 'static,
) -> Result<(Arc<ClusterNode>, Started), StartError> {
    let origin = Origin {
        node: config.node,
        dir: config.dir.join("log"),
        options: config.log.clone().unwrap_or_else(|| LogOptions::new(LogKind::FLOW, config.node.0)),
        disk: RealDisk,
        ledger: Arc::clone(&parts.ledger),
        lanes: Arc::clone(&parts.lanes),
        clock: parts.clock.clone(),
        pause: Arc::new(|length| Box::pin(tokio::time::sleep(length))),
    };
    let (writer, started) = recover(origin).await?;
    let (epoch, first) = (NodeEpoch(started.epoch), started.first);

    let session = Arc::new(Session::default());
    let waiting = Waiting::new(Position(first), Arc::clone(&session), parts.clock.clone());
    let hooks =
        Hooks { on_durable: None, on_fatal: Some(Box::new(move |error| on_fatal(error.to_string()))) };
    let log = FlowLog::start(writer, RealDisk, Arc::new(parts.clock.clone()), hooks)?;
    let journal = Arc::new(Journal::new(log, Arc::clone(&waiting)));
    let core = Core::new(
        CoreConfig {
            node: config.node,
            epoch,
            shards: config.shards,
            users_max: config.users_max,
            mac_keys: config.mac_keys.clone(),
            seed_keys: config.seed_keys.clone(),
        },
        journal.clone(),
    );
    let node = ClusterNode::new(config, epoch, first, Arc::new(core), journal, waiting, session, parts);
    Ok((Arc::new(node), started))
}

/// Lets time pass.
pub type Pause = Arc<dyn Fn(Duration) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync>;

/// What a start begins from: the node's disk and the cluster around it. Any disk: the simulation starts nodes by the same
/// code.
pub struct Origin<D: Disk> {
    /// The node's number.
    pub node: NodeId,
    /// The log's folder.
    pub dir: PathBuf,
    /// Sizes of the log.
    pub options: LogOptions,
    /// The disk.
    pub disk: D,
    /// The quota ledger of the cluster.
    pub ledger: Arc<dyn QuotaLedger>,
    /// The nodes' lanes.
    pub lanes: Arc<dyn Lanes>,
    /// Time.
    pub clock: SharedClock,
    /// How to wait.
    pub pause: Pause,
}

/// Brings whatever the last process left to an end, and begins a new epoch in ledger and log. The log, whose end is behind
/// the new epoch's first group, and what was done.
///
/// # Errors
/// See [`StartError`]. After an error of ledger or lane the same again may succeed.
pub async fn recover<D: Disk>(origin: Origin<D>) -> Result<(LogWriter<D>, Started), StartError> {
    let mut starting = Starting::open(origin).await?;
    starting.end_last().await?;
    starting.begin().await
}

/// A start under way.
struct Starting<D: Disk> {
    from: Origin<D>,
    lane: LaneState,
    /// The node's newest epoch in the ledger.
    last: Option<NodeRow>,
    /// The log, unless the folder is empty.
    log: Option<(LogWriter<D>, Recovery)>,
    started: Started,
}

impl<D: Disk> Starting<D> {
    async fn open(from: Origin<D>) -> Result<Starting<D>, StartError> {
        let folder = |error| StartError::Folder { path: from.dir.clone(), error };
        from.disk.create_dir_all(&from.dir).map_err(folder)?;
        let last = newest(&*from.ledger, from.node).await?;
        let lane = end_of(&from).await?;
        let fresh = !has_segments(&from.disk, &from.dir).map_err(folder)?;
        let log = if fresh {
            None
        } else {
            // Positions of the lane are those of the log as long as nobody has ended the epoch, be it between these two looks:
            // a mark of others takes a position that the log does not have.
            let unmarked = |row: &NodeRow| row.epoch == lane.epoch && lane.ended_up_to < row.epoch;
            let same = last.as_ref().is_some_and(|row| row.is_open() && unmarked(row));
            let known = same.then_some(lane.next);
            Some(LogWriter::open(from.disk.clone(), &from.dir, from.options.clone(), known, None)?)
        };
        fault::point("start.after_recovery");
        let started = Started { fresh, ..Started::default() };
        Ok(Starting { from, lane, last, log, started })
    }

    /// Brings the last epoch to its end, if that has not been done.
    async fn end_last(&mut self) -> Result<(), StartError> {
        let Some(row) = self.last.clone() else { return Ok(()) };
        if row.is_open() {
            let own = self.log.as_ref().is_some_and(|(_, report)| report.last_epoch == Some(row.epoch));
            if own {
                self.ship_rest(&row).await?;
            } else {
                self.wait_until_dead(&row).await?;
            }
            let ended =
                self.from.ledger.end_epoch(self.from.node, NodeEpoch(row.epoch), EndReason::BySelf).await?;
            fault::point("start.after_end_epoch");
            self.started.ended |= ended;
        }
        let row = newest(&*self.from.ledger, self.from.node).await?.unwrap_or(row);
        let done = bury(&*self.from.ledger, &*self.from.lanes, &row, EndReason::BySelf).await?;
        self.started.settled = done.settled;
        self.lane = end_of(&self.from).await?;
        Ok(())
    }

    /// Ships what the lane does not have of the open last epoch. Its session is kept alive meanwhile; when others end the
    /// epoch all the same, the rest is nothing.
    async fn ship_rest(&mut self, row: &NodeRow) -> Result<(), StartError> {
        let Some((writer, report)) = &self.log else { return Ok(()) };
        let from = self.lane.next.max(report.first);
        let mut reader = LogReader::new(self.from.disk.clone(), &self.from.dir, &self.from.options, from);
        let end = writer.end();
        let alive = Tick { node: self.from.node, epoch: NodeEpoch(row.epoch), ..Tick::default() };
        loop {
            let batch = reader.read_batch(end, SHIP_BYTES)?;
            if batch.is_empty() {
                return Ok(());
            }
            match self.from.ledger.tick(&alive).await {
                Err(TickError::Session(_)) => return Ok(()),
                Err(error) => tracing::warn!(%error, "the ledger did not answer while the log was shipped"),
                Ok(_) => {}
            }
            let own = batch.groups().filter(|group| group.epoch() == row.epoch);
            let groups: Vec<Bytes> = own.map(|group| Bytes::copy_from_slice(group.bytes())).collect();
            if groups.is_empty() {
                continue;
            }
            self.started.shipped += groups.len() as u64;
            let lanes = &*self.from.lanes;
            repeat(&self.from.pause, || lanes.ship(self.from.node.0, groups.clone())).await?;
            fault::point("start.after_ship");
        }
    }

    /// An open epoch that is not in this log is ended when its session is dead, and not before: it may be another's.
    async fn wait_until_dead(&self, row: &NodeRow) -> Result<(), StartError> {
        let (node, epoch) = (self.from.node, NodeEpoch(row.epoch));
        let mut seen = false;
        loop {
            match self.from.ledger.end_epoch(node, epoch, EndReason::Expired).await {
                Ok(_) => return Ok(()),
                Err(EpochError::End(EndError::StillSeen { ago_ms, .. })) if seen => {
                    return Err(StartError::InUse { node: node.0, epoch: epoch.0, ago_ms });
                }
                Err(EpochError::End(EndError::StillSeen { ago_ms, .. })) => {
                    tracing::info!(%epoch, ago_ms, "an epoch of this node is open that is not in its log; waiting for its end");
                    seen = true;
                    let left = SESSION_DEAD_MS.saturating_sub(ago_ms) + 100;
                    (self.from.pause)(Duration::from_millis(left)).await;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Begins a new epoch in ledger and log.
    async fn begin(mut self) -> Result<(LogWriter<D>, Started), StartError> {
        let now_ms = || self.from.clock.now_ms();
        let Origin { dir, options, disk, .. } = &self.from;
        let (mut writer, report) = match self.log.take() {
            Some(log) => log,
            None => {
                seed(disk, dir, options, &self.lane)
                    .map_err(|error| StartError::Folder { path: dir.clone(), error })?;
                LogWriter::open(disk.clone(), dir, options.clone(), None, None)?
            }
        };
        let last_in_log = report.last_epoch.unwrap_or(0);
        let behind = self.lane.next.0.saturating_sub(writer.end().0);
        if behind > FILL_MAX {
            let (dir, end) = (dir.clone(), writer.end().0);
            return Err(StartError::Behind { dir, end, node: self.from.node.0, lane: self.lane.next.0 });
        }
        if behind > 0 {
            // Marks of others took these positions in the lane.
            let mark = Ended { node: self.from.node, epoch: NodeEpoch(last_in_log) }.encode();
            writer.begin_epoch(last_in_log)?;
            for _ in 0..behind {
                writer.append_group(&[&mark], now_ms(), Class::Ending)?;
                writer.sync()?;
            }
        }
        let above = last_in_log.max(self.lane.epoch).max(self.lane.ended_up_to);
        let epoch = self.from.ledger.begin_epoch(self.from.node, NodeEpoch(above)).await?;
        fault::point("start.after_begin_epoch");
        writer.begin_epoch(epoch.0)?;
        let began = EpochBegan { node: self.from.node, epoch, time_ms: now_ms() };
        let first = writer.append_group(&[began.encode()], now_ms(), Class::Ending)?;
        writer.sync()?;
        fault::point("start.after_epoch_began");
        (self.started.epoch, self.started.first) = (epoch.0, first.0);
        Ok((writer, self.started))
    }
}

async fn end_of<D: Disk>(from: &Origin<D>) -> Result<LaneState, LaneError> {
    repeat(&from.pause, || from.lanes.end(from.node.0)).await
}

/// Repeats a call to the lane for a while.
async fn repeat<T, F: Future<Output = Result<T, LaneError>>>(
    pause: &Pause,
    mut call: impl FnMut() -> F,
) -> Result<T, LaneError> {
    let mut tries = 0;
    loop {
        match call().await {
            Err(error) if error.is_retryable() && tries < LANE_TRIES => {
                tries += 1;
                tracing::warn!(%error, tries, "the lane did not answer at start");
                pause(LANE_PAUSE).await;
            }
            other => return other,
        }
    }
}

fn has_segments(disk: &impl Disk, dir: &Path) -> io::Result<bool> {
    Ok(disk.list(dir)?.iter().any(|name| name.ends_with(".seg")))
}

/// Makes the log of an empty folder begin where the lane ends: an empty segment of the epoch that ended last.
fn seed(disk: &impl Disk, dir: &Path, options: &LogOptions, lane: &LaneState) -> io::Result<()> {
    if lane.next == Position::ZERO {
        return Ok(());
    }
    let epoch = lane.epoch.max(lane.ended_up_to);
    let header = SegmentHeader {
        kind: options.kind.0,
        node: options.node,
        epoch,
        first: lane.next,
        first_epoch_seq: 0,
        prev_hash: epoch_genesis(options.node, epoch),
    };
    // Recovery removes it if the process ends before it has its name.
    let (unfinished, name) = (dir.join("new.tmp"), dir.join(format!("{:020}.seg", lane.next.0)));
    let file = disk.create(&unfinished)?;
    file.write_at(&header.encode(), 0)?;
    file.sync_data()?;
    disk.rename(&unfinished, &name)?;
    disk.sync_dir(dir)
}
