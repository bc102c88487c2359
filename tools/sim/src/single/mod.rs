//! The lottery node that stands for itself: ticks, draws, its log's steps, and its end. Its own log is lane and archive.

mod boot;
mod snapshot;

use crate::link::{Answer, Caller, take_back};
use crate::log::{SimLog, Todo, log_dir, log_options};
use crate::plan::NODE;
use crate::players::PlayerStep;
use crate::world::{DELICATE_ONE_IN, Event, World, now};
use campaign::LeaseId;
use flowlog::{LogReader, Position};
use lottery::core::{BUCKETS, Core, WinLog as _};
use lottery::ledger::{PrizeKey, QuotaLedger as _, StoreError, Tick, TickError};
use lottery::node::leases::{Leases, Progress};
use lottery::node::session::Session;
use protocol::calls::{Inbox, SubmitCall, SubmitReply};
use queue::LANE;
use records::SnapshotWin;
use runtime::Clock as _;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::task::Waker;
use testkit::SimDisk;

use boot::Boot;
use snapshot::{Copying, Snapshot};

/// From tick to tick, ms.
const TICK_MS: u64 = 100;
/// Buckets whose users are read back in one step.
const LOAD_BUCKETS: usize = 1_024;

/// A step of the node.
pub(crate) enum NodeStep {
    /// The next step of the start-up sequence.
    Boot,
    /// A tick goes out.
    Tick,
    /// A tick's answer, or that there is none.
    Answer(Box<Answer>),
    /// The log's next step.
    Log,
    /// Users of some buckets are read back.
    Load(usize),
    /// The newest plan is registered in the ledger, and then drawn from.
    Register,
    /// ... drawn from.
    Apply,
    /// The next part of a snapshot.
    Copy(Option<Box<Copying>>),
    /// Durable groups become visible in the lane.
    Ship,
    /// Entries come in.
    Takes(Vec<SubmitCall>),
    /// The node is asked to stop.
    Stop,
}

/// The node, alive or not.
pub(crate) struct NodeSide {
    pub life: u32,
    pub state: NodeState,
    /// The newest snapshot; it survives.
    pub snapshot: Option<Snapshot>,
}

/// How the node is.
pub(crate) enum NodeState {
    Down,
    /// Down for good: it can't start, or is not wanted any more.
    Gone,
    Booting(Box<Boot>),
    Up(Box<Up>),
}

/// A node that serves.
pub(crate) struct Up {
    pub core: Core,
    pub log: Arc<SimLog>,
    pub session: Arc<Session>,
    pub leases: Leases,
    pub inbox: Arc<Inbox>,
    /// Wins that were read back and wait for their buckets.
    pub wins: Vec<Vec<SnapshotWin>>,
    /// What each lease of this life is of.
    pub prizes: BTreeMap<LeaseId, PrizeKey>,
    pub tick: Option<Tick>,
    pub unanswered: Option<Tick>,
    pub reader: LogReader<SimDisk>,
    pub stopping: bool,
    pub log_step_due: bool,
    pub ship_due: bool,
}

impl NodeSide {
    pub fn new() -> NodeSide {
        NodeSide { life: 0, state: NodeState::Down, snapshot: None }
    }

    pub fn is_up(&self) -> bool {
        matches!(self.state, NodeState::Up(_))
    }

    /// In the middle of writing its log.
    pub fn is_writing(&self) -> bool {
        matches!(&self.state, NodeState::Up(up) if up.log.todo() != Todo::Nothing)
    }
}

impl Up {
    pub fn new(
        core: Core,
        log: Arc<SimLog>,
        session: Arc<Session>,
        leases: Leases,
        disk: SimDisk,
        from: Position,
    ) -> Up {
        Up {
            core,
            log,
            session,
            leases,
            inbox: Arc::new(Inbox::new()),
            wins: Vec::new(),
            prizes: BTreeMap::new(),
            tick: None,
            unanswered: None,
            reader: LogReader::new(disk, log_dir(), &log_options(NODE), from),
            stopping: false,
            log_step_due: false,
            ship_due: false,
        }
    }
}

