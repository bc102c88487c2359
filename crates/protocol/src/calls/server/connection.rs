//! One connection of a caller.

use super::line::{Line, ticks};
use super::{Shared, chat, slow};
use crate::calls::greeting::{self, Doorkeeper};
use crate::calls::limits::{BATCH_MAX, CALL_FRAME_MAX, GREETING_MS, OUTSTANDING_MAX, SLOW_MAX};
use crate::calls::socket::{read, write};
use crate::calls::wire::{self, CallKind, put_empty, put_message, put_replies, read_submits};
use crate::calls::{CallError, Inbox, ServiceSet, SubmitCall, SubmitReply};
use crate::v1::Outcome;
use futures_util::stream::{FuturesUnordered, StreamExt};
use runtime::Shutdown;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;

/// What a caller over a bound is told to wait, in ms.
const BUSY_MS: u32 = 500;

/// Entries of a frame with all their fields left out have two bytes; this bounds the others.
const SUBMITS_BYTES_MAX: usize = BATCH_MAX * 36;

type SlowCall = Pin<Box<dyn Future<Output = Vec<u8>> + Send>>;

/// Serves a connection to its end.
pub(super) async fn serve(
    shared: &Shared,
    stream: TcpStream,
    peer: SocketAddr,
    stranger: OwnedSemaphorePermit,
    shutdown: &Shutdown,
) {
    let mut input = Vec::new();
    let greeted =
        tokio::time::timeout(Duration::from_millis(GREETING_MS), greet(shared, &stream, &mut input));
    let greeted = greeted.await.unwrap_or_else(|_| Err(format!("no greeting within {GREETING_MS} ms")));
    drop(stranger);
    let (from, wants) = match greeted {
        Ok(greeted) => greeted,
        Err(error) => {
            shared.counts.refused.fetch_add(1, Ordering::Relaxed);
            tracing::warn!(%peer, error, "a call connection was refused");
            return;
        }
    };
    shared.counts.connections.fetch_add(1, Ordering::Relaxed);
    tracing::debug!(%peer, from, "calls are served");
    if wants.contains(ServiceSet::CHAT) {
        let line = Line::new(shared, &stream, input);
        return chat::serve(shared, line, (peer, &from), shutdown).await;
    }
    let mut caller = Caller {
        shared,
        line: Line::new(shared, &stream, input),
        inbox: Arc::new(Inbox::new()),
        unanswered: 0,
        calls: Vec::new(),
        replies: Vec::new(),
        slow: FuturesUnordered::new(),
    };
    if let Err(error) = caller.run(shutdown).await {
        tracing::debug!(%peer, from, error, "a call connection ended");
    }
}

async fn greet(
    shared: &Shared,
    stream: &TcpStream,
    input: &mut Vec<u8>,
) -> Result<(String, ServiceSet), String> {
    let say = |error: std::io::Error| error.to_string();
    stream.set_nodelay(true).map_err(say)?;
    let nonce = greeting::nonce().map_err(|error| format!("no random numbers: {error}"))?;
    let mut keeper = Doorkeeper::new(&shared.cluster, shared.node, shared.served.set().bits(), nonce);
    let mut out = Vec::new();
    loop {
        let mut used = 0;
        let mut greeted = Ok(None);
        while let Some(((kind, body), size)) =
            greeting::next(&input[used..]).map_err(|error| error.to_string())?
        {
            used += size;
            greeted = keeper.take(kind, body, &mut out).map_err(|error| error.to_string());
            if !matches!(greeted, Ok(None)) {
                break;
            }
        }
        input.drain(..used);
        let mut sent = 0;
        while sent < out.len() {
            stream.writable().await.map_err(say)?;
            sent += write(stream, &out[sent..])?;
        }
        out.clear();
        if let Some(greeted) = greeted? {
            return Ok(greeted);
        }
        stream.readable().await.map_err(say)?;
        read(stream, input)?;
    }
}

struct Caller<'a> {
    shared: &'a Shared,
    line: Line<'a>,
    /// Where late decisions come in.
    inbox: Arc<Inbox>,
    /// Submits taken and not yet answered.
    unanswered: usize,
    /// Of one read; kept for their room.
    calls: Vec<SubmitCall>,
    replies: Vec<SubmitReply>,
    slow: FuturesUnordered<SlowCall>,
}

