//! Decisions about what is a member's own in a conversation: how far he has read, what he does not want to see any more,
//! whether he wants notices of it.
//!
//! None of these is a message: each is a fact that changes his row, and whatever is unread follows from the row.

use super::changes::{Stop, refuse};
use super::conversation::{Conversation, Member};
use super::send::{Logged, counts};
use super::state::State;
use crate::limits;
use protocol::calls::CallError;
use protocol::v1::Delete;
use records::{ChatFact, ChatMessage};

/// How often a reader's own messages are counted anew because the conversation has gone on meanwhile. Each time fewer
/// are left than are kept in memory, unless it grows faster than the store is read.
pub const COUNTS_MAX: usize = 8;

/// Counted messages of a reader behind a position, from the store.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OwnBehind {
    /// The position.
    pub after: u64,
    /// Messages up to this one were looked at.
    pub upto: u64,
    /// How many of them are his, recalled ones too.
    pub own: u64,
}

/// What is to be done for a read position.
#[derive(Clone, PartialEq, Debug)]
pub enum Reading {
    /// He has read so far, or further.
    Stands,
    /// His own messages behind `after` and up to `upto` must be counted first ([`own_among`]); then decide again.
    Count {
        /// The position.
        after: u64,
        /// The last message that is durable.
        upto: u64,
    },
    /// Write this.
    Take(Vec<Logged>),
}

/// Counted messages of a user among some, recalled ones too.
pub fn own_among<'a>(user: u64, messages: impl IntoIterator<Item = &'a ChatMessage>) -> u64 {
    messages.into_iter().filter(|m| m.sender == user && counts(m.kind)).count() as u64
}

/// Seqs of a call of Delete, each once, rising.
///
/// # Errors
/// When there are none, or too many.
pub fn delete_seqs(ask: &Delete) -> Result<Vec<u64>, CallError> {
    let (count, most) = (ask.seqs.len(), limits::DELETE_CALL_MAX);
    if count == 0 || count > most {
        return Err(CallError::Invalid(format!("{count} seqs; 1 to {most} at a time")));
    }
    let mut seqs = ask.seqs.clone();
    seqs.sort_unstable();
    seqs.dedup();
    Ok(seqs)
}

/// What deleting messages for oneself takes to know of each: its seq, and whether it counts as unread for the user.
pub fn delete_marks<'a>(user: u64, messages: impl IntoIterator<Item = &'a ChatMessage>) -> Vec<(u64, bool)> {
    messages.into_iter().map(|m| (m.seq, m.sender != user && counts(m.kind))).collect()
}

/// There is nothing to see for this user.
pub fn unknown_conversation() -> CallError {
    CallError::NotFound("there is no such conversation, or you are not in it".to_owned())
}

impl State {
    /// A member's conversation, and he in it.
    ///
    /// # Errors
    /// What is needed, or that he is not in it.
    pub fn of_member(&self, id: u64, user: u64) -> Result<(&Conversation, &Member), Stop> {
        let conversation = self.settled(id)?.ok_or_else(unknown_conversation)?;
        let member = conversation.member(user).ok_or_else(unknown_conversation)?;
        Ok((conversation, member))
    }

    /// Decides about a read position. `last`: the last message that is durable, nobody has read further. `counted`: what
    /// [`Reading::Count`] asked for.
    ///
    /// A position in the midst of the messages takes one's own up to it, which is all of one's own less those behind it:
    /// what memory does not have of them is counted in the store, and what has come since is at hand.
    ///
    /// # Errors
    /// What is needed, or why not.
    pub fn decide_read(
        &self,
        (user, id): (u64, u64),
        seq: u64,
        last: u64,
        counted: Option<OwnBehind>,
    ) -> Result<Reading, Stop> {
        let (conversation, member) = self.of_member(id, user)?;
        let seq = seq.min(last);
        if seq <= member.read_seq {
            return Ok(Reading::Stands);
        }
        let at_hand_behind = |after: u64| {
            let newer = conversation.recent.iter().rev().take_while(|m| m.seq > after);
            own_among(user, newer.map(|m| &**m))
        };
        let (all, from) = (conversation.own(user), conversation.recent_from());
        let counted = counted.filter(|c| c.after == seq && from <= c.upto + 1);
        let behind = if all == 0 {
            0
        } else if from <= seq + 1 {
            at_hand_behind(seq)
        } else if let Some(OwnBehind { upto, own, .. }) = counted {
            own + at_hand_behind(upto)
        } else if last - seq > limits::OWN_SEARCH_MAX {
            let far = last - seq;
            return refuse(&format!(
                "the position is {far} messages behind the last; read closer to it first"
            ));
        } else {
            return Ok(Reading::Count { after: seq, upto: last });
        };
        let fact = ChatFact::Read { user, conversation: id, seq, own: all.saturating_sub(behind) };
        Ok(Reading::Take(vec![Logged::Fact(fact)]))
    }

    /// Decides about showing a user nothing of what a conversation has so far; nothing to write when it is so already.
    ///
    /// # Errors
    /// What is needed, or why not.
    pub fn decide_clear(&self, user: u64, id: u64) -> Result<Vec<Logged>, Stop> {
        let (conversation, member) = self.of_member(id, user)?;
        let (seq, own) = (conversation.head.last_seq, conversation.own(user));
        if member.cleared_seq >= seq {
            return Ok(Vec::new());
        }
        Ok(vec![Logged::Fact(ChatFact::Cleared { user, conversation: id, seq, own })])
    }

