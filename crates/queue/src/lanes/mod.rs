//! Lanes: the nodes' flow logs where every service can read them.
//!
//! A node ships the groups of its own log, byte for byte and in order, into its lane; a win is answered when the lane has it.
//! When a node is given up, somebody else writes an end mark into its lane, and what the node ships behind it is
//! nothing. [`LaneState`] is the rule by which every reader decides what counts, so that all of them agree; it
//! serves the adapters, the embedded one ([`crate::embedded`]) excepted, where lane and log are one.
//!
//! The queue's consumers read the same lanes as the topic [`crate::LANE`]. This port is for those who write them, and for
//! those who must read a stretch without being a member of a group: the settlement, and the export to the archive.

pub mod export;
mod mark;
pub mod memory;
mod state;

use async_trait::async_trait;
use bytes::Bytes;
use flowlog::format::{GROUP_HEADER_LEN, GroupHeader};

use crate::{Group, Position};

pub use mark::{ended_of, foreign_mark, is_mark};
pub(crate) use state::group_of;
pub use state::{LaneFault, LaneState, Place, Skip, Verdict};

/// Most bytes of one group in a lane, header and all: what a node's log writes at most (4 MiB of records), and room.
pub const LANE_GROUP_BYTES_MAX: usize = (4 << 20) + 4096;

/// Why a lane could not be written or read.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum LaneError {
    /// No lane has that number.
    #[error("there is no lane for node {node}: there are {lanes}, numbered from 0; make the topic larger")]
    UnknownLane {
        /// The node.
        node: u16,
        /// How many lanes there are.
        lanes: u16,
    },
    /// Whether it is there is not known, or it can't be there yet. Repeat it from the same group on.
    #[error("it is not known whether the lane has it: {0}; repeat it")]
    Unsure(String),
    /// The servers can't be read just now. A later call may succeed.
    #[error("the lane can't be read just now: {0}")]
    Unavailable(String),
    /// What was given can't go into the lane; nothing was written. Repeating it is of no use.
    #[error("refused: {0}")]
    Refused(String),
    /// What stands in the lane breaks its rules. Readers stop there; a person must look.
    #[error(transparent)]
    Fault(#[from] LaneFault),
}

impl LaneError {
    /// The same call again may succeed.
    pub fn is_retryable(&self) -> bool {
        matches!(self, LaneError::Unsure(_) | LaneError::Unavailable(_))
    }
}

/// A group that counts, as it stands in the lane.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RawGroup {
    /// Position, epoch, whether it is a mark.
    pub place: Place,
    /// Header and body, byte for byte. A mark's header has no position of its own.
    pub bytes: Bytes,
}

impl RawGroup {
    /// The same as consumers of the queue get it.
    pub fn group(&self) -> Group {
        group_of(self.place, &self.bytes)
    }
}

/// A stretch of a lane.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LaneRead<G> {
    /// The groups that count, in order.
    pub groups: Vec<G>,
    /// No group stood behind them when they were read.
    pub at_end: bool,
}

impl<G> LaneRead<G> {
    fn map<H>(self, f: impl FnMut(G) -> H) -> LaneRead<H> {
        LaneRead { groups: self.groups.into_iter().map(f).collect(), at_end: self.at_end }
    }
}

/// The lanes of all nodes.
///
/// **Durability.** When `ship` or `mark_ended` has returned `Ok`, every in-sync replica has what was given: it survives any
/// single failure, and every `end`, `read` and consumer that begins afterwards finds it.
///
/// **Order.** What one call was given stands in order. Of two calls for a lane by one handle, the one that was *polled* first
/// is first; so several may be in flight, if they are polled in order (`FuturesOrdered` does). When one fails, those
/// behind it that have not returned fail too, or return `Ok` because the groups of the one before are in the lane after all:
/// in the lane there is never a gap. Between lanes there is no order.
///
/// **Idempotency.** Everything may be repeated, and after [`LaneError::Unsure`] must be, from the same group on: readers skip
/// what came twice, and of several marks the first counts.
///
/// **Who counts.** `ship` does not judge: a node that was given up may still ship, and gets `Ok`; readers skip it. So a node
/// must know that its epoch lives *after* the lane has acknowledged.
#[async_trait]
pub trait Lanes: Send + Sync + 'static {
    /// The state behind the last message of the lane.
    async fn end(&self, node: u16) -> Result<LaneState, LaneError>;

    /// Appends whole groups of the node's log, in order.
    async fn ship(&self, node: u16, groups: Vec<Bytes>) -> Result<(), LaneError>;

    /// Writes the foreign mark that ends an epoch of the node, and every earlier one. `record` is its `Ended`.
    async fn mark_ended(&self, node: u16, epoch: u32, record: &[u8]) -> Result<(), LaneError>;

    /// The groups that count from a position on, byte for byte, marks among them: at most `max_groups`, and fewer where
    /// they are large.
    async fn read_raw(
        &self,
        node: u16,
        from: Position,
        max_groups: usize,
    ) -> Result<LaneRead<RawGroup>, LaneError>;

    /// The same as consumers of the queue get them.
    async fn read(&self, node: u16, from: Position, max_groups: usize) -> Result<LaneRead<Group>, LaneError> {
        Ok(self.read_raw(node, from, max_groups).await?.map(|raw| raw.group()))
    }
}

/// Checks what `ship` was given: headers of this node's groups, following each other. Returns them.
pub(crate) fn check_shipped(node: u16, groups: &[Bytes]) -> Result<Vec<GroupHeader>, LaneError> {
    let mut headers: Vec<GroupHeader> = Vec::with_capacity(groups.len());
    for group in groups {
        let header = GroupHeader::decode(group)
            .map_err(|defect| LaneError::Refused(format!("no whole group was given to ship: {defect:?}")))?;
        if header.group_len() != group.len() || group.len() < GROUP_HEADER_LEN {
            let why = format!("{} bytes were given as a group of {}", group.len(), header.group_len());
            return Err(LaneError::Refused(why));
        }
        if group.len() > LANE_GROUP_BYTES_MAX {
            let why = format!("a group of {} bytes, a lane takes {LANE_GROUP_BYTES_MAX}", group.len());
            return Err(LaneError::Refused(why));
        }
        if header.node != node || header.kind != flowlog::LogKind::FLOW.0 || is_mark(&header) {
            let why =
                format!("a group of kind {}, node {} for the lane of node {node}", header.kind, header.node);
            return Err(LaneError::Refused(why));
        }
        if let Some(last) = headers.last() {
            let follows = (last.epoch == header.epoch && last.position.next() == header.position)
                || (last.epoch < header.epoch && last.position < header.position);
            if !follows {
                return Err(LaneError::Refused(format!(
                    "group {} of epoch {} was given behind group {} of epoch {}",
                    header.position, header.epoch, last.position, last.epoch
                )));
            }
        }
        headers.push(header);
    }
    Ok(headers)
}
