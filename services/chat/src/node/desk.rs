//! Under the desk's lock: decisions, and records on their way to the disk in the order of the decisions.

use super::ChatNode;
use super::fill::Errand;
use crate::core::{Key, Logged, Refusal, Sending, State, answer, busy};
use flowlog::{AppendError, Class, Disk};
use protocol::calls::{Inbox, SendReply};
use protocol::v1::{Send, SendAnswer, SendOutcome};
use records::Record;
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::sync::oneshot;

/// When a sender may try again who came while too many waited, in ms.
const BUSY_RETRY_MS: u32 = 100;
/// ... while the disk was full, or the node was ending.
const FULL_RETRY_MS: u32 = 3_000;

/// What is under the lock.
pub(super) struct Desk {
    pub state: State,
    /// Written and not applied, in the order of the log.
    pub pending: VecDeque<Pending>,
    /// Sends that wait for something to come into memory, in the order they came.
    pub parked: VecDeque<Parked>,
    parked_of: HashMap<(u64, u64), u32>,
    /// What is wanted from the store.
    pub wanted: HashSet<Key>,
    /// Nothing more is taken.
    pub stopped: bool,
    /// What is to be done for a checkpoint.
    pub errand: Errand,
    scratch: Vec<u8>,
}

/// A record on its way.
pub(super) struct Pending {
    /// Its group.
    pub position: u64,
    pub logged: Logged,
    pub then: Then,
}

/// Who hears that a record is applied.
pub(super) enum Then {
    Nobody,
    Sender { tag: u64, inbox: Arc<Inbox<SendReply>> },
    Waiter(oneshot::Sender<()>),
}

/// A send that waits.
pub(super) struct Parked {
    pub send: Send,
    pub content: Result<(), Refusal>,
    pub tag: u64,
    pub inbox: Arc<Inbox<SendReply>>,
}

impl Desk {
    pub fn new(state: State) -> Desk {
        Desk {
            state,
            pending: VecDeque::new(),
            parked: VecDeque::new(),
            parked_of: HashMap::new(),
            wanted: HashSet::new(),
            stopped: false,
            errand: Errand::None,
            scratch: Vec::new(),
        }
    }

    /// Wants something from the store.
    pub fn want(&mut self, key: Key) {
        if !matches!(key, Key::Settled(_) | Key::Elsewhere(_)) {
            self.wanted.insert(key);
        }
    }

    fn park(&mut self, parked: Parked) {
        *self.parked_of.entry((parked.send.user, parked.send.device)).or_default() += 1;
        self.parked.push_back(parked);
    }

    /// Takes everything out that waits.
    pub fn unpark_all(&mut self) -> VecDeque<Parked> {
        self.parked_of.clear();
        std::mem::take(&mut self.parked)
    }
}

impl<D: Disk> ChatNode<D> {
    /// Writes records together and lets the next decisions build on them. Nothing has happened after an error.
    pub(super) fn write(
        &self,
        desk: &mut Desk,
        records: Vec<Logged>,
        then: Then,
        class: Class,
        now_ms: u64,
    ) -> Result<(), AppendError> {
        let encode = |logged: &Logged, out: &mut Vec<u8>| match logged {
            Logged::Message(message) => message.encode_into(out),
            Logged::Fact(fact) => fact.encode_into(out),
        };
        let position = match &records[..] {
            [one] => {
                desk.scratch.clear();
                encode(one, &mut desk.scratch);
                self.log.append(&desk.scratch, class)?
            }
            several => {
                let mut bytes: Vec<Vec<u8>> = Vec::with_capacity(several.len());
                for logged in several {
                    let mut one = Vec::with_capacity(128);
                    encode(logged, &mut one);
                    bytes.push(one);
                }
                self.log.append_many(&bytes, class)?
            }
        };
        let last = records.len() - 1;
        let mut then = Some(then);
        for (at, logged) in records.into_iter().enumerate() {
            desk.state.take(&logged, now_ms);
            let then = if at == last { then.take().unwrap_or(Then::Nobody) } else { Then::Nobody };
            desk.pending.push_back(Pending { position: position.0, logged, then });
        }
        Ok(())
    }