    /// Decides about not showing a user some messages any more; `marks` as from [`delete_marks`]. What he does not see
    /// anyway is passed over.
    ///
    /// # Errors
    /// What is needed, or why not.
    pub fn decide_delete(&self, user: u64, id: u64, marks: &[(u64, bool)]) -> Result<Vec<Logged>, Stop> {
        let (_, member) = self.of_member(id, user)?;
        let marks: Vec<(u64, bool)> = marks.iter().copied().filter(|(seq, _)| member.sees(*seq)).collect();
        if member.deleted.len() + marks.len() > limits::DELETED_MAX {
            return refuse("too many messages deleted one by one; delete all of them");
        }
        if marks.is_empty() {
            return Ok(Vec::new());
        }
        Ok(vec![Logged::Fact(ChatFact::Deleted { user, conversation: id, marks })])
    }

    /// Decides about notices of a conversation; nothing to write when it is so already.
    ///
    /// # Errors
    /// What is needed, or why not.
    pub fn decide_quiet(&self, user: u64, id: u64, on: bool) -> Result<Vec<Logged>, Stop> {
        let (_, member) = self.of_member(id, user)?;
        if member.quiet == on {
            return Ok(Vec::new());
        }
        Ok(vec![Logged::Fact(ChatFact::Quiet { user, conversation: id, on })])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::{At, Author, Head, StoredConversation};
    use crate::options::ChatOptions;

    fn message(seq: u64, sender: u64) -> ChatMessage {
        ChatMessage { conversation: 7, seq, sender, kind: 1, ..ChatMessage::default() }
    }

    /// User 1 wrote every third of 30 messages, of which memory has the last five.
    fn state() -> (State, Vec<ChatMessage>) {
        let all: Vec<ChatMessage> =
            (1..=30).map(|seq| message(seq, 1 + u64::from(!seq.is_multiple_of(3)))).collect();
        let member = |user| Member { user, ..Member::default() };
        let stored = StoredConversation {
            id: 7,
            head: Head { last_seq: 30, members: 2, ..Head::default() },
            members: vec![member(1), member(2)],
            authors: vec![Author { user: 1, own: 10, devices: Vec::new() }],
            recent: all[25..].to_vec(),
            ..StoredConversation::default()
        };
        let mut state = State::new(ChatOptions::default(), At::default(), 0, 0);
        state.install_conversation(stored, 0);
        (state, all)
    }

    fn own_of(reading: Reading) -> Option<(u64, u64)> {
        match reading {
            Reading::Take(records) => match records[..] {
                [Logged::Fact(ChatFact::Read { seq, own, .. })] => Some((seq, own)),
                _ => None,
            },
            _ => None,
        }
    }

    #[test]
    fn a_position_in_the_midst_counts_ones_own_behind_it() {
        let (state, all) = state();
        // At hand, and beyond the end: nobody reads what is not there.
        assert_eq!(own_of(state.decide_read((1, 7), 28, 30, None).unwrap()), Some((28, 9)));
        assert_eq!(own_of(state.decide_read((1, 7), 99, 30, None).unwrap()), Some((30, 10)));
        assert_eq!(own_of(state.decide_read((1, 7), 99, 29, None).unwrap()), Some((29, 9)));
        // Far back: from the store, and only once it has been counted for this very position.
        let ask = Reading::Count { after: 10, upto: 30 };
        assert_eq!(state.decide_read((1, 7), 10, 30, None).unwrap(), ask);
        let own = own_among(1, &all[10..30]);
        let counted = |after| Some(OwnBehind { after, upto: 30, own });
        assert_eq!(state.decide_read((1, 7), 10, 30, counted(11)).unwrap(), ask);
        assert_eq!(own_of(state.decide_read((1, 7), 10, 30, counted(10)).unwrap()), Some((10, 3)));
        // Counted a while ago: what came since is at hand.
        let early = OwnBehind { after: 10, upto: 27, own: own_among(1, &all[10..27]) };
        assert_eq!(own_of(state.decide_read((1, 7), 10, 30, Some(early)).unwrap()), Some((10, 3)));
        let too_early = OwnBehind { upto: 24, ..early };
        assert_eq!(state.decide_read((1, 7), 10, 30, Some(too_early)).unwrap(), ask);
        // Who writes nothing need not be counted; who is not in it hears so.
        assert_eq!(own_of(state.decide_read((2, 7), 3, 30, None).unwrap()), Some((3, 0)));
        assert!(matches!(state.decide_read((3, 7), 3, 30, None), Err(Stop::No(CallError::NotFound(_)))));
    }

    #[test]
    fn what_is_so_already_is_not_written() {
        let (state, all) = state();
        assert_eq!(state.decide_quiet(1, 7, false).unwrap(), []);
        assert_eq!(state.decide_quiet(1, 7, true).unwrap().len(), 1);
        assert_eq!(state.decide_clear(1, 7).unwrap().len(), 1);
        assert_eq!(state.decide_delete(1, 7, &[]).unwrap(), []);
        assert_eq!(delete_marks(1, &all[..3]), [(1, true), (2, true), (3, false)]);
        assert_eq!(state.decide_read((1, 7), 0, 30, None).unwrap(), Reading::Stands);
        let seqs = |seqs: Vec<u64>| delete_seqs(&Delete { conversation: 7, seqs, all: false });
        assert_eq!(seqs(vec![3, 1, 3]).unwrap(), [1, 3]);
        assert!(seqs(Vec::new()).is_err() && seqs(vec![1; 201]).is_err());
    }
}
