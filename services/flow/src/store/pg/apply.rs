//! Storing what a lane comes to.
//!
//! The lane's row is locked first, so batches of one lane are taken one at a time. A batch is written as if nothing of it
//! were there, which is the rule; when the tables contradict it is undone, what is there is read and locked, and what
//! is left is written.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use campaign::{AwardId, NodeId};
use hashring::bucket_of;
use records::{DeliveryState, Record};
use storage::batch::signed;
use storage::sqlx;
use storage::sqlx::postgres::PgConnection;

use super::rows::{award, bits, column, id, int, slot_of, told, won};
use super::write;
use crate::core::{AwardRow, LaneBatch, StatBook, StatValue};
use crate::store::decide::{Known, UnitKey, decide};
use crate::store::{Applied, StoreError};

type Done<T> = Result<T, StoreError>;

/// Writes a batch. With `blind`, as if nothing of it were there: none when the tables contradict, and then the
/// transaction must be undone.
pub(super) async fn apply(
    tx: &mut PgConnection,
    lane: &LaneBatch,
    book: &StatBook,
    blind: bool,
) -> Done<Option<Applied>> {
    let stored = lock_lane(tx, lane.node).await?;
    if lane.from > stored {
        return Err(StoreError::Gap { node: lane.node, stored, from: lane.from });
    }
    if blind && stored != lane.from {
        return Ok(None);
    }
    let mut known = Known::default();
    if !blind {
        known.awards = awards(tx, lane).await?;
        let claims =
            decide(lane, &mut Known { awards: known.awards.clone(), ..Known::default() }, book).units;
        put_units(tx, &claims).await?;
        known.units = owners(tx, &claims).await?;
    }
    let mut d = decide(lane, &mut known, book);
    if blind && put_units(tx, &d.units).await? != d.units.len() as u64 {
        return Ok(None);
    }
    let put = put_awards(tx, &d.rows, book).await?;
    if put.len() != d.rows.len() {
        return match blind {
            true => Ok(None),
            false => Err(StoreError::Damaged("an award is there that was not there".to_owned())),
        };
    }
    count_early(&d.rows, &put, book, &mut d.delta);
    let new_alarms = write::alarms(tx, &d.alarms).await?;
    pass(tx, lane).await?;
    write::statistics(tx, &d.delta, i64::from(lane.node.0)).await?;
    Ok(Some(Applied { new_awards: d.rows.len() as u64, new_alarms, refused: d.refused, delta: d.delta }))
}

/// Waits for the lane's row, and makes it if need be; the lane's position.
async fn lock_lane(tx: &mut PgConnection, node: NodeId) -> Done<u64> {
    loop {
        let row = sqlx::query("SELECT next FROM flow_lane WHERE node = $1 FOR UPDATE")
            .bind(i64::from(node.0))
            .fetch_optional(&mut *tx)
            .await
            .map_err(told)?;
        if let Some(row) = row {
            return bits(&row, "next");
        }
        sqlx::query("INSERT INTO flow_lane (node, next, epoch) VALUES ($1, 0, 0) ON CONFLICT DO NOTHING")
            .bind(i64::from(node.0))
            .execute(&mut *tx)
            .await
            .map_err(told)?;
    }
}

/// Those of a batch's awards that are stored. They, and the steps that came before their awards, are locked.
async fn awards(tx: &mut PgConnection, lane: &LaneBatch) -> Done<HashMap<AwardId, AwardRow>> {
    let ids: BTreeSet<(i64, AwardId)> =
        lane.awards.iter().map(|row| (slot_of(row.won.award), row.won.award)).collect();
    let ids: Vec<_> = ids.into_iter().collect();
    let mut stored = HashMap::new();
    for row in write::lock_awards(tx, &ids).await? {
        if let Some(won) = won(&row)? {
            stored.insert(won.award, award(&row, won)?);
        }
    }
    Ok(stored)
}

/// Claims units for awards, where nobody has; how many were free.
async fn put_units(tx: &mut PgConnection, units: &[(UnitKey, AwardId)]) -> Done<u64> {
    if units.is_empty() {
        return Ok(0);
    }
    let mut units = units.to_vec();
    units.sort_unstable();
    let put = sqlx::query(
        "INSERT INTO flow_unit (campaign, round, prize, number, award) \
         SELECT * FROM UNNEST($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bytea[]) \
         ON CONFLICT DO NOTHING",
    )
    .bind(column(&units, |(key, _)| i64::from(key.0)))
    .bind(column(&units, |(key, _)| i64::from(key.1)))
    .bind(column(&units, |(key, _)| i64::from(key.2)))
    .bind(column(&units, |(key, _)| signed(key.3)))
    .bind(column(&units, |(_, award)| award.to_bytes().to_vec()));
    Ok(put.execute(tx).await.map_err(told)?.rows_affected())
}

