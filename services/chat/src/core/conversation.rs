//! A conversation: who is in it, what it has counted, which of its messages are at hand.
//!
//! Two steps change it. When a message is decided its seq is taken at once; when it is durable it is applied. While a
//! change of the conversation itself is between the two, nothing else is decided in it, so that every decision sees
//! the members as they are.

use super::unread::Counted;
use crate::limits;
use protocol::v1::{ConversationKind, FanOut, Role};
use records::ChatMessage;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

/// A member's place among the users in memory that is not looked up (read fan-out).
pub const NO_SLOT: u32 = u32::MAX;

/// What is stored of a conversation itself.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Head {
    /// Number of the `ConversationKind`.
    #[prost(uint32, tag = "1")]
    pub kind: u32,
    /// Number of the `FanOut`.
    #[prost(uint32, tag = "2")]
    pub fan_out: u32,
    /// The last message that is applied.
    #[prost(uint64, tag = "3")]
    pub last_seq: u64,
    /// When it was sent, ms UTC.
    #[prost(uint64, tag = "4")]
    pub active_ms: u64,
    /// Of a group.
    #[prost(string, tag = "5")]
    pub name: String,
    /// Only owner and admins may write.
    #[prost(bool, tag = "6")]
    pub muted_all: bool,
    /// It is over.
    #[prost(bool, tag = "7")]
    pub dissolved: bool,
    /// Members now.
    #[prost(uint32, tag = "8")]
    pub members: u32,
    /// What does not count as unread: seqs, rising.
    #[prost(uint64, repeated, tag = "9")]
    pub uncounted: Vec<u64>,
    /// For each of those its sender, when it was recalled; 0: a message of the platform.
    #[prost(uint64, repeated, tag = "10")]
    pub recalled_of: Vec<u64>,
    /// Between the two of a pair, see [`relation`].
    #[prost(uint32, tag = "11")]
    pub relation: u32,
}

/// Bits of what stands between the two of a pair; the smaller user's, and shifted by one the larger user's.
pub mod relation {
    /// Wants the other as a friend.
    pub const ASKS: u32 = 1;
    /// Has blocked the other.
    pub const BLOCKS: u32 = 4;
    /// Both want each other.
    pub const FRIENDS: u32 = ASKS | ASKS << 1;
    /// Somebody has blocked the other.
    pub const BLOCKED: u32 = BLOCKS | BLOCKS << 1;

    /// One's own bits of the two.
    pub const fn of(both: u32, is_smaller: bool) -> u32 {
        (if is_smaller { both } else { both >> 1 }) & (ASKS | BLOCKS)
    }
}

impl Head {
    /// Counts messages.
    pub fn counted(&self) -> Counted<'_> {
        Counted { last_seq: self.last_seq, uncounted: &self.uncounted, recalled_of: &self.recalled_of }
    }

    /// Whether its messages stay out of the timelines.
    pub fn is_large(&self) -> bool {
        self.fan_out == FanOut::Read as u32
    }

    /// Whether a message was recalled.
    pub fn is_recalled(&self, seq: u64) -> bool {
        self.uncounted.binary_search(&seq).is_ok_and(|at| self.recalled_of[at] != 0)
    }

    /// A message does not count (any more).
    pub fn uncount(&mut self, seq: u64, sender: u64) -> bool {
        match self.uncounted.binary_search(&seq) {
            Ok(_) => false,
            Err(at) => {
                self.uncounted.insert(at, seq);
                self.recalled_of.insert(at, sender);
                true
            }
        }
    }
}

