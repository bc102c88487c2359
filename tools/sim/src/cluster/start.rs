//! How a node's process begins and ends in order: the node's own code ([`recover`], [`bury`]) on the simulated disk, with
//! every answer that it awaits late, doubled or lost.

use super::calls::{Remote, poll};
use super::machine::{MachineState, MachineStep, Parts, Up};
use crate::log::{SimLog, log_dir, log_options};
use crate::plan::{mac_keys, seed_key};
use crate::world::World;
use campaign::NodeEpoch;
use flowlog::LogWriter;
use lottery::core::{Core, CoreConfig};
use lottery::ledger::{EpochError, QuotaLedger as _};
use lottery::node::cluster::buckets::Buckets;
use lottery::node::cluster::{BuryError, Origin, StartError, Started, bury, recover};
use lottery::node::leases::Leases;
use lottery::node::session::Session;
use ownership::EndReason;
use std::pin::Pin;
use std::sync::Arc;
use testkit::SimDisk;

/// A start under way.
type Work = dyn Future<Output = Result<(LogWriter<SimDisk>, Started), StartError>>;

/// A start under way.
pub(crate) struct Starting {
    remote: Remote,
    work: Pin<Box<Work>>,
}

/// The node's own end of its epoch.
pub(crate) type Finish = Pin<Box<dyn Future<Output = Result<(), BuryError>>>>;

impl World {
    /// A process begins.
    pub fn machine_begins(&mut self, m: usize) {
        let remote = Remote::new(self.services());
        let pause = remote.clone();
        let machine = &mut self.cluster.machines[m];
        let origin = Origin {
            node: machine.node,
            dir: log_dir().to_path_buf(),
            options: log_options(machine.node),
            disk: machine.disk.clone(),
            ledger: Arc::new(remote.clone()),
            lanes: Arc::new(remote.clone()),
            clock: machine.clock.clone(),
            pause: Arc::new(move |length| {
                let pause = pause.clone();
                Box::pin(async move { pause.pause(length).await })
            }),
        };
        machine.state = MachineState::Starting(Some(Starting { remote, work: Box::pin(recover(origin)) }));
        self.machine_goes_on(m);
    }

    /// What a process awaited has come: it goes on, and makes its next calls.
    pub fn machine_goes_on(&mut self, m: usize) {
        match &mut self.cluster.machines[m].state {
            MachineState::Off | MachineState::Starting(None) => {}
            MachineState::Starting(Some(starting)) => {
                let remote = starting.remote.clone();
                match poll(&mut starting.work) {
                    None => self.send_calls(m, &remote),
                    Some(done) => self.machine_has_begun(m, remote, done),
                }
            }
            MachineState::Up(up) => {
                let remote = up.undertaking.remote.clone();
                if let Some(done) = up.finish.as_mut().and_then(poll) {
                    return self.machine_has_finished(m, done);
                }
                if up.finish.is_some() {
                    return self.send_calls(m, &remote);
                }
                self.undertaker_works(m);
            }
        }
    }

    fn machine_has_begun(
        &mut self,
        m: usize,
        remote: Remote,
        done: Result<(LogWriter<SimDisk>, Started), StartError>,
    ) {
        let node = self.cluster.machines[m].node;
        let (writer, started) = match done {
            Ok(done) => done,
            Err(StartError::Log(error)) => return self.machine_disk_failed(m, &error),
            Err(StartError::Write(error)) => return self.machine_disk_failed(m, &error),
            Err(StartError::Folder { error, .. }) => return self.machine_disk_failed(m, &error),
            Err(error) if is_passing(&error) => {
                self.note(format_args!("node {node}: start: {error}"));
                let wait = self.between(20, 300);
                return self.machine_restart(m, wait);
            }
            Err(error) => return self.machine_gone(m, format!("node {node} refuses to start: {error}")),
        };
        self.note(format_args!(
            "node {node}: epoch {} begins at {}; shipped {}, ended the last one: {}, {} leases settled",
            started.epoch, started.first, started.shipped, started.ended, started.settled
        ));
        self.counters.epochs += 1;
        self.machine_serves(m, remote, writer, &started);
    }

