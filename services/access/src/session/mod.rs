//! A frame connection's side of the conversation, without the socket: bytes in, frames and slow requests out.
//!
//! Hello, then Login, then anything. Before login nothing else is taken and nothing but their answers is sent. A body
//! that can't be read costs its request an error and no more, because frames keep their bounds; bytes that are no
//! frame, or a frame out of turn, end the connection behind an error that says so.

mod active;
mod chat;
mod login;

use std::net::IpAddr;

use prost::Message;
use protocol::calls::{Inbox, SendReply, SubmitReply};
use protocol::error::Code;
use protocol::frame::{self, FRAME_MAX, Frame, FrameKind, put, put_message};
use protocol::v1;

use crate::counters::Count;
use crate::desk::{Desk, Entered, tag_id};
use crate::limits::{REQUEST_FRAME_MAX, STRIKES_MAX};
use crate::pending::Reader;
use crate::requests::{Answer, Request};
use crate::wire;
use active::{Active, Gate, rate};
pub(crate) use chat::check_send;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    Greeting,
    Login,
    /// The book of rates is asked about the login.
    Asking,
    Open,
}

/// The state of a connection. Kept small: there are many, and most of them are idle.
pub(crate) struct Session {
    /// 0 for a gateway.
    user: u64,
    /// The device that chats on it; 0 where none does, and on a gateway's, which carries many.
    device: u64,
    /// Its address for chat, without the node's number; means something once it chats.
    connection: u64,
    /// There on a gateway's.
    gate: Option<Box<Gate>>,
    /// There while requests are under way, and somewhat longer.
    active: Option<Box<Active>>,
    /// Its place in the worker's table.
    place: u32,
    /// Largest frame that the client takes.
    frame_max: u32,
    phase: Phase,
    /// It is a device that chats, or a gateway's.
    chats: bool,
}

/// Why a connection ends; its counter says it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Cut(pub Count);

/// What became of the input.
pub(crate) struct Taken {
    /// Bytes that are done with.
    pub used: usize,
    /// The connection ends once what was put out is sent.
    pub cut: Option<Cut>,
    /// Heartbeats came, and nothing else.
    pub idle: bool,
}

type Served = Result<(), (v1::Error, Cut)>;

impl Session {
    pub fn new(place: u32) -> Self {
        Self {
            user: 0,
            device: 0,
            connection: 0,
            gate: None,
            active: None,
            place,
            frame_max: FRAME_MAX as u32,
            phase: Phase::Greeting,
            chats: false,
        }
    }

    pub fn is_open(&self) -> bool {
        self.phase == Phase::Open
    }

    /// Whether a login waits for a word. Nothing more is taken until it comes.
    pub fn is_asking(&self) -> bool {
        self.phase == Phase::Asking
    }

    pub fn outstanding(&self) -> u32 {
        self.active.as_ref().map_or(0, |active| active.outstanding)
    }

    /// Where late answers to submits come in, once there may be any.
    pub fn inbox(&self) -> Option<&Inbox> {
        self.active.as_ref()?.inbox.as_deref()
    }

    /// Where late answers to messages come in, once there may be any.
    pub fn sends_inbox(&self) -> Option<&Inbox<SendReply>> {
        self.active.as_ref()?.sends_inbox.as_deref()
    }

    /// The user of the login; 0 on a gateway's connection.
    pub fn user(&self) -> u64 {
        self.user
    }

    fn is_gateway(&self) -> bool {
        self.gate.is_some()
    }

    /// What counts its requests; made when it is missing.
    #[inline]
    fn active(&mut self, desk: &Desk) -> &mut Active {
        let gate = self.gate.as_deref();
        self.active.get_or_insert_with(|| Box::new(Active::new(gate, desk)))
    }

    /// So many requests have been answered.
    fn answer_count(&mut self, count: usize) {
        if let Some(active) = &mut self.active {
            active.outstanding = active.outstanding.saturating_sub(count as u32);
        }
    }

    /// The user of the login; `None` on a gateway's connection.
    fn own(&self) -> Option<u64> {
        if self.is_gateway() { None } else { Some(self.user) }
    }

