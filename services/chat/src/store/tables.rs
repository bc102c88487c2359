//! The rows of a store in memory: what steps do to them, and what is read from them. Pure.
//!
//! It exists once for all who keep conversations in memory: [`MemoryShelf`](super::MemoryShelf) behind a log,
//! [`MemoryOwned`](super::MemoryOwned) under owners, and the simulation, which lets everything go wrong on the way to the rows and
//! back, and looks at them when all is over. It refuses what [`OwnedShelf::step`](super::OwnedShelf::step) says is refused. What
//! a database would refuse by its keys is done all the same and noted in [`Tables::problems`]; what follows is the caller's to say.

use super::owned::{
    ConversationOutcome, ConversationStep, LinkRow, Listed, Name, Outcomes, Step, TimelineOutcome,
    TimelineStep,
};
use crate::core::{
    Author, ConversationRows, Entry, Fanned, Head, Member, Person, StoredConversation, StoredLink, StoredUser,
};
use protocol::v1::ConversationKind;
use records::ChatMessage;
use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

/// Last messages that come with a conversation where nothing else is said.
pub const RECENT: usize = 16;

/// All rows.
#[derive(Default)]
pub struct Tables {
    /// By id.
    pub conversations: BTreeMap<u64, KeptConversation>,
    /// By id.
    pub users: BTreeMap<u64, KeptUser>,
    /// Conversations that have a name.
    pub names: BTreeMap<Name, u64>,
    /// What a database would refuse by its keys, in words; the oldest first.
    pub problems: Vec<String>,
}

/// A conversation.
#[derive(Default)]
pub struct KeptConversation {
    /// Rises by one with each step; 0 where there are no steps.
    pub version: u64,
    /// How far timelines have heard of it.
    pub fanned: Fanned,
    /// Itself.
    pub head: Head,
    /// By user.
    pub members: BTreeMap<u64, Member>,
    /// By user.
    pub authors: BTreeMap<u64, Author>,
    /// By seq.
    pub messages: BTreeMap<u64, Arc<ChatMessage>>,
}

/// A user.
#[derive(Default)]
pub struct KeptUser {
    /// Of the step that his own part is from.
    pub stamp: u64,
    /// His own part.
    pub person: Person,
    /// By cursor.
    pub entries: BTreeMap<u64, Entry>,
    /// Conversations that he is or was in.
    pub links: BTreeMap<u64, LinkRow>,
    /// Cursors by conversation and seq.
    cursors: BTreeMap<(u64, u64), u64>,
}

impl KeptConversation {
    /// Takes changes over. The seq of a message that was there before, if there is one.
    pub fn write(&mut self, rows: &ConversationRows) -> Option<u64> {
        self.head = rows.head.clone();
        rows.gone.iter().for_each(|user| drop(self.members.remove(user)));
        self.members.extend(rows.members.iter().map(|m| (m.user, m.clone())));
        self.authors.extend(rows.authors.iter().map(|a| (a.user, a.clone())));
        let mut twice = None;
        for message in &rows.messages {
            if self.messages.insert(message.seq, Arc::clone(message)).is_some() {
                twice = Some(message.seq);
            }
        }
        twice
    }

    /// Timelines have heard more of it.
    pub fn raise(&mut self, fanned: Fanned) {
        self.fanned.version = self.fanned.version.max(fanned.version);
        self.fanned.seq = self.fanned.seq.max(fanned.seq);
    }

    /// Some timeline may not have heard of it.
    pub fn is_behind(&self) -> bool {
        self.fanned.version < self.version
    }
}

impl Tables {
    /// Makes a step, as [`OwnedShelf::step`](super::OwnedShelf::step) promises it. `owns` says of the id of a conversation or a user
    /// whether the writer may write it.
    pub fn step(&mut self, step: &Step, owns: impl Fn(u64) -> bool) -> Outcomes {
        let mut outcomes = Outcomes::default();
        for asked in &step.conversations {
            outcomes.conversations.push(match owns(asked.rows.id) {
                true => self.step_conversation(asked),
                false => ConversationOutcome::NotOwner,
            });
        }
        for asked in &step.timelines {
            outcomes.timelines.push(match owns(asked.user) {
                true => self.step_timeline(asked),
                false => TimelineOutcome::NotOwner,
            });
        }
        for (id, fanned) in step.fanned.iter().filter(|(id, _)| owns(*id)) {
            if let Some(kept) = self.conversations.get_mut(id) {
                kept.raise(*fanned);
            }
        }
        outcomes
    }

