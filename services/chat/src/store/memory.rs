//! The shelf in memory, for tests and the simulation. It lasts as long as its last clone.

use super::owned::{LinkRow, Name};
use super::tables::{RECENT, Tables};
use super::{Mark, MessageStore, Shelf, StoreError, Timeline};
use crate::core::{Checkpoint, Entry, StoredConversation, StoredUser};
use async_trait::async_trait;
use parking_lot::Mutex;
use records::ChatMessage;
use std::sync::Arc;

/// The shelf.
#[derive(Clone, Default)]
pub struct MemoryShelf {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Default)]
struct Inner {
    mark: Mark,
    tables: Tables,
    failing: bool,
}

impl MemoryShelf {
    /// Lets commits fail, or succeed again.
    pub fn set_failing(&self, failing: bool) {
        self.inner.lock().failing = failing;
    }
}

#[async_trait]
impl MessageStore for MemoryShelf {
    async fn conversations(&self, ids: &[u64]) -> Result<Vec<StoredConversation>, StoreError> {
        let inner = self.inner.lock();
        Ok(ids.iter().filter_map(|id| inner.tables.conversation(*id, RECENT)).collect())
    }

    async fn pairs(&self, pairs: &[(u64, u64)]) -> Result<Vec<(u64, u64, u64)>, StoreError> {
        let inner = self.inner.lock();
        let found = |&(low, high): &(u64, u64)| Some((low, high, inner.tables.pair(low, high)?));
        Ok(pairs.iter().filter_map(found).collect())
    }

    async fn messages(&self, conversation: u64, from: u64, to: u64) -> Result<Vec<ChatMessage>, StoreError> {
        Ok(self.inner.lock().tables.messages(conversation, from, to))
    }
}

#[async_trait]
impl Timeline for MemoryShelf {
    async fn users(&self, ids: &[u64]) -> Result<Vec<StoredUser>, StoreError> {
        let inner = self.inner.lock();
        Ok(ids.iter().map(|id| inner.tables.user(*id)).collect())
    }

    async fn entries(&self, user: u64, after: u64, limit: usize) -> Result<Vec<Entry>, StoreError> {
        Ok(self.inner.lock().tables.entries(user, after, limit))
    }
}

#[async_trait]
impl Shelf for MemoryShelf {
    async fn mark(&self) -> Result<Mark, StoreError> {
        Ok(self.inner.lock().mark)
    }

    async fn commit(&self, checkpoint: &Checkpoint) -> Result<(), StoreError> {
        let mut inner = self.inner.lock();
        if inner.failing {
            return Err(StoreError::Unavailable("a test wants it so".to_owned()));
        }
        let Checkpoint { at, cursor, ids_reserved_ms, conversations, users, pairs, .. } = checkpoint;
        inner.mark = Mark { at: *at, cursor: *cursor, ids_reserved_ms: *ids_reserved_ms };
        let tables = &mut inner.tables;
        for rows in conversations {
            // A checkpoint that is committed again brings the same messages.
            let _ = tables.conversations.entry(rows.id).or_default().write(rows);
        }
        for rows in users {
            let kept = tables.users.entry(rows.id).or_default();
            if let Some(person) = &rows.person {
                kept.person = person.clone();
            }
            kept.entries.extend(rows.entries.iter().map(|e| (e.cursor, *e)));
            let link = |&(conversation, member): &(u64, bool)| {
                (conversation, LinkRow { conversation, member, ..LinkRow::default() })
            };
            kept.links.extend(rows.links.iter().map(link));
        }
        let name = |&(low, high, id): &(u64, u64, u64)| (Name::Pair { low, high }, id);
        tables.names.extend(pairs.iter().map(name));
        Ok(())
    }
}