    /// Takes all whole frames of `input`, and has its submits decided in one go.
    pub fn take(&mut self, desk: &mut Desk, peer: IpAddr, input: &[u8]) -> Taken {
        let (mut used, mut cut, mut idle) = (0, None, true);
        let rate = self.refill(desk);
        while cut.is_none() && !self.is_asking() {
            let (frame, size) = match frame::next(&input[used..], REQUEST_FRAME_MAX) {
                Ok(Some(next)) => next,
                Ok(None) => break,
                Err(error) => {
                    say(desk, 0, Code::Malformed.message(error.to_string()), true);
                    cut = Some(Cut(Count::Malformed));
                    break;
                }
            };
            used += size;
            idle &= frame.kind == FrameKind::Heartbeat;
            let served = if frame.kind == FrameKind::Submit && self.is_open() {
                self.submit(desk, &frame, rate)
            } else {
                self.serve(desk, peer, &frame)
            };
            if let Err((error, why)) = served {
                say(desk, frame.id, error, true);
                cut = Some(why);
            }
        }
        self.decide(desk);
        if desk.chat.waits() {
            self.hand_over(desk);
        }
        idle &= used > 0;
        if idle {
            self.let_go(desk);
        }
        Taken { used, cut, idle }
    }

    /// Has the submits of this read decided.
    fn decide(&mut self, desk: &mut Desk) {
        let gateway = self.is_gateway();
        let Some(active) = &mut self.active else { return };
        // Without an inbox nothing was entered.
        let Some(inbox) = &active.inbox else { return };
        let (asked, said) = desk.decide(inbox, |out, reply| put_reply(out, reply, gateway));
        debug_assert!(said <= asked && active.outstanding >= said);
        active.outstanding -= said.min(active.outstanding);
    }

    /// Gives back what only a busy connection needs, if this one is not.
    fn let_go(&mut self, desk: &Desk) {
        let gate = self.gate.as_deref();
        self.active.take_if(|active| active.is_idle(gate, desk));
    }

    /// Puts out replies that came through the inbox.
    pub fn late(&mut self, desk: &mut Desk, replies: &mut Vec<SubmitReply>) {
        let gateway = self.is_gateway();
        self.answer_count(replies.len());
        for mut reply in replies.drain(..) {
            desk.late(&mut reply);
            put_reply(&mut desk.out, reply, gateway);
        }
    }

    /// Puts out the answer to a slow request, or goes on with a login; the connection may end with it.
    #[must_use]
    pub fn answered(&mut self, desk: &mut Desk, id: u32, answer: Result<Answer, v1::Error>) -> Option<Cut> {
        if self.is_asking() {
            self.phase = Phase::Login;
            let served = match answer {
                Ok(Answer::Admitted(login)) => self.admit(desk, id, &login),
                Ok(_) => return None,
                Err(error) => {
                    desk.counters().add(Count::AddressRate, 1);
                    Err((error, Cut(Count::Closed)))
                }
            };
            return served.err().map(|(error, cut)| {
                say(desk, id, error, true);
                cut
            });
        }
        self.answer_count(1);
        match answer {
            // Only a login is admitted.
            Ok(Answer::Admitted(_)) => {}
            Ok(Answer::Prizes(mut page)) => {
                while page.encoded_len() > self.body_max() && page.awards.pop().is_some() {
                    page.more = true;
                }
                put_message(&mut desk.out, FrameKind::PrizesAnswer, id, &page);
            }
            Ok(Answer::Claim(answer)) => put_message(&mut desk.out, FrameKind::ClaimAnswer, id, &answer),
            Ok(Answer::Account(answer)) => put_message(&mut desk.out, FrameKind::AccountAnswer, id, &answer),
            Ok(Answer::Chat(answer)) => self.put_chat_answer(desk, id, *answer),
            Err(error) => say(desk, id, error, false),
        }
        None
    }

    /// Says farewell: the last frame before the connection is closed.
    pub fn farewell(&self, desk: &mut Desk, code: Code, text: &str, retry_after_ms: u32) {
        let mut error = code.message(text);
        error.retry_after_ms = retry_after_ms;
        say(desk, 0, error, true);
    }

