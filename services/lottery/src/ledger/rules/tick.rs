//! A node's tick: everything it changes, in one go.

use campaign::{LeaseId, Slot};
use hashring::BUCKET_COUNT;
use ownership::{BucketRow, SessionError};

use super::grant::{LEASES_A_PRIZE, grant};
use super::lease::close;
use crate::ledger::port::{
    CloseAsk, GrantAnswer, GrantAsk, Nothing, TICK_LEASES_MAX, Tick, TickAnswer, TickError,
};
use crate::ledger::rows::{LeaseKey, LeaseRow, Need, Rows};

/// The rows that a tick works on.
pub fn need(tick: &Tick) -> Need {
    let key = |lease: LeaseId| LeaseKey { node: tick.node, epoch: tick.epoch, lease };
    let named = tick.asks.iter().map(|a| a.lease).chain(tick.closes.iter().map(|c| c.lease));
    let buckets = tick.seals.iter().map(|s| s.bucket).chain(tick.claims.iter().map(|c| c.bucket));
    Need {
        epochs_from: Some((tick.node, tick.epoch)),
        buckets: buckets.collect(),
        open_leases_of: Some(tick.node),
        leases: named.map(key).collect(),
        prizes: tick.asks.iter().map(|a| a.prize).collect(),
        alive: !tick.asks.is_empty(),
        ..Need::default()
    }
}

/// Refuses a call that is larger than a call may be, or names what can't be.
///
/// # Errors
/// What is wrong with it.
pub fn check(tick: &Tick) -> Result<(), TickError> {
    let bounds = [
        ("leases to ask for", tick.asks.len(), TICK_LEASES_MAX),
        ("leases to close", tick.closes.len(), TICK_LEASES_MAX),
        ("buckets to give up", tick.seals.len(), BUCKET_COUNT),
        ("buckets to claim", tick.claims.len(), BUCKET_COUNT),
    ];
    for (what, count, max) in bounds {
        if count > max {
            return Err(TickError::TooMany { what, count, max });
        }
    }
    let mut buckets = tick.seals.iter().map(|s| s.bucket).chain(tick.claims.iter().map(|c| c.bucket));
    match buckets.find(|b| usize::from(*b) >= BUCKET_COUNT) {
        Some(bucket) => Err(TickError::NoSuchBucket(bucket)),
        None => Ok(()),
    }
}

/// Does what a tick asks for. `rows` has what [`need`] names.
///
/// # Errors
/// When the session is over, or a lease number was used for another prize. The rows are then to be thrown away.
pub fn tick(rows: &mut Rows, tick: &Tick, now_ms: u64) -> Result<TickAnswer, TickError> {
    let (node, epoch) = (tick.node.0, tick.epoch.0);
    let session = rows.nodes.get_mut(&(node, epoch)).ok_or(SessionError::EpochUnknown { node, epoch })?;
    // The caller is alive by this very call.
    rows.alive += u32::from(!session.is_alive(now_ms));
    session.renew(now_ms)?;
    let mut answer = TickAnswer { now_ms, ..TickAnswer::default() };
    for ask in &tick.closes {
        close_one(rows, tick, ask, now_ms, &mut answer);
    }
    answer.low_water = move_low_water(rows, tick);
    move_buckets(rows, tick, &mut answer);
    for ask in &tick.asks {
        let got = grant_one(rows, tick, ask, now_ms)?;
        answer.grants.push((ask.lease, got));
    }
    answer.seq_nos = rows.campaigns.values().map(|c| (c.campaign, c.seq_no)).collect();
    let mine = rows.leases.values().filter(|l| l.closed.is_none() && is_of(l, tick));
    for lease in mine {
        answer.open.push(lease.key.lease);
        if is_wanted_back(rows, lease, now_ms) {
            answer.send_back.push(lease.key.lease);
        }
    }
    Ok(answer)
}

fn is_of(lease: &LeaseRow, tick: &Tick) -> bool {
    lease.key.node == tick.node && lease.key.epoch == tick.epoch
}

/// A lease of a paused or lowered prize, or of a round that is over.
fn is_wanted_back(rows: &Rows, lease: &LeaseRow, now_ms: u64) -> bool {
    rows.prizes
        .get(&lease.prize)
        .is_some_and(|prize| prize.paused || now_ms >= prize.close_ms || lease.granted_ms <= prize.recall_ms)
}

