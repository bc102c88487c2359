//! What a record does once it is decided ([`State::take`]) and once it is durable ([`State::apply`]).
//!
//! Both together are the fold over the log: they depend on the state and the record alone, so reading the log again
//! from a checkpoint gives the same timelines, cursors and counts. (What time it is matters only to pushes and to what
//! may leave memory.)

use super::changed;
use super::conversation::{Author, Conversation, Head, Member, relation};
use super::pushes::Pushing;
use super::send::{Logged, counts};
use super::state::State;
use super::user::Entry;
use prost::Message as _;
use protocol::v1::{FanOut, MessageKind, Recalled, Role};
use records::{ChatFact, ChatMessage};
use std::sync::Arc;

/// Why a record of the log can't be applied: the state is not the one it was decided in.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("record {index} of group {position} of the message log does not fit the state: {why}")]
pub struct Misfit {
    /// The group.
    pub position: u64,
    /// The record in it.
    pub index: u32,
    /// What does not fit.
    pub why: String,
}

impl State {
    /// A record is written; the next decisions build on it. It is held in memory until it is applied.
    pub fn take(&mut self, logged: &Logged, now_ms: u64) {
        match logged {
            Logged::Message(message) => self.take_message(message, now_ms),
            Logged::Fact(ChatFact::PairMade { conversation, low, high, kind }) => {
                let member = |user| Member { user, role: Role::Member as u32, ..Member::default() };
                let head = Head {
                    kind: u32::from(*kind),
                    fan_out: FanOut::Write as u32,
                    members: 2,
                    ..Head::default()
                };
                let members = vec![member(*low), member(*high)];
                let made = Conversation { id: *conversation, head, members, ..Conversation::default() };
                let mut made = Conversation { touched_ms: now_ms, pins: 1, ..made };
                let here: &[u64] = if self.apart.is_none() { &[*low, *high] } else { &[] };
                for user in here.iter().copied() {
                    let slot = self.place(user, self.cursor, now_ms);
                    self.users[slot as usize].refs += 1;
                    made.slots.push(slot);
                }
                self.pairs.insert((*low, *high), Some(*conversation));
                self.make_conversation(made);
            }
            Logged::Fact(fact) => {
                self.pin(fact, true);
                if let ChatFact::IdsReserved { until_ms } = fact {
                    self.ids.asked(*until_ms);
                }
            }
        }
    }

    fn take_message(&mut self, message: &ChatMessage, now_ms: u64) {
        if message.seq == 1 && !self.conversations.contains_key(&message.conversation) {
            let made =
                Conversation { id: message.conversation, touched_ms: now_ms, ..Conversation::default() };
            self.make_conversation(made);
        }
        let Some(conversation) = self.conversations.get_mut(&message.conversation) else { return };
        conversation.taken_seq = message.seq;
        conversation.pins += 1;
        conversation.touched_ms = now_ms;
        conversation.changing |= i32::from(message.kind) == MessageKind::Change as i32;
        if message.sender != 0 {
            // Not into the author's row: a checkpoint must not have what the log may lose.
            conversation.taken_counters.insert((message.sender, message.device), message.counter);
        }
        self.unstored_bytes += bytes_of(message);
    }

    /// Holds in memory what a fact will change, or lets it go.
    fn pin(&mut self, fact: &ChatFact, hold: bool) {
        let step = |pins: &mut u32| *pins = if hold { *pins + 1 } else { pins.saturating_sub(1) };
        let (conversation, users) = match fact {
            ChatFact::PairMade { conversation, .. } => (Some(conversation), [None, None]),
            ChatFact::Read { conversation, user, .. }
            | ChatFact::Cleared { conversation, user, .. }
            | ChatFact::Deleted { conversation, user, .. }
            | ChatFact::Quiet { conversation, user, .. } => (Some(conversation), [Some(user), None]),
            ChatFact::Friend { conversation, user, other, .. } => {
                (Some(conversation), [Some(user), Some(other)])
            }
            ChatFact::Profile { user, .. }
            | ChatFact::DeviceKnown { user, .. }
            | ChatFact::DeviceForgotten { user, .. }
            | ChatFact::Confirmed { user, .. } => (None, [Some(user), None]),
            ChatFact::IdsReserved { .. } => (None, [None, None]),
        };
        if let Some(conversation) = conversation.and_then(|id| self.conversations.get_mut(id)) {
            step(&mut conversation.pins);
        }
        for slot in users.into_iter().flatten().filter_map(|user| self.by_id.get(user).copied()) {
            step(&mut self.users[slot as usize].pins);
        }
    }

