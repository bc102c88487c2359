//! The two loops that bring what the cores have decided into the store.
//!
//! Each takes a batch from its core, gives it to the store, and tells the core what became of it; several at a time, while
//! there is enough for more than one. A batch without an outcome goes again as it is, for as long as the epoch lasts.
//!
//! But for one that the store calls damaged, or that fails again and again while the owners' book, which is in the same
//! database, answers: something in it may be such that it fails for ever. It is divided, and its halves go by themselves,
//! until what is at fault stands alone. That rests ([`Conversations::refused`](crate::cluster::Conversations::refused)),
//! and whoever waits for it is told that it is not known.

use super::OwnerNode;
use super::reign::{Reign, Then};
use super::say::Sayings;
use super::tenure::with_terms;
use crate::cluster::{Ack, Batch, Hand, RESTING, Reply, Ticked};
use crate::store::StoreError;
use crate::store::owned::Outcomes;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use runtime::{Backoff, BackoffPolicy, Shutdown};
use std::collections::VecDeque;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::watch;

/// Transactions of one core under way.
const FLIGHTS_MAX: usize = 4;
/// A further transaction begins while one is under way only when so many decisions wait for it ...
const FLIGHT_PENDING: usize = 128;
/// ... or, of timelines, when the last one began so long ago: so that a transaction carries much.
const FLIGHT_NS: u64 = 2_000_000;

/// A transaction that has failed so often, while the owners' book answers, is divided. One with a single thing in it rests
/// after twice as many.
const STUCK: u32 = 6;

/// Between two tries of a transaction.
const AGAIN: BackoffPolicy = BackoffPolicy { first_ms: 20, max_ms: 1_000, repeats: 2, spread_permille: 300 };

/// What became of a batch.
enum Stepped {
    /// There are outcomes.
    Said(Batch, Outcomes),
    /// It goes in two parts.
    Split(Batch, Batch),
    /// The store does not take the one thing in it. True: nothing of it was done.
    Refused(Batch, StoreError, bool),
    /// The epoch is over.
    Over,
}

/// What a turn of the conversations' core brought.
struct Turn {
    ticked: Ticked,
    /// Something can be decided again.
    is_settled: bool,
    replies: Vec<Reply<Then>>,
    hands: Vec<Hand>,
    batch: Option<Batch>,
    is_wanting: bool,
}

/// What a turn of the timelines' core brought.
struct LineTurn {
    batch: Option<Batch>,
    acks: Vec<Ack>,
    watches: Vec<u64>,
    sayings: Sayings,
    is_wanting: bool,
}

/// The next epoch that is not over; nothing when the node is to stop.
pub(super) async fn next_reign(
    reigns: &mut watch::Receiver<Option<Arc<Reign>>>,
    stop: &Shutdown,
) -> Option<Arc<Reign>> {
    let is_good = |reign: &Option<Arc<Reign>>| reign.as_ref().is_some_and(|r| !r.over.is_requested());
    tokio::select! {
        reign = reigns.wait_for(is_good) => reign.ok()?.clone(),
        () = stop.wait() => None,
    }
}

impl OwnerNode {
    pub(super) async fn run_conversations(self: Arc<Self>, stop: Shutdown) -> anyhow::Result<()> {
        let mut reigns = self.reign.subscribe();
        while let Some(reign) = next_reign(&mut reigns, &stop).await {
            self.step_conversations(&reign, &stop).await;
        }
        Ok(())
    }

    async fn step_conversations(&self, reign: &Reign, stop: &Shutdown) {
        let mut flights = FuturesUnordered::new();
        // Parts of batches that were divided.
        let mut parts: VecDeque<Batch> = VecDeque::new();
        let (mut stopped, mut over) = (pin!(stop.wait()), pin!(reign.over.wait()));
        let mut tick_due_ns = 0;
        while !reign.over.is_requested() && !stop.is_requested() {
            let now_ns = self.clock.mono_ns();
            let is_tick = now_ns >= tick_due_ns;
            if is_tick {
                tick_due_ns = now_ns + self.options.tick_ms * 1_000_000;
            }
            while flights.len() < FLIGHTS_MAX
                && let Some(part) = parts.pop_front()
            {
                flights.push(self.step(reign, part));
            }
            let turn = self.turn_conversations(reign, is_tick, flights.len());
            let has_batch = turn.batch.is_some();
            flights.extend(turn.batch.map(|batch| self.step(reign, batch)));
            let heads = turn.ticked.heads;
            let (is_settled, is_wanting) = (turn.is_settled, turn.is_wanting);
            self.answer_parked_of(reign, turn.replies);
            if is_settled {
                self.tell_waiters(false);
            }
            if is_wanting {
                self.wakes.loads.notify_one();
            }
            self.hand_out(reign, turn.hands);
            self.tell_heads(reign, heads);
            if is_tick {
                self.relay_again();
            }
            if has_batch {
                continue;
            }
            let wait = Duration::from_nanos(tick_due_ns.saturating_sub(self.clock.mono_ns()));
            tokio::select! {
                Some(stepped) = flights.next(), if !flights.is_empty() => match stepped {
                    Stepped::Said(batch, outcomes) => self.conversations_stepped(reign, &batch, &outcomes),
                    Stepped::Split(one, other) => parts.extend([one, other]),
                    Stepped::Refused(batch, error, is_sure) => {
                        self.conversation_refused(reign, &batch, &error, is_sure);
                    }
                    Stepped::Over => {}
                },
                () = self.wakes.conversations.notified() => {}
                () = tokio::time::sleep(wait) => {}
                () = &mut stopped => {}
                () = &mut over => {}
            }
        }
    }

