//! Changes of plans: new prizes, raised and lowered budgets, other curves, pause and resumption.

use campaign::{Plan, Prize, Ranges, Round, SeqNo, Tranche, UnitRange};
use std::collections::btree_map::Entry;

use super::window::SlotWindow;
use crate::ledger::port::{Budget, ChangeError, Changed, Registered};
use crate::ledger::rows::{CampaignRow, Need, PrizeKey, PrizeRow, Rows, VendorRow};

/// Most numbers of a prize: what SQL counts.
pub const UNITS_MAX: u64 = i64::MAX as u64;

/// Makes and updates the rows of a plan; `rows` has all of the campaign.
///
/// # Errors
/// When tranches contradict what was made. The rows are then to be thrown away.
pub fn register(rows: &mut Rows, plan: &Plan, now_ms: u64) -> Result<Registered, ChangeError> {
    let newest = name_seq_no(rows, plan.campaign, plan.seq_no);
    // A plan that is not the newest may still be newer than a prize that a later change did not touch; only a
    // row that is missing is made by the newest plan alone, or a prize would come back to life.
    for vendor in &plan.vendors {
        let key = (plan.campaign, vendor.id);
        let row = rows.vendors.entry(key).or_insert_with(|| VendorRow {
            key,
            seq_no: SeqNo(0),
            release_per_second: 0,
            window: SlotWindow::default(),
        });
        if plan.seq_no > row.seq_no {
            (row.seq_no, row.release_per_second) = (plan.seq_no, vendor.release_per_second);
        }
    }
    let mut prizes = Vec::new();
    for round in &plan.rounds {
        for prize in &round.prizes {
            let key = PrizeKey { campaign: plan.campaign, round: round.id, prize: prize.id };
            rows.vendors.entry((plan.campaign, prize.vendor)).or_insert_with(|| VendorRow {
                key: (plan.campaign, prize.vendor),
                seq_no: plan.seq_no,
                release_per_second: 0,
                window: SlotWindow::default(),
            });
            let row = match rows.prizes.entry(key) {
                Entry::Occupied(known) => known.into_mut(),
                Entry::Vacant(_) if plan.seq_no < newest => continue,
                Entry::Vacant(new) => new.insert(new_prize(key, round, prize)),
            };
            let applied = update(row, plan.seq_no, round, prize, now_ms)?;
            prizes.push(budget(row, applied));
        }
    }
    Ok(Registered { seq_no: newest, prizes })
}

/// A row without units, older than any plan.
fn new_prize(key: PrizeKey, round: &Round, prize: &Prize) -> PrizeRow {
    PrizeRow {
        key,
        vendor: prize.vendor,
        seq_no: SeqNo(0),
        change_seq_no: SeqNo(0),
        open_ms: round.open_ms,
        close_ms: round.close_ms,
        curve: prize.curve.clone(),
        speed_max: prize.speed_max,
        catch_up_percent: prize.catch_up_percent,
        made: 0,
        fresh: Ranges::new(),
        returned: Ranges::new(),
        cancelled: Ranges::new(),
        leased: 0,
        used: 0,
        base_units: 0,
        base_ms: round.open_ms,
        paused: false,
        recall_ms: 0,
        window: SlotWindow::default(),
    }
}

/// Takes a plan's terms over; `false` if the row is as new already. A lowering, pause or resumption names its SeqNo
/// before the plan of the same SeqNo comes, and it may pass a plan that was accepted before it: that plan's units and
/// terms count all the same (or they would be lost if no further plan comes), but whether the prize is paused is the
/// newer change's to say.
fn update(
    row: &mut PrizeRow,
    seq_no: SeqNo,
    round: &Round,
    prize: &Prize,
    now_ms: u64,
) -> Result<bool, ChangeError> {
    let made = check_tranches(row, prize)?;
    if seq_no <= row.seq_no {
        return Ok(false);
    }
    // What has released nothing yet counts from the opening; if that is over already, the rest is caught up.
    if row.made == 0 || now_ms <= row.open_ms {
        (row.base_units, row.base_ms) = (0, round.open_ms);
    } else {
        row.rebase(now_ms);
    }
    row.seq_no = seq_no;
    row.vendor = prize.vendor;
    (row.open_ms, row.close_ms) = (round.open_ms, round.close_ms);
    row.curve = prize.curve.clone();
    (row.speed_max, row.catch_up_percent) = (prize.speed_max, prize.catch_up_percent);
    if seq_no >= row.change_seq_no {
        if prize.paused && !row.paused {
            row.recall_ms = now_ms;
        }
        row.paused = prize.paused;
    }
    let more = UnitRange { first: row.made, count: made - row.made };
    // Numbers above all that were ever made are in no set.
    let added = row.fresh.add(more);
    debug_assert!(added.is_ok(), "{}: {added:?}", row.key);
    row.made = made;
    debug_assert_eq!(row.check(), Ok(()));
    Ok(true)
}

