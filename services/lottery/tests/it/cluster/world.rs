//! Several nodes on real disks in real time, with ledger, lanes and cache in memory.

use super::audit::{Told, audit, audit_end};
use super::flow::LaneFlow;
use crate::world::{CAMPAIGN, Late, config, plan, timely};
use async_trait::async_trait;
use bytes::Bytes;
use campaign::{CampaignId, NodeId, Plan, RoundId, SeedKey};
use flowlog::{LogKind, LogOptions};
use hashring::{Member, bucket_of};
use lottery::ledger::{
    ChangeError, Changed, EpochError, MemoryLedger, PrizeKey, PrizeReport, QuotaLedger, Registered,
    SettleError, Settled, StoreError, Tick, TickAnswer, TickError,
};
use lottery::ledger::{LeaseKey, LeaseRow};
use lottery::node::NodeConfig;
use lottery::node::cluster::{
    ClusterNode, ClusterParts, Exit, MemoryCache, RunError, StartError, Started, start,
};
use ownership::{BucketRow, EndReason, MemberList, Members, NodeRow};
use parking_lot::Mutex;
use protocol::calls::{Draws, Inbox, SubmitCall, SubmitReply};
use protocol::v1::Outcome;
use queue::Position;
use queue::lanes::memory::MemoryLanes;
use queue::lanes::{LaneError, LaneRead, LaneState, Lanes, RawGroup};
use runtime::{SharedClock, Shutdown, SystemClock};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::Waker;
use std::time::Duration;
use tempfile::TempDir;

/// Lanes there are.
pub const NODES: u16 = 6;

/// A member list that a test writes.
pub struct Roll(Mutex<Arc<MemberList>>);

impl Roll {
    fn new() -> Arc<Roll> {
        Arc::new(Roll(Mutex::new(Arc::new(MemberList { epoch: 0, members: vec![] }))))
    }

    pub fn set(&self, nodes: &[u16]) {
        let mut list = self.0.lock();
        let members = nodes.iter().map(|&node| Member { node, weight: 1 }).collect();
        *list = Arc::new(MemberList { epoch: list.epoch + 1, members });
    }
}

impl Members for Roll {
    fn current(&self) -> Arc<MemberList> {
        Arc::clone(&self.0.lock())
    }
}

/// The ledger as one node reaches it: the line can be cut, so that calls hang until it is mended.
pub struct Line {
    ledger: Arc<MemoryLedger>,
    pub cut: AtomicBool,
}

impl Line {
    async fn reach(&self) -> &MemoryLedger {
        while self.cut.load(Ordering::SeqCst) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        &self.ledger
    }
}

#[async_trait]
impl QuotaLedger for Line {
    async fn register(&self, plan: &Plan) -> Result<Registered, ChangeError> {
        self.reach().await.register(plan).await
    }
    async fn lower(&self, p: PrizeKey, s: campaign::SeqNo, u: u64) -> Result<Changed, ChangeError> {
        self.reach().await.lower(p, s, u).await
    }
    async fn pause(&self, p: PrizeKey, s: campaign::SeqNo) -> Result<Changed, ChangeError> {
        self.reach().await.pause(p, s).await
    }
    async fn resume(&self, p: PrizeKey, s: campaign::SeqNo) -> Result<Changed, ChangeError> {
        self.reach().await.resume(p, s).await
    }
    async fn tick(&self, tick: &Tick) -> Result<TickAnswer, TickError> {
        self.reach().await.tick(tick).await
    }
    async fn begin_epoch(
        &self,
        n: NodeId,
        a: campaign::NodeEpoch,
    ) -> Result<campaign::NodeEpoch, EpochError> {
        self.reach().await.begin_epoch(n, a).await
    }
    async fn end_epoch(&self, n: NodeId, e: campaign::NodeEpoch, r: EndReason) -> Result<bool, EpochError> {
        self.reach().await.end_epoch(n, e, r).await
    }
    async fn record_end_position(
        &self,
        n: NodeId,
        e: campaign::NodeEpoch,
        p: u64,
    ) -> Result<u64, EpochError> {
        self.reach().await.record_end_position(n, e, p).await
    }
    async fn settle(&self, l: LeaseKey, used: &campaign::Ranges) -> Result<Settled, SettleError> {
        self.reach().await.settle(l, used).await
    }
    async fn epochs(&self, n: NodeId) -> Result<Vec<NodeRow>, StoreError> {
        self.reach().await.epochs(n).await
    }
    async fn dead_epochs(&self) -> Result<Vec<NodeRow>, StoreError> {
        self.reach().await.dead_epochs().await
    }
    async fn open_leases(&self, n: NodeId) -> Result<Vec<LeaseRow>, StoreError> {
        self.reach().await.open_leases(n).await
    }
    async fn buckets(&self, n: Option<NodeId>) -> Result<Vec<BucketRow>, StoreError> {
        self.reach().await.buckets(n).await
    }
    async fn prizes(&self, c: CampaignId) -> Result<Vec<PrizeReport>, StoreError> {
        self.reach().await.prizes(c).await
    }
    async fn leases(
        &self,
        c: CampaignId,
        a: Option<LeaseKey>,
        l: usize,
    ) -> Result<Vec<LeaseRow>, StoreError> {
        self.reach().await.leases(c, a, l).await
    }
    async fn prune(&self) -> Result<u64, StoreError> {
        self.reach().await.prune().await
    }
}

