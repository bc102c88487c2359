//! The store of a cluster in memory, for tests and the simulation. It lasts as long as its last clone; owners are those
//! of the [`MemoryOwners`] beside it.

use super::owned::{
    ConversationOutcome, ConversationStep, Fence, LinkRow, Listed, Name, Outcomes, OwnedShelf, Step,
    TimelineOutcome, TimelineStep,
};
use super::owners::MemoryOwners;
use super::{MessageStore, StoreError, Timeline};
use crate::core::{Author, Entry, Fanned, Head, Member, Person, StoredConversation, StoredLink, StoredUser};
use async_trait::async_trait;
use hashring::bucket_of;
use parking_lot::Mutex;
use protocol::v1::ConversationKind;
use records::ChatMessage;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Last messages that come with a conversation.
const RECENT: usize = 16;

/// The store.
#[derive(Clone)]
pub struct MemoryOwned {
    owners: MemoryOwners,
    inner: Arc<Mutex<Inner>>,
}

#[derive(Default)]
struct Inner {
    conversations: BTreeMap<u64, Kept>,
    names: BTreeMap<Name, u64>,
    users: BTreeMap<u64, KeptUser>,
    reserved: BTreeMap<u16, u64>,
}

#[derive(Default)]
struct Kept {
    version: u64,
    fanned: Fanned,
    head: Head,
    members: BTreeMap<u64, Member>,
    authors: BTreeMap<u64, Author>,
    messages: BTreeMap<u64, Arc<ChatMessage>>,
}

#[derive(Default)]
struct KeptUser {
    stamp: u64,
    person: Person,
    entries: BTreeMap<u64, Entry>,
    cursors: BTreeMap<(u64, u64), u64>,
    links: BTreeMap<u64, LinkRow>,
}

impl MemoryOwned {
    /// An empty store whose owners stand in this book.
    pub fn new(owners: MemoryOwners) -> MemoryOwned {
        MemoryOwned { owners, inner: Arc::default() }
    }
}

fn raise(fanned: &mut Fanned, by: Fanned) {
    fanned.version = fanned.version.max(by.version);
    fanned.seq = fanned.seq.max(by.seq);
}

impl Inner {
    fn conversation(&mut self, step: &ConversationStep) -> ConversationOutcome {
        let id = step.rows.id;
        let (version, last_seq) =
            self.conversations.get(&id).map_or((0, 0), |c| (c.version, c.head.last_seq));
        if version > 0 && version == step.version {
            if let Some(kept) = self.conversations.get_mut(&id) {
                raise(&mut kept.fanned, step.fanned);
            }
            return ConversationOutcome::Done;
        }
        if version + 1 != step.version || last_seq != step.before_seq {
            return ConversationOutcome::Moved { version, last_seq };
        }
        if let Some(name) = step.name.filter(|_| version == 0) {
            let holder = *self.names.entry(name).or_insert(id);
            if holder != id {
                return ConversationOutcome::Named { conversation: holder };
            }
        }
        let kept = self.conversations.entry(id).or_default();
        let rows = &step.rows;
        kept.version = step.version;
        raise(&mut kept.fanned, step.fanned);
        kept.head = rows.head.clone();
        rows.gone.iter().for_each(|user| drop(kept.members.remove(user)));
        kept.members.extend(rows.members.iter().map(|m| (m.user, m.clone())));
        kept.authors.extend(rows.authors.iter().map(|a| (a.user, a.clone())));
        kept.messages.extend(rows.messages.iter().map(|m| (m.seq, Arc::clone(m))));
        ConversationOutcome::Done
    }

