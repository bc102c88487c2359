//! The connection itself. Callers append frames to a buffer and are gone; the link's task writes whatever is there in one go,
//! reads answers and pushes, and puts them where they are waited for.

use super::pending::{Sends, ask_again};
use super::{ChatHealth, WANTS};
use crate::calls::chat_wire::{again, put_sends, put_steps, read_pushes, step};
use crate::calls::client::carrier::{Carrier, Traffic};
use crate::calls::client::mail::Mail;
use crate::calls::client::pending::Rising;
use crate::calls::client::{CallOptions, Target};
use crate::calls::limits::{
    CALL_FRAME_MAX, SENDS_MAX, SLOW_MAX, STEPS_MAX, TELL_AGAIN_MAX, UNSENT_MAX, WATCHES_MAX,
};
use crate::calls::wire::v1::{self, ChatStep};
use crate::calls::wire::{self, CallKind, put_empty, put_message};
use crate::calls::{
    CallError, Cluster, ConnectionAt, DeviceAt, Inbox, PushBatch, Pushes, SendCall, SendReply,
};
use crate::v1 as play;
use crate::v1::chat_answer::Answer;
use crate::v1::chat_request::Ask;
use crate::v1::{ChatAnswer, ChatRequest, SendOutcome};
use parking_lot::Mutex;
use prost::Message;
use runtime::{SharedClock, Shutdown};
use std::collections::{HashMap, HashSet};
use std::hash::BuildHasherDefault;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::oneshot;

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
    /// Whose presence some of them watch.
    watches: HashMap<DeviceAt, Vec<u64>>,
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
    carrier: Carrier,
    timed_out: AtomicU64,
}

/// Kept while there is a connection.
#[derive(Default)]
pub(super) struct Scratch {
    mail: Mail<SendReply>,
    pushes: Vec<PushBatch>,
}

impl ChatLink {
    pub fn new(clock: SharedClock, options: CallOptions, access: u16, door: Arc<dyn Pushes>) -> Arc<Self> {
        Arc::new(Self {
            access,
            door,
            state: Mutex::default(),
            carrier: Carrier::new(clock, options),
            timed_out: AtomicU64::new(0),
        })
    }

    /// The connection itself.
    pub fn carrier(&self) -> &Carrier {
        &self.carrier
    }

    /// Whether there is a connection.
    pub fn is_up(&self) -> bool {
        self.state.lock().up
    }

    pub fn health(&self) -> ChatHealth {
        let state = self.state.lock();
        ChatHealth {
            up: state.up,
            failures: self.carrier.failures(),
            timed_out: self.timed_out.load(Ordering::Relaxed),
            devices: state.devices.len(),
            untold: state.untold.len(),
            last_error: self.carrier.last_error(),
        }
    }

    pub fn arrive(&self, device: DeviceAt, is_again: bool) {
        let mut state = self.state.lock();
        state.devices.insert(device);
        let what = if is_again { ChatStep::ArrivedAgain } else { ChatStep::Arrived };
        self.tell(&mut state, step(what, device, 0));
    }

    /// A device that was another node's watches these.
    pub fn watch_again(&self, device: DeviceAt, users: &[u64]) {
        let mut state = self.state.lock();
        if !users.is_empty() && state.devices.contains(&device) {
            state.watches.insert(device, users[..users.len().min(WATCHES_MAX)].to_vec());
            self.tell(&mut state, again(device, users));
        }
    }

    /// A device has been told whom it watches from now on.
    fn watches(&self, device: DeviceAt, users: impl Iterator<Item = u64>) {
        let mut state = self.state.lock();
        if state.devices.contains(&device) {
            let watches = state.watches.entry(device).or_default();
            for user in users {
                if watches.len() < WATCHES_MAX && !watches.contains(&user) {
                    watches.push(user);
                }
            }
        }
    }

    pub fn leave(&self, device: DeviceAt) {
        let mut state = self.state.lock();
        if state.devices.remove(&device) {
            state.watches.remove(&device);
            self.tell(&mut state, step(ChatStep::Left, device, 0));
        }
    }

    pub fn give_up(&self, is_elsewhere: impl Fn(&DeviceAt) -> bool) -> Vec<(DeviceAt, Vec<u64>)> {
        let mut state = self.state.lock();
        let gone: Vec<DeviceAt> = state.devices.extract_if(|device| is_elsewhere(device)).collect();
        gone.iter().for_each(|device| self.tell(&mut state, step(ChatStep::Left, *device, 0)));
        gone.into_iter().map(|device| (device, state.watches.remove(&device).unwrap_or_default())).collect()
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
        self.carrier.wake();
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
        self.carrier.wake();
    }