    /// How pushes are written for it.
    pub fn reader(&self) -> Reader {
        Reader { gateway: self.is_gateway(), body_max: self.body_max() }
    }

    fn body_max(&self) -> usize {
        self.frame_max as usize - 5
    }

    fn refill(&mut self, desk: &Desk) -> u32 {
        let rate = rate(self.gate.as_deref(), desk);
        if let Some(active) = &mut self.active {
            active.bucket.refill(rate, desk.mono_ms);
        }
        rate
    }

    /// A submit. Out of line is only what is rare.
    #[inline]
    fn submit(&mut self, desk: &mut Desk, frame: &Frame<'_>, rate: u32) -> Served {
        let Ok(submit) = wire::read_submit(frame.body) else {
            return self.unreadable::<v1::Submit>(desk, frame);
        };
        let (own, place) = (self.own(), self.place);
        let active = self.active(desk);
        if active.outstanding >= active.outstanding_max {
            return self.over(desk, frame.id, Count::OverOutstanding, 0);
        }
        if !active.bucket.take() {
            let wait_ms = active.bucket.wait_ms(rate).max(1);
            return self.over(desk, frame.id, Count::OverRate, wait_ms);
        }
        active.strikes = 0;
        let user = match crate::requests::user_of(own, submit.user) {
            Ok(user) => user,
            Err(error) => {
                desk.counters().add(Count::Invalid, 1);
                say(desk, frame.id, error, false);
                return Ok(());
            }
        };
        match desk.enter(frame.id, user, &submit) {
            Entered::Queued => {
                active.outstanding += 1;
                active.inbox.get_or_insert_with(|| desk.inbox(place));
            }
            Entered::Answered(reply) => {
                wire::put_answer(&mut desk.out, frame.id, reply, if own.is_none() { user } else { 0 });
            }
            Entered::Refused(error) => say(desk, frame.id, error, false),
        }
        Ok(())
    }

    #[cold]
    fn over(&mut self, desk: &mut Desk, id: u32, count: Count, retry_after_ms: u32) -> Served {
        let (code, text) = if count == Count::OverRate {
            let text =
                "more submits a second than this connection may send; see LoginDone.submits_per_second";
            (Code::RateLimited, text.to_owned())
        } else {
            let max = self.active(desk).outstanding_max;
            let text = format!(
                "{max} requests are unanswered, the most for this connection; see LoginDone.outstanding_max"
            );
            (Code::Busy, text)
        };
        self.over_bound(desk, id, count, code.message(text), retry_after_ms)
    }

    /// A request is refused because there are too many of them; who goes on like that is cut.
    #[cold]
    fn over_bound(
        &mut self,
        desk: &mut Desk,
        id: u32,
        count: Count,
        mut error: v1::Error,
        retry_after_ms: u32,
    ) -> Served {
        desk.counters().add(count, 1);
        error.retry_after_ms = retry_after_ms.max(1);
        if self.strike(desk) {
            return Err((error, Cut(Count::Strikes)));
        }
        say(desk, id, error, false);
        Ok(())
    }

    /// One more in a row that should not have been sent; true when it was the last that is borne with.
    fn strike(&mut self, desk: &Desk) -> bool {
        let active = self.active(desk);
        active.strikes += 1;
        active.strikes >= STRIKES_MAX
    }

