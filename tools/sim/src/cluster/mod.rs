//! Several lottery nodes: machines with disks and clocks of their own, the lanes that they ship their logs into, and
//! the front doors that route players to them.
//!
//! The nodes' own state machines (`lottery::node::cluster`) are driven here as the node drives them. What is between them
//! and the world (calls that are lost, late or doubled, processes that stand still, clocks that differ) is simulated.

mod arrange;
mod asking;
mod calls;
mod clock;
mod lanes;
mod machine;
mod members;
mod start;
mod undertaking;
mod work;

pub(crate) use machine::MachineStep;

use crate::config::Planted;
use crate::log::Todo;
use crate::plan::CAMPAIGN;
use crate::world::{Event, World, now};
use asking::{Entries, Question};
use calls::Letter;
use campaign::NodeId;
use hashring::bucket_of;
use lanes::Shipment;
use lottery::core::BUCKETS;
use lottery::ledger::QuotaLedger as _;
use lottery::node::cluster::cache::{HistoryCache as _, MemoryCache};
use machine::Machine;
use members::{MemberTable, POLL_MS, View};
use protocol::calls::SubmitCall;
use queue::lanes::memory::MemoryLanes;
use testkit::{SimDisk, SimRng};

/// Most nodes there can be, and one more: lanes count from 0, nodes from 1.
pub(crate) const LANES: u16 = 8;
/// Users in the cache: too few for all.
const CACHE_MAX: usize = 30;
/// Front doors.
const DOORS: usize = 2;

/// Something between several nodes.
pub(crate) enum ClusterStep {
    /// Something goes wrong, or is changed.
    Arrange,
    /// Groups land in a lane.
    Lands(Box<Shipment>),
    /// A call comes to ledger or lane.
    Calls(Box<Letter>),
    /// A question comes to flow.
    Asked(Box<Question>),
    /// Entries come into the cache.
    Cached(Entries),
    /// A front door looks for members.
    Door(usize),
}

/// Several nodes; empty where there is only one.
pub(crate) struct Cluster {
    pub machines: Vec<Machine>,
    pub lanes: MemoryLanes,
    pub members: MemberTable,
    pub members_hang_until: u64,
    /// One for all nodes: what another has put there must do no harm.
    pub cache: MemoryCache,
    doors: Vec<View>,
}

impl Cluster {
    #[cfg_attr(not(feature = "planted"), allow(unused_variables))]
    pub fn new(queue: &queue::memory::MemoryQueue, accepts_ended: bool) -> Cluster {
        let lanes = MemoryLanes::new(LANES).feeding(queue);
        #[cfg(feature = "planted")]
        for node in (0..LANES).filter(|_| accepts_ended) {
            // There is a lane of every number below that.
            let _ = lanes.plant_accept_ended(node);
        }
        Cluster {
            machines: Vec::new(),
            lanes,
            members: MemberTable::default(),
            members_hang_until: 0,
            cache: MemoryCache::new(CACHE_MAX),
            doors: vec![View::new(); DOORS],
        }
    }

    /// There are several nodes.
    pub fn is_on(&self) -> bool {
        !self.machines.is_empty()
    }

    pub fn index(&self, node: NodeId) -> Option<usize> {
        self.machines.iter().position(|m| m.node == node)
    }

    /// Machines that are not gone for ever.
    pub fn living(&self) -> usize {
        self.machines.iter().filter(|m| !m.is_dead).count()
    }

    pub fn some_node(&self, rng: &mut SimRng) -> NodeId {
        self.machines[rng.below(self.machines.len() as u64) as usize].node
    }

    pub fn is_writing(&self, node: NodeId) -> bool {
        let machine = self.index(node).and_then(|m| self.machines[m].up_ref());
        machine.is_some_and(|up| up.log.todo() != Todo::Nothing)
    }

    pub fn disk(&self, node: NodeId) -> &SimDisk {
        // Whoever names a node has it from here.
        &self.machines[self.index(node).unwrap_or(0)].disk
    }

    /// Every lane, message by message, as it stands in the queue.
    pub fn messages(&self) -> Vec<(NodeId, Vec<Vec<u8>>)> {
        let lane = |node: u16| self.lanes.messages(node).unwrap_or_default();
        (0..LANES).map(|n| (NodeId(n), lane(n).iter().map(|m| m.to_vec()).collect())).collect()
    }
}

