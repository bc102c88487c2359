//! A machine of the cluster and the lottery node on it: ticks, draws, the log's steps, the way into the lane, and buckets
//! that come and go.
//!
//! The node's own state machines decide ([`Leases`], [`Buckets`], [`Shipping`], [`Wanted`]); this drives them step by
//! step, as the node's loop does, and can be killed or stand still between any two.

use super::calls::{Remote, Tell};
use super::clock::MachineClock;
use super::lanes::Lines;
use super::members::View;
use super::start::{Finish, Starting};
use super::undertaking::Undertaking;
use super::work::reader_at;
use crate::link::Answer;
use crate::log::{SimLog, Todo};
use crate::world::{Event, World};
use campaign::{LeaseId, NodeId};
use flowlog::LogReader;
use lottery::core::Core;
use lottery::ledger::{PrizeKey, Tick};
use lottery::node::cluster::buckets::Buckets;
use lottery::node::cluster::histories::Wanted;
use lottery::node::cluster::shipping::Shipping;
use lottery::node::leases::Leases;
use lottery::node::session::Session;
use ownership::BucketRow;
use protocol::calls::{CallError, Inbox, PastWin, SubmitCall};
use queue::lanes::LaneError;
use runtime::ManualClock;
use std::collections::BTreeMap;
use std::sync::Arc;
use testkit::{SimDisk, SimRng};

/// A step of a node.
pub(crate) enum MachineStep {
    /// The next step of the start.
    Start,
    /// A tick goes out.
    Tick,
    /// A tick's answer, or that there is none.
    Answer(Box<Answer>),
    /// The log's next step.
    Log,
    /// A shipment was answered.
    Shipped(u64, Result<(), LaneError>),
    /// What is durable and not in the lane goes there.
    Ship,
    /// Announces itself and looks for others.
    Members,
    /// The owners' table as it was a moment ago.
    Rows(Vec<BucketRow>),
    /// Asks how far the award store is.
    AskPassed,
    /// ... and hears it.
    Passed(Result<BTreeMap<u16, u64>, CallError>),
    /// Users' past wins.
    Wins(u64, Result<Vec<Vec<PastWin>>, CallError>),
    /// Users who have not come for a while are forgotten.
    Forget,
    /// Entries come in.
    Takes(Vec<SubmitCall>),
    /// The newest plan is registered in the ledger, and then drawn from.
    Register,
    /// ... drawn from.
    Apply,
    /// Looks for ended epochs of other nodes.
    Undertake,
    /// Something that the node's code awaits has been answered.
    Told(Tell),
    /// It is asked to stop.
    Stop,
}

/// A machine: its disk, its clocks, its cache, and the process on it.
pub(crate) struct Machine {
    pub node: NodeId,
    pub disk: SimDisk,
    pub clock: Arc<MachineClock>,
    pub life: u32,
    pub state: MachineState,
    /// It will never be back, and nobody reads its disk.
    pub is_dead: bool,
    /// Its process stands still until then.
    pub frozen_until: u64,
    /// What it ships takes long until then.
    pub slow_until: u64,
    /// What is under way to its lane lands only then.
    pub held_until: u64,
    pub lines: Lines,
    pub view: View,
}

/// How the process is.
pub(crate) enum MachineState {
    Off,
    Starting(Option<Starting>),
    Up(Box<Up>),
}

/// A node that serves.
pub(crate) struct Up {
    pub core: Core,
    pub log: Arc<SimLog>,
    pub session: Arc<Session>,
    pub leases: Leases,
    pub buckets: Buckets,
    pub wanted: Wanted,
    pub shipping: Shipping,
    pub undertaking: Undertaking,
    /// Its own end, in order.
    pub finish: Option<Finish>,
    pub inbox: Arc<Inbox>,
    pub prizes: BTreeMap<LeaseId, PrizeKey>,
    pub tick: Option<Tick>,
    pub unanswered: Option<Tick>,
    pub reader: LogReader<SimDisk>,
    pub ships: Ships,
    /// Users whom flow is asked about, by call.
    pub asks: BTreeMap<u64, Vec<lottery::core::Want>>,
    pub asking_passed: bool,
    pub stopping: bool,
    pub log_step_due: bool,
}

/// Shipments by number, from 1: how many were sent and answered, and answers that came before an earlier one's.
#[derive(Default)]
pub(crate) struct Ships {
    pub sent: u64,
    pub answered: u64,
    pub answers: BTreeMap<u64, Result<(), LaneError>>,
}

/// What a start hands over.
pub(crate) struct Parts {
    pub core: Core,
    pub log: Arc<SimLog>,
    pub session: Arc<Session>,
    pub leases: Leases,
    pub buckets: Buckets,
    /// Where the lane goes on.
    pub ship_from: u64,
    pub remote: Remote,
}

impl Machine {
    pub fn new(node: NodeId, world: Arc<ManualClock>, rng: &mut SimRng) -> Machine {
        Machine {
            node,
            disk: SimDisk::new(rng.next_u64()),
            clock: Arc::new(MachineClock::new(world, rng)),
            life: 0,
            state: MachineState::Off,
            is_dead: false,
            frozen_until: 0,
            slow_until: 0,
            held_until: 0,
            lines: Lines::default(),
            view: View::new(),
        }
    }

