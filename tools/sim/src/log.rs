//! The node's flow log with its group commit taken apart: append, write, sync and answer are steps of their own, and
//! the process can die between any two of them.

use campaign::{NodeEpoch, NodeId};
use flowlog::{Class, LogKind, LogOptions, LogWriter, Position, WriteError};
use lottery::core::{NoWin, Pending, WinLog};
use lottery::node::journal::Waiting;
use lottery::node::leases::LeaseLog;
use lottery::node::session::Session;
use parking_lot::Mutex;
use records::{LeaseClosed, LeaseGot, Record, Won};
use runtime::SharedClock;
use std::path::Path;
use std::sync::Arc;
use testkit::SimDisk;

/// Where the log stands on the simulated disk.
pub(crate) const LOG_DIR: &str = "/node/log";

/// Winners who may wait at once: small, so that the bound is met.
const PENDING_MAX: usize = 64;

/// Small segments, so that the log rolls over.
pub(crate) fn log_options(node: NodeId) -> LogOptions {
    LogOptions {
        segment_bytes: 16 << 10,
        preallocate_bytes: 8 << 10,
        reserve_bytes: 4 << 10,
        group_bytes_max: 256 << 10,
        ..LogOptions::small(LogKind::FLOW, node.0)
    }
}

/// The folder as a path.
pub(crate) fn log_dir() -> &'static Path {
    Path::new(LOG_DIR)
}

/// A running node's log.
pub(crate) struct SimLog {
    state: Mutex<State>,
    waiting: Arc<Waiting>,
    clock: SharedClock,
    /// Winners hear of it when the lane has their records, not when the disk has.
    shipped: bool,
}

struct State {
    writer: LogWriter<SimDisk>,
    epoch: NodeEpoch,
    /// Records of the next group.
    collecting: Vec<Vec<u8>>,
}

/// What the log has to do next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Todo {
    Nothing,
    Write,
    Sync,
    Answer,
}

impl SimLog {
    /// A log that is its own lane.
    pub fn new(
        writer: LogWriter<SimDisk>,
        epoch: NodeEpoch,
        session: Arc<Session>,
        clock: SharedClock,
    ) -> SimLog {
        let end = writer.durable();
        SimLog::with(writer, epoch, Waiting::new(end, session, clock.clone()), clock, false)
    }

    /// A log that is shipped into a lane, from `from` on.
    pub fn shipped(
        writer: LogWriter<SimDisk>,
        epoch: NodeEpoch,
        session: Arc<Session>,
        clock: SharedClock,
        from: u64,
    ) -> SimLog {
        SimLog::with(writer, epoch, Waiting::new(Position(from), session, clock.clone()), clock, true)
    }

    fn with(
        writer: LogWriter<SimDisk>,
        epoch: NodeEpoch,
        waiting: Arc<Waiting>,
        clock: SharedClock,
        shipped: bool,
    ) -> SimLog {
        let state = State { writer, epoch, collecting: Vec::new() };
        SimLog { state: Mutex::new(state), waiting, clock, shipped }
    }

    /// Winners hear of their wins without a look at the session.
    #[cfg(feature = "planted")]
    pub fn plant_no_session_check(&self) {
        self.waiting.plant_no_session_check();
    }

    pub fn epoch(&self) -> NodeEpoch {
        self.state.lock().epoch
    }

    /// The end of what is on the disk.
    pub fn durable(&self) -> u64 {
        self.state.lock().writer.durable().0
    }

    pub fn todo(&self) -> Todo {
        let state = self.state.lock();
        if !self.shipped && self.waiting.acknowledged() < state.writer.durable().0 {
            Todo::Answer
        } else if state.writer.durable() < state.writer.end() {
            Todo::Sync
        } else if state.collecting.is_empty() {
            Todo::Nothing
        } else {
            Todo::Write
        }
    }

    /// Writes what was collected as one group; its records.
    pub fn write(&self) -> Result<usize, WriteError> {
        let mut state = self.state.lock();
        let records = std::mem::take(&mut state.collecting);
        state.writer.append_group(&records, self.clock.now_ms(), Class::Ending)?;
        Ok(records.len())
    }

    pub fn sync(&self) -> Result<Position, WriteError> {
        self.state.lock().writer.sync()
    }

    /// Everything below `end` is safe: answers the winners who waited for it; how many.
    pub fn acknowledge(&self, end: u64) -> usize {
        let waited = self.waiting.len();
        self.waiting.acknowledge(Position(end));
        waited - self.waiting.len()
    }

    fn append_ending(&self, record: Vec<u8>) -> u64 {
        let mut state = self.state.lock();
        state.collecting.push(record);
        state.writer.end().0
    }
}

impl WinLog for SimLog {
    fn append(&self, won: &Won, pending: Pending) -> Result<u64, NoWin> {
        self.waiting.append(PENDING_MAX, pending, || {
            let mut state = self.state.lock();
            state.collecting.push(won.encode());
            // The group under way, if there is one, has its position already: this is the next one's.
            Ok(state.writer.end().0)
        })
    }

    fn acknowledged(&self) -> u64 {
        self.waiting.acknowledged()
    }
}

impl LeaseLog for &SimLog {
    fn got(&mut self, record: &LeaseGot) -> Option<u64> {
        Some(self.append_ending(record.encode()))
    }

    fn closed(&mut self, record: &LeaseClosed) -> Option<u64> {
        Some(self.append_ending(record.encode()))
    }
}
