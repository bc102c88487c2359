//! Deciding about a message: resend or new, allowed or not, its seq and id.

use super::conversation::{Conversation, relation};
use super::intake::Refusal;
use super::state::{Key, SentKey, State};
use protocol::v1::{ConversationKind, FanOut, MessageKind, Send, SendAnswer, SendOutcome};
use records::{ChatFact, ChatMessage};
use std::sync::Arc;

/// When a sender may try again who came while ids were being reserved, in ms.
const IDS_RETRY_MS: u32 = 50;
/// When to ask again for a message that is on its way to the disk, in ms.
const PENDING_RETRY_MS: u32 = 200;

/// A record of the message log.
#[derive(Clone, PartialEq, Debug)]
pub enum Logged {
    /// A message.
    Message(Arc<ChatMessage>),
    /// Anything else.
    Fact(ChatFact),
}

/// What is to be done with a message.
#[derive(Debug)]
pub enum Sending {
    /// This can be said at once.
    Answer(SendAnswer),
    /// Bring this into memory, then decide again.
    Need(Key),
    /// Write these together; the last is the message.
    Take(Vec<Logged>),
}

/// An answer with an outcome and a reason.
pub fn answer(send: &Send, outcome: SendOutcome, reason: &str) -> SendAnswer {
    SendAnswer {
        outcome: outcome as i32,
        conversation: send.conversation,
        counter: send.counter,
        user: send.user,
        reason: reason.to_owned(),
        ..SendAnswer::default()
    }
}

/// An answer that asks to come again.
pub fn busy(send: &Send, retry_after_ms: u32, reason: &str) -> SendAnswer {
    SendAnswer { retry_after_ms, ..answer(send, SendOutcome::Busy, reason) }
}

/// The answer to a message that is taken and not durable yet.
pub fn on_its_way(send: &Send, conversation: u64) -> SendAnswer {
    let pending = answer(send, SendOutcome::Pending, "on its way to the disk");
    SendAnswer { retry_after_ms: PENDING_RETRY_MS, conversation, ..pending }
}

/// The answer to a stored message.
pub fn stored(message: &ChatMessage) -> SendAnswer {
    SendAnswer {
        outcome: SendOutcome::Stored as i32,
        conversation: message.conversation,
        counter: message.counter,
        message_id: message.message_id,
        seq: message.seq,
        sent_ms: message.sent_ms,
        user: message.sender,
        ..SendAnswer::default()
    }
}

/// The answer to a refused message.
pub fn refused(send: &Send, refusal: &Refusal) -> SendAnswer {
    match refusal {
        Refusal::Invalid(why) => answer(send, SendOutcome::Invalid, why),
        Refusal::Words => answer(send, SendOutcome::Words, "a word in it is not allowed"),
        Refusal::Risk(why) => answer(send, SendOutcome::Risk, why),
    }
}

impl State {
    /// Decides about a message whose form is right; `content` says what was found in it. Changes nothing but the last id.
    pub fn decide_send(&mut self, send: &Send, content: &Result<(), Refusal>, now_ms: u64) -> Sending {
        match self.try_send(send, content, now_ms) {
            Ok(sending) => sending,
            Err(key) => Sending::Need(key),
        }
    }

    fn try_send(&mut self, send: &Send, content: &Result<(), Refusal>, now_ms: u64) -> Result<Sending, Key> {
        let id = match send.conversation {
            0 => self.pair(send.user, send.to_user)?,
            id => Some(id),
        };
        let not_allowed = |why: &str| Ok(Sending::Answer(answer(send, SendOutcome::NotAllowed, why)));
        let Some(id) = id else {
            if self.options.friends_only {
                return not_allowed("you are not friends");
            }
            return Ok(self.first_of_pair(send, content, now_ms));
        };
        let Some(conversation) = self.settled(id)? else {
            return not_allowed("there is no such conversation, or you are not in it");
        };
        let last = conversation.counter(send.user, send.device);
        if send.counter <= last {
            return self.resent(send, id).map(Sending::Answer);
        }
        if let Err(why) = may_write(conversation, send.user, self.options.friends_only) {
            return not_allowed(why);
        }
        if send.counter != last.max(send.given_up) + 1 {
            let refusal = answer(send, SendOutcome::OutOfTurn, "numbers before it are missing");
            return Ok(Sending::Answer(SendAnswer { next_counter: last + 1, conversation: id, ..refusal }));
        }
        if let Err(refusal) = content {
            return Ok(Sending::Answer(refused(send, refusal)));
        }
        let (seq, fan_out) = (conversation.taken_seq + 1, conversation.head.fan_out);
        let Some(message_id) = self.ids.next(now_ms) else {
            return Ok(Sending::Answer(busy(send, IDS_RETRY_MS, "ids are being reserved")));
        };
        Ok(Sending::Take(vec![Logged::Message(Arc::new(message_of(
            send, id, seq, message_id, fan_out, now_ms,
        )))]))
    }

