//! Epochs: what a call about a node's life does to the rows.

use campaign::{NodeEpoch, NodeId};
use ownership::{EndError, EndReason, NodeRow, PositionError};

use crate::ledger::port::EpochError;
use crate::ledger::rows::{LeaseRow, Need, Rows};

/// The rows that [`begin`] works on.
pub fn need_begin(node: NodeId) -> Need {
    Need { latest_epoch: Some(node), ..Need::default() }
}

/// The rows that [`end`] works on.
pub fn need_end(node: NodeId, epoch: NodeEpoch) -> Need {
    Need { epochs_from: Some((node, epoch)), ..Need::default() }
}

/// The rows that [`record_end`] works on.
pub fn need_record(node: NodeId, epoch: NodeEpoch) -> Need {
    Need { epochs_from: Some((node, epoch)), buckets_of: Some(node), ..Need::default() }
}

/// Begins a new epoch of a node; `rows` has the node's highest epoch.
///
/// # Errors
/// When the last epoch is open, or numbers are used up.
pub fn begin(rows: &mut Rows, node: NodeId, above: NodeEpoch, now_ms: u64) -> Result<NodeEpoch, EpochError> {
    let latest = rows.nodes.values().rfind(|row| row.node == node.0);
    let row = NodeRow::begin(latest, node.0, above.0, now_ms)?;
    let epoch = NodeEpoch(row.epoch);
    rows.nodes.insert((node.0, epoch.0), row);
    Ok(epoch)
}

/// Ends an epoch; `false` if it had ended.
///
/// # Errors
/// When it is unknown, or alive and somebody else wants to end it.
pub fn end(
    rows: &mut Rows,
    node: NodeId,
    epoch: NodeEpoch,
    reason: EndReason,
    now_ms: u64,
) -> Result<bool, EpochError> {
    let row = rows.nodes.get_mut(&(node.0, epoch.0));
    let row = row.ok_or(EndError::EpochUnknown { node: node.0, epoch: epoch.0 })?;
    Ok(row.end(reason, now_ms)?)
}

/// Records where the mark of an epoch stands and frees the node's buckets; `rows` has all buckets of the node.
///
/// # Errors
/// When the epoch is unknown or open.
pub fn record_end(rows: &mut Rows, node: NodeId, epoch: NodeEpoch, position: u64) -> Result<u64, EpochError> {
    let row = rows.nodes.get_mut(&(node.0, epoch.0));
    let row = row.ok_or(PositionError::EpochUnknown { node: node.0, epoch: epoch.0 })?;
    let counts = row.record_end_position(position)?;
    for bucket in rows.buckets.values_mut() {
        bucket.release_ended(node.0, epoch.0, counts);
    }
    Ok(counts)
}

/// Which epochs of a node have ended and are not finished with: their end position, or that of a later one, is not
/// known, or a lease of them is open.
pub fn unsettled(epochs: &[NodeRow], open: &[LeaseRow]) -> Vec<NodeRow> {
    let marked = epochs.iter().filter(|row| row.end_position.is_some()).map(|row| row.epoch).max();
    let has_open = |epoch: u32| open.iter().any(|lease| lease.key.epoch.0 == epoch);
    let is_left = |row: &&NodeRow| !row.is_open() && (marked < Some(row.epoch) || has_open(row.epoch));
    epochs.iter().filter(is_left).cloned().collect()
}
