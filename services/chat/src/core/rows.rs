//! What a checkpoint takes: everything that has changed since the one before, at one place of the log.

use super::conversation::{Author, Conversation, Head, Member};
use super::state::{At, State};
use super::user::{Entry, Person};
use records::ChatMessage;
use std::sync::Arc;

/// Everything that has changed, up to a place of the log.
#[derive(Clone, Debug, Default)]
pub struct Checkpoint {
    /// The next record to apply when the log is read again.
    pub at: At,
    /// Messages applied up to there.
    pub cursor: u64,
    /// Ids were reserved up to here, ms UTC.
    pub ids_reserved_ms: u64,
    /// Conversations that have changed.
    pub conversations: Vec<ConversationRows>,
    /// Users that have changed.
    pub users: Vec<UserRows>,
    /// Conversations of two users: smaller, larger, conversation.
    pub pairs: Vec<(u64, u64, u64)>,
    /// What its messages take in memory, about.
    pub bytes: usize,
}

/// A conversation's changes.
#[derive(Clone, Debug, Default)]
pub struct ConversationRows {
    /// Which.
    pub id: u64,
    /// Itself.
    pub head: Head,
    /// Members that are new or have changed.
    pub members: Vec<Member>,
    /// Those who left.
    pub gone: Vec<u64>,
    /// Authors that are new or have changed.
    pub authors: Vec<Author>,
    /// New messages, in order.
    pub messages: Vec<Arc<ChatMessage>>,
}

/// A user's changes.
#[derive(Clone, Debug, Default)]
pub struct UserRows {
    /// Who.
    pub id: u64,
    /// His own part, if it has changed.
    pub person: Option<Person>,
    /// New entries of his timeline, in order.
    pub entries: Vec<Entry>,
    /// Conversations that he came into (true) or left.
    pub links: Vec<(u64, bool)>,
}

impl Checkpoint {
    /// Whether there is nothing in it but the place.
    pub fn is_empty(&self) -> bool {
        self.conversations.is_empty() && self.users.is_empty() && self.pairs.is_empty()
    }
}

impl Conversation {
    /// Takes out what has changed; it counts as unchanged and its messages as stored from now on.
    pub fn collect(&mut self) -> ConversationRows {
        self.changed_in = 0;
        self.unstored_bytes = 0;
        let members = std::mem::take(&mut self.dirty_members);
        let authors = std::mem::take(&mut self.dirty_authors);
        let rows = ConversationRows {
            id: self.id,
            head: self.head.clone(),
            messages: std::mem::take(&mut self.unstored),
            members: members.into_iter().filter_map(|u| self.member(u).cloned()).collect(),
            authors: authors.into_iter().filter_map(|u| self.author(u).cloned()).collect(),
            gone: std::mem::take(&mut self.gone_members),
        };
        self.stored_seq = self.head.last_seq;
        rows
    }
}

impl State {
    /// Where timelines are elsewhere: takes out what has changed in one conversation.
    pub fn collect_one(&mut self, id: u64) -> Option<ConversationRows> {
        self.changes.clear();
        let conversation = self.conversations.get_mut(&id)?;
        self.unstored_bytes = self.unstored_bytes.saturating_sub(conversation.unstored_bytes);
        Some(conversation.collect())
    }

    /// A checkpoint is in the store: what it made superfluous leaves memory, conversations and users from `from` on, so many
    /// of them. Returns where to go on, or nothing when that was all. Messages go into `gone`, so that they are freed where
    /// nobody waits.
    pub fn stored(
        &mut self,
        checkpoint: &Checkpoint,
        (from, most): (usize, usize),
        now_ms: u64,
        gone: &mut Vec<Arc<ChatMessage>>,
    ) -> Option<usize> {
        let conversations = checkpoint.conversations.len();
        let all = conversations + checkpoint.users.len();
        let to = from.saturating_add(most).min(all);
        for at in from..to {
            match checkpoint.conversations.get(at) {
                Some(rows) => self.conversation_stored(rows, now_ms, gone),
                None => self.user_stored(&checkpoint.users[at - conversations], now_ms),
            }
        }
        if to < all {
            return Some(to);
        }
        self.unstored_bytes = self.unstored_bytes.saturating_sub(checkpoint.bytes);
        self.evict(now_ms);
        None
    }

    fn conversation_stored(
        &mut self,
        rows: &ConversationRows,
        now_ms: u64,
        gone: &mut Vec<Arc<ChatMessage>>,
    ) {
        let Some(c) = self.conversations.get_mut(&rows.id) else { return };
        c.touched_ms = now_ms;
        // What the next checkpoint takes stays too. Their seqs have no holes, so nothing need be looked at.
        let last = rows.head.last_seq.min(c.stored_seq);
        let stored = (last + 1).saturating_sub(c.recent_from()) as usize;
        let spare = c.recent.len().saturating_sub(self.options.recent_messages);
        gone.extend(c.recent.drain(..stored.min(spare)));
    }

    fn user_stored(&mut self, rows: &UserRows, now_ms: u64) {
        let Some(slot) = self.slot(rows.id) else { return };
        let user = &mut self.users[slot as usize];
        user.touched_ms = now_ms;
        let stored = rows.entries.last().map_or(0, |e| e.cursor);
        user.trim(stored, self.options.recent_entries);
    }
}
