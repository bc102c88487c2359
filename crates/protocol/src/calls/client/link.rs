//! One connection to another process, kept up for as long as the process is in use.
//!
//! Callers append frames to a buffer and are gone; the link's task writes whatever is there in one go, reads replies,
//! and puts them where they are waited for. While there is no connection callers hear so at once. When one ends,
//! however it ends, every call on it is answered: submits with 'pending', others with an error that says whether they
//! were sent. The next connection is tried after a back-off with random spread.

use super::connect::{BACKOFF, connect};
use super::pending::{Mail, Pending, Rising};
use super::{CallOptions, Target};
use crate::calls::limits::{
    BATCH_MAX, BUFFER_KEPT, CALL_FRAME_MAX, OUTSTANDING_MAX, SLOW_MAX, TICK_MS, UNSENT_MAX,
};
use crate::calls::socket::{read, write};
use crate::calls::wire::{self, CallKind, put_empty, put_submits, read_replies};
use crate::calls::{CallError, Cluster, Inbox, ServiceSet, SubmitCall};
use crate::frame::put_parts;
use crate::v1;
use parking_lot::Mutex;
use prost::Message;
use runtime::{Backoff, SharedClock, Shutdown};
use std::collections::HashMap;
use std::hash::BuildHasherDefault;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::sync::{Notify, oneshot};
use tokio::time::MissedTickBehavior;

/// Why a link did not take a batch of submits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum NotTaken {
    /// There is no connection.
    Down,
    /// Too much is under way.
    Full,
}

/// Why a call other than a submit has no answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Failed {
    /// It never left this process.
    Unsent(String),
    /// The connection ended before the answer: it may have been done.
    Lost(String),
    /// The other side's own words.
    Said(CallError),
}

type Answer = Result<(CallKind, Vec<u8>), Failed>;

#[derive(Default)]
struct State {
    up: bool,
    /// Frames to write.
    out: Vec<u8>,
    pending: Pending,
    slow: HashMap<u32, oneshot::Sender<Answer>, BuildHasherDefault<Rising>>,
    next_id: u32,
}

/// A link; its task runs [`Link::run`].
pub(super) struct Link {
    state: Mutex<State>,
    wake: Notify,
    stopping: AtomicBool,
    up: AtomicBool,
    /// Attempts and connections that failed since the last greeting went well.
    failures: AtomicU32,
    /// When something was last heard (monotonic ms).
    heard_ms: AtomicU64,
    timed_out: AtomicU64,
    last_error: Mutex<Option<String>>,
    clock: SharedClock,
    options: CallOptions,
}

/// What the task owns while it is connected.
#[derive(Default)]
struct Io {
    input: Vec<u8>,
    unsent: Vec<u8>,
    sent: usize,
    mail: Mail,
    beat_ms: u64,
    /// When the clock was looked at last.
    tick_ms: u64,
}

impl Link {
    pub fn new(clock: SharedClock, options: CallOptions) -> Arc<Link> {
        Arc::new(Link {
            state: Mutex::default(),
            wake: Notify::new(),
            stopping: AtomicBool::new(false),
            up: AtomicBool::new(false),
            failures: AtomicU32::new(0),
            heard_ms: AtomicU64::new(0),
            timed_out: AtomicU64::new(0),
            last_error: Mutex::default(),
            clock,
            options,
        })
    }

    pub fn is_up(&self) -> bool {
        self.up.load(Ordering::Acquire)
    }

    pub fn failures(&self) -> u32 {
        self.failures.load(Ordering::Relaxed)
    }

    pub fn timed_out(&self) -> u64 {
        self.timed_out.load(Ordering::Relaxed)
    }

    pub fn last_error(&self) -> Option<String> {
        self.last_error.lock().clone()
    }