    /// A record is durable.
    ///
    /// # Errors
    /// When it does not fit the state: the log and the store don't belong together.
    pub fn apply(&mut self, logged: &Logged, now_ms: u64, out: &mut Pushing) -> Result<(), Misfit> {
        let at = self.at;
        let applied = match logged {
            Logged::Message(message) => self.apply_message(message, now_ms, out),
            Logged::Fact(fact) => {
                self.pin(fact, false);
                self.apply_fact(fact, out)
            }
        };
        self.at.index += 1;
        applied.map_err(|why| Misfit { position: at.position, index: at.index, why })
    }

    fn apply_message(
        &mut self,
        message: &Arc<ChatMessage>,
        now_ms: u64,
        out: &mut Pushing,
    ) -> Result<(), String> {
        let id = message.conversation;
        let missing = || format!("conversation {id} of its message {} is not there", message.seq);
        let conversation = self.conversations.get_mut(&id).ok_or_else(missing)?;
        let head = &conversation.head;
        if message.seq != head.last_seq + 1 {
            return Err(format!(
                "conversation {id} stands at {}, the message has {}",
                head.last_seq, message.seq
            ));
        }
        self.changes.conversation(conversation);
        let head = &mut conversation.head;
        self.cursor += 1;
        let entry = Entry { cursor: self.cursor, conversation: id, seq: message.seq };
        (head.last_seq, head.active_ms) = (message.seq, message.sent_ms);
        conversation.pins = conversation.pins.saturating_sub(1);
        if conversation.pins == 0 {
            conversation.taken_counters.clear();
        }
        conversation.touched_ms = now_ms;
        conversation.recent.push_back(Arc::clone(message));
        conversation.unstored.push(Arc::clone(message));
        conversation.unstored_bytes += bytes_of(message);
        let counted = counts(message.kind);
        if message.sender != 0 {
            let author: &mut Author = conversation.author_mut(message.sender);
            author.own += u64::from(counted);
            author.take(message.device, message.counter);
            conversation.author_changed(message.sender);
        }
        if !counted {
            conversation.head.uncount(message.seq, 0);
        }
        match MessageKind::try_from(i32::from(message.kind)) {
            Ok(MessageKind::Change) => changed::apply(self, message, entry, now_ms, out),
            Ok(MessageKind::Recall) => {
                let recalled = Recalled::decode(&*message.body).map_err(|e| e.to_string())?;
                self.recall(id, recalled.seq, message.counter);
                self.deliver(message, entry, now_ms, out);
                Ok(())
            }
            _ => {
                self.deliver(message, entry, now_ms, out);
                Ok(())
            }
        }
    }

    /// Gives a message to everybody who is in its conversation now.
    pub(super) fn deliver(
        &mut self,
        message: &Arc<ChatMessage>,
        entry: Entry,
        now_ms: u64,
        out: &mut Pushing,
    ) {
        if self.apart.is_some() {
            return;
        }
        let Some(conversation) = self.conversations.get_mut(&entry.conversation) else { return };
        if conversation.head.is_large() {
            if !std::mem::replace(&mut conversation.in_news, true) {
                self.news.push(entry.conversation);
            }
            return;
        }
        let counted = counts(message.kind);
        let again_ms = now_ms + self.options.again_ms;
        out.message(message);
        let queue = &mut self.again;
        for slot in &conversation.slots {
            let user = &mut self.users[*slot as usize];
            self.changes.user(*slot, user);
            user.touched_ms = now_ms;
            user.unread += u64::from(counted && user.id != message.sender);
            let again = |at, device, mark| queue.push_back((again_ms, *slot, at, device, mark));
            user.give(message, entry, out, again);
        }
    }

    /// A message of `sender` is recalled.
    fn recall(&mut self, id: u64, seq: u64, sender: u64) {
        let Some(conversation) = self.conversations.get_mut(&id) else { return };
        if !conversation.head.uncount(seq, sender) || conversation.head.is_large() {
            return;
        }
        for (member, slot) in conversation.members.iter().zip(&conversation.slots) {
            let counted = member.user != sender && member.read_seq < seq && !member.has_deleted(seq);
            if counted {
                let user = &mut self.users[*slot as usize];
                user.unread = user.unread.saturating_sub(1);
            }
        }
    }

    /// Changes a member's row and keeps his total in step. False when he is no member any more.
    fn change_member(&mut self, id: u64, user: u64, change: impl FnOnce(&mut Member)) -> bool {
        let Some(conversation) = self.conversations.get_mut(&id) else { return false };
        let Some(at) = conversation.index_of(user) else { return false };
        self.changes.conversation(conversation);
        let before = conversation.unread(&conversation.members[at]);
        change(&mut conversation.members[at]);
        let after = conversation.unread(&conversation.members[at]);
        conversation.member_changed(user);
        if let (false, Some(slot)) = (conversation.head.is_large(), conversation.slots.get(at)) {
            let user = &mut self.users[*slot as usize];
            user.unread = (user.unread + after).saturating_sub(before);
        }
        true
    }

