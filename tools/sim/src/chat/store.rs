//! The cluster's store as the simulation has it: rows in memory, the owners' book beside them under the rules of crate
//! `ownership`. What goes wrong on the way to it and back is the world's business.

use chat::cluster::Batch;
use chat::core::{
    Author, Entry, Fanned, Head, Member, Person, SentKey, StoredConversation, StoredLink, StoredUser,
};
use chat::store::owned::{
    ConversationOutcome, ConversationStep, LinkRow, Listed, Name, Outcomes, TimelineOutcome, TimelineStep,
};
use hashring::bucket_of;
use ownership::{BucketRow, ClaimBucket, EndReason, NodeRow, SealBucket};
use protocol::v1::ConversationKind;
use records::ChatMessage;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Last messages that come with a conversation: so few that a new owner must read what was not handed on.
const RECENT: usize = 4;

/// A conversation.
#[derive(Default)]
pub(super) struct Kept {
    pub version: u64,
    pub fanned: Fanned,
    pub head: Head,
    pub members: BTreeMap<u64, Member>,
    pub authors: BTreeMap<u64, Author>,
    pub messages: BTreeMap<u64, Arc<ChatMessage>>,
}

/// A user.
#[derive(Default)]
pub(super) struct KeptUser {
    stamp: u64,
    pub person: Person,
    pub entries: BTreeMap<u64, Entry>,
    cursors: BTreeMap<(u64, u64), u64>,
    pub links: BTreeMap<u64, LinkRow>,
}

/// The store.
#[derive(Default)]
pub(super) struct Store {
    pub conversations: BTreeMap<u64, Kept>,
    pub users: BTreeMap<u64, KeptUser>,
    pub names: BTreeMap<Name, u64>,
    pub nodes: BTreeMap<(u16, u32), NodeRow>,
    pub buckets: BTreeMap<u16, BucketRow>,
    /// Up to when each node has reserved ids.
    pub ids: BTreeMap<u16, u64>,
    /// What no correct program would ask for.
    pub problems: Vec<String>,
}

impl Store {
    /// A node begins anew; nothing while its last epoch is alive.
    pub fn begin(&mut self, node: u16, now_ms: u64) -> Option<u32> {
        let last = self.nodes.range((node, 0)..=(node, u32::MAX)).map(|(key, _)| *key).next_back();
        if let Some((node, epoch)) = last {
            self.end(node, epoch, EndReason::Expired, now_ms);
        }
        let latest = last.and_then(|key| self.nodes.get(&key));
        let row = NodeRow::begin(latest, node, 0, now_ms).ok()?;
        let epoch = row.epoch;
        self.nodes.insert((node, epoch), row);
        Some(epoch)
    }

    /// Ends an epoch and frees its buckets, unless it is alive and somebody else wants it.
    pub fn end(&mut self, node: u16, epoch: u32, reason: EndReason, now_ms: u64) -> bool {
        let Some(row) = self.nodes.get_mut(&(node, epoch)) else { return false };
        let ended = row.end(reason, now_ms) == Ok(true);
        if ended {
            self.buckets.values_mut().for_each(|bucket| bucket.release_ended(node, epoch, 0));
        }
        ended
    }

    /// Renews a session; false when it is over.
    pub fn renew(&mut self, node: u16, epoch: u32, now_ms: u64) -> bool {
        self.nodes.get_mut(&(node, epoch)).is_some_and(|row| row.renew(now_ms).is_ok())
    }

    /// A node gives a bucket up.
    pub fn seal(&mut self, by: (u16, u32), bucket: u16, term: u32) -> bool {
        let ask = SealBucket { bucket, term, position: 0 };
        self.buckets.get_mut(&bucket).is_some_and(|row| row.seal(by, &ask))
    }

