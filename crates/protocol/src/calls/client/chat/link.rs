//! The connection itself. Callers append frames to a buffer and are gone; the link's task writes whatever is there in one go,
//! reads answers and pushes, and puts them where they are waited for.

use super::pending::{Mail, Sends, ask_again};
use super::{ChatHealth, WANTS};
use crate::calls::chat_wire::{put_sends, put_steps, read_pushes, step};
use crate::calls::client::connect::{BACKOFF, connect};
use crate::calls::client::pending::Rising;
use crate::calls::client::{CallOptions, Target};
use crate::calls::limits::{
    BUFFER_KEPT, CALL_FRAME_MAX, SENDS_MAX, SLOW_MAX, STEPS_MAX, TELL_AGAIN_MAX, TICK_MS, UNSENT_MAX,
};
use crate::calls::socket::{read, write};
use crate::calls::wire::v1::{self, ChatStep};
use crate::calls::wire::{self, CallKind, put_empty, put_message};
use crate::calls::{
    CallError, Cluster, ConnectionAt, DeviceAt, Inbox, PushBatch, Pushes, SendCall, SendReply,
};
use crate::v1 as play;
use crate::v1::{ChatAnswer, ChatRequest, SendOutcome};
use parking_lot::Mutex;
use prost::Message;
use runtime::{Backoff, SharedClock, Shutdown};
use std::collections::{HashMap, HashSet};
use std::hash::BuildHasherDefault;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::sync::{Notify, oneshot};
use tokio::time::MissedTickBehavior;

/// What a sender waits who came while too much was under way, in ms.
const BUSY_MS: u32 = 100;

#[derive(Default)]
struct State {
    up: bool,
    /// A word about a device found no room: the connection must end.
    broken: bool,
    /// Frames to write.
    out: Vec<u8>,
    sends: Sends,
    asks: HashMap<u32, oneshot::Sender<Result<ChatAnswer, CallError>>, BuildHasherDefault<Rising>>,
    next_id: u32,
    /// Devices that have arrived and not left.
    devices: HashSet<DeviceAt>,
    /// Those of them that have not been told of on this connection; perhaps some that have left since.
    untold: Vec<DeviceAt>,
    /// Whether it was said that all are told.
    all_told: bool,
}

/// A connection; its task runs [`ChatLink::run`].
pub(super) struct ChatLink {
    access: u16,
    door: Arc<dyn Pushes>,
    state: Mutex<State>,
    wake: Notify,
    stopping: AtomicBool,
    /// Attempts and connections that failed since the last greeting went well.
    failures: AtomicU32,
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
    pushes: Vec<PushBatch>,
    beat_ms: u64,
    heard_ms: u64,
}

impl ChatLink {
    pub fn new(clock: SharedClock, options: CallOptions, access: u16, door: Arc<dyn Pushes>) -> Arc<Self> {
        Arc::new(Self {
            access,
            door,
            state: Mutex::default(),
            wake: Notify::new(),
            stopping: AtomicBool::new(false),
            failures: AtomicU32::new(0),
            timed_out: AtomicU64::new(0),
            last_error: Mutex::default(),
            clock,
            options,
        })
    }

    pub fn options(&self) -> &CallOptions {
        &self.options
    }

    pub fn health(&self) -> ChatHealth {
        let state = self.state.lock();
        ChatHealth {
            up: state.up,
            failures: self.failures.load(Ordering::Relaxed),
            timed_out: self.timed_out.load(Ordering::Relaxed),
            devices: state.devices.len(),
            untold: state.untold.len(),
            last_error: self.last_error.lock().clone(),
        }
    }