    fn turn_conversations(&self, reign: &Reign, is_tick: bool, flights: usize) -> Turn {
        let now_ms = self.clock.now_ms();
        let mut on = reign.conversations.lock();
        let ticked = if is_tick { on.tick(now_ms) } else { Ticked::default() };
        let is_settled = !on.settled().is_empty();
        let replies = if is_settled { on.retry(now_ms) } else { Vec::new() };
        let hands = on.hands(now_ms);
        let may_start = flights == 0 || (flights < FLIGHTS_MAX && on.pending() >= FLIGHT_PENDING);
        let again = if is_tick && flights < FLIGHTS_MAX { on.again(now_ms) } else { None };
        let batch = again.or_else(|| if may_start { on.batch(now_ms) } else { None });
        let wants = with_terms(&mut on);
        let is_wanting = !wants.is_empty();
        if is_wanting {
            reign.wanted.lock().extend(wants);
        }
        Turn { ticked, is_settled, replies, hands, batch, is_wanting }
    }

    /// A batch, until it is known what becomes of it.
    async fn step(&self, reign: &Reign, batch: Batch) -> Stepped {
        let mut backoff = Backoff::new(AGAIN);
        while !reign.over.is_requested() {
            self.counters.steps.fetch_add(1, Ordering::Relaxed);
            let error = match self.stores.shelf.step(&batch.fence, &batch.step).await {
                Ok(outcomes) => {
                    self.counters.done_steps.fetch_add(1, Ordering::Relaxed);
                    return Stepped::Said(batch, outcomes);
                }
                Err(error) => error,
            };
            self.counters.step_failures.fetch_add(1, Ordering::Relaxed);
            let wait_ms = backoff.failed(self.clock.mono_ns());
            let failures = backoff.failures();
            let is_sure = error.is_lasting();
            let is_stuck = failures >= if batch.len() > 1 { STUCK } else { 2 * STUCK };
            if is_sure || (is_stuck && self.is_fresh(reign)) {
                return match batch.split() {
                    Ok((one, other)) => {
                        tracing::warn!(%error, failures, things = one.len() + other.len(), "a step of chat is divided");
                        Stepped::Split(one, other)
                    }
                    Err(batch) => Stepped::Refused(batch, error, is_sure),
                };
            }
            if failures.is_power_of_two() {
                tracing::warn!(%error, failures, "a step of chat goes again");
            }
            tokio::select! {
                () = tokio::time::sleep(Duration::from_millis(wait_ms)) => {}
                () = reign.over.wait() => {}
            }
        }
        Stepped::Over
    }

    fn conversation_refused(&self, reign: &Reign, batch: &Batch, error: &StoreError, is_sure: bool) {
        self.counters.refused_steps.fetch_add(1, Ordering::Relaxed);
        let refused = reign.conversations.lock().refused(batch, is_sure, self.clock.now_ms());
        let Some((waiting, times)) = refused else { return };
        let of_step = batch.step.conversations.first().map(|step| step.rows.id);
        let conversation = of_step.or(batch.step.fanned.first().map(|(id, _)| *id)).unwrap_or(0);
        if times.is_power_of_two() {
            tracing::error!(
                conversation,
                %error,
                times,
                waiting = waiting.len(),
                "the store does not take this conversation; it rests, and is tried again"
            );
        }
        self.unknown(waiting, RESTING);
        // Requests that look are to hear it.
        self.tell_waiters(false);
    }

    fn line_refused(&self, reign: &Reign, batch: &Batch, error: &StoreError, is_sure: bool) {
        self.counters.refused_steps.fetch_add(1, Ordering::Relaxed);
        let refused = reign.lines.lock().core.refused(batch, is_sure, self.clock.now_ms());
        let user = batch.step.timelines.first().map_or(0, |step| step.user);
        if let Some(times) = refused.filter(|times| times.is_power_of_two()) {
            tracing::error!(user, %error, times, "the store does not take this timeline; it rests, and is tried again");
        }
    }

    fn conversations_stepped(&self, reign: &Reign, batch: &Batch, outcomes: &Outcomes) {
        let stepped = {
            let now_ms = self.clock.now_ms();
            reign.conversations.lock().stepped(batch, outcomes, now_ms)
        };
        self.keep_recent(batch, outcomes);
        self.answer_done(reign, stepped.done);
        self.unknown(stepped.refused, "its conversation was written by somebody else; send the same again");
        for bucket in stepped.lost {
            let term = term_in(batch, bucket);
            if reign.lines.lock().core.term(bucket) == Some(term) {
                self.disown_lines(reign, bucket);
            }
            self.lost(reign, bucket, term);
        }
    }

