//! The way from a node to the lanes: many groups in flight, in order; some are lost, come twice, or long after their
//! node has died.
//!
//! A line is what an idempotent producer is in life: what was sent on it lands in order or not at all, and when
//! something of it fails, so does everything behind it. After a failure the node sends from the first group that was
//! not acknowledged, on a new line; what is still under way on the old one may land all the same.

use super::ClusterStep;
use super::machine::MachineStep;
use crate::world::{Event, World};
use bytes::Bytes;
use queue::lanes::LaneError;
use std::collections::BTreeMap;

/// How long a node waits for a lane's answer, ms.
const PATIENCE_MS: (u64, u64) = (60, 400);
/// What is under way for so long is lost, ms: longer than a session lives.
const LATE_MS: (u64, u64) = (500, 6_000);

/// Groups on their way into a lane.
pub(crate) struct Shipment {
    machine: usize,
    /// The process that sent them: only it hears the answer.
    life: u32,
    line: u32,
    /// Its place on its line, from 0.
    number: u64,
    groups: Vec<Bytes>,
    /// What the sender calls it, if he still waits for the answer.
    answer_to: Option<u64>,
    /// A copy: lands whatever its line is like.
    copy: bool,
}

/// The node's side of a line, and what has landed of all of them.
#[derive(Default)]
pub(crate) struct Lines {
    line: u32,
    sent: u64,
    /// Nothing lands before what was sent earlier.
    busy_until: u64,
    landed: BTreeMap<u32, u64>,
}

impl Lines {
    /// Goes on over a new line.
    pub fn renew(&mut self) {
        self.line += 1;
        self.sent = 0;
    }
}

impl World {
    /// Ships groups of a machine's log; its process hears of it by [`MachineStep::Shipped`].
    pub fn ship(&mut self, m: usize, token: u64, groups: Vec<Bytes>) {
        let now_ms = self.now_ms();
        let slow = now_ms < self.cluster.machines[m].slow_until;
        let slowest = if self.calm { 1_000 } else { 3_000 };
        let there = if slow { self.between(300, slowest) } else { self.between(1, 15) };
        let patience = self.between(PATIENCE_MS.0, PATIENCE_MS.1);
        let trouble = self.trouble(self.config.lane_trouble).then(|| self.rng.below(4));
        let machine = &mut self.cluster.machines[m];
        let lines = &mut machine.lines;
        let (node, life, number) = (machine.node, machine.life, lines.sent);
        lines.sent += 1;
        lines.busy_until = lines.busy_until.max(now_ms + there) + 1;
        let mut shipment = Shipment {
            machine: m,
            life,
            line: self.cluster.machines[m].lines.line,
            number,
            groups,
            answer_to: Some(token),
            copy: false,
        };
        let lands_in = self.cluster.machines[m].lines.busy_until - now_ms;
        let unsure = MachineStep::Shipped(token, Err(LaneError::Unsure("simulated: no answer".to_owned())));
        if trouble.is_none() {
            return self.push(lands_in, Event::Cluster(ClusterStep::Lands(Box::new(shipment))));
        }
        self.counters.lane_troubles += 1;
        match trouble {
            Some(0) => {
                self.note(format_args!("node {node}: a shipment is lost"));
                self.push(patience, Event::Machine(m, life, unsure));
            }
            Some(1) => {
                self.note(format_args!("node {node}: a shipment's answer is lost"));
                shipment.answer_to = None;
                self.push(lands_in, Event::Cluster(ClusterStep::Lands(Box::new(shipment))));
                self.push(lands_in + patience, Event::Machine(m, life, unsure));
            }
            Some(2) => {
                let late = lands_in + self.between(LATE_MS.0, LATE_MS.1);
                self.note(format_args!("node {node}: a shipment takes {late} ms"));
                shipment.answer_to = None;
                self.push(late, Event::Cluster(ClusterStep::Lands(Box::new(shipment))));
                self.push(patience, Event::Machine(m, life, unsure));
            }
            _ => {
                let again = lands_in + self.between(LATE_MS.0, LATE_MS.1);
                self.note(format_args!("node {node}: a shipment comes twice"));
                let groups = shipment.groups.clone();
                let copy = Shipment { groups, answer_to: None, copy: true, ..shipment };
                self.push(again, Event::Cluster(ClusterStep::Lands(Box::new(copy))));
                self.push(lands_in, Event::Cluster(ClusterStep::Lands(Box::new(shipment))));
            }
        }
    }

    /// Groups land in their lane, if their line is whole.
    pub fn shipment_lands(&mut self, shipment: Shipment) {
        let now_ms = self.now_ms();
        let machine = &mut self.cluster.machines[shipment.machine];
        if now_ms < machine.held_until {
            // Held up in the order in which it was sent.
            let landed = machine.lines.landed.get(&shipment.line).copied().unwrap_or(0);
            let wait = machine.held_until - now_ms + shipment.number.saturating_sub(landed);
            machine.lines.busy_until = machine.lines.busy_until.max(now_ms + wait);
            return self.push(wait, Event::Cluster(ClusterStep::Lands(Box::new(shipment))));
        }
        let Shipment { machine: m, life, line, number, groups, answer_to, copy } = shipment;
        let machine = &mut self.cluster.machines[m];
        let landed = machine.lines.landed.entry(line).or_default();
        let node = machine.node;
        let done = if copy && *landed <= number {
            // What it is a copy of has not landed: it would be the first.
            Err(LaneError::Unsure("simulated: the line is broken".to_owned()))
        } else if !copy && *landed != number {
            Err(LaneError::Unsure("simulated: what was sent before is not there".to_owned()))
        } else {
            *landed = (*landed).max(number + 1);
            let count = groups.len();
            self.delicate = Some((crate::world::DELICATE_ONE_IN, node));
            let done = self.cluster.lanes.ship_now(node.0, groups);
            self.note(format_args!("lane of node {node}: {count} groups land: {done:?}"));
            done
        };
        if let Err(error @ (LaneError::Refused(_) | LaneError::Fault(_) | LaneError::UnknownLane { .. })) =
            &done
        {
            self.problem(format!("the lane of node {node} does not take a shipment: {error}"));
        }
        if let Some(token) = answer_to {
            let back = self.between(1, 12);
            self.push(back, Event::Machine(m, life, MachineStep::Shipped(token, done)));
        }
    }
}
