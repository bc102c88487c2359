//! A frame connection on its socket, or in a WebSocket.
//!
//! One future, polled by hand: it reads as much as is there into the worker's buffer, has the session take it, and
//! writes all answers with one call. An idle connection owns no buffer; only the beginning of a frame that has not
//! come whole, and answers that a slow reader has not taken, are kept with it. While answers wait nothing more is
//! read, so a client that does not read is held back by its own socket, and cut when that lasts or the wait grows.

mod io;

use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::stream::{FuturesUnordered, Stream as _};
use protocol::calls::ConnectionAt;
use protocol::error::Code;
use protocol::frame::{FrameKind, put_message};
use protocol::v1;

use crate::counters::Count;
use crate::limits::READS_PER_TURN;
use crate::requests::{Answer, too_many_logins};
use crate::session::{Cut, Session};
use crate::slots::address;
use crate::stream::Stream;
use crate::websocket::{Fault, WebSocket};
use crate::worker::{Place, State, Worker};

type SlowCall = Pin<Box<dyn Future<Output = (u32, Result<Answer, v1::Error>)> + Send>>;

/// A connection's task.
pub(crate) struct Connection {
    worker: Arc<Worker>,
    stream: Stream,
    peer: IpAddr,
    place: u32,
    /// Written, and held back within TLS.
    unflushed: bool,
    /// There if frames come in WebSocket messages.
    websocket: Option<Box<WebSocket>>,
    /// Why the WebSocket ends, if that is why.
    fault: Option<Fault>,
    /// What it is closed for, once its last words are on their way.
    ending: Option<Cut>,
    session: Session,
    /// There while something waits, and somewhat longer.
    aside: Option<Box<Aside>>,
}

/// What waits on a connection. An idle one has none: it is given back when the client has sent nothing but a heartbeat.
#[derive(Default)]
struct Aside {
    /// The beginning of a frame.
    rest: Vec<u8>,
    /// Answers that the socket did not take.
    unsent: Vec<u8>,
    /// Slow requests under way; there only while there are any.
    slow: Option<Box<FuturesUnordered<SlowCall>>>,
}

/// What a connection keeps while idle, beside its place in the table. With the 104 bytes that the runtime keeps of each
/// task this makes 256, to which the allocator would round it up anyway; the next size is 512.
const _: () = assert!(size_of::<Connection>() <= 152);

/// A larger buffer of answers is given back after use.
const OUT_KEPT: usize = 1 << 20;

/// Bytes of answers to slow requests behind which they are sent before further ones are made.
const SLOW_OUT: usize = 64 * 1024;

enum Read {
    Some,
    Nothing,
    Over,
}

impl Connection {
    /// A connection that speaks frames.
    pub fn new(place: Place, stream: Stream, peer: IpAddr) -> Self {
        let (worker, place) = place.keep();
        Self {
            worker,
            stream,
            peer,
            place,
            unflushed: false,
            websocket: None,
            fault: None,
            ending: None,
            session: Session::new(place),
            aside: None,
        }
    }

    /// A connection that has become a WebSocket.
    pub fn websocket(place: Place, stream: Stream, peer: IpAddr) -> Self {
        let mut connection = Self::new(place, stream, peer);
        connection.websocket = Some(Box::default());
        connection
    }

