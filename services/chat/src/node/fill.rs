//! Fills the store behind the log, one checkpoint after the other.
//!
//! A checkpoint that the store does not take is offered again until it does; meanwhile nothing of it leaves memory, and
//! sends are refused when too much has gathered. The log keeps what no checkpoint has.
//!
//! The work is done by threads that run when no other wants the processor: one that is merely niced keeps a processor for
//! milliseconds while everybody waits. When nothing is left for them for too long, sends are refused until they have caught
//! up. The desk's lock is never held meanwhile, for whoever waits for the processor would make everybody wait: what must be
//! done under the lock is left to the applying thread, piece by piece.

use super::ChatNode;
use super::desk::Desk;
use crate::core::Checkpoint;
use flowlog::{Disk, Position};
use records::ChatMessage;
use runtime::Shutdown;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::oneshot;

/// How often it is looked whether a checkpoint is due.
const LOOK: Duration = Duration::from_millis(50);
/// Pause between two pieces of work that nobody waits for.
const PAUSE: Duration = Duration::from_millis(1);
/// Tries at the last checkpoint, when the node ends; the log has everything anyway.
const LAST_TRIES: usize = 3;
/// Users and conversations that are gone through under one hold of the lock.
const SLICE: usize = 64;

/// Messages that are freed in one go: each takes memory back to the thread that had it.
const FREED: usize = 1_024;

/// Frees messages, piece by piece.
async fn free(mut messages: Vec<Arc<ChatMessage>>) {
    while !messages.is_empty() {
        messages.truncate(messages.len().saturating_sub(FREED));
        tokio::time::sleep(PAUSE).await;
    }
}

/// What the applying thread is to do for a checkpoint under the desk's lock.
#[derive(Default)]
pub(super) enum Errand {
    /// Nothing.
    #[default]
    None,
    /// Take out what has changed by now.
    TakeOut(oneshot::Sender<Checkpoint>),
    /// It is in the store: let go of what need not be in memory any more, from this place on. The messages go back to who
    /// asked, and are freed by him.
    Stored(Arc<Checkpoint>, usize, Vec<Arc<ChatMessage>>, oneshot::Sender<Vec<Arc<ChatMessage>>>),
}

impl Desk {
    /// Does a piece of the errand; true if there is more of it.
    pub fn run_errand(&mut self, now_ms: u64) -> bool {
        match std::mem::take(&mut self.errand) {
            Errand::None => false,
            // Who asked may have gone: then the node is ending, and the log has everything.
            Errand::TakeOut(asked) => {
                self.state.begin_checkpoint();
                match self.state.take_out(SLICE) {
                    Some(checkpoint) => {
                        drop(asked.send(checkpoint));
                        false
                    }
                    None => {
                        self.errand = Errand::TakeOut(asked);
                        true
                    }
                }
            }
            Errand::Stored(checkpoint, from, mut gone, asked) => {
                match self.state.stored(&checkpoint, (from, SLICE), now_ms, &mut gone) {
                    Some(next) => {
                        self.errand = Errand::Stored(checkpoint, next, gone, asked);
                        true
                    }
                    None => {
                        drop(asked.send(gone));
                        false
                    }
                }
            }
        }
    }
}

impl<D: Disk> ChatNode<D> {
    /// The thread: fills until the node has drained, and makes a last checkpoint then.
    pub(super) fn fill_thread(self: Arc<Self>) -> anyhow::Result<()> {
        // Without it others are held up a little; nothing else changes.
        runtime::Priority::Idle.set();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .on_thread_park(runtime::spare::rest)
            .build()?;
        runtime.block_on(self.fill_all());
        Ok(())
    }

    async fn fill_all(&self) {
        let mut last_ms = self.clock.now_ms();
        loop {
            tokio::select! {
                () = tokio::time::sleep(LOOK) => {}
                () = self.drained.wait() => break,
            }
            let now_ms = self.clock.now_ms();
            if self.is_due(last_ms, now_ms) {
                last_ms = now_ms;
                let Some(checkpoint) = self.errand(Errand::TakeOut).await else { break };
                if !self.bring(Arc::new(checkpoint), &self.drained, usize::MAX).await {
                    return;
                }
            }
        }
        self.fill_last().await;
    }

    /// The last checkpoints: the one that was being taken out, and one of what has changed since. Nobody applies any more, so
    /// nobody waits for the lock.
    async fn fill_last(&self) {
        let take_out = || self.desk.lock().state.take_out(usize::MAX);
        if let Some(begun) = take_out()
            && !self.bring(Arc::new(begun), &Shutdown::new(), LAST_TRIES).await
        {
            // The next must not be in the store without it.
            return;
        }
        self.desk.lock().state.begin_checkpoint();
        if let Some(last) = take_out() {
            self.bring(Arc::new(last), &Shutdown::new(), LAST_TRIES).await;
        }
    }

    /// Whether there is enough for a checkpoint.
    fn is_due(&self, last_ms: u64, now_ms: u64) -> bool {
        let options = &self.options;
        let (changes, bytes) = {
            let desk = self.desk.lock();
            (desk.state.changes(), desk.state.unstored_bytes)
        };
        let waited = now_ms.saturating_sub(last_ms) >= options.checkpoint_ms || now_ms < last_ms;
        (changes > 0 && waited) || changes >= options.checkpoint_changes || bytes >= options.checkpoint_bytes
    }

    /// Has something done by the applying thread. Nothing: it has ended.
    async fn errand<T>(&self, what: impl FnOnce(oneshot::Sender<T>) -> Errand) -> Option<T> {
        let (asked, mut answer) = oneshot::channel();
        self.desk.lock().errand = what(asked);
        self.signal.wake();
        tokio::select! {
            biased;
            answer = &mut answer => return answer.ok(),
            () = self.drained.wait() => {}
        }
        self.desk.lock().errand = Errand::None;
        // It may have been the last that was done: what was taken out must not be lost.
        answer.try_recv().ok()
    }

    /// Brings a checkpoint into the store. False when it was given up: the next start reads the log instead.
    async fn bring(&self, checkpoint: Arc<Checkpoint>, stop: &Shutdown, tries: usize) -> bool {
        for failures in 0..tries {
            match self.shelf.commit(&checkpoint).await {
                Ok(()) => {
                    flowlog::fault::point("chat.after_checkpoint");
                    self.counters.checkpoints.fetch_add(1, Ordering::Relaxed);
                    let place = Position(checkpoint.at.position);
                    let gone = self.errand(|asked| Errand::Stored(checkpoint, 0, Vec::new(), asked)).await;
                    free(gone.unwrap_or_default()).await;
                    self.log.remove_before(place);
                    return true;
                }
                Err(error) => {
                    tracing::warn!(%error, "a checkpoint is not stored yet; the log keeps everything");
                    tokio::select! {
                        () = tokio::time::sleep(LOOK * (2 << failures.min(6))) => {}
                        () = stop.wait() => return false,
                    }
                }
            }
        }
        false
    }
}
