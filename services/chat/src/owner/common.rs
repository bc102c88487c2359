//! What other nodes may read in common memory: the newest durable messages of conversations, so that a sync need not ask the
//! database for what was written a moment ago by another node. Best effort: what does not fit, or fails, is left out.

use super::OwnerNode;
use crate::cluster::Batch;
use crate::store::owned::{ConversationOutcome, Outcomes};
use futures_util::future::join_all;
use records::ChatMessage;
use runtime::Shutdown;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

/// Conversations whose news wait; the oldest make room.
const WAITING_MAX: usize = 4_096;
/// Conversations that are written at a time.
const AT_A_TIME: usize = 64;
/// After a failure nothing is tried for so long: memory that is away fails at once, or slowly.
const PAUSE: Duration = Duration::from_secs(1);

/// News of conversations, each with its id.
#[derive(Default)]
pub(super) struct Keeping(VecDeque<(u64, Vec<Arc<ChatMessage>>)>);

impl OwnerNode {
    /// What a batch has made durable is to be kept.
    pub(super) fn keep_recent(&self, batch: &Batch, outcomes: &Outcomes) {
        if self.stores.books.is_none() {
            return;
        }
        let mut keeping = self.keeping.lock();
        for (step, outcome) in batch.step.conversations.iter().zip(&outcomes.conversations) {
            if *outcome == ConversationOutcome::Done && !step.rows.messages.is_empty() {
                keeping.0.push_back((step.rows.id, step.rows.messages.clone()));
            }
        }
        let excess = keeping.0.len().saturating_sub(WAITING_MAX);
        keeping.0.drain(..excess);
        drop(keeping);
        self.wakes.keeping.notify_one();
    }

    pub(super) async fn run_keeping(self: Arc<Self>, stop: Shutdown) -> anyhow::Result<()> {
        let Some(books) = self.stores.books.clone() else {
            stop.wait().await;
            return Ok(());
        };
        while !stop.is_requested() {
            let some: Vec<(u64, Vec<Arc<ChatMessage>>)> = {
                let mut keeping = self.keeping.lock();
                let count = keeping.0.len().min(AT_A_TIME);
                keeping.0.drain(..count).collect()
            };
            if some.is_empty() {
                tokio::select! { () = self.wakes.keeping.notified() => {}, () = stop.wait() => {} }
                continue;
            }
            // Of one conversation in the order in which they became durable: an older part that comes later is passed over.
            let puts = some.iter().map(|(id, messages)| books.keep(*id, messages));
            if let Some(error) = join_all(puts).await.into_iter().find_map(Result::err) {
                tracing::debug!(%error, "chat's common memory does not keep messages");
                self.keeping.lock().0.clear();
                tokio::select! { () = tokio::time::sleep(PAUSE) => {}, () = stop.wait() => {} }
            }
        }
        Ok(())
    }
}
