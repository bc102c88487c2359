//! The node's epochs: beginning them, keeping the session fresh, buckets that come and go, the end.
//!
//! A call to the book goes out every 250 ms (sooner while buckets are moving), one at a time; one without an answer is given
//! up after a while and made again, as it was in what it asks for. Reading the whole book and ending dead epochs of others go
//! beside it, so that neither can make the session stale.

use super::OwnerNode;
use super::buckets::Buckets;
use super::reign::Reign;
use super::routes::Routes;
use crate::cluster::Want;
use crate::store::StoreError;
use crate::store::owners::{BeginError, EndEpochError, OwnerAnswer, OwnerTick, TickError};
use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use hashring::Ring;
use ownership::{BucketRow, EndReason};
use runtime::{Backoff, BackoffPolicy, Shutdown};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Time between two calls to the book.
const TICK_MS: u64 = 250;
/// ... while buckets are moving, and after a call that failed.
const MOVING_MS: u64 = 20;
/// Most buckets that one call claims, and that it seals ...
const MOVES_MAX: usize = 1_024;
/// ... at least, when larger calls have failed: a call that is too large for a slow database would fail for ever, and the
/// session with it.
const MOVES_MIN: usize = 16;
/// A call that took so long is not followed by a larger one.
const SWIFT_NS: u64 = 150_000_000;
/// A call that has no answer by then is given up, and made again: the session lasts 2 s.
const CALL: Duration = Duration::from_millis(900);
/// Reading the whole book may take longer: nothing waits for it.
const LOOK: Duration = Duration::from_secs(10);
/// How often the book is read for where other nodes' buckets are.
const ROUTES_MS: u64 = 5_000;
/// ... while something is handed on that others have to take, or a bucket is looked for.
const ROUTES_SOON_MS: u64 = 500;
/// What others may wait at the end of a process for the last call.
const END: Duration = Duration::from_secs(3);
/// Dead epochs that are being ended at a time.
const ENDING_MAX: usize = 4;

const BEGIN_AGAIN: BackoffPolicy =
    BackoffPolicy { first_ms: 100, max_ms: 1_000, repeats: 3, spread_permille: 300 };

/// What a call brought.
enum Event {
    Ticked { sent_ns: u64, tick: OwnerTick, answer: Option<Result<OwnerAnswer, TickError>> },
    Rows(Option<Result<Vec<BucketRow>, StoreError>>),
    Ended { node: u16, epoch: u32, done: Option<Result<bool, EndEpochError>> },
}

/// One epoch's dealings with the book.
struct Tenure {
    buckets: Buckets,
    /// The book, as it was read last.
    rows: Vec<BucketRow>,
    /// The version of the ring that was followed.
    ring: u64,
    tick_due_ns: u64,
    look_due_ns: u64,
    is_ticking: bool,
    is_looking: bool,
    ending: BTreeSet<(u16, u32)>,
    /// How many buckets the next call may claim, and seal.
    moves_max: usize,
    failures: u32,
}

impl OwnerNode {
    pub(super) async fn run_tenure(self: Arc<Self>, stop: Shutdown) -> anyhow::Result<()> {
        while let Some(reign) = self.begin(&stop).await {
            self.counters.epochs.fetch_add(1, Ordering::Relaxed);
            tracing::info!(node = self.options.node, epoch = reign.epoch, "chat begins an epoch");
            self.reign.send_replace(Some(Arc::clone(&reign)));
            let is_refused = self.hold(&reign, &stop).await;
            self.end_reign(&reign);
            if !is_refused {
                self.end_by_self(&reign).await;
            }
        }
        // Whoever waits for a drain waits for nothing now.
        self.is_empty.send_replace(true);
        Ok(())
    }

    /// Begins an epoch, as often as it takes; nothing when the node is to stop.
    async fn begin(&self, stop: &Shutdown) -> Option<Arc<Reign>> {
        let mut backoff = Backoff::new(BEGIN_AGAIN);
        while !stop.is_requested() {
            match self.try_begin().await {
                Ok(reign) => return Some(Arc::new(reign)),
                Err(error @ BeginError::StillSeen { .. }) => {
                    tracing::info!(%error, "chat waits to begin an epoch");
                }
                Err(error) => tracing::warn!(%error, "chat can't begin an epoch yet"),
            }
            let wait = Duration::from_millis(backoff.failed(self.clock.mono_ns()));
            tokio::select! { () = tokio::time::sleep(wait) => {}, () = stop.wait() => {} }
        }
        None
    }