    /// Decides about a send; an answer if there is one already.
    pub(super) fn handle(&self, desk: &mut Desk, call: Parked, now_ms: u64) -> Option<SendAnswer> {
        let Parked { send, content, .. } = &call;
        if desk.stopped {
            return Some(busy(send, FULL_RETRY_MS, "this node is ending"));
        }
        let ours = (send.user, send.device);
        if desk.parked_of.contains_key(&ours) {
            // Behind those that came before it.
            return self.park_or_refuse(desk, call);
        }
        match desk.state.decide_send(send, content, now_ms) {
            Sending::Answer(answer) => Some(answer),
            Sending::Need(key) => {
                desk.want(key);
                self.park_or_refuse(desk, call)
            }
            Sending::Take(records) => {
                let state = &desk.state;
                if desk.pending.len() >= self.options.pending_max
                    || state.unstored_bytes >= self.options.unstored_bytes_max
                {
                    self.counters.refused.fetch_add(1, Ordering::Relaxed);
                    return Some(busy(send, BUSY_RETRY_MS, "more is on its way than the disk takes"));
                }
                let then = Then::Sender { tag: call.tag, inbox: call.inbox };
                let error = self.write(desk, records, then, Class::Normal, now_ms).err()?;
                self.counters.refused.fetch_add(1, Ordering::Relaxed);
                Some(match error {
                    AppendError::Busy => busy(&call.send, BUSY_RETRY_MS, "the disk is busy"),
                    AppendError::Full { .. } => busy(&call.send, FULL_RETRY_MS, "the disk is full"),
                    AppendError::TooLarge { .. } | AppendError::Empty => {
                        answer(&call.send, SendOutcome::Invalid, "too large")
                    }
                    AppendError::Closed | AppendError::Failed(_) => {
                        busy(&call.send, FULL_RETRY_MS, "this node is ending")
                    }
                })
            }
        }
    }

    fn park_or_refuse(&self, desk: &mut Desk, call: Parked) -> Option<SendAnswer> {
        if desk.parked.len() >= self.options.pending_max {
            self.counters.refused.fetch_add(1, Ordering::Relaxed);
            return Some(busy(&call.send, BUSY_RETRY_MS, "too many wait for their conversations"));
        }
        desk.park(call);
        None
    }

    /// Decides once more about those that wait, in the order they came.
    pub(super) fn retry_parked(
        &self,
        desk: &mut Desk,
        now_ms: u64,
        out: &mut Vec<(Arc<Inbox<SendReply>>, SendReply)>,
    ) {
        if desk.parked.is_empty() {
            return;
        }
        for parked in desk.unpark_all() {
            let (tag, inbox) = (parked.tag, Arc::clone(&parked.inbox));
            if let Some(answer) = self.handle(desk, parked, now_ms) {
                out.push((inbox, SendReply { tag, answer }));
            }
        }
        if !desk.wanted.is_empty() {
            self.wanted.notify_one();
        }
    }

    /// Gives answers to those who wait for them: one wake-up for each run of them.
    pub(super) fn answer(replies: Vec<(Arc<Inbox<SendReply>>, SendReply)>) {
        let mut replies = replies.into_iter().peekable();
        while let Some((inbox, first)) = replies.next() {
            let mut run = vec![first];
            while let Some((_, reply)) = replies.next_if(|(next, _)| Arc::ptr_eq(next, &inbox)) {
                run.push(reply);
            }
            inbox.put_all(run);
        }
    }

    /// The store can't be read: those who wait for it come again later.
    pub(super) fn refuse_parked(&self, why: &str) {
        let all = self.desk.lock().unpark_all();
        let refuse = |p: Parked| {
            let answer = busy(&p.send, FULL_RETRY_MS, why);
            (p.inbox, SendReply { tag: p.tag, answer })
        };
        Self::answer(all.into_iter().map(refuse).collect());
    }
}