/// Whose the units are.
async fn owners(tx: &mut PgConnection, units: &[(UnitKey, AwardId)]) -> Done<HashMap<UnitKey, AwardId>> {
    let rows = sqlx::query(
        "SELECT u.campaign, u.round, u.prize, u.number, u.award \
         FROM UNNEST($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[]) AS q(campaign, round, prize, number) \
         JOIN flow_unit u ON u.campaign = q.campaign AND u.round = q.round AND u.prize = q.prize \
             AND u.number = q.number",
    )
    .bind(column(units, |(key, _)| i64::from(key.0)))
    .bind(column(units, |(key, _)| i64::from(key.1)))
    .bind(column(units, |(key, _)| i64::from(key.2)))
    .bind(column(units, |(key, _)| signed(key.3)))
    .fetch_all(tx)
    .await
    .map_err(told)?;
    rows.iter()
        .map(|row| {
            let key = (int(row, "campaign")?, int(row, "round")?, int(row, "prize")?, bits(row, "number")?);
            Ok((key, id(row, "award")?))
        })
        .collect()
}

/// Stores awards; those that were not there, each with the state that a step before it has led to.
async fn put_awards(
    tx: &mut PgConnection,
    rows: &[AwardRow],
    book: &StatBook,
) -> Done<BTreeMap<AwardId, Option<DeliveryState>>> {
    if rows.is_empty() {
        return Ok(BTreeMap::new());
    }
    let mut sorted: Vec<(i64, &AwardRow)> = rows.iter().map(|row| (slot_of(row.won.award), row)).collect();
    sorted.sort_unstable_by_key(|(slot, row)| (*slot, row.won.award));
    let put = sqlx::query(
        "INSERT INTO flow_award (slot, id, bucket, user_id, campaign, won, won_ms, vendor, prize_kind, order_kind, \
             lapse_ms, doubt, district) \
         SELECT * FROM UNNEST($1::bigint[], $2::bytea[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bytea[], \
             $7::bigint[], $8::bigint[], $9::bigint[], $10::bigint[], $11::bigint[], $12::bigint[], $13::bigint[]) \
         ON CONFLICT (slot, id) DO UPDATE SET bucket = excluded.bucket, user_id = excluded.user_id, \
             campaign = excluded.campaign, won = excluded.won, won_ms = excluded.won_ms, vendor = excluded.vendor, \
             prize_kind = excluded.prize_kind, order_kind = excluded.order_kind, lapse_ms = excluded.lapse_ms, \
             doubt = excluded.doubt, district = excluded.district \
         WHERE flow_award.won IS NULL RETURNING id, step, state",
    )
    .bind(column(&sorted, |(slot, _)| *slot))
    .bind(column(&sorted, |(_, row)| row.won.award.to_bytes().to_vec()))
    .bind(column(&sorted, |(_, row)| i64::from(bucket_of(row.won.user.0).get())))
    .bind(column(&sorted, |(_, row)| signed(row.won.user.0)))
    .bind(column(&sorted, |(_, row)| i64::from(row.won.campaign.0)))
    .bind(column(&sorted, |(_, row)| row.won.encode()))
    .bind(column(&sorted, |(_, row)| signed(row.won.time_ms)))
    .bind(column(&sorted, |(_, row)| i64::from(row.vendor.0)))
    .bind(column(&sorted, |(_, row)| row.prize_kind as i64))
    .bind(column(&sorted, |(_, row)| row.order as i64))
    .bind(column(&sorted, |(_, row)| signed(row.lapse_ms)))
    .bind(column(&sorted, |(_, row)| row.doubt as i64))
    .bind(column(&sorted, |(_, row)| i64::from(book.key(row).district)));
    let mut put_now = BTreeMap::new();
    for row in put.fetch_all(tx).await.map_err(told)? {
        let state = match int::<u32>(&row, "step")? {
            0 => None,
            _ => DeliveryState::from_u8(int(&row, "state")?),
        };
        put_now.insert(id(&row, "id")?, state);
    }
    Ok(put_now)
}

/// Counts the steps that came before their awards.
fn count_early(
    rows: &[AwardRow],
    put: &BTreeMap<AwardId, Option<DeliveryState>>,
    book: &StatBook,
    delta: &mut crate::core::StatDelta,
) {
    for row in rows {
        if let Some(state) = put.get(&row.won.award).copied().flatten() {
            let moved = StatValue::moved(None, state, row.won.fen);
            if moved != StatValue::default() {
                delta.entry(book.key(row)).or_default().add(&moved);
            }
        }
    }
}

/// The lane's position, if it is higher, and its marks.
async fn pass(tx: &mut PgConnection, lane: &LaneBatch) -> Done<()> {
    sqlx::query(
        "UPDATE flow_lane SET next = GREATEST(next, $2), epoch = GREATEST(epoch, $3) WHERE node = $1",
    )
    .bind(i64::from(lane.node.0))
    .bind(signed(lane.next))
    .bind(i64::from(lane.epoch.0))
    .execute(&mut *tx)
    .await
    .map_err(told)?;
    for mark in &lane.marks {
        sqlx::query(
            "INSERT INTO flow_lane_mark (node, position, idx, epoch) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING",
        )
        .bind(i64::from(lane.node.0))
        .bind(signed(mark.position))
        .bind(i64::from(mark.index))
        .bind(i64::from(mark.epoch.0))
        .execute(&mut *tx)
        .await
        .map_err(told)?;
    }
    Ok(())
}