/// A member, as it is stored.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Member {
    /// Who. Stored beside it.
    #[prost(uint64, tag = "1")]
    pub user: u64,
    /// Number of the `Role`.
    #[prost(uint32, tag = "2")]
    pub role: u32,
    /// May not write.
    #[prost(bool, tag = "3")]
    pub muted: bool,
    /// Wants no notices.
    #[prost(bool, tag = "4")]
    pub quiet: bool,
    /// The message by which he came; the first that he may see.
    #[prost(uint64, tag = "5")]
    pub joined_seq: u64,
    /// Nothing up to here is shown to him.
    #[prost(uint64, tag = "6")]
    pub cleared_seq: u64,
    /// Read up to here.
    #[prost(uint64, tag = "7")]
    pub read_seq: u64,
    /// Counted messages of his own up to `read_seq`, recalled ones too.
    #[prost(uint64, tag = "8")]
    pub own_at_read: u64,
    /// What he deleted for himself: twice the seq, and one more if it was a counted message of somebody else. Rising.
    #[prost(uint64, repeated, tag = "9")]
    pub deleted: Vec<u64>,
}

impl Member {
    /// Whether he may see a message.
    pub fn sees(&self, seq: u64) -> bool {
        seq >= self.joined_seq && seq > self.cleared_seq && !self.has_deleted(seq)
    }

    /// Whether he deleted a message for himself.
    pub fn has_deleted(&self, seq: u64) -> bool {
        let at = self.deleted.partition_point(|d| d >> 1 < seq);
        self.deleted.get(at).is_some_and(|d| d >> 1 == seq)
    }

    /// The first message that he may see.
    pub fn first_seq(&self) -> u64 {
        self.joined_seq.max(self.cleared_seq + 1)
    }

    /// Marks a message as deleted.
    pub fn delete(&mut self, seq: u64, counts: bool) {
        if !self.has_deleted(seq) {
            let at = self.deleted.partition_point(|d| d >> 1 < seq);
            self.deleted.insert(at, seq << 1 | u64::from(counts));
        }
    }

    /// Owner or admin.
    pub fn leads(&self) -> bool {
        self.role >= Role::Admin as u32
    }
}

/// Somebody who has written in a conversation, as it is stored; stays when he leaves.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Author {
    /// Who. Stored beside it.
    #[prost(uint64, tag = "1")]
    pub user: u64,
    /// Counted messages of his that were taken, recalled ones too; of all his memberships.
    #[prost(uint64, tag = "2")]
    pub own: u64,
    /// His devices' counters.
    #[prost(message, repeated, tag = "3")]
    pub devices: Vec<Numbered>,
}

/// How far a device has numbered its messages in a conversation.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct Numbered {
    /// The device.
    #[prost(uint64, tag = "1")]
    pub device: u64,
    /// The last number taken.
    #[prost(uint64, tag = "2")]
    pub counter: u64,
}

impl Author {
    /// Takes a number. The device that wrote last stands last; the one silent longest makes room.
    pub fn take(&mut self, device: u64, counter: u64) {
        match self.devices.iter().position(|d| d.device == device) {
            Some(at) if at + 1 == self.devices.len() => self.devices[at].counter = counter,
            Some(at) => {
                self.devices.remove(at);
                self.devices.push(Numbered { device, counter });
            }
            None => {
                if self.devices.len() >= limits::AUTHOR_DEVICES_MAX {
                    self.devices.remove(0);
                }
                self.devices.push(Numbered { device, counter });
            }
        }
    }

    /// The last number of a device.
    pub fn counter(&self, device: u64) -> u64 {
        self.devices.iter().find(|d| d.device == device).map_or(0, |d| d.counter)
    }
}

