//! The node's start-up sequence, one step at a time, as the node itself takes them (recover, end the epoch, mark it,
//! settle its leases, begin a new one, claim the buckets): it can be killed between any two, and begins anew.

use crate::log::{SimLog, log_dir, log_options};
use crate::plan::{NODE, mac_keys, seed_key};
use crate::single::{NodeState, NodeStep, Up};
use crate::world::{Event, World, now};
use campaign::NodeEpoch;
use flow::store::AwardStore as _;
use flowlog::{Class, LogError, LogReader, LogWriter, Position, WriteError};
use lottery::core::{BUCKETS, Core, CoreConfig};
use lottery::ledger::{LeaseKey, LeaseRow, QuotaLedger as _, Tick, TickError};
use lottery::node::leases::Leases;
use lottery::node::replay::{BadRecord, Replay};
use lottery::node::session::Session;
use ownership::{ClaimBucket, EndReason, NodeRow};
use records::{Ended, EpochBegan, Record as _};
use runtime::Clock as _;
use std::sync::Arc;
use testkit::SimDisk;

/// The step that comes next.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum Stage {
    #[default]
    Recover,
    Read,
    EndEpoch,
    Mark,
    SyncMark,
    RecordEnd,
    FindLeases,
    Settle,
    BeginEpoch,
    WriteBegan,
    SyncBegan,
    Claim,
}

/// A process of the node that has not begun to serve.
#[derive(Default)]
pub(crate) struct Boot {
    stage: Stage,
    epochs: Vec<NodeRow>,
    writer: Option<LogWriter<SimDisk>>,
    last_in_log: u32,
    replay: Replay,
    mark: u64,
    open: Vec<LeaseRow>,
    epoch: NodeEpoch,
}

/// Why a start ended.
enum Stop {
    /// The ledger gave no answer: the process ends, and another one tries.
    NoAnswer,
    /// The disk.
    Disk(String),
    /// It refuses to start.
    Refused(String),
}

impl From<WriteError> for Stop {
    fn from(error: WriteError) -> Stop {
        Stop::Disk(error.to_string())
    }
}

impl From<LogError> for Stop {
    fn from(error: LogError) -> Stop {
        Stop::Disk(error.to_string())
    }
}

impl From<BadRecord> for Stop {
    fn from(error: BadRecord) -> Stop {
        Stop::Refused(error.to_string())
    }
}

impl World {
    /// Does the next step of the start.
    pub fn boot_step(&mut self) {
        let NodeState::Booting(boot) = &mut self.node.state else { return };
        let mut boot = std::mem::take(&mut **boot);
        let stage = boot.stage;
        match self.boot_do(&mut boot) {
            Ok(()) => {}
            Err(Stop::NoAnswer) => {
                self.note(format_args!("start: gives up at {stage:?}"));
                let wait = self.between(20, 300);
                return self.node_restart(wait);
            }
            Err(Stop::Disk(error)) => return self.node_disk_failed(&error),
            Err(Stop::Refused(error)) => {
                return self.node_gone(format!("the node refuses to start: {error}"));
            }
        }
        if stage == Stage::Claim {
            return;
        }
        self.node.state = NodeState::Booting(Box::new(boot));
        let wait = self.between(0, 8);
        self.node_push(wait, NodeStep::Boot);
    }

