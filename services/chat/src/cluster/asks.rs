//! Requests at the owner of a conversation: reading, deleting, recalling, who is in it, its messages.
//!
//! What changes something is decided by the same functions as in the form with one log, in its turn: while a change of
//! members waits for a busy conversation, everything else in it waits too. The records go to
//! [`Conversations::take`]; none: it is so already, and the answer waits for [`Conversations::after`].
//!
//! What only looks does not wait for timelines that have not heard of a change yet. Memory may be ahead of the store
//! while a step is under way: such an answer is given when [`Conversations::seen`] says that what it shows is durable.

use super::conversations::Conversations;
use crate::core::{
    Conversation, Key, Logged, Member, OwnBehind, RangePlan, Reading, Stop, delete_marks, delete_seqs,
    members_answer, unknown_conversation,
};
use protocol::calls::CallError;
use protocol::v1::{Delete, MarkRead, MembersAnswer, MembersRequest, RangeRequest, SetNotice};
use records::{ChatMessage, FriendStep};

impl<T> Conversations<T> {
    /// A conversation in which something may be decided now.
    fn turn(&self, id: u64, now_ms: u64) -> Result<(), Stop> {
        self.state.settled(id)?;
        match self.works.get(&id) {
            Some(work) if work.held_until_ms > now_ms => Err(Stop::Need(Key::Settled(id))),
            _ => Ok(()),
        }
    }

    /// A member's conversation as it stands in memory, a change under way or not.
    fn view(&self, id: u64, user: u64) -> Result<(&Conversation, &Member), Stop> {
        if !self.state.owns(id) {
            return Err(Stop::Need(Key::Elsewhere(id)));
        }
        match self.state.conversations.get(&id) {
            Some(found) => Ok((found, found.member(user).ok_or_else(unknown_conversation)?)),
            // Not there, or not loaded: `settled` knows.
            None => self.state.of_member(id, user),
        }
    }

    /// Decides about a read position. `counted`: what [`Reading::Count`] asked for, from the store
    /// ([`own_among`](crate::core::own_among)); the caller tries [`COUNTS_MAX`](crate::core::COUNTS_MAX) times.
    ///
    /// # Errors
    /// What is needed, or why not.
    pub fn decide_read(
        &self,
        user: u64,
        ask: &MarkRead,
        counted: Option<OwnBehind>,
        now_ms: u64,
    ) -> Result<Reading, Stop> {
        let id = ask.conversation;
        self.turn(id, now_ms)?;
        let last = self.durable_seq(id).unwrap_or(0);
        self.state.decide_read((user, id), ask.seq, last, counted)
    }

    /// The messages that a call of Delete is about, which are to be read from the store; none when it is about all.
    ///
    /// # Errors
    /// What is needed, or why not.
    pub fn delete_reads(&self, user: u64, ask: &Delete) -> Result<Vec<u64>, Stop> {
        self.view(ask.conversation, user)?;
        if ask.all {
            return Ok(Vec::new());
        }
        let last = self.durable_seq(ask.conversation).unwrap_or(0);
        let seqs = delete_seqs(ask)?;
        Ok(seqs.into_iter().filter(|seq| *seq <= last).collect())
    }

