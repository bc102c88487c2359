//! Keeps one vendor's part of the book: takes what is due, writes down that it is about to be sent, hands it to the
//! sender, and writes down what became of it. One transaction a round, for all of it together.
//!
//! A row that says `sending` and is past its deadline without being in our own hands was left by somebody who is gone:
//! it becomes unknown, and is asked about before anything else.

use super::apply::apply;
use super::sender::{Done, Job};
use super::{Shared, VendorRoom};
use crate::account::AccountLookup;
use crate::book::BookError;
use crate::config::PathKind;
use crate::core::{Fact, Input, Lane, OrderRow, Refused, Step};
use crate::pace::BreakerState;
use crate::vendor::Payout;
use campaign::AwardId;
use records::DeliveryState;
use sha2::{Digest as _, Sha256};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// Most results and facts of one round.
const ROUND_MAX: usize = 2_048;
/// How far ahead of the pace work is claimed, ms: longer than a round takes.
const AHEAD_MS: u64 = 200;

/// What became of a callback's fact: written (or so already), or the award is not known.
pub type FactReply = oneshot::Sender<Result<(), Option<Refused>>>;

/// A callback on its way to the keeper.
pub struct FactMessage {
    /// The award.
    pub award: AwardId,
    /// What the vendor says.
    pub fact: Fact,
    /// Answered once it is durable.
    pub reply: FactReply,
}

/// The keeper of one vendor.
pub struct Keeper {
    /// What all share.
    pub shared: Arc<Shared>,
    /// The vendor's part of it.
    pub room: Arc<VendorRoom>,
    /// To the sender; holds all that `outstanding` allows.
    pub jobs: mpsc::Sender<Job>,
    /// From the sender.
    pub done: mpsc::Receiver<Done>,
    /// From the callbacks' door.
    pub facts: mpsc::Receiver<FactMessage>,
    /// Awards in the sender's hands.
    pub in_hand: HashSet<AwardId>,
}

impl Keeper {
    /// Runs until shutdown; then waits for what has begun, writes it down, and ends.
    pub async fn run(mut self) -> anyhow::Result<()> {
        let mut waiting = Vec::new();
        loop {
            let stopping = self.shared.shutdown.is_requested();
            match self.round(std::mem::take(&mut waiting), stopping).await {
                Ok(true) => {}
                Ok(false) if stopping && self.in_hand.is_empty() => return Ok(()),
                Ok(false) => waiting.extend(self.idle(stopping).await),
                Err(error) => {
                    // Nothing is lost: the rows come due again, and are asked about where that is needed.
                    tracing::error!(vendor = %self.room.config.id, %error, "a round of delivery failed");
                    tokio::time::sleep(Duration::from_millis(200)).await;
                }
            }
        }
    }

    /// Waits for something to do, at most a poll's time.
    async fn idle(&mut self, stopping: bool) -> Option<Done> {
        // A slow path is in no hurry: new orders wake it anyway, only retries and questions wait for the poll.
        let patience = if self.room.config.kind == PathKind::Slow { 5 } else { 1 };
        let poll = Duration::from_millis(self.shared.config.idle_poll_ms.max(1) * patience);
        tokio::select! {
            done = self.done.recv() => done,
            () = self.room.kick.notified() => None,
            () = tokio::time::sleep(poll) => None,
            () = self.shared.shutdown.wait(), if !stopping => None,
        }
    }