    fn machine_serves(&mut self, m: usize, remote: Remote, writer: LogWriter<SimDisk>, started: &Started) {
        let machine = &self.cluster.machines[m];
        let (node, epoch) = (machine.node, NodeEpoch(started.epoch));
        let session = Arc::new(Session::default());
        let log = SimLog::shipped(writer, epoch, Arc::clone(&session), machine.clock.clone(), started.first);
        let log = Arc::new(log);
        #[cfg(feature = "planted")]
        if self.planted.no_session_check {
            log.plant_no_session_check();
        }
        let config = CoreConfig {
            node,
            epoch,
            shards: 2,
            users_max: 10_000,
            mac_keys: mac_keys(),
            seed_keys: vec![seed_key()],
        };
        let core = Core::new(config, log.clone());
        #[cfg_attr(not(feature = "planted"), allow(unused_mut))]
        let (mut leases, mut buckets) = (Leases::new(node, epoch).beside_others(), Buckets::new(node.0));
        #[cfg(feature = "planted")]
        {
            if self.planted.closed_early {
                leases.plant_close_early();
            }
            if self.planted.no_waiting {
                buckets.plant_open_early();
            }
        }
        if let Some(ring) = &machine.view.ring {
            buckets.follow(ring);
        }
        let parts = Parts { core, log, session, leases, buckets, ship_from: started.first, remote };
        let up = Up::new(parts, node, &machine.disk);
        self.cluster.machines[m].state = MachineState::Up(Box::new(up));
        for step in [
            MachineStep::Register,
            MachineStep::Tick,
            MachineStep::Ship,
            MachineStep::Members,
            MachineStep::Undertake,
        ] {
            let wait = self.between(0, 20);
            self.machine_push(m, wait, step);
        }
        let wait = self.between(200, 2_000);
        self.machine_push(m, wait, MachineStep::Forget);
    }

    /// Ends the own epoch in order: everything was given back, and all of the log is in the lane.
    pub fn machine_finishes(&mut self, m: usize) {
        let node = self.cluster.machines[m].node;
        let Some(up) = self.up_at(m) else { return };
        if up.finish.is_some() {
            return;
        }
        up.session.end();
        up.shipping.end();
        let (remote, epoch) = (up.undertaking.remote.clone(), up.log.epoch());
        up.finish = Some(Box::pin(async move {
            let rows = remote.epochs(node).await?;
            match rows.last().filter(|row| row.epoch == epoch.0) {
                Some(row) => bury(&remote, &remote, row, EndReason::BySelf).await.map(drop),
                None => Ok(()),
            }
        }));
        self.machine_goes_on(m);
    }

    fn machine_has_finished(&mut self, m: usize, done: Result<(), BuryError>) {
        let node = self.cluster.machines[m].node;
        self.note(format_args!("node {node} has stopped: {done:?}"));
        self.cluster.machines[m].stops(false);
        let gone = !self.draining && self.cluster.living() > 2 && self.rng.one_in(3);
        if gone {
            self.note(format_args!("node {node} is not needed any more"));
            return self.cluster.machines[m].dies();
        }
        let wait = self.between(20, 4_000);
        self.machine_restart(m, wait);
    }
}

/// The same again may succeed.
fn is_passing(error: &StartError) -> bool {
    match error {
        StartError::Ledger(_) | StartError::InUse { .. } => true,
        StartError::Epoch(EpochError::Store(_) | EpochError::Begin(_)) => true,
        StartError::Bury(BuryError::Epoch(_) | BuryError::Ledger(_) | BuryError::Settle(_)) => true,
        StartError::Lane(error) | StartError::Bury(BuryError::Lane(error)) => error.is_retryable(),
        _ => false,
    }
}