    fn apply_fact(&mut self, fact: &ChatFact, out: &mut Pushing) -> Result<(), String> {
        match fact {
            ChatFact::PairMade { conversation, low, high, .. } => {
                self.changes.pairs.push((*low, *high, *conversation));
                if let Some(c) = self.conversations.get_mut(conversation) {
                    self.changes.conversation(c);
                    c.member_changed(*low);
                    c.member_changed(*high);
                }
                for user in [*low, *high] {
                    self.link(user, *conversation, true, false, self.cursor);
                }
            }
            ChatFact::Read { user, conversation, seq, own } => {
                let read = |m: &mut Member| {
                    if *seq > m.read_seq {
                        (m.read_seq, m.own_at_read) = (*seq, *own);
                    }
                };
                if self.change_member(*conversation, *user, read) {
                    self.tell_read(*user, *conversation, out);
                }
            }
            ChatFact::Cleared { user, conversation, seq, own } => {
                let clear = |m: &mut Member| {
                    if *seq > m.read_seq {
                        (m.read_seq, m.own_at_read) = (*seq, *own);
                    }
                    m.cleared_seq = m.cleared_seq.max(*seq);
                    m.deleted.retain(|d| d >> 1 > m.cleared_seq);
                };
                if self.change_member(*conversation, *user, clear) {
                    self.tell_read(*user, *conversation, out);
                }
            }
            ChatFact::Deleted { user, conversation, marks } => {
                let delete = |m: &mut Member| marks.iter().for_each(|(seq, counts)| m.delete(*seq, *counts));
                if self.change_member(*conversation, *user, delete) {
                    self.tell_read(*user, *conversation, out);
                }
            }
            ChatFact::Quiet { user, conversation, on } => {
                self.change_member(*conversation, *user, |m| m.quiet = *on);
            }
            ChatFact::Friend { conversation, user, other, step } => {
                self.apply_friend(*conversation, *user, *other, *step);
            }
            ChatFact::IdsReserved { until_ms } => self.ids.reserved(*until_ms),
            ChatFact::Profile { .. }
            | ChatFact::DeviceKnown { .. }
            | ChatFact::DeviceForgotten { .. }
            | ChatFact::Confirmed { .. } => self.apply_person(fact)?,
        }
        Ok(())
    }

    fn apply_friend(&mut self, id: u64, user: u64, other: u64, step: records::FriendStep) {
        use records::FriendStep::{Ask, Block, End};
        if let Some(conversation) = self.conversations.get_mut(&id) {
            self.changes.conversation(conversation);
            let (mine, theirs) = if user < other { (0, 1) } else { (1, 0) };
            let bits = &mut conversation.head.relation;
            match step {
                Ask => *bits = (*bits | relation::ASKS << mine) & !(relation::BLOCKS << mine),
                End => *bits &= !(relation::ASKS << mine | relation::ASKS << theirs),
                Block => {
                    *bits = (*bits | relation::BLOCKS << mine)
                        & !(relation::ASKS << mine | relation::ASKS << theirs);
                }
            }
        }
        if self.apart.is_some() {
            return;
        }
        for (of, with, is_first) in [(user, other, true), (other, user, false)] {
            let Some(slot) = self.slot(of) else { continue };
            self.user_changes(slot, true);
            if let Some(loaded) = &mut self.users[slot as usize].loaded {
                let friend = loaded.person.friend_mut(with, id);
                match (step, is_first) {
                    (Ask, true) => (friend.asks, friend.blocks) = (true, false),
                    (Ask, false) => friend.asked = true,
                    (End, _) => (friend.asks, friend.asked) = (false, false),
                    (Block, first) => {
                        (friend.asks, friend.asked) = (false, false);
                        friend.blocks |= first;
                    }
                }
                if friend.is_nothing() {
                    loaded.person.friends.retain(|f| f.user != with);
                }
            }
        }
    }

    /// A user came into a conversation, or left it. If he was not in memory, no entry behind `after` is his.
    pub(super) fn link(&mut self, user: u64, id: u64, came: bool, large: bool, after: u64) {
        if self.apart.is_some() {
            return;
        }
        let slot = self.place(user, after, 0);
        self.user_changes(slot, false);
        let entry = &mut self.users[slot as usize];
        entry.links.push((id, came));
        if let Some(loaded) = &mut entry.loaded {
            let set = |list: &mut Vec<u64>, put: bool| match (list.binary_search(&id), put) {
                (Err(at), true) => list.insert(at, id),
                (Ok(at), false) => drop(list.remove(at)),
                _ => {}
            };
            set(&mut loaded.links, came);
            set(&mut loaded.large, came && large);
        }
    }
}

/// What a message takes in memory, about.
fn bytes_of(message: &ChatMessage) -> usize {
    message.body.len() + 100
}
