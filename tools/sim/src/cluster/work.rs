//! A serving node's work: ticks and their answers, the log and the way into the lane, draws, plans, its end.

use super::machine::{MachineState, MachineStep, Up};
use super::members::POLL_MS;
use crate::link::{Answer, Caller, take_back};
use crate::log::{Todo, log_dir, log_options};
use crate::world::{DELICATE_ONE_IN, World};
use bytes::Bytes;
use campaign::NodeId;
use flowlog::{LogReader, Position};
use lottery::core::{Core, WinLog as _};
use lottery::ledger::{QuotaLedger as _, StoreError, Tick, TickError};
use lottery::node::leases::Progress;
use protocol::calls::{SubmitCall, SubmitReply};
use protocol::v1::Outcome;
use queue::lanes::LaneError;
use runtime::Clock as _;
use std::sync::Arc;
use std::task::Waker;
use testkit::SimDisk;

/// From tick to tick, ms.
const TICK_MS: u64 = 100;
/// Bytes of groups in one shipment: few, so that there are many.
const SHIPMENT_BYTES: usize = 2_000;
/// How often a node without a session looks whether it may ship again, ms.
const LOOK_MS: u64 = 50;
/// Least wait named while the node has no session, ms.
const NO_SESSION_MS: u32 = 200;
/// The same while buckets are on their way.
const QUICK_MS: u64 = 20;

impl World {
    pub fn machine_ticks(&mut self, m: usize) {
        let (mono_ns, life) = (self.cluster.machines[m].clock.mono_ns(), self.cluster.machines[m].life);
        // A node that ends its epoch has made its last call.
        let Some(up) = self.up_at(m).filter(|up| up.finish.is_none()) else { return };
        let tick = match up.unanswered.take() {
            Some(tick) => tick,
            None => up.next_tick(mono_ns),
        };
        up.tick = Some(tick.clone());
        self.send_tick(Caller::Machine(m, life), mono_ns, tick);
    }

    pub fn machine_hears(&mut self, m: usize, answer: Answer) {
        let machine = &self.cluster.machines[m];
        let (mono_ns, node) = (machine.clock.mono_ns(), machine.node);
        let (lost_is_not_done, new_numbers) = (self.planted.lost_is_not_done, self.planted.new_numbers);
        let Some(up) = self.up_at(m) else { return };
        let Some(tick) = up.tick.take() else { return };
        match answer.result {
            Ok(got) => {
                up.session.renew(answer.sent_ns, mono_ns, got.now_ms);
                up.prizes.extend(tick.asks.iter().map(|a| (a.lease, a.prize)));
                up.leases.answered(&up.core, &tick, &got, &mut &*up.log);
                up.buckets.answered(&tick.seals, &got, &up.core);
                let (claimed, sealed) = (got.claimed.len(), got.sealed.len());
                if claimed + sealed > 0 {
                    self.counters.moves += claimed as u64;
                    self.note(format_args!("node {node}: {claimed} buckets claimed, {sealed} given up"));
                }
                self.machine_push(m, 1, MachineStep::AskPassed);
            }
            Err(TickError::Store(StoreError::NotDone(_))) => {}
            Err(TickError::Store(StoreError::Unknown(_))) if lost_is_not_done || new_numbers => {
                let now_ms = up.session.now(mono_ns).ms;
                take_back(&up.core, &mut up.leases, &up.log, &up.prizes, &tick, now_ms, lost_is_not_done);
            }
            Err(TickError::Store(StoreError::Unknown(_))) => up.unanswered = Some(tick),
            Err(TickError::Session(error)) => {
                up.session.end();
                up.shipping.end();
                self.note(format_args!("node {node}: its epoch is over ({error}): it starts anew"));
                self.cluster.machines[m].stops(false);
                return self.machine_restart(m, 50);
            }
            Err(error) => return self.machine_gone(m, format!("a tick failed: {error}")),
        }
        let quick = self.up_at(m).is_some_and(|up| up.is_moving());
        self.machine_push(m, if quick { QUICK_MS } else { TICK_MS }, MachineStep::Tick);
        self.machine_stopped(m);
    }

    pub fn wake_machine_log(&mut self, m: usize) {
        let Some(up) = self.up_at(m) else { return };
        if up.log_step_due || up.log.todo() == Todo::Nothing {
            return;
        }
        up.log_step_due = true;
        let wait = self.between(0, 3);
        self.machine_push(m, wait, MachineStep::Log);
    }

    pub fn machine_logs(&mut self, m: usize) {
        let node = self.cluster.machines[m].node;
        let Some(up) = self.up_at(m) else { return };
        up.log_step_due = false;
        let log = Arc::clone(&up.log);
        let wait = match log.todo() {
            Todo::Nothing | Todo::Answer => return,
            Todo::Write => match log.write() {
                Ok(records) => {
                    self.note(format_args!("node {node}: wrote {records} records"));
                    if self.rng.one_in(12) { self.between(50, 400) } else { self.between(1, 12) }
                }
                Err(error) => return self.machine_disk_failed(m, &error),
            },
            Todo::Sync => match log.sync() {
                Ok(end) => {
                    self.note(format_args!("node {node}: durable up to {end}"));
                    self.machine_push(m, 0, MachineStep::Ship);
                    self.between(0, 2)
                }
                Err(error) => return self.machine_disk_failed(m, &error),
            },
        };
        self.delicate = Some((DELICATE_ONE_IN, node));
        if let Some(up) = self.up_at(m)
            && up.log.todo() != Todo::Nothing
        {
            up.log_step_due = true;
            self.machine_push(m, wait, MachineStep::Log);
        }
    }

