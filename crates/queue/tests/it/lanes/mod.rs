//! Lanes: the rules by which every reader judges, and the promises of the port.

mod archive;
pub mod conformance;
mod rules;
mod walks;

use bytes::Bytes;
use flowlog::LogKind;
use flowlog::format::{self, GroupHeader, Hash};
use queue::Position;

/// A node's log as it grows, without a disk.
#[derive(Clone)]
pub struct Log {
    pub node: u16,
    pub epoch: u32,
    pub next: u64,
    pub seq: u64,
    pub hash: Hash,
}

impl Log {
    /// The log of a node before its first group.
    pub fn new(node: u16, epoch: u32) -> Log {
        Log { node, epoch, next: 0, seq: 0, hash: format::epoch_genesis(node, epoch) }
    }

    /// Goes over to a higher epoch.
    pub fn begin(&mut self, epoch: u32) {
        (self.epoch, self.seq, self.hash) = (epoch, 0, format::epoch_genesis(self.node, epoch));
    }

    /// The next group.
    pub fn group(&mut self, records: &[&[u8]]) -> Bytes {
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
            time_ms: 1,
            prev_hash: self.hash,
            body_crc: crc32c::crc32c(&body),
        };
        let mut bytes = header.encode().to_vec();
        bytes.extend_from_slice(&body);
        (self.next, self.seq, self.hash) = (self.next + 1, self.seq + 1, format::group_hash(&bytes));
        Bytes::from(bytes)
    }

    /// So many groups of one record each.
    pub fn groups(&mut self, count: usize) -> Vec<Bytes> {
        (0..count).map(|_| self.group(&[format!("{}/{}", self.epoch, self.next).as_bytes()])).collect()
    }
}

/// The record `Ended`.
pub fn ended(node: u16, epoch: u32) -> Vec<u8> {
    let mut record = vec![5, 1, 6, 0];
    record.extend_from_slice(&node.to_le_bytes());
    record.extend_from_slice(&epoch.to_le_bytes());
    record
}
