//! What goes from the owner of a conversation to the owners of timelines, and back.

use records::ChatMessage;
use std::sync::Arc;

/// Names a hand: whose it is, and what of the conversation it brings.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct HandKey {
    /// Node of the conversation's owner: the acknowledgement goes there.
    pub node: u16,
    /// Its epoch.
    pub epoch: u32,
    /// The term under which it owns the conversation's bucket.
    pub term: u32,
    /// The conversation.
    pub conversation: u64,
    /// Its version, as of which every place in the hand holds.
    pub version: u64,
    /// Messages up to this one are in this hand or were in those before it.
    pub to_seq: u64,
}

/// News of a conversation for timelines. Everything in it is durable.
#[derive(Clone, PartialEq, Debug)]
pub struct Hand {
    /// Its name.
    pub key: HandKey,
    /// The conversation's messages don't come into timelines any more (behind those in here).
    pub large: bool,
    /// Messages for timelines, rising.
    pub messages: Vec<Arc<ChatMessage>>,
    /// For whom, rising by user.
    pub places: Vec<Place>,
}

impl Hand {
    /// The part of it that is for some of the users; nothing when that is nobody.
    pub fn part(&self, is_for: impl Fn(u64) -> bool) -> Option<Hand> {
        let places: Vec<Place> = self.places.iter().filter(|p| is_for(p.user)).copied().collect();
        (!places.is_empty()).then(|| Hand {
            key: self.key,
            large: self.large,
            messages: self.messages.clone(),
            places,
        })
    }
}

/// A user's place in the conversation, as of the hand's version.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Place {
    /// Who.
    pub user: u64,
    /// The first of the hand's messages that is for him.
    pub first_seq: u64,
    /// The last that is.
    pub until_seq: u64,
    /// He is in it.
    pub member: bool,
    /// This is to be stored: he came or left, or the conversation has grown.
    pub link: bool,
    /// His devices are to hear how he has read.
    pub tell: bool,
    /// Unread messages.
    pub unread: u64,
    /// Read up to here.
    pub read_seq: u64,
    /// In a conversation of two, when it has changed: what stands between them.
    pub between: Option<Between>,
}

/// What stands between a user and the other one.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Between {
    /// The other.
    pub peer: u64,
    /// He wants the other as a friend.
    pub asks: bool,
    /// The other wants him.
    pub asked: bool,
    /// He has blocked the other.
    pub blocks: bool,
}

/// The timelines of these users have all that a hand brought, durably.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Ack {
    /// The hand.
    pub key: HandKey,
    /// Whose.
    pub users: Vec<u64>,
}
