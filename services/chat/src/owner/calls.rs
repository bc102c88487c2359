//! The node as front doors and other nodes see it.

use super::OwnerNode;
use super::reign::{Named, Reign, Then, ToInbox};
use crate::cluster::{Reply, Sent};
use crate::core::{Refusal, busy, content, form, refused};
use async_trait::async_trait;
use protocol::calls::{
    CallError, Chat, ChatHost, ChatPeerHost, ConnectionAt, DeviceAt, Inbox, Pushes, SendCall, SendReply,
};
use protocol::v1::{ChatAnswer, ChatRequest, Send, SendAnswer, SendOutcome};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// When a sender may try again whose conversation is not this node's (yet), in ms; by user up to half as much again.
const ELSEWHERE_RETRY_MS: u64 = 300;
/// Devices or confirmed cursors that are looked at under one hold of the lock.
const SLICE: usize = 1_024;

/// To the sender of a message that this node can't decide about.
pub(super) fn elsewhere(send: &Send) -> SendAnswer {
    let retry_ms = ELSEWHERE_RETRY_MS + send.user % (ELSEWHERE_RETRY_MS / 2);
    busy(send, retry_ms as u32, "its conversation belongs to another node, or is changing hands")
}

#[async_trait]
impl Chat for OwnerNode {
    fn arrive(&self, device: DeviceAt) {
        self.arrives(device, false);
    }

    fn arrive_again(&self, device: DeviceAt) {
        self.arrives(device, true);
    }

    fn watch_again(&self, device: DeviceAt, users: &[u64]) {
        self.watches_again(device, users);
    }

    fn leave(&self, device: DeviceAt) {
        let Some(reign) = self.reign_now() else { return drop(self.arrivals.lock().leave(device)) };
        let now_ms = self.clock.now_ms();
        // Both under one hold of the lock: between the two nothing moves from one to the other.
        let mut lines = reign.lines.lock();
        drop(self.arrivals.lock().leave(device));
        lines.core.leave(device, now_ms);
        drop(lines);
        self.wakes.lines.notify_one();
    }

    fn beat(&self, devices: &[DeviceAt]) {
        let now_ms = self.clock.now_ms();
        // A report of thousands must not hold up messages.
        for some in devices.chunks(SLICE) {
            self.beats(some, now_ms);
        }
    }

    fn send(&self, calls: &mut Vec<SendCall>, inbox: &Arc<Inbox<SendReply>>, out: &mut Vec<SendReply>) {
        // What needs no core is judged outside the lock.
        let mut judged = Vec::with_capacity(calls.len());
        for SendCall { tag, send, .. } in calls.drain(..) {
            match form(&send) {
                Err(refusal) => out.push(SendReply { tag, answer: refused(&send, &refusal) }),
                Ok(()) => judged.push(self.sent(send, |of| {
                    let inbox = ToInbox(Arc::clone(inbox));
                    Then::Sender { of, tag, inbox }
                })),
            }
        }
        let Some(reign) = self.reign_now().filter(|reign| self.is_fresh(reign)) else {
            self.counters.refused.fetch_add(judged.len() as u64, Ordering::Relaxed);
            out.extend(judged.into_iter().filter_map(|sent| match sent.then {
                Then::Sender { tag, .. } => Some(SendReply { tag, answer: elsewhere(&sent.send) }),
                Then::Peer { .. } | Then::Waiter(_) => None,
            }));
            return;
        };
        let replies = self.decide_sends(&reign, judged);
        for reply in replies {
            match self.settle_reply(&reign, reply) {
                Some((Then::Sender { tag, .. }, answer)) => out.push(SendReply { tag, answer }),
                Some((other, answer)) => self.answer_one(other, answer),
                None => {}
            }
        }
    }

    fn confirm(&self, confirms: &[(DeviceAt, u64)]) {
        let Some(reign) = self.reign_now() else { return };
        let now_ms = self.clock.now_ms();
        for some in confirms.chunks(SLICE) {
            let mut lines = reign.lines.lock();
            some.iter().for_each(|(device, cursor)| lines.core.confirm(*device, *cursor, now_ms));
        }
    }

    async fn ask(&self, from: ConnectionAt, request: ChatRequest) -> Result<ChatAnswer, CallError> {
        let (user, device) = (request.user, request.device);
        if user == 0 {
            return Err(CallError::Invalid("a request needs its user".to_owned()));
        }
        let Some(ask) = request.ask else {
            return Err(CallError::Invalid("a request that asks for nothing this program knows".to_owned()));
        };
        let answer = self.answer_to(DeviceAt { user, device, at: from }, ask, true).await?;
        Ok(ChatAnswer { user, answer: Some(answer) })
    }
}

impl ChatHost for OwnerNode {
    fn attach(&self, access: u16, door: Arc<dyn Pushes>) {
        self.doors.write().insert(access, door);
    }

    fn detach(&self, access: u16) {
        self.doors.write().remove(&access);
    }
}

impl ChatPeerHost for OwnerNode {
    fn heard(&self, from: u16, message: &[u8]) {
        self.hear(from, message);
    }
}

impl OwnerNode {
    /// A message whose form is right, with what stands in it judged.
    pub(super) fn sent(&self, send: Send, then: impl FnOnce(Named) -> Then) -> Sent<Then> {
        let content: Result<(), Refusal> = content(&send, &self.words, &*self.risk);
        let then = then(Named::of(&send));
        Sent { send, content, then }
    }

    /// Decides about messages, in their order.
    pub(super) fn decide_sends(&self, reign: &Reign, sents: Vec<Sent<Then>>) -> Vec<Reply<Then>> {
        let mut replies = Vec::new();
        let mut sents = sents.into_iter();
        loop {
            let now_ms = self.clock.now_ms();
            let mut on = reign.conversations.lock();
            let mut count = 0;
            for sent in sents.by_ref().take(SLICE) {
                replies.extend(on.send(sent, now_ms));
                count += 1;
            }
            drop(on);
            if count < SLICE {
                break;
            }
        }
        self.wakes.conversations.notify_one();
        replies
    }

    /// What is to be said to a sender at once, if anything is.
    pub(super) fn settle_reply(&self, reign: &Reign, reply: Reply<Then>) -> Option<(Then, SendAnswer)> {
        let (then, answer) = match reply {
            Reply::Answer { then, answer } => (then, answer),
            Reply::Elsewhere { conversation, sent } => return self.pass_on(conversation, sent),
        };
        if answer.outcome == SendOutcome::Busy as i32 {
            self.counters.refused.fetch_add(1, Ordering::Relaxed);
        }
        // Decided from memory that may be somebody else's matter by now.
        if !self.is_fresh(reign) {
            self.counters.silenced.fetch_add(1, Ordering::Relaxed);
            let pending = pending_of(&then, "this node has lost touch with the others; send the same again");
            return Some((then, pending.unwrap_or(answer)));
        }
        Some((then, answer))
    }
}

/// The answer that says nothing, if it is a message that waits.
pub(super) fn pending_of(then: &Then, reason: &str) -> Option<SendAnswer> {
    match then {
        Then::Sender { of, .. } | Then::Peer { of, .. } => Some(of.pending(reason)),
        Then::Waiter(_) => None,
    }
}