    pub fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
        self.wake.notify_one();
    }

    pub fn arrive(&self, device: DeviceAt, again: bool) {
        let mut state = self.state.lock();
        state.devices.insert(device);
        let what = if again { ChatStep::ArrivedAgain } else { ChatStep::Arrived };
        self.tell(&mut state, step(what, device, 0));
    }

    pub fn leave(&self, device: DeviceAt) {
        let mut state = self.state.lock();
        if state.devices.remove(&device) {
            self.tell(&mut state, step(ChatStep::Left, device, 0));
        }
    }

    pub fn give_up(&self, is_elsewhere: impl Fn(&DeviceAt) -> bool) -> Vec<DeviceAt> {
        let mut state = self.state.lock();
        let gone: Vec<DeviceAt> = state.devices.extract_if(|device| is_elsewhere(device)).collect();
        gone.iter().for_each(|device| self.tell(&mut state, step(ChatStep::Left, *device, 0)));
        gone
    }

    /// Tells chat of a device, on the connection there is. Without one it will be told with all others.
    fn tell(&self, state: &mut State, row: v1::ChatDevice) {
        if !state.up || state.broken {
            return;
        }
        if state.out.len() > UNSENT_MAX {
            state.broken = true;
        } else {
            put_steps(&mut state.out, std::iter::once(row));
        }
        self.wake.notify_one();
    }

    pub fn beat(&self, devices: &[DeviceAt]) {
        self.tell_if_there_is_room(devices.iter().map(|device| step(ChatStep::Heard, *device, 0)));
    }

    pub fn confirm(&self, confirms: &[(DeviceAt, u64)]) {
        let row = |(device, cursor): &(DeviceAt, u64)| step(ChatStep::Confirmed, *device, *cursor);
        self.tell_if_there_is_room(confirms.iter().map(row));
    }

    fn tell_if_there_is_room(&self, rows: impl Iterator<Item = v1::ChatDevice>) {
        let mut rows = rows.peekable();
        let mut state = self.state.lock();
        // Half of the room is left to what must be told.
        while state.up && state.out.len() < UNSENT_MAX / 2 && rows.peek().is_some() {
            put_steps(&mut state.out, rows.by_ref().take(STEPS_MAX));
        }
        drop(state);
        self.wake.notify_one();
    }

    pub fn send(&self, calls: &mut Vec<SendCall>, inbox: &Arc<Inbox<SendReply>>, out: &mut Vec<SendReply>) {
        let deadline_ms = self.mono_ms() + u64::from(self.options.submit_ms);
        let mut guard = self.state.lock();
        let state = &mut *guard;
        let (wait_ms, reason) = if !state.up {
            (self.options.wait_ms, "the conversation's node can't be reached now")
        } else if state.sends.places() + calls.len() > SENDS_MAX || state.out.len() > UNSENT_MAX {
            (BUSY_MS, "more is on its way than chat takes")
        } else {
            let mark = state.sends.add(calls, inbox, deadline_ms);
            put_sends(&mut state.out, mark, calls);
            drop(guard);
            self.wake.notify_one();
            return;
        };
        drop(guard);
        out.extend(calls.drain(..).map(|call| SendReply {
            tag: call.tag,
            answer: ask_again(&call.send, SendOutcome::Busy, wait_ms, reason),
        }));
    }

    pub async fn ask(&self, from: ConnectionAt, request: ChatRequest) -> Result<ChatAnswer, CallError> {
        let unavailable = |why: &str| Err(CallError::Unavailable(format!("chat: {why}; ask the same again")));
        let (sender, answer) = oneshot::channel();
        let id = {
            let mut state = self.state.lock();
            if !state.up {
                drop(state);
                return unavailable("its node can't be reached now");
            }
            if state.asks.len() >= SLOW_MAX || state.out.len() > UNSENT_MAX {
                return Err(CallError::Busy(BUSY_MS));
            }
            let id = state.next_id;
            state.next_id = id.wrapping_add(1);
            let message = v1::ChatAsk { connection: from.connection, request: Some(request) };
            put_message(&mut state.out, CallKind::ChatAsk, id, &message);
            state.asks.insert(id, sender);
            id
        };
        self.wake.notify_one();
        let _forget = Forget { link: self, id };
        let within = Duration::from_millis(self.options.try_ms.into());
        match tokio::time::timeout(within, answer).await {
            Ok(Ok(answer)) => answer,
            // The sender is dropped without a word only together with the whole link.
            Ok(Err(_)) => unavailable("the process ends"),
            Err(_) => unavailable("no answer in time"),
        }
    }

    fn mono_ms(&self) -> u64 {
        self.clock.mono_ns() / 1_000_000
    }

    /// Keeps the connection until the link is stopped, or shutdown is requested, and what is under way is answered.
    pub async fn run(
        self: Arc<Self>,
        target: Target,
        cluster: Arc<Cluster>,
        from: Arc<str>,
        shutdown: Shutdown,
    ) {
        let mut backoff = Backoff::new(BACKOFF);
        while !self.is_stopping() && !shutdown.is_requested() {
            let mut io = Io::default();
            let ended = match connect(&self.options, &target, &cluster, (&from, WANTS), &mut io.input).await {
                Ok(stream) => {
                    backoff.succeeded();
                    self.begin(&target, &mut io);
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

    fn begin(&self, target: &Target, io: &mut Io) {
        io.heard_ms = self.mono_ms();
        let before = self.failures.swap(0, Ordering::Relaxed);
        *self.last_error.lock() = None;
        let mut state = self.state.lock();
        let state = &mut *state;
        (state.up, state.broken, state.all_told) = (true, false, false);
        put_message(&mut state.out, CallKind::ChatOpen, 0, &v1::ChatOpen { access: self.access.into() });
        state.untold = state.devices.iter().copied().collect();
        state.tell_again();
        tracing::info!(
            node = target.node,
            devices = state.devices.len(),
            failures = before,
            "chat is reached"
        );
    }

    /// Nobody is taken any more, and everybody who was is answered.
    fn end(&self, io: &mut Io, ended: &Result<(), String>) {
        let why = ended.as_ref().err().map_or("this process ends", String::as_str);
        let mut state = self.state.lock();
        state.up = false;
        state.out = Vec::new();
        state.untold = Vec::new();
        state.sends.give_up_all(self.options.wait_ms, &mut io.mail);
        let asks = std::mem::take(&mut state.asks);
        drop(state);
        io.mail.deliver();
        for sender in asks.into_values() {
            let text = format!("chat: the connection to its node ended ({why}); ask the same again");
            // Whoever stopped waiting has no use for it.
            let _ = sender.send(Err(CallError::Unavailable(text)));
        }
    }

    fn failed(&self, target: &Target, error: String) {
        let before = self.failures.fetch_add(1, Ordering::Relaxed);
        let (node, address) = (target.node, &target.address);
        if before == 0 {
            tracing::warn!(node, address, error, "no connection to chat; trying again with back-off");
        } else {
            tracing::debug!(node, address, error, "still no connection to chat");
        }
        *self.last_error.lock() = Some(error);
    }

    /// Moves frames both ways. Ends well only when the link is stopped and nothing is under way.
    async fn serve(&self, stream: &TcpStream, io: &mut Io) -> Result<(), String> {
        let mut tick = tokio::time::interval(Duration::from_millis(TICK_MS));
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
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
                _ = tick.tick() => self.tick(io)?,
            }
        }
    }

    fn is_idle(&self) -> bool {
        let state = self.state.lock();
        state.sends.unanswered() == 0 && state.asks.is_empty() && state.out.is_empty()
    }

    /// Writes what there is; true when nothing is left.
    fn flush(&self, stream: &TcpStream, io: &mut Io) -> Result<bool, String> {
        if io.sent == io.unsent.len() {
            io.unsent.clear();
            if io.unsent.capacity() > BUFFER_KEPT {
                io.unsent = Vec::new();
            }
            io.sent = 0;
            let mut state = self.state.lock();
            if state.broken {
                return Err("more words about devices than can be sent".to_owned());
            }
            std::mem::swap(&mut state.out, &mut io.unsent);
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
        io.heard_ms = self.mono_ms();
        let taken = self.take(&io.input, &mut io.mail, &mut io.pushes);
        io.mail.deliver();
        // Never under the lock: the door takes locks of its own.
        io.pushes.drain(..).for_each(|batch| self.door.push(batch));
        io.input.drain(..taken?);
        if io.input.is_empty() && io.input.capacity() > BUFFER_KEPT {
            io.input = Vec::new();
        }
        Ok(())
    }

    /// Takes all whole frames; gives how many bytes they have.
    fn take(&self, input: &[u8], mail: &mut Mail, pushes: &mut Vec<PushBatch>) -> Result<usize, String> {
        let unreadable =
            |kind: CallKind, error: &dyn std::fmt::Display| format!("{kind:?} that can't be read: {error}");
        let mut used = 0;
        while let Some(((kind, id, body), size)) =
            wire::next(&input[used..], CALL_FRAME_MAX).map_err(|error| error.to_string())?
        {
            used += size;
            match kind {
                CallKind::ChatPushes => {
                    pushes.push(read_pushes(body).map_err(|error| unreadable(kind, &error))?);
                }
                CallKind::ChatReplies => {
                    let replies = v1::ChatReplies::decode(body).map_err(|error| unreadable(kind, &error))?;
                    let mut state = self.state.lock();
                    for v1::ChatReply { mark, answer } in replies.replies {
                        let Some(answer) = answer else { continue };
                        // One that nobody waits for came too late: its message has been answered.
                        state.sends.answer(mark, answer, mail);
                    }
                }
                CallKind::ChatAskAnswer => {
                    let answer = ChatAnswer::decode(body).map_err(|error| unreadable(kind, &error))?;
                    self.answered(id, Ok(answer));
                }
                CallKind::Heartbeat => {}
                CallKind::Error => {
                    let error = play::Error::decode(body).map_err(|error| unreadable(kind, &error))?;
                    if error.fatal {
                        return Err(format!("closed by the other side: {}", error.message));
                    }
                    self.answered(id, Err(CallError::from_message(&error)));
                }
                kind => return Err(format!("{kind:?} does not go this way")),
            }
        }
        Ok(used)
    }

    fn answered(&self, id: u32, answer: Result<ChatAnswer, CallError>) {
        if let Some(sender) = self.state.lock().asks.remove(&id) {
            // Whoever stopped waiting has no use for it.
            let _ = sender.send(answer);
        }
    }

    /// Looks at the clock: messages whose time is over, devices to tell of, a heartbeat that is due, silence.
    fn tick(&self, io: &mut Io) -> Result<(), String> {
        let now_ms = self.mono_ms();
        let mut state = self.state.lock();
        let late = state.sends.expire(now_ms, self.options.wait_ms, &mut io.mail);
        state.tell_again();
        if now_ms >= io.beat_ms + u64::from(self.options.heartbeat_ms) {
            io.beat_ms = now_ms;
            put_empty(&mut state.out, CallKind::Heartbeat, 0);
        }
        drop(state);
        io.mail.deliver();
        self.timed_out.fetch_add(late as u64, Ordering::Relaxed);
        let silent_ms = now_ms.saturating_sub(io.heard_ms);
        if silent_ms >= u64::from(self.options.dead_ms) {
            return Err(format!("nothing was heard for {silent_ms} ms"));
        }
        Ok(())
    }
}

impl State {
    /// Tells of some more of the devices that were here before the connection.
    fn tell_again(&mut self) {
        if self.all_told || self.out.len() > UNSENT_MAX / 2 {
            return;
        }
        let from = self.untold.len().saturating_sub(TELL_AGAIN_MAX);
        let still_here = self.untold.drain(from..).filter(|device| self.devices.contains(device));
        let mut rows: Vec<_> = still_here.map(|device| step(ChatStep::ArrivedAgain, device, 0)).collect();
        if self.untold.is_empty() {
            self.all_told = true;
            rows.push(step(ChatStep::AllTold, DeviceAt::default(), 0));
        }
        put_steps(&mut self.out, rows.into_iter());
    }
}

/// Takes a request off the table when nobody waits any more.
struct Forget<'a> {
    link: &'a ChatLink,
    id: u32,
}

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        self.link.state.lock().asks.remove(&self.id);
    }
}
