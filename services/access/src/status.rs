//! What operators see of the front door and may change while it runs.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use serde::Serialize;

use crate::counters::Count;
use crate::limits::LimitsChange;
use crate::nodes::{AccessNode, NodeAddress};
use crate::shared::Shared;
use crate::tls::TlsError;

/// A handle for operators; cheap to clone.
#[derive(Clone)]
pub struct AccessControl {
    shared: Arc<Shared>,
}

/// A worker's part of the status.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct WorkerStatus {
    /// Connections it has.
    pub connections: u32,
    /// Its load: 0 (calm) to 1000 (clients are asked for the longest interval).
    pub load: u32,
}

/// The front door at a moment. Counts are since start.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct AccessStatus {
    /// Connections of all kinds.
    pub connections: u32,
    /// Addresses that are banned now.
    pub banned_addresses: usize,
    /// Gateways that are connected, with their connections.
    pub gateways: Vec<(String, u32)>,
    /// Workers.
    pub workers: Vec<WorkerStatus>,
    /// Submits received.
    pub submits: u64,
    /// Submits that were drawn.
    pub draws: u64,
    /// Wins among them.
    pub wins: u64,
    /// Good logins.
    pub logins: u64,
    /// Every count, by the name of its metric.
    pub counts: Vec<(&'static str, u64)>,
}

impl AccessControl {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// One count, summed over all threads.
    pub fn count(&self, count: Count) -> u64 {
        self.shared.sum(count)
    }

    /// The status now. Not one instant's snapshot: counts go on while they are read.
    pub fn status(&self) -> AccessStatus {
        let shared = &self.shared;
        let workers = shared.faces[..shared.faces.len() - 1].iter().map(|face| WorkerStatus {
            connections: face.connections.load(Ordering::Relaxed),
            load: face.load.load(Ordering::Relaxed),
        });
        AccessStatus {
            connections: shared.connections(),
            banned_addresses: shared.floods.lock().banned(shared.mono_ms()),
            gateways: shared.gateways.connections(),
            workers: workers.collect(),
            submits: shared.sum(Count::Submits),
            draws: shared.sum(Count::Draws),
            wins: shared.sum(Count::Wins),
            logins: shared.sum(Count::Logins),
            counts: Count::ALL.iter().map(|count| (count.metric(), shared.sum(*count))).collect(),
        }
    }

    /// Changes limits at once.
    pub fn change_limits(&self, change: &LimitsChange) {
        self.shared.live.change(change);
    }

    /// Has all clients go elsewhere, the present ones and those who come: to `to`, or to where the scheduler sends each.
    /// `per_second`: connections that are told in a second; none: as configured. False, and nothing happens, where no other
    /// node is known. It does not stop the server: that is its shutdown, which drains too.
    pub fn drain(&self, to: Option<NodeAddress>, per_second: Option<u32>) -> bool {
        let pace = per_second.unwrap_or(self.shared.limits.moves_per_second);
        self.shared.moves.drain(to, pace, self.shared.mono_ms())
    }

    /// Asks `count` connections to go elsewhere, so that a node that has just come gets its share. Returns as
    /// [`AccessControl::drain`] does.
    pub fn ask_to_move(&self, count: u64, to: Option<NodeAddress>) -> bool {
        let pace = self.shared.limits.moves_per_second;
        count > 0 && self.shared.moves.ask(count, to, pace, self.shared.mono_ms())
    }

    /// What this node says about itself to the others and to the scheduler.
    pub fn announcement(&self) -> AccessNode {
        let shared = &self.shared;
        let workers = &shared.faces[..shared.faces.len() - 1];
        let load: u32 = workers.iter().map(|face| face.load.load(Ordering::Relaxed)).sum();
        AccessNode {
            node: shared.node,
            tcp: shared.public.tcp.clone(),
            websocket: shared.public.websocket.clone(),
            region: shared.public.region.clone(),
            group: shared.public.group.clone(),
            share_permille: shared.public.share_permille,
            connections: shared.connections(),
            load: load / workers.len().max(1) as u32,
            draining: shared.moves.is_draining(),
        }
    }

    /// Reads certificate and key again.
    ///
    /// # Errors
    /// Which file is wrong, and how; what was read before stays in force.
    pub fn reload_tls(&self) -> Result<(), TlsError> {
        self.shared.tls.reload()
    }

    /// Lifts the ban of an address; false if it had none.
    pub fn lift_ban(&self, address: IpAddr) -> bool {
        self.shared.floods.lock().lift(address, self.shared.mono_ms())
    }

    /// The process's metrics and the front door's, in the Prometheus text format.
    pub fn metrics(&self) -> String {
        render(&self.shared)
    }
}

/// See [`AccessControl::metrics`].
pub(crate) fn render(shared: &Shared) -> String {
    let mut out = shared.metrics.render();
    let mut family = "";
    for count in Count::ALL {
        let name = count.metric().split('{').next().unwrap_or_default();
        if name != family {
            let _ = writeln!(out, "# TYPE {name} counter");
            family = name;
        }
        let _ = writeln!(out, "{} {}", count.metric(), shared.sum(*count));
    }
    let gauges = [
        ("hongbao_access_connections", u64::from(shared.connections())),
        ("hongbao_access_banned_addresses", shared.floods.lock().banned(shared.mono_ms()) as u64),
    ];
    for (name, value) in gauges {
        let _ = writeln!(out, "# TYPE {name} gauge\n{name} {value}");
    }
    let _ = writeln!(out, "# TYPE hongbao_access_load_permille gauge");
    for (worker, face) in shared.faces[..shared.faces.len() - 1].iter().enumerate() {
        let load = face.load.load(Ordering::Relaxed);
        let _ = writeln!(out, "hongbao_access_load_permille{{worker=\"{worker}\"}} {load}");
    }
    out
}
