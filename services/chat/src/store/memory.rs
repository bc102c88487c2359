//! The shelf in memory, for tests and the simulation. It lasts as long as its last clone.

use super::{Mark, MessageStore, Shelf, StoreError, Timeline};
use crate::core::{
    Author, Checkpoint, Entry, Fanned, Head, Member, Person, StoredConversation, StoredLink, StoredUser,
};
use async_trait::async_trait;
use parking_lot::Mutex;
use records::ChatMessage;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Last messages that come with a conversation.
const RECENT: usize = 16;

/// The shelf.
#[derive(Clone, Default)]
pub struct MemoryShelf {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Default)]
struct Inner {
    mark: Mark,
    conversations: BTreeMap<u64, Kept>,
    users: BTreeMap<u64, KeptUser>,
    pairs: BTreeMap<(u64, u64), u64>,
    failing: bool,
}

#[derive(Default)]
struct Kept {
    head: Head,
    members: BTreeMap<u64, Member>,
    authors: BTreeMap<u64, Author>,
    messages: BTreeMap<u64, Arc<ChatMessage>>,
}

#[derive(Default)]
struct KeptUser {
    person: Person,
    entries: BTreeMap<u64, Entry>,
    links: BTreeSet<u64>,
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
        let found = |id: &u64| {
            let kept = inner.conversations.get(id)?;
            let recent = kept.messages.values().rev().take(RECENT).rev();
            Some(StoredConversation {
                id: *id,
                version: 0,
                fanned: Fanned::default(),
                head: kept.head.clone(),
                members: kept.members.values().cloned().collect(),
                authors: kept.authors.values().cloned().collect(),
                recent: recent.map(|m| (**m).clone()).collect(),
            })
        };
        Ok(ids.iter().filter_map(found).collect())
    }

    async fn pairs(&self, pairs: &[(u64, u64)]) -> Result<Vec<(u64, u64, u64)>, StoreError> {
        let inner = self.inner.lock();
        let found = |(low, high): &(u64, u64)| Some((*low, *high, *inner.pairs.get(&(*low, *high))?));
        Ok(pairs.iter().filter_map(found).collect())
    }

    async fn messages(&self, conversation: u64, from: u64, to: u64) -> Result<Vec<ChatMessage>, StoreError> {
        let inner = self.inner.lock();
        let Some(kept) = inner.conversations.get(&conversation).filter(|_| from <= to) else {
            return Ok(Vec::new());
        };
        Ok(kept.messages.range(from..=to).map(|(_, m)| (**m).clone()).collect())
    }
}

#[async_trait]
impl Timeline for MemoryShelf {
    async fn users(&self, ids: &[u64]) -> Result<Vec<StoredUser>, StoreError> {
        let inner = self.inner.lock();
        let empty = KeptUser::default();
        let user = |id: &u64| {
            let kept = inner.users.get(id).unwrap_or(&empty);
            let link = |c: &u64| {
                let conversation = inner.conversations.get(c)?;
                Some(StoredLink {
                    version: 0,
                    conversation: *c,
                    head: conversation.head.clone(),
                    member: conversation.members.get(id)?.clone(),
                    own: conversation.authors.get(id).map_or(0, |a| a.own),
                })
            };
            let links = kept.links.iter().filter_map(link).collect();
            StoredUser { id: *id, person: kept.person.clone(), links }
        };
        Ok(ids.iter().map(user).collect())
    }

    async fn entries(&self, user: u64, after: u64, limit: usize) -> Result<Vec<Entry>, StoreError> {
        let inner = self.inner.lock();
        let Some(kept) = inner.users.get(&user) else { return Ok(Vec::new()) };
        Ok(kept.entries.range(after + 1..).take(limit).map(|(_, e)| *e).collect())
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
        for rows in conversations {
            let kept = inner.conversations.entry(rows.id).or_default();
            kept.head = rows.head.clone();
            rows.gone.iter().for_each(|user| drop(kept.members.remove(user)));
            kept.members.extend(rows.members.iter().map(|m| (m.user, m.clone())));
            kept.authors.extend(rows.authors.iter().map(|a| (a.user, a.clone())));
            kept.messages.extend(rows.messages.iter().map(|m| (m.seq, Arc::clone(m))));
        }
        for rows in users {
            let kept = inner.users.entry(rows.id).or_default();
            if let Some(person) = &rows.person {
                kept.person = person.clone();
            }
            kept.entries.extend(rows.entries.iter().map(|e| (e.cursor, *e)));
            for (conversation, came) in &rows.links {
                if *came {
                    kept.links.insert(*conversation);
                } else {
                    kept.links.remove(conversation);
                }
            }
        }
        inner.pairs.extend(pairs.iter().map(|(low, high, id)| ((*low, *high), *id)));
        Ok(())
    }
}