impl World {
    fn up(&mut self) -> Option<&mut Up> {
        match &mut self.node.state {
            NodeState::Up(up) => Some(up),
            _ => None,
        }
    }

    pub fn node_push(&mut self, in_ms: u64, step: NodeStep) {
        self.push(in_ms, Event::Node(self.node.life, step));
    }

    /// Starts a new process of the node after a while.
    pub fn node_restart(&mut self, in_ms: u64) {
        self.node.life += 1;
        self.node.state = NodeState::Booting(Box::default());
        self.node_push(in_ms, NodeStep::Boot);
    }

    /// The process ends at once; with `power`, the disk's memory goes too.
    pub fn node_kill(&mut self, power: bool) {
        if matches!(self.node.state, NodeState::Gone) {
            return;
        }
        self.node.state = NodeState::Down;
        if power {
            self.disk.crash();
        }
        self.note(format_args!("the node is killed{}", if power { ", the power fails" } else { "" }));
        let wait = self.between(20, 1_000);
        self.node_restart(wait);
    }

    /// The node can't go on, ever.
    pub fn node_gone(&mut self, why: String) {
        self.node.state = NodeState::Gone;
        self.node.life += 1;
        self.problem(why);
    }

    /// The disk failed under the node: the power has gone, or the log is broken.
    pub fn node_disk_failed(&mut self, error: &dyn std::fmt::Display) {
        if self.disk.is_down() {
            self.node_kill(true);
        } else {
            self.node_gone(format!("the node's log failed: {error}"));
        }
    }

    pub fn node_step(&mut self, life: u32, step: NodeStep) {
        if life != self.node.life {
            return;
        }
        match step {
            NodeStep::Boot => self.boot_step(),
            NodeStep::Tick => self.node_tick(),
            NodeStep::Answer(answer) => self.node_hears(*answer),
            NodeStep::Log => self.node_log(),
            NodeStep::Load(from) => self.node_loads(from),
            NodeStep::Register => self.node_registers(),
            NodeStep::Apply => self.node_applies(),
            NodeStep::Copy(copying) => self.node_copies(copying),
            NodeStep::Ship => self.node_ships(),
            NodeStep::Takes(calls) => self.node_takes(&calls),
            NodeStep::Stop => {
                self.note(format_args!("the node is asked to stop"));
                if let Some(up) = self.up() {
                    up.stopping = true;
                }
            }
        }
        self.wake_log();
    }

    fn wake_log(&mut self) {
        let Some(up) = self.up() else { return };
        if up.log_step_due || up.log.todo() == Todo::Nothing {
            return;
        }
        up.log_step_due = true;
        let wait = self.between(0, 3);
        self.node_push(wait, NodeStep::Log);
    }

    fn node_tick(&mut self) {
        let (mono_ns, life) = (self.clock.mono_ns(), self.node.life);
        let Some(up) = self.up() else { return };
        let mut log = &*up.log;
        let progress = Progress { acknowledged: up.log.acknowledged() };
        let tick = match up.unanswered.take() {
            Some(tick) => tick,
            None => {
                let now_ms = up.session.now(mono_ns).ms;
                up.leases.tick(&up.core, now_ms, progress, up.stopping, &mut log)
            }
        };
        up.tick = Some(tick.clone());
        self.send_tick(Caller::Single(life), mono_ns, tick);
    }

