//! A frame connection on its socket.
//!
//! One future, polled by hand: it reads as much as is there into the worker's buffer, has the session take it, and
//! writes all answers with one call. An idle connection owns no buffer; only the beginning of a frame that has not
//! come whole, and answers that a slow reader has not taken, are kept with it. While answers wait nothing more is
//! read, so a client that does not read is held back by its own socket, and cut when that lasts or the wait grows.

use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::stream::{FuturesUnordered, Stream};
use protocol::calls::Inbox;
use protocol::error::Code;
use protocol::v1;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use crate::counters::Count;
use crate::limits::READS_PER_TURN;
use crate::requests::{Answer, too_many_logins};
use crate::session::{Cut, Session};
use crate::worker::{State, Worker};

type SlowCall = Pin<Box<dyn Future<Output = (u32, Result<Answer, v1::Error>)> + Send>>;

/// A connection's task.
pub(crate) struct Connection {
    worker: Arc<Worker>,
    stream: TcpStream,
    peer: IpAddr,
    place: u32,
    /// What it is closed for, once its last words are on their way.
    ending: Option<Cut>,
    inbox: Arc<Inbox>,
    session: Session,
    /// The beginning of a frame.
    rest: Vec<u8>,
    /// Answers that the socket did not take.
    unsent: Vec<u8>,
    /// Slow requests under way; there only while there are any.
    slow: Option<Box<FuturesUnordered<SlowCall>>>,
}

