//! Starting a node: from whatever the last process left to a new epoch that serves.

use super::journal::{Journal, Waiting};
use super::replay::{BadRecord, Replay};
use super::session::Session;
use super::snapshot::{self, Snapshot, SnapshotError};
use crate::core::{Core, CoreConfig, PlanRefused};
use crate::ledger::{EpochError, LeaseKey, QuotaLedger, SettleError, StoreError};
use crate::node::run::Node;
use campaign::{MacKeys, NodeEpoch, NodeId, SeedKey};
use flowlog::{
    Class, FlowLog, Hooks, LogError, LogKind, LogOptions, LogReader, LogWriter, Position, RealDisk,
    WriteError, fault,
};
use ownership::EndReason;
use records::{Ended, EpochBegan, Record};
use runtime::SharedClock;
use std::path::PathBuf;
use std::sync::Arc;

/// What a node is made of.
#[derive(Clone)]
pub struct NodeConfig {
    /// The node's number.
    pub node: NodeId,
    /// Folder of the node: `log/` and `snapshots/` below it. Locked by the caller.
    pub dir: PathBuf,
    /// Sizes of the log; `None`: the usual ones.
    pub log: Option<LogOptions>,
    /// Shards of users.
    pub shards: usize,
    /// Most users in memory.
    pub users_max: usize,
    /// Bytes of log between snapshots.
    pub snapshot_bytes: u64,
    /// Keys of award MACs.
    pub mac_keys: MacKeys,
    /// Keys of round seeds.
    pub seed_keys: Vec<SeedKey>,
    /// A position of the log that somebody behind it (flow's award store) already knows: everything before it
    /// must be there.
    pub known: Option<u64>,
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
    /// A record of the log is of another version.
    #[error(
        "the flow log holds a record that this version does not know: {0}; start the version that wrote it"
    )]
    Record(#[from] BadRecord),
    /// Snapshots can't be read.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// The ledger did not answer.
    #[error(transparent)]
    Ledger(#[from] StoreError),
    /// The ledger refused an epoch.
    #[error(transparent)]
    Epoch(#[from] EpochError),
    /// The ledger refused to settle a lease.
    #[error(transparent)]
    Settle(#[from] SettleError),
    /// A plan can't be drawn from.
    #[error(transparent)]
    Plan(#[from] PlanRefused),
    /// The folder.
    #[error("{path}: {error}")]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        error: std::io::Error,
    },
}

/// What a start found.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Recovered {
    /// The epoch that begins.
    pub epoch: u32,
    /// First group that the log keeps.
    pub first: u64,
    /// Records of the log that were read.
    pub records: u64,
    /// Wins in the snapshot that was used.
    pub snapshot_wins: u64,
    /// Leases of ended epochs that were settled.
    pub settled: usize,
}

/// Recovers and starts a node. `on_fatal` is called when its log has failed: the process must end.
pub async fn start(
    config: NodeConfig,
    ledger: Arc<dyn QuotaLedger>,
    clock: SharedClock,
    on_fatal: impl FnOnce(String) + Send + 'static,
) -> Result<(Arc<Node>, Recovered), StartError> {
    let (log_dir, snapshot_dir) = (config.dir.join("log"), config.dir.join("snapshots"));
    for dir in [&log_dir, &snapshot_dir] {
        std::fs::create_dir_all(dir).map_err(|error| StartError::Folder { path: dir.clone(), error })?;
    }
    let options = config.log.clone().unwrap_or_else(|| LogOptions::new(LogKind::FLOW, config.node.0));
    let epochs = ledger.epochs(config.node).await?;
    let snapshot = snapshot::newest(&snapshot_dir)?;
    let known = epochs
        .iter()
        .flat_map(|e| [Some(e.low_water), e.end_position])
        .flatten()
        .chain(config.known)
        .chain(snapshot.as_ref().map(|s| s.header.to))
        .max();
    let (mut writer, report) =
        LogWriter::open(RealDisk, &log_dir, options.clone(), known.map(Position), None)?;
    fault::point("start.after_recovery");
    let low_water = epochs.iter().map(|e| e.low_water).max().unwrap_or(0);
    let mut replay = read_log(&log_dir, &options, low_water, snapshot.as_ref(), report.end)?;

    if let Some(last) = epochs.last() {
        let (node, epoch) = (config.node, NodeEpoch(last.epoch));
        ledger.end_epoch(node, epoch, EndReason::BySelf).await?;
        fault::point("start.after_end_epoch");
        let mark = match replay.ended(last.epoch) {
            Some(position) => Position(position),
            None => write_mark(&mut writer, node, epoch, &clock)?,
        };
        fault::point("start.after_mark");
        ledger.record_end_position(node, epoch, mark.next().0).await?;
        fault::point("start.after_end_position");
    }
    let open = ledger.open_leases(config.node).await?;
    for lease in &open {
        let LeaseKey { epoch, lease: id, .. } = lease.key;
        let settled = ledger.settle(lease.key, &replay.used(epoch.0, id)).await?;
        fault::point("start.after_settle");
        tracing::info!(%epoch, lease = %id, returned = settled.returned.len(), "settled a lease of an ended epoch");
    }
    let above = NodeEpoch(report.last_epoch.unwrap_or(0));
    let epoch = ledger.begin_epoch(config.node, above).await?;
    fault::point("start.after_begin_epoch");
    writer.begin_epoch(epoch.0)?;
    let began = EpochBegan { node: config.node, epoch, time_ms: clock.now_ms() };
    writer.append_group(&[began.encode()], clock.now_ms(), Class::Ending)?;
    let end = writer.sync()?;
    fault::point("start.after_epoch_began");

    let recovered = Recovered {
        epoch: epoch.0,
        first: report.first.0,
        records: replay.records,
        snapshot_wins: snapshot.as_ref().map_or(0, |s| s.header.wins),
        settled: open.len(),
    };
    let session = Arc::new(Session::default());
    let waiting = Waiting::new(end, Arc::clone(&session), clock.clone());
    let told = Arc::clone(&waiting);
    let hooks = Hooks {
        on_durable: Some(Box::new(move |end| told.acknowledge(end))),
        on_fatal: Some(Box::new(move |error| on_fatal(error.to_string()))),
    };
    let log = FlowLog::start(writer, RealDisk, Arc::new(clock.clone()), hooks)?;
    let journal = Arc::new(Journal::new(log, waiting));
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
    let tail = std::mem::take(&mut replay.wins);
    let node = Node::new(config, epoch, core, journal, session, ledger, clock, snapshot, tail, snapshot_dir);
    Ok((Arc::new(node), recovered))
}

/// Reads the log from where the snapshot or an open lease needs it.
fn read_log(
    dir: &std::path::Path,
    options: &LogOptions,
    low_water: u64,
    snapshot: Option<&Snapshot>,
    end: Position,
) -> Result<Replay, StartError> {
    let wins_from = snapshot.map_or(0, |s| s.header.from);
    let mut reader = LogReader::new(RealDisk, dir, options, Position(wins_from.min(low_water)));
    let mut replay = Replay::new();
    while let Some(group) = reader.next_group(end)? {
        let keep = group.position().0 >= wins_from;
        replay.group(group.node(), group.epoch(), group.position().0, group.records(), keep)?;
    }
    Ok(replay)
}

/// Writes the end mark of an epoch into the node's own lane.
fn write_mark(
    writer: &mut LogWriter<RealDisk>,
    node: NodeId,
    epoch: NodeEpoch,
    clock: &SharedClock,
) -> Result<Position, StartError> {
    writer.begin_epoch(epoch.0)?;
    let mark = Ended { node, epoch }.encode();
    let position = writer.append_group(&[mark], clock.now_ms(), Class::Ending)?;
    writer.sync()?;
    Ok(position)
}