    fn turn(&mut self, cx: &mut Context<'_>, state: &mut State) -> Poll<Cut> {
        state.desk.out.clear();
        state.desk.begin();
        if !self.session.is_open() {
            state.desk.at = self.address(state);
        }
        state.slots.wake_with(self.place, cx.waker());
        if let Some(why) = state.slots.is_cut(self.place) {
            self.cut_off(state, why);
        }
        if state.slots.is_to_move(self.place) {
            self.tell_to_move(state);
        }
        self.late_replies(cx, state);
        if !self.is_stuck() {
            self.write_pushes(state);
        }
        let mut reads = 0;
        loop {
            if let Err(cut) = self.flush(cx, state) {
                return Poll::Ready(cut);
            }
            if self.is_stuck() {
                // Whoever has been marked and does not even take his last words is not waited for.
                return match state.slots.is_cut(self.place) {
                    Some(why) => Poll::Ready(Cut(why)),
                    None => Poll::Pending,
                };
            }
            if let Some(cut) = self.ending {
                return Poll::Ready(cut);
            }
            if self.finish_slow(cx, state) | self.write_pushes(state) {
                continue;
            }
            if self.session.is_asking() {
                return Poll::Pending;
            }
            if self.worker.is_draining() && self.session.outstanding() == 0 {
                self.farewell(state);
                continue;
            }
            if reads == READS_PER_TURN {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            reads += 1;
            match self.read(cx, state) {
                Read::Some => {}
                Read::Nothing => return Poll::Pending,
                Read::Over => return Poll::Ready(Cut(Count::Closed)),
            }
            self.start_slow(state);
            // Replies that were put while the batch was being decided.
            self.late_replies(cx, state);
        }
    }

    fn address(&self, state: &State) -> ConnectionAt {
        let generation = state.slots.generation(self.place);
        address(self.worker.shared.node, self.worker.number, self.place, generation)
    }

    /// Puts out what became of submits and messages in the meantime.
    fn late_replies(&mut self, cx: &mut Context<'_>, state: &mut State) {
        let mut replies = Vec::new();
        while self.session.inbox().is_some_and(|inbox| inbox.take(&mut replies, cx.waker())) {
            self.session.late(&mut state.desk, &mut replies);
        }
        if self.session.sends_inbox().is_none() {
            return;
        }
        let mut replies = std::mem::take(&mut state.desk.chat.replies);
        while self.session.sends_inbox().is_some_and(|inbox| inbox.take(&mut replies, cx.waker())) {
            self.session.sent(&mut state.desk, &mut replies);
        }
        state.desk.chat.replies = replies;
    }

    /// Puts out what is pushed to it, as much as one write should have; true if there was any.
    fn write_pushes(&mut self, state: &mut State) -> bool {
        let slot = state.slots.of(self.place);
        if slot.line.is_empty() || self.ending.is_some() {
            return false;
        }
        let desk = &mut state.desk;
        let counters = &desk.shared.faces[desk.worker].counters;
        state.pending.write(&mut slot.line, self.session.reader(), &mut desk.out, counters);
        true
    }

    fn start_slow(&mut self, state: &mut State) {
        if let Some((id, login, word)) = state.desk.admission.take() {
            let slow = self.aside.get_or_insert_default().slow.get_or_insert_default();
            slow.push(Box::pin(async move {
                let word = word.await.map_err(too_many_logins);
                (id, word.map(|()| Answer::Admitted(login)))
            }));
        }
        if state.desk.requests.is_empty() {
            return;
        }
        let slow = self.aside.get_or_insert_default().slow.get_or_insert_default();
        let (desks, within_ms) = (&self.worker.shared.desks, self.worker.shared.limits.call_ms);
        for (id, request) in state.desk.requests.drain(..) {
            let answer = request.serve(desks.clone(), within_ms);
            slow.push(Box::pin(async move { (id, answer.await) }));
        }
    }

    /// Puts out answers to slow requests, as many as one write should have; true if there were any. Called only while
    /// nothing waits for the reader, so that pages of prizes don't pile up here.
    fn finish_slow(&mut self, cx: &mut Context<'_>, state: &mut State) -> bool {
        let Some(mut slow) = self.aside.as_mut().and_then(|aside| aside.slow.take()) else { return false };
        let mut resumed = false;
        while state.desk.out.len() < SLOW_OUT {
            let Poll::Ready(Some((id, answer))) = Pin::new(&mut *slow).poll_next(cx) else { break };
            let asked = self.session.is_asking();
            if let Some(cut) = self.session.answered(&mut state.desk, id, answer) {
                self.ending = Some(cut);
            } else if asked {
                // What came behind the login has waited for it.
                self.take_rest(state);
                resumed = true;
            }
        }
        if !slow.is_empty() {
            self.aside.get_or_insert_default().slow = Some(slow);
        }
        if resumed {
            self.start_slow(state);
        }
        !state.desk.out.is_empty() || resumed
    }

    fn cut_off(&mut self, state: &mut State, why: Count) {
        if self.ending.is_some() {
            return;
        }
        let (code, text) = match why {
            Count::LoginLate => (Code::Unauthenticated, "no login in time"),
            Count::Expired => (Code::TokenExpired, "the token has expired; log in with a new one"),
            Count::Silent => {
                (Code::Refused, "nothing was heard for too long; send heartbeats as Welcome says")
            }
            _ => (Code::Refused, "answers were not read"),
        };
        // Somebody who does not read gets no further words; they would wait behind the others.
        if why == Count::SlowReader {
            drop(self.take_unsent());
        } else {
            self.session.farewell(&mut state.desk, code, text, 0);
        }
        self.ending = Some(Cut(why));
    }

    /// Names the node that the client is to go to. What is under way here is answered all the same.
    fn tell_to_move(&mut self, state: &mut State) {
        let Some(to) = self.worker.shared.moves.next(self.session.user()) else { return };
        if self.ending.is_some() {
            return;
        }
        let within_ms = self.worker.shared.limits.move_within_ms;
        let to = v1::Move { tcp: to.tcp, websocket: to.websocket, within_ms, reason: to.reason };
        put_message(&mut state.desk.out, FrameKind::Move, 0, &to);
        state.desk.counters().add(Count::Moves, 1);
    }

    fn farewell(&mut self, state: &mut State) {
        self.session.farewell(
            &mut state.desk,
            Code::Unavailable,
            "this node shuts down; connect again",
            1_000,
        );
        self.ending = Some(Cut(Count::Closed));
    }
}

impl Future for Connection {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        let worker = Arc::clone(&this.worker);
        let mut state = worker.state.lock();
        match this.turn(cx, &mut state) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Cut(why)) => {
                if why != Count::Closed {
                    state.desk.counters().add(why, 1);
                    tracing::debug!(peer = %this.peer, why = why.metric(), "connection cut");
                }
                Poll::Ready(())
            }
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        let mut state = self.worker.state.lock();
        self.session.end_chat(&mut state.desk);
        drop(state);
        self.worker.closed(self.place);
    }
}
