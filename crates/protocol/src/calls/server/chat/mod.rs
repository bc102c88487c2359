//! One access node's connection to the chat node of this process.
//!
//! Messages of one read are one call; their answers, requests and pushes are written as they come. Pushes wait in a queue of
//! their own with a bound, so that an access node that does not read costs its devices their pushes and nobody anything else.
//!
//! A connection that ends says nothing about the devices on it: the access node comes back within seconds and tells of those
//! it still has; those it does not name have left, and if it does not come back, all of them.

mod doors;

use self::doors::{Door, Place};
use super::Shared;
use super::line::{Line, ticks};
use crate::calls::chat_wire::{device_of, put_pushes, put_replies};
use crate::calls::limits::{CALL_FRAME_MAX, PUSH_FRAME_BYTES, SENDS_MAX, SLOW_MAX};
use crate::calls::wire::v1::{self, ChatStep};
use crate::calls::wire::{self, CallKind, put_empty, put_message};
use crate::calls::{CallError, ChatHost, ConnectionAt, Inbox, SendCall, SendReply};
use crate::v1::{SendAnswer, SendOutcome};
use futures_util::stream::{FuturesUnordered, StreamExt};
use prost::Message;
use runtime::Shutdown;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

pub(super) use self::doors::FrontDoors;

/// What a caller over a bound, or of a process that ends, is told to wait, in ms.
const BUSY_MS: u32 = 500;

type Ask = Pin<Box<dyn Future<Output = Vec<u8>> + Send>>;

/// Serves a connection to its end.
pub(super) async fn serve(
    shared: &Shared,
    line: Line<'_>,
    (peer, from): (SocketAddr, &str),
    shutdown: &Shutdown,
) {
    // The greeting has refused who wants what is not here.
    let Some(host) = shared.served.chat.clone() else { return };
    let mut caller = Caller {
        shared,
        line,
        host,
        door: Arc::default(),
        open: None,
        inbox: Arc::new(Inbox::new()),
        unanswered: 0,
        replies: Vec::new(),
        asks: FuturesUnordered::new(),
    };
    if let Err(error) = caller.run(shutdown).await {
        tracing::debug!(%peer, from, error, "a connection to chat ended");
    }
    if let Some(open) = caller.open.take() {
        leave_behind(&caller.host, shared, &open, shutdown).await;
    }
}

/// An access node on its connection.
struct Open {
    access: u16,
    place: Place,
}

/// Waits for the access node to come back; its devices have left if it does not.
async fn leave_behind(host: &Arc<dyn ChatHost>, shared: &Shared, open: &Open, shutdown: &Shutdown) {
    let (access, session) = (open.access, open.place.session);
    shared.front_doors.close(access, session, &**host);
    let away = Duration::from_millis(shared.access_away_ms.load(Ordering::Relaxed));
    tokio::select! {
        () = tokio::time::sleep(away) => {}
        () = open.place.replaced.notified() => {}
        () = shutdown.wait() => {}
    }
    // Nothing if it has another connection by now.
    let gone = shared.front_doors.forget(access, session);
    if !gone.is_empty() {
        tracing::info!(access, devices = gone.len(), "an access node is gone, and its devices with it");
    }
    gone.into_iter().for_each(|device| host.leave(device));
}

struct Caller<'a> {
    shared: &'a Shared,
    line: Line<'a>,
    host: Arc<dyn ChatHost>,
    door: Arc<Door>,
    open: Option<Open>,
    /// Where late answers come in.
    inbox: Arc<Inbox<SendReply>>,
    /// Messages taken and not yet answered.
    unanswered: usize,
    replies: Vec<SendReply>,
    asks: FuturesUnordered<Ask>,
}

