//! The end of a lease: by its node, or by the settlement of its epoch.

use campaign::Ranges;
use ownership::NodeRow;

use crate::ledger::port::{CloseAsk, CloseRefused, SettleError, Settled};
use crate::ledger::rows::{
    ClosedBy, ClosedLease, LeaseKey, LeaseRow, Need, PrizeRow, Rows, first_outside, without,
};

/// Closes a lease for its node. A lease closed already stays as it is.
///
/// # Errors
/// When what is used and what goes back are not the lease; nothing is changed then.
pub fn close(
    lease: &mut LeaseRow,
    prize: &mut PrizeRow,
    ask: &CloseAsk,
    now_ms: u64,
) -> Result<(), CloseRefused> {
    if lease.closed.is_some() {
        return Ok(());
    }
    if let Some(unit) = first_outside(&lease.numbers(), &ask.returned) {
        return Err(CloseRefused::NotInLease { unit });
    }
    let (units, back) = (lease.units(), ask.returned.len());
    if ask.used.checked_add(back) != Some(units) {
        return Err(CloseRefused::Sum { used: ask.used, returned: back, units });
    }
    end(lease, prize, ask.returned.clone(), ClosedBy::Node, now_ms);
    Ok(())
}

/// The rows that [`settle`] works on.
pub fn need_settle(key: LeaseKey) -> Need {
    Need { epochs_from: Some((key.node, key.epoch)), leases: vec![key], ..Need::default() }
}

/// Closes a lease of an ended epoch: `used` are its awards, the rest goes back.
///
/// # Errors
/// See [`SettleError`]; nothing is changed then.
pub fn settle(rows: &mut Rows, key: LeaseKey, used: &Ranges, now_ms: u64) -> Result<Settled, SettleError> {
    let lease = rows.leases.get_mut(&key).ok_or(SettleError::Unknown(key))?;
    if let Some(closed) = &lease.closed {
        return Ok(Settled { returned: closed.returned.clone(), already: true });
    }
    may_settle(rows.nodes.values(), key)?;
    if let Some(unit) = first_outside(&lease.numbers(), used) {
        return Err(SettleError::NotInLease { unit });
    }
    let prize = rows.prizes.get_mut(&lease.prize).ok_or(SettleError::Unknown(key))?;
    let returned = without(&lease.numbers(), used);
    end(lease, prize, returned.clone(), ClosedBy::Settlement, now_ms);
    Ok(Settled { returned, already: false })
}

/// The mark of an epoch covers the earlier ones of the node too.
fn may_settle<'a>(epochs: impl Iterator<Item = &'a NodeRow>, key: LeaseKey) -> Result<(), SettleError> {
    let (node, epoch) = (key.node, key.epoch);
    let mut from_here = epochs.filter(|row| row.node == node.0 && row.epoch >= epoch.0).peekable();
    let own = from_here.peek().filter(|row| row.epoch == epoch.0);
    if own.is_none_or(|row| row.is_open()) {
        return Err(SettleError::EpochOpen { node, epoch });
    }
    if from_here.any(|row| row.end_position.is_some()) {
        return Ok(());
    }
    Err(SettleError::NoEndPosition { node, epoch })
}

fn end(lease: &mut LeaseRow, prize: &mut PrizeRow, returned: Ranges, by: ClosedBy, now_ms: u64) {
    let units = lease.units();
    let used = units - returned.len();
    prize.leased -= units;
    prize.used += used;
    // They were in a lease, so they can't be in the set: the numbers of a prize stand in one place each.
    let back = prize.returned.add_all(&returned);
    debug_assert!(back.is_ok(), "{}: unit {:?} came back twice", prize.key, back);
    lease.closed = Some(ClosedLease { at_ms: now_ms, by, used, returned });
    debug_assert_eq!(prize.check(), Ok(()));
}
