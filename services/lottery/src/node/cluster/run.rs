//! A node at work: one call of the ledger a tick, with buckets and leases in it, and the tasks beside it.

use super::bury::{bury, newest};
use super::node::ClusterNode;
use super::undertaker::Watch;
use super::{fetch, ship};
use crate::core::WinLog as _;
use crate::ledger::{GrantAnswer, StoreError, Tick, TickError};
use crate::node::leases::{Leases, Progress};
use flowlog::{Position, fault};
use ownership::EndReason;
use runtime::{Shutdown, TaskKind, Tasks};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Time from tick to tick.
const TICK_NS: u64 = 100_000_000;

/// The same while buckets are on their way.
const QUICK_NS: u64 = 20_000_000;

/// How often the node looks whether a tick is due, and at the ring.
const QUICK: Duration = Duration::from_nanos(QUICK_NS);

/// How often the owners' table is read while the ring gives us a bucket that somebody else has.
const LOOK_NS: u64 = 60_000_000;

/// How often the node looks for the dead.
const WATCH: Duration = Duration::from_millis(100);

/// Ended epochs that nobody finished are looked for once in so many looks.
const UNSETTLED_LOOKS: u64 = 10;

/// A node that had no session itself gives the others so long to be heard of again before it takes any for dead: after a ledger
/// that was away for seconds everybody looks dead.
const AFTER_OUTAGE_MS: u64 = 1_500;

/// Longest that a node takes to give everything back.
const DRAIN_NS: u64 = 15_000_000_000;

/// A user who has won nothing under this term and has not entered for so long is forgotten when room is short.
const IDLE_MS: u64 = 600_000;

/// Room, and what of the log can go, are looked at once in so many ticks.
const ROOM_TICKS: u64 = 50;

/// How a node ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Exit {
    /// It was asked to, and has given back what it could.
    Drained,
    /// Others ended its epoch: start it anew.
    EpochEnded,
}