    fn node_hears(&mut self, answer: Answer) {
        let (mono_ns, lost_is_not_done) = (self.clock.mono_ns(), self.planted.lost_is_not_done);
        let Some(up) = self.up() else { return };
        let Some(tick) = up.tick.take() else { return };
        match answer.result {
            Ok(got) => {
                up.session.renew(answer.sent_ns, mono_ns, got.now_ms);
                up.prizes.extend(tick.asks.iter().map(|a| (a.lease, a.prize)));
                up.leases.answered(&up.core, &tick, &got, &mut &*up.log);
            }
            Err(TickError::Store(StoreError::NotDone(_))) => {}
            Err(TickError::Store(StoreError::Unknown(_))) if lost_is_not_done => {
                let now_ms = up.session.now(mono_ns).ms;
                take_back(&up.core, &mut up.leases, &up.log, &up.prizes, &tick, now_ms, true);
            }
            Err(TickError::Store(StoreError::Unknown(_))) => up.unanswered = Some(tick),
            Err(TickError::Session(error)) => {
                up.session.end();
                self.note(format_args!("the node's epoch is over ({error}): it starts anew"));
                self.node.state = NodeState::Down;
                return self.node_restart(50);
            }
            Err(error) => return self.node_gone(format!("a tick failed: {error}")),
        }
        self.node_push(TICK_MS, NodeStep::Tick);
        self.node_stopped();
    }

    /// Ends a node that was asked to stop and has given everything back.
    fn node_stopped(&mut self) {
        let draining = self.draining;
        let Some(up) = self.up() else { return };
        if !up.stopping || up.leases.closing() > 0 || up.log.todo() != Todo::Nothing || draining {
            return;
        }
        let open: usize = up
            .core
            .campaigns()
            .iter()
            .flat_map(|c| c.rounds().map(|(_, r)| r.pool.usage()).collect::<Vec<_>>())
            .flatten()
            .map(|u| u.leases)
            .sum();
        if open == 0 {
            self.note(format_args!("the node has stopped"));
            self.node.state = NodeState::Down;
            let wait = self.between(20, 500);
            self.node_restart(wait);
        }
    }

    fn node_log(&mut self) {
        let Some(up) = self.up() else { return };
        up.log_step_due = false;
        let log = Arc::clone(&up.log);
        let wait = match log.todo() {
            Todo::Nothing => return,
            Todo::Write => match log.write() {
                Ok(records) => {
                    self.note(format_args!("log: wrote {records} records"));
                    self.delicate = Some((DELICATE_ONE_IN, NODE));
                    // A disk is quick, but not always.
                    if self.rng.one_in(12) { self.between(50, 400) } else { self.between(1, 12) }
                }
                Err(error) => return self.node_disk_failed(&error),
            },
            Todo::Sync => match log.sync() {
                Ok(end) => {
                    self.note(format_args!("log: durable up to {end}"));
                    self.delicate = Some((DELICATE_ONE_IN, NODE));
                    self.between(0, 2)
                }
                Err(error) => return self.node_disk_failed(&error),
            },
            Todo::Answer => {
                let answered = log.acknowledge(log.durable());
                if answered > 0 {
                    self.note(format_args!("log: {answered} winners answered"));
                }
                self.deliver_late_replies();
                self.wake_ship();
                0
            }
        };
        if let Some(up) = self.up()
            && up.log.todo() != Todo::Nothing
        {
            up.log_step_due = true;
            self.node_push(wait, NodeStep::Log);
        }
    }

    fn deliver_late_replies(&mut self) {
        let mut replies = Vec::new();
        if let Some(up) = self.up() {
            up.inbox.take(&mut replies, Waker::noop());
        }
        replies.into_iter().for_each(|reply| self.reply(reply));
    }

    pub fn reply(&mut self, reply: SubmitReply) {
        if self.trouble(self.config.network_loss) {
            return;
        }
        let (wait, player) = (self.between(1, 40), reply.tag as usize);
        self.push(wait, Event::Player(player, PlayerStep::Hear(Box::new(reply))));
    }

    fn node_takes(&mut self, calls: &[SubmitCall]) {
        let mono_ns = self.clock.mono_ns();
        let Some(up) = self.up() else { return };
        let mut now = up.session.now(mono_ns);
        now.may_win &= !up.stopping;
        let (mut out, wins) = (Vec::new(), up.core.tally().wins);
        up.core.submit(now, calls, &up.inbox, &mut out);
        let won = up.core.tally().wins - wins;
        if won > 0 {
            self.counters.wins += won;
            let first = calls.first().map_or((0, 0), |c| (c.user, c.counter));
            self.note(format_args!("node: user {} wins with draw {}", first.0, first.1));
        }
        out.into_iter().for_each(|reply| self.reply(reply));
    }