    /// A node asks for a bucket; the term under which it has it then.
    pub fn claim(&mut self, by: (u16, u32), bucket: u16, seen: u32) -> Option<u32> {
        let row = self.buckets.entry(bucket).or_insert_with(|| BucketRow::fresh(bucket));
        let ask = ClaimBucket { bucket, term: seen };
        row.claim(by, &ask).ok().map(|claimed| claimed.term)
    }

    /// Who owns a bucket.
    pub fn owner(&self, bucket: u16) -> Option<(u16, u32)> {
        self.buckets.get(&bucket).filter(|row| !row.is_free()).and_then(|row| row.owner)
    }

    /// Nodes with an open epoch that was seen lately.
    pub fn alive(&self, now_ms: u64) -> BTreeSet<u16> {
        self.nodes.values().filter(|row| row.is_alive(now_ms)).map(|row| row.node).collect()
    }

    fn holds(&self, batch: &Batch, id: u64) -> bool {
        let (bucket, fence) = (bucket_of(id).get(), &batch.fence);
        let term = fence.terms.iter().find(|(b, _)| *b == bucket).map(|(_, term)| *term);
        let is_open = self.nodes.get(&(fence.node, fence.epoch)).is_some_and(NodeRow::is_open);
        let row = self.buckets.get(&bucket).filter(|row| !row.is_free());
        is_open
            && row.is_some_and(|row| row.owner == Some((fence.node, fence.epoch)) && Some(row.term) == term)
    }

    /// One transaction, as `OwnedShelf::step` promises it.
    pub fn step(&mut self, batch: &Batch) -> Outcomes {
        let mut outcomes = Outcomes::default();
        for step in &batch.step.conversations {
            outcomes.conversations.push(match self.holds(batch, step.rows.id) {
                true => self.conversation(step),
                false => ConversationOutcome::NotOwner,
            });
        }
        for step in &batch.step.timelines {
            outcomes.timelines.push(match self.holds(batch, step.user) {
                true => self.timeline(step),
                false => TimelineOutcome::NotOwner,
            });
        }
        for (id, fanned) in &batch.step.fanned {
            if self.holds(batch, *id)
                && let Some(kept) = self.conversations.get_mut(id)
            {
                kept.raise(*fanned);
            }
        }
        outcomes
    }

    fn conversation(&mut self, step: &ConversationStep) -> ConversationOutcome {
        let id = step.rows.id;
        let (version, last_seq) =
            self.conversations.get(&id).map_or((0, 0), |c| (c.version, c.head.last_seq));
        if version == step.version {
            if last_seq != step.rows.head.last_seq {
                self.problems
                    .push(format!("two different steps make version {version} of conversation {id}"));
            }
            return ConversationOutcome::Done;
        }
        if version + 1 != step.version || last_seq != step.before_seq {
            return ConversationOutcome::Moved { version, last_seq };
        }
        if let Some(name) = step.name {
            let holder = *self.names.entry(name).or_insert(id);
            if holder != id {
                return ConversationOutcome::Named { conversation: holder };
            }
        }
        let kept = self.conversations.entry(id).or_default();
        let rows = &step.rows;
        kept.version = step.version;
        kept.raise(step.fanned);
        kept.head = rows.head.clone();
        rows.gone.iter().for_each(|user| drop(kept.members.remove(user)));
        kept.members.extend(rows.members.iter().map(|m| (m.user, m.clone())));
        kept.authors.extend(rows.authors.iter().map(|a| (a.user, a.clone())));
        for message in &rows.messages {
            if kept.messages.insert(message.seq, Arc::clone(message)).is_some() {
                self.problems.push(format!("conversation {id} has message {} twice", message.seq));
            }
        }
        ConversationOutcome::Done
    }

