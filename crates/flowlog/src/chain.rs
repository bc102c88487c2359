//! What must come next in a log: position, epoch, number in the epoch, hash.
//!
//! One small state that the writer advances, and that recovery and readers check against. Pure.

use crate::format::{GroupHeader, Hash, SegmentHeader, epoch_genesis, group_hash};
use crate::position::Position;

/// The state of a log's chain before its next group.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Chain {
    pub kind: u16,
    pub node: u16,
    pub epoch: u32,
    pub next: Position,
    pub next_seq: u64,
    pub head: Hash,
}

impl Chain {
    /// The state that a segment begins with.
    pub fn at_segment(header: &SegmentHeader) -> Chain {
        Chain {
            kind: header.kind,
            node: header.node,
            epoch: header.epoch,
            next: header.first,
            next_seq: header.first_epoch_seq,
            head: header.prev_hash,
        }
    }

    /// The header of a segment that begins here.
    pub fn segment_header(&self) -> SegmentHeader {
        SegmentHeader {
            kind: self.kind,
            node: self.node,
            epoch: self.epoch,
            first: self.next,
            first_epoch_seq: self.next_seq,
            prev_hash: self.head,
        }
    }

    /// Goes over to a higher epoch, whose chain begins anew.
    pub fn begin_epoch(&mut self, epoch: u32) {
        self.epoch = epoch;
        self.next_seq = 0;
        self.head = epoch_genesis(self.node, epoch);
    }

    /// Checks that a segment follows on what came before it, and goes over to its epoch.
    pub fn follow_segment(&mut self, header: &SegmentHeader) -> Result<(), String> {
        if header.first != self.next {
            return Err(format!(
                "the segment begins at group {}, but {} comes next",
                header.first, self.next
            ));
        }
        if header.epoch < self.epoch {
            return Err(format!("the segment is of epoch {}, after epoch {}", header.epoch, self.epoch));
        }
        let mut expected = self.clone();
        if header.epoch > self.epoch {
            expected.begin_epoch(header.epoch);
        }
        if Chain::at_segment(header) != expected {
            return Err("the segment doesn't continue the hash chain of the segment before it".to_owned());
        }
        *self = expected;
        Ok(())
    }

    /// Checks a whole group against what must come, and steps over it. The group's own CRCs were checked before.
    /// Returns the group's hash.
    pub fn follow_group(&mut self, header: &GroupHeader, group: &[u8]) -> Result<Hash, String> {
        if header.position != self.next {
            return Err(format!("group {} stands where {} must", header.position, self.next));
        }
        if (header.kind, header.node) != (self.kind, self.node) {
            return Err(format!("a group of node {}, kind {} in this log", header.node, header.kind));
        }
        if (header.epoch, header.epoch_seq) != (self.epoch, self.next_seq) {
            return Err(format!(
                "number {} of epoch {} stands where number {} of epoch {} must",
                header.epoch_seq, header.epoch, self.next_seq, self.epoch
            ));
        }
        if header.prev_hash != self.head {
            return Err("the group doesn't continue the hash chain".to_owned());
        }
        Ok(self.step(group))
    }

    /// Steps over a group.
    pub fn step(&mut self, group: &[u8]) -> Hash {
        self.head = group_hash(group);
        self.next = self.next.next();
        self.next_seq += 1;
        self.head
    }
}