    /// Sends what is durable and not under way to the lane, while the session is valid.
    pub fn machine_ships(&mut self, m: usize) {
        let machine = &mut self.cluster.machines[m];
        let (node, disk, mono_ns) = (machine.node, machine.disk.clone(), machine.clock.mono_ns());
        let Some(up) = machine.up() else { return };
        let Some(range) = up.shipping.next(up.log.durable()) else { return };
        if !up.session.is_valid(mono_ns) {
            return self.machine_push(m, LOOK_MS, MachineStep::Ship);
        }
        if up.reader.position().0 != range.start {
            up.reader = reader_at(&disk, node, range.start);
        }
        match groups_of(&mut up.reader, range.end) {
            Ok(groups) => {
                up.shipping.send(up.reader.position().0);
                up.ships.sent += 1;
                let token = up.ships.sent;
                self.ship(m, token, groups);
                self.machine_push(m, 0, MachineStep::Ship);
            }
            Err(_) if disk.is_down() => self.machine_kill(node, true),
            Err(error) => self.machine_gone(m, format!("node {node}: {error}")),
        }
    }

    /// Answers to shipments are taken in the order of the shipments.
    pub fn machine_shipped(&mut self, m: usize, token: u64, done: Result<(), LaneError>) {
        let machine = &mut self.cluster.machines[m];
        let node = machine.node;
        let MachineState::Up(up) = &mut machine.state else { return };
        up.ships.answers.insert(token, done);
        let (mut acknowledged, mut failed) = (None, false);
        while let Some(done) = up.ships.answers.remove(&(up.ships.answered + 1)) {
            up.ships.answered += 1;
            failed |= done.is_err();
            if let Some(end) = up.shipping.answered(done.is_ok()) {
                up.log.acknowledge(end);
                acknowledged = Some(end);
            }
        }
        if up.ships.answered == up.ships.sent {
            machine.lines.renew();
        }
        if let Some(end) = acknowledged {
            self.note(format_args!("node {node}: the lane has everything up to {end}"));
            self.machine_replies(m);
        }
        let wait = if failed { self.between(5, 60) } else { 0 };
        self.machine_push(m, wait, MachineStep::Ship);
    }

    /// Winners whose records are in the lane now hear of it.
    fn machine_replies(&mut self, m: usize) {
        let mut replies = Vec::new();
        if let Some(up) = self.up_at(m) {
            up.inbox.take(&mut replies, Waker::noop());
        }
        replies.into_iter().for_each(|reply| self.reply(reply));
    }

    pub fn machine_takes(&mut self, m: usize, calls: &[SubmitCall]) {
        let machine = &mut self.cluster.machines[m];
        let (node, mono_ns) = (machine.node, machine.clock.mono_ns());
        let Some(up) = machine.up() else { return };
        // Nothing is decided and nothing told without a session: `ClusterNode` does the same.
        if !up.session.is_valid(mono_ns) {
            return calls.iter().for_each(|call| self.reply(put_off(call)));
        }
        let now = up.session.now(mono_ns);
        let (mut out, wins) = (Vec::new(), up.core.tally().wins);
        up.core.submit(now, calls, &up.inbox, &mut out);
        let won = up.core.tally().wins - wins;
        if won > 0 {
            self.counters.wins += won;
            let first = calls.first().map_or((0, 0), |c| (c.user, c.counter));
            self.note(format_args!("node {node}: user {} wins with draw {}", first.0, first.1));
        }
        out.into_iter().for_each(|reply| self.reply(reply));
        self.machine_wants(m);
    }

    /// The ledger first, then the core.
    pub fn machine_registers(&mut self, m: usize) {
        if !self.cluster.machines[m].is_up() {
            return;
        }
        let (ledger, plan, node) = (Arc::clone(&self.ledger), self.told(), self.cluster.machines[m].node);
        match self.ledger_call("register", ledger.register(&plan)) {
            Some(Ok(done)) => {
                self.note(format_args!("node {node}: registered plan {}", done.seq_no));
                let wait = self.between(0, 10);
                self.machine_push(m, wait, MachineStep::Apply);
            }
            Some(Err(error)) => self.machine_gone(m, format!("the ledger refused a plan: {error}")),
            None => self.machine_push(m, 100, MachineStep::Register),
        }
    }

    pub fn machine_applies(&mut self, m: usize) {
        let Some(up) = self.cluster.machines[m].up_ref() else { return };
        if let Err(why) = self.put_into_force(&up.core) {
            self.machine_gone(m, why);
        }
    }

