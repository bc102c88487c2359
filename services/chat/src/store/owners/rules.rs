//! What calls do to the rows. Pure.

use super::{BeginError, Begun, BucketTerm, EndEpochError, MOVES_MAX, OwnerAnswer, OwnerTick, TickError};
use hashring::BUCKET_COUNT;
use ownership::{BucketRow, ClaimBucket, EndError, EndReason, NodeRow, SealBucket, SessionError};
use std::collections::BTreeMap;

/// Positions mean nothing here, see the module's text.
const NOWHERE: u64 = 0;

/// The rows that a call works on.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Rows {
    /// By node and epoch.
    pub epochs: BTreeMap<(u16, u32), NodeRow>,
    /// By number.
    pub buckets: BTreeMap<u16, BucketRow>,
}

/// Refuses a call that is larger than a call may be, or names what can't be.
pub(super) fn check(tick: &OwnerTick) -> Result<(), TickError> {
    for (what, count) in [("buckets to seal", tick.seals.len()), ("buckets to claim", tick.claims.len())] {
        if count > MOVES_MAX {
            return Err(TickError::TooMany { what, count });
        }
    }
    match named(tick).find(|bucket| usize::from(*bucket) >= BUCKET_COUNT) {
        Some(bucket) => Err(TickError::NoSuchBucket(bucket)),
        None => Ok(()),
    }
}

/// Buckets that a call names.
pub(super) fn named(tick: &OwnerTick) -> impl Iterator<Item = u16> {
    tick.seals.iter().chain(&tick.claims).map(|b| b.bucket)
}

/// A node begins. `rows` has its last epoch, and every bucket that it owns or owned last.
pub(super) fn begin(rows: &mut Rows, node: u16, above: u32, now_ms: u64) -> Result<Begun, BeginError> {
    let last = rows.epochs.values().filter(|row| row.node == node).map(|row| row.epoch).max();
    if let Some(epoch) = last.filter(|epoch| rows.epochs.get(&(node, *epoch)).is_some_and(NodeRow::is_open)) {
        match end(rows, node, epoch, EndReason::Expired, now_ms) {
            Ok(_) => {}
            Err(EndEpochError::End(EndError::StillSeen { ago_ms, .. })) => {
                return Err(BeginError::StillSeen { node, epoch, ago_ms });
            }
            // The row is there.
            Err(EndEpochError::End(EndError::EpochUnknown { .. })) => {}
            Err(EndEpochError::Store(error)) => return Err(error.into()),
        }
    }
    let last = last.and_then(|epoch| rows.epochs.get(&(node, epoch)));
    let row = NodeRow::begin(last, node, above, now_ms)?;
    let begun = Begun { epoch: row.epoch, now_ms };
    rows.epochs.insert((node, row.epoch), row);
    Ok(begun)
}

/// Ends an epoch; `rows` has it, and every bucket that its node owns or owned last.
pub(super) fn end(
    rows: &mut Rows,
    node: u16,
    epoch: u32,
    reason: EndReason,
    now_ms: u64,
) -> Result<bool, EndEpochError> {
    let row = rows.epochs.get_mut(&(node, epoch)).ok_or(EndError::EpochUnknown { node, epoch })?;
    let now = row.end(reason, now_ms)?;
    if now {
        row.end_position = Some(NOWHERE);
        rows.buckets.values_mut().for_each(|bucket| bucket.release_ended(node, epoch, NOWHERE));
    }
    Ok(now)
}

/// Renews a session: what the statement of the PostgreSQL adapter does too.
pub(super) fn renew(rows: &mut Rows, tick: &OwnerTick, now_ms: u64) -> Result<(), TickError> {
    let (node, epoch) = (tick.node, tick.epoch);
    let row = rows.epochs.get_mut(&(node, epoch)).ok_or(SessionError::EpochUnknown { node, epoch })?;
    Ok(row.renew(now_ms)?)
}

/// Seals and claims of a renewed session.
pub(super) fn moves(rows: &mut Rows, tick: &OwnerTick, answer: &mut OwnerAnswer) {
    let by = (tick.node, tick.epoch);
    for seal in &tick.seals {
        let ask = SealBucket { bucket: seal.bucket, term: seal.term, position: NOWHERE };
        if rows.buckets.get_mut(&seal.bucket).is_some_and(|row| row.seal(by, &ask)) {
            answer.sealed.push(seal.bucket);
        }
    }
    for claim in &tick.claims {
        let mut row = rows.buckets.remove(&claim.bucket).unwrap_or_else(|| BucketRow::fresh(claim.bucket));
        match row.claim(by, &ClaimBucket { bucket: claim.bucket, term: claim.term }) {
            Ok(claimed) => {
                row.wait_for.clear();
                answer.claimed.push(BucketTerm { bucket: claimed.bucket, term: claimed.term });
            }
            Err(refused) => answer.refused.push(refused),
        }
        if row.owner.is_some() {
            rows.buckets.insert(claim.bucket, row);
        }
    }
}