    /// One round; true when there may be more to do at once.
    async fn round(&mut self, first: Vec<Done>, stopping: bool) -> Result<bool, BookError> {
        let (mut work, mut replies) = (Vec::new(), Vec::new());
        self.collect(first, &mut work);
        self.facts(&mut work, &mut replies).await?;
        let results = work.len();
        let mut bodies = HashMap::new();
        let is_held_back = stopping || self.shared.is_held_back();
        if !is_held_back {
            self.claim(&mut work, &mut bodies).await?;
            self.claim_questions(&mut work).await?;
        }
        if work.is_empty() {
            return Ok(false);
        }
        let full = results >= ROUND_MAX || work.len() > results;
        let steps = apply(&self.shared, work).await?;
        flowlog::fault::point("delivery.after_write");
        for (reply, at) in replies {
            let outcome = match &steps[at] {
                Ok(_) | Err(Refused::NothingNew | Refused::Stale) => Ok(()),
                Err(refused) => Err(Some(*refused)),
            };
            // Whoever asked may have gone.
            let _ = reply.send(outcome);
        }
        self.after(steps, bodies).await?;
        Ok(full)
    }

    fn collect(&mut self, first: Vec<Done>, work: &mut Vec<(OrderRow, Input)>) {
        for done in first {
            self.in_hand.remove(&done.row.award);
            work.push((done.row, done.input));
        }
        while work.len() < ROUND_MAX
            && let Ok(done) = self.done.try_recv()
        {
            self.in_hand.remove(&done.row.award);
            work.push((done.row, done.input));
        }
    }

    async fn facts(
        &mut self,
        work: &mut Vec<(OrderRow, Input)>,
        replies: &mut Vec<(FactReply, usize)>,
    ) -> Result<(), BookError> {
        let mut messages = Vec::new();
        while messages.len() < ROUND_MAX
            && let Ok(message) = self.facts.try_recv()
        {
            messages.push(message);
        }
        if messages.is_empty() {
            return Ok(());
        }
        let awards: Vec<AwardId> = messages.iter().map(|m| m.award).collect();
        let rows = self.shared.book.rows(&awards).await?;
        let rows: HashMap<AwardId, OrderRow> = rows.into_iter().map(|row| (row.award, row)).collect();
        for message in messages {
            match rows.get(&message.award).filter(|row| row.vendor == self.room.config.vendor()) {
                Some(row) => {
                    replies.push((message.reply, work.len()));
                    work.push((row.clone(), Input::Callback(message.fact)));
                }
                None => drop(message.reply.send(Err(None))),
            }
        }
        Ok(())
    }

    /// Rows that may be sent within the next fraction of a second.
    async fn claim(
        &mut self,
        work: &mut Vec<(OrderRow, Input)>,
        bodies: &mut HashMap<AwardId, Vec<u8>>,
    ) -> Result<(), BookError> {
        let (wanted, part) = (self.sends_wanted(), self.room.part());
        if wanted == 0 || part.serves.is_empty() {
            return Ok(());
        }
        let vendor = self.room.config.vendor();
        let now_ms = self.shared.clock.now_ms();
        let due = self.shared.book.due(&part.serves, vendor, Lane::Send, now_ms, wanted).await?;
        self.room.backlog.store(due.len() == wanted, Relaxed);
        let payees = self.payees(&due).await?;
        for (row, payee) in due.into_iter().zip(payees) {
            let Some(payee) = payee else {
                work.push((row, Input::NoAccountKnown));
                continue;
            };
            let frozen = (!row.merchant.is_empty()).then(|| row.merchant.clone());
            let merchant = frozen.unwrap_or_else(|| self.room.config.merchant_account.clone());
            let input = match self.room.vendor.body(&Payout::of(&row, &payee, &merchant)) {
                Ok(body) => {
                    let body_sha256 = Sha256::digest(&body).into();
                    bodies.insert(row.award, body);
                    Input::Permit { payee, merchant, body_sha256 }
                }
                Err(error) => Input::CannotBeSent { note: error.to_string() },
            };
            work.push((row, input));
        }
        Ok(())
    }