/// The lanes as one node reaches them: the line can be cut, so that what it ships is long on its way.
pub struct Wire {
    lanes: MemoryLanes,
    pub cut: AtomicBool,
    /// Calls that are on their way.
    pub under_way: AtomicUsize,
    /// Calls arrive in the order in which they went out.
    turn: tokio::sync::Mutex<()>,
}

#[async_trait]
impl Lanes for Wire {
    async fn end(&self, node: u16) -> Result<LaneState, LaneError> {
        self.lanes.end_now(node)
    }
    async fn ship(&self, node: u16, groups: Vec<Bytes>) -> Result<(), LaneError> {
        self.under_way.fetch_add(1, Ordering::SeqCst);
        let _arrives = Arrives(&self.under_way);
        let _turn = self.turn.lock().await;
        while self.cut.load(Ordering::SeqCst) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        self.lanes.ship_now(node, groups)
    }
    async fn mark_ended(&self, node: u16, epoch: u32, record: &[u8]) -> Result<(), LaneError> {
        self.lanes.mark_ended_now(node, epoch, record)
    }
    async fn read_raw(&self, n: u16, from: Position, max: usize) -> Result<LaneRead<RawGroup>, LaneError> {
        self.lanes.read_raw_now(n, from, max)
    }
}

/// Counts a call off, whatever becomes of it.
struct Arrives<'a>(&'a AtomicUsize);

impl Drop for Arrives<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// A process of a node.
pub struct Life {
    pub node: Arc<ClusterNode>,
    pub started: Started,
    pub line: Arc<Line>,
    pub wire: Arc<Wire>,
    shutdown: Shutdown,
    task: tokio::task::JoinHandle<Result<Exit, RunError>>,
}

impl Life {
    /// The end of one that is asked to stop.
    pub async fn stop(self) -> Exit {
        self.shutdown.request();
        self.task.await.unwrap().unwrap()
    }

    /// The end of one whose epoch was ended.
    pub async fn end(self) -> Exit {
        tokio::time::timeout(Duration::from_secs(120), self.task).await.unwrap().unwrap().unwrap()
    }

    /// Ends it as a kill would: nothing is given back, nothing more is sent.
    pub async fn kill(self) {
        self.task.abort();
        let _ = self.task.await;
        let log = self.node.journal().log().clone();
        tokio::task::spawn_blocking(move || log.close()).await.unwrap().unwrap();
    }
}

/// The cluster.
pub struct World {
    pub ledger: Arc<MemoryLedger>,
    pub lanes: MemoryLanes,
    pub flow: Arc<LaneFlow>,
    pub cache: Arc<MemoryCache>,
    pub roll: Arc<Roll>,
    pub plan: Arc<Plan>,
    pub clock: SharedClock,
    /// By how much all times of the story are longer than it says.
    pace: u64,
    /// Ends what is left of a story that is broken off.
    tasks: Mutex<Vec<tokio::task::AbortHandle>>,
    dir: TempDir,
}

impl Drop for World {
    fn drop(&mut self) {
        self.tasks.lock().iter().for_each(tokio::task::AbortHandle::abort);
    }
}

pub fn seed_key() -> SeedKey {
    SeedKey { id: 1, key: [3; 32] }
}