impl Caller<'_> {
    async fn run(&mut self, shutdown: &Shutdown) -> Result<(), String> {
        let mut ticks = ticks();
        loop {
            let all_sent = self.line.flush()?;
            let done = all_sent && self.unanswered == 0 && self.slow.is_empty();
            if self.line.is_over(shutdown, done) {
                return Ok(());
            }
            let (inbox, replies) = (&self.inbox, &mut self.replies);
            let late = inbox.hear(replies);
            tokio::select! {
                ready = self.line.ready(all_sent) => {
                    if ready? {
                        self.read()?;
                    }
                }
                () = late => {}
                Some(frame) = self.slow.next(), if !self.slow.is_empty() => self.line.out.extend_from_slice(&frame),
                _ = ticks.tick() => self.line.bear()?,
                () = shutdown.wait(), if !self.line.is_draining() => {}
            }
            self.answer();
        }
    }

    /// Puts out the decisions there are.
    fn answer(&mut self) {
        self.unanswered -= self.replies.len().min(self.unanswered);
        put_replies(&mut self.line.out, &mut self.replies);
    }

    fn read(&mut self) -> Result<(), String> {
        if !self.line.read()? {
            return Ok(());
        }
        let input = self.line.take_input();
        let used = self.take(&input).map_err(|error| self.line.complain(error))?;
        self.line.taken(input, used);
        self.decide();
        Ok(())
    }

    /// Takes all whole frames; gives how many bytes they have.
    fn take(&mut self, input: &[u8]) -> Result<usize, String> {
        let mut used = 0;
        while let Some(((kind, id, body), size)) =
            wire::next(&input[used..], CALL_FRAME_MAX).map_err(|error| error.to_string())?
        {
            used += size;
            match kind {
                CallKind::Submits => {
                    if body.len() > SUBMITS_BYTES_MAX {
                        let bytes = body.len();
                        return Err(format!("submits have {bytes} bytes; at most {SUBMITS_BYTES_MAX}"));
                    }
                    read_submits(id, body, &mut self.calls)
                        .map_err(|error| format!("submits that can't be read: {error}"))?;
                }
                CallKind::Heartbeat => put_empty(&mut self.line.out, CallKind::Heartbeat, id),
                CallKind::PeerSays => self.hear(id, body)?,
                CallKind::Prizes
                | CallKind::Claim
                | CallKind::Account
                | CallKind::Passed
                | CallKind::Wins => {
                    self.begin_slow(kind, id, body);
                }
                kind => return Err(format!("{kind:?} does not go this way")),
            }
        }
        Ok(used)
    }

    fn hear(&self, from: u32, message: &[u8]) -> Result<(), String> {
        let Some(host) = &self.shared.served.chat_peers else {
            return Err("no chat node with others beside it is served here".to_owned());
        };
        let from = u16::try_from(from).map_err(|_| format!("chat node {from}: numbers go up to 65535"))?;
        self.shared.counts.heard.fetch_add(1, Ordering::Relaxed);
        host.heard(from, message);
        Ok(())
    }

    fn begin_slow(&mut self, kind: CallKind, id: u32, body: &[u8]) {
        let counts = &self.shared.counts;
        if self.slow.len() >= SLOW_MAX {
            counts.busy.fetch_add(1, Ordering::Relaxed);
            put_message(&mut self.line.out, CallKind::Error, id, &CallError::Busy(BUSY_MS).message());
            return;
        }
        counts.others.fetch_add(1, Ordering::Relaxed);
        self.slow.push(Box::pin(slow::serve(self.shared.served.clone(), kind, id, body.to_vec())));
    }

    /// Has the entries of a read decided: those within the bound with one call, the others hear 'busy'.
    fn decide(&mut self) {
        if self.calls.is_empty() {
            return;
        }
        let room = OUTSTANDING_MAX.saturating_sub(self.unanswered).min(self.calls.len());
        let (taken, over) = self.calls.split_at(room);
        self.unanswered += self.calls.len();
        self.shared.counts.submits.fetch_add(taken.len() as u64, Ordering::Relaxed);
        self.shared.counts.busy.fetch_add(over.len() as u64, Ordering::Relaxed);
        self.replies.extend(over.iter().map(|call| refused(call, Outcome::Busy)));
        match &self.shared.served.draws {
            Some(draws) => draws.submit(taken, &self.inbox, &mut self.replies),
            // A caller that did not ask for draws in its greeting.
            None => self.replies.extend(taken.iter().map(|call| refused(call, Outcome::Unavailable))),
        }
        self.calls.clear();
    }
}

fn refused(call: &SubmitCall, outcome: Outcome) -> SubmitReply {
    SubmitReply {
        tag: call.tag,
        user: call.user,
        counter: call.counter,
        next_counter: call.counter,
        outcome,
        next_submit_ms: BUSY_MS,
        until_ms: 0,
        award: None,
    }
}
