//! Reading and writing of a connection.

use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{Aside, Connection, OUT_KEPT, Read};
use crate::counters::Count;
use crate::session::Cut;
use crate::websocket::{Fault, WebSocket};
use crate::worker::State;

impl Connection {
    pub(super) fn read(&mut self, cx: &mut Context<'_>, state: &mut State) -> Read {
        let rest = self.aside.as_ref().map_or(&[][..], |aside| &aside.rest);
        let kept = rest.len();
        state.read[..kept].copy_from_slice(rest);
        let mut buffer = ReadBuf::new(&mut state.read[..]);
        buffer.set_filled(kept);
        match Pin::new(&mut self.stream).poll_read(cx, &mut buffer) {
            Poll::Pending => return Read::Nothing,
            Poll::Ready(Err(_)) => return Read::Over,
            Poll::Ready(Ok(())) => {}
        }
        let mut filled = buffer.filled().len();
        if filled == kept {
            return Read::Over;
        }
        state.desk.counters().add(Count::BytesIn, (filled - kept) as u64);
        if let Some(websocket) = &mut self.websocket {
            match websocket.take(&mut state.read, kept, filled) {
                Ok(end) => filled = end,
                Err(fault) => {
                    self.fail(fault);
                    return Read::Some;
                }
            }
        }
        let input = &state.read[..filled];
        let taken = self.session.take(&mut state.desk, self.peer, input);
        self.ending = taken.cut;
        self.keep_from(&state.read[taken.used..filled]);
        if taken.idle {
            self.aside.take_if(|aside| aside.is_empty());
        }
        self.note_heard(state);
        Read::Some
    }

    /// Takes what has been kept.
    pub(super) fn take_rest(&mut self, state: &mut State) {
        let input = self.aside.as_mut().map(|aside| std::mem::take(&mut aside.rest)).unwrap_or_default();
        let taken = self.session.take(&mut state.desk, self.peer, &input);
        self.ending = taken.cut;
        self.keep_from(&input[taken.used..]);
        self.note_heard(state);
    }

    /// The table learns who is there, and that something came.
    fn note_heard(&self, state: &mut State) {
        if !self.session.is_open() {
            return;
        }
        if let Some(login) = state.desk.logged_in.take() {
            state.slots.logged_in(self.place, login);
        }
        let deadline_ms = state.desk.mono_ms + u64::from(self.worker.shared.limits.silence_ms);
        state.slots.heard(self.place, deadline_ms);
    }

    fn fail(&mut self, fault: Fault) {
        self.fault = Some(fault);
        let count = if fault == Fault::Closed { Count::Closed } else { Count::Malformed };
        self.ending = Some(Cut(count));
    }

    fn keep_from(&mut self, rest: &[u8]) {
        if !rest.is_empty() {
            let kept = &mut self.aside.get_or_insert_default().rest;
            kept.clear();
            kept.extend_from_slice(rest);
        } else if let Some(aside) = &mut self.aside {
            aside.rest = Vec::new();
        }
    }

    /// Whether the reader has to take something before more is done for it.
    pub(super) fn is_stuck(&self) -> bool {
        self.unflushed || self.aside.as_ref().is_some_and(|aside| !aside.unsent.is_empty())
    }

    /// What the socket did not take before.
    pub(super) fn take_unsent(&mut self) -> Vec<u8> {
        self.aside.as_mut().map(|aside| std::mem::take(&mut aside.unsent)).unwrap_or_default()
    }

    /// Sends what waits and what was just put out.
    pub(super) fn flush(&mut self, cx: &mut Context<'_>, state: &mut State) -> Result<(), Cut> {
        let gone = Cut(Count::Closed);
        let mut out = std::mem::take(&mut state.desk.out);
        self.wrap(&mut out);
        let mut unsent = self.take_unsent();
        let from_unsent = !unsent.is_empty();
        if from_unsent {
            unsent.extend_from_slice(&out);
            out.clear();
        }
        let bytes: &[u8] = if from_unsent { &unsent } else { &out };
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
        let was_stuck = from_unsent || self.unflushed;
        if self.stream.holds_back() && (sent > 0 || self.unflushed) {
            self.unflushed = match Pin::new(&mut self.stream).poll_flush(cx) {
                Poll::Ready(Ok(())) => false,
                Poll::Ready(Err(_)) => return Err(gone),
                Poll::Pending => true,
            };
        }
        if left > 0 {
            if from_unsent {
                unsent.drain(..sent);
            } else {
                unsent.extend_from_slice(&out[sent..]);
            }
            self.aside.get_or_insert_default().unsent = unsent;
        }
        if !self.is_stuck() {
            if was_stuck {
                state.slots.unsent(self.place, 0);
            }
        } else if sent > 0 || !was_stuck {
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

    /// Makes WebSocket messages of what was put out, and says goodbye behind the last words.
    fn wrap(&mut self, out: &mut Vec<u8>) {
        let Some(websocket) = &mut self.websocket else { return };
        websocket.wrap(out);
        if let Some(cut) = self.ending {
            close(websocket, out, self.fault, cut);
        }
    }
}

impl Aside {
    fn is_empty(&self) -> bool {
        self.rest.is_empty() && self.unsent.is_empty() && self.slow.is_none()
    }
}

fn close(websocket: &mut WebSocket, out: &mut Vec<u8>, fault: Option<Fault>, cut: Cut) {
    match (fault, cut.0) {
        // In the middle of what was not taken there is no place for another frame.
        (_, Count::SlowReader) => {}
        (Some(fault), _) => websocket.close(out, fault.code(), &fault.to_string()),
        // This node goes; the client is to come to another.
        (None, Count::Closed) => websocket.close(out, 1001, "connect again"),
        (None, Count::Malformed) => websocket.close(out, 1002, "see the error"),
        (None, _) => websocket.close(out, 1008, "see the error"),
    }
}