    /// The tenure is to look where a bucket is.
    fn lost(&self, reign: &Reign, bucket: u16, term: u32) {
        tracing::warn!(bucket, term, "a bucket of chat is somebody else's");
        reign.lost.lock().insert((bucket, term));
        self.wakes.tenure.notify_one();
        self.tell_waiters(false);
    }

    pub(super) async fn run_lines(self: Arc<Self>, stop: Shutdown) -> anyhow::Result<()> {
        let mut reigns = self.reign.subscribe();
        while let Some(reign) = next_reign(&mut reigns, &stop).await {
            self.step_lines(&reign, &stop).await;
        }
        Ok(())
    }

    async fn step_lines(&self, reign: &Reign, stop: &Shutdown) {
        let mut flights = FuturesUnordered::new();
        let mut parts: VecDeque<Batch> = VecDeque::new();
        let (mut stopped, mut over) = (pin!(stop.wait()), pin!(reign.over.wait()));
        let (mut tick_due_ns, mut began_ns) = (0, 0);
        while !reign.over.is_requested() && !stop.is_requested() {
            let now_ns = self.clock.mono_ns();
            let is_tick = now_ns >= tick_due_ns;
            if is_tick {
                tick_due_ns = now_ns + self.options.tick_ms * 1_000_000;
                self.bring_arrivals(reign, self.clock.now_ms());
            }
            while flights.len() < FLIGHTS_MAX
                && let Some(part) = parts.pop_front()
            {
                flights.push(self.step(reign, part));
            }
            let is_late = now_ns >= began_ns + FLIGHT_NS;
            let may_start = flights.is_empty() || (flights.len() < FLIGHTS_MAX && is_late);
            let turn = self.turn_lines(reign, is_tick, may_start);
            let has_batch = turn.batch.is_some();
            if has_batch {
                began_ns = now_ns;
            }
            flights.extend(turn.batch.map(|batch| self.step(reign, batch)));
            if turn.is_wanting {
                self.wakes.loads.notify_one();
            }
            self.acknowledge(reign, turn.acks);
            self.tell_watches(reign, turn.watches);
            self.say(turn.sayings);
            let mut wait_ns = tick_due_ns.saturating_sub(self.clock.mono_ns());
            if flights.len() < FLIGHTS_MAX && (has_batch || !may_start) {
                wait_ns = wait_ns.min((began_ns + FLIGHT_NS).saturating_sub(now_ns));
            }
            tokio::select! {
                Some(stepped) = flights.next(), if !flights.is_empty() => match stepped {
                    Stepped::Said(batch, outcomes) => self.lines_stepped(reign, &batch, &outcomes),
                    Stepped::Split(one, other) => parts.extend([one, other]),
                    Stepped::Refused(batch, error, is_sure) => self.line_refused(reign, &batch, &error, is_sure),
                    Stepped::Over => {}
                },
                () = self.wakes.lines.notified() => {}
                () = tokio::time::sleep(Duration::from_nanos(wait_ns)) => {}
                () = &mut stopped => {}
                () = &mut over => {}
            }
        }
    }

    fn turn_lines(&self, reign: &Reign, is_tick: bool, may_start: bool) -> LineTurn {
        let now_ms = self.clock.now_ms();
        let mut guard = reign.lines.lock();
        let lines = &mut *guard;
        if is_tick {
            lines.core.tick(now_ms, &mut lines.out);
        }
        let again = if is_tick && may_start { lines.core.again(now_ms) } else { None };
        let batch = again.or_else(|| if may_start { lines.core.batch(&mut lines.out) } else { None });
        let acks = lines.core.acks();
        let sayings = self.turn_presence(lines, now_ms);
        let watches = if is_tick { lines.watches(now_ms) } else { Vec::new() };
        let is_wanting = lines.take_wants();
        self.flush(reign, guard);
        LineTurn { batch, acks, watches, sayings, is_wanting }
    }

    fn lines_stepped(&self, reign: &Reign, batch: &Batch, outcomes: &Outcomes) {
        let placed = {
            let now_ms = self.clock.now_ms();
            let mut guard = reign.lines.lock();
            let lines = &mut *guard;
            let mut placed = lines.core.stepped(batch, outcomes, now_ms, &mut lines.out);
            let until_ms = now_ms + self.options.presence_ms();
            let mut arrivals = self.arrivals.lock();
            placed.moved.drain(..).for_each(|moved| arrivals.wait_moved(moved, until_ms));
            drop(arrivals);
            self.flush(reign, guard);
            placed
        };
        self.tell_lines(false);
        for bucket in placed.lost {
            let term = term_in(batch, bucket);
            let mut on = reign.conversations.lock();
            if on.term(bucket) == Some(term) {
                let waiting = on.disown(bucket);
                drop(on);
                self.unknown(waiting, "its conversation changes hands; send the same again");
            }
            self.lost(reign, bucket, term);
        }
    }
}

/// Under which term a batch was made for a bucket.
fn term_in(batch: &Batch, bucket: u16) -> u32 {
    batch.fence.terms.iter().find(|(b, _)| *b == bucket).map_or(0, |(_, term)| *term)
}
