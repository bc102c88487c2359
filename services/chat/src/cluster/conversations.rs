//! The owner of conversations: decides, keeps what is decided until it is stored and handed on.
//!
//! What is decided in a conversation goes into the store in steps, one under way at a time; memory is brought forward
//! when a step is made, and whoever looks hears of no more than what is durable ([`Conversations::durable_seq`]). When
//! the store refuses a step, everything of the conversation in memory goes, with everybody who waited, and it is loaded
//! again when it is asked for.
//!
//! Who gets a message is decided by who is in the conversation at its seq. So who is in it is changed only when every
//! timeline has everything before, and nothing is decided behind a change before every timeline has that. A change of
//! members that finds a busy conversation holds back everything else in it, for a while, until its turn has come.

use super::Batch;
use super::rest::Unreadable;
use super::work::{Decided, Work};
use crate::core::{Key, Logged, Refusal, Sending, State, Stop, Wish, busy, on_its_way};
use crate::options::ChatOptions;
use hashring::bucket_of;
use protocol::calls::CallError;
use protocol::v1::{Head, MessageKind, Send, SendAnswer, SendOutcome};
use records::ChatMessage;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::Arc;

/// What was seen of a user, or of a pair that had no conversation, is believed for so long, in ms.
pub(super) const GLIMPSE_MS: u64 = 2_000;
/// A change of members holds back everything else for so long, in ms.
const HOLD_MS: u64 = 2_000;
/// When a sender may try again who came while too many waited, in ms.
const BUSY_RETRY_MS: u32 = 100;
/// ... and who needs something that can't be read, in ms.
const REST_RETRY_MS: u32 = 2_000;
/// Why nothing can be written in a conversation.
pub const RESTING: &str = "the store refuses what was written last in this conversation; it is tried again";
/// Why something can't be decided.
pub const UNREADABLE: &str = "something that this needs can't be read from the store; it is looked at again";
/// Why nobody can come or go.
const LATE: &str = "a member's timeline has not taken what was written before; who is in the conversation can change when it has";

/// A message to decide about, and who waits for that.
#[derive(Debug)]
pub struct Sent<T> {
    /// The message; its form is right.
    pub send: Send,
    /// What was found in it.
    pub content: Result<(), Refusal>,
    /// Who waits.
    pub then: T,
}

/// What can be said at once about a message.
#[derive(Debug)]
pub enum Reply<T> {
    /// This.
    Answer {
        /// Who waits.
        then: T,
        /// For it.
        answer: SendAnswer,
    },
    /// Its conversation belongs to another node.
    Elsewhere {
        /// The conversation.
        conversation: u64,
        /// The message.
        sent: Sent<T>,
    },
}

/// Something that must be read from the store.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Want {
    /// Whatever a decision needs.
    Key(Key),
    /// Messages that are to be handed on, both ends inclusive.
    Messages {
        /// Of this conversation.
        conversation: u64,
        /// From here.
        from: u64,
        /// To here.
        to: u64,
    },
}

/// What became of a batch.
#[derive(Debug)]
pub struct Stepped<T> {
    /// Decisions that are durable now, in order.
    pub done: Vec<super::Done<T>>,
    /// Those whose decisions came to nothing: to be decided again, or refused with BUSY.
    pub refused: Vec<T>,
    /// Buckets that turned out to belong to others; they are disowned.
    pub lost: BTreeSet<u16>,
}

/// What a tick brought.
#[derive(Debug, Default)]
pub struct Ticked {
    /// Heads of large conversations, each for a node that watches it.
    pub heads: Vec<(u16, Head)>,
}