/// Why a node ended otherwise.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The ledger refuses its calls.
    #[error(transparent)]
    Tick(#[from] TickError),
    /// A task beside the ticks has failed.
    #[error(transparent)]
    Task(#[from] runtime::TaskFailure),
    /// The log could not be closed.
    #[error("closing the log: {0}")]
    Log(String),
}

/// The tasks end with the node, also when its future is dropped.
struct Beside(Tasks);

impl Drop for Beside {
    fn drop(&mut self) {
        self.0.shutdown().request();
    }
}

/// What the ticks keep from one to the next.
struct Ticks {
    leases: Leases,
    unanswered: Option<Tick>,
    ring_of: Option<u64>,
    looked_ns: u64,
    ticked_ns: u64,
    count: u64,
    away: bool,
    drain_since_ns: Option<u64>,
}

impl ClusterNode {
    /// Works until it is asked to stop or its epoch was ended. Whatever the end, the log is closed then and the folder can
    /// be started again.
    ///
    /// # Errors
    /// When it can't go on and starting anew would not help.
    pub async fn run(self: Arc<Self>, shutdown: Shutdown) -> Result<Exit, RunError> {
        let beside = Beside(Tasks::new(Shutdown::new()));
        let tasks = &beside.0;
        let (asked, kind) = (|| tasks.shutdown().clone(), TaskKind::Essential);
        tasks.spawn("lottery-shipper", kind, ship::run(Arc::clone(&self), asked()));
        tasks.spawn("lottery-passed", kind, fetch::passed(Arc::clone(&self), asked()));
        tasks.spawn("lottery-histories", kind, fetch::histories(Arc::clone(&self), asked()));
        tasks.spawn("lottery-undertaker", kind, Arc::clone(&self).watch(asked()));
        let end = self.ticks(&shutdown, tasks.shutdown()).await;
        if !matches!(end, Ok(Exit::Drained)) {
            self.over.store(true, Ordering::Release);
        }
        self.session.end();
        let log = self.journal.log().clone();
        let closed = tokio::task::spawn_blocking(move || log.close().map_err(|e| e.to_string())).await;
        let drained = tasks.drain(Duration::from_secs(2)).await;
        self.waiting.abandon();
        if let Some(failure) = drained.failure {
            return Err(failure.into());
        }
        let end = end?;
        match closed {
            Ok(Ok(_)) => Ok(end),
            Ok(Err(why)) => Err(RunError::Log(why)),
            Err(panic) => Err(RunError::Log(panic.to_string())),
        }
    }

    async fn ticks(&self, shutdown: &Shutdown, failed: &Shutdown) -> Result<Exit, RunError> {
        let mut ticks = Ticks {
            leases: Leases::new(self.config.node, self.epoch).beside_others(),
            unanswered: None,
            ring_of: None,
            looked_ns: 0,
            ticked_ns: 0,
            count: 0,
            away: false,
            drain_since_ns: None,
        };
        loop {
            if shutdown.is_requested() && ticks.drain_since_ns.is_none() {
                ticks.drain_since_ns = Some(self.parts.clock.mono_ns());
                self.buckets.lock().drain();
            }
            self.follow(&mut ticks).await;
            if self.is_due(&ticks) {
                ticks.ticked_ns = self.parts.clock.mono_ns();
                match self.tick(&mut ticks).await {
                    Err(TickError::Session(error)) => {
                        tracing::warn!(%error, "the epoch was ended by others");
                        return Ok(Exit::EpochEnded);
                    }
                    done => done?,
                }
                self.make_room(&mut ticks);
            }
            if failed.is_requested() || self.is_drained(&ticks) {
                self.finish().await;
                return Ok(Exit::Drained);
            }
            let sealing = self.buckets.lock().counts().sealing > 0;
            tokio::select! {
                () = tokio::time::sleep(QUICK) => {}
                () = self.moved.notified(), if sealing => {}
                () = shutdown.wait(), if ticks.drain_since_ns.is_none() => {}
                () = failed.wait() => {}
            }
        }
    }

    /// A tick is due: its time has come, or it has something to say about buckets.
    fn is_due(&self, ticks: &Ticks) -> bool {
        let since_ns = self.parts.clock.mono_ns() - ticks.ticked_ns;
        let mut buckets = self.buckets.lock();
        // Holding comes with the tick, so a bucket that the ring took away is reason for one.
        let (seals, claims) = buckets.asks(self.journal.acknowledged());
        let moves = !seals.is_empty() || !claims.is_empty() || buckets.gives_up();
        since_ns >= TICK_NS || (moves && since_ns >= QUICK_NS && ticks.unanswered.is_none())
    }

    /// Follows the ring; looks at the owners' table if need be.
    async fn follow(&self, ticks: &mut Ticks) {
        let list = self.parts.members.current();
        if ticks.ring_of != Some(list.epoch) {
            // Without any member there is no ring, and everybody keeps what he has.
            if let Ok(ring) = list.ring() {
                self.buckets.lock().follow(&ring);
            }
            ticks.ring_of = Some(list.epoch);
        }
        let now_ns = self.parts.clock.mono_ns();
        if ticks.unanswered.is_some() || !self.buckets.lock().looks() || now_ns < ticks.looked_ns + LOOK_NS {
            return;
        }
        ticks.looked_ns = now_ns;
        match self.parts.ledger.buckets(None).await {
            Ok(rows) => self.buckets.lock().rows(&rows),
            Err(error) => tracing::debug!(%error, "the owners of buckets can't be read now"),
        }
    }

    /// One tick. One that may have been done is repeated as it was.
    async fn tick(&self, ticks: &mut Ticks) -> Result<(), TickError> {
        let mut log = &*self.journal;
        let acknowledged = self.journal.acknowledged();
        let tick = match ticks.unanswered.take() {
            Some(tick) => tick,
            None => {
                let (serving, (seals, claims)) = {
                    let mut buckets = self.buckets.lock();
                    buckets.hold(&*self.core);
                    (buckets.is_serving(), buckets.asks(acknowledged))
                };
                // Whoever draws for nobody must not sit on units.
                let stop = ticks.drain_since_ns.is_some() || !serving;
                let progress = Progress { acknowledged };
                let leases = ticks.leases.tick(&self.core, self.now_ms(), progress, stop, &mut log);
                Tick { seals, claims, ..leases }
            }
        };
        let sent_ns = self.parts.clock.mono_ns();
        fault::point("tick.before_send");
        match self.parts.ledger.tick(&tick).await {
            Ok(answer) => {
                fault::point("tick.after_answer");
                let answered_ns = self.parts.clock.mono_ns();
                self.session.renew(sent_ns, answered_ns, answer.now_ms);
                let granted = answer.grants.iter().filter(|(_, g)| matches!(g, GrantAnswer::Granted { .. }));
                self.counts.ticks.fetch_add(1, Ordering::Relaxed);
                self.counts.tick_us.fetch_add((answered_ns - sent_ns) / 1_000, Ordering::Relaxed);
                self.counts.leases.fetch_add(granted.count() as u64, Ordering::Relaxed);
                ticks.leases.answered(&self.core, &tick, &answer, &mut log);
                self.counts.closes_refused.store(ticks.leases.refused(), Ordering::Relaxed);
                self.buckets.lock().answered(&tick.seals, &answer, &*self.core);
                if !answer.claimed.is_empty() {
                    self.waits.notify_one();
                }
                if !answer.claimed.is_empty() || !tick.seals.is_empty() {
                    let (claimed, sealed) = (answer.claimed.len(), tick.seals.len());
                    tracing::info!(claimed, sealed, "buckets have changed hands");
                }
                if std::mem::take(&mut ticks.away) {
                    tracing::info!("the ledger answers again");
                }
                Ok(())
            }
            Err(TickError::Store(error)) => {
                self.counts.ticks_failed.fetch_add(1, Ordering::Relaxed);
                if !std::mem::replace(&mut ticks.away, true) {
                    tracing::warn!(%error, "the ledger did not answer; nothing is decided until it does");
                }
                if matches!(error, StoreError::Unknown(_)) {
                    ticks.unanswered = Some(tick);
                }
                Ok(())
            }
            Err(error) => {
                self.over.store(true, Ordering::Release);
                self.session.end();
                Err(error)
            }
        }
    }

    /// Asked to stop, and everything is given back or the time is up.
    fn is_drained(&self, ticks: &Ticks) -> bool {
        let Some(since_ns) = ticks.drain_since_ns else { return false };
        if self.parts.clock.mono_ns() > since_ns + DRAIN_NS {
            tracing::warn!("not everything could be given back in time; the others will end this epoch");
            return true;
        }
        let empty = self.buckets.lock().is_empty();
        empty && ticks.unanswered.is_none() && ticks.leases.closing() == 0 && self.leases_in_use() == 0
    }

    fn leases_in_use(&self) -> usize {
        let campaigns = self.core.campaigns();
        let of = |campaign: &crate::core::CampaignCore| -> usize {
            campaign.rounds().flat_map(|(_, at)| at.pool.usage()).map(|usage| usage.leases).sum()
        };
        campaigns.iter().map(|c| of(c)).sum()
    }

    /// Ships what is left and ends the own epoch, if it holds nothing any more.
    async fn finish(&self) {
        if !self.buckets.lock().is_empty() || self.over.load(Ordering::Acquire) {
            return;
        }
        let end = self.journal.log().durable().0;
        for _ in 0..200 {
            if self.journal.acknowledged() >= end || !self.has_session() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        if self.journal.acknowledged() < end {
            tracing::warn!(
                "the end of the log did not get into the lane; the next start, or the others, end the epoch"
            );
            return;
        }
        let (ledger, lanes) = (&*self.parts.ledger, &*self.parts.lanes);
        let row = newest(ledger, self.config.node).await.ok().flatten();
        let Some(row) = row.filter(|row| row.epoch == self.epoch.0) else { return };
        self.over.store(true, Ordering::Release);
        self.session.end();
        match bury(ledger, lanes, &row, EndReason::BySelf).await {
            Ok(_) => tracing::info!(epoch = row.epoch, "the epoch has ended in order"),
            Err(error) => tracing::warn!(%error, "the epoch could not be ended; the others will"),
        }
    }

    fn make_room(&self, ticks: &mut Ticks) {
        ticks.count += 1;
        if !ticks.count.is_multiple_of(ROOM_TICKS) {
            return;
        }
        // What the lane has is not needed here any more.
        self.journal.log().remove_before(Position(self.journal.acknowledged()));
        if self.core.users() >= self.config.users_max / 10 * 9 {
            let stay = self.core.forget_idle(self.now_ms().saturating_sub(IDLE_MS));
            tracing::warn!(
                stay,
                "memory is nearly full of users; forgot those who have not come for ten minutes"
            );
        }
    }

    /// Sees to the epochs of other nodes that have died.
    async fn watch(self: Arc<Self>, shutdown: Shutdown) -> anyhow::Result<()> {
        let (ledger, lanes) = (&*self.parts.ledger, &*self.parts.lanes);
        let (mut watch, mut looks, mut unsettled) = (Watch::default(), 0u64, Vec::new());
        let mut without_ms = 0;
        loop {
            tokio::select! {
                () = shutdown.wait() => return Ok(()),
                () = tokio::time::sleep(WATCH) => {}
            }
            let now_ms = self.parts.clock.mono_ns() / 1_000_000;
            if !self.has_session() {
                without_ms = now_ms;
            }
            if without_ms > 0 && now_ms < without_ms + AFTER_OUTAGE_MS {
                continue;
            }
            let Ok(mut found) = ledger.dead_epochs().await else { continue };
            if looks.is_multiple_of(UNSETTLED_LOOKS) {
                unsettled = ledger.unsettled().await.unwrap_or_default();
            }
            looks += 1;
            found.extend(unsettled.iter().cloned());
            let living: Vec<u16> = self.parts.members.current().members.iter().map(|m| m.node).collect();
            for row in watch.due(self.config.node.0, &found, &living, now_ms) {
                if shutdown.is_requested() || !self.has_session() {
                    break;
                }
                match bury(ledger, lanes, &row, EndReason::Expired).await {
                    Ok(done) => {
                        self.counts.buried.fetch_add(1, Ordering::Relaxed);
                        let (node, epoch) = (done.node, done.epoch);
                        tracing::info!(
                            node,
                            epoch,
                            settled = done.settled,
                            "saw to the epoch of a dead node"
                        );
                        unsettled.retain(|left| (left.node, left.epoch) != (node, epoch));
                    }
                    Err(error) => {
                        tracing::warn!(node = row.node, epoch = row.epoch, %error, "could not end an epoch")
                    }
                }
            }
        }
    }
}
