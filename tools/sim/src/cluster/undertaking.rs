//! Looking after other nodes' ended epochs: the node's own undertaker ([`bury`]) at work, with everything that it awaits
//! answered late, twice or not at all.

use super::calls::{Remote, poll};
use super::machine::MachineStep;
use crate::world::World;
use lottery::ledger::{QuotaLedger as _, StoreError};
use lottery::node::cluster::undertaker::Watch;
use lottery::node::cluster::{Buried, BuryError, bury};
use ownership::{EndReason, NodeRow};
use runtime::Clock as _;
use std::pin::Pin;

/// From look to look, ms.
const LOOK_MS: u64 = 250;

type Work<T> = Pin<Box<dyn Future<Output = T>>>;

/// What a node is doing about others' epochs.
pub(crate) struct Undertaking {
    pub remote: Remote,
    watch: Watch,
    look: Option<Work<Result<Vec<NodeRow>, StoreError>>>,
    bury: Option<Work<Result<Buried, BuryError>>>,
    due: Vec<NodeRow>,
}

impl Undertaking {
    pub fn new(remote: Remote) -> Undertaking {
        Undertaking { remote, watch: Watch::default(), look: None, bury: None, due: Vec::new() }
    }
}

impl World {
    /// Looks for epochs that somebody must see to, if nothing is under way.
    pub fn undertaker_looks(&mut self, m: usize) {
        self.machine_push(m, LOOK_MS, MachineStep::Undertake);
        let Some(up) = self.up_at(m) else { return };
        let work = &mut up.undertaking;
        if work.look.is_some() || work.bury.is_some() {
            return;
        }
        let remote = work.remote.clone();
        work.look = Some(Box::pin(async move {
            let mut found = remote.dead_epochs().await?;
            found.extend(remote.unsettled().await?);
            Ok(found)
        }));
        self.undertaker_works(m);
    }

    /// Goes on with what has been answered.
    pub fn undertaker_works(&mut self, m: usize) {
        let now_ms = self.now_ms();
        let machine = &mut self.cluster.machines[m];
        let (me, view) = (machine.node.0, machine.view.list.clone());
        let mono_ns = machine.clock.mono_ns();
        let Some(up) = machine.up() else { return };
        let may = up.session.is_valid(mono_ns);
        let work = &mut up.undertaking;
        if let Some(found) = work.look.as_mut().and_then(poll) {
            work.look = None;
            let living: Vec<u16> = view.members.iter().map(|member| member.node).collect();
            work.due = work.watch.due(me, &found.unwrap_or_default(), &living, now_ms);
        }
        let mut done = Vec::new();
        while work.look.is_none() {
            if work.bury.is_none() {
                // A node without a session may be dead itself.
                let Some(row) = work.due.pop().filter(|_| may) else { break };
                let remote = work.remote.clone();
                work.bury =
                    Some(Box::pin(async move { bury(&remote, &remote, &row, EndReason::Expired).await }));
            }
            let Some(buried) = work.bury.as_mut().and_then(poll) else { break };
            work.bury = None;
            done.push(buried);
        }
        let remote = work.remote.clone();
        for buried in done {
            self.undertaker_has_done(m, buried);
        }
        self.send_calls(m, &remote);
    }

    fn undertaker_has_done(&mut self, m: usize, buried: Result<Buried, BuryError>) {
        let node = self.cluster.machines[m].node;
        match buried {
            Ok(b) => {
                self.counters.ended_by_others += u64::from(b.ended);
                self.note(format_args!(
                    "node {node} saw to epoch {} of node {}: ended {}, up to {:?}, {} leases settled, {} units back",
                    b.epoch, b.node, b.ended, b.end_position, b.settled, b.returned
                ));
                if b.refused > 0 {
                    self.problem(format!("{} leases of node {} can't be settled", b.refused, b.node));
                }
            }
            Err(BuryError::Record { node, error }) => self.problem(format!("lane {node}: {error}")),
            Err(error) => self.note(format_args!("node {node}: the undertaker gives up: {error}")),
        }
    }
}
