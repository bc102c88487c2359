//! The thread that applies what is durable: answers, pushes, and everything that time brings.
//!
//! It holds the desk's lock for some hundred microseconds at a time, and is the only one that pushes, so pushes of a
//! connection leave in the order of its cursors.

use super::ChatNode;
use super::desk::{Desk, Pending, Then};
use crate::core::{Logged, Misfit, Pushing, stored};
use flowlog::{Class, Disk};
use parking_lot::{Condvar, Mutex};
use protocol::calls::{Inbox, SendReply};
use protocol::v1::{MessageKind, SendAnswer, SendOutcome};
use runtime::Shutdown;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::oneshot;

/// Records applied under one hold of the lock, at most.
const SLICE_RECORDS: usize = 256;
/// Targets made under one hold of the lock, about.
const SLICE_TARGETS: usize = 4_096;
/// When an answer that could not be given may be asked for again, in ms.
const PENDING_RETRY_MS: u32 = 1_000;

/// Time between two pieces of an errand, when nothing else is to be done: whoever waits for the lock has it in between.
const BETWEEN_PIECES: Duration = Duration::from_millis(1);

/// Wakes the thread.
#[derive(Default)]
pub(super) struct Signal {
    durable: Mutex<(u64, bool)>,
    moved: Condvar,
}

impl Signal {
    /// The log is durable up to here.
    pub fn durable(&self, end: u64) {
        self.durable.lock().0 = end;
        self.moved.notify_one();
    }

    /// Something is to be looked at.
    pub fn wake(&self) {
        self.durable.lock().1 = true;
        self.moved.notify_one();
    }

    /// The durable end; waits until it is above `seen`, somebody wakes, or the time is over.
    fn wait(&self, seen: u64, at_most: Duration) -> u64 {
        let mut state = self.durable.lock();
        if state.0 <= seen && !state.1 {
            self.moved.wait_for(&mut state, at_most);
        }
        state.1 = false;
        state.0
    }
}

/// What came of applying some records.
#[derive(Default)]
struct Applied {
    replies: Vec<(Arc<Inbox<SendReply>>, SendReply)>,
    waiters: Vec<oneshot::Sender<()>>,
    messages: u64,
    settled: bool,
    more: bool,
}

impl<D: Disk> ChatNode<D> {
    /// The thread's loop; returns when everything is applied after a shutdown.
    pub(super) fn apply_all(self: &Arc<Self>, shutdown: &Shutdown) -> anyhow::Result<()> {
        let tick = Duration::from_millis(self.options.tick_ms);
        let mut next_tick_ms = 0;
        let mut out = Pushing::default();
        let mut seen = 0;
        let mut errand = false;
        while !shutdown.is_requested() {
            runtime::spare::rest();
            seen = self.signal.wait(seen, if errand { BETWEEN_PIECES } else { tick });
            let mut piece = true;
            loop {
                let now_ms = self.clock.now_ms();
                let mut applied = {
                    let mut desk = self.desk.lock();
                    if now_ms >= next_tick_ms || next_tick_ms > now_ms + 2 * self.options.tick_ms {
                        next_tick_ms = now_ms + self.options.tick_ms;
                        self.time_passed(&mut desk, now_ms, &mut out);
                    }
                    let applied = self.apply_slice(&mut desk, seen, now_ms, &mut out)?;
                    if std::mem::take(&mut piece) {
                        errand = desk.run_errand(now_ms);
                    }
                    applied
                };
                self.deliver(&mut applied, &mut out);
                if !applied.more {
                    break;
                }
            }
        }
        self.finish(&mut out)
    }

    /// What time brings.
    fn time_passed(&self, desk: &mut Desk, now_ms: u64, out: &mut Pushing) {
        desk.state.tick(now_ms, out);
        // Confirmed cursors that can't be written are confirmed again, or entries are given again.
        let facts = desk.state.unlogged_confirms(now_ms);
        if !facts.is_empty()
            && let Err(error) = self.write(desk, facts, Then::Nobody, Class::Normal, now_ms)
        {
            tracing::debug!(%error, "confirmed cursors are not written this time");
        }
        if let Some(reserve) = desk.state.wanted_ids(now_ms)
            // From the reserve of a full disk, so that senders hear of the disk and not of ids.
            && let Err(error) = self.write(desk, vec![reserve], Then::Nobody, Class::Ending, now_ms)
        {
            tracing::debug!(%error, "no ids are reserved this time");
        }
    }

