//! Ledger and lanes as a node's own code calls them: what it awaits is answered by the world, later, or not at all.
//!
//! The node's code runs as it is; its futures are polled by the world whenever an answer has come. A call may be lost on
//! the way, done without an answer, done long after its caller has given up, or done twice.

use super::ClusterStep;
use super::machine::MachineStep;
use crate::world::{Event, World, now};
use async_trait::async_trait;
use bytes::Bytes;
use campaign::{CampaignId, NodeEpoch, NodeId, Plan, Ranges, SeqNo};
use lottery::ledger::rows::{LeaseKey, LeaseRow};
use lottery::ledger::{
    ChangeError, Changed, EpochError, MemoryLedger, PrizeKey, PrizeReport, QuotaLedger, Registered,
    SettleError, Settled, StoreError, Tick, TickAnswer, TickError,
};
use ownership::{BucketRow, EndReason, NodeRow};
use parking_lot::Mutex;
use queue::Position;
use queue::lanes::memory::MemoryLanes;
use queue::lanes::{LaneError, LaneRead, LaneState, Lanes, RawGroup};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// How long a caller waits, ms.
const PATIENCE_MS: (u64, u64) = (50, 400);
/// A call that is under way for so long, ms, is long forgotten by its caller.
const LATE_MS: (u64, u64) = (300, 5_000);

/// What calls are made to.
#[derive(Clone)]
pub(crate) struct Services {
    pub ledger: Arc<MemoryLedger>,
    pub lanes: MemoryLanes,
}

/// Gives the caller his answer.
pub(crate) type Tell = Box<dyn FnOnce() + Send>;
/// Does what was asked for; the answer can be told then.
type Act = Arc<dyn Fn(&Services) -> Tell + Send + Sync>;

/// A call that somebody awaits.
struct Call {
    what: &'static str,
    act: Act,
    /// The answer 'nobody knows'.
    unknown: Tell,
    /// No call at all, but so many ms.
    pause_ms: Option<u64>,
}

/// A call on its way.
pub(crate) struct Letter {
    act: Act,
    /// Who hears the answer, and when: machine, life, ms.
    reply: Option<(usize, u32, u64)>,
}

/// The services as one process sees them.
#[derive(Clone)]
pub(crate) struct Remote {
    services: Services,
    calls: Arc<Mutex<Vec<Call>>>,
}

/// An answer that has not come yet.
struct Slot<T>(Arc<Mutex<Option<T>>>);

impl<T> Future for Slot<T> {
    type Output = T;
    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<T> {
        // The world polls when an answer has come; nobody need be woken.
        self.0.lock().take().map_or(Poll::Pending, Poll::Ready)
    }
}

impl Remote {
    pub fn new(services: Services) -> Remote {
        Remote { services, calls: Arc::default() }
    }

    /// Makes a call and waits for its answer.
    async fn call<T: Send + 'static>(
        &self,
        what: &'static str,
        unknown: T,
        act: impl Fn(&Services) -> T + Send + Sync + 'static,
    ) -> T {
        let slot = Arc::new(Mutex::new(None));
        let (told, failed) = (Arc::clone(&slot), Arc::clone(&slot));
        let act: Act = Arc::new(move |services| {
            let (answer, told) = (act(services), Arc::clone(&told));
            Box::new(move || *told.lock() = Some(answer))
        });
        let unknown: Tell = Box::new(move || *failed.lock() = Some(unknown));
        self.calls.lock().push(Call { what, act, unknown, pause_ms: None });
        Slot(slot).await
    }

    /// Lets time pass, in which the process may be killed.
    pub async fn pause(&self, length: Duration) {
        let slot = Arc::new(Mutex::new(None));
        let over = Arc::clone(&slot);
        let unknown: Tell = Box::new(move || *over.lock() = Some(()));
        let act: Act = Arc::new(|_| Box::new(|| ()));
        let pause_ms = Some(length.as_millis() as u64);
        self.calls.lock().push(Call { what: "pause", act, unknown, pause_ms });
        Slot(slot).await
    }
}

