//! Storing steps of deliveries.
//!
//! A step may come before its award, and its award at that very moment in another transaction. Both write the same row:
//! a step without its award makes the row with nothing in it but the step, and the award fills it in. So one of two that
//! meet waits for the other by the row's key, and none is overlooked.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use campaign::{AwardId, VendorId};
use records::{DeliveryEvent, Won};
use storage::batch::signed;
use storage::sqlx;
use storage::sqlx::postgres::PgConnection;

use super::rows::{column, id, int, progress, slot_of, told, won};
use super::write;
use crate::core::{Progress, StatDelta, StatKey, StatValue};
use crate::store::{EventsApplied, StoreError};

type Done<T> = Result<T, StoreError>;

/// A row of the table, as far as steps are concerned.
struct Stored {
    progress: Option<Progress>,
    /// The award and the line that it is counted in; none before it came.
    award: Option<(Won, StatKey)>,
}

/// Writes events. None when an award came while this was looking for it: the transaction must be undone then, and the
/// same be done again.
pub(super) async fn apply(
    tx: &mut PgConnection,
    events: &[DeliveryEvent],
    part: i64,
) -> Done<Option<EventsApplied>> {
    let ids: BTreeSet<(i64, AwardId)> = events.iter().map(|e| (slot_of(e.award), e.award)).collect();
    let ids: Vec<_> = ids.into_iter().collect();
    let stored = lock(tx, &ids).await?;
    let mut after: BTreeMap<(i64, AwardId), Progress> = BTreeMap::new();
    let mut applied = EventsApplied::default();
    for event in events {
        let row = stored.get(&event.award);
        let key = (slot_of(event.award), event.award);
        let before = after.get(&key).copied().or_else(|| row.and_then(|r| r.progress));
        let Some(next) = Progress::after(before.as_ref(), event) else { continue };
        after.insert(key, next);
        if let Some((won, line)) = row.and_then(|r| r.award) {
            count(&mut applied.delta, line, &StatValue::moved(before.map(|p| p.state), next.state, won.fen));
        }
    }
    applied.delta.retain(|_, value| *value != StatValue::default());
    applied.changed = after.len() as u64;
    let (there, new): (Vec<_>, Vec<_>) =
        after.into_iter().partition(|((_, award), _)| stored.contains_key(award));
    if !insert(tx, &new).await? {
        return Ok(None);
    }
    update(tx, &there).await?;
    write::statistics(tx, &applied.delta, part).await?;
    Ok(Some(applied))
}

fn count(delta: &mut StatDelta, line: StatKey, value: &StatValue) {
    if *value != StatValue::default() {
        delta.entry(line).or_default().add(value);
    }
}

async fn lock(tx: &mut PgConnection, ids: &[(i64, AwardId)]) -> Done<HashMap<AwardId, Stored>> {
    let rows = write::lock_awards(tx, ids).await?;
    let mut stored = HashMap::with_capacity(rows.len());
    for row in &rows {
        let award = match won(row)? {
            None => None,
            Some(won) => {
                let (campaign, round, prize) = (won.campaign, won.round, won.prize);
                let (vendor, district) = (VendorId(int(row, "vendor")?), int(row, "district")?);
                Some((won, StatKey { campaign, round, prize, vendor, district }))
            }
        };
        stored.insert(id(row, "id")?, Stored { progress: progress(row)?, award });
    }
    Ok(stored)
}

/// New steps of awards that have not come; false when one of them has come meanwhile.
async fn insert(tx: &mut PgConnection, steps: &[((i64, AwardId), Progress)]) -> Done<bool> {
    if steps.is_empty() {
        return Ok(true);
    }
    let put = sqlx::query(
        "INSERT INTO flow_award (slot, id, step, state, at_ms, due_ms, since_ms) SELECT * FROM \
         UNNEST($1::bigint[], $2::bytea[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[]) \
         ON CONFLICT DO NOTHING",
    );
    let put = bind(put, steps).execute(tx).await.map_err(told)?;
    Ok(put.rows_affected() == steps.len() as u64)
}

/// New steps of rows that are there, and locked.
async fn update(tx: &mut PgConnection, steps: &[((i64, AwardId), Progress)]) -> Done<()> {
    if steps.is_empty() {
        return Ok(());
    }
    let put = sqlx::query(
        "UPDATE flow_award SET step = v.step, state = v.state, at_ms = v.at_ms, due_ms = v.due_ms, \
             since_ms = v.since_ms \
         FROM UNNEST($1::bigint[], $2::bytea[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], \
             $7::bigint[]) AS v(slot, id, step, state, at_ms, due_ms, since_ms) \
         WHERE flow_award.slot = v.slot AND flow_award.id = v.id",
    );
    bind(put, steps).execute(tx).await.map(|_| ()).map_err(told)
}

type Query<'q> = sqlx::query::Query<'q, sqlx::Postgres, sqlx::postgres::PgArguments>;

fn bind<'q>(query: Query<'q>, steps: &[((i64, AwardId), Progress)]) -> Query<'q> {
    query
        .bind(column(steps, |((slot, _), _)| *slot))
        .bind(column(steps, |((_, award), _)| award.to_bytes().to_vec()))
        .bind(column(steps, |(_, p)| i64::from(p.step)))
        .bind(column(steps, |(_, p)| p.state as i64))
        .bind(column(steps, |(_, p)| signed(p.at_ms)))
        .bind(column(steps, |(_, p)| signed(p.due_ms)))
        .bind(column(steps, |(_, p)| signed(p.since_ms)))
}
