//! Which messages of a lane count, and where they stand in it. Pure.
//!
//! A lane is written by its node and, at the ends of epochs, by others; messages come twice, late, and from nodes that
//! don't know yet that they were given up. Each reader judges every message, in the order of the partition, by the same
//! rules, so all of them see one sequence of groups:
//!
//! 1. a foreign mark whose epoch is not ended yet is accepted, at the position that comes next, and ends its epoch and
//!    every earlier one; another one of an ended epoch is skipped;
//! 2. a group of an ended epoch is skipped: its node had been given up;
//! 3. a group below the next position is skipped: it came twice;
//! 4. a group of the same epoch must follow on (position, number in the epoch, hash);
//! 5. the first group of a higher epoch must begin a chain. It may leave positions out if the epoch before it has ended:
//!    those of groups that never left their node. It ends every epoch below its own.
//!
//! A group that holds `Ended` ends that epoch behind itself, as a mark does: so a mark that comes late, for an epoch that
//! its node has ended already, takes no position away from what follows.
//!
//! Anything else is a fault: the lane was damaged, or somebody writes who must not, and the reader stops there.

use flowlog::LogKind;
use flowlog::format::{self, Defect, GROUP_HEADER_LEN, GroupHeader, Hash};

use super::mark::{ended_of, is_mark};
use crate::{Group, Position};

/// A lane as far as it was read: all that the judgement of the next message needs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LaneState {
    /// The position that the next accepted group gets or, at the beginning of an epoch, must at least have.
    pub next: Position,
    /// Epoch of the last group that was accepted (marks don't count); 0 before the first.
    pub epoch: u32,
    /// Number in that epoch of the group that comes next.
    pub epoch_seq: u64,
    /// Hash of the last group of that epoch.
    pub hash: Hash,
    /// Epochs up to this one are over: nothing of them is accepted any more.
    pub ended_up_to: u32,
}

/// What a message is to a reader.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// It counts.
    Accepted(Place),
    /// It is nothing.
    Skipped(Skip),
}

/// Where an accepted group stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Place {
    /// Its position in the lane.
    pub position: Position,
    /// The epoch that it belongs to; for a mark the one that it ends.
    pub epoch: u32,
    /// A foreign mark: its own header has no position.
    pub is_mark: bool,
}

/// Why a message is nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Skip {
    /// It was there before.
    Twice,
    /// Its epoch is over.
    Ended,
    /// A mark for an epoch that is over already.
    MarkTwice,
}

/// A message that no rule allows.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("lane of node {node}, group {next} of epoch {epoch}: {why}")]
pub struct LaneFault {
    /// The lane.
    pub node: u16,
    /// The position that was to come.
    pub next: Position,
    /// The last epoch that was read.
    pub epoch: u32,
    /// What is wrong, and what would be right.
    pub why: String,
}

impl Default for LaneState {
    fn default() -> LaneState {
        LaneState::ORIGIN
    }
}

impl LaneState {
    /// An empty lane.
    pub const ORIGIN: LaneState =
        LaneState { next: Position::ZERO, epoch: 0, epoch_seq: 0, hash: [0; 32], ended_up_to: 0 };

    /// Judges the next message of the partition and, if it counts, steps over it.
    ///
    /// # Errors
    /// A fault; the state has not changed then.
    pub fn accept(&mut self, node: u16, message: &[u8]) -> Result<Verdict, LaneFault> {
        let (next, epoch) = (self.next, self.epoch);
        let fault = |why: String| LaneFault { node, next, epoch, why };
        let header = check(node, message).map_err(fault)?;
        if is_mark(&header) {
            return self.mark(node, &header, message).map_err(fault);
        }
        if header.epoch <= self.ended_up_to {
            return Ok(Verdict::Skipped(Skip::Ended));
        }
        // An accepted group ends all lower epochs, so this is the same one or a higher one.
        if header.epoch == self.epoch {
            if header.position < self.next {
                return Ok(Verdict::Skipped(Skip::Twice));
            }
            self.follows(&header).map_err(fault)?;
        } else {
            self.begins(&header).map_err(fault)?;
        }
        let ended = ended_in(&header, message).map_err(fault)?;
        self.next = header.position.next();
        self.epoch = header.epoch;
        self.epoch_seq = header.epoch_seq + 1;
        self.hash = format::group_hash(message);
        self.ended_up_to = self.ended_up_to.max(header.epoch - 1).max(ended);
        Ok(Verdict::Accepted(Place { position: header.position, epoch: header.epoch, is_mark: false }))
    }

    fn mark(&mut self, node: u16, header: &GroupHeader, message: &[u8]) -> Result<Verdict, String> {
        let mut records = records(message);
        let says = (records.next().and_then(ended_of), records.next());
        if header.prev_hash != [0; 32] || says != (Some((node, header.epoch)), None) {
            return Err(format!(
                "an end mark of epoch {} must have a zero prev_hash and hold one record, Ended of node {node} and that epoch",
                header.epoch
            ));
        }
        if header.epoch <= self.ended_up_to {
            return Ok(Verdict::Skipped(Skip::MarkTwice));
        }
        let place = Place { position: self.next, epoch: header.epoch, is_mark: true };
        self.ended_up_to = header.epoch;
        self.next = self.next.next();
        Ok(Verdict::Accepted(place))
    }

