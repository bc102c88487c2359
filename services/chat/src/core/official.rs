//! Messages of official accounts: nobody asks for them, and each is sent once.
//!
//! What makes it the same message is a mark of its sender's choice. It takes the place of a device's number with
//! the counter 1, so it is recognised the way a resend is, as long as the conversation keeps it: for the account's
//! [`AUTHOR_DEVICES_MAX`](crate::limits::AUTHOR_DEVICES_MAX) newest messages to a user.

use super::changes::Stop;
use super::send::{Logged, pair_made};
use super::state::State;
use protocol::v1::{ConversationKind, FanOut, MessageKind};
use records::ChatMessage;
use std::sync::Arc;

impl State {
    /// Decides about a message of an account to a user; nothing to write when it was sent before. `body` is given the
    /// language of the user's profile.
    ///
    /// # Errors
    /// What is needed, or why not.
    pub fn decide_official(
        &mut self,
        (account, mark): (u64, u64),
        user: u64,
        body: &dyn Fn(&str) -> Vec<u8>,
        now_ms: u64,
    ) -> Result<Vec<Logged>, Stop> {
        let body = body(&self.loaded(user)?.person.language);
        let mut records = Vec::new();
        let (conversation, seq) = match self.pair(account, user)? {
            Some(id) => {
                let found = self.settled(id)?;
                let sent = found.is_some_and(|c| c.counter(account, mark) > 0);
                if sent {
                    return Ok(records);
                }
                (id, found.map_or(1, |c| c.taken_seq + 1))
            }
            None => {
                let id = self.new_id(now_ms)?;
                records.push(Logged::Fact(pair_made(id, account, user, ConversationKind::Official)));
                (id, 1)
            }
        };
        let message = ChatMessage {
            message_id: self.id(now_ms)?,
            conversation,
            seq,
            sender: account,
            device: mark,
            counter: 1,
            sent_ms: now_ms,
            kind: MessageKind::Official as u8,
            fan_out: FanOut::Write as u8,
            body,
        };
        records.push(Logged::Message(Arc::new(message)));
        Ok(records)
    }
}