    /// The first message between two users makes their conversation.
    fn first_of_pair(&mut self, send: &Send, content: &Result<(), Refusal>, now_ms: u64) -> Sending {
        if send.counter != send.given_up + 1 {
            let refusal = answer(send, SendOutcome::OutOfTurn, "numbers before it are missing");
            return Sending::Answer(SendAnswer { next_counter: 1, ..refusal });
        }
        if let Err(refusal) = content {
            return Sending::Answer(refused(send, refusal));
        }
        let (Some(id), Some(message_id)) = (self.conversation_id(now_ms), self.ids.next(now_ms)) else {
            return Sending::Answer(busy(send, IDS_RETRY_MS, "ids are being reserved"));
        };
        let made = pair_made(id, send.user, send.to_user, ConversationKind::Pair);
        let message = message_of(send, id, 1, message_id, FanOut::Write as u32, now_ms);
        Sending::Take(vec![Logged::Fact(made), Logged::Message(Arc::new(message))])
    }

    /// The first answer to a message whose number was taken before.
    fn resent(&self, send: &Send, id: u64) -> Result<SendAnswer, Key> {
        let conversation = self.settled(id)?.ok_or(Key::Conversation(id))?;
        let same = |m: &&Arc<ChatMessage>| {
            m.counter == send.counter && m.device == send.device && m.sender == send.user
        };
        if let Some(message) = conversation.recent.iter().rev().find(same) {
            return Ok(stored(message));
        }
        if conversation.pins > 0 {
            return Ok(on_its_way(send, id));
        }
        let key = SentKey { conversation: id, sender: send.user, device: send.device, counter: send.counter };
        match self.found.get(&key) {
            Some(Some(first)) => Ok(first.clone()),
            Some(None) => Ok(answer(send, SendOutcome::Invalid, "this number was given up and never stored")),
            None => Err(Key::Sent(key)),
        }
    }
}

/// The conversation of two users as a fact.
pub fn pair_made(conversation: u64, a: u64, b: u64, kind: ConversationKind) -> ChatFact {
    ChatFact::PairMade { conversation, low: a.min(b), high: a.max(b), kind: kind as u8 }
}

fn message_of(
    send: &Send,
    conversation: u64,
    seq: u64,
    message_id: u64,
    fan_out: u32,
    now_ms: u64,
) -> ChatMessage {
    ChatMessage {
        message_id,
        conversation,
        seq,
        sender: send.user,
        device: send.device,
        counter: send.counter,
        sent_ms: now_ms,
        kind: send.kind as u8,
        fan_out: fan_out as u8,
        body: send.body.clone(),
    }
}

/// Whether a message counts as unread: what users and accounts send does.
pub fn counts(kind: u8) -> bool {
    i32::from(kind) < MessageKind::Change as i32
}

/// Whether a user may write in a conversation.
fn may_write(conversation: &Conversation, user: u64, friends_only: bool) -> Result<(), &'static str> {
    let Some(member) = conversation.member(user) else {
        return Err("there is no such conversation, or you are not in it");
    };
    let head = &conversation.head;
    match conversation.kind() {
        ConversationKind::Official => Err("an official account can't be written to"),
        ConversationKind::Pair if head.relation & relation::BLOCKED != 0 => Err("one has blocked the other"),
        ConversationKind::Pair if friends_only && head.relation & relation::FRIENDS != relation::FRIENDS => {
            Err("you are not friends")
        }
        _ if head.dissolved => Err("the group is dissolved"),
        _ if member.muted => Err("you may not write in this group for now"),
        _ if head.muted_all && !member.leads() => {
            Err("only its owner and admins may write in this group for now")
        }
        _ => Ok(()),
    }
}