    fn timeline(&mut self, step: &TimelineStep) -> Result<TimelineOutcome, StoreError> {
        let kept = self.users.entry(step.user).or_default();
        if let Some(person) = step.person.as_ref().filter(|_| kept.stamp < step.stamp) {
            (kept.stamp, kept.person) = (step.stamp, person.clone());
        }
        let mut new = Vec::with_capacity(step.entries.len());
        for entry in &step.entries {
            let stands = kept.cursors.get(&(entry.conversation, entry.seq)).copied();
            new.push(stands.is_none_or(|cursor| cursor == entry.cursor));
            if stands.is_none() {
                if kept.entries.contains_key(&entry.cursor) {
                    return Err(StoreError::Damaged(format!("cursor {} was allotted twice", entry.cursor)));
                }
                kept.cursors.insert((entry.conversation, entry.seq), entry.cursor);
                kept.entries.insert(entry.cursor, *entry);
            }
        }
        for link in &step.links {
            let there = kept.links.entry(link.conversation).or_insert(*link);
            if there.version < link.version {
                *there = *link;
            }
        }
        Ok(TimelineOutcome::Added { new })
    }

    fn stored(&self, id: u64) -> Option<StoredConversation> {
        let kept = self.conversations.get(&id)?;
        let recent = kept.messages.values().rev().take(RECENT).rev();
        Some(StoredConversation {
            id,
            version: kept.version,
            fanned: kept.fanned,
            head: kept.head.clone(),
            members: kept.members.values().cloned().collect(),
            authors: kept.authors.values().cloned().collect(),
            recent: recent.map(|m| (**m).clone()).collect(),
        })
    }

    fn listed(&self, user: u64, id: u64) -> Option<Listed> {
        let (link, kept) = (self.link(user, id)?, self.conversations.get(&id)?);
        let is_group = link.head.kind == ConversationKind::Group as u32;
        let peer = kept.members.keys().find(|other| **other != user && !is_group).copied();
        let last = kept.messages.last_key_value().map(|(_, m)| (**m).clone());
        Some(Listed { link, peer: peer.unwrap_or(0), last })
    }

    /// Small conversations that a user's timeline has heard he is in.
    fn small(&self, user: u64) -> BTreeSet<u64> {
        let links = self.users.get(&user).into_iter().flat_map(|kept| kept.links.values());
        links.filter(|l| l.member && !l.large).map(|l| l.conversation).collect()
    }

    fn is_acquainted(&self, user: u64, other: u64) -> bool {
        let (low, high) = (user.min(other), user.max(other));
        let pair = self.names.get(&Name::Pair { low, high });
        let (mine, theirs) = (self.small(user), self.small(other));
        mine.intersection(&theirs).any(|id| Some(id) != pair)
    }

    fn link(&self, user: u64, id: u64) -> Option<StoredLink> {
        let kept = self.conversations.get(&id)?;
        Some(StoredLink {
            conversation: id,
            version: kept.version,
            head: kept.head.clone(),
            member: kept.members.get(&user)?.clone(),
            own: kept.authors.get(&user).map_or(0, |a| a.own),
        })
    }
}

#[async_trait]
impl MessageStore for MemoryOwned {
    async fn conversations(&self, ids: &[u64]) -> Result<Vec<StoredConversation>, StoreError> {
        let inner = self.inner.lock();
        Ok(ids.iter().filter_map(|id| inner.stored(*id)).collect())
    }

