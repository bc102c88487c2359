//! From decisions to steps in the store, and what the store says to them.

use super::Batch;
use super::conversations::{Conversations, Stepped, has_room, is_change};
use super::work::{Done, Flight};
use crate::core::{Logged, Pushing};
use crate::store::owned::{ConversationOutcome, ConversationStep, Fence, Name, Outcomes, Step};
use hashring::bucket_of;
use prost::Message as _;
use protocol::v1::Change;
use records::{ChatFact, ChatMessage};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Conversations of a batch.
pub(super) const BATCH_CONVERSATIONS: usize = 512;
/// Records of a batch, about.
const BATCH_RECORDS: usize = 2_048;
/// Records of one conversation's step, about.
const STEP_RECORDS: usize = 256;
/// Positions of the fan-out in a batch.
const BATCH_MARKS: usize = 512;

impl<T> Conversations<T> {
    /// The next steps, if there are any. Several batches may be under way; each goes to the store until there is an
    /// outcome.
    pub fn batch(&mut self, now_ms: u64) -> Option<Batch> {
        let mut terms = BTreeMap::new();
        let fence = Fence { node: self.node, epoch: self.epoch, terms: Vec::new() };
        let mut batch = Batch { fence, step: Step::default() };
        let mut records = 0;
        while has_room(&batch)
            && records < BATCH_RECORDS
            && let Some(id) = self.ready.pop_front()
        {
            if let Some((step, count)) = self.step_of(id, now_ms) {
                records += count;
                batch.step.conversations.push(step);
                terms.extend(self.term_of(id));
            }
        }
        if now_ms >= self.marks_due_ms {
            self.marks_due_ms = now_ms + self.state.options.tick_ms;
            self.marks_rest.retain(|_, until_ms| now_ms < *until_ms);
            let due = self.marks.iter().filter_map(|id| self.works.get(id).map(|work| (*id, work)));
            let due = due.filter(|(id, work)| work.flight.is_none() && !self.marks_rest.contains_key(id));
            batch.step.fanned = due.take(BATCH_MARKS).map(|(id, work)| (id, work.told())).collect();
            terms.extend(batch.step.fanned.iter().filter_map(|(id, _)| self.term_of(*id)));
        }
        batch.fence.terms = terms.into_iter().collect();
        (!batch.step.is_empty()).then_some(batch)
    }

    fn term_of(&self, id: u64) -> Option<(u16, u32)> {
        self.works.get(&id).map(|work| (bucket_of(id).get(), work.term))
    }

    /// Brings a conversation's memory forward, and what that comes to.
    fn step_of(&mut self, id: u64, now_ms: u64) -> Option<(ConversationStep, usize)> {
        let work = self.works.get_mut(&id)?;
        work.queued = false;
        if work.flight.is_some() || work.waiting.is_empty() {
            return None;
        }
        let (before_seq, version) = (work.seq, work.version + 1);
        let mut flight = Flight {
            version,
            seq: before_seq,
            fanned: work.told(),
            done: Vec::new(),
            touched: Vec::new(),
            telling: Vec::new(),
            between: false,
            rest: None,
        };
        let (mut count, mut name) = (0, None);
        // A state without connections has nobody to tell.
        let mut nobody = Pushing::default();
        self.state.at = Default::default();
        while count < STEP_RECORDS
            && let Some(decided) = work.waiting.pop_front()
        {
            self.pending = self.pending.saturating_sub(1);
            count += decided.records.len();
            let mut message = None;
            for logged in decided.records {
                if let Err(error) = self.state.apply(&logged, now_ms, &mut nobody) {
                    // What was decided does not fit what it was decided from: begin again from what is stored.
                    tracing::error!(conversation = id, %error, "a decision is dropped");
                    self.refused.extend(flight.done.into_iter().map(|done| done.then).chain(decided.then));
                    self.forget(id);
                    return None;
                }
                if version == 1 && name.is_none() {
                    name = name_of(&logged);
                }
                match logged {
                    Logged::Message(applied) => {
                        flight.seq = applied.seq;
                        message = Some(applied);
                    }
                    Logged::Fact(fact) => flight.hear(&fact),
                }
            }
            flight.done.extend(decided.then.map(|then| Done { then, conversation: id, message }));
        }
        let rows = self.state.collect_one(id)?;
        flight.touched.extend(rows.members.iter().map(|m| m.user));
        let step = ConversationStep { rows, version, before_seq, name, fanned: flight.fanned };
        if let Some(work) = self.works.get_mut(&id) {
            work.flight = Some(flight);
        }
        Some((step, count))
    }

