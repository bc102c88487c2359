//! A state of conversations alone: in a cluster the timelines of their members are with other owners.
//!
//! It decides with the same functions as the state that has everything, and applies the same records to conversations.
//! What is different: it decides only what this node owns, makes new conversations with ids that it owns, and no record
//! reaches a user's timeline here. Users in memory are glimpses, for decisions that look at them.

use super::state::{At, State};
use super::user::User;
use crate::options::ChatOptions;
use hashring::bucket_of;
use std::collections::BTreeSet;

/// Ids that are tried for one in an owned bucket: a node among 200 finds one among 1,024 all but once in 100 times.
const IDS_TRIED_MAX: usize = 1_024;

/// What makes a state one of conversations alone: the timelines of their members are with other owners.
#[derive(Clone, Debug, Default)]
pub struct Apart {
    /// Buckets of conversations that are decided here.
    pub owned: BTreeSet<u16>,
}

impl State {
    /// A state of conversations alone. It owns no bucket yet.
    pub fn apart(options: ChatOptions, ids_above_ms: u64) -> State {
        State { apart: Some(Apart::default()), ..State::new(options, At::default(), 0, ids_above_ms) }
    }

    /// Whether a conversation is decided here.
    pub fn owns(&self, conversation: u64) -> bool {
        self.apart.as_ref().is_none_or(|apart| apart.owned.contains(&bucket_of(conversation).get()))
    }

    /// An id for a new conversation, which will be decided here. In a cluster several ids are tried for that; nothing
    /// when none of them is this node's, or ids are being reserved.
    pub(super) fn conversation_id(&mut self, now_ms: u64) -> Option<u64> {
        for _ in 0..IDS_TRIED_MAX {
            let id = self.ids.next(now_ms)?;
            if self.owns(id) {
                return Some(id);
            }
        }
        None
    }

    /// A conversation's memory is not to be trusted, or not needed any more: it is loaded when it is asked for.
    pub fn forget_conversation(&mut self, id: u64) {
        if let Some(gone) = self.conversations.remove(&id)
            && let [low, high] = &gone.members[..]
            && self.pairs.get(&(low.user, high.user)) == Some(&Some(id))
        {
            self.pairs.remove(&(low.user, high.user));
        }
        self.missing.remove(&id);
    }

    /// The store has another word about a pair than memory.
    pub fn correct_pair(&mut self, low: u64, high: u64, conversation: Option<u64>) {
        match conversation {
            Some(id) => drop(self.pairs.insert((low, high), Some(id))),
            None => drop(self.pairs.remove(&(low, high))),
        }
    }

    /// A bucket has changed hands: nothing that was looked up is believed any more.
    pub fn forget_found(&mut self) {
        self.missing.clear();
        self.found.clear();
    }

    /// What was seen of a user is too old to decide by.
    pub fn forget_glimpse(&mut self, user: u64) {
        if let Some(slot) = self.by_id.remove(&user) {
            self.users[slot as usize] = User::default();
            self.free.push(slot);
        }
    }
}
