//! What happens to machines: they are killed, lose power, freeze and wake, die for ever, are drained, join, and have
//! their clocks set; and what lies between them gets slow.

use super::ClusterStep;
use super::machine::MachineStep;
use crate::world::{Event, World};
use campaign::NodeId;
use runtime::Clock as _;

/// Machines that may join beyond those that were there first.
const JOIN_MAX: usize = 2;
/// A process that comes back so late finds its epoch ended by others, ms.
const LATE_MS: (u64, u64) = (3_200, 6_500);
/// What goes wrong in a calm world is over in so many ms.
const CALM_MS: u64 = 3_000;
/// How long a process stands still, ms.
const FREEZE_MS: (u64, u64) = (200, 6_000);

impl World {
    /// Something happens to the cluster, and again in a while.
    pub fn arrange(&mut self) {
        if self.draining {
            return;
        }
        let wait = self.between(200, 2_000);
        self.push(wait, Event::Cluster(ClusterStep::Arrange));
        if !self.may_go_wrong() {
            return;
        }
        let m = self.rng.below(self.cluster.machines.len() as u64) as usize;
        match self.rng.below(12) {
            0..3 => self.machine_freezes(m),
            3 => self.machine_dies(m),
            4 => self.machine_drains(m),
            5 => self.machine_joins(),
            6 => self.clock_is_set(m),
            7 => self.lane_gets_slow(m),
            8 => self.cache_is_flushed(),
            9 => self.flow_rests(),
            10 => self.members_hang(),
            _ => self.machine_is_away(m),
        }
    }

    /// Stands still for a while: nothing of it happens, and everything at once when it wakes.
    fn machine_freezes(&mut self, m: usize) {
        // In a calm world it has to be over well before the end of the round.
        let length = self.between(FREEZE_MS.0, if self.calm { CALM_MS } else { FREEZE_MS.1 });
        let until = self.now_ms() + length;
        let machine = &mut self.cluster.machines[m];
        if machine.is_dead || !machine.is_up() || machine.frozen_until > self.clock.now_ms() {
            return;
        }
        machine.frozen_until = until;
        let node = machine.node;
        self.counters.freezes += 1;
        self.note(format_args!("node {node} stands still for {length} ms"));
        if self.rng.one_in(2) {
            // Its machine does, and with it what is on the wire.
            let held = until - self.between(0, length / 4);
            self.cluster.machines[m].held_until = held;
        }
    }

    /// Never comes back, and its disk neither. Others must be left to do its work.
    fn machine_dies(&mut self, m: usize) {
        if self.cluster.living() <= 2 || self.cluster.machines[m].is_dead || self.rng.one_in(2) {
            return;
        }
        let node = self.cluster.machines[m].node;
        self.note(format_args!("node {node} dies for ever"));
        self.counters.deaths += 1;
        self.cluster.machines[m].dies();
    }

    /// Is asked to stop; comes back later, or never.
    fn machine_drains(&mut self, m: usize) {
        let life = self.cluster.machines[m].life;
        if self.cluster.machines[m].is_up() {
            self.counters.drains += 1;
            self.push(0, Event::Machine(m, life, MachineStep::Stop));
        }
    }

    fn machine_joins(&mut self) {
        let room = usize::from(self.config.nodes) + JOIN_MAX;
        if self.cluster.machines.len() < room {
            let m = self.machine_added();
            let node = self.cluster.machines[m].node;
            self.note(format_args!("node {node} joins"));
            self.machine_restart(m, 0);
        }
    }

    fn clock_is_set(&mut self, m: usize) {
        let machine = &self.cluster.machines[m];
        machine.clock.jump(&mut self.rng);
        let (node, off) = (machine.node, machine.clock.now_ms() as i64 - self.clock.now_ms() as i64);
        self.note(format_args!("the clock of node {node} is set: off by {off} ms"));
    }

    /// What a node ships takes seconds for a while.
    fn lane_gets_slow(&mut self, m: usize) {
        let (length, until) = (self.between(200, if self.calm { CALM_MS / 2 } else { 4_000 }), self.now_ms());
        let machine = &mut self.cluster.machines[m];
        machine.slow_until = until + length;
        let node = machine.node;
        self.note(format_args!("the way of node {node} to its lane is slow for {length} ms"));
    }

    fn cache_is_flushed(&mut self) {
        self.note(format_args!("the cache is flushed"));
        self.cluster.cache.clear();
    }

    /// Flow reads nothing for a while: who took buckets over has to wait for it.
    fn flow_rests(&mut self) {
        let length = self.between(300, 3_000);
        self.flow.rests_until = self.now_ms() + length;
        self.note(format_args!("flow rests for {length} ms"));
    }

    /// The list of members is not renewed for a while: people go to nodes that are gone.
    fn members_hang(&mut self) {
        let length = self.between(300, 3_000);
        self.cluster.members_hang_until = self.now_ms() + length;
        self.note(format_args!("nobody learns of members for {length} ms"));
    }

    /// Killed, and back only when others have ended its epoch.
    fn machine_is_away(&mut self, m: usize) {
        let machine = &self.cluster.machines[m];
        if machine.is_dead || self.kills_left == 0 {
            return;
        }
        let node = machine.node;
        self.kills_left -= 1;
        self.counters.kills += 1;
        let wait = self.late_ms();
        let power = self.rng.one_in(2);
        self.note(format_args!("node {node} is killed, and stays away for {wait} ms"));
        self.machine_ends(m, power, wait);
    }

    /// Killed between two steps.
    pub fn machine_kill(&mut self, node: NodeId, power: bool) {
        let Some(m) = self.cluster.index(node).filter(|m| !self.cluster.machines[*m].is_dead) else { return };
        self.note(format_args!("node {node} is killed{}", if power { ", its power fails" } else { "" }));
        let wait =
            if self.rng.one_in(4) { self.between(LATE_MS.0, LATE_MS.1) } else { self.between(20, 1_000) };
        self.machine_ends(m, power, wait);
    }

    fn late_ms(&mut self) -> u64 {
        self.between(LATE_MS.0, if self.calm { LATE_MS.0 + CALM_MS / 4 } else { LATE_MS.1 })
    }

    fn machine_ends(&mut self, m: usize, power: bool, wait: u64) {
        self.cluster.machines[m].stops(power);
        self.machine_restart(m, wait);
    }
}
