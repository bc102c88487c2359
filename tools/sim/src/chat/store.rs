//! The cluster's store as the simulation has it: the rows of chat's own store in memory, the owners' book beside them under the
//! rules of crate `ownership`. What goes wrong on the way to it and back is the world's business.

use chat::cluster::Batch;
use chat::core::{SentKey, StoredConversation};
use chat::store::owned::Outcomes;
use chat::store::tables::Tables;
use hashring::bucket_of;
use ownership::{BucketRow, ClaimBucket, EndReason, NodeRow, SealBucket};
use records::ChatMessage;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Last messages that come with a conversation: so few that a new owner must read what was not handed on.
const RECENT: usize = 4;

/// The store.
#[derive(Default)]
pub(super) struct Store {
    pub tables: Tables,
    pub nodes: BTreeMap<(u16, u32), NodeRow>,
    pub buckets: BTreeMap<u16, BucketRow>,
    /// Up to when each node has reserved ids.
    pub ids: BTreeMap<u16, u64>,
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

    /// One transaction, as `OwnedShelf::step` promises it.
    pub fn step(&mut self, batch: &Batch) -> Outcomes {
        let (fence, nodes, buckets) = (&batch.fence, &self.nodes, &self.buckets);
        let is_open = nodes.get(&(fence.node, fence.epoch)).is_some_and(NodeRow::is_open);
        let holds = |id: u64| {
            let bucket = bucket_of(id).get();
            let term = fence.terms.iter().find(|(b, _)| *b == bucket).map(|(_, term)| *term);
            let row = buckets.get(&bucket).filter(|row| !row.is_free());
            row.is_some_and(|row| row.owner == Some((fence.node, fence.epoch)) && Some(row.term) == term)
        };
        let owns = |id: u64| is_open && holds(id);
        for step in batch.step.conversations.iter().filter(|step| owns(step.rows.id)) {
            let (id, version, last_seq) = (step.rows.id, step.version, step.rows.head.last_seq);
            let there = self.tables.conversations.get(&id).filter(|kept| kept.version == version);
            if there.is_some_and(|kept| kept.head.last_seq != last_seq) {
                let what = format!("two different steps make version {version} of conversation {id}");
                self.tables.problems.push(what);
            }
        }
        self.tables.step(&batch.step, owns)
    }

    /// Conversations with their last messages.
    pub fn conversation_of(&self, id: u64) -> Option<StoredConversation> {
        self.tables.conversation(id, RECENT)
    }

    /// Conversations of a bucket of which timelines may not have heard.
    pub fn unfanned(&self, bucket: u16) -> Vec<StoredConversation> {
        let behind = self.tables.conversations.iter().filter(|(_, kept)| kept.is_behind());
        let here = behind.filter(|(id, _)| bucket_of(**id).get() == bucket);
        here.filter_map(|(id, _)| self.conversation_of(*id)).collect()
    }

    /// The message that a client named so.
    pub fn sent(&self, key: SentKey) -> Option<ChatMessage> {
        let kept = self.tables.conversations.get(&key.conversation)?;
        let same =
            |m: &&Arc<ChatMessage>| (m.sender, m.device, m.counter) == (key.sender, key.device, key.counter);
        kept.messages.values().find(same).map(|m| (**m).clone())
    }
}