    fn boot_do(&mut self, boot: &mut Boot) -> Result<(), Stop> {
        let ledger = Arc::clone(&self.ledger);
        let refused = |error: &dyn std::fmt::Display| Stop::Refused(error.to_string());
        boot.stage = match boot.stage {
            Stage::Recover => self.boot_recovers(boot)?,
            Stage::Read => self.boot_reads(boot)?,
            Stage::EndEpoch => match boot.epochs.last() {
                None => Stage::FindLeases,
                Some(last) => {
                    let call = ledger.end_epoch(NODE, NodeEpoch(last.epoch), EndReason::BySelf);
                    let ended = self.ledger_call("end epoch", call).ok_or(Stop::NoAnswer)?;
                    ended.map_err(|e| refused(&e))?;
                    Stage::Mark
                }
            },
            Stage::Mark => self.boot_marks(boot)?,
            Stage::SyncMark => {
                writer(boot)?.sync()?;
                Stage::RecordEnd
            }
            Stage::RecordEnd => {
                let epoch = NodeEpoch(boot.epochs.last().map_or(0, |e| e.epoch));
                let call = ledger.record_end_position(NODE, epoch, boot.mark);
                let done = self.ledger_call("record end position", call).ok_or(Stop::NoAnswer)?;
                let counts = done.map_err(|e| refused(&e))?;
                self.note(format_args!("start: epoch {epoch} ends at {counts}"));
                Stage::FindLeases
            }
            Stage::FindLeases => {
                let open = self.ledger_call("open leases", ledger.open_leases(NODE)).ok_or(Stop::NoAnswer)?;
                boot.open = open.map_err(|e| refused(&e))?;
                Stage::Settle
            }
            Stage::Settle => self.boot_settles(boot)?,
            Stage::BeginEpoch => {
                let call = ledger.begin_epoch(NODE, NodeEpoch(boot.last_in_log));
                let begun = self.ledger_call("begin epoch", call).ok_or(Stop::NoAnswer)?;
                boot.epoch = begun.map_err(|e| refused(&e))?;
                Stage::WriteBegan
            }
            Stage::WriteBegan => {
                let (epoch, time_ms) = (boot.epoch, self.now_ms());
                let began = EpochBegan { node: NODE, epoch, time_ms }.encode();
                let writer = writer(boot)?;
                writer.begin_epoch(epoch.0)?;
                writer.append_group(&[began], time_ms, Class::Ending)?;
                Stage::SyncBegan
            }
            Stage::SyncBegan => {
                writer(boot)?.sync()?;
                Stage::Claim
            }
            Stage::Claim => return self.boot_claims(boot),
        };
        Ok(())
    }

    fn boot_recovers(&mut self, boot: &mut Boot) -> Result<Stage, Stop> {
        let ledger = Arc::clone(&self.ledger);
        let epochs = self.ledger_call("epochs", ledger.epochs(NODE)).ok_or(Stop::NoAnswer)?;
        boot.epochs = epochs.map_err(|e| Stop::Refused(e.to_string()))?;
        let lanes = now(self.flow.store.lanes()).unwrap_or_default();
        let known = boot
            .epochs
            .iter()
            .flat_map(|e| [Some(e.low_water), e.end_position])
            .flatten()
            .chain(self.node.snapshot.as_ref().map(|s| s.to))
            .chain(lanes.iter().filter(|l| l.node == NODE).map(|l| l.next))
            .max();
        let (writer, report) =
            LogWriter::open(self.disk.clone(), log_dir(), log_options(NODE), known.map(Position), None)?;
        let cut = report.cut.as_ref().map_or("nothing", |_| "an unfinished group");
        self.note(format_args!("start: the log goes up to {}, cut off: {cut}; known {known:?}", report.end));
        boot.last_in_log = report.last_epoch.unwrap_or(0);
        boot.writer = Some(writer);
        Ok(Stage::Read)
    }

    fn boot_reads(&mut self, boot: &mut Boot) -> Result<Stage, Stop> {
        let end = writer(boot)?.end();
        // From where the snapshot or an open lease needs it, and no further back.
        let low_water = boot.epochs.iter().map(|e| e.low_water).max().unwrap_or(0);
        let wins_from = self.node.snapshot.as_ref().map_or(0, |s| s.from);
        let from = Position(wins_from.min(low_water));
        let mut reader = LogReader::new(self.disk.clone(), log_dir(), &log_options(NODE), from);
        boot.replay = Replay::new();
        while let Some(group) = reader.next_group(end)? {
            let keep = group.position().0 >= wins_from;
            boot.replay.group(group.node(), group.epoch(), group.position().0, group.records(), keep)?;
        }
        let wins: usize = boot.replay.wins.iter().map(Vec::len).sum();
        self.note(format_args!("start: read {} records behind {from}, {wins} wins", boot.replay.records));
        Ok(Stage::EndEpoch)
    }

    fn boot_marks(&mut self, boot: &mut Boot) -> Result<Stage, Stop> {
        let epoch = NodeEpoch(boot.epochs.last().map_or(0, |e| e.epoch));
        if let Some(position) = boot.replay.ended(epoch.0) {
            boot.mark = position + 1;
            return Ok(Stage::RecordEnd);
        }
        let now_ms = self.now_ms();
        let mark = Ended { node: NODE, epoch }.encode();
        let writer = writer(boot)?;
        writer.begin_epoch(epoch.0)?;
        let position = writer.append_group(&[mark], now_ms, Class::Ending)?;
        boot.mark = position.next().0;
        self.note(format_args!("start: marks the end of epoch {epoch} at {position}"));
        Ok(Stage::SyncMark)
    }

