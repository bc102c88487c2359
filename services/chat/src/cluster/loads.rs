//! What the owner of conversations needs from the store, and how it comes in.
//!
//! Whatever is read says under which term the reading began: what belongs to an earlier ownership of a bucket is dropped,
//! since others may have written in between. What was seen of users, and of pairs without a conversation, belongs to
//! others anyway, and is believed for a short time only.

use super::conversations::{Conversations, GLIMPSE_MS, Want};
use super::work::Work;
use crate::core::{Key, SentKey, StoredConversation, StoredUser};
use hashring::bucket_of;
use protocol::v1::SendAnswer;

impl<T> Conversations<T> {
    pub(super) fn want_messages(&mut self, conversation: u64, from: u64, to: u64) {
        let want = Want::Messages { conversation, from, to };
        if !self.unreadable.is_left_alone(&want, self.ticked_ms) && self.is_wanted.insert(want) {
            self.wanted.push(want);
        }
    }

    /// Something is to be read for a decision.
    pub fn want(&mut self, key: Key) {
        let want = Want::Key(key);
        if !matches!(key, Key::Settled(_) | Key::Elsewhere(_))
            && !self.is_unreadable(key)
            && self.is_wanted.insert(want)
        {
            self.wanted.push(want);
        }
    }

    /// What is to be read from the store. Whoever takes it reads it, brings in what came, says
    /// [`answered`](Conversations::answered) of each, and lets those who wait try again ([`retry`](Conversations::retry)).
    pub fn wants(&mut self) -> Vec<Want> {
        std::mem::take(&mut self.wanted)
    }

    /// The reading of something is over: it may be wanted again.
    pub fn answered(&mut self, want: &Want) {
        self.is_wanted.remove(want);
        self.unreadable.was_read(want);
    }

    /// The reading of something is over, and something stands there that can't be understood: it is left alone for a while,
    /// and whoever needs it is told so. How often that has been found.
    pub fn answered_unreadable(&mut self, want: &Want, now_ms: u64) -> u32 {
        self.is_wanted.remove(want);
        self.unreadable.found(*want, now_ms)
    }

    /// Something that is needed can't be read, and is not looked at just now.
    pub fn is_unreadable(&self, key: Key) -> bool {
        self.unreadable.is_left_alone(&Want::Key(key), self.ticked_ms)
    }

    /// A conversation that can't be read has something that is to be handed on: it is wanted until it is there.
    pub fn look_again(&mut self, id: u64) {
        self.overlooked.insert(id);
    }

    /// Those are wanted that have been left alone for long enough.
    pub(super) fn want_overlooked(&mut self) {
        let ids: Vec<u64> = self.overlooked.iter().copied().collect();
        for id in ids {
            if !self.state.owns(id) || self.works.contains_key(&id) {
                self.overlooked.remove(&id);
            } else {
                self.want(Key::Conversation(id));
            }
        }
    }

    /// What can't be read.
    pub fn unreadable(&self) -> usize {
        self.unreadable.len()
    }

    /// Conversations in which something can be decided again; who waits for one (`Key::Settled`) tries again, and
    /// [`retry`](Conversations::retry) is to be called.
    pub fn settled(&mut self) -> Vec<u64> {
        std::mem::take(&mut self.settled)
    }

    /// A conversation as the store has it. `term`: of its bucket, when the reading began.
    pub fn install(&mut self, stored: StoredConversation, term: u32, now_ms: u64) {
        let (id, bucket) = (stored.id, bucket_of(stored.id).get());
        if self.term(bucket) != Some(term) || self.works.contains_key(&id) {
            return;
        }
        let mut work = Work::new(term, stored.version, stored.head.last_seq, stored.fanned);
        work.touched_ms = now_ms;
        self.works.insert(id, work);
        self.in_bucket.entry(bucket).or_default().insert(id);
        self.state.install_conversation(stored, now_ms);
        self.form(id);
    }

    /// What the store says of a pair of users.
    pub fn install_pair(&mut self, low: u64, high: u64, conversation: Option<u64>, now_ms: u64) {
        self.state.install_pair(low, high, conversation);
        if conversation.is_none() {
            self.glimpses.push_back((now_ms + GLIMPSE_MS, Key::Pair(low, high)));
        }
    }

    /// What the store says of a user.
    pub fn install_user(&mut self, stored: StoredUser, now_ms: u64) {
        self.glimpses.push_back((now_ms + GLIMPSE_MS, Key::User(stored.id)));
        self.state.install_user(stored, now_ms);
    }

    /// The first answer to a message, as it was looked up. `term`: of its conversation's bucket, when that began.
    pub fn install_found(&mut self, key: SentKey, answer: Option<SendAnswer>, term: u32) {
        if self.term(bucket_of(key.conversation).get()) == Some(term) {
            self.state.install_found(key, answer);
        }
    }

    /// There is no such conversation. `term`: of its bucket, when that was looked up.
    pub fn install_missing(&mut self, id: u64, term: u32) {
        if self.term(bucket_of(id).get()) == Some(term) {
            self.state.install_missing(id);
        }
    }
}