    async fn try_begin(&self) -> Result<Reign, BeginError> {
        let (node, shelf) = (self.options.node, &self.stores.shelf);
        let begun = self.stores.owners.begin(node, 0).await?;
        // Nobody else gives ids under this number while the epoch is open, so the two calls need not be one.
        let mut until_ms = self.clock.now_ms() + crate::core::ids::RESERVE_MS;
        let above_ms = shelf.reserve_ids(node, until_ms).await?;
        if above_ms >= until_ms {
            // The clock was ahead once, or many ids were given.
            until_ms = above_ms + crate::core::ids::RESERVE_MS;
            shelf.reserve_ids(node, until_ms).await?;
        }
        Ok(Reign::new(self, begun.epoch, above_ms, until_ms))
    }

    /// Keeps an epoch until it is refused (true) or the node is to stop.
    async fn hold(&self, reign: &Arc<Reign>, stop: &Shutdown) -> bool {
        let mut tenure = Tenure {
            buckets: Buckets::new(self.options.node, reign.epoch),
            rows: Vec::new(),
            ring: 0,
            tick_due_ns: 0,
            look_due_ns: 0,
            is_ticking: false,
            is_looking: false,
            ending: BTreeSet::new(),
            moves_max: MOVES_MAX,
            failures: 0,
        };
        let mut calls: FuturesUnordered<BoxFuture<'_, Event>> = FuturesUnordered::new();
        loop {
            self.follow_ring(reign, &mut tenure);
            self.tell_lost(reign, &mut tenure);
            let now_ns = self.clock.mono_ns();
            if !tenure.is_looking && tenure.looks(now_ns) {
                tenure.is_looking = true;
                calls.push(Box::pin(self.read_book()));
            }
            if !tenure.is_ticking && now_ns >= tenure.tick_due_ns {
                tenure.is_ticking = true;
                let tick = self.next_tick(reign, &mut tenure);
                calls.push(Box::pin(self.tick_book(tick)));
            }
            let wait = Duration::from_nanos(tenure.tick_due_ns.saturating_sub(now_ns).max(1_000_000));
            tokio::select! {
                Some(event) = calls.next(), if !calls.is_empty() => {
                    let ends = match self.heard_of(reign, &mut tenure, event) {
                        Ok(ends) => ends,
                        Err(error) => {
                            tracing::warn!(node = self.options.node, epoch = reign.epoch, %error, "chat begins anew");
                            return true;
                        }
                    };
                    for (node, epoch) in ends {
                        calls.push(Box::pin(self.end_dead(node, epoch)));
                    }
                }
                () = self.wakes.tenure.notified() => {}
                () = tokio::time::sleep(wait), if !tenure.is_ticking => {}
                () = stop.wait() => return false,
            }
        }
    }

    /// Takes over the ring as it is now, and what a drain wants.
    fn follow_ring(&self, reign: &Reign, tenure: &mut Tenure) {
        let (version, ring) = self.ring.lock().clone();
        let drains = self.drains.is_requested();
        if drains {
            tenure.buckets.drain();
        } else if let (Some(ring), true) = (&ring, version != tenure.ring) {
            tenure.buckets.follow(ring);
        }
        if version != tenure.ring {
            tenure.ring = version;
            tenure.look_due_ns = 0;
            self.guess_routes(reign, tenure, ring.as_deref());
        }
        let closing = tenure.buckets.close();
        if !closing.is_empty() {
            tenure.tick_due_ns = 0;
            let mut on = reign.conversations.lock();
            closing.iter().for_each(|bucket| on.give_up(*bucket));
            drop(on);
            let mut lines = reign.lines.lock();
            closing.iter().for_each(|bucket| lines.core.give_up(*bucket));
            drop(lines);
            // What waits for something in them is to hear that it is elsewhere.
            self.tell_waiters(false);
            self.wakes.conversations.notify_one();
        }
        *reign.counts.lock() = tenure.buckets.counts();
        // A drained node that has no epoch yet has nothing either: it hears so from its first answered tick.
        self.is_empty.send_if_modified(|empty| {
            let is_empty = drains && tenure.buckets.is_empty() && !tenure.is_ticking;
            std::mem::replace(empty, is_empty) != is_empty
        });
    }

    /// What steps found lost is not ours.
    fn tell_lost(&self, reign: &Reign, tenure: &mut Tenure) {
        let lost = std::mem::take(&mut *reign.lost.lock());
        let mut any = false;
        for (bucket, term) in lost {
            any |= tenure.buckets.lost(bucket, term);
        }
        if any {
            tenure.look_due_ns = 0;
        }
    }

