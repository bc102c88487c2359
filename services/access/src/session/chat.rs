//! A connection's side of chat.
//!
//! A device begins by its login; a gateway's devices by the first request that names them. Messages of one read are one
//! call. What is refused here never reaches chat: no login with a device, another user's name, too large, too many.

use std::sync::atomic::Ordering;

use prost::Message;
use protocol::calls::{ConnectionAt, DeviceAt, SEND_BODY_MAX, SendCall, SendReply};
use protocol::error::Code;
use protocol::frame::{Frame, FrameKind, put_message};
use protocol::v1;

use super::{Served, Session, say};
use crate::chat_desk::Carried;
use crate::counters::Count;
use crate::desk::Desk;
use crate::fit;
use crate::limits::PLACES_MAX;
use crate::requests::{NO_CHAT, Request, user_of};

impl Session {
    /// After a good login: as which device it chats, if it does; (0, 0) as a gateway.
    pub(super) fn begin_chat(&mut self, desk: &mut Desk, device: u64) -> Option<(u64, u64)> {
        let gateway = self.is_gateway();
        let chat = desk.shared.desks.chat.as_ref().filter(|_| gateway || device != 0)?;
        if self.place >= PLACES_MAX {
            return None;
        }
        let who = if gateway { (0, 0) } else { (self.user, device) };
        (self.chats, self.device, self.connection) = (true, who.1, desk.at.connection);
        if gateway {
            desk.chat.carried.insert(self.place, Carried::new(desk.at));
        } else {
            chat.arrive(DeviceAt { user: self.user, device, at: desk.at });
        }
        Some(who)
    }

    /// The connection is gone.
    pub fn end_chat(&mut self, desk: &mut Desk) {
        if !std::mem::take(&mut self.chats) {
            return;
        }
        let Some(chat) = &desk.shared.desks.chat else { return };
        match desk.chat.carried.remove(&self.place) {
            Some(carried) => carried.leave_all(&**chat),
            None => chat.leave(DeviceAt { user: self.user, device: self.device, at: self.at(desk) }),
        }
    }

    /// Its address for chat.
    fn at(&self, desk: &Desk) -> ConnectionAt {
        ConnectionAt { access: desk.shared.node, connection: self.connection }
    }

    /// Who speaks: the user and device of the login, or those that a gateway names. A gateway's new device arrives.
    fn who(&self, desk: &mut Desk, user: u64, device: u64) -> Result<DeviceAt, v1::Error> {
        if !self.chats {
            return Err(match desk.shared.desks.chat {
                None => Code::Refused.message(NO_CHAT),
                Some(_) => Code::Invalid
                    .message("this connection logged in without a device; name one in Login.device to chat"),
            });
        }
        let (own, at) = (self.device, self.at(desk));
        let user = user_of(self.own(), user)?;
        if own != 0 {
            if device != 0 && device != own {
                return Err(Code::Forbidden.message(format!(
                    "device {device} is not {own}, which logged in here; leave device out or name your own"
                )));
            }
            return Ok(DeviceAt { user, device: own, at });
        }
        if device == 0 {
            return Err(Code::Invalid.message(
                "device is missing: a gateway names the player's device, 1 or above, in each request",
            ));
        }
        let who = DeviceAt { user, device, at };
        let carried = desk.chat.carried.get_mut(&self.place);
        match carried.map_or(Some(false), |carried| carried.heard(user, device, desk.mono_ms)) {
            Some(false) => {}
            Some(true) => {
                if let Some(chat) = &desk.shared.desks.chat {
                    chat.arrive(who);
                }
            }
            None => {
                let mut error =
                    Code::Busy.message("this connection carries as many devices as one may; open another");
                error.retry_after_ms = 1_000;
                return Err(error);
            }
        }
        Ok(who)
    }

    fn refused(&mut self, desk: &mut Desk, frame: &Frame<'_>, error: v1::Error) -> Served {
        if error.retry_after_ms > 0 {
            let wait_ms = error.retry_after_ms;
            return self.over_bound(desk, frame.id, Count::OverRate, error, wait_ms);
        }
        // Nothing that can be mended by waiting: as costly as a bad body, and counted like one.
        self.over_bound(desk, frame.id, Count::Invalid, error, 0)
    }

    /// Lets a message or another request pass, by the user's rates; a gateway has one for everything.
    fn pass(&mut self, desk: &Desk, sends: bool) -> Result<(), (Count, v1::Error, u32)> {
        let gateway_rate = self.gate.as_ref().map(|gate| gate.rate);
        let active = self.active(desk);
        if active.outstanding >= active.outstanding_max {
            let max = active.outstanding_max;
            let text = format!(
                "{max} requests are unanswered, the most for this connection; see LoginDone.outstanding_max"
            );
            return Err((Count::OverOutstanding, Code::Busy.message(text), 1));
        }
        let live = &desk.shared.live;
        let (bucket, rate, what) = match gateway_rate {
            None if sends => {
                (&mut active.sends, live.user_sends_per_second.load(Ordering::Relaxed), "messages")
            }
            None => (&mut active.asks, live.user_asks_per_second.load(Ordering::Relaxed), "requests"),
            Some(rate) => (&mut active.bucket, rate, "requests"),
        };
        bucket.refill(rate, desk.mono_ms);
        if !bucket.take() {
            let text = format!("more {what} a second than the {rate} that this connection may send");
            return Err((Count::OverRate, Code::RateLimited.message(text), bucket.wait_ms(rate)));
        }
        Ok(())
    }

