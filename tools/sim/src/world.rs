//! The world: virtual time, a heap of what happens when, and everything that lives in it.
//!
//! One thread and one seed. Each event is a step of one component; between two of them anything may be killed.

use crate::cluster::{Cluster, ClusterStep, MachineStep};
use crate::config::{Config, Planted};
use crate::delivery::{DeliverySide, DeliveryStep};
use crate::flow::{FlowSide, FlowStep};
use crate::link::LedgerLetter;
use crate::plan::{self, OPEN_MS};
use crate::players::{Player, PlayerStep};
use crate::records::Told;
use crate::single::{NodeSide, NodeStep};
use crate::trace::Trace;
use crate::vendor::{SimVendor, VendorStep};
use campaign::{NodeId, Plan, SeqNo};
use futures_util::FutureExt as _;
use lottery::grey::Grey;
use lottery::ledger::{MemoryLedger, PrizeKey};
use runtime::{Clock, ManualClock};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;
use testkit::{SimDisk, SimRng};

/// The world begins so long before the first round.
const LEAD_MS: u64 = 1_500;
/// Virtual time that the platform gets to come to rest when the campaign is over.
const DRAIN_MAX_MS: u64 = 300_000;
/// Nothing goes wrong from so long before the end of a round, in a calm world.
const CALM_BEFORE_MS: u64 = 5_000;
/// ... with several nodes: what a dead one held comes back only when its session has died and its lane was read.
const CALM_CLUSTER_MS: u64 = 8_000;
/// ... until so long behind it.
const CALM_BEHIND_MS: u64 = 800;
/// A kill comes behind one step of so many ...
const KILL_ONE_IN: u64 = 500;
/// ... and behind one of so many delicate ones.
pub(crate) const DELICATE_ONE_IN: u64 = 25;
/// Events after which a run is given up: a loop that makes no progress.
const EVENTS_MAX: u64 = 2_000_000;

/// Something that happens.
pub(crate) enum Event {
    /// A step of the only node in one of its lives.
    Node(u32, NodeStep),
    /// A step of one of several nodes: which machine, in which of its lives.
    Machine(usize, u32, MachineStep),
    /// Something between several nodes.
    Cluster(ClusterStep),
    /// A call reaches the ledger.
    Ledger(Box<LedgerLetter>),
    /// A step of flow in one of its lives.
    Flow(u32, FlowStep),
    /// A step of delivery in one of its lives.
    Delivery(u32, DeliveryStep),
    /// Something happens at a vendor.
    Vendor(VendorStep),
    /// Something happens at a player's.
    Player(usize, PlayerStep),
    /// The operator changes something.
    Operator,
    /// The operator ends a pause or a limit of speed.
    Resume(PrizeKey),
    /// Somebody looks for epochs that died without a word.
    Reaper,
    /// The ledger goes away for a while.
    Outage,
}

struct Entry {
    at: u64,
    /// Random: what happens in the same millisecond happens in any order.
    order: u64,
    number: u64,
    event: Event,
}

impl Entry {
    fn key(&self) -> (u64, u64, u64) {
        (self.at, self.order, self.number)
    }
}

impl PartialEq for Entry {
    fn eq(&self, other: &Entry) -> bool {
        self.key() == other.key()
    }
}
impl Eq for Entry {}
impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Entry) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Entry {
    fn cmp(&self, other: &Entry) -> std::cmp::Ordering {
        self.key().cmp(&other.key())
    }
}

/// Everything there is.
pub(crate) struct World {
    pub config: Config,
    pub planted: Planted,
    pub rng: SimRng,
    pub clock: Arc<ManualClock>,
    heap: BinaryHeap<Reverse<Entry>>,
    number: u64,
    pub trace: Trace,
    /// Plans in the order of their SeqNos; the last one is in force.
    pub plans: Vec<Arc<Plan>>,
    /// The plan that is tried beside it on some of the players, and all that ever were.
    pub grey: Option<Grey>,
    pub greys: Vec<Arc<Plan>>,
    pub seq_no: u64,
    /// The only node's disk.
    pub disk: SimDisk,
    pub ledger: Arc<MemoryLedger>,
    pub outage_until: u64,
    /// The only node.
    pub node: NodeSide,
    /// Several nodes, in its place.
    pub cluster: Cluster,
    pub flow: FlowSide,
    pub delivery: DeliverySide,
    pub vendor: SimVendor,
    pub players: Vec<Player>,
    pub kills_left: u32,
    /// The step just done was one behind which a kill hurts most: something is known elsewhere, or half written.
    /// The kill then comes once in so many, and to that node.
    pub delicate: Option<(u64, NodeId)>,
    /// Nothing goes wrong towards the ends of rounds.
    pub calm: bool,
    /// The campaign is over: nothing goes wrong any more.
    pub draining: bool,
    pub told: Vec<Told>,
    pub counters: crate::Counters,
    /// What may not happen: a component that refuses to go on.
    pub problems: Vec<String>,
}

