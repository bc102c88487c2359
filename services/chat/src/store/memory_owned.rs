//! The store of a cluster in memory, for tests. It lasts as long as its last clone; owners are those of the
//! [`MemoryOwners`] beside it.

use super::owned::{Fence, Listed, Name, Outcomes, OwnedShelf, Step};
use super::owners::MemoryOwners;
use super::tables::{RECENT, Tables};
use super::{MessageStore, StoreError, Timeline};
use crate::core::{Entry, Head, Person, StoredConversation, StoredLink, StoredUser};
use async_trait::async_trait;
use hashring::bucket_of;
use parking_lot::Mutex;
use records::ChatMessage;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

/// The store.
#[derive(Clone)]
pub struct MemoryOwned {
    owners: MemoryOwners,
    inner: Arc<Mutex<Inner>>,
}

#[derive(Default)]
struct Inner {
    tables: Tables,
    reserved: BTreeMap<u16, u64>,
}

impl MemoryOwned {
    /// An empty store whose owners stand in this book.
    pub fn new(owners: MemoryOwners) -> MemoryOwned {
        MemoryOwned { owners, inner: Arc::default() }
    }
}

/// Small conversations that a user's timeline has heard he is in.
fn small(tables: &Tables, user: u64) -> BTreeSet<u64> {
    let links = tables.users.get(&user).into_iter().flat_map(|kept| kept.links.values());
    links.filter(|l| l.member && !l.large).map(|l| l.conversation).collect()
}

fn is_acquainted(tables: &Tables, user: u64, other: u64) -> bool {
    let pair = tables.pair(user.min(other), user.max(other));
    let (mine, theirs) = (small(tables, user), small(tables, other));
    mine.intersection(&theirs).any(|id| Some(*id) != pair)
}

#[async_trait]
impl MessageStore for MemoryOwned {
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
impl Timeline for MemoryOwned {
    async fn users(&self, ids: &[u64]) -> Result<Vec<StoredUser>, StoreError> {
        let inner = self.inner.lock();
        Ok(ids.iter().map(|id| inner.tables.user(*id)).collect())
    }

    async fn entries(&self, user: u64, after: u64, limit: usize) -> Result<Vec<Entry>, StoreError> {
        Ok(self.inner.lock().tables.entries(user, after, limit))
    }
}

#[async_trait]
impl OwnedShelf for MemoryOwned {
    async fn step(&self, fence: &Fence, step: &Step) -> Result<Outcomes, StoreError> {
        let mut inner = self.inner.lock();
        let term = |bucket: u16| fence.terms.iter().find(|(b, _)| *b == bucket).copied();
        let owns = |id: u64| {
            term(bucket_of(id).get()).is_some_and(|term| self.owners.holds(fence.node, fence.epoch, [term]))
        };
        let outcomes = inner.tables.step(step, owns);
        let problems = std::mem::take(&mut inner.tables.problems);
        if let Some(first) = problems.into_iter().next() {
            return Err(StoreError::Damaged(first));
        }
        Ok(outcomes)
    }

    async fn unfanned(&self, buckets: &[u16], after: u64, limit: usize) -> Result<Vec<u64>, StoreError> {
        let inner = self.inner.lock();
        let further = inner.tables.conversations.range((Bound::Excluded(after), Bound::Unbounded));
        let asked = further.filter(|(id, kept)| kept.is_behind() && buckets.contains(&bucket_of(**id).get()));
        Ok(asked.take(limit).map(|(id, _)| *id).collect())
    }

    async fn links(&self, user: u64, conversations: &[u64]) -> Result<Vec<StoredLink>, StoreError> {
        let inner = self.inner.lock();
        Ok(conversations.iter().filter_map(|id| inner.tables.link(user, *id)).collect())
    }

    async fn listed(&self, user: u64, conversations: &[u64]) -> Result<Vec<Listed>, StoreError> {
        let inner = self.inner.lock();
        let ids: BTreeSet<u64> = conversations.iter().copied().collect();
        Ok(ids.into_iter().filter_map(|id| inner.tables.listed(user, id)).collect())
    }

    async fn persons(&self, users: &[u64]) -> Result<Vec<(u64, Person)>, StoreError> {
        let inner = self.inner.lock();
        let ids: BTreeSet<u64> = users.iter().copied().collect();
        let person = |id: u64| {
            let kept = inner.tables.users.get(&id).filter(|kept| kept.stamp > 0)?;
            Some((id, kept.person.clone()))
        };
        Ok(ids.into_iter().filter_map(person).collect())
    }

    async fn acquainted(&self, user: u64, others: &[u64]) -> Result<Vec<u64>, StoreError> {
        let inner = self.inner.lock();
        let others: BTreeSet<u64> = others.iter().copied().filter(|other| *other != user).collect();
        Ok(others.into_iter().filter(|other| is_acquainted(&inner.tables, user, *other)).collect())
    }

    async fn heads(&self, conversations: &[u64]) -> Result<Vec<(u64, u64, Head)>, StoreError> {
        let inner = self.inner.lock();
        let head = |id: &u64| {
            let kept = inner.tables.conversations.get(id)?;
            Some((*id, kept.version, kept.head.clone()))
        };
        Ok(conversations.iter().filter_map(head).collect())
    }

    async fn named(&self, name: Name) -> Result<Option<u64>, StoreError> {
        Ok(self.inner.lock().tables.names.get(&name).copied())
    }

    async fn reserve_ids(&self, node: u16, until_ms: u64) -> Result<u64, StoreError> {
        let mut inner = self.inner.lock();
        let kept = inner.reserved.entry(node).or_default();
        let before = *kept;
        *kept = before.max(until_ms);
        Ok(before)
    }
}