    /// Checks a group of the present epoch.
    fn follows(&self, header: &GroupHeader) -> Result<(), String> {
        if header.position != self.next || header.epoch_seq != self.epoch_seq {
            return Err(format!(
                "group {}, number {} of its epoch, comes where group {}, number {} must; groups are missing",
                header.position, header.epoch_seq, self.next, self.epoch_seq
            ));
        }
        if header.prev_hash != self.hash {
            return Err("it does not continue the hash chain: this group, or the one before it, was changed"
                .to_owned());
        }
        Ok(())
    }

    /// Checks the first group of a higher epoch.
    fn begins(&self, header: &GroupHeader) -> Result<(), String> {
        let GroupHeader { node, epoch, epoch_seq, position, .. } = *header;
        if epoch_seq != 0 {
            return Err(format!(
                "epoch {epoch} begins with its group number {epoch_seq}; those before it are missing"
            ));
        }
        if header.prev_hash != format::epoch_genesis(node, epoch) {
            return Err(format!("the hash chain of epoch {epoch} does not begin with the hash of its start"));
        }
        if position < self.next {
            return Err(format!("epoch {epoch} begins at group {position}, but {} comes next", self.next));
        }
        // Nothing can be left out before the first group of all.
        if position > self.next && (self.ended_up_to == 0 || self.ended_up_to < self.epoch) {
            return Err(format!(
                "epoch {epoch} begins at group {position}, {} comes next, and epoch {} has not ended: groups are missing",
                self.next, self.epoch
            ));
        }
        Ok(())
    }

    /// The state as one word, for where a reader keeps it beside its position.
    pub fn to_text(&self) -> String {
        let hash: String = self.hash.iter().map(|b| format!("{b:02x}")).collect();
        format!("{},{},{},{hash},{}", self.next, self.epoch, self.epoch_seq, self.ended_up_to)
    }

    /// Reads what [`LaneState::to_text`] wrote.
    pub fn from_text(text: &str) -> Option<LaneState> {
        let mut fields = text.split(',');
        let mut field = || fields.next();
        let next = Position(field()?.parse().ok()?);
        let (epoch, epoch_seq) = (field()?.parse().ok()?, field()?.parse().ok()?);
        let hex = field()?.as_bytes();
        let ended_up_to = field()?.parse().ok()?;
        if fields.next().is_some() || hex.len() != 64 {
            return None;
        }
        let mut hash = [0; 32];
        for (byte, pair) in hash.iter_mut().zip(hex.chunks_exact(2)) {
            *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
        }
        Some(LaneState { next, epoch, epoch_seq, hash, ended_up_to })
    }
}

/// Whether a message is a whole group of this lane, whatever its place.
fn check(node: u16, message: &[u8]) -> Result<GroupHeader, String> {
    let defect = |defect| match defect {
        Defect::Damaged(why) => format!("the message is no whole group: {why}"),
        Defect::Newer(version) => {
            format!(
                "the group has version {version}, this program knows {}: update it",
                format::FORMAT_VERSION
            )
        }
    };
    let header = GroupHeader::decode(message).map_err(defect)?;
    if message.len() != header.group_len() {
        return Err(format!("the message has {} bytes and its group {}", message.len(), header.group_len()));
    }
    format::check_body(&header, &message[GROUP_HEADER_LEN..]).map_err(defect)?;
    if header.kind != LogKind::FLOW.0 || header.node != node {
        return Err(format!(
            "a group of kind {}, node {} stands in this lane; kind 1, node {node} belongs here",
            header.kind, header.node
        ));
    }
    if header.epoch == 0 {
        return Err("a group of epoch 0; epochs of nodes begin with 1".to_owned());
    }
    Ok(header)
}

/// The highest epoch that records of the group end; 0: none.
fn ended_in(header: &GroupHeader, message: &[u8]) -> Result<u32, String> {
    let mut ended = 0;
    for (node, epoch) in records(message).filter_map(ended_of) {
        if node != header.node || epoch > header.epoch {
            return Err(format!(
                "a record Ended of node {node}, epoch {epoch} stands in a group of node {}, epoch {}",
                header.node, header.epoch
            ));
        }
        ended = ended.max(epoch);
    }
    Ok(ended)
}

fn records(message: &[u8]) -> crate::GroupRecords<'_> {
    crate::GroupRecords::of_body(message.get(GROUP_HEADER_LEN..).unwrap_or_default())
}

/// An accepted message as readers of the queue see it.
pub(crate) fn group_of(place: Place, message: &[u8]) -> Group {
    Group::of_body(place.position, place.epoch, message.get(GROUP_HEADER_LEN..).unwrap_or_default())
}