/// A future of an adapter that never waits.
pub(crate) fn now<T>(future: impl Future<Output = T>) -> T {
    match future.now_or_never() {
        Some(done) => done,
        None => unreachable!("the adapters of the simulation never wait"),
    }
}

impl World {
    pub fn new(seed: u64, config: Config) -> World {
        let mut rng = SimRng::new(seed ^ 0x05ee_d0fa_11ed);
        let clock = ManualClock::new(OPEN_MS - LEAD_MS);
        let plan = Arc::new(plan::plan(&mut rng, &config));
        let disk = SimDisk::new(rng.next_u64());
        let planted = config.planted();
        disk.set_ignore_sync(planted.no_sync);
        let ledger = Arc::new(MemoryLedger::new(clock.clone()));
        let players = 1 + config.players / 2 + rng.below(config.players / 2);
        let players = (0..players).map(|_| Player::new(&mut rng)).collect();
        let flow = FlowSide::new(clock.clone(), &plan, planted.behind_ended);
        let cluster = Cluster::new(&flow.queue, planted.behind_ended);
        let calm = rng.one_in(2);
        World {
            kills_left: rng.below(u64::from(config.kills) + 1) as u32,
            delicate: None,
            planted,
            config,
            clock,
            heap: BinaryHeap::new(),
            number: 0,
            trace: Trace::new(),
            plans: vec![plan],
            grey: None,
            greys: Vec::new(),
            seq_no: 1,
            disk,
            ledger,
            outage_until: 0,
            node: NodeSide::new(),
            cluster,
            delivery: DeliverySide::new(),
            vendor: SimVendor::new(rng.next_u64()),
            flow,
            players,
            calm,
            draining: false,
            told: Vec::new(),
            counters: crate::Counters::default(),
            problems: Vec::new(),
            rng,
        }
    }

    pub fn now_ms(&self) -> u64 {
        self.clock.now_ms()
    }

    pub fn plan(&self) -> Arc<Plan> {
        // There is always the first one.
        Arc::clone(&self.plans[self.plans.len() - 1])
    }

    pub fn next_seq_no(&mut self) -> SeqNo {
        self.seq_no += 1;
        SeqNo(self.seq_no)
    }