fn lost() -> StoreError {
    StoreError::Unknown("simulated: no answer".to_owned())
}

fn unsure<T>() -> Result<T, LaneError> {
    Err(LaneError::Unsure("simulated: no answer".to_owned()))
}

/// Polls what a process works on. `Some`: it is done.
pub(crate) fn poll<T>(work: &mut Pin<Box<dyn Future<Output = T>>>) -> Option<T> {
    match work.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(done) => Some(done),
        Poll::Pending => None,
    }
}

impl World {
    pub fn services(&self) -> Services {
        Services { ledger: Arc::clone(&self.ledger), lanes: self.cluster.lanes.clone() }
    }

    /// Sends the calls that a process has made meanwhile.
    pub fn send_calls(&mut self, m: usize, remote: &Remote) {
        let calls = std::mem::take(&mut *remote.calls.lock());
        calls.into_iter().for_each(|call| self.send_call(m, call));
    }

    fn send_call(&mut self, m: usize, call: Call) {
        let Call { what, act, unknown, pause_ms } = call;
        let (life, node) = (self.cluster.machines[m].life, self.cluster.machines[m].node);
        let (there, back) = (self.between(1, 15), self.between(1, 15));
        let patience = self.between(PATIENCE_MS.0, PATIENCE_MS.1);
        let send =
            |reply| Event::Cluster(ClusterStep::Calls(Box::new(Letter { act: Arc::clone(&act), reply })));
        let whole = Some((m, life, back));
        let gives_up = Event::Machine(m, life, MachineStep::Told(unknown));
        if let Some(ms) = pause_ms {
            return self.push(ms, gives_up);
        }
        if self.ledger_is_away() {
            return self.push(patience, gives_up);
        }
        if !self.trouble(self.config.ledger_trouble) {
            return self.push(there, send(whole));
        }
        self.counters.ledger_troubles += 1;
        match self.rng.below(4) {
            0 => {
                self.note(format_args!("node {node}: {what} is lost on its way there"));
                self.push(patience, gives_up);
            }
            1 => {
                self.note(format_args!("node {node}: the answer to {what} is lost"));
                self.push(there, send(None));
                self.push(there + patience, gives_up);
            }
            2 => {
                self.note(format_args!("node {node}: {what} comes late, behind its time-out"));
                let late = patience + self.between(LATE_MS.0, LATE_MS.1);
                self.push(late, send(None));
                self.push(patience, gives_up);
            }
            _ => {
                self.note(format_args!("node {node}: {what} comes twice"));
                let again = there + self.between(LATE_MS.0, LATE_MS.1);
                self.push(again, send(None));
                self.push(there, send(whole));
            }
        }
    }

    /// A call comes to where it is done.
    pub fn call_comes(&mut self, letter: Letter) {
        let tell = (letter.act)(&self.services());
        if let Some((m, life, back)) = letter.reply {
            self.push(back, Event::Machine(m, life, MachineStep::Told(tell)));
        }
    }
}

#[async_trait]
impl QuotaLedger for Remote {
    async fn register(&self, plan: &Plan) -> Result<Registered, ChangeError> {
        self.services.ledger.register(plan).await
    }

    async fn lower(&self, prize: PrizeKey, seq_no: SeqNo, units: u64) -> Result<Changed, ChangeError> {
        self.services.ledger.lower(prize, seq_no, units).await
    }

    async fn pause(&self, prize: PrizeKey, seq_no: SeqNo) -> Result<Changed, ChangeError> {
        self.services.ledger.pause(prize, seq_no).await
    }

    async fn resume(&self, prize: PrizeKey, seq_no: SeqNo) -> Result<Changed, ChangeError> {
        self.services.ledger.resume(prize, seq_no).await
    }

