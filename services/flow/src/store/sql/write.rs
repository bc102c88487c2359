//! The statements that write, many rows in each. All that is SQLite's own stands here.
//!
//! What every batch does has its values bound; what is rare (looking at what is there, alarms, steps before their award) goes
//! in as JSON.

use std::collections::HashMap;

use campaign::AwardId;
use records::Record;
use storage::RowStatement;
use storage::batch::signed;
use storage::sqlx::{self, SqliteConnection};

use super::rows::{COLUMNS, batch, full, id, int, progress, record, sql};
use crate::core::{Alarm, AwardRecord, LaneBatch, Progress, StatDelta};
use crate::store::StoreError;
use crate::store::decide::{Decision, Known, UnitKey, unit_of};

type Done<T> = Result<T, StoreError>;

async fn run(tx: &mut SqliteConnection, statement: &'static str, rows: String) -> Done<u64> {
    Ok(sqlx::query(statement).bind(rows).execute(tx).await.map_err(sql)?.rows_affected())
}

/// The lane's position.
pub(super) async fn lane_next(tx: &mut SqliteConnection, node: u16) -> Done<u64> {
    let row = sqlx::query("SELECT next FROM lane WHERE node = $1").bind(i64::from(node)).fetch_optional(tx);
    row.await.map_err(sql)?.map_or(Ok(0), |row| int(&row, "next"))
}

/// Everything that the tables hold of a batch's awards.
pub(super) async fn known(tx: &mut SqliteConnection, lane: &LaneBatch) -> Done<Known> {
    let (mut ids, mut units) = (batch(), batch());
    for row in &lane.awards {
        ids.row(|r| {
            r.bytes(&row.won.award.to_bytes());
        })
        .map_err(full)?;
        let (campaign, round, prize, number) = unit_of(row);
        units
            .row(|r| {
                r.int(campaign.into()).int(round.into()).int(prize.into()).int(signed(number));
            })
            .map_err(full)?;
    }
    let ids = ids.to_json();
    let mut known = Known::default();
    for (award, (_, stored)) in awards(tx, &ids).await? {
        known.awards.insert(award, stored.row);
    }
    known.early = early(tx, &ids).await?;
    let rows = sqlx::query(
        "SELECT u.campaign, u.round, u.prize, u.number, u.award FROM json_each($1) j JOIN unit u
         ON u.campaign = j.value->>0 AND u.round = j.value->>1 AND u.prize = j.value->>2 AND u.number = j.value->>3",
    )
    .bind(units.to_json())
    .fetch_all(tx)
    .await
    .map_err(sql)?;
    for row in rows {
        let number: i64 = int(&row, "number")?;
        let key: UnitKey =
            (int(&row, "campaign")?, int(&row, "round")?, int(&row, "prize")?, number.cast_unsigned());
        known.units.insert(key, id(&row, "award")?);
    }
    Ok(known)
}

/// Stored awards among the ids (a JSON array of arrays of one hex id).
pub(super) async fn awards(
    tx: &mut SqliteConnection,
    ids: &str,
) -> Done<HashMap<AwardId, (i64, AwardRecord)>> {
    let text = format!("SELECT {COLUMNS} FROM json_each($1) j JOIN award a ON a.id = unhex(j.value->>0)");
    let rows = sqlx::query(&text).bind(ids.to_owned()).fetch_all(tx).await.map_err(sql)?;
    rows.iter().map(|row| record(row).map(|(seq, r)| (r.row.won.award, (seq, r)))).collect()
}

/// Steps of awards that have not come, among the ids.
pub(super) async fn early(tx: &mut SqliteConnection, ids: &str) -> Done<HashMap<AwardId, Progress>> {
    let rows = sqlx::query(
        "SELECT e.award, e.step, e.state, e.at_ms, e.due_ms, e.since_ms
         FROM json_each($1) j JOIN early_step e ON e.award = unhex(j.value->>0)",
    )
    .bind(ids.to_owned())
    .fetch_all(tx)
    .await
    .map_err(sql)?;
    rows.iter().map(|row| Ok((id(row, "award")?, progress(row)?))).collect()
}

static PUT_UNITS: RowStatement = RowStatement::new(
    "INSERT INTO unit (campaign, round, prize, number, award) VALUES ",
    "(?, ?, ?, ?, ?)",
    " ON CONFLICT DO NOTHING",
);

