//! A node's log in virtual time: real groups, a disk that loses what was not synced, and winners who wait for the lane.

use bytes::Bytes;
use campaign::{NodeEpoch, NodeId};
use flowlog::format::{GroupHeader, epoch_genesis, group_hash};
use flowlog::{LogKind, Position};
use lottery::core::{NoWin, Pending, WinLog};
use lottery::node::journal::not_yet;
use lottery::node::leases::LeaseLog;
use lottery::node::session::Session;
use parking_lot::Mutex;
use records::{Ended, LeaseClosed, LeaseGot, Record, Won};
use runtime::{Clock, ManualClock};
use std::collections::VecDeque;
use std::sync::Arc;

/// What is on the disk.
#[derive(Clone)]
pub struct Disk {
    node: u16,
    pub epoch: u32,
    seq: u64,
    hash: [u8; 32],
    /// Position of the next group.
    pub next: u64,
    pub groups: Vec<(u32, u64, Bytes)>,
}

impl Disk {
    /// An empty one, whose log begins at a position.
    pub fn empty(node: u16, next: u64) -> Disk {
        Disk { node, epoch: 0, seq: 0, hash: [0; 32], next, groups: Vec::new() }
    }

    pub fn begin_epoch(&mut self, epoch: u32) {
        (self.epoch, self.seq, self.hash) = (epoch, 0, epoch_genesis(self.node, epoch));
    }

    pub fn write(&mut self, records: &[Vec<u8>]) {
        let mut body = Vec::new();
        for record in records {
            body.extend_from_slice(&(record.len() as u32).to_le_bytes());
            body.extend_from_slice(record);
        }
        let header = GroupHeader {
            kind: LogKind::FLOW.0,
            node: self.node,
            epoch: self.epoch,
            position: Position(self.next),
            epoch_seq: self.seq,
            record_count: records.len() as u32,
            body_len: body.len() as u32,
            time_ms: 0,
            prev_hash: self.hash,
            body_crc: crc32c::crc32c(&body),
        };
        let mut bytes = header.encode().to_vec();
        bytes.extend_from_slice(&body);
        self.hash = group_hash(&bytes);
        self.groups.push((self.epoch, self.next, Bytes::from(bytes)));
        self.seq += 1;
        self.next += 1;
    }

    /// A group that only takes a position.
    pub fn fill(&mut self) {
        let mark = Ended { node: NodeId(self.node), epoch: NodeEpoch(self.epoch) };
        self.write(&[mark.encode()]);
    }

    /// The groups of an epoch from a position on, below another.
    pub fn of(&self, epoch: u32, from: u64, to: u64) -> Vec<Bytes> {
        let own = self.groups.iter().filter(|g| g.0 == epoch && (from..to).contains(&g.1));
        own.map(|g| g.2.clone()).collect()
    }
}

#[derive(Default)]
struct Memory {
    active: Vec<Vec<u8>>,
    waiting: VecDeque<(u64, Pending)>,
    acknowledged: u64,
}

/// The log as a process has it.
pub struct Log {
    pub disk: Arc<Mutex<Disk>>,
    memory: Mutex<Memory>,
    session: Arc<Session>,
    clock: Arc<ManualClock>,
}

impl Log {
    /// A log whose lane has everything below `first`.
    pub fn new(disk: Arc<Mutex<Disk>>, first: u64, session: Arc<Session>, clock: Arc<ManualClock>) -> Log {
        let memory = Memory { acknowledged: first, ..Memory::default() };
        Log { disk, memory: Mutex::new(memory), session, clock }
    }

    fn push(&self, record: Vec<u8>) -> u64 {
        self.memory.lock().active.push(record);
        self.disk.lock().next
    }

    /// What was appended becomes a group on the disk.
    pub fn sync(&self) {
        let active = std::mem::take(&mut self.memory.lock().active);
        if !active.is_empty() {
            self.disk.lock().write(&active);
        }
    }

    /// The lane has everything below `end`.
    pub fn acknowledge(&self, end: u64) {
        let mut memory = self.memory.lock();
        memory.acknowledged = end;
        let valid = self.session.is_valid(self.clock.mono_ns());
        while memory.waiting.front().is_some_and(|(at, _)| *at < end) {
            let Some((_, Pending { inbox, mut reply })) = memory.waiting.pop_front() else { break };
            if !valid {
                not_yet(&mut reply);
            }
            inbox.put(reply);
        }
    }
}

impl WinLog for Log {
    fn append(&self, won: &Won, pending: Pending) -> Result<u64, NoWin> {
        let at = self.push(won.encode());
        self.memory.lock().waiting.push_back((at, pending));
        Ok(at)
    }

    fn acknowledged(&self) -> u64 {
        self.memory.lock().acknowledged
    }
}

impl LeaseLog for &Log {
    fn got(&mut self, record: &LeaseGot) -> Option<u64> {
        Some(self.push(record.encode()))
    }

    fn closed(&mut self, record: &LeaseClosed) -> Option<u64> {
        Some(self.push(record.encode()))
    }
}
