//! What the store refuses, at both cores: it rests, the others go on, and it is tried again. See [`super::rest`].

use super::Batch;
use super::conversations::Conversations;
use super::rest::Rest;
use super::timelines::Timelines;
use crate::store::owned::{Fence, Step};
use hashring::bucket_of;

/// A position that the store refuses is tried again after this time, in ms.
const MARK_REST_MS: u64 = 30_000;

impl<T> Conversations<T> {
    /// The store does not take the one thing in a batch, and took others meanwhile: it rests. `is_sure`: by the store's own
    /// word nothing of it was done. Whoever waits for it, and how often it has been refused; nothing when it is not known
    /// here any more.
    pub fn refused(&mut self, batch: &Batch, is_sure: bool, now_ms: u64) -> Option<(Vec<T>, u32)> {
        if let Some((id, _)) = batch.step.fanned.first() {
            self.marks_rest.insert(*id, now_ms + MARK_REST_MS);
            return Some((Vec::new(), 1));
        }
        let step = batch.step.conversations.first()?;
        let id = step.rows.id;
        let bucket = bucket_of(id).get();
        let ours = batch.fence.terms.iter().find(|(b, _)| *b == bucket).map(|(_, term)| *term);
        let work = self.works.get_mut(&id).filter(|work| Some(work.term) == ours)?;
        let flight = work.flight.as_mut().filter(|flight| flight.version == step.version)?;
        let rest = flight.rest.get_or_insert_with(|| Box::new(Rest::new(step.clone())));
        let times = rest.refused(is_sure, now_ms);
        self.resting.insert(id);
        let mut waiting: Vec<T> = flight.done.drain(..).map(|done| done.then).collect();
        waiting.extend(work.waiting.iter_mut().filter_map(|decided| decided.then.take()));
        Some((waiting, times))
    }

    /// A step that was refused, if the time of one has come to be tried again: it goes by itself.
    pub fn again(&mut self, now_ms: u64) -> Option<Batch> {
        for id in &self.resting {
            let bucket = bucket_of(*id).get();
            let Some(work) = self.works.get_mut(id).filter(|_| self.state.owns(*id)) else { continue };
            let rest = work.flight.as_mut().and_then(|flight| flight.rest.as_mut());
            if let Some(step) = rest.and_then(|rest| rest.again(now_ms)) {
                let terms = vec![(bucket, work.term)];
                let fence = Fence { node: self.node, epoch: self.epoch, terms };
                return Some(Batch { fence, step: Step { conversations: vec![step], ..Step::default() } });
            }
        }
        None
    }

    /// Conversations whose step the store refuses.
    pub fn resting(&self) -> usize {
        self.resting.len()
    }

    /// How long it will be until something can be written in a conversation, in ms, if the store refuses what was written
    /// last.
    pub fn rests(&self, id: u64, now_ms: u64) -> Option<u64> {
        if self.resting.is_empty() {
            return None;
        }
        Some(self.works.get(&id)?.rest()?.wait_ms(now_ms))
    }
}

impl Timelines {
    /// The store does not take the one thing in a batch, and took others meanwhile: it rests, and comes again from
    /// [`again`](Timelines::again). `is_sure`: by the store's own word nothing of it was done. How often it has been
    /// refused; nothing when it is not known here any more.
    pub fn refused(&mut self, batch: &Batch, is_sure: bool, now_ms: u64) -> Option<u32> {
        let step = batch.step.timelines.first()?;
        let line = self.lines.get_mut(&step.user)?;
        let flight = line.flight.as_mut().filter(|flight| flight.stamp == step.stamp)?;
        self.resting.insert(step.user);
        let rest = flight.rest.get_or_insert_with(|| Box::new(Rest::new(step.clone())));
        Some(rest.refused(is_sure, now_ms))
    }

    /// A step that was refused, if the time of one has come to be tried again: it goes by itself.
    pub fn again(&mut self, now_ms: u64) -> Option<Batch> {
        for user in &self.resting {
            let bucket = bucket_of(*user).get();
            let owned = self.buckets.get(&bucket).filter(|owned| !owned.closing);
            let (Some(owned), Some(line)) = (owned, self.lines.get_mut(user)) else { continue };
            let rest = line.flight.as_mut().and_then(|flight| flight.rest.as_mut());
            if let Some(step) = rest.and_then(|rest| rest.again(now_ms)) {
                let fence = Fence { node: self.node, epoch: self.epoch, terms: vec![(bucket, owned.term)] };
                return Some(Batch { fence, step: Step { timelines: vec![step], ..Step::default() } });
            }
        }
        None
    }

    /// Timelines whose step the store refuses.
    pub fn resting(&self) -> usize {
        self.resting.len()
    }

    pub(super) fn note_time(&mut self, now_ms: u64) {
        self.ticked_ms = now_ms;
        self.unreadable.expire(now_ms);
    }

    /// Something of a user can't be read: it is left alone for a while. How often that has been found.
    pub fn found_unreadable(&mut self, user: u64, now_ms: u64) -> u32 {
        self.unreadable.found(user, now_ms)
    }

    pub(super) fn is_left_alone(&self, user: u64) -> bool {
        self.unreadable.is_left_alone(&user, self.ticked_ms)
    }

    /// Users of whom something can't be read.
    pub fn unreadable(&self) -> usize {
        self.unreadable.len()
    }
}
