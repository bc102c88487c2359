//! One connection to another process, kept up for as long as the process is in use.
//!
//! Callers append frames to a buffer and are gone; the link's task ([`Carrier`]) writes whatever is there in one go, reads
//! replies, and puts them where they are waited for. While there is no connection callers hear so at once. When one ends,
//! however it ends, every call on it is answered: submits with 'pending', others with an error that says whether they
//! were sent.

use super::carrier::{Carrier, Traffic};
use super::mail::Mail;
use super::pending::{Pending, Rising};
use super::{CallOptions, Target};
use crate::calls::limits::{BATCH_MAX, CALL_FRAME_MAX, OUTSTANDING_MAX, SLOW_MAX, UNSENT_MAX};
use crate::calls::wire::{self, CallKind, put_empty, put_submits, read_replies};
use crate::calls::{CallError, Cluster, Inbox, ServiceSet, SubmitCall};
use crate::frame::put_parts;
use crate::v1;
use parking_lot::Mutex;
use prost::Message;
use runtime::{SharedClock, Shutdown};
use std::collections::HashMap;
use std::hash::BuildHasherDefault;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use tokio::sync::oneshot;

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
    carrier: Carrier,
    up: AtomicBool,
    timed_out: AtomicU64,
}

impl Link {
    pub fn new(clock: SharedClock, options: CallOptions) -> Arc<Link> {
        Arc::new(Link {
            state: Mutex::default(),
            carrier: Carrier::new(clock, options),
            up: AtomicBool::new(false),
            timed_out: AtomicU64::new(0),
        })
    }

    pub fn is_up(&self) -> bool {
        self.up.load(Ordering::Acquire)
    }

    pub fn timed_out(&self) -> u64 {
        self.timed_out.load(Ordering::Relaxed)
    }

    /// The connection itself.
    pub fn carrier(&self) -> &Carrier {
        &self.carrier
    }

    /// Takes a batch whole, or not at all. Never blocks.
    pub fn submit(&self, calls: &[SubmitCall], inbox: &Arc<Inbox>) -> Result<(), NotTaken> {
        if !self.is_up() {
            return Err(NotTaken::Down);
        }
        let deadline_ms = self.carrier.mono_ms() + u64::from(self.carrier.options().submit_ms);
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
        self.carrier.wake();
        Ok(())
    }

    /// Sends words that nobody answers. False: they are lost, because there is no connection, or no room.
    pub fn say(&self, kind: CallKind, id: u32, body: &[u8]) -> bool {
        let mut state = self.state.lock();
        if !state.up || state.out.len() + body.len() > UNSENT_MAX {
            return false;
        }
        put_parts(&mut state.out, kind as u8, id, |out| out.extend_from_slice(body));
        drop(state);
        self.carrier.wake();
        true
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
        self.carrier.wake();
        let _forget = Forget { link: self, id };
        // The sender is dropped without a word only together with the whole link.
        answer.await.unwrap_or_else(|_| Err(Failed::Lost("the process ends".to_owned())))
    }

    /// Keeps the connection until the link is stopped, or shutdown is requested, and what is under way is answered.
    pub async fn run(
        self: Arc<Self>,
        target: Target,
        cluster: Arc<Cluster>,
        (from, wants): (Arc<str>, ServiceSet),
        shutdown: Shutdown,
    ) {
        self.carrier.run(&*self, &target, &cluster, (from, wants), &shutdown).await;
    }
}

impl Traffic for Link {
    type Scratch = Mail;

    fn begin(&self, target: &Target, failures: u32) {
        self.state.lock().up = true;
        self.up.store(true, Ordering::Release);
        if failures > 0 {
            tracing::info!(node = target.node, address = target.address, "connected again");
        }
    }

    fn end(&self, why: &str, mail: &mut Mail) {
        self.up.store(false, Ordering::Release);
        let mut state = self.state.lock();
        state.up = false;
        state.out = Vec::new();
        state.pending.give_up_all(self.carrier.options().wait_ms, mail);
        let slow = std::mem::take(&mut state.slow);
        drop(state);
        mail.deliver();
        for sender in slow.into_values() {
            // Whoever stopped waiting has no use for it.
            let _ = sender.send(Err(Failed::Lost(why.to_owned())));
        }
    }

    fn is_idle(&self) -> bool {
        let state = self.state.lock();
        state.pending.unanswered() == 0 && state.slow.is_empty() && state.out.is_empty()
    }

    fn fetch(&self, empty: &mut Vec<u8>) -> Result<(), String> {
        std::mem::swap(&mut self.state.lock().out, empty);
        Ok(())
    }

    fn take(&self, input: &[u8], mail: &mut Mail) -> Result<usize, String> {
        let taken = self.take_frames(input, mail);
        mail.deliver();
        taken
    }

    fn tick(&self, now_ms: u64, beat: bool, mail: &mut Mail) {
        let mut state = self.state.lock();
        let late = state.pending.expire(now_ms, self.carrier.options().wait_ms, mail);
        if beat {
            put_empty(&mut state.out, CallKind::Heartbeat, 0);
        }
        drop(state);
        mail.deliver();
        self.timed_out.fetch_add(late as u64, Ordering::Relaxed);
    }
}

impl Link {
    /// Takes all whole frames; gives how many bytes they have.
    fn take_frames(&self, input: &[u8], mail: &mut Mail) -> Result<usize, String> {
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