/// A conversation in memory.
#[derive(Default)]
pub struct Conversation {
    /// Its id.
    pub id: u64,
    /// What is stored.
    pub head: Head,
    /// By user.
    pub members: Vec<Member>,
    /// The members' places among the users in memory, in the same order; empty for a large one.
    pub slots: Vec<u32>,
    /// Places of members of a large one who are online.
    pub online: Vec<u32>,
    /// By user.
    pub authors: Vec<Author>,
    /// The last message that was decided; `head.last_seq` follows.
    pub taken_seq: u64,
    /// The last numbers of devices (user, device) whose messages are decided and not applied; authors follow.
    pub taken_counters: HashMap<(u64, u64), u64>,
    /// A change of the conversation is decided and not applied.
    pub changing: bool,
    /// Records decided and not applied.
    pub pins: u32,
    /// The newest messages, without a hole, ending with `head.last_seq`.
    pub recent: VecDeque<Arc<ChatMessage>>,
    /// Those of them that the next checkpoint takes, apart, so that it need not look at every message.
    pub unstored: Vec<Arc<ChatMessage>>,
    /// ... and their bytes, about.
    pub unstored_bytes: usize,
    /// Messages up to here are in the store, or on their way there.
    pub stored_seq: u64,
    /// The number of the checkpoint that takes what has changed in it; 0: nothing has.
    pub changed_in: u32,
    /// Members of whom a row has changed.
    pub dirty_members: Vec<u64>,
    /// Those who left since the last checkpoint.
    pub gone_members: Vec<u64>,
    /// Authors of whom a row has changed.
    pub dirty_authors: Vec<u64>,
    /// Last use, ms on the node's clock.
    pub touched_ms: u64,
    /// It is in the list of what the next tick tells.
    pub in_news: bool,
    /// A large one: the last seq that was told at a tick.
    pub told_seq: u64,
}

impl Conversation {
    /// Its kind.
    pub fn kind(&self) -> ConversationKind {
        ConversationKind::try_from(self.head.kind.cast_signed()).unwrap_or_default()
    }

    /// Where a user stands among the members.
    pub fn index_of(&self, user: u64) -> Option<usize> {
        self.members.binary_search_by_key(&user, |m| m.user).ok()
    }

    /// A member.
    pub fn member(&self, user: u64) -> Option<&Member> {
        self.index_of(user).map(|at| &self.members[at])
    }

    /// Counted messages that a user ever sent here.
    pub fn own(&self, user: u64) -> u64 {
        self.author(user).map_or(0, |a| a.own)
    }

    /// A user who has written here.
    pub fn author(&self, user: u64) -> Option<&Author> {
        self.authors.binary_search_by_key(&user, |a| a.user).ok().map(|at| &self.authors[at])
    }

    /// The last number that was taken of a device.
    pub fn counter(&self, user: u64, device: u64) -> u64 {
        let taken = self.taken_counters.get(&(user, device)).copied();
        taken.unwrap_or_else(|| self.author(user).map_or(0, |a| a.counter(device)))
    }

    /// The same, to be changed.
    pub fn author_mut(&mut self, user: u64) -> &mut Author {
        let at = match self.authors.binary_search_by_key(&user, |a| a.user) {
            Ok(at) => at,
            Err(at) => {
                self.authors.insert(at, Author { user, ..Author::default() });
                at
            }
        };
        &mut self.authors[at]
    }

    /// Unread messages of a member.
    pub fn unread(&self, member: &Member) -> u64 {
        self.head.counted().unread(member, self.own(member.user))
    }

    /// The other one of a pair.
    pub fn peer_of(&self, user: u64) -> u64 {
        self.members.iter().map(|m| m.user).find(|m| *m != user).unwrap_or(0)
    }

    /// The first seq that is at hand.
    pub fn recent_from(&self) -> u64 {
        self.recent.front().map_or(self.head.last_seq + 1, |m| m.seq)
    }

    /// A message that is at hand.
    pub fn recent(&self, seq: u64) -> Option<&Arc<ChatMessage>> {
        let at = seq.checked_sub(self.recent_from())?;
        self.recent.get(usize::try_from(at).ok()?)
    }

    /// Notes that a member's row has changed.
    pub fn member_changed(&mut self, user: u64) {
        if !self.dirty_members.contains(&user) {
            self.dirty_members.push(user);
        }
    }

    /// Notes that an author's row has changed.
    pub fn author_changed(&mut self, user: u64) {
        if !self.dirty_authors.contains(&user) {
            self.dirty_authors.push(user);
        }
    }
}
