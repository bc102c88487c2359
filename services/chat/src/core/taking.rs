//! What the next checkpoint takes, and taking it out piece by piece, so that nobody waits for all of it.
//!
//! A checkpoint holds everything as it was at one place of the log. Between [`State::begin_checkpoint`] and its last
//! piece records are applied on; what is about to change and has not been taken out yet is taken out then
//! ([`Changes::user`], [`Changes::conversation`], which are therefore called *before* each change). So each user and each
//! conversation is taken out once, as it was when the checkpoint was begun, and the work is spread over those who come by.
//!
//! A user and a conversation say in which turn they changed: 0 for neither, the turn that is running, or the one before while its
//! checkpoint is being taken out.

use super::conversation::Conversation;
use super::rows::{Checkpoint, UserRows};
use super::state::State;
use super::user::User;

/// Users and conversations that have changed.
#[derive(Debug)]
pub(super) struct Changes {
    /// The number of the checkpoint that takes what changes now.
    turn: u32,
    users: Vec<u32>,
    conversations: Vec<u64>,
    /// Conversations of two that are new.
    pub pairs: Vec<(u64, u64, u64)>,
    taking: Option<Taking>,
}

/// The checkpoint that is being taken out, that of the turn before.
#[derive(Debug)]
struct Taking {
    checkpoint: Checkpoint,
    users: Vec<u32>,
    conversations: Vec<u64>,
}

impl Taking {
    fn conversation(&mut self, conversation: &mut Conversation) {
        self.checkpoint.bytes += conversation.unstored_bytes;
        self.checkpoint.conversations.push(conversation.collect());
    }

    fn user(&mut self, user: &mut User) {
        self.checkpoint.users.push(user.collect());
    }
}

impl Default for Changes {
    fn default() -> Changes {
        Changes { turn: 1, users: Vec::new(), conversations: Vec::new(), pairs: Vec::new(), taking: None }
    }
}

impl Changes {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.users.len() + self.conversations.len()
    }

    /// The user in this place is about to change.
    #[inline]
    pub fn user(&mut self, slot: u32, user: &mut User) {
        if user.changed_in == self.turn {
            return;
        }
        if user.changed_in != 0
            && let Some(taking) = &mut self.taking
        {
            taking.user(user);
        }
        user.changed_in = self.turn;
        self.users.push(slot);
    }

    /// The conversation is about to change.
    #[inline]
    pub fn conversation(&mut self, conversation: &mut Conversation) {
        if conversation.changed_in == self.turn {
            return;
        }
        if conversation.changed_in != 0
            && let Some(taking) = &mut self.taking
        {
            taking.conversation(conversation);
        }
        conversation.changed_in = self.turn;
        self.conversations.push(conversation.id);
    }

    /// Forgets that anything has changed: somebody else keeps account of it.
    pub fn clear(&mut self) {
        self.users.clear();
        self.conversations.clear();
        self.pairs.clear();
    }
}

impl User {
    /// Takes out what has changed; it counts as unchanged and as stored from now on.
    fn collect(&mut self) -> UserRows {
        self.changed_in = 0;
        let changed = std::mem::take(&mut self.person_dirty);
        let rows = UserRows {
            id: self.id,
            person: self.loaded.as_ref().filter(|_| changed).map(|l| l.person.clone()),
            entries: self.entries[self.stored..].to_vec(),
            links: self.links[self.links_stored..].to_vec(),
        };
        (self.stored, self.links_stored) = (self.entries.len(), self.links.len());
        rows
    }
}

impl State {
    /// Users and conversations that the next checkpoint takes.
    pub fn changes(&self) -> usize {
        self.changes.len()
    }

    /// The user in this place is about to change; with `person` his own part too.
    pub(super) fn user_changes(&mut self, slot: u32, person: bool) {
        let user = &mut self.users[slot as usize];
        self.changes.user(slot, user);
        user.person_dirty |= person;
    }

    /// Begins a checkpoint of this place in the log, to be taken out by [`State::take_out`]; does nothing while another is
    /// being taken out.
    pub fn begin_checkpoint(&mut self) {
        let changes = &mut self.changes;
        if changes.taking.is_some() {
            return;
        }
        changes.turn += 1;
        changes.taking = Some(Taking {
            checkpoint: Checkpoint {
                at: self.at,
                cursor: self.cursor,
                ids_reserved_ms: self.ids.reserved_ms(),
                pairs: std::mem::take(&mut changes.pairs),
                ..Checkpoint::default()
            },
            users: std::mem::take(&mut changes.users),
            conversations: std::mem::take(&mut changes.conversations),
        });
    }

    /// Takes out so many more users and conversations. The checkpoint, once it is whole: whoever gets it must bring it into
    /// the store before anything of it may leave memory, see [`State::stored`]. Nothing if there is more, or none was begun.
    pub fn take_out(&mut self, most: usize) -> Option<Checkpoint> {
        let mut taking = self.changes.taking.take()?;
        let turn = self.changes.turn;
        // Those of this turn were taken out when they changed.
        let waits = |changed_in: u32| changed_in != 0 && changed_in != turn;
        for _ in 0..most {
            if let Some(id) = taking.conversations.pop() {
                let found = self.conversations.get_mut(&id).filter(|c| waits(c.changed_in));
                found.into_iter().for_each(|conversation| taking.conversation(conversation));
            } else if let Some(slot) = taking.users.pop() {
                let found = self.users.get_mut(slot as usize).filter(|u| waits(u.changed_in));
                found.into_iter().for_each(|user| taking.user(user));
            } else {
                return Some(taking.checkpoint);
            }
        }
        self.changes.taking = Some(taking);
        None
    }
}
