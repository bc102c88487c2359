//! The node's flow log with its group commit taken apart: append, write, sync and answer are steps of their own, and
//! the process can die between any two of them.

use campaign::{NodeEpoch, NodeId};
use flowlog::{Class, LogKind, LogOptions, LogWriter, Position, WriteError};
use lottery::core::{NoWin, Pending, WinLog};
use lottery::node::leases::LeaseLog;
use lottery::node::session::Session;
use parking_lot::Mutex;
use protocol::calls::SubmitReply;
use protocol::v1::Outcome;
use records::{LeaseClosed, LeaseGot, Record, Won};
use runtime::SharedClock;
use std::collections::VecDeque;
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
    session: Arc<Session>,
    clock: SharedClock,
}

struct State {
    writer: LogWriter<SimDisk>,
    epoch: NodeEpoch,
    /// Records of the next group.
    collecting: Vec<Vec<u8>>,
    waiting: VecDeque<(u64, Pending)>,
    acknowledged: u64,
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
    pub fn new(
        writer: LogWriter<SimDisk>,
        epoch: NodeEpoch,
        session: Arc<Session>,
        clock: SharedClock,
    ) -> SimLog {
        let acknowledged = writer.durable().0;
        let state = State { writer, epoch, collecting: Vec::new(), waiting: VecDeque::new(), acknowledged };
        SimLog { state: Mutex::new(state), session, clock }
    }

    pub fn epoch(&self) -> NodeEpoch {
        self.state.lock().epoch
    }

    pub fn todo(&self) -> Todo {
        let state = self.state.lock();
        if state.acknowledged < state.writer.durable().0 {
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

    /// Answers the winners whose records are durable, as the node's journal does; how many.
    pub fn answer(&self) -> usize {
        let mut state = self.state.lock();
        let end = state.writer.durable().0;
        state.acknowledged = end;
        let due = state.waiting.partition_point(|(position, _)| *position < end);
        let is_valid = self.session.is_valid(self.clock.mono_ns());
        for (_, mut pending) in state.waiting.drain(..due) {
            if !is_valid {
                not_yet(&mut pending.reply);
            }
            pending.inbox.put(pending.reply);
        }
        due
    }

    fn append_ending(&self, record: Vec<u8>) -> u64 {
        let mut state = self.state.lock();
        state.collecting.push(record);
        state.writer.end().0
    }
}

fn not_yet(reply: &mut SubmitReply) {
    reply.outcome = Outcome::Pending;
    reply.award = None;
    reply.next_counter = reply.counter;
}

impl WinLog for SimLog {
    fn append(&self, won: &Won, pending: Pending) -> Result<u64, NoWin> {
        let mut state = self.state.lock();
        if state.waiting.len() >= PENDING_MAX {
            return Err(NoWin::TooManyPending);
        }
        // The group under way, if there is one, has its position already: this is the next one's.
        let position = state.writer.end().0;
        state.collecting.push(won.encode());
        state.waiting.push_back((position, pending));
        Ok(position)
    }

    fn acknowledged(&self) -> u64 {
        self.state.lock().acknowledged
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