    async fn tick(&self, tick: &Tick) -> Result<TickAnswer, TickError> {
        let tick = tick.clone();
        self.call("a tick", Err(lost().into()), move |s| now(s.ledger.tick(&tick))).await
    }

    async fn begin_epoch(&self, node: NodeId, above: NodeEpoch) -> Result<NodeEpoch, EpochError> {
        self.call("begin epoch", Err(lost().into()), move |s| now(s.ledger.begin_epoch(node, above))).await
    }

    async fn end_epoch(&self, node: NodeId, epoch: NodeEpoch, reason: EndReason) -> Result<bool, EpochError> {
        let act = move |s: &Services| now(s.ledger.end_epoch(node, epoch, reason));
        self.call("end epoch", Err(lost().into()), act).await
    }

    async fn record_end_position(
        &self,
        node: NodeId,
        epoch: NodeEpoch,
        position: u64,
    ) -> Result<u64, EpochError> {
        let act = move |s: &Services| now(s.ledger.record_end_position(node, epoch, position));
        self.call("record end position", Err(lost().into()), act).await
    }

    async fn settle(&self, lease: LeaseKey, used: &Ranges) -> Result<Settled, SettleError> {
        let used = used.clone();
        self.call("settle", Err(lost().into()), move |s| now(s.ledger.settle(lease, &used))).await
    }

    async fn epochs(&self, node: NodeId) -> Result<Vec<NodeRow>, StoreError> {
        self.call("epochs", Err(lost()), move |s| now(s.ledger.epochs(node))).await
    }

    async fn dead_epochs(&self) -> Result<Vec<NodeRow>, StoreError> {
        self.call("dead epochs", Err(lost()), |s| now(s.ledger.dead_epochs())).await
    }

    async fn unsettled(&self) -> Result<Vec<NodeRow>, StoreError> {
        self.call("unsettled", Err(lost()), |s| now(s.ledger.unsettled())).await
    }

    async fn open_leases(&self, node: NodeId) -> Result<Vec<LeaseRow>, StoreError> {
        self.call("open leases", Err(lost()), move |s| now(s.ledger.open_leases(node))).await
    }

    async fn buckets(&self, node: Option<NodeId>) -> Result<Vec<BucketRow>, StoreError> {
        self.call("buckets", Err(lost()), move |s| now(s.ledger.buckets(node))).await
    }

    async fn prizes(&self, campaign: CampaignId) -> Result<Vec<PrizeReport>, StoreError> {
        self.services.ledger.prizes(campaign).await
    }

    async fn leases(
        &self,
        campaign: CampaignId,
        after: Option<LeaseKey>,
        limit: usize,
    ) -> Result<Vec<LeaseRow>, StoreError> {
        self.services.ledger.leases(campaign, after, limit).await
    }

    async fn prune(&self) -> Result<u64, StoreError> {
        self.services.ledger.prune().await
    }
}

#[async_trait]
impl Lanes for Remote {
    async fn end(&self, node: u16) -> Result<LaneState, LaneError> {
        self.call("the lane's end", unsure(), move |s| s.lanes.end_now(node)).await
    }

    async fn ship(&self, node: u16, groups: Vec<Bytes>) -> Result<(), LaneError> {
        self.call("ship", unsure(), move |s| s.lanes.ship_now(node, groups.clone())).await
    }

    async fn mark_ended(&self, node: u16, epoch: u32, record: &[u8]) -> Result<(), LaneError> {
        let record = record.to_vec();
        self.call("mark ended", unsure(), move |s| s.lanes.mark_ended_now(node, epoch, &record)).await
    }

    async fn read_raw(
        &self,
        node: u16,
        from: Position,
        max_groups: usize,
    ) -> Result<LaneRead<RawGroup>, LaneError> {
        let act = move |s: &Services| s.lanes.read_raw_now(node, from, max_groups);
        self.call("read the lane", unsure(), act).await
    }
}