/// What a connection keeps while idle, the runtime's and the socket's share aside.
const _: () = assert!(size_of::<Connection>() <= 384);

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
    pub fn new(worker: &Arc<Worker>, stream: TcpStream, peer: IpAddr) -> Self {
        let deadline_ms = worker.shared.mono_ms() + u64::from(worker.shared.limits.login_ms);
        let place = worker.state.lock().slots.open(deadline_ms, Count::LoginLate);
        Self {
            worker: Arc::clone(worker),
            stream,
            peer,
            place,
            ending: None,
            inbox: Arc::new(Inbox::new()),
            session: Session::new(),
            rest: Vec::new(),
            unsent: Vec::new(),
            slow: None,
        }
    }

    fn turn(&mut self, cx: &mut Context<'_>, state: &mut State) -> Poll<Cut> {
        state.desk.out.clear();
        state.desk.begin();
        state.slots.wake_with(self.place, cx.waker());
        if let Some(why) = state.slots.is_cut(self.place) {
            self.cut_off(state, why);
        }
        let mut replies = Vec::new();
        while self.inbox.take(&mut replies, cx.waker()) {
            self.session.late(&mut state.desk, &mut replies);
        }
        let mut reads = 0;
        loop {
            if let Err(cut) = self.flush(cx, state) {
                return Poll::Ready(cut);
            }
            if !self.unsent.is_empty() {
                // Whoever has been marked and does not even take his last words is not waited for.
                return match state.slots.is_cut(self.place) {
                    Some(why) => Poll::Ready(Cut(why)),
                    None => Poll::Pending,
                };
            }
            if let Some(cut) = self.ending {
                return Poll::Ready(cut);
            }
            if self.finish_slow(cx, state) {
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
            while self.inbox.take(&mut replies, cx.waker()) {
                self.session.late(&mut state.desk, &mut replies);
            }
        }
    }

    fn read(&mut self, cx: &mut Context<'_>, state: &mut State) -> Read {
        let kept = self.rest.len();
        state.read[..kept].copy_from_slice(&self.rest);
        let mut buffer = ReadBuf::new(&mut state.read[..]);
        buffer.set_filled(kept);
        match Pin::new(&mut self.stream).poll_read(cx, &mut buffer) {
            Poll::Pending => return Read::Nothing,
            Poll::Ready(Err(_)) => return Read::Over,
            Poll::Ready(Ok(())) => {}
        }
        let filled = buffer.filled().len();
        if filled == kept {
            return Read::Over;
        }
        state.desk.counters().add(Count::BytesIn, (filled - kept) as u64);
        let input = &state.read[..filled];
        let taken = self.session.take(&mut state.desk, &self.inbox, self.peer, input);
        self.ending = taken.cut;
        self.keep(&input[taken.used..]);
        if self.session.is_open() {
            let deadline_ms = state.desk.mono_ms + u64::from(self.worker.shared.limits.silence_ms);
            state.slots.heard(self.place, deadline_ms, self.session.expires_s());
        }
        Read::Some
    }

    fn keep(&mut self, rest: &[u8]) {
        if rest.is_empty() {
            self.rest = Vec::new();
        } else {
            self.rest.clear();
            self.rest.extend_from_slice(rest);
        }
    }

    /// Sends what waits and what was just put out.
    fn flush(&mut self, cx: &mut Context<'_>, state: &mut State) -> Result<(), Cut> {
        let gone = Cut(Count::Closed);
        let mut out = std::mem::take(&mut state.desk.out);
        if !self.unsent.is_empty() {
            self.unsent.extend_from_slice(&out);
            out.clear();
        }
        let from_unsent = !self.unsent.is_empty();
        let bytes: &[u8] = if from_unsent { &self.unsent } else { &out };
        let mut sent = 0;
        while sent < bytes.len() {
            match Pin::new(&mut self.stream).poll_write(cx, &bytes[sent..]) {
                Poll::Ready(Ok(n)) if n > 0 => sent += n,
                Poll::Ready(_) => return Err(gone),
                Poll::Pending => break,
            }
        }
        let left = bytes.len() - sent;
        state.desk.counters().add(Count::BytesOut, sent as u64);
        if left == 0 {
            if from_unsent {
                self.unsent = Vec::new();
                state.slots.unsent(self.place, 0);
            }
        } else if from_unsent {
            self.unsent.drain(..sent);
        } else {
            self.unsent.extend_from_slice(&out[sent..]);
        }
        if left > 0 && (sent > 0 || !from_unsent) {
            state.slots.unsent(self.place, state.desk.mono_ms.max(1));
        }
        out.clear();
        if out.capacity() <= OUT_KEPT {
            state.desk.out = out;
        }
        if left > self.worker.shared.limits.unsent_bytes_max as usize {
            return Err(Cut(Count::SlowReader));
        }
        Ok(())
    }

    fn start_slow(&mut self, state: &mut State) {
        if let Some((id, login, word)) = state.desk.admission.take() {
            let slow = self.slow.get_or_insert_default();
            slow.push(Box::pin(async move {
                let word = word.await.map_err(too_many_logins);
                (id, word.map(|()| Answer::Admitted(login)))
            }));
        }
        if state.desk.requests.is_empty() {
            return;
        }
        let slow = self.slow.get_or_insert_default();
        let (desks, within_ms) = (&self.worker.shared.desks, self.worker.shared.limits.call_ms);
        for (id, request) in state.desk.requests.drain(..) {
            let answer = request.serve(desks.clone(), within_ms);
            slow.push(Box::pin(async move { (id, answer.await) }));
        }
    }

    /// Puts out answers to slow requests, as many as one write should have; true if there were any. Called only while
    /// nothing waits for the reader, so that pages of prizes don't pile up here.
    fn finish_slow(&mut self, cx: &mut Context<'_>, state: &mut State) -> bool {
        let Some(slow) = &mut self.slow else { return false };
        let mut resumed = false;
        while state.desk.out.len() < SLOW_OUT {
            let Poll::Ready(Some((id, answer))) = Pin::new(&mut **slow).poll_next(cx) else { break };
            let asked = self.session.is_asking();
            if let Some(cut) = self.session.answered(&mut state.desk, id, answer) {
                self.ending = Some(cut);
            } else if asked {
                // What came behind the login has waited for it.
                let input = std::mem::take(&mut self.rest);
                let taken = self.session.take(&mut state.desk, &self.inbox, self.peer, &input);
                self.ending = taken.cut;
                self.rest = input[taken.used..].to_vec();
                resumed = true;
            }
        }
        if slow.is_empty() {
            self.slow = None;
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
            self.unsent = Vec::new();
        } else {
            self.session.farewell(&mut state.desk, code, text, 0);
        }
        self.ending = Some(Cut(why));
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
        self.worker.closed(self.place);
    }
}
