//! Fills the store behind the log, one checkpoint after the other.
//!
//! A checkpoint that the store does not take is offered again until it does; meanwhile nothing of it leaves memory, and
//! sends are refused when too much has gathered. The log keeps what no checkpoint has.

use super::ChatNode;
use crate::core::Checkpoint;
use flowlog::{Disk, Position};
use runtime::Shutdown;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// How often it is looked whether a checkpoint is due.
const LOOK: Duration = Duration::from_millis(50);
/// Tries at the last checkpoint, when the node ends; the log has everything anyway.
const LAST_TRIES: usize = 3;

impl<D: Disk> ChatNode<D> {
    /// Fills until the node has drained, and makes a last checkpoint then.
    pub(super) async fn fill_all(self: Arc<Self>) -> anyhow::Result<()> {
        let mut last_ms = self.clock.now_ms();
        loop {
            tokio::select! {
                () = tokio::time::sleep(LOOK) => {}
                () = self.drained.wait() => break,
            }
            let now_ms = self.clock.now_ms();
            let due = {
                let desk = self.desk.lock();
                let changes = desk.state.changes();
                let waited = now_ms.saturating_sub(last_ms) >= self.options.checkpoint_ms || now_ms < last_ms;
                (changes > 0 && waited)
                    || changes >= self.options.checkpoint_changes
                    || desk.state.unstored_bytes >= self.options.unstored_bytes_max / 8
            };
            if due {
                last_ms = now_ms;
                let checkpoint = self.desk.lock().state.collect();
                if !self.bring(&checkpoint, &self.drained, usize::MAX).await {
                    return Ok(());
                }
            }
        }
        let checkpoint = self.desk.lock().state.collect();
        self.bring(&checkpoint, &Shutdown::new(), LAST_TRIES).await;
        Ok(())
    }

    /// Brings a checkpoint into the store. False when it was given up: the next start reads the log instead.
    async fn bring(&self, checkpoint: &Checkpoint, stop: &Shutdown, tries: usize) -> bool {
        for failures in 0..tries {
            match self.shelf.commit(checkpoint).await {
                Ok(()) => {
                    flowlog::fault::point("chat.after_checkpoint");
                    self.counters.checkpoints.fetch_add(1, Ordering::Relaxed);
                    let now_ms = self.clock.now_ms();
                    self.desk.lock().state.stored(checkpoint, now_ms);
                    self.log.remove_before(Position(checkpoint.at.position));
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