    fn serve(&mut self, desk: &mut Desk, peer: IpAddr, frame: &Frame<'_>) -> Served {
        match (self.phase, frame.kind) {
            (Phase::Greeting, FrameKind::Hello) => self.hello(desk, frame),
            (Phase::Greeting, _) => {
                Err(out_of_turn("the first frame of a connection must be Hello (kind 1)"))
            }
            (Phase::Login, FrameKind::Login) => self.login(desk, peer, frame),
            (Phase::Login | Phase::Asking, _) => Err(out_of_turn("log in first: send Login (kind 4)")),
            (Phase::Open, FrameKind::Heartbeat) => {
                put(&mut desk.out, FrameKind::Heartbeat, frame.id, |_| ());
                Ok(())
            }
            (Phase::Open, FrameKind::Campaigns) => {
                self.campaigns(desk, frame.id);
                Ok(())
            }
            (Phase::Open, FrameKind::Prizes) => {
                let own = self.own();
                self.request(desk, frame, |message| Request::prizes(own, &message))
            }
            (Phase::Open, FrameKind::Claim) => {
                let own = self.own();
                self.request(desk, frame, |message| Request::claim(own, &message))
            }
            (Phase::Open, FrameKind::Account) => {
                let own = self.own();
                self.request(desk, frame, |message| Request::account(own, message))
            }
            (Phase::Open, FrameKind::Send) => self.send(desk, frame),
            (Phase::Open, FrameKind::Confirm) => self.confirm(desk, frame),
            (Phase::Open, FrameKind::Ask) => self.ask(desk, frame),
            (Phase::Open, FrameKind::Hello | FrameKind::Login) => {
                Err(invalid("Hello and Login come once, at the start of a connection; open another one"))
            }
            (Phase::Open, kind) => Err(invalid(&format!(
                "{kind:?} (kind {}) goes from the server to the client only",
                kind as u8
            ))),
        }
    }

    fn campaigns(&mut self, desk: &mut Desk, id: u32) {
        let campaigns = desk.campaigns.views(self.user, desk.now_ms);
        let answer = v1::CampaignsAnswer { campaigns, server_time_ms: desk.now_ms };
        let size = answer.encoded_len();
        if size > self.body_max() {
            let text = format!("the answer has {size} bytes, more than the frame_max of your Hello");
            say(desk, id, Code::TooLarge.message(text), false);
        } else {
            put_message(&mut desk.out, FrameKind::CampaignsAnswer, id, &answer);
        }
    }

    fn request<M: Message + Default>(
        &mut self,
        desk: &mut Desk,
        frame: &Frame<'_>,
        make: impl FnOnce(M) -> Result<Request, v1::Error>,
    ) -> Served {
        let Ok(message) = M::decode(frame.body) else { return self.unreadable::<M>(desk, frame) };
        let active = self.active(desk);
        if active.outstanding >= active.outstanding_max {
            return self.over(desk, frame.id, Count::OverOutstanding, 0);
        }
        if !active.bucket.take() {
            return self.over(desk, frame.id, Count::OverRate, 1_000);
        }
        active.strikes = 0;
        match make(message) {
            Ok(request) => {
                active.outstanding += 1;
                desk.requests.push((frame.id, request));
            }
            Err(error) => {
                desk.counters().add(Count::Invalid, 1);
                say(desk, frame.id, error, false);
            }
        }
        Ok(())
    }

    /// The frame was one, its body was not the message: the request fails, the connection goes on.
    #[cold]
    fn unreadable<M: Message + Default>(&mut self, desk: &mut Desk, frame: &Frame<'_>) -> Served {
        desk.counters().add(Count::Invalid, 1);
        let what = M::decode(frame.body).err().map_or_else(String::new, |error| error.to_string());
        let error = Code::Malformed.message(format!(
            "the body of {:?} is not the Protobuf message it should be: {what}",
            frame.kind
        ));
        if self.strike(desk) {
            return Err((error, Cut(Count::Malformed)));
        }
        say(desk, frame.id, error, false);
        Ok(())
    }
}

#[inline]
fn put_reply(out: &mut Vec<u8>, reply: SubmitReply, gateway: bool) {
    let user = if gateway { reply.user } else { 0 };
    wire::put_answer(out, tag_id(reply.tag), reply, user);
}

fn say(desk: &mut Desk, id: u32, mut error: v1::Error, fatal: bool) {
    error.fatal = fatal;
    put_message(&mut desk.out, FrameKind::Error, id, &error);
}

fn out_of_turn(text: &str) -> (v1::Error, Cut) {
    (Code::Unauthenticated.message(text), Cut(Count::Malformed))
}

fn invalid(text: &str) -> (v1::Error, Cut) {
    (Code::Invalid.message(text), Cut(Count::Malformed))
}

fn unreadable(name: &str, error: &prost::DecodeError) -> (v1::Error, Cut) {
    let text = format!("the body of {name} is not the Protobuf message it should be: {error}");
    (Code::Malformed.message(text), Cut(Count::Malformed))
}