/// Numbers made once the plan's tranches count: at least those made before.
fn check_tranches(row: &PrizeRow, prize: &Prize) -> Result<u64, ChangeError> {
    let mut next = 0u64;
    for Tranche { first, units, .. } in &prize.tranches {
        let prize = row.key;
        if *first != next {
            return Err(ChangeError::Gap { prize, first: *first, next });
        }
        let end = first.checked_add(*units).filter(|end| *end <= UNITS_MAX);
        next = end.ok_or(ChangeError::TooLarge { prize, units: *units, max: UNITS_MAX })?;
        if *first < row.made && next > row.made {
            return Err(ChangeError::Edited { prize, first: *first, last: next - 1, made: row.made });
        }
    }
    Ok(next.max(row.made))
}

/// The rows that a change of one prize works on.
pub fn need(prize: PrizeKey) -> Need {
    Need { prizes: vec![prize], ..Need::default() }
}

/// Cancels up to `units` numbers.
///
/// # Errors
/// When there is no such prize.
pub fn lower(
    rows: &mut Rows,
    key: PrizeKey,
    seq_no: SeqNo,
    units: u64,
    now_ms: u64,
) -> Result<Changed, ChangeError> {
    change(rows, key, seq_no, now_ms, |row| {
        let mut gone = row.fresh.take_highest(units);
        let more = row.returned.take_highest(units - gone.len());
        let joined = gone.add_all(&more).and_then(|()| row.cancelled.add_all(&gone));
        debug_assert!(joined.is_ok(), "{}: {joined:?}", row.key);
        if gone.len() < units && row.leased > 0 {
            row.recall_ms = now_ms;
        }
        gone.len()
    })
}

/// Stops a prize.
///
/// # Errors
/// When there is no such prize.
pub fn pause(rows: &mut Rows, key: PrizeKey, seq_no: SeqNo, now_ms: u64) -> Result<Changed, ChangeError> {
    change(rows, key, seq_no, now_ms, |row| {
        (row.paused, row.recall_ms) = (true, now_ms);
        0
    })
}

/// Lets a prize go on. The base pair was moved to now with the units that were out when it stopped, so the
/// rest is spread over what is left of the curve.
///
/// # Errors
/// When there is no such prize.
pub fn resume(rows: &mut Rows, key: PrizeKey, seq_no: SeqNo, now_ms: u64) -> Result<Changed, ChangeError> {
    change(rows, key, seq_no, now_ms, |row| {
        row.paused = false;
        0
    })
}

/// A change under a newer SeqNo: the base pair moves to now, then `apply` acts and answers the units cancelled.
fn change(
    rows: &mut Rows,
    key: PrizeKey,
    seq_no: SeqNo,
    now_ms: u64,
    apply: impl FnOnce(&mut PrizeRow) -> u64,
) -> Result<Changed, ChangeError> {
    let row = rows.prizes.get_mut(&key).ok_or(ChangeError::Unknown(key))?;
    let applied = seq_no > row.seq_no.max(row.change_seq_no);
    let mut cancelled = 0;
    if applied {
        row.change_seq_no = seq_no;
        row.rebase(now_ms);
        cancelled = apply(row);
        debug_assert_eq!(row.check(), Ok(()));
    }
    let changed = Changed { budget: budget(row, applied), cancelled, paused: row.paused };
    name_seq_no(rows, key.campaign, seq_no);
    Ok(changed)
}

fn budget(row: &PrizeRow, applied: bool) -> Budget {
    Budget { prize: row.key, made: row.made, units: row.budget(), applied }
}

/// Remembers the newest SeqNo that was named; answers it.
fn name_seq_no(rows: &mut Rows, campaign: campaign::CampaignId, seq_no: SeqNo) -> SeqNo {
    let row = rows.campaigns.entry(campaign).or_insert(CampaignRow { campaign, seq_no });
    row.seq_no = row.seq_no.max(seq_no);
    row.seq_no
}