/// Conversations of a node. `T` is whoever waits for a decision.
pub struct Conversations<T> {
    /// What decides. Its `decide_` functions may be called for whatever is not wrapped here; what they give goes to
    /// [`take`](Conversations::take).
    pub state: State,
    pub(super) node: u16,
    pub(super) epoch: u32,
    pub(super) terms: BTreeMap<u16, u32>,
    pub(super) works: HashMap<u64, Work<T>>,
    /// Conversations of each bucket that are in memory.
    pub(super) in_bucket: BTreeMap<u16, BTreeSet<u64>>,
    pub(super) ready: VecDeque<u64>,
    pub(super) refused: Vec<T>,
    pub(super) settled: Vec<u64>,
    /// Rounds that are not acknowledged.
    pub(super) rounds: BTreeSet<u64>,
    /// Those among them that were not sent yet, and when the others are looked at.
    pub(super) unsent: Vec<u64>,
    pub(super) again_due_ms: u64,
    /// Conversations whose next round waits for messages from the store.
    pub(super) lacking: BTreeSet<u64>,
    /// Conversations of which the store does not know how far timelines are.
    pub(super) marks: BTreeSet<u64>,
    pub(super) marks_due_ms: u64,
    /// Positions that the store refuses, and until when they are left alone.
    pub(super) marks_rest: BTreeMap<u64, u64>,
    /// Conversations whose step the store refuses.
    pub(super) resting: BTreeSet<u64>,
    pub(super) unreadable: Unreadable<Want>,
    /// Conversations that can't be read and have something that is to be handed on.
    pub(super) overlooked: BTreeSet<u64>,
    /// The time of the last tick.
    pub(super) ticked_ms: u64,
    pub(super) news: BTreeSet<u64>,
    pub(super) pending: usize,
    pub(super) watchers: BTreeMap<u64, BTreeMap<u16, u64>>,
    pub(super) held: BTreeSet<u64>,
    parked: VecDeque<Sent<T>>,
    parked_of: HashMap<(u64, u64), u32>,
    pub(super) wanted: Vec<Want>,
    /// Wanted, or being read.
    pub(super) is_wanted: HashSet<Want>,
    pub(super) glimpses: VecDeque<(u64, Key)>,
}

impl<T> Conversations<T> {
    /// Of a node in an epoch; it owns nothing yet. Ids are given above `ids_above_ms`, as far as they are reserved.
    pub fn new(options: ChatOptions, node: u16, epoch: u32, ids_above_ms: u64) -> Conversations<T> {
        Conversations {
            state: State::apart(options, ids_above_ms),
            node,
            epoch,
            terms: BTreeMap::new(),
            works: HashMap::new(),
            in_bucket: BTreeMap::new(),
            ready: VecDeque::new(),
            refused: Vec::new(),
            settled: Vec::new(),
            rounds: BTreeSet::new(),
            unsent: Vec::new(),
            again_due_ms: 0,
            lacking: BTreeSet::new(),
            marks: BTreeSet::new(),
            marks_due_ms: 0,
            marks_rest: BTreeMap::new(),
            resting: BTreeSet::new(),
            unreadable: Unreadable::default(),
            overlooked: BTreeSet::new(),
            ticked_ms: 0,
            news: BTreeSet::new(),
            pending: 0,
            watchers: BTreeMap::new(),
            held: BTreeSet::new(),
            parked: VecDeque::new(),
            parked_of: HashMap::new(),
            wanted: Vec::new(),
            is_wanted: HashSet::new(),
            glimpses: VecDeque::new(),
        }
    }

    /// A bucket is this node's. What the store calls unfanned in it is to be brought in with
    /// [`install`](Conversations::install).
    pub fn own(&mut self, bucket: u16, term: u32) {
        if self.terms.insert(bucket, term).is_some_and(|before| before != term) {
            self.drop_bucket(bucket);
        }
        self.state.forget_found();
        self.set_owned(bucket, true);
    }

    /// The term under which a bucket is owned.
    pub fn term(&self, bucket: u16) -> Option<u32> {
        self.terms.get(&bucket).copied()
    }

    /// Nothing more is decided in a bucket; what is decided goes on to the store.
    pub fn give_up(&mut self, bucket: u16) {
        self.set_owned(bucket, false);
    }

    /// Nothing that is decided in a bucket waits for the store, but for what the store refuses.
    pub fn is_idle(&self, bucket: u16) -> bool {
        let mut works = self.in_bucket.get(&bucket).into_iter().flatten().filter_map(|id| self.works.get(id));
        works.all(Work::is_idle)
    }

    /// A bucket is not this node's any more. Whoever waited for something in it.
    pub fn disown(&mut self, bucket: u16) -> Vec<T> {
        self.terms.remove(&bucket);
        self.set_owned(bucket, false);
        self.drop_bucket(bucket);
        self.state.forget_found();
        std::mem::take(&mut self.refused)
    }

    fn set_owned(&mut self, bucket: u16, is_owned: bool) {
        if let Some(apart) = &mut self.state.apart {
            if is_owned {
                apart.owned.insert(bucket);
            } else {
                apart.owned.remove(&bucket);
            }
        }
    }

    fn drop_bucket(&mut self, bucket: u16) {
        for id in self.in_bucket.remove(&bucket).unwrap_or_default() {
            self.forget(id);
        }
    }

