//! Carries inputs through the core into the book: read, step, write under the fence, and again for those that lost.

use super::Shared;
use crate::book::{Alarm, BookError, Transition};
use crate::core::{Input, OrderRow, Refused, Step, step};
use std::collections::{HashMap, HashSet};
use std::time::Duration;

/// How often a call to the book is tried before the work is given up. Given up is safe: the rows say what is open,
/// and come due again.
const TRIES: u32 = 20;

/// Applies each input to its row and returns, in the same order, the step that was written or why there was none.
///
/// Several inputs for one award are applied one after the other.
///
/// # Errors
/// When the book stays away; what was written before that stays.
pub async fn apply(
    shared: &Shared,
    work: Vec<(OrderRow, Input)>,
) -> Result<Vec<Result<Step, Refused>>, BookError> {
    let mut results: Vec<Option<Result<Step, Refused>>> = work.iter().map(|_| None).collect();
    let (mut rows, inputs): (Vec<OrderRow>, Vec<Input>) = work.into_iter().unzip();
    let mut alarms = Vec::new();
    let mut failed = 0;
    while results.iter().any(Option::is_none) {
        let (batch, places) = steps_of(shared, &rows, &inputs, &mut results, &mut alarms);
        let mut stale: HashSet<usize> = HashSet::new();
        for (chunk, at) in batch.chunks(crate::book::BATCH_MAX).zip(places.chunks(crate::book::BATCH_MAX)) {
            let won = match shared.book.transition(chunk).await {
                Ok(won) => won,
                Err(error) => {
                    failed += 1;
                    give_up_or_wait(failed, error).await?;
                    // Perhaps it was done: read again, and let the core say what is left to do.
                    vec![false; chunk.len()]
                }
            };
            for ((transition, place), won) in chunk.iter().zip(at).zip(won) {
                if won {
                    results[*place] = Some(Ok(transition.step.clone()));
                } else {
                    stale.insert(*place);
                }
            }
        }
        // Inputs that waited for another one of the same award go on from what it left.
        stale.extend(results.iter().enumerate().filter(|(_, r)| r.is_none()).map(|(at, _)| at));
        reload(shared, &mut rows, &stale, &mut failed).await?;
    }
    if !alarms.is_empty() {
        raise(shared, alarms).await;
    }
    Ok(results.into_iter().flatten().collect())
}

/// Steps of all inputs that are still open, one for each award; those that the core refuses are settled.
fn steps_of(
    shared: &Shared,
    rows: &[OrderRow],
    inputs: &[Input],
    results: &mut [Option<Result<Step, Refused>>],
    alarms: &mut Vec<Alarm>,
) -> (Vec<Transition>, Vec<usize>) {
    let (mut batch, mut places, mut awards) = (Vec::new(), Vec::new(), HashSet::new());
    let now_ms = shared.clock.now_ms();
    for (at, (row, input)) in rows.iter().zip(inputs).enumerate() {
        if results[at].is_some() || !awards.insert(row.award) {
            continue;
        }
        let policy = shared.vendors.get(&row.vendor).map(|v| &v.policy);
        match step(row, input, now_ms, policy, shared.random()) {
            Ok(next) => {
                if let Some(kind) = next.alarm {
                    alarms.push(alarm(kind, &next.row, &next.row.note, now_ms));
                }
                batch.push(Transition { from_step: row.step, from_state: row.state, step: next });
                places.push(at);
            }
            Err(refused) => {
                if matches!(refused, Refused::AmountDiffers | Refused::Contradiction | Refused::UsedUp) {
                    alarms.push(alarm(&refused.to_string(), row, &format!("{input:?}"), now_ms));
                }
                awards.remove(&row.award);
                results[at] = Some(Err(refused));
            }
        }
    }
    (batch, places)
}

async fn reload(
    shared: &Shared,
    rows: &mut [OrderRow],
    places: &HashSet<usize>,
    failed: &mut u32,
) -> Result<(), BookError> {
    let mut awards: Vec<_> = places.iter().map(|at| rows[*at].award).collect();
    awards.sort();
    awards.dedup();
    let mut fresh = HashMap::new();
    for chunk in awards.chunks(crate::book::BATCH_MAX) {
        loop {
            match shared.book.rows(chunk).await {
                Ok(found) => break fresh.extend(found.into_iter().map(|row| (row.award, row))),
                Err(error) => {
                    *failed += 1;
                    give_up_or_wait(*failed, error).await?;
                }
            }
        }
    }
    for at in places {
        match fresh.get(&rows[*at].award) {
            Some(row) => rows[*at] = row.clone(),
            None => return Err(BookError::Broken(format!("order {} has vanished", rows[*at].award))),
        }
    }
    Ok(())
}

async fn give_up_or_wait(failed: u32, error: BookError) -> Result<(), BookError> {
    if failed >= TRIES || matches!(error, BookError::Broken(_)) {
        return Err(error);
    }
    tracing::warn!(%error, failed, "delivery book failed, trying again");
    tokio::time::sleep(Duration::from_millis(20 * u64::from(failed))).await;
    Ok(())
}

/// An alarm about an order.
pub fn alarm(kind: &str, row: &OrderRow, detail: &str, now_ms: u64) -> Alarm {
    Alarm {
        kind: kind.to_owned(),
        award: row.award,
        detail: format!("vendor {}, step {}: {detail}", row.vendor, row.step),
        at_ms: now_ms,
        times: 1,
    }
}

/// Raises alarms; one that can't be stored is at least in the log.
pub async fn raise(shared: &Shared, alarms: Vec<Alarm>) {
    for one in &alarms {
        tracing::error!(kind = %one.kind, award = %one.award, detail = %one.detail, "delivery alarm");
    }
    // One line for each (kind, award), as the statement wants it.
    let mut merged: HashMap<(String, campaign::AwardId), Alarm> = HashMap::new();
    for one in alarms {
        merged.entry((one.kind.clone(), one.award)).and_modify(|a| a.times += one.times).or_insert(one);
    }
    let alarms: Vec<Alarm> = merged.into_values().collect();
    for chunk in alarms.chunks(crate::book::BATCH_MAX) {
        if let Err(error) = shared.book.alarm(chunk).await {
            tracing::error!(%error, "alarms could not be stored");
        }
    }
}
