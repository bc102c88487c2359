//! A node in virtual time: the core and the state machines of a real one, one small step after the other.

use super::disk::{Disk, Log};
use super::flow::LaneFlow;
use crate::changes::world::{mac_keys, seed_key};
use campaign::{NodeEpoch, NodeId, Plan};
use futures_util::FutureExt as _;
use hashring::Ring;
use lottery::core::{Core, CoreConfig, Want, WinLog as _};
use lottery::ledger::{EpochError, MemoryLedger, QuotaLedger, Tick, TickError};
use lottery::node::cluster::buckets::Buckets;
use lottery::node::cluster::histories::{Wanted, checked};
use lottery::node::cluster::shipping::Shipping;
use lottery::node::cluster::undertaker::{Case, Step, Watch};
use lottery::node::leases::{Leases, Progress};
use lottery::node::session::Session;
use ownership::EndReason;
use parking_lot::Mutex;
use protocol::calls::{Inbox, PastWin, SubmitCall, SubmitReply};
use queue::Position;
use queue::lanes::memory::MemoryLanes;
use records::{Ended, EpochBegan, Record};
use runtime::{Clock, ManualClock};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::task::Waker;

/// What a ready future gives. Everything in memory is ready.
pub fn now<T>(future: impl Future<Output = T>) -> T {
    future.now_or_never().expect("nothing waits in memory")
}

/// What all nodes share.
#[derive(Clone)]
pub struct Shared {
    pub clock: Arc<ManualClock>,
    pub ledger: Arc<MemoryLedger>,
    pub lanes: MemoryLanes,
    pub flow: Arc<LaneFlow>,
    pub plan: Arc<Plan>,
    pub inbox: Arc<Inbox>,
}

/// A question about users' wins whose answer is under way: call, users, answer, when it comes.
type Answer = (u64, Vec<Want>, Vec<Vec<PastWin>>, u64);

/// A process of the node.
struct Life {
    epoch: NodeEpoch,
    core: Arc<Core>,
    log: Arc<Log>,
    session: Arc<Session>,
    leases: Leases,
    buckets: Buckets,
    shipping: Shipping,
    /// Answers of the lane: whether it arrived, and when the node hears it.
    shipped: VecDeque<(bool, u64)>,
    wanted: Wanted,
    answers: Vec<Answer>,
    unanswered: Option<Tick>,
    watch: Watch,
    case: Option<Case>,
}

pub struct Node {
    pub id: NodeId,
    disk: Arc<Mutex<Disk>>,
    life: Option<Life>,
    /// Stopped until this instant: it does nothing, and what is said to it waits at its door.
    pub asleep_until_ms: u64,
    door: Vec<SubmitCall>,
    /// The next answer to a tick is lost.
    pub lose_answer: bool,
    /// Wanted up.
    pub wanted_up: bool,
}

impl Node {
    pub fn new(id: u16) -> Node {
        Node {
            id: NodeId(id),
            disk: Arc::new(Mutex::new(Disk::empty(id, 0))),
            life: None,
            asleep_until_ms: 0,
            door: Vec::new(),
            lose_answer: false,
            wanted_up: true,
        }
    }

    pub fn serving(&self) -> usize {
        self.life.as_ref().map_or(0, |l| l.buckets.counts().open)
    }

    /// The process ends. What was written and not synced may have reached the disk.
    pub fn kill(&mut self, keep: bool) {
        if let Some(life) = self.life.take()
            && keep
        {
            life.log.sync();
        }
        self.asleep_until_ms = 0;
        self.door.clear();
    }

    /// The machine is replaced: another disk, with nothing on it.
    pub fn replace(&mut self) {
        self.kill(false);
        self.disk = Arc::new(Mutex::new(Disk::empty(self.id.0, 0)));
    }

    /// As the real start does; `None`: not yet.
    pub fn try_start(&mut self, shared: &Shared) -> Option<()> {
        let Shared { ledger, lanes, .. } = shared;
        let lane = lanes.end_now(self.id.0).unwrap();
        let epochs = now(ledger.epochs(self.id)).unwrap();
        let fresh = self.disk.lock().groups.is_empty();
        if let Some(row) = epochs.last() {
            let epoch = NodeEpoch(row.epoch);
            if row.is_open() && !fresh && self.disk.lock().epoch == row.epoch {
                let rest = self.disk.lock().of(row.epoch, lane.next.0, u64::MAX);
                // Repeated until the lane has it.
                while !rest.is_empty() && lanes.ship_now(self.id.0, rest.clone()).is_err() {}
            } else if row.is_open() {
                match now(ledger.end_epoch(self.id, epoch, EndReason::Expired)) {
                    Err(EpochError::End(_)) => return None,
                    ended => drop(ended.unwrap()),
                }
            }
            now(ledger.end_epoch(self.id, epoch, EndReason::BySelf)).unwrap();
            let row = now(ledger.epochs(self.id)).unwrap().pop()?;
            let mut case = Case::new(&row);
            while case.step() != Step::Done {
                bury(&mut case, shared);
            }
        }
        let lane = lanes.end_now(self.id.0).unwrap();
        let mut disk = self.disk.lock();
        if fresh {
            *disk = Disk::empty(self.id.0, lane.next.0);
        }
        while disk.next < lane.next.0 {
            disk.fill();
        }
        let above = disk.epoch.max(lane.epoch).max(lane.ended_up_to);
        let epoch = now(ledger.begin_epoch(self.id, NodeEpoch(above))).unwrap();
        let first = disk.next;
        disk.begin_epoch(epoch.0);
        disk.write(&[EpochBegan { node: self.id, epoch, time_ms: 0 }.encode()]);
        drop(disk);
        self.live(shared, epoch, first);
        Some(())
    }