fn close_one(rows: &mut Rows, tick: &Tick, ask: &CloseAsk, now_ms: u64, answer: &mut TickAnswer) {
    let key = LeaseKey { node: tick.node, epoch: tick.epoch, lease: ask.lease };
    let Some(lease) = rows.leases.get_mut(&key) else {
        // Forgotten, long after its end.
        answer.closed.push(ask.lease);
        return;
    };
    // A prize is never dropped, so a lease's is there.
    let Some(prize) = rows.prizes.get_mut(&lease.prize) else { return };
    match close(lease, prize, ask, now_ms) {
        Ok(()) => answer.closed.push(ask.lease),
        Err(refused) => answer.refused.push((ask.lease, refused)),
    }
}

/// The mark stays where it is while a lease of an earlier epoch is open: its wins lie below.
fn move_low_water(rows: &mut Rows, tick: &Tick) -> u64 {
    let older = rows
        .leases
        .values()
        .any(|l| l.closed.is_none() && l.key.node == tick.node && l.key.epoch < tick.epoch);
    let Some(session) = rows.nodes.get_mut(&(tick.node.0, tick.epoch.0)) else { return 0 };
    if !older {
        session.low_water = session.low_water.max(tick.low_water);
    }
    session.low_water
}

fn move_buckets(rows: &mut Rows, tick: &Tick, answer: &mut TickAnswer) {
    let by = (tick.node.0, tick.epoch.0);
    for ask in &tick.seals {
        if rows.buckets.get_mut(&ask.bucket).is_some_and(|row| row.seal(by, ask)) {
            answer.sealed.push(ask.bucket);
        }
    }
    for ask in &tick.claims {
        let mut row = rows.buckets.remove(&ask.bucket).unwrap_or_else(|| BucketRow::fresh(ask.bucket));
        match row.claim(by, ask) {
            Ok(claimed) => answer.claimed.push(claimed),
            Err(refused) => answer.claims_refused.push(refused),
        }
        if row.owner.is_some() {
            rows.buckets.insert(ask.bucket, row);
        }
    }
}

fn grant_one(rows: &mut Rows, tick: &Tick, ask: &GrantAsk, now_ms: u64) -> Result<GrantAnswer, TickError> {
    let key = LeaseKey { node: tick.node, epoch: tick.epoch, lease: ask.lease };
    if let Some(before) = rows.leases.get(&key) {
        if before.prize != ask.prize {
            return Err(TickError::LeaseReused { lease: ask.lease, prize: before.prize });
        }
        return Ok(match before.closed {
            Some(_) => GrantAnswer::Closed,
            None => GrantAnswer::Granted { seq_no: before.seq_no, ranges: before.ranges.clone() },
        });
    }
    let nothing = |(why, again)| GrantAnswer::Nothing { why, again };
    let held = rows.leases.values().filter(|l| l.closed.is_none() && is_of(l, tick) && l.prize == ask.prize);
    if held.count() >= LEASES_A_PRIZE {
        return Ok(nothing((Nothing::TwoLeases, Slot::at(now_ms).plus(1))));
    }
    let unknown = nothing((Nothing::Unknown, Slot::at(now_ms).plus(5)));
    let Some(prize) = rows.prizes.get_mut(&ask.prize) else { return Ok(unknown) };
    let Some(vendor) = rows.vendors.get_mut(&(ask.prize.campaign, prize.vendor)) else { return Ok(unknown) };
    let ranges = match grant(prize, vendor, ask.units, rows.alive, now_ms) {
        Ok(ranges) => ranges,
        Err(why) => return Ok(nothing(why)),
    };
    debug_assert_eq!(prize.check(), Ok(()));
    let (seq_no, round_close_ms) = (prize.seq_no, prize.close_ms);
    let granted = GrantAnswer::Granted { seq_no, ranges: ranges.clone() };
    let row =
        LeaseRow { key, prize: ask.prize, seq_no, granted_ms: now_ms, round_close_ms, ranges, closed: None };
    rows.leases.insert(key, row);
    Ok(granted)
}