    /// Ends once everything under way is answered.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
        self.wake.notify_one();
    }

    /// Takes a batch whole, or not at all. Never blocks.
    pub fn submit(&self, calls: &[SubmitCall], inbox: &Arc<Inbox>) -> Result<(), NotTaken> {
        if !self.is_up() {
            return Err(NotTaken::Down);
        }
        let deadline_ms = self.mono_ms() + u64::from(self.options.submit_ms);
        let mut state = self.state.lock();
        let state = &mut *state;
        if !state.up {
            return Err(NotTaken::Down);
        }
        if state.pending.unanswered() + calls.len() > OUTSTANDING_MAX || state.out.len() > UNSENT_MAX {
            return Err(NotTaken::Full);
        }
        for batch in calls.chunks(BATCH_MAX) {
            let id = state.take_id();
            put_submits(&mut state.out, id, batch);
            state.pending.add(id, batch, inbox, deadline_ms);
        }
        self.wake.notify_one();
        Ok(())
    }

    /// Sends a call other than a submit and waits for its answer; dropping the future forgets the call.
    pub async fn call(&self, kind: CallKind, body: &[u8]) -> Answer {
        let (sender, answer) = oneshot::channel();
        let id = {
            let mut state = self.state.lock();
            if !state.up {
                return Err(Failed::Unsent("there is no connection".to_owned()));
            }
            if state.slow.len() >= SLOW_MAX || state.out.len() > UNSENT_MAX {
                return Err(Failed::Unsent(format!(
                    "{SLOW_MAX} calls or more are under way on the connection"
                )));
            }
            let id = state.take_id();
            put_parts(&mut state.out, kind as u8, id, |out| out.extend_from_slice(body));
            state.slow.insert(id, sender);
            id
        };
        self.wake.notify_one();
        let _forget = Forget { link: self, id };
        // The sender is dropped without a word only together with the whole link.
        answer.await.unwrap_or_else(|_| Err(Failed::Lost("the process ends".to_owned())))
    }

    fn mono_ms(&self) -> u64 {
        self.clock.mono_ns() / 1_000_000
    }

    /// Keeps the connection until the link is stopped, or shutdown is requested, and what is under way is answered.
    pub async fn run(
        self: Arc<Self>,
        target: Target,
        cluster: Arc<Cluster>,
        (from, wants): (Arc<str>, ServiceSet),
        shutdown: Shutdown,
    ) {
        let mut backoff = Backoff::new(BACKOFF);
        let mut io;
        loop {
            if self.is_stopping() || shutdown.is_requested() {
                return;
            }
            io = Io::default();
            let connected = connect(&self.options, &target, &cluster, (&from, wants), &mut io.input).await;
            let ended = match connected {
                Ok(stream) => {
                    backoff.succeeded();
                    self.begin(&target);
                    let ended = tokio::select! {
                        ended = self.serve(&stream, &mut io) => ended,
                        () = shutdown.wait() => {
                            self.stop();
                            Ok(())
                        }
                    };
                    // Asked to stop from outside: what is under way is still waited for.
                    let ended = if ended.is_ok() { self.serve(&stream, &mut io).await } else { ended };
                    self.end(&mut io, &ended);
                    ended
                }
                Err(error) => Err(error),
            };
            let Err(error) = ended else { return };
            self.failed(&target, error);
            // Without randomness everybody comes back at the nominal time, which is no worse than late.
            let delay_ms = backoff.failed(getrandom::u64().unwrap_or(0));
            tokio::select! {
                () = tokio::time::sleep(Duration::from_millis(delay_ms)) => {}
                () = self.stopped() => return,
                () = shutdown.wait() => return,
            }
        }
    }

    fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    async fn stopped(&self) {
        while !self.is_stopping() {
            self.wake.notified().await;
        }
    }

    fn begin(&self, target: &Target) {
        self.heard_ms.store(self.mono_ms(), Ordering::Relaxed);
        let before = self.failures.swap(0, Ordering::Relaxed);
        *self.last_error.lock() = None;
        self.state.lock().up = true;
        self.up.store(true, Ordering::Release);
        if before > 0 {
            tracing::info!(node = target.node, address = target.address, "connected again");
        }
    }

    /// Nobody is taken any more, and everybody who was is answered.
    fn end(&self, io: &mut Io, ended: &Result<(), String>) {
        self.up.store(false, Ordering::Release);
        let why = ended.as_ref().err().map_or("this process ends", String::as_str);
        let mut state = self.state.lock();
        state.up = false;
        state.out = Vec::new();
        state.pending.give_up_all(self.options.wait_ms, &mut io.mail);
        let slow = std::mem::take(&mut state.slow);
        drop(state);
        io.mail.deliver();
        for sender in slow.into_values() {
            // Whoever stopped waiting has no use for it.
            let _ = sender.send(Err(Failed::Lost(why.to_owned())));
        }
    }

    fn failed(&self, target: &Target, error: String) {
        let before = self.failures.fetch_add(1, Ordering::Relaxed);
        let (node, address) = (target.node, &target.address);
        if before == 0 {
            tracing::warn!(node, address, error, "no connection; trying again with back-off");
        } else {
            tracing::debug!(node, address, error, "still no connection");
        }
        *self.last_error.lock() = Some(error);
    }

    /// Moves frames both ways. Ends well only when the link is stopped and nothing is under way.
    async fn serve(&self, stream: &TcpStream, io: &mut Io) -> Result<(), String> {
        let mut tick = tokio::time::interval(Duration::from_millis(TICK_MS));
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        io.tick_ms = self.mono_ms();
        loop {
            let all_sent = self.flush(stream, io)?;
            if self.is_stopping() && all_sent && self.is_idle() {
                return Ok(());
            }
            let interest =
                if all_sent { Interest::READABLE } else { Interest::READABLE | Interest::WRITABLE };
            tokio::select! {
                ready = stream.ready(interest) => {
                    if ready.map_err(|error| error.to_string())?.is_readable() {
                        self.read(stream, io)?;
                    }
                }
                () = self.wake.notified(), if all_sent => {}
                _ = tick.tick() => self.tick(stream, io)?,
            }
        }
    }

    fn is_idle(&self) -> bool {
        let state = self.state.lock();
        state.pending.unanswered() == 0 && state.slow.is_empty() && state.out.is_empty()
    }

    /// Writes what there is; true when nothing is left.
    fn flush(&self, stream: &TcpStream, io: &mut Io) -> Result<bool, String> {
        if io.sent == io.unsent.len() {
            io.unsent.clear();
            if io.unsent.capacity() > BUFFER_KEPT {
                io.unsent = Vec::new();
            }
            io.sent = 0;
            std::mem::swap(&mut self.state.lock().out, &mut io.unsent);
        }
        while io.sent < io.unsent.len() {
            match write(stream, &io.unsent[io.sent..])? {
                0 => return Ok(false),
                n => io.sent += n,
            }
        }
        Ok(true)
    }

    fn read(&self, stream: &TcpStream, io: &mut Io) -> Result<(), String> {
        if read(stream, &mut io.input)? == 0 {
            return Ok(());
        }
        self.heard_ms.store(self.mono_ms(), Ordering::Relaxed);
        let taken = self.take(&io.input, &mut io.mail);
        io.mail.deliver();
        io.input.drain(..taken?);
        if io.input.is_empty() && io.input.capacity() > BUFFER_KEPT {
            io.input = Vec::new();
        }
        Ok(())
    }

    /// Takes all whole frames; gives how many bytes they have.
    fn take(&self, input: &[u8], mail: &mut Mail) -> Result<usize, String> {
        let mut used = 0;
        let mut state = self.state.lock();
        while let Some(((kind, id, body), size)) =
            wire::next(&input[used..], CALL_FRAME_MAX).map_err(|error| error.to_string())?
        {
            used += size;
            match kind {
                CallKind::Replies => read_replies(body, |row| {
                    // One that nobody waits for came too late: its call has been answered.
                    state.pending.answer(row, mail);
                })
                .map_err(|error| format!("replies that can't be read: {error}"))?,
                CallKind::Heartbeat => {}
                CallKind::Error => {
                    let error = v1::Error::decode(body)
                        .map_err(|error| format!("an error that can't be read: {error}"))?;
                    if error.fatal {
                        return Err(format!("closed by the other side: {}", error.message));
                    }
                    if let Some(sender) = state.slow.remove(&id) {
                        let _ = sender.send(Err(Failed::Said(CallError::from_message(&error))));
                    }
                }
                kind if kind.is_answer() => {
                    if let Some(sender) = state.slow.remove(&id) {
                        let _ = sender.send(Ok((kind, body.to_vec())));
                    }
                }
                kind => return Err(format!("{kind:?} does not go this way")),
            }
        }
        Ok(used)
    }

    /// Looks at the clock: calls whose time is over, a heartbeat that is due, silence.
    fn tick(&self, stream: &TcpStream, io: &mut Io) -> Result<(), String> {
        let now_ms = self.mono_ms();
        let between_ms = now_ms.saturating_sub(std::mem::replace(&mut io.tick_ms, now_ms));
        if between_ms >= u64::from(self.options.dead_ms / 2) {
            // It is this process that stood still: nothing can be said of the other one for that time.
            let heard_ms = self.heard_ms.load(Ordering::Relaxed) + between_ms;
            self.heard_ms.store(heard_ms.min(now_ms), Ordering::Relaxed);
        }
        let mut state = self.state.lock();
        let late = state.pending.expire(now_ms, self.options.wait_ms, &mut io.mail);
        if now_ms >= io.beat_ms + u64::from(self.options.heartbeat_ms) {
            io.beat_ms = now_ms;
            put_empty(&mut state.out, CallKind::Heartbeat, 0);
        }
        drop(state);
        io.mail.deliver();
        self.timed_out.fetch_add(late as u64, Ordering::Relaxed);
        let silent_ms = || now_ms.saturating_sub(self.heard_ms.load(Ordering::Relaxed));
        if silent_ms() < u64::from(self.options.dead_ms) {
            return Ok(());
        }
        // Its word may have come and not been read yet.
        self.read(stream, io)?;
        match silent_ms() {
            ms if ms >= u64::from(self.options.dead_ms) => Err(format!("nothing was heard for {ms} ms")),
            _ => Ok(()),
        }
    }
}

impl State {
    fn take_id(&mut self) -> u32 {
        let id = self.next_id;
        self.next_id = id.wrapping_add(1);
        id
    }
}

/// Takes a call off the table when nobody waits any more.
struct Forget<'a> {
    link: &'a Link,
    id: u32,
}

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        self.link.state.lock().slow.remove(&self.id);
    }
}
