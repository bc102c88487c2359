//! A node of the world: the decision core and its leases over a lane in memory that loses what was not synced.

use super::world::{CAMPAIGN, district_of, mac_keys, seed_key};
use campaign::{NodeEpoch, NodeId};
use lottery::core::{BUCKETS, Core, CoreConfig, NoWin, Now, Pending, WinLog};
use lottery::ledger::{QuotaLedger, StoreError, Tick, TickError};
use lottery::node::leases::{LeaseLog, Leases, Progress};
use lottery::node::replay::Replay;
use ownership::EndReason;
use parking_lot::Mutex;
use protocol::calls::{Inbox, SubmitCall, SubmitReply};
use protocol::v1::Outcome;
use records::{Ended, LeaseClosed, LeaseGot, Record, Won};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::task::Waker;

/// How long a tick carries, ms.
const SESSION_MS: u64 = 2_000;

#[derive(Default)]
struct Lane {
    /// (epoch, record), each a group of its own.
    records: Vec<(u32, Vec<u8>)>,
    /// Records that survive a kill.
    durable: usize,
    waiting: Vec<(u64, Pending)>,
}

/// A lane as one epoch of its node writes to it.
struct LaneLog {
    epoch: u32,
    lane: Arc<Mutex<Lane>>,
}

impl LaneLog {
    fn push(&self, record: Vec<u8>) -> u64 {
        let mut lane = self.lane.lock();
        lane.records.push((self.epoch, record));
        lane.records.len() as u64 - 1
    }
}

impl WinLog for LaneLog {
    fn append(&self, won: &Won, pending: Pending) -> Result<u64, NoWin> {
        let at = self.push(won.encode());
        self.lane.lock().waiting.push((at, pending));
        Ok(at)
    }

    fn acknowledged(&self) -> u64 {
        self.lane.lock().durable as u64
    }
}

impl LeaseLog for &LaneLog {
    fn got(&mut self, record: &LeaseGot) -> Option<u64> {
        Some(self.push(record.encode()))
    }

    fn closed(&mut self, record: &LeaseClosed) -> Option<u64> {
        Some(self.push(record.encode()))
    }
}

/// A process of the node.
struct Life {
    epoch: NodeEpoch,
    pub core: Core,
    log: Arc<LaneLog>,
    leases: Leases,
    unanswered: Option<Tick>,
    valid_until_ms: u64,
}

pub struct Node {
    pub id: NodeId,
    lane: Arc<Mutex<Lane>>,
    life: Option<Life>,
    inbox: Arc<Inbox>,
    /// The next answer to a tick is lost on its way.
    pub lose_answer: bool,
    /// Counter of each player's next draw, as he was told.
    counters: BTreeMap<u64, u32>,
    /// What players heard: (user, counter) -> award.
    pub told: BTreeMap<(u64, u32), String>,
}

impl Node {
    pub fn new(id: u16) -> Node {
        Node {
            id: NodeId(id),
            lane: Arc::default(),
            life: None,
            inbox: Arc::new(Inbox::new()),
            lose_answer: false,
            counters: BTreeMap::new(),
            told: BTreeMap::new(),
        }
    }

    /// Every second bucket is this node's.
    pub fn owns(&self, user: u64) -> bool {
        self.owns_bucket(hashring::bucket_of(user).index())
    }

    fn owns_bucket(&self, bucket: usize) -> bool {
        bucket % 2 == usize::from(self.id.0) % 2
    }

    pub fn core(&self) -> &Core {
        &self.life.as_ref().expect("a node is started again at once").core
    }

    /// Replays the lane.
    pub fn replay(&self) -> Replay {
        let (lane, mut replay) = (self.lane.lock(), Replay::new());
        for (at, (epoch, record)) in lane.records.iter().enumerate() {
            replay.group(self.id.0, *epoch, at as u64, std::iter::once(record.as_slice()), true).unwrap();
        }
        replay
    }

    /// The records that count, in their order: those in front of the end mark of their epoch.
    pub fn records(&self) -> Vec<(u32, Vec<u8>)> {
        self.lane.lock().records.clone()
    }

    /// The process ends. Of what was not synced, a part may have reached the disk.
    pub fn kill(&mut self, keep: u64) {
        self.life = None;
        let mut lane = self.lane.lock();
        let unsafe_ = lane.records.len() - lane.durable;
        let kept = lane.durable + (keep % (unsafe_ as u64 + 1)) as usize;
        lane.records.truncate(kept);
        lane.durable = kept;
        lane.waiting.clear();
    }