impl World {
    /// A world whose round opens in `lead_ms` and lasts `ms`, at a pace: all times of its story are so many times longer.
    pub fn new(pace: u64, lead_ms: u64, ms: u64, units: u64) -> World {
        let clock = SystemClock::shared();
        let lanes = MemoryLanes::new(NODES);
        let mut plan = plan(clock.now_ms() + lead_ms * pace, ms * pace, units);
        // What is released while nobody draws must come out by the end.
        plan.rounds[0].prizes.iter_mut().for_each(|prize| prize.catch_up_percent = 500);
        World {
            ledger: Arc::new(MemoryLedger::new(clock.clone())),
            flow: Arc::new(LaneFlow::new(lanes.clone(), NODES)),
            lanes,
            cache: Arc::new(MemoryCache::new(10_000)),
            roll: Roll::new(),
            plan: Arc::new(plan),
            clock,
            pace,
            tasks: Mutex::default(),
            dir: tempfile::tempdir().unwrap(),
        }
    }

    pub fn folder(&self, node: u16) -> PathBuf {
        self.dir.path().join(node.to_string())
    }

    fn config(&self, node: u16, folder: &Path) -> NodeConfig {
        let log = LogOptions { segment_bytes: 1 << 20, ..LogOptions::new(LogKind::FLOW, node) };
        NodeConfig { node: NodeId(node), log: Some(log), ..config(folder) }
    }

    pub async fn try_start(&self, node: u16) -> Result<Life, StartError> {
        self.try_start_in(node, &self.folder(node)).await
    }

    /// Starts a process whose data lie somewhere else.
    pub async fn try_start_in(&self, node: u16, folder: &Path) -> Result<Life, StartError> {
        let line = Arc::new(Line { ledger: Arc::clone(&self.ledger), cut: AtomicBool::new(false) });
        let wire = Arc::new(Wire {
            lanes: self.lanes.clone(),
            cut: AtomicBool::new(false),
            under_way: AtomicUsize::new(0),
            turn: tokio::sync::Mutex::default(),
        });
        let parts = ClusterParts {
            ledger: line.clone(),
            lanes: wire.clone(),
            histories: self.flow.clone(),
            cache: self.cache.clone(),
            members: self.roll.clone(),
            clock: self.clock.clone(),
        };
        let (node, started) = start(self.config(node, folder), parts, |e| panic!("{e}")).await?;
        node.apply(Arc::clone(&self.plan)).await.unwrap();
        let shutdown = Shutdown::new();
        #[allow(clippy::disallowed_methods)] // a test's own task
        let task = tokio::spawn(Arc::clone(&node).run(shutdown.clone()));
        self.tasks.lock().push(task.abort_handle());
        Ok(Life { node, started, line, wire, shutdown, task })
    }

    pub async fn start(&self, node: u16) -> Life {
        self.try_start(node).await.unwrap()
    }

    /// Ms of the round that have passed, by the story's times.
    pub fn at(&self) -> i64 {
        (self.clock.now_ms() as i64 - self.plan.rounds[0].open_ms as i64) / self.pace as i64
    }

    /// What comes next is to begin by this time of the round, and does.
    pub fn by(&self, at_ms: i64, what: &str) -> Result<(), Late> {
        let at = self.at();
        timely(at <= at_ms, || format!("{what}: {at} ms into the round, and not by {at_ms}"))
    }

    pub async fn audit(&self, told: &Told) {
        let seed = seed_key().round_seed(CampaignId(CAMPAIGN), RoundId(1));
        audit(&self.lanes, NODES, &self.plan, seed, told);
    }

