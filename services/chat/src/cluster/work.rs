//! What is under way of one conversation: decided and waiting, in the store's hands, on its way to timelines.

use super::hand::{HandKey, Place};
use super::rest::Rest;
use crate::core::{Fanned, Logged};
use crate::store::owned::ConversationStep;
use records::ChatMessage;
use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

/// A decision that is durable.
#[derive(Debug)]
pub struct Done<T> {
    /// Who waits for it.
    pub then: T,
    /// The conversation.
    pub conversation: u64,
    /// Its last message, if it was one.
    pub message: Option<Arc<ChatMessage>>,
}

/// A decision that waits for its step.
pub(super) struct Decided<T> {
    pub records: Vec<Logged>,
    pub then: Option<T>,
}

/// A step under way. Memory is as if it were done already; nobody hears of it before it is.
pub(super) struct Flight<T> {
    pub version: u64,
    pub seq: u64,
    pub fanned: Fanned,
    pub done: Vec<Done<T>>,
    /// Members of whom something changed, and those who are to hear how they have read.
    pub touched: Vec<u64>,
    pub telling: Vec<u64>,
    /// What stands between two users has changed.
    pub between: bool,
    /// The store has refused it.
    pub rest: Option<Box<Rest<ConversationStep>>>,
}

/// News on their way to timelines. One round of a conversation at a time.
pub(super) struct Round {
    pub key: HandKey,
    /// It brings everything up to its version.
    pub is_whole: bool,
    pub large: bool,
    pub messages: Vec<Arc<ChatMessage>>,
    /// Those who have not acknowledged yet, by user.
    pub places: Vec<Place>,
    /// When they were sent last; 0: not yet, or to be sent at once.
    pub sent_ms: u64,
    /// When they were sent first; 0: not yet.
    pub since_ms: u64,
}

/// A conversation's work.
pub(super) struct Work<T> {
    /// The term of its bucket.
    pub term: u32,
    /// Its durable version.
    pub version: u64,
    /// Its durable last seq.
    pub seq: u64,
    pub waiting: VecDeque<Decided<T>>,
    /// It is in the list of what the next batch looks at.
    pub queued: bool,
    pub flight: Option<Flight<T>>,
    /// How far timelines have acknowledged.
    pub fanned: Fanned,
    /// How much of that the store knows.
    pub marked: Fanned,
    /// What a former owner handed on is not known: the next round tells every member everything.
    pub everyone: bool,
    /// As in a flight, of all durable steps that no round has brought.
    pub touched: BTreeSet<u64>,
    pub telling: BTreeSet<u64>,
    pub between: bool,
    pub round: Option<Round>,
    /// Rounds that some timelines have not acknowledged although the others have gone on, oldest first. A timeline gets them
    /// one after the other.
    pub late: VecDeque<Round>,
    /// How far all timelines were before the first of these: more is not said to the store, so that a next owner begins there.
    pub floor: Option<Fanned>,
    /// Messages for the next round that memory does not have any more.
    pub given: Vec<Arc<ChatMessage>>,
    /// Somebody wants to change who is in it: until then nothing else is decided.
    pub held_until_ms: u64,
    pub touched_ms: u64,
}

impl<T> Work<T> {
    pub fn new(term: u32, version: u64, seq: u64, fanned: Fanned) -> Work<T> {
        Work {
            term,
            version,
            seq,
            waiting: VecDeque::new(),
            queued: false,
            flight: None,
            fanned,
            marked: fanned,
            everyone: fanned.version < version,
            touched: BTreeSet::new(),
            telling: BTreeSet::new(),
            between: version > fanned.version,
            round: None,
            late: VecDeque::new(),
            floor: None,
            given: Vec::new(),
            held_until_ms: 0,
            touched_ms: 0,
        }
    }

    /// Nothing is decided that is not durable.
    pub fn is_stored(&self) -> bool {
        self.flight.is_none() && self.waiting.is_empty()
    }

    /// Nothing is decided that is not durable and known to every timeline but the late ones.
    pub fn is_settled(&self) -> bool {
        self.is_stored() && self.round.is_none() && self.fanned.version == self.version
    }

    /// Nothing is decided that is not durable and known to every timeline.
    pub fn is_quiet(&self) -> bool {
        self.is_settled() && self.late.is_empty()
    }

    /// How far all timelines have acknowledged.
    pub fn told(&self) -> Fanned {
        self.floor.unwrap_or(self.fanned)
    }

    /// The step that the store has refused, if it has.
    pub fn rest(&self) -> Option<&Rest<ConversationStep>> {
        self.flight.as_ref()?.rest.as_deref()
    }

    /// Nothing of it is in the store's hands, or will be unless somebody asks.
    pub fn is_idle(&self) -> bool {
        self.is_stored() || self.rest().is_some_and(Rest::is_idle)
    }

    /// Everybody who waits for something of it.
    pub fn into_waiters(self) -> Vec<T> {
        let done = self.flight.into_iter().flat_map(|f| f.done).map(|d| d.then);
        done.chain(self.waiting.into_iter().filter_map(|d| d.then)).collect()
    }
}
