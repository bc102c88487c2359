//! Messages and entries, from memory and from behind it.
//!
//! Memory is looked at first: what is not there any more is in the store by then, so the two together have no hole.

use super::ChatNode;
use super::ask::unavailable;
use crate::core::{Entry, entries_after};
use flowlog::Disk;
use protocol::calls::CallError;
use records::ChatMessage;
use std::sync::Arc;

/// A part of a conversation, both ends inclusive.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span {
    pub conversation: u64,
    pub from: u64,
    pub to: u64,
}

impl<D: Disk> ChatNode<D> {
    /// The messages of a span, rising.
    pub(super) async fn span(&self, span: Span) -> Result<Vec<Arc<ChatMessage>>, CallError> {
        let Span { conversation, from, to } = span;
        let (first_hot, mut found) = {
            let desk = self.desk.lock();
            match desk.state.conversations.get(&conversation) {
                Some(c) => {
                    let hot = (from.max(c.recent_from())..=to).map_while(|seq| c.recent(seq).map(Arc::clone));
                    (c.recent_from(), hot.collect())
                }
                None => (u64::MAX, Vec::new()),
            }
        };
        if from >= first_hot || from > to {
            return Ok(found);
        }
        let to = to.min(first_hot - 1);
        let stored = self.shelf.messages(conversation, from, to).await.map_err(|error| {
            tracing::warn!(%error, "messages can't be read");
            unavailable()
        })?;
        let mut all: Vec<Arc<ChatMessage>> = stored.into_iter().map(Arc::new).collect();
        all.append(&mut found);
        Ok(all)
    }

    /// The first `limit` entries of a loaded user's timeline behind a cursor, and whether there are more; the cursor
    /// up to which nothing is missing then.
    pub(super) async fn timeline(
        &self,
        user: u64,
        after: u64,
        limit: usize,
    ) -> Result<(Vec<Entry>, u64, bool), CallError> {
        let (hot_after, hot, applied) = {
            let desk = self.desk.lock();
            let Some(entry) = desk.state.user(user) else { return Err(unavailable()) };
            let hot: Vec<Entry> =
                entries_after(&entry.entries, after).iter().take(limit + 1).copied().collect();
            (entry.hot_after, hot, desk.state.cursor)
        };
        let mut entries = Vec::new();
        if after < hot_after {
            entries = self.shelf.entries(user, after, limit + 1).await.map_err(|error| {
                tracing::warn!(%error, "a timeline can't be read");
                unavailable()
            })?;
            // The store may have more by now than was in memory a moment ago.
            entries.retain(|e| e.cursor <= hot_after);
        }
        let room = (limit + 1).saturating_sub(entries.len());
        entries.extend(hot.into_iter().filter(|e| e.cursor > hot_after.max(after)).take(room));
        let more = entries.len() > limit;
        entries.truncate(limit);
        let upto = if more { entries.last().map_or(after, |e| e.cursor) } else { applied.max(after) };
        Ok((entries, upto, more))
    }
}