    fn timeline(&mut self, step: &TimelineStep) -> TimelineOutcome {
        let kept = self.users.entry(step.user).or_default();
        if let Some(person) = step.person.as_ref().filter(|_| kept.stamp < step.stamp) {
            (kept.stamp, kept.person) = (step.stamp, person.clone());
        }
        let mut new = Vec::new();
        for entry in &step.entries {
            let name = (entry.conversation, entry.seq);
            let stands = *kept.cursors.entry(name).or_insert(entry.cursor);
            new.push(stands == entry.cursor);
            if stands == entry.cursor
                && kept.entries.insert(entry.cursor, *entry).is_some_and(|before| before != *entry)
            {
                self.problems
                    .push(format!("cursor {} of user {} names two entries", entry.cursor, step.user));
            }
        }
        for link in &step.links {
            let there = kept.links.entry(link.conversation).or_insert(*link);
            if there.version < link.version {
                *there = *link;
            }
        }
        TimelineOutcome::Added { new }
    }

    /// Conversations with their last messages.
    pub fn conversation_of(&self, id: u64) -> Option<StoredConversation> {
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

    /// Conversations of a bucket of which timelines may not have heard.
    pub fn unfanned(&self, bucket: u16) -> Vec<StoredConversation> {
        let behind = |(id, kept): &(&u64, &Kept)| {
            bucket_of(**id).get() == bucket && kept.fanned.version < kept.version
        };
        self.conversations.iter().filter(behind).filter_map(|(id, _)| self.conversation_of(*id)).collect()
    }

    /// A user with his places.
    pub fn user(&self, id: u64) -> StoredUser {
        let Some(kept) = self.users.get(&id) else { return StoredUser { id, ..StoredUser::default() } };
        let links = kept.links.values().filter(|l| l.member);
        let links = links.filter_map(|l| self.link(id, l.conversation)).collect();
        StoredUser { id, person: kept.person.clone(), links }
    }

    /// A user's place in a conversation.
    pub fn link(&self, user: u64, conversation: u64) -> Option<StoredLink> {
        let found = self.conversations.get(&conversation)?;
        Some(StoredLink {
            conversation,
            version: found.version,
            head: found.head.clone(),
            member: found.members.get(&user)?.clone(),
            own: found.authors.get(&user).map_or(0, |a| a.own),
        })
    }

    /// A conversation as it stands in a user's list.
    pub fn listed(&self, user: u64, conversation: u64) -> Option<Listed> {
        let link = self.link(user, conversation)?;
        let kept = self.conversations.get(&conversation)?;
        let is_group = link.head.kind == ConversationKind::Group as u32;
        let peer = kept.members.keys().find(|other| **other != user && !is_group).copied();
        let last = kept.messages.values().next_back().map(|m| (**m).clone());
        Some(Listed { link, peer: peer.unwrap_or(0), last })
    }

    /// Messages, both ends inclusive.
    pub fn messages(&self, id: u64, from: u64, to: u64) -> Vec<ChatMessage> {
        let kept = self.conversations.get(&id).filter(|_| from <= to);
        kept.map_or_else(Vec::new, |kept| {
            kept.messages.range(from..=to).map(|(_, m)| (**m).clone()).collect()
        })
    }

    /// Entries behind a cursor.
    pub fn entries(&self, user: u64, after: u64, limit: usize) -> Vec<Entry> {
        let kept = self.users.get(&user);
        kept.map_or_else(Vec::new, |kept| {
            kept.entries.range(after + 1..).take(limit).map(|(_, e)| *e).collect()
        })
    }

    /// The message that a client named so.
    pub fn sent(&self, key: SentKey) -> Option<ChatMessage> {
        let kept = self.conversations.get(&key.conversation)?;
        let same =
            |m: &&Arc<ChatMessage>| (m.sender, m.device, m.counter) == (key.sender, key.device, key.counter);
        kept.messages.values().find(same).map(|m| (**m).clone())
    }
}

impl Kept {
    fn raise(&mut self, fanned: Fanned) {
        self.fanned.version = self.fanned.version.max(fanned.version);
        self.fanned.seq = self.fanned.seq.max(fanned.seq);
    }
}