impl World {
    /// The first machines and both front doors begin.
    pub fn cluster_begins(&mut self) {
        for _ in 0..self.config.nodes {
            let m = self.machine_added();
            self.machine_restart(m, 0);
        }
        for door in 0..DOORS {
            self.push(1, Event::Cluster(ClusterStep::Door(door)));
        }
        let wait = self.between(1_000, 3_000);
        self.push(wait, Event::Cluster(ClusterStep::Arrange));
    }

    pub fn machine_added(&mut self) -> usize {
        let m = self.cluster.machines.len();
        let machine = Machine::new(NodeId(m as u16 + 1), self.clock.clone(), &mut self.rng);
        self.cluster.machines.push(machine);
        m
    }

    pub fn cluster_step(&mut self, step: ClusterStep) {
        match step {
            ClusterStep::Arrange => self.arrange(),
            ClusterStep::Lands(shipment) => self.shipment_lands(*shipment),
            ClusterStep::Calls(letter) => self.call_comes(*letter),
            ClusterStep::Asked(question) => self.flow_is_asked(*question),
            ClusterStep::Cached(entries) => self.cluster.cache.put(entries),
            ClusterStep::Door(door) => {
                let now_ms = self.now_ms();
                if now_ms >= self.cluster.members_hang_until {
                    self.cluster.members.look(&mut self.cluster.doors[door], now_ms);
                }
                self.push(POLL_MS, Event::Cluster(ClusterStep::Door(door)));
            }
        }
    }

    /// A player's entry comes to a front door and goes on to the node that the door believes to own his bucket.
    pub fn cluster_takes(&mut self, wait: u64, call: SubmitCall) {
        let door = self.rng.below(DOORS as u64) as usize;
        let Some(ring) = &self.cluster.doors[door].ring else { return };
        let node = NodeId(ring.owner(bucket_of(call.user)));
        let Some(m) = self.cluster.index(node) else { return };
        let machine = &self.cluster.machines[m];
        if machine.is_up() {
            self.push(wait, Event::Machine(m, machine.life, MachineStep::Takes(vec![call])));
        }
    }

    /// A new version of the plan is known: every node puts it into force a little later.
    pub fn cluster_plans(&mut self) {
        for m in 0..self.cluster.machines.len() {
            let wait = self.between(0, 300);
            self.machine_push(m, wait, MachineStep::Register);
        }
    }

    /// Nothing is left to do: every epoch that ended is settled, no lease is open, the lanes have all logs, and every
    /// bucket is drawn for by somebody.
    pub fn cluster_at_rest(&self) -> bool {
        let is_planted = self.planted != Planted::default();
        let open = now(self.ledger.leases(CAMPAIGN, None, usize::MAX)).unwrap_or_default();
        let settled = now(self.ledger.unsettled()).is_ok_and(|left| left.is_empty());
        let closed = open.iter().all(|lease| lease.closed.is_some());
        let machines = &self.cluster.machines;
        let owned: usize =
            machines.iter().filter_map(Machine::up_ref).map(|up| up.buckets.counts().open).sum();
        let at_rest = machines.iter().all(Machine::is_at_rest) && owned == BUCKETS;
        is_planted || (settled && closed && at_rest)
    }

    /// What keeps the nodes from rest, for people.
    pub fn cluster_restless(&self) -> Vec<String> {
        let open = now(self.ledger.leases(CAMPAIGN, None, usize::MAX)).unwrap_or_default();
        let open = open.iter().filter(|lease| lease.closed.is_none());
        let mut who: Vec<String> = open.map(|lease| format!("open lease {:?}", lease.key)).collect();
        for row in now(self.ledger.unsettled()).unwrap_or_default() {
            who.push(format!("epoch {} of node {} is not settled", row.epoch, row.node));
        }
        let busy = self.cluster.machines.iter().filter(|machine| !machine.is_at_rest());
        who.extend(busy.map(|machine| format!("node {} {}", machine.node, machine.restless())));
        let mut owners = std::collections::BTreeMap::<String, usize>::new();
        for row in now(self.ledger.buckets(None)).unwrap_or_default() {
            *owners.entry(format!("{:?}, released {:?}", row.owner, row.released)).or_default() += 1;
        }
        who.extend(owners.iter().map(|(owner, count)| format!("{count} buckets of {owner}")));
        who
    }
}