    /// A conversation leaves memory, and whoever waited is refused.
    pub(super) fn forget(&mut self, id: u64) {
        self.state.forget_conversation(id);
        let Some(work) = self.works.remove(&id) else { return };
        self.pending = self.pending.saturating_sub(work.waiting.len());
        self.refused.extend(work.into_waiters());
        let sets = [&mut self.rounds, &mut self.lacking, &mut self.marks, &mut self.news, &mut self.held];
        for set in sets.into_iter().chain([&mut self.resting]) {
            set.remove(&id);
        }
        if let Some(bucket) = self.in_bucket.get_mut(&bucket_of(id).get()) {
            bucket.remove(&id);
        }
        // Who waits for it to settle is to look again.
        self.settled.push(id);
    }

    /// The last message of a conversation in memory that is durable; later ones are nobody's to see.
    pub fn durable_seq(&self, id: u64) -> Option<u64> {
        self.works.get(&id).map(|work| work.seq)
    }

    /// Conversations in memory.
    pub fn in_memory(&self) -> usize {
        self.works.len()
    }

    /// Decisions that wait for a step.
    pub fn pending(&self) -> usize {
        self.pending
    }

    /// Takes a message. What can be said at once is returned, everything else comes from
    /// [`stepped`](Conversations::stepped) or [`retry`](Conversations::retry). Messages of a device are decided in the
    /// order in which they come.
    pub fn send(&mut self, sent: Sent<T>, now_ms: u64) -> Option<Reply<T>> {
        if self.parked_of.contains_key(&(sent.send.user, sent.send.device)) {
            // Behind those that came before it.
            return self.park(sent);
        }
        match self.decide_send(&sent.send, &sent.content, now_ms) {
            Sending::Answer(answer) => Some(Reply::Answer { then: sent.then, answer }),
            Sending::Need(Key::Elsewhere(conversation)) => Some(Reply::Elsewhere { conversation, sent }),
            Sending::Need(key) if self.is_unreadable(key) => {
                let answer = busy(&sent.send, REST_RETRY_MS, UNREADABLE);
                Some(Reply::Answer { then: sent.then, answer })
            }
            Sending::Need(key) => {
                self.want(key);
                self.park(sent)
            }
            Sending::Take(_) if self.pending >= self.state.options.pending_max => {
                let answer = busy(&sent.send, BUSY_RETRY_MS, "more is on its way than the store takes");
                Some(Reply::Answer { then: sent.then, answer })
            }
            Sending::Take(records) => {
                self.take(records, Some(sent.then), now_ms);
                None
            }
        }
    }

    fn decide_send(&mut self, send: &Send, content: &Result<(), Refusal>, now_ms: u64) -> Sending {
        match self.state.decide_send(send, content, now_ms) {
            Sending::Answer(answer)
                if answer.outcome == SendOutcome::Stored as i32
                    && self.durable_seq(answer.conversation).is_some_and(|durable| answer.seq > durable) =>
            {
                Sending::Answer(on_its_way(send, answer.conversation))
            }
            Sending::Take(records) => match records.last().map(conversation_of) {
                Some(id) if self.works.get(&id).is_some_and(|work| work.held_until_ms > now_ms) => {
                    Sending::Need(Key::Settled(id))
                }
                id => match id.and_then(|id| self.rests(id, now_ms)) {
                    Some(wait_ms) => Sending::Answer(busy(send, wait_ms as u32, RESTING)),
                    None => Sending::Take(records),
                },
            },
            other => other,
        }
    }

    fn park(&mut self, sent: Sent<T>) -> Option<Reply<T>> {
        if self.parked.len() >= self.state.options.pending_max {
            let answer = busy(&sent.send, BUSY_RETRY_MS, "too many wait for their conversations");
            return Some(Reply::Answer { then: sent.then, answer });
        }
        *self.parked_of.entry((sent.send.user, sent.send.device)).or_default() += 1;
        self.parked.push_back(sent);
        None
    }

    /// Decides once more about messages that wait: something came from the store, or [`settled`](Conversations::settled).
    pub fn retry(&mut self, now_ms: u64) -> Vec<Reply<T>> {
        self.parked_of.clear();
        let parked = std::mem::take(&mut self.parked);
        parked.into_iter().filter_map(|sent| self.send(sent, now_ms)).collect()
    }

    /// The store does not answer: those who wait for it come again later.
    pub fn refuse_parked(&mut self, why: &str) -> Vec<Reply<T>> {
        self.parked_of.clear();
        let parked = std::mem::take(&mut self.parked);
        let refuse = |sent: Sent<T>| {
            let answer = busy(&sent.send, BUSY_RETRY_MS, why);
            Reply::Answer { then: sent.then, answer }
        };
        parked.into_iter().map(refuse).collect()
    }

