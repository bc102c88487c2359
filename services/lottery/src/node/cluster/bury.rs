//! The undertaker's hands: [`super::undertaker::Case`] says what comes next, this does it.

use super::undertaker::{Case, Step};
use crate::ledger::{EpochError, QuotaLedger, SettleError, StoreError};
use crate::node::replay::BadRecord;
use campaign::NodeId;
use flowlog::fault;
use ownership::{EndError, EndReason, NodeRow};
use queue::Position;
use queue::lanes::{LaneError, Lanes};
use records::{Ended, Record as _};
use serde::Serialize;

/// Groups read from a lane at once.
const READ_GROUPS: usize = 256;

/// What was done about an epoch.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Buried {
    /// The node.
    pub node: u16,
    /// Its epoch.
    pub epoch: u32,
    /// This call ended it in the ledger; otherwise it had ended before.
    pub ended: bool,
    /// Position behind its mark in the lane; `None`: it was recorded before.
    pub end_position: Option<u64>,
    /// Leases that were settled.
    pub settled: u64,
    /// Units that went back to their prizes.
    pub returned: u64,
    /// Leases that could not be settled, because the lane contradicts the ledger: a person must look.
    pub refused: u64,
}

/// Why an epoch was not brought to its end. Whoever tries again goes on from there.
#[derive(Debug, thiserror::Error)]
pub enum BuryError {
    /// The ledger.
    #[error(transparent)]
    Epoch(#[from] EpochError),
    /// The ledger.
    #[error(transparent)]
    Ledger(#[from] StoreError),
    /// The ledger.
    #[error(transparent)]
    Settle(#[from] SettleError),
    /// The lane.
    #[error(transparent)]
    Lane(#[from] LaneError),
    /// A record of the lane is of another version.
    #[error(
        "the lane of node {node} holds a record that this version does not know: {error}; let a newer version do it"
    )]
    Record {
        /// The lane.
        node: u16,
        /// Where, and what is wrong.
        error: BadRecord,
    },
}

/// Brings an epoch to its end: in the ledger, in its lane, and its leases. Safe to repeat, and beside others who do the same.
/// `reason`: by the node itself, or because its session is dead.
///
/// # Errors
/// When the node is alive after all, or ledger or lane can't be reached.
pub async fn bury(
    ledger: &dyn QuotaLedger,
    lanes: &dyn Lanes,
    row: &NodeRow,
    reason: EndReason,
) -> Result<Buried, BuryError> {
    let mut case = Case::new(row);
    let (node, epoch) = (case.node(), case.epoch());
    let mut done = Buried { node: node.0, epoch: epoch.0, ..Buried::default() };
    loop {
        let step = case.step();
        tracing::debug!(node = node.0, epoch = epoch.0, ?step, "an epoch on its way to its end");
        match step {
            Step::End => {
                done.ended = ledger.end_epoch(node, epoch, reason).await?;
                fault::point("bury.after_end");
                case.ended();
            }
            Step::Mark => {
                let mark = Ended { node, epoch }.encode();
                lanes.mark_ended(node.0, epoch.0, &mark).await?;
                fault::point("bury.after_mark");
                case.marked();
            }
            Step::Read(from) => {
                let read = lanes.read(node.0, Position(from), READ_GROUPS).await?;
                case.read(&read.groups, read.at_end)
                    .map_err(|error| BuryError::Record { node: node.0, error })?;
            }
            Step::Record(position) => {
                let counts = ledger.record_end_position(node, epoch, position).await?;
                fault::point("bury.after_record");
                done.end_position = Some(counts);
                case.recorded();
            }
            Step::Leases => case.leases(ledger.open_leases(node).await?),
            Step::Settle(key, used) => {
                match ledger.settle(key, &used).await {
                    Ok(settled) => {
                        done.settled += u64::from(!settled.already);
                        done.returned += if settled.already { 0 } else { settled.returned.len() };
                    }
                    Err(error @ SettleError::NotInLease { .. }) => {
                        tracing::error!(node = node.0, epoch = key.epoch.0, lease = key.lease.0, %error,
                            "a lease can't be settled; its units stay locked until a person looks");
                        done.refused += 1;
                    }
                    Err(error) => return Err(error.into()),
                }
                fault::point("bury.after_settle");
                case.settled(key);
            }
            Step::Done => return Ok(done),
        }
    }
}

/// Why an epoch was not ended by hand.
#[derive(Debug, thiserror::Error)]
pub enum EndByHandError {
    /// The node never began one.
    #[error("the ledger knows no epoch of node {0}; `hongbao admin nodes` lists the nodes")]
    Unknown(u16),
    /// It is alive: ending its epoch would throw away what it is doing.
    #[error(
        "node {node} is alive, its last call was {ago_ms} ms ago: stop it first; a node that has been silent for {} ms is ended by the others",
        ownership::SESSION_DEAD_MS
    )]
    Alive {
        /// The node.
        node: u16,
        /// How long ago.
        ago_ms: u64,
    },
    /// Something on the way failed; the same again goes on from there.
    #[error(transparent)]
    Bury(#[from] BuryError),
}

/// Does by hand, with its checks, what the other nodes do about a dead one by themselves: its newest epoch is ended if
/// its session is dead, marked in its lane, and the leases of all its ended epochs are settled.
///
/// # Errors
/// When the node is alive, or never was; when ledger or lane can't be reached.
pub async fn end_by_hand(
    ledger: &dyn QuotaLedger,
    lanes: &dyn Lanes,
    node: NodeId,
) -> Result<Buried, EndByHandError> {
    let rows = ledger.epochs(node).await.map_err(BuryError::from)?;
    let row = rows.last().ok_or(EndByHandError::Unknown(node.0))?;
    match bury(ledger, lanes, row, EndReason::Expired).await {
        Err(BuryError::Epoch(EpochError::End(EndError::StillSeen { node, ago_ms }))) => {
            Err(EndByHandError::Alive { node, ago_ms })
        }
        other => Ok(other?),
    }
}

/// The newest epoch of a node as the ledger has it.
pub(super) async fn newest(ledger: &dyn QuotaLedger, node: NodeId) -> Result<Option<NodeRow>, StoreError> {
    Ok(ledger.epochs(node).await?.pop())
}
