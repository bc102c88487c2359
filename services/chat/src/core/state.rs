//! Everything in memory, and how it gets there and leaves.
//!
//! What is not in memory is in the store as it is: nothing is changed without being brought into memory first, and
//! nothing leaves it before a checkpoint has it and some time has passed (a reader of the store may be under way).
//! A user to whom something goes need not be brought in: his new entries and conversations stand beside what the
//! store has.

use super::apart::Apart;
use super::conversation::{Author, Conversation, Head, Member, NO_SLOT};
use super::ids::Ids;
use super::taking::Changes;
use super::user::{Conn, Loaded, Person, User};
use crate::options::ChatOptions;
use protocol::v1::SendAnswer;
use records::ChatMessage;
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

/// Nothing leaves memory that was used or stored within this time; reads of the store that took longer than a part of
/// it don't count.
pub const LINGER_MS: u64 = 30_000;
/// Ids of conversations remembered for not being there.
const MISSING_MAX: usize = 65_536;
/// First answers that were looked up and are remembered.
const FOUND_MAX: usize = 65_536;

/// Users for whom there is room from the beginning: address space, of which nothing is taken before it is used. A table that
/// grows would copy everybody under the lock, and leave the old one behind.
const USERS_ROOM_MAX: usize = 1 << 20;

/// Something that must be in memory first.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Key {
    /// A user, with his stored part.
    User(u64),
    /// A conversation.
    Conversation(u64),
    /// The conversation of two users, smaller one first.
    Pair(u64, u64),
    /// The first answer to a message.
    Sent(SentKey),
    /// Nothing to load: a change of the conversation is under way.
    Settled(u64),
    /// Nothing to load: the conversation belongs to another node of the cluster.
    Elsewhere(u64),
}

/// Names a message by its client's number.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct SentKey {
    /// Its conversation.
    pub conversation: u64,
    /// Who sent it.
    pub sender: u64,
    /// From where.
    pub device: u64,
    /// Its number.
    pub counter: u64,
}

/// Where a record stands: group and number in it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct At {
    /// Position of the group.
    pub position: u64,
    /// Records of the group before it.
    pub index: u32,
}

/// How far the timelines of a conversation's members have heard of it (in a cluster).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Fanned {
    /// Of everything up to this version.
    pub version: u64,
    /// Of every message up to this one.
    pub seq: u64,
}

/// A conversation as the store has it.
#[derive(Clone, Debug, Default)]
pub struct StoredConversation {
    /// Its id.
    pub id: u64,
    /// Rises with each of its owner's steps; 0 where one log is the truth.
    pub version: u64,
    /// How far its members' timelines are; means something in a cluster only.
    pub fanned: Fanned,
    /// Itself.
    pub head: Head,
    /// By user.
    pub members: Vec<Member>,
    /// By user.
    pub authors: Vec<Author>,
    /// Its last messages, without a hole.
    pub recent: Vec<ChatMessage>,
}

/// A user as the store has him.
#[derive(Clone, Debug, Default)]
pub struct StoredUser {
    /// Who.
    pub id: u64,
    /// What is stored.
    pub person: Person,
    /// His conversations.
    pub links: Vec<StoredLink>,
}

/// A user's place in a conversation, as the store has it.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct StoredLink {
    /// The conversation.
    pub conversation: u64,
    /// Its version, of which everything here holds; 0 where one log is the truth.
    pub version: u64,
    /// Itself.
    pub head: Head,
    /// His place.
    pub member: Member,
    /// Counted messages that he sent there.
    pub own: u64,
}

/// The state.
pub struct State {
    /// Settings.
    pub options: ChatOptions,
    /// In a cluster: only conversations of these buckets are changed here, and no timeline. Users in memory are
    /// glimpses then, for what must be known of them to decide.
    pub apart: Option<Apart>,
    /// Users in memory, in places that don't change.
    pub users: Vec<User>,
    pub(super) free: Vec<u32>,
    pub(super) by_id: HashMap<u64, u32>,
    /// Conversations in memory.
    pub conversations: HashMap<u64, Conversation>,
    /// Conversations of two users, as far as they were looked up; nothing: there is none.
    pub pairs: HashMap<(u64, u64), Option<u64>>,
    pub(super) missing: HashSet<u64>,
    /// First answers that were looked up; nothing: never stored.
    pub found: HashMap<SentKey, Option<SendAnswer>>,
    /// Ids.
    pub ids: Ids,
    /// The cursor of the last message that is applied.
    pub cursor: u64,
    /// The next record to apply.
    pub at: At,
    /// Bytes of messages that the store does not have.
    pub unstored_bytes: usize,
    pub(super) changes: Changes,
    /// Large conversations with news since the last tick.
    pub(super) news: Vec<u64>,
    /// Connections to look at again: when, whose, where, which device, and what had been pushed when this was noted.
    pub(super) again: VecDeque<(u64, u32, protocol::calls::ConnectionAt, u64, u64)>,
    /// Users whose connections are to be looked at for silence: when, and whose.
    pub(super) silence: VecDeque<(u64, u32)>,
    /// Users with confirmed cursors that the log does not have: when it should, and who.
    pub(super) unlogged: VecDeque<(u64, u32)>,
    /// Users whose presence has changed since the last tick.
    pub(super) presence: Vec<u32>,
}