    /// How many may be claimed: as many as the pace lets go soon, and no more than there are calls free.
    fn sends_wanted(&self) -> usize {
        let room = &self.room;
        let (queued, calling) = (room.queued.load(Relaxed), room.calling.load(Relaxed));
        if calling >= room.config.concurrency {
            return 0;
        }
        let pacer = room.pacer.lock();
        if pacer.wait_ns(self.shared.clock.mono_ns()) > AHEAD_MS * 1_000_000 {
            return 0;
        }
        if pacer.breaker(self.shared.clock.mono_ns()) != BreakerState::Closed {
            return usize::from(queued + calling == 0);
        }
        let ahead = (pacer.rate_milli() * AHEAD_MS / 1_000_000).max(1) as usize;
        let target = ahead.min(ROUND_MAX).min(2 * room.config.concurrency - calling);
        // Small sips would make many small transactions.
        if queued * 2 > target { 0 } else { target - queued }
    }

    async fn payees(&self, rows: &[OrderRow]) -> Result<Vec<Option<String>>, BookError> {
        let lookup = AccountLookup { accounts: &*self.shared.accounts, config: &self.room.config };
        lookup.payees(rows).await
    }

    /// What is accepted or unknown and due to be asked about, and what somebody left in `sending`.
    async fn claim_questions(&mut self, work: &mut Vec<(OrderRow, Input)>) -> Result<(), BookError> {
        let in_hand = self.in_hand.len();
        let asks = in_hand.saturating_sub(self.room.calling.load(Relaxed) + self.room.queued.load(Relaxed));
        let free = (2 * self.room.asks_max()).saturating_sub(asks);
        let part = self.room.part();
        if free == 0 || part.serves.is_empty() {
            return Ok(());
        }
        let (vendor, now_ms) = (self.room.config.vendor(), self.shared.clock.now_ms());
        let due = self.shared.book.due(&part.serves, vendor, Lane::Ask, now_ms, free + in_hand).await?;
        let busy: HashSet<AwardId> = work.iter().map(|(row, _)| row.award).collect();
        let mut left = free;
        for row in due {
            if left == 0 || self.in_hand.contains(&row.award) || busy.contains(&row.award) {
                continue;
            }
            left -= 1;
            if row.state == DeliveryState::Sending {
                let attempt = row.attempt;
                work.push((row, Input::TimedOut { attempt }));
            } else if self.jobs.try_send(Job::Ask(Box::new(row.clone()))).is_ok() {
                self.in_hand.insert(row.award);
            }
        }
        Ok(())
    }

    /// Hands over what is to be sent, and looks once more for accounts of what was held just now: one may have been
    /// registered between our look and our writing, and its waker found nothing to wake.
    async fn after(
        &mut self,
        steps: Vec<Result<Step, Refused>>,
        mut bodies: HashMap<AwardId, Vec<u8>>,
    ) -> Result<(), BookError> {
        let mut held = Vec::new();
        for step in steps.into_iter().flatten() {
            if step.send {
                let Some(body) = bodies.remove(&step.row.award) else { continue };
                let award = step.row.award;
                // Counted before it can be taken, and the channel holds more than is ever outstanding; what it can't
                // take would come due again by its deadline.
                self.room.queued.fetch_add(1, Relaxed);
                match self.jobs.try_send(Job::Pay(Box::new(step.row), body)) {
                    Ok(()) => drop(self.in_hand.insert(award)),
                    Err(_) => drop(self.room.queued.fetch_sub(1, Relaxed)),
                }
            } else if step.row.state == DeliveryState::Held && step.row.payee.is_empty() {
                held.push(step.row);
            } else if step.row.state == DeliveryState::Delivered {
                self.room.delivered.fetch_add(1, Relaxed);
            }
        }
        if held.is_empty() {
            return Ok(());
        }
        let payees = self.payees(&held).await?;
        let woken = held
            .into_iter()
            .zip(payees)
            .filter_map(|(row, payee)| payee.map(|account| (row, Input::AccountRegistered { account })));
        let woken: Vec<_> = woken.collect();
        if !woken.is_empty() {
            apply(&self.shared, woken).await?;
        }
        Ok(())
    }
}