    pub fn send(&self, calls: &mut Vec<SendCall>, inbox: &Arc<Inbox<SendReply>>, out: &mut Vec<SendReply>) {
        let deadline_ms = self.carrier.mono_ms() + u64::from(self.carrier.options().submit_ms);
        let mut guard = self.state.lock();
        let state = &mut *guard;
        let (wait_ms, reason) = if !state.up {
            (self.carrier.options().wait_ms, "the conversation's node can't be reached now")
        } else if state.sends.places() + calls.len() > SENDS_MAX || state.out.len() > UNSENT_MAX {
            (BUSY_MS, "more is on its way than chat takes")
        } else {
            let mark = state.sends.add(calls, inbox, deadline_ms);
            put_sends(&mut state.out, mark, calls);
            drop(guard);
            self.carrier.wake();
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
        let who = DeviceAt { user: request.user, device: request.device, at: from };
        let is_watching = matches!(&request.ask, Some(Ask::Presence(ask)) if ask.watch);
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
        self.carrier.wake();
        let _forget = Forget { link: self, id };
        let within = Duration::from_millis(self.carrier.options().try_ms.into());
        match tokio::time::timeout(within, answer).await {
            Ok(Ok(answer)) => {
                if is_watching && let Ok(ChatAnswer { answer: Some(Answer::Presence(seen)), .. }) = &answer {
                    self.watches(who, seen.presence.iter().map(|presence| presence.user));
                }
                answer
            }
            // The sender is dropped without a word only together with the whole link.
            Ok(Err(_)) => unavailable("the process ends"),
            Err(_) => unavailable("no answer in time"),
        }
    }

    /// Keeps the connection until the link is stopped, or shutdown is requested, and what is under way is answered.
    pub async fn run(
        self: Arc<Self>,
        target: Target,
        cluster: Arc<Cluster>,
        from: Arc<str>,
        shutdown: Shutdown,
    ) {
        self.carrier.run(&*self, &target, &cluster, (from, WANTS), &shutdown).await;
    }
}

impl Traffic for ChatLink {
    type Scratch = Scratch;

    fn begin(&self, target: &Target, failures: u32) {
        let mut state = self.state.lock();
        let state = &mut *state;
        (state.up, state.broken, state.all_told) = (true, false, false);
        put_message(&mut state.out, CallKind::ChatOpen, 0, &v1::ChatOpen { access: self.access.into() });
        state.untold = state.devices.iter().copied().collect();
        state.tell_again();
        tracing::info!(node = target.node, devices = state.devices.len(), failures, "chat is reached");
    }

    fn end(&self, why: &str, scratch: &mut Scratch) {
        let mut state = self.state.lock();
        state.up = false;
        state.out = Vec::new();
        state.untold = Vec::new();
        state.sends.give_up_all(self.carrier.options().wait_ms, &mut scratch.mail);
        let asks = std::mem::take(&mut state.asks);
        drop(state);
        scratch.mail.deliver();
        for sender in asks.into_values() {
            let text = format!("chat: the connection to its node ended ({why}); ask the same again");
            // Whoever stopped waiting has no use for it.
            let _ = sender.send(Err(CallError::Unavailable(text)));
        }
    }

    fn is_idle(&self) -> bool {
        let state = self.state.lock();
        state.sends.unanswered() == 0 && state.asks.is_empty() && state.out.is_empty()
    }

    fn fetch(&self, empty: &mut Vec<u8>) -> Result<(), String> {
        let mut state = self.state.lock();
        if state.broken {
            return Err("more words about devices than can be sent".to_owned());
        }
        std::mem::swap(&mut state.out, empty);
        Ok(())
    }

    fn take(&self, input: &[u8], scratch: &mut Scratch) -> Result<usize, String> {
        let taken = self.take_frames(input, &mut scratch.mail, &mut scratch.pushes);
        scratch.mail.deliver();
        // Never under the lock: the door takes locks of its own.
        scratch.pushes.drain(..).for_each(|batch| self.door.push(batch));
        taken
    }

    fn tick(&self, now_ms: u64, beat: bool, scratch: &mut Scratch) {
        let mut state = self.state.lock();
        let late = state.sends.expire(now_ms, self.carrier.options().wait_ms, &mut scratch.mail);
        state.tell_again();
        if beat {
            put_empty(&mut state.out, CallKind::Heartbeat, 0);
        }
        drop(state);
        scratch.mail.deliver();
        self.timed_out.fetch_add(late as u64, Ordering::Relaxed);
    }
}

impl ChatLink {
    /// Takes all whole frames; gives how many bytes they have.
    fn take_frames(
        &self,
        input: &[u8],
        mail: &mut Mail<SendReply>,
        pushes: &mut Vec<PushBatch>,
    ) -> Result<usize, String> {
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
}

impl State {
    /// Tells of some more of the devices that were here before the connection.
    fn tell_again(&mut self) {
        if self.all_told || self.out.len() > UNSENT_MAX / 2 {
            return;
        }
        let from = self.untold.len().saturating_sub(TELL_AGAIN_MAX);
        let still_here = self.untold.drain(from..).filter(|device| self.devices.contains(device));
        let row = |device| again(device, self.watches.get(&device).map_or(&[][..], Vec::as_slice));
        let mut rows: Vec<_> = still_here.map(row).collect();
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