    fn node_loads(&mut self, from: usize) {
        let Some(up) = self.up() else { return };
        for bucket in from..(from + LOAD_BUCKETS).min(BUCKETS) {
            let wins = up.wins.get_mut(bucket).map(std::mem::take).unwrap_or_default();
            up.core.load(bucket, wins);
        }
        if from + LOAD_BUCKETS < BUCKETS {
            let wait = self.between(1, 20);
            self.node_push(wait, NodeStep::Load(from + LOAD_BUCKETS));
        }
    }

    /// As the node's `apply` does: the ledger first, then the core.
    fn node_registers(&mut self) {
        let (ledger, plan) = (Arc::clone(&self.ledger), self.told());
        match self.ledger_call("register", ledger.register(&plan)) {
            Some(Ok(done)) => {
                self.note(format_args!("node: registered plan {}", done.seq_no));
                let wait = self.between(0, 10);
                self.node_push(wait, NodeStep::Apply);
            }
            Some(Err(error)) => self.node_gone(format!("the ledger refused a plan: {error}")),
            None => self.node_push(100, NodeStep::Register),
        }
    }

    fn node_applies(&mut self) {
        let NodeState::Up(up) = &self.node.state else { return };
        match self.put_into_force(&up.core) {
            Ok(()) => {
                let seq_no = self.plan().seq_no;
                self.note(format_args!("node: plan {seq_no} in force"));
            }
            Err(why) => self.node_gone(why),
        }
    }

    fn wake_ship(&mut self) {
        let Some(up) = self.up() else { return };
        if !std::mem::replace(&mut up.ship_due, true) {
            let wait = self.between(1, 60);
            self.node_push(wait, NodeStep::Ship);
        }
    }

    /// What is acknowledged in the log becomes visible in the lane.
    fn node_ships(&mut self) {
        let (queue, disk) = (self.flow.queue.clone(), self.disk.clone());
        let Some(up) = self.up() else { return };
        up.ship_due = false;
        let limit = Position(up.log.acknowledged());
        let mut problem = None;
        loop {
            match up.reader.next_group(limit) {
                Ok(None) => break,
                Ok(Some(group)) => {
                    let records: Vec<&[u8]> = group.records().collect();
                    match queue.ship(LANE, NODE.0, group.epoch(), &records) {
                        Ok(at) if at == group.position() => {}
                        other => {
                            problem = Some(format!(
                                "group {} of the log came to {other:?} in the lane",
                                group.position()
                            ));
                            break;
                        }
                    }
                }
                Err(_) if disk.is_down() => break,
                Err(error) => {
                    problem = Some(format!("the log can't be read: {error}"));
                    break;
                }
            }
        }
        if let Some(why) = problem {
            self.node_gone(why);
        }
    }

    /// Nothing is left to do: no lease, and the lane has the whole log.
    pub fn node_at_rest(&self) -> bool {
        let open = now(self.ledger.open_leases(NODE)).map_or(usize::MAX, |open| open.len());
        match &self.node.state {
            NodeState::Gone => true,
            NodeState::Up(up) => {
                let head = self.flow.queue.head(LANE, NODE.0).unwrap_or_default();
                let is_planted = self.planted != crate::config::Planted::default();
                (open == 0 || is_planted) && up.log.todo() == Todo::Nothing && head.0 == up.log.acknowledged()
            }
            _ => false,
        }
    }

    /// The node stops, and then the power fails one last time: what was acknowledged is still there.
    pub fn node_stop_for_good(&mut self) {
        if !matches!(self.node.state, NodeState::Gone) {
            self.node.state = NodeState::Gone;
            self.node.life += 1;
        }
        self.disk.crash();
    }
}
