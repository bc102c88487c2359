//! The auditor's own reading of a lane: from messages as they stand in the queue, byte for byte, to the groups that
//! count.
//!
//! Written from the published format and its rules alone, with reconcile's reader of the bytes, so that a mistake in the
//! platform's readers of lanes is seen here.

use campaign::NodeId;
use reconcile::readers::archive::bytes::{GROUP_HEADER, GroupHead, Record, chain_start, records};

/// A group that counts.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct LaneGroup {
    pub node: NodeId,
    pub epoch: u32,
    pub position: u64,
    pub records: Vec<Vec<u8>>,
}

/// What the messages before have come to.
struct Lane {
    node: NodeId,
    next: u64,
    /// The epoch that writes, its next group's number in it, and the hash of the group before.
    writer: Option<(u32, u64, [u8; 32])>,
    /// Epochs up to this one are over.
    ended: u32,
    behind: u64,
}

/// The groups of a lane that count, in order, and how many messages stand there behind the end of their epoch.
///
/// # Errors
/// When a message is none, or one is missing: that names the place.
pub(crate) fn groups(node: NodeId, messages: &[Vec<u8>]) -> Result<(Vec<LaneGroup>, u64), String> {
    let mut lane = Lane { node, next: 0, writer: None, ended: 0, behind: 0 };
    let mut all = Vec::new();
    for (number, message) in messages.iter().enumerate() {
        let group = lane.take(message).map_err(|why| format!("lane {node}, message {number}: {why}"))?;
        all.extend(group);
    }
    Ok((all, lane.behind))
}

impl Lane {
    fn take(&mut self, message: &[u8]) -> Result<Option<LaneGroup>, String> {
        let Some((header, body)) = message.split_first_chunk::<GROUP_HEADER>() else {
            return Err(format!("{} bytes are no group", message.len()));
        };
        let head = GroupHead::parse(header).map_err(|e| e.to_string())?;
        let hash = head.check_body(header, body).map_err(|e| e.to_string())?;
        if head.node != self.node || body.len() != head.body_len {
            return Err(format!("a group of node {} with {} bytes", head.node, head.body_len));
        }
        let records: Result<Vec<Vec<u8>>, String> = records(body, head.record_count)
            .map(|r| r.map(<[u8]>::to_vec).map_err(|e| e.to_string()))
            .collect();
        let epoch = head.epoch.0;
        if !self.counts(&head)? {
            return Ok(None);
        }
        let position = if is_foreign(&head) { self.next } else { head.position };
        if is_foreign(&head) {
            self.ended = epoch;
        } else {
            self.writer = Some((epoch, head.epoch_seq + 1, hash));
        }
        self.next = position + 1;
        let records = records?;
        for record in &records {
            if let Record::Ended { epoch, .. } = Record::parse(record)? {
                self.ended = self.ended.max(epoch.0);
            }
        }
        Ok(Some(LaneGroup { node: self.node, epoch, position, records }))
    }

    /// Does the group count? What an ended epoch sent, and what is here already, does not.
    fn counts(&mut self, head: &GroupHead) -> Result<bool, String> {
        let epoch = head.epoch.0;
        if epoch <= self.ended {
            self.behind += u64::from(!is_foreign(head) && head.position >= self.next.saturating_sub(1));
            return Ok(false);
        }
        if is_foreign(head) {
            return Ok(true);
        }
        let (writer, seq, hash) = self.writer.unwrap_or((0, 0, [0; 32]));
        // A later epoch has begun, or the group is here already.
        if epoch < writer || (epoch == writer && head.position < self.next) {
            return Ok(false);
        }
        let follows = if epoch > writer {
            head.position >= self.next
                && head.epoch_seq == 0
                && head.prev_hash == chain_start(self.node, head.epoch)
        } else {
            head.position == self.next && head.epoch_seq == seq && head.prev_hash == hash
        };
        if follows {
            return Ok(true);
        }
        Err(format!(
            "group {} (number {} of epoch {epoch}) does not follow on group {} (number {seq} of epoch {writer} is next)",
            head.position, head.epoch_seq, self.next,
        ))
    }
}

/// A mark that somebody else wrote: it has no place of its own.
fn is_foreign(head: &GroupHead) -> bool {
    head.position == u64::MAX && head.epoch_seq == u64::MAX
}