    fn next_tick(&self, reign: &Reign, tenure: &mut Tenure) -> OwnerTick {
        let (seals, claims) = {
            // One after the other, never both locks at once: a bucket that is given up in both cores stays idle.
            let mut idle = BTreeSet::new();
            let closing: Vec<u16> = tenure.buckets.closing().collect();
            let on = reign.conversations.lock();
            idle.extend(closing.into_iter().filter(|bucket| on.is_idle(*bucket)));
            drop(on);
            let lines = reign.lines.lock();
            idle.retain(|bucket| lines.core.is_idle(*bucket));
            drop(lines);
            tenure.buckets.asks(tenure.moves_max, |bucket| idle.contains(&bucket))
        };
        OwnerTick { node: self.options.node, epoch: reign.epoch, seals, claims }
    }

    async fn tick_book(&self, tick: OwnerTick) -> Event {
        let sent_ns = self.clock.mono_ns();
        let answer = tokio::time::timeout(CALL, self.stores.owners.tick(&tick)).await.ok();
        Event::Ticked { sent_ns, tick, answer }
    }

    async fn read_book(&self) -> Event {
        Event::Rows(tokio::time::timeout(LOOK, self.stores.owners.buckets()).await.ok())
    }

    async fn end_dead(&self, node: u16, epoch: u32) -> Event {
        let ended = self.stores.owners.end(node, epoch, EndReason::Expired);
        Event::Ended { node, epoch, done: tokio::time::timeout(LOOK, ended).await.ok() }
    }

    /// What a call brought; epochs that are to be ended now.
    fn heard_of(
        &self,
        reign: &Arc<Reign>,
        tenure: &mut Tenure,
        event: Event,
    ) -> Result<Vec<(u16, u32)>, TickError> {
        let now_ns = self.clock.mono_ns();
        let next_ns = |ms: u64| now_ns + ms * 1_000_000;
        match event {
            Event::Ticked { sent_ns, tick, answer } => {
                tenure.is_ticking = false;
                let answer = match answer {
                    Some(Ok(answer)) => answer,
                    Some(Err(error @ TickError::Session(_))) => return Err(error),
                    Some(Err(error)) => {
                        tenure.failed(&error);
                        tenure.moves_max = (tenure.moves_max / 4).max(MOVES_MIN);
                        tenure.tick_due_ns = next_ns(MOVING_MS);
                        return Ok(Vec::new());
                    }
                    None => {
                        tenure.failed(&"no answer in time");
                        tenure.moves_max = (tenure.moves_max / 4).max(MOVES_MIN);
                        return Ok(Vec::new());
                    }
                };
                reign.session.renew(sent_ns);
                tenure.failures = 0;
                if now_ns < sent_ns + SWIFT_NS {
                    tenure.moves_max = (tenure.moves_max * 2).min(MOVES_MAX);
                }
                self.ticked(reign, tenure, &tick, &answer);
                let wait_ms = if tenure.buckets.is_moving() { MOVING_MS } else { TICK_MS };
                tenure.tick_due_ns = (sent_ns + wait_ms * 1_000_000).max(next_ns(5));
                let room = ENDING_MAX.saturating_sub(tenure.ending.len());
                let dead = answer.dead.iter().filter(|dead| dead.0 != self.options.node);
                let dead: Vec<(u16, u32)> =
                    dead.filter(|dead| !tenure.ending.contains(dead)).copied().take(room).collect();
                tenure.ending.extend(&dead);
                return Ok(dead);
            }
            Event::Rows(rows) => {
                tenure.is_looking = false;
                tenure.look_due_ns = next_ns(ROUTES_SOON_MS);
                match rows {
                    Some(Ok(rows)) => {
                        tenure.buckets.rows(&rows);
                        tenure.rows = rows;
                        let is_soon = tenure.buckets.looks() || reign.conversations.lock().fanning() > 0;
                        tenure.look_due_ns = next_ns(if is_soon { ROUTES_SOON_MS } else { ROUTES_MS });
                        let ring = self.ring.lock().1.clone();
                        self.guess_routes(reign, tenure, ring.as_deref());
                        if tenure.buckets.is_moving() {
                            tenure.tick_due_ns = 0;
                        }
                    }
                    Some(Err(error)) => tracing::warn!(%error, "chat can't read who owns what"),
                    None => tracing::warn!("reading who owns what in chat takes too long"),
                }
            }
            Event::Ended { node, epoch, done } => {
                tenure.ending.remove(&(node, epoch));
                match done {
                    Some(Ok(by_this)) => {
                        tracing::info!(node, epoch, by_this, "a dead epoch of chat is ended");
                        tenure.look_due_ns = 0;
                    }
                    Some(Err(error)) => tracing::debug!(node, epoch, %error, "an epoch is not ended"),
                    None => {}
                }
            }
        }
        Ok(Vec::new())
    }