    fn boot_settles(&mut self, boot: &mut Boot) -> Result<Stage, Stop> {
        let Some(lease) = boot.open.pop() else { return Ok(Stage::BeginEpoch) };
        let (ledger, LeaseKey { epoch, lease: id, .. }) = (Arc::clone(&self.ledger), lease.key);
        let used = boot.replay.used(epoch.0, id);
        let done = self.ledger_call("settle", ledger.settle(lease.key, &used)).ok_or(Stop::NoAnswer)?;
        let settled = done.map_err(|e| Stop::Refused(e.to_string()))?;
        self.note(format_args!(
            "start: settled lease {id} of epoch {epoch}: used {used}, back {}",
            settled.returned
        ));
        #[cfg(feature = "planted")]
        if self.planted.settled_twice {
            self.ledger.plant_second_settlement(lease.key);
        }
        Ok(Stage::Settle)
    }

    fn boot_claims(&mut self, boot: &mut Boot) -> Result<(), Stop> {
        let ledger = Arc::clone(&self.ledger);
        let rows = self.ledger_call("buckets", ledger.buckets(None)).ok_or(Stop::NoAnswer)?;
        let rows = rows.map_err(|e| Stop::Refused(e.to_string()))?;
        let mut terms = vec![0; BUCKETS];
        rows.iter().for_each(|row| terms[usize::from(row.bucket)] = row.term);
        let claim = |(bucket, &term): (usize, &u32)| ClaimBucket { bucket: bucket as u16, term };
        let claims = terms.iter().enumerate().map(claim).collect();
        let tick = Tick { node: NODE, epoch: boot.epoch, claims, ..Tick::default() };
        let sent_ns = self.clock.mono_ns();
        let answer = match self.ledger_call("claim", ledger.tick(&tick)).ok_or(Stop::NoAnswer)? {
            Ok(answer) => answer,
            Err(TickError::Session(_)) => return Err(Stop::NoAnswer),
            Err(error) => return Err(Stop::Refused(error.to_string())),
        };
        if answer.claimed.len() != BUCKETS {
            return Err(Stop::Refused(format!("got {} buckets of {BUCKETS}", answer.claimed.len())));
        }
        let Some(writer) = boot.writer.take() else { return Err(Stop::NoAnswer) };
        let (clock, session) = (self.clock.clone(), Arc::new(Session::default()));
        session.renew(sent_ns, clock.mono_ns(), answer.now_ms);
        let log = Arc::new(SimLog::new(writer, boot.epoch, Arc::clone(&session), clock));
        let config = CoreConfig {
            node: NODE,
            epoch: boot.epoch,
            shards: 2,
            users_max: 10_000,
            mac_keys: mac_keys(),
            seed_keys: vec![seed_key()],
        };
        let core = Core::new(config, log.clone());
        (0..BUCKETS).for_each(|bucket| core.begin_loading(bucket));
        #[cfg_attr(not(feature = "planted"), allow(unused_mut))]
        let mut leases = Leases::new(NODE, boot.epoch);
        #[cfg(feature = "planted")]
        if self.planted.closed_early {
            leases.plant_close_early();
        }
        self.serve(boot, core, log, session, leases);
        Ok(())
    }

    fn serve(
        &mut self,
        boot: &mut Boot,
        core: Core,
        log: Arc<SimLog>,
        session: Arc<Session>,
        leases: Leases,
    ) {
        let from = self.flow.queue.head(queue::LANE, NODE.0).unwrap_or_default();
        let mut up = Up::new(core, log, session, leases, self.disk.clone(), from);
        up.wins = std::mem::take(&mut boot.replay.wins);
        if let Some(snapshot) = &self.node.snapshot {
            for (tail, kept) in up.wins.iter_mut().zip(&snapshot.wins) {
                tail.splice(0..0, kept.iter().copied());
            }
        }
        self.note(format_args!("start: epoch {} serves", up.log.epoch()));
        self.node.state = NodeState::Up(Box::new(up));
        self.counters.epochs += 1;
        for step in [NodeStep::Load(0), NodeStep::Register, NodeStep::Tick, NodeStep::Ship] {
            let wait = self.between(0, 20);
            self.node_push(wait, step);
        }
        let wait = self.between(200, 3_000);
        self.node_push(wait, NodeStep::Copy(None));
        // Once in a while a node is stopped as it should be.
        if !self.draining && self.rng.one_in(6) {
            let wait = self.between(500, 6_000);
            self.push(wait, Event::Node(self.node.life, NodeStep::Stop));
        }
    }
}

fn writer(boot: &mut Boot) -> Result<&mut LogWriter<SimDisk>, Stop> {
    boot.writer.as_mut().ok_or_else(|| Stop::Refused("the log is not open".to_owned()))
}