    /// Puts the newest plans into force in a node's core.
    pub fn put_into_force(&self, core: &Core) -> Result<(), String> {
        let (plan, grey) = (self.plan(), self.grey.clone());
        core.apply(Arc::clone(&plan)).map_err(|e| format!("the core refused a plan: {e}"))?;
        let users = grey.as_ref().map_or(0, |g| g.users_per_mille);
        let done = core.apply_grey(grey.map(|g| g.plan), plan.campaign, users);
        done.map(drop).map_err(|e| format!("the core refused a trial: {e}"))
    }

    /// Announces itself, looks for others, and asks for the owners' table if somebody else has what it should have.
    pub fn machine_looks(&mut self, m: usize) {
        self.machine_push(m, POLL_MS, MachineStep::Members);
        let now_ms = self.now_ms();
        if self.ledger_is_away() || now_ms < self.cluster.members_hang_until {
            return;
        }
        let cluster = &mut self.cluster;
        let machine = &mut cluster.machines[m];
        let Some(up) = (match &mut machine.state {
            MachineState::Up(up) => Some(up),
            _ => None,
        }) else {
            return;
        };
        cluster.members.announce(machine.node.0, up.stopping, now_ms);
        if cluster.members.look(&mut machine.view, now_ms)
            && let Some(ring) = &machine.view.ring
        {
            up.buckets.follow(ring);
        }
        up.buckets.hold(&up.core);
        if up.buckets.looks() {
            let ledger = Arc::clone(&self.ledger);
            if let Some(Ok(rows)) = self.ledger_call("buckets", ledger.buckets(None)) {
                let wait = self.between(2, 30);
                self.machine_push(m, wait, MachineStep::Rows(rows));
            }
        }
    }

    /// Gives up all buckets, then all leases.
    pub fn machine_stops(&mut self, m: usize) {
        let node = self.cluster.machines[m].node;
        self.note(format_args!("node {node} is asked to stop"));
        let now_ms = self.now_ms();
        let Some(up) = self.up_at(m) else { return };
        up.stopping = true;
        up.buckets.drain();
        self.cluster.members.announce(node.0, true, now_ms);
    }

    /// A node that was asked to stop and has given everything back, and whose whole log is in the lane, ends its epoch.
    fn machine_stopped(&mut self, m: usize) {
        let node = self.cluster.machines[m].node;
        let Some(up) = self.up_at(m) else { return };
        let whole = up.log.todo() == Todo::Nothing && up.shipping.acknowledged() == up.log.durable();
        let done = up.buckets.is_empty() && up.unanswered.is_none() && up.leases.closing() == 0;
        if !up.stopping || !done || !whole || up.open_leases() > 0 {
            return;
        }
        self.note(format_args!("node {node} has given everything back"));
        self.cluster.members.leave(node.0);
        self.machine_finishes(m);
    }
}

impl Up {
    /// Leases and buckets of the next call.
    fn next_tick(&mut self, mono_ns: u64) -> Tick {
        let mut log = &*self.log;
        let progress = Progress { acknowledged: self.log.acknowledged() };
        let now_ms = self.session.now(mono_ns).ms;
        self.buckets.hold(&self.core);
        let (seals, claims) = self.buckets.asks(progress.acknowledged);
        // Whoever draws for nobody must not sit on units.
        let stop = self.stopping || !self.buckets.is_serving();
        let tick = self.leases.tick(&self.core, now_ms, progress, stop, &mut log);
        Tick { seals, claims, ..tick }
    }

    /// The next tick has something to say about buckets, or may have in a moment.
    fn is_moving(&mut self) -> bool {
        let (seals, claims) = self.buckets.asks(self.log.acknowledged());
        !seals.is_empty() || !claims.is_empty() || self.buckets.gives_up()
    }

    fn open_leases(&self) -> usize {
        let campaigns = self.core.campaigns();
        let rounds =
            campaigns.iter().flat_map(|c| c.rounds().map(|(_, r)| r.pool.usage()).collect::<Vec<_>>());
        rounds.flatten().map(|usage| usage.leases).sum()
    }
}

fn put_off(call: &SubmitCall) -> SubmitReply {
    SubmitReply {
        tag: call.tag,
        user: call.user,
        counter: call.counter,
        next_counter: call.counter,
        outcome: Outcome::Pending,
        next_submit_ms: NO_SESSION_MS,
        until_ms: 0,
        award: None,
    }
}

/// Whole groups from the reader's place on.
fn groups_of(reader: &mut LogReader<SimDisk>, end: u64) -> Result<Vec<Bytes>, String> {
    let batch = reader.read_batch(Position(end), SHIPMENT_BYTES).map_err(|e| e.to_string())?;
    Ok(batch.groups().map(|g| Bytes::copy_from_slice(g.bytes())).collect())
}

pub(super) fn reader_at(disk: &SimDisk, node: NodeId, from: u64) -> LogReader<SimDisk> {
    LogReader::new(disk.clone(), log_dir(), &log_options(node), Position(from))
}