    fn step_conversation(&mut self, step: &ConversationStep) -> ConversationOutcome {
        let id = step.rows.id;
        let (version, last_seq) =
            self.conversations.get(&id).map_or((0, 0), |c| (c.version, c.head.last_seq));
        if version > 0 && version == step.version {
            if let Some(kept) = self.conversations.get_mut(&id) {
                kept.raise(step.fanned);
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
        kept.version = step.version;
        kept.raise(step.fanned);
        if let Some(seq) = kept.write(&step.rows) {
            self.problems.push(format!("conversation {id} has message {seq} twice"));
        }
        ConversationOutcome::Done
    }

    fn step_timeline(&mut self, step: &TimelineStep) -> TimelineOutcome {
        let kept = self.users.entry(step.user).or_default();
        if let Some(person) = step.person.as_ref().filter(|_| kept.stamp < step.stamp) {
            (kept.stamp, kept.person) = (step.stamp, person.clone());
        }
        let mut new = Vec::with_capacity(step.entries.len());
        for entry in &step.entries {
            let stands = *kept.cursors.entry((entry.conversation, entry.seq)).or_insert(entry.cursor);
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

    /// A conversation with its last messages, `recent` of them.
    pub fn conversation(&self, id: u64, recent: usize) -> Option<StoredConversation> {
        let kept = self.conversations.get(&id)?;
        let recent = kept.messages.values().rev().take(recent).rev();
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

    /// The conversation of two users, the smaller one first.
    pub fn pair(&self, low: u64, high: u64) -> Option<u64> {
        self.names.get(&Name::Pair { low, high }).copied()
    }

    /// Messages by seq, both ends inclusive.
    pub fn messages(&self, conversation: u64, from: u64, to: u64) -> Vec<ChatMessage> {
        let kept = self.conversations.get(&conversation).filter(|_| from <= to);
        kept.map_or_else(Vec::new, |kept| {
            kept.messages.range(from..=to).map(|(_, m)| (**m).clone()).collect()
        })
    }

    /// A user with his places in conversations; one of whom nothing is kept is empty.
    pub fn user(&self, id: u64) -> StoredUser {
        let Some(kept) = self.users.get(&id) else { return StoredUser { id, ..StoredUser::default() } };
        let links = kept.links.values().filter(|l| l.member);
        let links = links.filter_map(|l| self.link(id, l.conversation)).collect();
        StoredUser { id, person: kept.person.clone(), links }
    }

    /// The first `limit` entries of a user behind a cursor.
    pub fn entries(&self, user: u64, after: u64, limit: usize) -> Vec<Entry> {
        let behind = (Bound::Excluded(after), Bound::Unbounded);
        let kept = self.users.get(&user);
        kept.map_or_else(Vec::new, |kept| kept.entries.range(behind).take(limit).map(|(_, e)| *e).collect())
    }

    /// A user's place in a conversation that he is in.
    pub fn link(&self, user: u64, conversation: u64) -> Option<StoredLink> {
        let kept = self.conversations.get(&conversation)?;
        Some(StoredLink {
            conversation,
            version: kept.version,
            head: kept.head.clone(),
            member: kept.members.get(&user)?.clone(),
            own: kept.authors.get(&user).map_or(0, |a| a.own),
        })
    }

    /// A conversation as it stands in a member's list.
    pub fn listed(&self, user: u64, conversation: u64) -> Option<Listed> {
        let (link, kept) = (self.link(user, conversation)?, self.conversations.get(&conversation)?);
        let is_group = link.head.kind == ConversationKind::Group as u32;
        let peer = kept.members.keys().find(|other| **other != user && !is_group).copied();
        let last = kept.messages.last_key_value().map(|(_, m)| (**m).clone());
        Some(Listed { link, peer: peer.unwrap_or(0), last })
    }
}