    async fn pairs(&self, pairs: &[(u64, u64)]) -> Result<Vec<(u64, u64, u64)>, StoreError> {
        let inner = self.inner.lock();
        let found = |(low, high): &(u64, u64)| {
            Some((*low, *high, *inner.names.get(&Name::Pair { low: *low, high: *high })?))
        };
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
impl Timeline for MemoryOwned {
    async fn users(&self, ids: &[u64]) -> Result<Vec<StoredUser>, StoreError> {
        let inner = self.inner.lock();
        let empty = KeptUser::default();
        let user = |id: &u64| {
            let kept = inner.users.get(id).unwrap_or(&empty);
            let links = kept.links.values().filter(|l| l.member);
            let links = links.filter_map(|l| inner.link(*id, l.conversation)).collect();
            StoredUser { id: *id, person: kept.person.clone(), links }
        };
        Ok(ids.iter().map(user).collect())
    }

    async fn entries(&self, user: u64, after: u64, limit: usize) -> Result<Vec<Entry>, StoreError> {
        let inner = self.inner.lock();
        let Some(kept) = inner.users.get(&user) else { return Ok(Vec::new()) };
        let behind = (std::ops::Bound::Excluded(after), std::ops::Bound::Unbounded);
        Ok(kept.entries.range(behind).take(limit).map(|(_, e)| *e).collect())
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
        let mut outcomes = Outcomes::default();
        for asked in &step.conversations {
            outcomes.conversations.push(match owns(asked.rows.id) {
                true => inner.conversation(asked),
                false => ConversationOutcome::NotOwner,
            });
        }
        for asked in &step.timelines {
            outcomes.timelines.push(match owns(asked.user) {
                true => inner.timeline(asked)?,
                false => TimelineOutcome::NotOwner,
            });
        }
        for (id, fanned) in step.fanned.iter().filter(|(id, _)| owns(*id)) {
            if let Some(kept) = inner.conversations.get_mut(id) {
                raise(&mut kept.fanned, *fanned);
            }
        }
        Ok(outcomes)
    }

    async fn unfanned(&self, buckets: &[u16], after: u64, limit: usize) -> Result<Vec<u64>, StoreError> {
        let inner = self.inner.lock();
        let behind = (std::ops::Bound::Excluded(after), std::ops::Bound::Unbounded);
        let asked = |id: &u64, kept: &Kept| {
            kept.fanned.version < kept.version && buckets.contains(&bucket_of(*id).get())
        };
        let ids = inner.conversations.range(behind).filter(|(id, kept)| asked(id, kept)).take(limit);
        Ok(ids.map(|(id, _)| *id).collect())
    }

    async fn links(&self, user: u64, conversations: &[u64]) -> Result<Vec<StoredLink>, StoreError> {
        let inner = self.inner.lock();
        Ok(conversations.iter().filter_map(|id| inner.link(user, *id)).collect())
    }

    async fn listed(&self, user: u64, conversations: &[u64]) -> Result<Vec<Listed>, StoreError> {
        let inner = self.inner.lock();
        let ids: BTreeSet<u64> = conversations.iter().copied().collect();
        Ok(ids.into_iter().filter_map(|id| inner.listed(user, id)).collect())
    }

    async fn persons(&self, users: &[u64]) -> Result<Vec<(u64, Person)>, StoreError> {
        let inner = self.inner.lock();
        let ids: BTreeSet<u64> = users.iter().copied().collect();
        let person = |id: u64| {
            let kept = inner.users.get(&id).filter(|kept| kept.stamp > 0)?;
            Some((id, kept.person.clone()))
        };
        Ok(ids.into_iter().filter_map(person).collect())
    }

    async fn acquainted(&self, user: u64, others: &[u64]) -> Result<Vec<u64>, StoreError> {
        let inner = self.inner.lock();
        let others: BTreeSet<u64> = others.iter().copied().filter(|other| *other != user).collect();
        Ok(others.into_iter().filter(|other| inner.is_acquainted(user, *other)).collect())
    }

    async fn heads(&self, conversations: &[u64]) -> Result<Vec<(u64, u64, Head)>, StoreError> {
        let inner = self.inner.lock();
        let head = |id: &u64| {
            let kept = inner.conversations.get(id)?;
            Some((*id, kept.version, kept.head.clone()))
        };
        Ok(conversations.iter().filter_map(head).collect())
    }

    async fn named(&self, name: Name) -> Result<Option<u64>, StoreError> {
        Ok(self.inner.lock().names.get(&name).copied())
    }

    async fn reserve_ids(&self, node: u16, until_ms: u64) -> Result<u64, StoreError> {
        let mut inner = self.inner.lock();
        let kept = inner.reserved.entry(node).or_default();
        let before = *kept;
        *kept = before.max(until_ms);
        Ok(before)
    }
}