    /// What the store said to a batch.
    pub fn stepped(&mut self, batch: &Batch, outcomes: &Outcomes, now_ms: u64) -> Stepped<T> {
        let mut done = Vec::new();
        let mut lost = BTreeSet::new();
        for (step, outcome) in batch.step.conversations.iter().zip(&outcomes.conversations) {
            let id = step.rows.id;
            let bucket = bucket_of(id).get();
            let ours = batch.fence.terms.iter().find(|(b, _)| *b == bucket).map(|(_, term)| *term);
            let Some(work) = self.works.get_mut(&id).filter(|work| Some(work.term) == ours) else { continue };
            if work.flight.as_ref().is_none_or(|flight| flight.version != step.version) {
                continue;
            }
            match outcome {
                ConversationOutcome::Done => self.step_done(id, now_ms, &mut done),
                ConversationOutcome::Moved { version, last_seq } => {
                    tracing::warn!(
                        conversation = id,
                        version,
                        last_seq,
                        "a conversation has moved; it is read again"
                    );
                    self.forget(id);
                }
                ConversationOutcome::Named { conversation } => {
                    self.forget(id);
                    if let Some(Name::Pair { low, high }) = step.name {
                        self.state.correct_pair(low, high, Some(*conversation));
                    }
                }
                ConversationOutcome::NotOwner => {
                    lost.insert(bucket);
                }
            }
        }
        for (id, fanned) in &batch.step.fanned {
            let ours =
                batch.fence.terms.iter().find(|(b, _)| *b == bucket_of(*id).get()).map(|(_, term)| *term);
            if let Some(work) = self.works.get_mut(id).filter(|work| Some(work.term) == ours) {
                work.marked = *fanned;
                if work.marked == work.told() {
                    self.marks.remove(id);
                }
            }
        }
        for bucket in &lost {
            let waited = self.disown(*bucket);
            self.refused.extend(waited);
        }
        Stepped { done, refused: std::mem::take(&mut self.refused), lost }
    }

    fn step_done(&mut self, id: u64, now_ms: u64, done: &mut Vec<Done<T>>) {
        let Some(work) = self.works.get_mut(&id) else { return };
        let Some(mut flight) = work.flight.take() else { return };
        if flight.rest.take().is_some() {
            self.resting.remove(&id);
            tracing::info!(conversation = id, "the store takes this conversation again");
        }
        let has_messages = flight.seq > work.seq;
        (work.version, work.seq, work.marked) = (flight.version, flight.seq, flight.fanned);
        if work.marked == work.told() {
            self.marks.remove(&id);
        }
        work.touched_ms = now_ms;
        work.touched.extend(flight.touched);
        work.telling.extend(flight.telling);
        work.between |= flight.between;
        done.append(&mut flight.done);
        if has_messages && self.state.conversations.get(&id).is_some_and(|c| c.head.is_large()) {
            self.news.insert(id);
        }
        self.form(id);
        self.trim(id);
        self.make_ready(id);
    }

    /// Messages leave memory that are stored and handed on.
    pub(super) fn trim(&mut self, id: u64) {
        let keep = self.state.options.recent_messages;
        if let (Some(work), Some(c)) = (self.works.get(&id), self.state.conversations.get_mut(&id)) {
            let last = work.seq.min(work.fanned.seq);
            while c.recent.len() > keep && c.recent.front().is_some_and(|m| m.seq <= last) {
                c.recent.pop_front();
            }
        }
    }
}

impl<T> Flight<T> {
    /// A fact is part of the step.
    fn hear(&mut self, fact: &ChatFact) {
        match fact {
            ChatFact::Read { user, .. } | ChatFact::Cleared { user, .. } | ChatFact::Deleted { user, .. } => {
                self.telling.push(*user);
            }
            ChatFact::Friend { user, other, .. } => {
                self.touched.extend([*user, *other]);
                self.between = true;
            }
            _ => {}
        }
    }
}

/// The name of a conversation that begins with a record.
fn name_of(logged: &Logged) -> Option<Name> {
    match logged {
        Logged::Fact(ChatFact::PairMade { low, high, .. }) => Some(Name::Pair { low: *low, high: *high }),
        Logged::Message(message) if is_change(message) => made_by(message),
        _ => None,
    }
}

fn made_by(message: &Arc<ChatMessage>) -> Option<Name> {
    let user = Change::decode(&*message.body).ok()?.by;
    Some(Name::Made { user, device: message.device, request: message.counter })
}