impl State {
    /// Nothing is in memory; the store has everything before `at`.
    pub fn new(options: ChatOptions, at: At, cursor: u64, ids_above_ms: u64) -> State {
        let ids = Ids::new(options.node, ids_above_ms);
        let room = options.users_max.min(USERS_ROOM_MAX);
        State {
            options,
            apart: None,
            users: Vec::with_capacity(room),
            free: Vec::new(),
            by_id: HashMap::new(),
            conversations: HashMap::new(),
            pairs: HashMap::new(),
            missing: HashSet::new(),
            found: HashMap::new(),
            ids,
            // A device that knows nothing has 0, and 1 is before everything: so the first message gets 2.
            cursor: cursor.max(1),
            at,
            unstored_bytes: 0,
            changes: Changes::default(),
            news: Vec::new(),
            again: VecDeque::new(),
            silence: VecDeque::new(),
            unlogged: VecDeque::new(),
            presence: Vec::new(),
        }
    }

    /// Users in memory.
    pub fn users_len(&self) -> usize {
        self.by_id.len()
    }

    /// A user's place, if he is in memory.
    pub fn slot(&self, user: u64) -> Option<u32> {
        self.by_id.get(&user).copied()
    }

    /// A user in memory.
    pub fn user(&self, user: u64) -> Option<&User> {
        self.slot(user).map(|slot| &self.users[slot as usize])
    }

    /// A user in memory with his stored part.
    ///
    /// # Errors
    /// What must be loaded.
    pub fn loaded(&self, user: u64) -> Result<&Loaded, Key> {
        self.user(user).and_then(|u| u.loaded.as_deref()).ok_or(Key::User(user))
    }

    /// A conversation that is in memory and not being changed; nothing when there is none.
    ///
    /// # Errors
    /// What must be loaded, or waited for.
    pub fn settled(&self, id: u64) -> Result<Option<&Conversation>, Key> {
        match self.conversations.get(&id) {
            _ if self.apart.is_some() && !self.owns(id) => Err(Key::Elsewhere(id)),
            Some(found) if found.changing => Err(Key::Settled(id)),
            Some(found) => Ok(Some(found)),
            None if self.missing.contains(&id) => Ok(None),
            None => Err(Key::Conversation(id)),
        }
    }

    /// The conversation of two users, if there is one.
    ///
    /// # Errors
    /// What must be loaded.
    pub fn pair(&self, a: u64, b: u64) -> Result<Option<u64>, Key> {
        let (low, high) = (a.min(b), a.max(b));
        self.pairs.get(&(low, high)).copied().ok_or(Key::Pair(low, high))
    }

    /// A user's place; he gets one, holding every entry behind `after`, if he has none.
    pub(super) fn place(&mut self, user: u64, after: u64, now_ms: u64) -> u32 {
        if let Some(slot) = self.by_id.get(&user) {
            return *slot;
        }
        let fresh = User { id: user, hot_after: after, touched_ms: now_ms, ..User::default() };
        let slot = match self.free.pop() {
            Some(slot) => {
                self.users[slot as usize] = fresh;
                slot
            }
            None => {
                self.users.push(fresh);
                (self.users.len() - 1) as u32
            }
        };
        self.by_id.insert(user, slot);
        slot
    }

    /// Brings a conversation into memory as the store has it, unless it is there.
    pub fn install_conversation(&mut self, stored: StoredConversation, now_ms: u64) {
        let id = stored.id;
        if self.conversations.contains_key(&id) {
            return;
        }
        let mut conversation = Conversation {
            id,
            taken_seq: stored.head.last_seq,
            stored_seq: stored.head.last_seq,
            told_seq: stored.head.last_seq,
            head: stored.head,
            members: stored.members,
            authors: stored.authors,
            touched_ms: now_ms,
            ..Conversation::default()
        };
        // Only what reaches the end without a hole is of use.
        let mut next = conversation.head.last_seq;
        for message in stored.recent.into_iter().rev() {
            if message.seq != next {
                break;
            }
            next -= 1;
            conversation.recent.push_front(Arc::new(message));
        }
        if self.apart.is_some() {
            // Its members are elsewhere.
        } else if conversation.head.is_large() {
            conversation.online = self.online_of(&conversation.members);
        } else {
            let after = self.cursor;
            conversation.slots = Vec::with_capacity(conversation.members.len());
            for at in 0..conversation.members.len() {
                let slot = self.place(conversation.members[at].user, after, now_ms);
                self.users[slot as usize].refs += 1;
                conversation.slots.push(slot);
            }
        }
        self.conversations.insert(id, conversation);
    }

    /// Places of those members who are online.
    pub(super) fn online_of(&self, members: &[Member]) -> Vec<u32> {
        let online = |m: &Member| {
            let slot = self.by_id.get(&m.user).copied()?;
            (!self.users[slot as usize].conns.is_empty()).then_some(slot)
        };
        members.iter().filter_map(online).collect()
    }