static PUT_AWARDS: RowStatement = RowStatement::new(
    "INSERT INTO award (seq, id, won, won_ms, vendor, prize_kind, order_kind, lapse_ms, doubt) VALUES ",
    "(?, ?, ?, ?, ?, ?, ?, ?, ?)",
    " ON CONFLICT DO NOTHING",
);

/// Units and awards; false when a key was there already, which the decision did not know.
pub(super) async fn units_and_awards(tx: &mut SqliteConnection, d: &Decision, first_seq: i64) -> Done<bool> {
    let put = PUT_UNITS.execute(&mut *tx, &d.units, |query, _, ((campaign, round, prize, number), award)| {
        query
            .bind(i64::from(*campaign))
            .bind(i64::from(*round))
            .bind(i64::from(*prize))
            .bind(signed(*number))
            .bind(award.to_bytes().to_vec())
    });
    if put.await.map_err(sql)? != d.units.len() as u64 {
        return Ok(false);
    }
    let put = PUT_AWARDS.execute(&mut *tx, &d.rows, |query, index, row| {
        query
            .bind(first_seq + index as i64)
            .bind(row.won.award.to_bytes().to_vec())
            .bind(row.won.encode())
            .bind(signed(row.won.time_ms))
            .bind(i64::from(row.vendor.0))
            .bind(row.prize_kind as i64)
            .bind(row.order as i64)
            .bind(signed(row.lapse_ms))
            .bind(row.doubt as i64)
    });
    Ok(put.await.map_err(sql)? == d.rows.len() as u64)
}

/// Gives awards the steps that came before them.
pub(super) async fn take_early(tx: &mut SqliteConnection, d: &Decision, known: &Known) -> Done<u64> {
    if known.early.is_empty() {
        return Ok(0);
    }
    let mut ids = batch();
    for row in d.rows.iter().filter(|r| known.early.contains_key(&r.won.award)) {
        ids.row(|r| {
            r.bytes(&row.won.award.to_bytes());
        })
        .map_err(full)?;
    }
    if ids.is_empty() {
        return Ok(0);
    }
    let ids = ids.to_json();
    let update = "UPDATE award SET step = e.step, state = e.state, at_ms = e.at_ms, due_ms = e.due_ms, since_ms = e.since_ms
         FROM json_each($1) j JOIN early_step e ON e.award = unhex(j.value->>0) WHERE award.id = e.award";
    run(tx, update, ids.clone()).await?;
    run(tx, "DELETE FROM early_step WHERE award IN (SELECT unhex(value->>0) FROM json_each($1))", ids).await
}

/// Alarms; how many are new.
pub(super) async fn alarms(tx: &mut SqliteConnection, alarms: &[Alarm]) -> Done<u64> {
    if alarms.is_empty() {
        return Ok(0);
    }
    let mut rows = batch();
    for alarm in alarms {
        rows.row(|r| {
            r.int(alarm.kind as i64).bytes(&alarm.award.to_bytes()).int(alarm.node.0.into());
            r.int(signed(alarm.position)).bytes(&alarm.other.to_bytes());
        })
        .map_err(full)?;
    }
    let put = "INSERT INTO alarm (kind, award, node, position, other)
         SELECT value->>0, unhex(value->>1), value->>2, value->>3, unhex(value->>4) FROM json_each($1) WHERE TRUE
         ON CONFLICT DO NOTHING";
    run(tx, put, rows.to_json()).await
}

/// The lane's position, if it is higher, and its marks.
pub(super) async fn lane(tx: &mut SqliteConnection, lane: &LaneBatch) -> Done<()> {
    sqlx::query(
        "INSERT INTO lane (node, next, epoch) VALUES ($1, $2, $3)
         ON CONFLICT (node) DO UPDATE SET next = MAX(lane.next, excluded.next),
             epoch = MAX(lane.epoch, excluded.epoch)",
    )
    .bind(i64::from(lane.node.0))
    .bind(signed(lane.next))
    .bind(i64::from(lane.epoch.0))
    .execute(&mut *tx)
    .await
    .map_err(sql)?;
    for mark in &lane.marks {
        sqlx::query(
            "INSERT INTO lane_mark (node, position, idx, epoch) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING",
        )
        .bind(i64::from(lane.node.0))
        .bind(signed(mark.position))
        .bind(i64::from(mark.index))
        .bind(i64::from(mark.epoch.0))
        .execute(&mut *tx)
        .await
        .map_err(sql)?;
    }
    Ok(())
}