    fn live(&mut self, shared: &Shared, epoch: NodeEpoch, first: u64) {
        let session = Arc::new(Session::default());
        let log =
            Arc::new(Log::new(Arc::clone(&self.disk), first, Arc::clone(&session), shared.clock.clone()));
        let config = CoreConfig {
            node: self.id,
            epoch,
            shards: 2,
            users_max: 50_000,
            mac_keys: mac_keys(),
            seed_keys: vec![seed_key()],
        };
        let core = Arc::new(Core::new(config, log.clone()));
        core.apply(Arc::clone(&shared.plan)).unwrap();
        self.life = Some(Life {
            epoch,
            core,
            log,
            session,
            leases: Leases::new(self.id, epoch).beside_others(),
            buckets: Buckets::new(self.id.0),
            shipping: Shipping::new(first),
            shipped: VecDeque::new(),
            wanted: Wanted::default(),
            answers: Vec::new(),
            unanswered: None,
            watch: Watch::default(),
            case: None,
        });
    }

    /// Calls come in; answers that can be given at once.
    pub fn submit(&mut self, calls: &[SubmitCall], shared: &Shared) -> Vec<SubmitReply> {
        if shared.clock.now_ms() < self.asleep_until_ms {
            self.door.extend_from_slice(calls);
            return Vec::new();
        }
        let Some(life) = &self.life else { return Vec::new() };
        let mono_ns = shared.clock.mono_ns();
        // As `ClusterNode::submit` does; here no time passes between the two looks at the session.
        if !life.session.is_valid(mono_ns) {
            return Vec::new();
        }
        let mut out = Vec::new();
        life.core.submit(life.session.now(mono_ns), calls, &shared.inbox, &mut out);
        out
    }

    /// A step of 20 ms, the `n`-th of the world.
    pub fn step(&mut self, n: u64, ring: &Ring, living: &[u16], shared: &Shared) -> Vec<SubmitReply> {
        let now_ms = shared.clock.now_ms();
        if now_ms < self.asleep_until_ms {
            return Vec::new();
        }
        if self.life.is_none() && self.wanted_up && n.is_multiple_of(5) {
            self.try_start(shared);
        }
        let calls = std::mem::take(&mut self.door);
        let replies = self.submit(&calls, shared);
        let (id, lose) = (self.id, &mut self.lose_answer);
        let Some(life) = &mut self.life else { return replies };
        let phase = n + u64::from(id.0) * 3;
        if !phase.is_multiple_of(4) {
            life.log.sync();
        }
        life.ship(id, now_ms, shared);
        if phase.is_multiple_of(11) {
            life.buckets.follow(ring);
        }
        life.store(now_ms, shared);
        let ticks = phase.is_multiple_of(5) || (phase.is_multiple_of(2) && life.is_moving());
        if ticks && !life.tick(id, lose, shared) {
            // Others have ended the epoch: the process starts anew.
            self.life = None;
            return replies;
        }
        life.see_to_the_dead(id, phase, living, shared);
        replies
    }
}

impl Life {
    fn ship(&mut self, id: NodeId, now_ms: u64, shared: &Shared) {
        while self.shipped.front().is_some_and(|(_, at)| *at <= now_ms) {
            let Some((arrived, _)) = self.shipped.pop_front() else { break };
            if let Some(end) = self.shipping.answered(arrived) {
                self.log.acknowledge(end);
            }
        }
        if !self.session.is_valid(shared.clock.mono_ns()) {
            return;
        }
        let durable = self.log.disk.lock().next;
        // A call that fails takes those behind it along, as the port promises.
        let failing = self.shipped.iter().any(|(arrived, _)| !arrived);
        if let Some(groups) = self.shipping.next(durable).filter(|_| !failing) {
            let bytes = self.log.disk.lock().of(self.epoch.0, groups.start, groups.end);
            self.shipping.send(groups.end);
            let arrived = shared.lanes.ship_now(id.0, bytes).is_ok();
            self.shipped.push_back((arrived, now_ms + 20 + now_ms % 3 * 20));
        }
    }