    /// The book's answer to a tick.
    fn ticked(&self, reign: &Reign, tenure: &mut Tenure, tick: &OwnerTick, answer: &OwnerAnswer) {
        let moves = tenure.buckets.answered(tick, answer);
        if moves.came.is_empty() && moves.gone.is_empty() {
            return;
        }
        for bucket in &moves.gone {
            self.disown(reign, *bucket);
        }
        if !moves.came.is_empty() {
            let mut lines = reign.lines.lock();
            moves.came.iter().for_each(|came| lines.core.own(came.bucket, came.term));
            drop(lines);
            let mut on = reign.conversations.lock();
            moves.came.iter().for_each(|came| on.own(came.bucket, came.term));
            drop(on);
            reign.unfanned.lock().extend(moves.came.iter().map(|came| (came.bucket, came.term)));
            self.wakes.loads.notify_one();
            self.wakes.lines.notify_one();
        }
        tracing::info!(
            node = self.options.node,
            came = moves.came.len(),
            gone = moves.gone.len(),
            "buckets of chat have changed hands"
        );
        let ring = self.ring.lock().1.clone();
        self.guess_routes(reign, tenure, ring.as_deref());
    }

    /// A bucket is not ours any more.
    pub(super) fn disown(&self, reign: &Reign, bucket: u16) {
        let waiting = reign.conversations.lock().disown(bucket);
        self.unknown(waiting, "its conversation changes hands; send the same again");
        self.disown_lines(reign, bucket);
        reign.unfanned.lock().remove(&bucket);
    }

    /// Hands go where buckets are now; what was not acknowledged goes there at once.
    fn guess_routes(&self, reign: &Reign, tenure: &Tenure, ring: Option<&Ring>) {
        let me = self.options.node;
        let routes = Routes::guess(me, &tenure.rows, |bucket| tenure.buckets.has(bucket), ring);
        let mut now = self.routes.write();
        if **now != routes {
            *now = Arc::new(routes);
            drop(now);
            reign.conversations.lock().hand_again();
            self.wakes.conversations.notify_one();
        }
    }

    /// Nothing is answered from an epoch any more; who waited hears that it is not known, and devices wait for the next one.
    fn end_reign(&self, reign: &Arc<Reign>) {
        reign.session.end();
        reign.over.request();
        self.reign.send_replace(None);
        let reason = "this node begins anew; send the same again";
        let (waiting, parked) = {
            let mut on = reign.conversations.lock();
            let mut waiting = Vec::new();
            for bucket in 0..hashring::BUCKET_COUNT as u16 {
                if on.term(bucket).is_some() {
                    waiting.extend(on.disown(bucket));
                }
            }
            (waiting, on.refuse_parked(reason))
        };
        self.unknown(waiting, reason);
        self.answer_parked(parked);
        for bucket in 0..hashring::BUCKET_COUNT as u16 {
            self.disown_lines(reign, bucket);
        }
        *self.routes.write() = Arc::new(Routes::nowhere(self.options.node));
        self.tell_waiters(true);
        self.tell_lines(true);
    }

    /// Others may have our buckets at once.
    async fn end_by_self(&self, reign: &Reign) {
        let ended = self.stores.owners.end(self.options.node, reign.epoch, EndReason::BySelf);
        match tokio::time::timeout(END, ended).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => {
                tracing::warn!(%error, "chat's epoch is not ended; others wait until it is dead")
            }
            Err(_) => tracing::warn!("ending chat's epoch takes too long; others wait until it is dead"),
        }
    }
}

impl Tenure {
    /// Whether the book is to be read.
    fn looks(&self, now_ns: u64) -> bool {
        now_ns >= self.look_due_ns
    }

    fn failed(&mut self, error: &dyn std::fmt::Display) {
        self.failures += 1;
        // The first one, and then now and again.
        if self.failures == 1 || self.failures.is_multiple_of(64) {
            tracing::warn!(%error, failures = self.failures, "chat's owners' book does not answer");
        }
    }
}

/// Takes what a decision core wants from the store, each with the term of its bucket now.
pub(super) fn with_terms<T>(on: &mut crate::cluster::Conversations<T>) -> Vec<(Want, u32)> {
    let wants = on.wants();
    let term =
        |want: &Want| super::reign::bucket_of_want(want).and_then(|bucket| on.term(bucket)).unwrap_or(0);
    wants.into_iter().map(|want| (want, term(&want))).collect()
}