    /// Decides about a change, as [`State::decide_change`] does, in its turn.
    ///
    /// # Errors
    /// What is needed, or why not.
    pub fn decide_change(
        &mut self,
        id: u64,
        user: u64,
        wish: &Wish,
        now_ms: u64,
    ) -> Result<Vec<Logged>, Stop> {
        self.state.settled(id)?;
        let moves_members = matches!(wish, Wish::Add(_) | Wish::Remove(_));
        if moves_members && self.works.get(&id).is_some_and(|work| !work.late.is_empty()) {
            return Err(CallError::Unavailable(LATE.to_owned()).into());
        }
        if let Some(work) = self.works.get_mut(&id).filter(|work| moves_members && !work.is_quiet()) {
            if work.held_until_ms <= now_ms {
                work.held_until_ms = now_ms + HOLD_MS;
                self.held.insert(id);
            }
            return Err(Stop::Need(Key::Settled(id)));
        }
        let decided = self.state.decide_change(id, user, wish, now_ms);
        if !matches!(decided, Err(Stop::Need(_))) {
            self.let_go(id);
        }
        decided
    }

    /// Others may decide again.
    pub(super) fn let_go(&mut self, id: u64) {
        if self.held.remove(&id) {
            self.settled.push(id);
            if let Some(work) = self.works.get_mut(&id) {
                work.held_until_ms = 0;
            }
        }
    }

    /// Something was decided, all of it about one conversation of this node. `then` hears when it is durable.
    pub fn take(&mut self, records: Vec<Logged>, then: Option<T>, now_ms: u64) {
        let Some(id) = records.first().map(conversation_of) else {
            self.refused.extend(then);
            return;
        };
        let bucket = bucket_of(id).get();
        let Some(term) = self.term(bucket) else {
            self.refused.extend(then);
            return;
        };
        records.iter().for_each(|logged| self.state.take(logged, now_ms));
        let work = self.works.entry(id).or_insert_with(|| Work::new(term, 0, 0, Default::default()));
        self.in_bucket.entry(bucket).or_default().insert(id);
        work.touched_ms = now_ms;
        work.waiting.push_back(Decided { records, then });
        self.pending += 1;
        self.make_ready(id);
    }

    /// `then` hears when everything that is decided in a conversation is durable; it is returned when it is already.
    pub fn after(&mut self, id: u64, then: T) -> Option<T> {
        match self.works.get_mut(&id) {
            Some(work) if !work.waiting.is_empty() => {
                work.waiting.push_back(Decided { records: Vec::new(), then: Some(then) });
                self.pending += 1;
                None
            }
            Some(super::work::Work { flight: Some(flight), .. }) => {
                flight.done.push(super::Done { then, conversation: id, message: None });
                None
            }
            _ => Some(then),
        }
    }

    pub(super) fn make_ready(&mut self, id: u64) {
        if let Some(work) = self.works.get_mut(&id)
            && work.flight.is_none()
            && !work.waiting.is_empty()
            && !std::mem::replace(&mut work.queued, true)
        {
            self.ready.push_back(id);
        }
    }

    /// Messages of a conversation that are at hand and durable, rising, with the first seq that is at hand.
    pub fn recent(&self, id: u64, from: u64, to: u64) -> Option<(u64, Vec<Arc<ChatMessage>>)> {
        let (work, conversation) = (self.works.get(&id)?, self.state.conversations.get(&id)?);
        let first = conversation.recent_from();
        let seqs = from.max(first)..=to.min(work.seq);
        Some((first, seqs.filter_map(|seq| conversation.recent(seq).map(Arc::clone)).collect()))
    }
}

/// What a record is about. Only messages and facts of conversations are decided here.
pub(super) fn conversation_of(logged: &Logged) -> u64 {
    use records::ChatFact::{Cleared, Deleted, Friend, PairMade, Quiet, Read};
    match logged {
        Logged::Message(message) => message.conversation,
        Logged::Fact(
            PairMade { conversation, .. }
            | Read { conversation, .. }
            | Cleared { conversation, .. }
            | Deleted { conversation, .. }
            | Quiet { conversation, .. }
            | Friend { conversation, .. },
        ) => *conversation,
        Logged::Fact(_) => 0,
    }
}

/// Whether a message changes its conversation.
pub(super) fn is_change(message: &ChatMessage) -> bool {
    i32::from(message.kind) == MessageKind::Change as i32
}

/// Bounds of a batch.
pub(super) fn has_room(batch: &Batch) -> bool {
    batch.step.conversations.len() < super::steps::BATCH_CONVERSATIONS
}