static ADD_STATISTICS: RowStatement = RowStatement::new(
    "INSERT INTO statistic (campaign, round, prize, vendor, district, awarded_units, awarded_fen, delivered_units, \
     delivered_fen, lapsed_units, lapsed_fen) VALUES ",
    "(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    " ON CONFLICT (campaign, round, prize, vendor, district) DO UPDATE SET \
     awarded_units = awarded_units + excluded.awarded_units, \
     awarded_fen = awarded_fen + excluded.awarded_fen, \
     delivered_units = delivered_units + excluded.delivered_units, \
     delivered_fen = delivered_fen + excluded.delivered_fen, \
     lapsed_units = lapsed_units + excluded.lapsed_units, \
     lapsed_fen = lapsed_fen + excluded.lapsed_fen",
);

/// Adds changes to the statistics.
pub(super) async fn statistics(tx: &mut SqliteConnection, delta: &StatDelta) -> Done<()> {
    let rows: Vec<_> = delta.iter().collect();
    let put = ADD_STATISTICS.execute(tx, &rows, |query, _, (k, v)| {
        let query = query
            .bind(i64::from(k.campaign.0))
            .bind(i64::from(k.round.0))
            .bind(i64::from(k.prize.0))
            .bind(i64::from(k.vendor.0))
            .bind(i64::from(k.district));
        let query = query.bind(v.awarded_units).bind(v.awarded_fen.0).bind(v.delivered_units);
        query.bind(v.delivered_fen.0).bind(v.lapsed_units).bind(v.lapsed_fen.0)
    });
    put.await.map(|_| ()).map_err(sql)
}

static PUT_STEPS: RowStatement = RowStatement::new(
    "UPDATE award SET step = v.column2, state = v.column3, at_ms = v.column4, due_ms = v.column5, \
     since_ms = v.column6 FROM (VALUES ",
    "(?, ?, ?, ?, ?, ?)",
    ") AS v WHERE award.seq = v.column1",
);

/// New steps of awards that are there.
pub(super) async fn steps(tx: &mut SqliteConnection, steps: &[(i64, Progress)]) -> Done<()> {
    let put = PUT_STEPS.execute(tx, steps, |query, _, (seq, p)| {
        let query = query.bind(*seq).bind(i64::from(p.step)).bind(p.state as i64);
        query.bind(signed(p.at_ms)).bind(signed(p.due_ms)).bind(signed(p.since_ms))
    });
    put.await.map(|_| ()).map_err(sql)
}

/// New steps of awards that have not come.
pub(super) async fn early_steps(tx: &mut SqliteConnection, steps: &[(AwardId, Progress)]) -> Done<()> {
    if steps.is_empty() {
        return Ok(());
    }
    let mut rows = batch();
    for (award, p) in steps {
        rows.row(|r| {
            r.bytes(&award.to_bytes()).int(p.step.into()).int(p.state as i64);
            r.int(signed(p.at_ms)).int(signed(p.due_ms)).int(signed(p.since_ms));
        })
        .map_err(full)?;
    }
    let put = "INSERT INTO early_step (award, step, state, at_ms, due_ms, since_ms)
         SELECT unhex(value->>0), value->>1, value->>2, value->>3, value->>4, value->>5 FROM json_each($1) WHERE TRUE
         ON CONFLICT (award) DO UPDATE SET step = excluded.step, state = excluded.state, at_ms = excluded.at_ms,
             due_ms = excluded.due_ms, since_ms = excluded.since_ms";
    run(tx, put, rows.to_json()).await.map(|_| ())
}

static PUT_USERS: RowStatement = RowStatement::new(
    "INSERT INTO user_award (bucket, user_id, award) VALUES ",
    "(?, ?, ?)",
    " ON CONFLICT DO NOTHING",
);

/// Users of awards, sorted by key.
pub(super) async fn users(tx: &mut SqliteConnection, users: &[(u16, u64, AwardId)], to: i64) -> Done<()> {
    let put = PUT_USERS.execute(&mut *tx, users, |query, _, (bucket, user, award)| {
        query.bind(i64::from(*bucket)).bind(signed(*user)).bind(award.to_bytes().to_vec())
    });
    put.await.map_err(sql)?;
    let mark = sqlx::query("UPDATE mark SET value = $1 WHERE name = 'users_to'").bind(to);
    mark.execute(tx).await.map_err(sql)?;
    Ok(())
}