    /// Applies what is durable below `end`, a bounded part of it.
    fn apply_slice(
        &self,
        desk: &mut Desk,
        end: u64,
        now_ms: u64,
        out: &mut Pushing,
    ) -> Result<Applied, Misfit> {
        let mut applied = Applied::default();
        let mut count = 0;
        while desk.pending.front().is_some_and(|p| p.position < end) {
            if count >= SLICE_RECORDS || out.targets() >= SLICE_TARGETS {
                applied.more = true;
                break;
            }
            let Some(Pending { position, logged, then }) = desk.pending.pop_front() else { break };
            if desk.state.at.position != position {
                desk.state.at.position = position;
                desk.state.at.index = 0;
            }
            desk.state.apply(&logged, now_ms, out)?;
            count += 1;
            if let Logged::Message(message) = &logged {
                applied.messages += 1;
                applied.settled |= i32::from(message.kind) == MessageKind::Change as i32;
            }
            match (then, &logged) {
                (Then::Sender { tag, inbox }, Logged::Message(message)) => {
                    applied.replies.push((inbox, SendReply { tag, answer: stored(message) }));
                }
                (Then::Waiter(waiter), _) => applied.waiters.push(waiter),
                _ => {}
            }
        }
        if applied.settled {
            self.retry_parked(desk, now_ms, &mut applied.replies);
        }
        Ok(applied)
    }

    /// Lets everybody hear. Pushes first: who has an answer too can be written both at once.
    fn deliver(&self, applied: &mut Applied, out: &mut Pushing) {
        flowlog::fault::point("chat.before_answer");
        self.counters.messages.fetch_add(applied.messages, Ordering::Relaxed);
        self.counters.targets.fetch_add(out.targets() as u64, Ordering::Relaxed);
        if out.targets() > 0 {
            for (access, batch) in out.take() {
                let door = self.doors.read().get(&access).cloned();
                if let Some(door) = door {
                    door.push(batch);
                }
            }
        }
        Self::answer(std::mem::take(&mut applied.replies));
        for waiter in applied.waiters.drain(..) {
            // Who asked may have gone.
            let _ = waiter.send(());
        }
        if applied.settled {
            self.tell_waiters(false);
        }
    }

    /// Takes nothing more, applies what was taken, and lets the last checkpoint be made.
    fn finish(&self, out: &mut Pushing) -> anyhow::Result<()> {
        self.desk.lock().stopped = true;
        let closed = self.log.close();
        let end = self.log.durable().0;
        loop {
            let now_ms = self.clock.now_ms();
            let mut applied = self.apply_slice(&mut self.desk.lock(), end, now_ms, out)?;
            self.deliver(&mut applied, out);
            if !applied.more {
                break;
            }
        }
        self.refuse_parked("this node is ending");
        self.abandon();
        self.drained.request();
        self.tell_waiters(true);
        closed?;
        Ok(())
    }

    /// Whoever still waits for the disk hears that it is not known what became of it.
    fn abandon(&self) {
        let pending = std::mem::take(&mut self.desk.lock().pending);
        let mut replies = Vec::new();
        for Pending { logged, then, .. } in pending {
            if let (Then::Sender { tag, inbox }, Logged::Message(message)) = (then, &logged) {
                let answer = SendAnswer {
                    outcome: SendOutcome::Pending as i32,
                    retry_after_ms: PENDING_RETRY_MS,
                    message_id: 0,
                    seq: 0,
                    sent_ms: 0,
                    reason: "not yet known to be safe".to_owned(),
                    ..stored(message)
                };
                replies.push((inbox, SendReply { tag, answer }));
            }
        }
        Self::answer(replies);
    }
}