    /// A number from `low` to `high`, both included.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.rng.below(high - low + 1)
    }

    /// True once in `n` times, while things may go wrong; `n` = 0: never.
    pub fn trouble(&mut self, n: u64) -> bool {
        n > 0 && self.may_go_wrong() && self.rng.one_in(n)
    }

    pub fn push(&mut self, in_ms: u64, event: Event) {
        self.number += 1;
        let entry =
            Entry { at: self.now_ms() + in_ms, order: self.rng.next_u64(), number: self.number, event };
        self.heap.push(Reverse(entry));
    }

    /// Adds a line to the trace.
    pub fn note(&mut self, what: std::fmt::Arguments<'_>) {
        let at = self.now_ms() - (OPEN_MS - LEAD_MS);
        self.trace.add(at, what);
    }

    /// Something that may not happen.
    pub fn problem(&mut self, what: String) {
        self.note(format_args!("PROBLEM {what}"));
        if self.problems.len() < 20 {
            self.problems.push(what);
        }
    }

    fn end_ms(&self) -> u64 {
        self.plans[0].rounds.last().map_or(OPEN_MS, |r| r.close_ms)
    }

    /// May something break now?
    pub fn may_go_wrong(&self) -> bool {
        let now_ms = self.now_ms();
        let before_ms = if self.cluster.is_on() { CALM_CLUSTER_MS } else { CALM_BEFORE_MS };
        let near_end = |close_ms: u64| now_ms + before_ms > close_ms && now_ms < close_ms + CALM_BEHIND_MS;
        let is_calm_now = self.calm && self.plans[0].rounds.iter().any(|r| near_end(r.close_ms));
        !self.draining && !is_calm_now
    }

    /// Runs the campaign, and then until everything has come to rest.
    pub fn run(&mut self) {
        self.start();
        let end_ms = self.end_ms() + 1_500;
        while self.step(end_ms) {}
        self.drain(end_ms);
    }

    fn start(&mut self) {
        if self.config.nodes > 1 {
            self.cluster_begins();
        } else {
            self.node_restart(0);
            self.push(1_000, Event::Reaper);
        }
        self.flow_restart(0);
        self.delivery_restart(0);
        for i in 0..self.players.len() {
            let wait = self.between(0, LEAD_MS);
            self.push(wait, Event::Player(i, PlayerStep::Enter));
            let wait = self.between(0, 12_000);
            self.push(wait, Event::Player(i, PlayerStep::Register));
        }
        let wait = self.between(500, 3_000);
        self.push(wait, Event::Operator);
        if self.rng.one_in(4) {
            let wait = self.between(1_000, 10_000);
            self.push(wait, Event::Outage);
        }
    }

    /// Everything is repaired and stays so; steps until nobody has anything left to do.
    fn drain(&mut self, end_ms: u64) {
        self.draining = true;
        self.outage_until = 0;
        self.note(format_args!("the campaign is over"));
        while self.now_ms() < end_ms + DRAIN_MAX_MS {
            let until = self.now_ms() + 1_000;
            while self.step(until) {}
            if self.problems.len() >= 20 || self.trace.events() > EVENTS_MAX {
                return;
            }
            if self.at_rest() && self.now_ms() > end_ms + 2 * plan::TERM_MS {
                if !self.cluster.is_on() {
                    self.node_stop_for_good();
                }
                return;
            }
        }
        let restless = self.restless();
        self.problem(format!("the platform did not come to rest: {restless}"));
    }

    /// Who has something left to do.
    fn restless(&self) -> String {
        let mut who = match self.cluster.is_on() {
            true => self.cluster_restless(),
            false if self.node_at_rest() => Vec::new(),
            false => vec!["the lottery node".to_owned()],
        };
        who.extend((!self.flow_at_rest()).then(|| "flow".to_owned()));
        who.extend((!self.delivery_at_rest()).then(|| "delivery".to_owned()));
        who.join("; ")
    }

    fn at_rest(&self) -> bool {
        let nodes = if self.cluster.is_on() { self.cluster_at_rest() } else { self.node_at_rest() };
        nodes && self.flow_at_rest() && self.delivery_at_rest()
    }

    /// Does the next event if it is due before `until_ms`.
    fn step(&mut self, until_ms: u64) -> bool {
        if self.heap.peek().is_none_or(|Reverse(e)| e.at >= until_ms) || self.trace.events() > EVENTS_MAX {
            let now_ms = self.now_ms();
            self.clock.advance_ms(until_ms.saturating_sub(now_ms));
            return false;
        }
        let Some(Reverse(entry)) = self.heap.pop() else { return false };
        self.clock.advance_ms(entry.at - self.now_ms());
        self.trace.mix(entry.at, entry.order);
        match entry.event {
            Event::Node(life, step) => self.node_step(life, step),
            Event::Machine(m, life, step) => self.machine_step(m, life, step),
            Event::Cluster(step) => self.cluster_step(step),
            Event::Ledger(letter) => self.ledger_takes(*letter),
            Event::Flow(life, step) => self.flow_step(life, step),
            Event::Delivery(life, step) => self.delivery_step(life, step),
            Event::Vendor(step) => self.vendor_step(step),
            Event::Player(i, step) => self.player_step(i, step),
            Event::Operator => self.operator_acts(),
            Event::Resume(key) => self.operator_resumes(key),
            Event::Reaper => self.reaper_looks(),
            Event::Outage => self.outage_begins(),
        }
        self.maybe_kill();
        true
    }

    /// Kills something between two steps, once in a while; the node more often where it hurts most.
    fn maybe_kill(&mut self) {
        if self.kills_left == 0 || !self.may_go_wrong() {
            self.delicate = None;
            return;
        }
        if let Some((n, node)) = self.delicate.take()
            && self.rng.one_in(n)
        {
            self.kills_left -= 1;
            self.counters.kills += 1;
            return self.kill_node(node);
        }
        if !self.rng.one_in(KILL_ONE_IN) {
            return;
        }
        self.kills_left -= 1;
        self.counters.kills += 1;
        match self.rng.below(5) {
            0 => self.flow_kill(),
            1 => self.delivery_kill(),
            2 => {
                let (operations, node) = (self.rng.below(12), self.some_node());
                self.note(format_args!(
                    "the power of node {node} will fail after {operations} operations of its disk"
                ));
                self.disk_of(node).go_down_after(operations);
            }
            _ => {
                let node = self.some_node();
                self.kill_node(node);
            }
        }
    }

    fn some_node(&mut self) -> NodeId {
        if self.cluster.is_on() { self.cluster.some_node(&mut self.rng) } else { plan::NODE }
    }

    fn disk_of(&self, node: NodeId) -> &SimDisk {
        if self.cluster.is_on() { self.cluster.disk(node) } else { &self.disk }
    }

    fn kill_node(&mut self, node: NodeId) {
        let power = self.rng.one_in(2);
        if self.cluster.is_on() { self.machine_kill(node, power) } else { self.node_kill(power) }
    }

    fn reaper_looks(&mut self) {
        use lottery::ledger::QuotaLedger as _;
        let ledger = Arc::clone(&self.ledger);
        for row in now(ledger.dead_epochs()).unwrap_or_default() {
            let (node, epoch) = (campaign::NodeId(row.node), campaign::NodeEpoch(row.epoch));
            let ended = now(ledger.end_epoch(node, epoch, ownership::EndReason::Expired));
            self.note(format_args!("somebody ends epoch {epoch}, which is dead: {ended:?}"));
        }
        if !self.draining {
            let wait = self.between(300, 2_000);
            self.push(wait, Event::Reaper);
        }
    }

    fn outage_begins(&mut self) {
        if self.may_go_wrong() && !self.calm {
            let length = self.between(500, 5_000);
            self.outage_until = self.now_ms() + length;
            self.note(format_args!("the ledger is away for {length} ms"));
        }
    }
}
