//! Statements that lanes and events share.

use std::collections::BTreeSet;

use campaign::AwardId;
use storage::batch::signed;
use storage::sqlx;
use storage::sqlx::postgres::{PgConnection, PgRow};

use super::rows::{column, id, int, told};
use crate::core::{Alarm, StatDelta};
use crate::store::StoreError;

type Done<T> = Result<T, StoreError>;

/// Locks the rows of awards, in order of their keys, and reads them; those that are not there are left out.
pub(super) async fn lock_awards(tx: &mut PgConnection, ids: &[(i64, AwardId)]) -> Done<Vec<PgRow>> {
    sqlx::query(
        "SELECT a.id, a.won, a.vendor, a.prize_kind, a.order_kind, a.lapse_ms, a.doubt, a.district, a.step, a.state, \
             a.at_ms, a.due_ms, a.since_ms \
         FROM UNNEST($1::bigint[], $2::bytea[]) AS q(slot, id) \
         JOIN flow_award a ON a.slot = q.slot AND a.id = q.id ORDER BY a.slot, a.id FOR UPDATE OF a",
    )
    .bind(column(ids, |(slot, _)| *slot))
    .bind(column(ids, |(_, award)| award.to_bytes().to_vec()))
    .fetch_all(tx)
    .await
    .map_err(told)
}

/// Alarms, numbered on; how many are new. Rare, so one transaction at a time may number them.
pub(super) async fn alarms(tx: &mut PgConnection, alarms: &[Alarm]) -> Done<u64> {
    if alarms.is_empty() {
        return Ok(0);
    }
    let counter = sqlx::query("SELECT value FROM flow_mark WHERE name = 'alarms' FOR UPDATE");
    let number: i64 = int(&counter.fetch_one(&mut *tx).await.map_err(told)?, "value")?;
    let rows = sqlx::query(
        "SELECT a.kind, a.award FROM UNNEST($1::bigint[], $2::bytea[]) AS q(kind, award) \
         JOIN flow_alarm a ON a.kind = q.kind AND a.award = q.award",
    )
    .bind(column(alarms, |a| a.kind as i64))
    .bind(column(alarms, |a| a.award.to_bytes().to_vec()))
    .fetch_all(&mut *tx)
    .await
    .map_err(told)?;
    let mut known = BTreeSet::new();
    for row in rows {
        known.insert((int::<i64>(&row, "kind")?, id(&row, "award")?));
    }
    let new: Vec<&Alarm> = alarms.iter().filter(|a| known.insert((a.kind as i64, a.award))).collect();
    if new.is_empty() {
        return Ok(0);
    }
    let last = number + new.len() as i64;
    sqlx::query(
        "INSERT INTO flow_alarm (number, kind, award, node, position, other) \
         SELECT * FROM UNNEST($1::bigint[], $2::bigint[], $3::bytea[], $4::bigint[], $5::bigint[], $6::bytea[])",
    )
    .bind((number + 1..=last).collect::<Vec<i64>>())
    .bind(column(&new, |a| a.kind as i64))
    .bind(column(&new, |a| a.award.to_bytes().to_vec()))
    .bind(column(&new, |a| i64::from(a.node.0)))
    .bind(column(&new, |a| signed(a.position)))
    .bind(column(&new, |a| a.other.to_bytes().to_vec()))
    .execute(&mut *tx)
    .await
    .map_err(told)?;
    let update = sqlx::query("UPDATE flow_mark SET value = $1 WHERE name = 'alarms'").bind(last);
    update.execute(tx).await.map_err(told)?;
    Ok(new.len() as u64)
}

/// Adds changes to the statistics, in a part of their own, so that writers don't wait for each other's lines.
pub(super) async fn statistics(tx: &mut PgConnection, delta: &StatDelta, part: i64) -> Done<()> {
    let rows: Vec<_> = delta.iter().collect();
    if rows.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "INSERT INTO flow_statistic (campaign, round, prize, vendor, district, part, awarded_units, awarded_fen, \
             delivered_units, delivered_fen, lapsed_units, lapsed_fen) \
         SELECT * FROM UNNEST($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], \
             $7::bigint[], $8::bigint[], $9::bigint[], $10::bigint[], $11::bigint[], $12::bigint[]) \
         ON CONFLICT (campaign, round, prize, vendor, district, part) DO UPDATE SET \
             awarded_units = flow_statistic.awarded_units + excluded.awarded_units, \
             awarded_fen = flow_statistic.awarded_fen + excluded.awarded_fen, \
             delivered_units = flow_statistic.delivered_units + excluded.delivered_units, \
             delivered_fen = flow_statistic.delivered_fen + excluded.delivered_fen, \
             lapsed_units = flow_statistic.lapsed_units + excluded.lapsed_units, \
             lapsed_fen = flow_statistic.lapsed_fen + excluded.lapsed_fen",
    )
    .bind(column(&rows, |(k, _)| i64::from(k.campaign.0)))
    .bind(column(&rows, |(k, _)| i64::from(k.round.0)))
    .bind(column(&rows, |(k, _)| i64::from(k.prize.0)))
    .bind(column(&rows, |(k, _)| i64::from(k.vendor.0)))
    .bind(column(&rows, |(k, _)| i64::from(k.district)))
    .bind(vec![part; rows.len()])
    .bind(column(&rows, |(_, v)| v.awarded_units))
    .bind(column(&rows, |(_, v)| v.awarded_fen.0))
    .bind(column(&rows, |(_, v)| v.delivered_units))
    .bind(column(&rows, |(_, v)| v.delivered_fen.0))
    .bind(column(&rows, |(_, v)| v.lapsed_units))
    .bind(column(&rows, |(_, v)| v.lapsed_fen.0))
    .execute(tx)
    .await
    .map(|_| ())
    .map_err(told)
}