    /// Recovers as a node does: ends its epoch, settles its leases from the lane, begins the next, reads users back.
    pub async fn start(&mut self, ledger: &dyn QuotaLedger) {
        if let Some(last) = ledger.epochs(self.id).await.unwrap().last() {
            let epoch = NodeEpoch(last.epoch);
            ledger.end_epoch(self.id, epoch, EndReason::BySelf).await.unwrap();
            let mark = {
                let mut lane = self.lane.lock();
                lane.records.push((epoch.0, Ended { node: self.id, epoch }.encode()));
                lane.durable = lane.records.len();
                lane.durable as u64
            };
            ledger.record_end_position(self.id, epoch, mark).await.unwrap();
        }
        let mut replay = self.replay();
        for lease in ledger.open_leases(self.id).await.unwrap() {
            let used = replay.used(lease.key.epoch.0, lease.key.lease);
            ledger.settle(lease.key, &used).await.unwrap();
        }
        let epoch = ledger.begin_epoch(self.id, NodeEpoch(0)).await.unwrap();
        let log = Arc::new(LaneLog { epoch: epoch.0, lane: Arc::clone(&self.lane) });
        let config = CoreConfig {
            node: self.id,
            epoch,
            shards: 2,
            users_max: 50_000,
            mac_keys: mac_keys(),
            seed_keys: vec![seed_key()],
        };
        let core = Core::new(config, log.clone());
        for bucket in (0..BUCKETS).filter(|b| self.owns_bucket(*b)) {
            core.load(bucket, std::mem::take(&mut replay.wins[bucket]));
        }
        let leases = Leases::new(self.id, epoch);
        self.life = Some(Life { epoch, core, log, leases, unanswered: None, valid_until_ms: 0 });
    }

    /// What is in the lane becomes safe, and is told.
    pub fn sync(&mut self, now_ms: u64) {
        let (acknowledged, due) = {
            let mut lane = self.lane.lock();
            lane.durable = lane.records.len();
            (lane.durable, std::mem::take(&mut lane.waiting))
        };
        let valid = self.life.as_ref().is_some_and(|l| now_ms < l.valid_until_ms);
        for (at, pending) in due {
            assert!((at as usize) < acknowledged);
            if valid {
                self.hear(&pending.reply);
            }
        }
    }

    /// One tick; gives the call for later copies of it.
    pub async fn tick(&mut self, ledger: &dyn QuotaLedger, now_ms: u64) -> Option<Tick> {
        let life = self.life.as_mut()?;
        let mut log = &*life.log;
        let progress = Progress { acknowledged: life.log.acknowledged() };
        let call = match life.unanswered.take() {
            Some(call) => call,
            None => life.leases.tick(&life.core, now_ms, progress, false, &mut log),
        };
        assert_eq!(call.epoch, life.epoch);
        let answer = match ledger.tick(&call).await {
            Ok(_) if std::mem::take(&mut self.lose_answer) => {
                Err(TickError::Store(StoreError::Unknown("lost".into())))
            }
            answer => answer,
        };
        match answer {
            Ok(answer) => {
                life.valid_until_ms = now_ms + SESSION_MS;
                life.leases.answered(&life.core, &call, &answer, &mut log);
            }
            Err(TickError::Store(StoreError::Unknown(_))) => life.unanswered = Some(call.clone()),
            Err(error) => panic!("{error}"),
        }
        assert_eq!(life.leases.refused(), 0, "the ledger refused to close a lease");
        Some(call)
    }

    /// These users draw once each.
    pub fn draw(&mut self, users: impl Iterator<Item = u64>, now_ms: u64) {
        let users: Vec<u64> = users.filter(|u| self.owns(*u)).collect();
        let Some(life) = &self.life else { return };
        let call = |user: &u64| SubmitCall {
            user: *user,
            campaign: CAMPAIGN.0,
            round: 1,
            counter: *self.counters.get(user).unwrap_or(&1),
            shakes: 3,
            district: district_of(*user),
            ..SubmitCall::default()
        };
        let calls: Vec<SubmitCall> = users.iter().map(call).collect();
        let now = Now { ms: now_ms, may_win: now_ms < life.valid_until_ms };
        let mut out: Vec<SubmitReply> = Vec::new();
        life.core.submit(now, &calls, &self.inbox, &mut out);
        self.inbox.take(&mut out, Waker::noop());
        out.iter().for_each(|reply| self.hear(reply));
    }

    fn hear(&mut self, reply: &SubmitReply) {
        let draw = (reply.user, reply.counter);
        match reply.outcome {
            Outcome::Won => {
                let award = reply.award.as_ref().map(|a| a.award.clone()).unwrap_or_default();
                let before = self.told.insert(draw, award.clone());
                assert!(before.is_none_or(|b| b == award), "draw {draw:?} was told two awards");
            }
            Outcome::Lost => assert!(!self.told.contains_key(&draw), "draw {draw:?} won and then lost"),
            _ => {}
        }
        if matches!(reply.outcome, Outcome::Won | Outcome::Lost) {
            self.counters.insert(reply.user, reply.next_counter);
        }
    }
}