    /// Waits until nothing is leased, and audits all laws.
    pub async fn audit_end(&self, told: &Told, all_out: bool) {
        for _ in 0..6_000 {
            let prizes = self.ledger.prizes(CampaignId(CAMPAIGN)).await.unwrap();
            if prizes.iter().all(|p| p.leased == 0) && self.ledger.unsettled().await.unwrap().is_empty() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let seed = seed_key().round_seed(CampaignId(CAMPAIGN), RoundId(1));
        let wins = audit(&self.lanes, NODES, &self.plan, seed, told);
        audit_end(&*self.ledger, &wins, &self.plan, all_out).await;
    }
}

/// Waits for something, at most a while.
pub async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    for _ in 0..24_000 {
        if is_so() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("{what} did not come");
}

/// Users who draw one after the other, wherever the ring says, and ask again with the same draw id when put off.
pub struct Players {
    inbox: Arc<Inbox>,
    /// By user: next counter, when he was last answered, whether he goes on.
    users: BTreeMap<u64, (u32, u64, bool)>,
    pub told: Told,
    /// Longest time without an answer other than 'pending', over all users, ms.
    pub gap_ms: u64,
    pub lost: u64,
    /// The longest turn, or time between two of them, ms.
    turn_ms: u64,
    /// When the last turn ended, ms; 0: there was none.
    ended_ms: u64,
}

/// A turn takes 3 ms and a little. Whoever is kept waiting for so much longer has not played when it counted. In a story at
/// a slower pace it may be longer by as much.
const STARVED_MS: u64 = 300;

impl Players {
    pub fn new(users: std::ops::Range<u64>) -> Players {
        let users = users.map(|user| (user, (1, 0, true))).collect();
        Players {
            inbox: Arc::new(Inbox::new()),
            users,
            told: Told::new(),
            gap_ms: 0,
            lost: 0,
            turn_ms: 0,
            ended_ms: 0,
        }
    }

    /// Whether they have played all the time, so that everything must have been given out (law 6 takes players who come).
    /// On a machine that is busy with other things they may not have.
    pub fn kept_up(&self, world: &World) -> bool {
        self.turn_ms <= STARVED_MS * world.pace
    }

    /// Those who have won all they may come again: whoever owns them now must know it.
    pub fn come_again(&mut self) {
        self.users.values_mut().for_each(|user| user.2 = true);
    }

    /// Forgets the gaps so far.
    pub fn measure(&mut self, now_ms: u64) {
        self.gap_ms = 0;
        self.users.values_mut().for_each(|u| u.1 = now_ms);
    }

    /// Everybody submits once to the node that the ring names, and takes what answers there are.
    pub async fn turn(&mut self, world: &World, nodes: &[&ClusterNode]) {
        let Ok(ring) = world.roll.current().ring() else { return };
        let by_number: BTreeMap<u16, &ClusterNode> = nodes.iter().map(|n| (n.status().node, *n)).collect();
        let mut batches: BTreeMap<u16, Vec<SubmitCall>> = BTreeMap::new();
        for (&user, &(counter, _, goes_on)) in &self.users {
            if goes_on {
                let call = SubmitCall {
                    user,
                    counter,
                    campaign: CAMPAIGN,
                    round: 1,
                    shakes: 2,
                    ..SubmitCall::default()
                };
                batches.entry(ring.owner(bucket_of(user))).or_default().push(call);
            }
        }
        let mut out = Vec::new();
        for (number, calls) in batches {
            if let Some(node) = by_number.get(&number) {
                node.submit(&calls, &self.inbox, &mut out);
            }
        }
        tokio::time::sleep(Duration::from_millis(3)).await;
        self.inbox.take(&mut out, Waker::noop());
        let now_ms = world.clock.now_ms();
        out.into_iter().for_each(|reply| self.hear(reply, now_ms));
    }

    fn hear(&mut self, reply: SubmitReply, now_ms: u64) {
        let Some((counter, since_ms, goes_on)) = self.users.get_mut(&reply.user) else { return };
        if reply.outcome == Outcome::Pending {
            return;
        }
        if *since_ms > 0 && *goes_on {
            self.gap_ms = self.gap_ms.max(now_ms - *since_ms);
        }
        *since_ms = now_ms;
        match reply.outcome {
            Outcome::Won => {
                let award = reply.award.unwrap().award;
                let before = self.told.insert((reply.user, reply.counter), award.clone());
                assert!(before.is_none_or(|b| b == award), "one draw id, two prizes");
                *counter = (*counter).max(reply.next_counter);
            }
            Outcome::Lost => {
                self.lost += 1;
                *counter = (*counter).max(reply.next_counter);
            }
            Outcome::LimitReached => *goes_on = false,
            _ => {}
        }
    }

    /// Plays until the round has run so long.
    pub async fn play(&mut self, world: &World, nodes: &[&ClusterNode], until_ms: i64) {
        while world.at() < until_ms {
            let began_ms = if self.ended_ms == 0 { world.clock.now_ms() } else { self.ended_ms };
            self.turn(world, nodes).await;
            self.ended_ms = world.clock.now_ms();
            self.turn_ms = self.turn_ms.max(self.ended_ms.saturating_sub(began_ms));
        }
    }
}