    /// Decides about deleting for oneself. `messages`: those of [`delete_reads`](Conversations::delete_reads).
    ///
    /// # Errors
    /// What is needed, or why not.
    pub fn decide_delete<'a>(
        &self,
        user: u64,
        ask: &Delete,
        messages: impl IntoIterator<Item = &'a ChatMessage>,
        now_ms: u64,
    ) -> Result<Vec<Logged>, Stop> {
        let id = ask.conversation;
        self.turn(id, now_ms)?;
        if ask.all {
            return self.state.decide_clear(user, id);
        }
        self.state.decide_delete(user, id, &delete_marks(user, messages))
    }

    /// Decides about recalling a message that was read from the store, or from [`recent`](Conversations::recent).
    ///
    /// # Errors
    /// What is needed, or why not.
    pub fn decide_recall(
        &mut self,
        user: u64,
        message: &ChatMessage,
        now_ms: u64,
    ) -> Result<Vec<Logged>, Stop> {
        self.turn(message.conversation, now_ms)?;
        self.state.decide_recall(user, message, now_ms)
    }

    /// Decides about a member's notices.
    ///
    /// # Errors
    /// What is needed, or why not.
    pub fn decide_notice(&self, user: u64, ask: &SetNotice, now_ms: u64) -> Result<Vec<Logged>, Stop> {
        self.turn(ask.conversation, now_ms)?;
        self.state.decide_quiet(user, ask.conversation, ask.muted)
    }

    /// Decides about a step between two users: the records, and their conversation (0: they have none, and need none).
    ///
    /// # Errors
    /// What is needed, or why not; `Key::Elsewhere` when their conversation is another node's.
    pub fn decide_friend(
        &mut self,
        user: u64,
        other: u64,
        step: FriendStep,
        now_ms: u64,
    ) -> Result<(Vec<Logged>, u64), Stop> {
        let known = if other == 0 || other == user { None } else { self.state.pair(user, other)? };
        if let Some(id) = known {
            self.turn(id, now_ms)?;
        }
        let records = self.state.decide_friend(user, other, step, now_ms)?;
        let id = records.first().map_or(known.unwrap_or(0), super::conversations::conversation_of);
        Ok((records, id))
    }

    /// How far a member has read, and what is unread; `(seq, unread)`.
    ///
    /// # Errors
    /// What is needed, or that he is not in it.
    pub fn read_place(&self, user: u64, id: u64) -> Result<(u64, u64), Stop> {
        let (conversation, member) = self.view(id, user)?;
        Ok((member.read_seq, conversation.unread(member)))
    }

    /// A page of the members.
    ///
    /// # Errors
    /// What is needed, or that the user is not among them.
    pub fn members(&self, user: u64, ask: &MembersRequest) -> Result<MembersAnswer, Stop> {
        let (conversation, _) = self.view(ask.conversation, user)?;
        Ok(members_answer(conversation, ask))
    }

    /// How a range of messages is answered.
    ///
    /// # Errors
    /// What is needed, or that the user is not in the conversation.
    pub fn range(&self, user: u64, ask: &RangeRequest) -> Result<RangePlan, Stop> {
        let (conversation, member) = self.view(ask.conversation, user)?;
        let last = self.durable_seq(ask.conversation).unwrap_or(0);
        Ok(RangePlan::new(conversation, member, ask, last))
    }

    /// Whether a message is there to be recalled by somebody: its durable text is in the store.
    ///
    /// # Errors
    /// What is needed, or why not.
    pub fn recall_reads(&self, user: u64, id: u64, seq: u64) -> Result<u64, Stop> {
        self.view(id, user)?;
        if seq == 0 || self.durable_seq(id).is_none_or(|last| seq > last) {
            return Err(CallError::NotFound(format!("conversation {id} has no message {seq}")).into());
        }
        Ok(seq)
    }

    /// `then` hears when all that memory shows of a conversation is durable; it is returned when it is already. It is
    /// among the refused when that came to nothing.
    pub fn seen(&mut self, id: u64, then: T) -> Option<T> {
        match self.works.get_mut(&id).and_then(|work| work.flight.as_mut()) {
            Some(flight) => {
                flight.done.push(super::Done { then, conversation: id, message: None });
                None
            }
            None => Some(then),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::{Batch, Sent};
    use crate::core::{Author, Fanned, Head, StoredConversation, Wish};
    use crate::options::ChatOptions;
    use crate::store::owned::{ConversationOutcome, Outcomes};
    use hashring::bucket_of;
    use protocol::v1::{ConversationKind, FanOut, Role, Send};

    const ID: u64 = 7;

    /// The owner of a group of users 1 (its owner), 2 and 3, with five messages.
    fn owner() -> Conversations<u32> {
        let mut on = Conversations::new(ChatOptions::default(), 1, 1, 0);
        on.state.ids.reserved(1_000_000);
        on.own(bucket_of(ID).get(), 1);
        let member = |user| Member {
            user,
            role: if user == 1 { Role::Owner as u32 } else { Role::Member as u32 },
            joined_seq: 1,
            read_seq: 1,
            own_at_read: u64::from(user == 2),
            ..Member::default()
        };
        let message =
            |seq| ChatMessage { conversation: ID, seq, sender: 2, kind: 1, ..ChatMessage::default() };
        let head = Head {
            kind: ConversationKind::Group as u32,
            fan_out: FanOut::Write as u32,
            last_seq: 5,
            members: 3,
            ..Head::default()
        };
        let stored = StoredConversation {
            id: ID,
            version: 3,
            fanned: Fanned { version: 3, seq: 5 },
            head,
            members: (1..=3).map(member).collect(),
            authors: vec![Author { user: 2, own: 5, devices: Vec::new() }],
            recent: (1..=5).map(message).collect(),
        };
        on.install(stored, 1, 0);
        on
    }

    fn sends(on: &mut Conversations<u32>) -> Batch {
        let send = Send { user: 1, device: 9, conversation: ID, counter: 1, kind: 1, ..Send::default() };
        assert!(on.send(Sent { send, content: Ok(()), then: 10 }, 1_000).is_none());
        on.batch(1_000).unwrap()
    }

    fn outcome(outcome: ConversationOutcome) -> Outcomes {
        Outcomes { conversations: vec![outcome], timelines: Vec::new() }
    }

    fn last_seq(on: &Conversations<u32>) -> (u64, usize) {
        let ask = RangeRequest { conversation: ID, ..RangeRequest::default() };
        let answer = on.range(2, &ask).unwrap().answer(Vec::new());
        (answer.last_seq, answer.messages.len())
    }

    #[test]
    fn nobody_sees_or_reads_what_is_not_durable() {
        let mut on = owner();
        assert_eq!(on.seen(ID, 1), Some(1));
        let batch = sends(&mut on);
        assert_eq!(last_seq(&on), (5, 5));
        let ask = |seq| MarkRead { conversation: ID, seq };
        let read = |on: &Conversations<u32>, seq| match on.decide_read(3, &ask(seq), None, 1_000).unwrap() {
            Reading::Take(records) => format!("{records:?}"),
            other => format!("{other:?}"),
        };
        assert!(read(&on, 6).contains("seq: 5"), "{}", read(&on, 6));
        assert_eq!(read(&on, 1), "Stands");
        assert!(matches!(on.recall_reads(1, ID, 6), Err(Stop::No(CallError::NotFound(_)))));
        let delete = Delete { conversation: ID, seqs: vec![6, 5, 5], all: false };
        assert_eq!(on.delete_reads(3, &delete).unwrap(), [5]);
        // An answer that shows who is in it waits for the step.
        assert_eq!(on.seen(ID, 11), None);
        let stepped = on.stepped(&batch, &outcome(ConversationOutcome::Done), 1_010);
        assert_eq!(stepped.done.iter().map(|d| d.then).collect::<Vec<_>>(), [10, 11]);
        assert_eq!(last_seq(&on), (6, 6));
        assert!(read(&on, 6).contains("seq: 6"));
        assert_eq!(on.read_place(2, ID).unwrap(), (1, 1), "his own four are none");
        assert!(matches!(
            on.members(4, &MembersRequest { conversation: ID, ..Default::default() }),
            Err(Stop::No(_))
        ));
    }

    #[test]
    fn who_waited_for_a_step_that_came_to_nothing_is_refused() {
        let mut on = owner();
        let batch = sends(&mut on);
        assert_eq!(on.seen(ID, 11), None);
        let moved = ConversationOutcome::Moved { version: 9, last_seq: 12 };
        let stepped = on.stepped(&batch, &outcome(moved), 1_010);
        assert_eq!((stepped.done.len(), stepped.refused), (0, vec![10, 11]));
        assert!(matches!(on.read_place(2, ID), Err(Stop::Need(Key::Conversation(ID)))));
        on.disown(bucket_of(ID).get());
        assert!(matches!(on.read_place(2, ID), Err(Stop::Need(Key::Elsewhere(ID)))));
    }

    #[test]
    fn a_change_of_members_that_waits_holds_back_the_rest_and_not_those_who_look() {
        let mut on = owner();
        let batch = sends(&mut on);
        let gone = Wish::Remove(vec![3]);
        let waits = Err(Stop::Need(Key::Settled(ID)));
        assert_eq!(on.decide_change(ID, 1, &gone, 1_000), waits);
        let quiet = SetNotice { conversation: ID, muted: true };
        assert_eq!(on.decide_notice(2, &quiet, 1_001), waits);
        assert_eq!(last_seq(&on), (5, 5));
        on.stepped(&batch, &outcome(ConversationOutcome::Done), 1_010);
        for hand in on.hands(1_010) {
            let users = hand.places.iter().map(|place| place.user).collect();
            on.acked(&crate::cluster::Ack { key: hand.key, users });
        }
        let records = on.decide_change(ID, 1, &gone, 1_020).unwrap();
        on.take(records, None, 1_020);
        // Nothing else is decided before everybody has heard of it.
        assert_eq!(on.decide_notice(2, &quiet, 1_021), waits);
        assert_eq!(last_seq(&on), (6, 6));
    }
}