impl Caller<'_> {
    async fn run(&mut self, shutdown: &Shutdown) -> Result<(), String> {
        let mut ticks = ticks();
        // What came behind the greeting.
        self.take_input()?;
        loop {
            self.push_out();
            let all_sent = self.line.flush()?;
            let done = all_sent && self.unanswered == 0 && self.asks.is_empty();
            if self.line.is_over(shutdown, done) {
                return Ok(());
            }
            let (inbox, replies) = (&self.inbox, &mut self.replies);
            let late = inbox.hear(replies);
            let replaced = self.open.as_ref().map(|open| Arc::clone(&open.place.replaced));
            let replaced = async {
                match replaced {
                    Some(replaced) => replaced.notified().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                ready = self.line.ready(all_sent) => {
                    if ready? {
                        self.read()?;
                    }
                }
                () = late => {}
                () = self.door.rung(), if all_sent => {}
                () = std::future::ready(()), if all_sent && self.door.has_more() => {}
                Some(frame) = self.asks.next(), if !self.asks.is_empty() => self.line.out.extend_from_slice(&frame),
                _ = ticks.tick() => self.line.bear()?,
                () = replaced => return Err("the access node has another connection".to_owned()),
                () = shutdown.wait(), if !self.line.is_draining() => {}
            }
            self.answer();
        }
    }

    /// Puts out the answers there are.
    fn answer(&mut self) {
        self.unanswered -= self.replies.len().min(self.unanswered);
        put_replies(&mut self.line.out, &mut self.replies);
    }

    /// Puts out some of the pushes that wait. Answers have no more of them before them than one frame.
    fn push_out(&mut self) {
        let counts = &self.shared.counts;
        while self.line.unsent() < PUSH_FRAME_BYTES
            && let Some(batch) = self.door.next()
        {
            put_pushes(&mut self.line.out, &batch);
            counts.pushes.fetch_add(batch.targets.len() as u64, Ordering::Relaxed);
        }
        let dropped = self.door.take_dropped();
        if dropped > 0 {
            counts.pushes_dropped.fetch_add(dropped, Ordering::Relaxed);
        }
    }

    fn read(&mut self) -> Result<(), String> {
        if !self.line.read()? {
            return Ok(());
        }
        self.take_input().map_err(|error| self.line.complain(error))
    }

    /// Takes all whole frames that have come.
    fn take_input(&mut self) -> Result<(), String> {
        let input = self.line.take_input();
        let mut sends = Vec::new();
        let taken = self.take(&input, &mut sends);
        self.store(sends);
        self.line.taken(input, taken?);
        Ok(())
    }

    fn take(&mut self, input: &[u8], sends: &mut Vec<SendCall>) -> Result<usize, String> {
        let mut used = 0;
        while let Some(((kind, id, body), size)) =
            wire::next(&input[used..], CALL_FRAME_MAX).map_err(|error| error.to_string())?
        {
            used += size;
            match (kind, &self.open) {
                (CallKind::Heartbeat, _) => put_empty(&mut self.line.out, CallKind::Heartbeat, id),
                (CallKind::ChatOpen, None) => self.begin(&message(kind, body)?)?,
                (CallKind::ChatOpen, Some(_)) => return Err("ChatOpen came twice".to_owned()),
                (_, None) => return Err(format!("{kind:?} before ChatOpen")),
                (CallKind::ChatDevices, Some(_)) => {
                    // In the order that they came in: a device's messages before its leave.
                    self.store(std::mem::take(sends));
                    self.steps(message(kind, body)?)?;
                }
                (CallKind::ChatSends, Some(open)) => {
                    let read: v1::ChatSends = message(kind, body)?;
                    let access = open.access;
                    sends.extend(read.sends.into_iter().map(|row| SendCall {
                        tag: row.mark,
                        send: row.send.unwrap_or_default(),
                        from: ConnectionAt { access, connection: row.connection },
                    }));
                }
                (CallKind::ChatAsk, Some(open)) => {
                    let access = open.access;
                    self.ask(id, access, message(kind, body)?);
                }
                (kind, _) => return Err(format!("{kind:?} does not go this way")),
            }
        }
        Ok(used)
    }

    fn begin(&mut self, open: &v1::ChatOpen) -> Result<(), String> {
        let access = u16::try_from(open.access)
            .map_err(|_| format!("access node {}: numbers go up to 65535", open.access))?;
        let place = self.shared.front_doors.open(access, &*self.host, Arc::clone(&self.door));
        tracing::info!(access, kept = place.devices.lock().before.len(), "an access node has connected");
        self.open = Some(Open { access, place });
        Ok(())
    }

    fn steps(&mut self, steps: v1::ChatDevices) -> Result<(), String> {
        let Some(open) = &self.open else { return Ok(()) };
        let (mut heard, mut confirmed) = (Vec::new(), Vec::new());
        let mut devices = open.place.devices.lock();
        // Looked at under the lock that a later connection takes to see what this one had.
        if !self.shared.front_doors.is_current(open.access, open.place.session) {
            return Err("the access node has another connection".to_owned());
        }
        for row in &steps.devices {
            let device = device_of(open.access, row);
            match row.step() {
                ChatStep::Arrived | ChatStep::ArrivedAgain => {
                    devices.before.remove(&device);
                    devices.now.insert(device);
                    if row.step() == ChatStep::Arrived {
                        self.host.arrive(device);
                    } else {
                        self.host.arrive_again(device);
                        if !row.watches.is_empty() {
                            self.host.watch_again(device, &row.watches);
                        }
                    }
                }
                ChatStep::Left => {
                    devices.before.remove(&device);
                    devices.now.remove(&device);
                    self.host.leave(device);
                }
                ChatStep::Heard => heard.push(device),
                ChatStep::Confirmed => confirmed.push((device, row.cursor)),
                ChatStep::AllTold => {
                    let gone = std::mem::take(&mut devices.before);
                    gone.into_iter().for_each(|device| self.host.leave(device));
                }
                ChatStep::Unspecified => {
                    return Err(format!("step {} of a device is unknown here", row.step));
                }
            }
        }
        drop(devices);
        if !heard.is_empty() {
            self.host.beat(&heard);
        }
        if !confirmed.is_empty() {
            self.host.confirm(&confirmed);
        }
        Ok(())
    }

    /// Has messages stored: those within the bound with one call, the others hear 'busy', as do all when this process ends.
    fn store(&mut self, mut sends: Vec<SendCall>) {
        if sends.is_empty() {
            return;
        }
        let room = if self.line.is_draining() { 0 } else { SENDS_MAX.saturating_sub(self.unanswered) };
        let over = sends.split_off(room.min(sends.len()));
        self.unanswered += sends.len() + over.len();
        let counts = &self.shared.counts;
        counts.sends.fetch_add(sends.len() as u64, Ordering::Relaxed);
        counts.busy.fetch_add(over.len() as u64, Ordering::Relaxed);
        self.replies.extend(over.iter().map(busy));
        if !sends.is_empty() {
            self.host.send(&mut sends, &self.inbox, &mut self.replies);
        }
    }

    fn ask(&mut self, id: u32, access: u16, ask: v1::ChatAsk) {
        let counts = &self.shared.counts;
        if self.asks.len() >= SLOW_MAX || self.line.is_draining() {
            counts.busy.fetch_add(1, Ordering::Relaxed);
            put_message(&mut self.line.out, CallKind::Error, id, &CallError::Busy(BUSY_MS).message());
            return;
        }
        counts.others.fetch_add(1, Ordering::Relaxed);
        let (host, from) = (Arc::clone(&self.host), ConnectionAt { access, connection: ask.connection });
        self.asks.push(Box::pin(async move {
            let mut frame = Vec::new();
            match host.ask(from, ask.request.unwrap_or_default()).await {
                Ok(answer) => put_message(&mut frame, CallKind::ChatAskAnswer, id, &answer),
                Err(error) => put_message(&mut frame, CallKind::Error, id, &error.message()),
            }
            frame
        }));
    }
}

fn message<M: Message + Default>(kind: CallKind, body: &[u8]) -> Result<M, String> {
    M::decode(body).map_err(|error| format!("{kind:?} that can't be read: {error}"))
}

fn busy(call: &SendCall) -> SendReply {
    let answer = SendAnswer {
        outcome: SendOutcome::Busy.into(),
        conversation: call.send.conversation,
        counter: call.send.counter,
        user: call.send.user,
        retry_after_ms: BUSY_MS,
        reason: "the conversation's node takes nothing more just now".to_owned(),
        ..SendAnswer::default()
    };
    SendReply { tag: call.tag, answer }
}