    pub fn up_ref(&self) -> Option<&Up> {
        match &self.state {
            MachineState::Up(up) => Some(up),
            _ => None,
        }
    }

    pub fn up(&mut self) -> Option<&mut Up> {
        match &mut self.state {
            MachineState::Up(up) => Some(up),
            _ => None,
        }
    }

    pub fn is_up(&self) -> bool {
        self.up_ref().is_some()
    }

    /// The process ends at once; with `power`, the disk's memory goes too.
    pub fn stops(&mut self, power: bool) {
        self.state = MachineState::Off;
        self.life += 1;
        self.frozen_until = 0;
        if power {
            self.disk.crash();
        }
    }

    /// The machine is gone for ever.
    pub fn dies(&mut self) {
        self.stops(true);
        self.is_dead = true;
    }

    /// Nothing is left to do: the log is in the lane, and the ring's buckets are drawn for.
    pub fn is_at_rest(&self) -> bool {
        let Some(up) = self.up_ref() else { return self.is_dead };
        let counts = up.buckets.counts();
        up.log.todo() == Todo::Nothing
            && up.log.durable() == up.shipping.acknowledged()
            && (counts.waiting, counts.sealing, counts.wanted) == (0, 0, 0)
    }

    /// How far it is, for people.
    pub fn restless(&self) -> String {
        let Some(up) = self.up_ref() else { return "is down".to_owned() };
        format!(
            "has its log at {:?}, its lane at {}, {:?}, {:?}",
            up.log.durable(),
            up.shipping.acknowledged(),
            up.log.todo(),
            up.buckets.counts()
        )
    }
}

impl Up {
    pub fn new(parts: Parts, node: NodeId, disk: &SimDisk) -> Up {
        Up {
            core: parts.core,
            log: parts.log,
            session: parts.session,
            leases: parts.leases,
            buckets: parts.buckets,
            wanted: Wanted::default(),
            shipping: Shipping::new(parts.ship_from),
            undertaking: Undertaking::new(parts.remote),
            finish: None,
            inbox: Arc::new(Inbox::new()),
            prizes: BTreeMap::new(),
            tick: None,
            unanswered: None,
            reader: reader_at(disk, node, parts.ship_from),
            ships: Ships::default(),
            asks: BTreeMap::new(),
            asking_passed: false,
            stopping: false,
            log_step_due: false,
        }
    }
}

impl World {
    pub fn machine_push(&mut self, m: usize, in_ms: u64, step: MachineStep) {
        let life = self.cluster.machines[m].life;
        self.push(in_ms, Event::Machine(m, life, step));
    }

    pub fn up_at(&mut self, m: usize) -> Option<&mut Up> {
        self.cluster.machines[m].up()
    }

    /// Starts a new process after a while.
    pub fn machine_restart(&mut self, m: usize, in_ms: u64) {
        let machine = &mut self.cluster.machines[m];
        machine.life += 1;
        machine.state = MachineState::Starting(None);
        machine.lines.renew();
        self.machine_push(m, in_ms, MachineStep::Start);
    }

    /// The disk failed under the node: its power has gone, or its log is broken.
    pub fn machine_disk_failed(&mut self, m: usize, error: &dyn std::fmt::Display) {
        let machine = &self.cluster.machines[m];
        let node = machine.node;
        if machine.disk.is_down() {
            self.machine_kill(node, true);
        } else {
            self.machine_gone(m, format!("the log of node {node} failed: {error}"));
        }
    }

    /// The node can't go on, ever.
    pub fn machine_gone(&mut self, m: usize, why: String) {
        self.cluster.machines[m].dies();
        self.problem(why);
    }

    pub fn machine_step(&mut self, m: usize, life: u32, step: MachineStep) {
        let (now_ms, machine) = (self.now_ms(), &self.cluster.machines[m]);
        if life != machine.life {
            return;
        }
        if now_ms < machine.frozen_until {
            // Everything that came meanwhile happens when it wakes, in whatever order.
            let wait = machine.frozen_until - now_ms + self.rng.below(6);
            return self.push(wait, Event::Machine(m, life, step));
        }
        match step {
            MachineStep::Start => self.machine_begins(m),
            MachineStep::Tick => self.machine_ticks(m),
            MachineStep::Answer(answer) => self.machine_hears(m, *answer),
            MachineStep::Log => self.machine_logs(m),
            MachineStep::Shipped(token, done) => self.machine_shipped(m, token, done),
            MachineStep::Ship => self.machine_ships(m),
            MachineStep::Members => self.machine_looks(m),
            MachineStep::Rows(rows) => {
                if let Some(up) = self.up_at(m) {
                    up.buckets.rows(&rows);
                }
            }
            MachineStep::AskPassed => self.machine_asks_passed(m),
            MachineStep::Passed(answer) => self.machine_hears_passed(m, answer),
            MachineStep::Wins(id, answer) => self.machine_hears_wins(m, id, answer),
            MachineStep::Forget => self.machine_forgets(m),
            MachineStep::Takes(calls) => self.machine_takes(m, &calls),
            MachineStep::Register => self.machine_registers(m),
            MachineStep::Apply => self.machine_applies(m),
            MachineStep::Undertake => self.undertaker_looks(m),
            MachineStep::Told(tell) => {
                tell();
                self.machine_goes_on(m);
            }
            MachineStep::Stop => self.machine_stops(m),
        }
        self.wake_machine_log(m);
    }
}