    /// A request is under way.
    fn begun(&mut self, desk: &Desk) {
        let active = self.active(desk);
        active.strikes = 0;
        active.outstanding += 1;
    }

    pub(super) fn send(&mut self, desk: &mut Desk, frame: &Frame<'_>) -> Served {
        let Ok(mut send) = v1::Send::decode(frame.body) else {
            return self.unreadable::<v1::Send>(desk, frame);
        };
        let who = match self.who(desk, send.user, send.device) {
            Ok(who) => who,
            Err(error) => return self.refused(desk, frame, error),
        };
        if let Err((count, error, wait_ms)) = self.pass(desk, true) {
            return self.over_bound(desk, frame.id, count, error, wait_ms);
        }
        if let Err(error) = check_send(&send) {
            return self.refused(desk, frame, error);
        }
        self.begun(desk);
        desk.counters().add(Count::Sends, 1);
        (send.user, send.device) = (who.user, who.device);
        let mark = desk.chat.carried.get_mut(&self.place).filter(|_| self.is_gateway());
        let mark = mark.map_or(0, |carried| carried.mark(who.user));
        let tag = u64::from(mark) << 32 | u64::from(frame.id);
        desk.chat.sends.push(SendCall { tag, send, from: who.at });
        Ok(())
    }

    pub(super) fn confirm(&mut self, desk: &mut Desk, frame: &Frame<'_>) -> Served {
        let Ok(confirm) = v1::Confirm::decode(frame.body) else {
            return self.unreadable::<v1::Confirm>(desk, frame);
        };
        let who = match self.who(desk, confirm.user, confirm.device) {
            Ok(who) => who,
            Err(error) => return self.refused(desk, frame, error),
        };
        // A device's later word holds the earlier one.
        match desk.chat.confirms.last_mut().filter(|(last, _)| *last == who) {
            Some((_, cursor)) => *cursor = confirm.cursor.max(*cursor),
            None => desk.chat.confirms.push((who, confirm.cursor)),
        }
        Ok(())
    }

    pub(super) fn ask(&mut self, desk: &mut Desk, frame: &Frame<'_>) -> Served {
        let Ok(mut ask) = v1::ChatRequest::decode(frame.body) else {
            return self.unreadable::<v1::ChatRequest>(desk, frame);
        };
        let who = match self.who(desk, ask.user, ask.device) {
            Ok(who) => who,
            Err(error) => return self.refused(desk, frame, error),
        };
        if let Err((count, error, wait_ms)) = self.pass(desk, false) {
            return self.over_bound(desk, frame.id, count, error, wait_ms);
        }
        if ask.ask.is_none() {
            let error = Code::Invalid.message("the request asks nothing: set one of the fields of `ask`");
            return self.refused(desk, frame, error);
        }
        self.begun(desk);
        desk.counters().add(Count::Asks, 1);
        (ask.user, ask.device) = (who.user, who.device);
        let named = if self.is_gateway() { who.user } else { 0 };
        desk.requests.push((frame.id, Request::Chat { from: who.at, ask: Box::new(ask), named }));
        Ok(())
    }

    /// Gives chat what this turn brought, and puts out what it says at once.
    pub(super) fn hand_over(&mut self, desk: &mut Desk) {
        let Some(chat) = desk.shared.desks.chat.clone() else { return };
        if !desk.chat.confirms.is_empty() {
            chat.confirm(&desk.chat.confirms);
            desk.chat.confirms.clear();
        }
        if desk.chat.sends.is_empty() {
            return;
        }
        let mut replies = std::mem::take(&mut desk.chat.replies);
        let place = self.place;
        let inbox = self.active(desk).sends_inbox.get_or_insert_with(|| desk.inbox(place));
        chat.send(&mut desk.chat.sends, inbox, &mut replies);
        desk.chat.sends.clear();
        self.sent(desk, &mut replies);
        desk.chat.replies = replies;
    }

    /// Puts out what became of messages.
    pub fn sent(&mut self, desk: &mut Desk, replies: &mut Vec<SendReply>) {
        self.answer_count(replies.len());
        for SendReply { tag, mut answer } in replies.drain(..) {
            answer.user = match desk.chat.carried.get_mut(&self.place).filter(|_| self.is_gateway()) {
                Some(carried) => carried.sender((tag >> 32) as u32),
                None => 0,
            };
            put_message(&mut desk.out, FrameKind::SendAnswer, tag as u32, &answer);
        }
    }

    /// Puts out an answer of chat's, cut down to what fits the client's frames.
    pub(super) fn put_chat_answer(&self, desk: &mut Desk, id: u32, mut answer: v1::ChatAnswer) {
        if fit::cut(&mut answer, self.body_max()) {
            put_message(&mut desk.out, FrameKind::AskAnswer, id, &answer);
        } else {
            let size = answer.encoded_len();
            let text =
                format!("the answer has {size} bytes, more than the frame_max of your Hello; ask for less");
            say(desk, id, Code::TooLarge.message(text), false);
        }
    }
}

/// What the front door can see of a message.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn check_send(send: &v1::Send) -> Result<(), v1::Error> {
    let bytes = send.body.len();
    if bytes > SEND_BODY_MAX {
        let text =
            format!("body has {bytes} bytes; a message has at most {SEND_BODY_MAX}, more goes by reference");
        return Err(Code::TooLarge.message(text));
    }
    if send.counter == 0 {
        return Err(
            Code::Invalid.message("counter is 0; a device's first message in a conversation has counter 1")
        );
    }
    if (send.conversation == 0) == (send.to_user == 0) {
        return Err(Code::Invalid.message("name exactly one of conversation and to_user"));
    }
    Ok(())
}