    fn store(&mut self, now_ms: u64, shared: &Shared) {
        let lanes: Vec<u16> = self.buckets.waits_for().into_iter().collect();
        if !lanes.is_empty() {
            let positions: BTreeMap<u16, u64> = shared.flow.passed_now(&lanes).into_iter().collect();
            self.buckets.passed(&positions, &*self.core);
        }
        self.wanted.add(self.core.take_wanted(self.wanted.room()));
        while let Some(ask) = self.wanted.ask() {
            let asked: Vec<_> = ask.wants.iter().map(|w| (w.user, w.campaign)).collect();
            let due_ms = now_ms + (now_ms / 20 + ask.id) % 5 * 40;
            self.answers.push((ask.id, ask.wants, shared.flow.wins_now(&asked), due_ms));
        }
        let (due, later): (Vec<Answer>, Vec<Answer>) =
            std::mem::take(&mut self.answers).into_iter().partition(|a| a.3 <= now_ms);
        self.answers = later;
        for (id, wants, answer, _) in due {
            for (want, wins) in wants.iter().zip(checked(&wants, answer).unwrap()) {
                self.core.restore(want, wins);
            }
            self.wanted.done(id);
        }
    }

    fn is_moving(&mut self) -> bool {
        let (seals, claims) = self.buckets.asks(self.log.acknowledged());
        !seals.is_empty() || !claims.is_empty()
    }

    /// False: the epoch has ended.
    fn tick(&mut self, id: NodeId, lose: &mut bool, shared: &Shared) -> bool {
        let acknowledged = self.log.acknowledged();
        if self.buckets.looks() && self.unanswered.is_none() {
            self.buckets.rows(&now(shared.ledger.buckets(None)).unwrap());
        }
        let now_ms = self.session.now(shared.clock.mono_ns()).ms;
        let tick = self.unanswered.take().unwrap_or_else(|| {
            self.buckets.hold(&*self.core);
            let (seals, claims) = self.buckets.asks(acknowledged);
            let (progress, stop) = (Progress { acknowledged }, !self.buckets.is_serving());
            let leases = self.leases.tick(&self.core, now_ms, progress, stop, &mut &*self.log);
            Tick { seals, claims, ..leases }
        });
        let sent_ns = shared.clock.mono_ns();
        match now(shared.ledger.tick(&tick)) {
            Ok(_) if std::mem::take(lose) => self.unanswered = Some(tick),
            Ok(answer) => {
                self.session.renew(sent_ns, sent_ns, answer.now_ms);
                self.leases.answered(&self.core, &tick, &answer, &mut &*self.log);
                self.buckets.answered(&tick.seals, &answer, &*self.core);
            }
            Err(TickError::Session(_)) => {
                self.session.end();
                return false;
            }
            Err(error) => panic!("node {id}: {error}"),
        }
        true
    }

    fn see_to_the_dead(&mut self, id: NodeId, phase: u64, living: &[u16], shared: &Shared) {
        if let Some(case) = &mut self.case {
            bury(case, shared);
            self.case.take_if(|case| case.step() == Step::Done);
        } else if phase.is_multiple_of(13) && self.session.is_valid(shared.clock.mono_ns()) {
            let mut found = now(shared.ledger.dead_epochs()).unwrap();
            found.extend(now(shared.ledger.unsettled()).unwrap());
            let now_ms = shared.clock.mono_ns() / 1_000_000;
            self.case = self.watch.due(id.0, &found, living, now_ms).first().map(Case::new);
        }
    }
}

/// The next step of a case. One that fails is tried again.
fn bury(case: &mut Case, shared: &Shared) {
    let (node, epoch) = (case.node(), case.epoch());
    let Shared { ledger, lanes, .. } = shared;
    match case.step() {
        Step::End => {
            if now(ledger.end_epoch(node, epoch, EndReason::Expired)).is_ok() {
                case.ended();
            }
        }
        Step::Mark => {
            if lanes.mark_ended_now(node.0, epoch.0, &Ended { node, epoch }.encode()).is_ok() {
                case.marked();
            }
        }
        Step::Read(from) => {
            let read = lanes.read_raw_now(node.0, Position(from), 7).unwrap();
            let groups: Vec<_> = read.groups.iter().map(|raw| raw.group()).collect();
            case.read(&groups, read.at_end).unwrap();
        }
        Step::Record(position) => {
            now(ledger.record_end_position(node, epoch, position)).unwrap();
            case.recorded();
        }
        Step::Leases => case.leases(now(ledger.open_leases(node)).unwrap()),
        Step::Settle(key, used) => {
            now(ledger.settle(key, &used)).unwrap();
            case.settled(key);
        }
        Step::Done => {}
    }
}

/// Late answers of all nodes.
pub fn late(shared: &Shared) -> Vec<SubmitReply> {
    let mut out = Vec::new();
    shared.inbox.take(&mut out, Waker::noop());
    out
}
