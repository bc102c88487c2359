//! Wins on their way into the flow log, and winners on their way to their answer.
//!
//! A win is appended and its reply queued under one lock, so that replies stand in the order of positions; when
//! a position is safe (durable in the log; in a cluster, in the lane too), everything before it is answered, if the node's session still is
//! valid. If it is not, the player hears 'pending': the win stands, and asking again is safe.

use super::session::Session;
use crate::core::{NoWin, Pending, WinLog};
use crate::node::leases::LeaseLog;
use flowlog::{AppendError, Class, FlowLog, Position};
use parking_lot::Mutex;
use protocol::calls::SubmitReply;
use protocol::v1::Outcome;
use records::{LeaseClosed, LeaseGot, Record, Won};
use runtime::SharedClock;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Winners who may wait for the log at once; above it draws lose.
pub const PENDING_MAX: usize = 65_536;

/// Winners waiting for their records to be safe.
pub struct Waiting {
    queue: Mutex<VecDeque<(u64, Pending)>>,
    acknowledged: AtomicU64,
    session: Arc<Session>,
    clock: SharedClock,
    /// Winners hear of it without a look at the session: only ever true in the simulation.
    unchecked: AtomicBool,
}

impl Waiting {
    /// Nobody waits; everything before `end` is acknowledged.
    pub fn new(end: Position, session: Arc<Session>, clock: SharedClock) -> Arc<Waiting> {
        let (acknowledged, unchecked) = (AtomicU64::new(end.0), AtomicBool::new(false));
        Arc::new(Waiting { queue: Mutex::default(), acknowledged, session, clock, unchecked })
    }

    /// Plants a fault that the simulation must find: winners are answered although the session may be over.
    #[cfg(feature = "planted")]
    pub fn plant_no_session_check(&self) {
        self.unchecked.store(true, Ordering::Relaxed);
    }

    /// Lets `append` take a win's record into the log, and its winner wait behind those before him, unless `max` wait
    /// already. The position of the record's group.
    ///
    /// # Errors
    /// When too many wait, or as `append`; nobody waits for it then.
    pub fn append(
        &self,
        max: usize,
        pending: Pending,
        append: impl FnOnce() -> Result<u64, NoWin>,
    ) -> Result<u64, NoWin> {
        let mut queue = self.queue.lock();
        if queue.len() >= max {
            return Err(NoWin::TooManyPending);
        }
        let position = append()?;
        queue.push_back((position, pending));
        Ok(position)
    }

    /// Wins of groups before this position may be told.
    pub fn acknowledged(&self) -> u64 {
        self.acknowledged.load(Ordering::Acquire)
    }

    /// Everything before `end` is safe: answers those who waited for it. Called by the log's thread, or in a cluster by
    /// whoever ships the log.
    pub fn acknowledge(&self, end: Position) {
        flowlog::fault::point("win.before_answer");
        self.acknowledged.store(end.0, Ordering::Release);
        let mut due = {
            let mut queue = self.queue.lock();
            let n = queue.partition_point(|(position, _)| *position < end.0);
            queue.drain(..n).map(|(_, pending)| pending).collect::<VecDeque<_>>()
        };
        let unchecked = self.unchecked.load(Ordering::Relaxed);
        let valid = unchecked || self.session.is_valid(self.clock.mono_ns());
        // A connection's wins come together: one wake-up for each run of them.
        while let Some(first) = due.pop_front() {
            let mut replies = vec![first.reply];
            while due.front().is_some_and(|next| Arc::ptr_eq(&next.inbox, &first.inbox)) {
                replies.extend(due.pop_front().map(|next| next.reply));
            }
            if !valid {
                replies.iter_mut().for_each(not_yet);
            }
            first.inbox.put_all(replies);
        }
        flowlog::fault::point("win.after_answer");
    }

    /// The node ends: whoever still waits hears 'pending'.
    pub fn abandon(&self) {
        for (_, Pending { inbox, mut reply }) in std::mem::take(&mut *self.queue.lock()) {
            not_yet(&mut reply);
            inbox.put(reply);
        }
    }

    /// Winners who wait.
    pub fn len(&self) -> usize {
        self.queue.lock().len()
    }

    /// Nobody waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Turns an answer that may not be given into 'pending, ask again'.
pub fn not_yet(reply: &mut SubmitReply) {
    reply.outcome = Outcome::Pending;
    reply.award = None;
    reply.next_counter = reply.counter;
}

/// The flow log as the core writes to it.
pub struct Journal {
    log: FlowLog,
    waiting: Arc<Waiting>,
}

impl Journal {
    /// A journal on a running log whose `on_durable` hook calls [`Waiting::acknowledge`].
    pub fn new(log: FlowLog, waiting: Arc<Waiting>) -> Journal {
        Journal { log, waiting }
    }

    /// The log.
    pub fn log(&self) -> &FlowLog {
        &self.log
    }

    /// Winners who wait.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    fn append_ending(&self, record: &[u8]) -> Option<u64> {
        match self.log.append(record, Class::Ending) {
            Ok(position) => Some(position.0),
            Err(AppendError::Busy) => None,
            Err(error) => {
                tracing::error!(%error, "the flow log does not take a lease's record; the lease waits");
                None
            }
        }
    }
}

impl WinLog for Journal {
    fn append(&self, won: &Won, pending: Pending) -> Result<u64, NoWin> {
        let mut record = Vec::with_capacity(records::WON_LEN);
        won.encode_into(&mut record);
        let position = self.waiting.append(PENDING_MAX, pending, || {
            let appended = self.log.append(&record, Class::Normal);
            appended.map(|position| position.0).map_err(|error| match error {
                AppendError::Busy => NoWin::TooManyPending,
                AppendError::Full { .. } => NoWin::Full,
                _ => NoWin::Gone,
            })
        })?;
        flowlog::fault::point("win.after_append");
        Ok(position)
    }

    fn acknowledged(&self) -> u64 {
        self.waiting.acknowledged()
    }
}

impl LeaseLog for &Journal {
    fn got(&mut self, record: &LeaseGot) -> Option<u64> {
        let at = self.append_ending(&record.encode());
        flowlog::fault::point("lease.got_appended");
        at
    }

    fn closed(&mut self, record: &LeaseClosed) -> Option<u64> {
        let at = self.append_ending(&record.encode());
        flowlog::fault::point("lease.closed_appended");
        at
    }
}