    /// There is no such conversation in the store.
    pub fn install_missing(&mut self, id: u64) {
        if self.missing.len() >= MISSING_MAX {
            self.missing.clear();
        }
        if !self.conversations.contains_key(&id) {
            self.missing.insert(id);
        }
    }

    /// A conversation is made.
    pub(super) fn make_conversation(&mut self, conversation: Conversation) {
        self.missing.remove(&conversation.id);
        self.conversations.insert(conversation.id, conversation);
    }

    /// What the store says of a pair.
    pub fn install_pair(&mut self, low: u64, high: u64, conversation: Option<u64>) {
        self.pairs.entry((low, high)).or_insert(conversation);
    }

    /// The first answer to a message, as it was looked up.
    pub fn install_found(&mut self, key: SentKey, answer: Option<SendAnswer>) {
        if self.found.len() >= FOUND_MAX {
            self.found.clear();
        }
        self.found.insert(key, answer);
    }

    /// Brings a user's stored part into memory, unless it is there. False when the store's word is too old: read again.
    pub fn install_user(&mut self, stored: StoredUser, now_ms: u64) -> bool {
        let slot = self.place(stored.id, self.cursor, now_ms);
        if self.users[slot as usize].loaded.is_some() {
            return true;
        }
        let mut loaded = Loaded { person: stored.person, ..Loaded::default() };
        loaded.person.shrink();
        let mut unread = 0;
        let mut links: Vec<u64> = stored.links.iter().map(|l| l.conversation).collect();
        links.sort_unstable();
        for (id, came) in &self.users[slot as usize].links {
            match (links.binary_search(id), came) {
                (Err(at), true) => links.insert(at, *id),
                (Ok(at), false) => {
                    links.remove(at);
                }
                _ => {}
            }
        }
        for id in &links {
            let (large, count) = match self.conversations.get(id) {
                Some(c) => match c.member(stored.id) {
                    Some(member) => (c.head.is_large(), c.unread(member)),
                    None => continue,
                },
                None => match stored.links.iter().find(|l| l.conversation == *id) {
                    Some(l) => (l.head.is_large(), l.head.counted().unread(&l.member, l.own)),
                    None => return false,
                },
            };
            if large {
                loaded.large.push(*id);
            } else {
                unread += count;
            }
        }
        loaded.links = links;
        let user = &mut self.users[slot as usize];
        user.loaded = Some(Box::new(loaded));
        user.unread = unread;
        user.touched_ms = now_ms;
        true
    }

    /// Unread messages of a user in all his conversations, as far as memory knows the large ones.
    pub fn unread_total(&self, user: &User) -> u64 {
        let large = user.loaded.iter().flat_map(|l| &l.large).filter_map(|id| self.conversations.get(id));
        user.unread + large.filter_map(|c| c.member(user.id).map(|m| c.unread(m))).sum::<u64>()
    }

    /// A connection of a user.
    pub(super) fn conn_mut(
        &mut self,
        slot: u32,
        at: protocol::calls::ConnectionAt,
        device: u64,
    ) -> Option<&mut Conn> {
        self.users.get_mut(slot as usize)?.conn_mut(at, device)
    }

    /// Lets go of what has not been used for a while, when there is more than memory should hold. Only what every
    /// checkpoint that was begun has stored leaves.
    pub fn evict(&mut self, now_ms: u64) {
        let before = now_ms.saturating_sub(LINGER_MS);
        let excess = self.conversations.len().saturating_sub(self.options.conversations_max);
        if excess > 0 {
            let idle = |c: &&Conversation| {
                c.changed_in == 0
                    && c.pins == 0
                    && !c.changing
                    && c.online.is_empty()
                    && c.touched_ms < before
            };
            let ids: Vec<u64> = self.conversations.values().filter(idle).take(excess).map(|c| c.id).collect();
            for id in ids {
                let Some(gone) = self.conversations.remove(&id) else { continue };
                for slot in gone.slots.iter().filter(|s| **s != NO_SLOT) {
                    let user = &mut self.users[*slot as usize];
                    user.refs = user.refs.saturating_sub(1);
                }
            }
            let conversations = &self.conversations;
            self.pairs.retain(|_, id| id.is_some_and(|id| conversations.contains_key(&id)));
        }
        let excess = self.by_id.len().saturating_sub(self.options.users_max);
        if excess > 0 {
            self.evict_users(excess, before);
        }
    }

    fn evict_users(&mut self, excess: usize, before: u64) {
        let mut gone = 0;
        for slot in 0..self.users.len() {
            let user = &mut self.users[slot];
            let watched = user.loaded.as_ref().is_some_and(|l| !l.watchers.is_empty() || l.unlogged);
            let idle =
                user.id != 0 && user.changed_in == 0 && user.pins == 0 && user.conns.is_empty() && !watched;
            if !idle || user.touched_ms >= before || gone >= excess {
                continue;
            }
            user.loaded = None;
            user.links.clear();
            user.links_stored = 0;
            // His timer would find another in his place.
            if user.refs == 0 && !user.timed {
                self.by_id.remove(&user.id);
                *user = User::default();
                self.free.push(slot as u32);
            }
            gone += 1;
        }
    }
}
