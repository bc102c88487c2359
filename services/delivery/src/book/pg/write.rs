//! The statements that write, each over a whole batch.
//!
//! The rows of the batch's shards are locked first, in order, and held until the commit: so positions follow the order of
//! commits, and two writers of one award never meet anywhere else.

use super::rows::{award, column, get, number, slot_of, text};
use crate::book::{BookError, Transition, count_changes, shard_of};
use crate::core::{OrderRow, Step};
use campaign::AwardId;
use records::DeliveryState;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use storage::SqlError;
use storage::batch::signed;
use storage::sqlx;
use storage::sqlx::postgres::PgConnection;

type Done<T> = Result<T, BookError>;
type Query<'q> = sqlx::query::Query<'q, sqlx::Postgres, sqlx::postgres::PgArguments>;

fn told(error: sqlx::Error) -> BookError {
    super::in_transaction(SqlError::from(error))
}

/// A step that was written, and the state before it.
type Written<'a> = (&'a Step, Option<DeliveryState>);

/// Writes first steps; the awards that were new.
pub(super) async fn take(tx: &mut PgConnection, first: &[Step], shards: u16) -> Done<HashSet<AwardId>> {
    let mut positions = lock(tx, first.iter().map(|step| &step.row), shards).await?;
    let mut rows: Vec<&OrderRow> = first.iter().map(|step| &step.row).collect();
    rows.sort_unstable_by_key(|row| (slot_of(row.award), row.award));
    let new = insert_orders(tx, &rows, shards).await?;
    let written: Vec<Written<'_>> =
        first.iter().filter(|step| new.contains(&step.row.award)).map(|step| (step, None)).collect();
    finish(tx, &written, &mut positions, shards).await?;
    Ok(new)
}

/// Writes steps whose rows still stand where they were read; the awards that did.
pub(super) async fn steps(
    tx: &mut PgConnection,
    batch: &[Transition],
    shards: u16,
) -> Done<HashSet<AwardId>> {
    let mut positions = lock(tx, batch.iter().map(|t| &t.step.row), shards).await?;
    let mut sorted: Vec<&Transition> = batch.iter().collect();
    sorted.sort_unstable_by_key(|t| (slot_of(t.step.row.award), t.step.row.award));
    let won = update_orders(tx, &sorted).await?;
    let of = batch.iter().filter(|t| won.contains(&t.step.row.award));
    let written: Vec<Written<'_>> = of.map(|t| (&t.step, Some(t.from_state))).collect();
    finish(tx, &written, &mut positions, shards).await?;
    Ok(won)
}

/// Locks the shards of rows; the last position of each one's journal.
async fn lock<'a>(
    tx: &mut PgConnection,
    rows: impl Iterator<Item = &'a OrderRow>,
    shards: u16,
) -> Done<BTreeMap<u16, i64>> {
    let wanted: BTreeSet<u16> = rows.map(|row| shard_of(row.user, shards)).collect();
    let wanted: Vec<i64> = wanted.into_iter().map(i64::from).collect();
    let locked = sqlx::query(
        "SELECT shard, position FROM delivery_shard WHERE shard = ANY($1::bigint[]) ORDER BY shard FOR UPDATE",
    )
    .bind(&wanted)
    .fetch_all(tx)
    .await
    .map_err(told)?;
    if locked.len() != wanted.len() {
        return Err(BookError::Broken("a shard of the book is missing".into()));
    }
    locked.iter().map(|row| Ok((number(row, 0)?, get(row, 1)?))).collect()
}

async fn insert_orders(tx: &mut PgConnection, rows: &[&OrderRow], shards: u16) -> Done<HashSet<AwardId>> {
    let query = sqlx::query(
        "INSERT INTO delivery_order (slot, award, shard, prize_kind, campaign, round, user_id, prize, unit, fen, \
             vendor, won_ms, lapse_ms, state, step, lane, due_ms, reason, note, generation, attempt, called_ms, \
             first_called_ms, failures, payee, merchant, body_sha256, vendor_ref) \
         SELECT q.*, 0, 0, 0, 0, 0, '', '', $20::bytea, '' FROM UNNEST($1::bigint[], $2::bytea[], $3::bigint[], \
             $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[], $8::bigint[], $9::bigint[], $10::bigint[], \
             $11::bigint[], $12::bigint[], $13::bigint[], $14::bigint[], $15::bigint[], $16::bigint[], \
             $17::bigint[], $18::bigint[], $19::text[]) AS q \
         ON CONFLICT (slot, award) DO NOTHING RETURNING award",
    )
    .bind(column(rows, |r| slot_of(r.award)))
    .bind(column(rows, |r| r.award.to_bytes().to_vec()))
    .bind(column(rows, |r| i64::from(shard_of(r.user, shards))))
    .bind(column(rows, |r| r.prize_kind as i64))
    .bind(column(rows, |r| i64::from(r.campaign.0)))
    .bind(column(rows, |r| i64::from(r.round.0)))
    .bind(column(rows, |r| signed(r.user.0)))
    .bind(column(rows, |r| i64::from(r.prize.0)))
    .bind(column(rows, |r| signed(r.unit)))
    .bind(column(rows, |r| r.fen.0))
    .bind(column(rows, |r| i64::from(r.vendor.0)))
    .bind(column(rows, |r| signed(r.won_ms)))
    .bind(column(rows, |r| signed(r.lapse_ms)))
    .bind(column(rows, |r| r.state as i64))
    .bind(column(rows, |r| i64::from(r.step)))
    .bind(column(rows, |r| r.lane().map(|lane| lane as i64)))
    .bind(column(rows, |r| signed(r.due_ms)))
    .bind(column(rows, |r| r.reason as i64))
    .bind(column(rows, |r| text(&r.note)))
    .bind(vec![0u8; 32]);
    awards_of(tx, query).await
}

async fn update_orders(tx: &mut PgConnection, batch: &[&Transition]) -> Done<HashSet<AwardId>> {
    let row = |t: &&Transition| t.step.row.clone();
    let rows: Vec<OrderRow> = batch.iter().map(row).collect();
    let query = sqlx::query(
        "UPDATE delivery_order SET state = v.state, step = v.step, generation = v.generation, attempt = v.attempt, \
             lane = v.lane, due_ms = v.due_ms, called_ms = v.called_ms, first_called_ms = v.first_called_ms, \
             failures = v.failures, payee = v.payee, merchant = v.merchant, body_sha256 = v.body_sha256, \
             vendor_ref = v.vendor_ref, reason = v.reason, note = v.note \
         FROM UNNEST($1::bigint[], $2::bytea[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], \
             $7::bigint[], $8::bigint[], $9::bigint[], $10::bigint[], $11::bigint[], $12::bigint[], $13::text[], \
             $14::text[], $15::bytea[], $16::text[], $17::bigint[], $18::text[]) \
             AS v(slot, award, from_step, state, step, generation, attempt, lane, due_ms, called_ms, \
             first_called_ms, failures, payee, merchant, body_sha256, vendor_ref, reason, note) \
         WHERE delivery_order.slot = v.slot AND delivery_order.award = v.award AND delivery_order.step = v.from_step \
         RETURNING delivery_order.award",
    )
    .bind(column(&rows, |r| slot_of(r.award)))
    .bind(column(&rows, |r| r.award.to_bytes().to_vec()))
    .bind(column(batch, |t| i64::from(t.from_step)))
    .bind(column(&rows, |r| r.state as i64))
    .bind(column(&rows, |r| i64::from(r.step)))
    .bind(column(&rows, |r| i64::from(r.generation)))
    .bind(column(&rows, |r| i64::from(r.attempt)))
    .bind(column(&rows, |r| r.lane().map(|lane| lane as i64)))
    .bind(column(&rows, |r| signed(r.due_ms)))
    .bind(column(&rows, |r| signed(r.called_ms)))
    .bind(column(&rows, |r| signed(r.first_called_ms)))
    .bind(column(&rows, |r| i64::from(r.failures)))
    .bind(column(&rows, |r| text(&r.payee)))
    .bind(column(&rows, |r| text(&r.merchant)))
    .bind(column(&rows, |r| r.body_sha256.to_vec()))
    .bind(column(&rows, |r| text(&r.vendor_ref)))
    .bind(column(&rows, |r| r.reason as i64))
    .bind(column(&rows, |r| text(&r.note)));
    awards_of(tx, query).await
}

async fn awards_of(tx: &mut PgConnection, query: Query<'_>) -> Done<HashSet<AwardId>> {
    let rows = query.fetch_all(tx).await.map_err(told)?;
    rows.iter().map(|row| award(row, 0)).collect()
}

/// Writes the journal's lines and the counts of steps whose rows were written.
async fn finish(
    tx: &mut PgConnection,
    written: &[Written<'_>],
    positions: &mut BTreeMap<u16, i64>,
    shards: u16,
) -> Done<()> {
    if written.is_empty() {
        return Ok(());
    }
    let (mut lines, mut by_shard) =
        (Vec::with_capacity(written.len()), BTreeMap::<u16, Vec<Written<'_>>>::new());
    for (step, from) in written {
        let shard = shard_of(step.row.user, shards);
        let position = positions.entry(shard).or_default();
        *position += 1;
        lines.push((i64::from(shard), *position, *step));
        by_shard.entry(shard).or_default().push((step, *from));
    }
    insert_lines(tx, &lines).await?;
    add_counts(tx, &by_shard).await?;
    let touched: Vec<(i64, i64)> = by_shard
        .keys()
        .map(|shard| (i64::from(*shard), positions.get(shard).copied().unwrap_or(0)))
        .collect();
    sqlx::query(
        "UPDATE delivery_shard SET position = v.position FROM UNNEST($1::bigint[], $2::bigint[]) AS v(shard, position) \
         WHERE delivery_shard.shard = v.shard",
    )
    .bind(column(&touched, |(shard, _)| *shard))
    .bind(column(&touched, |(_, position)| *position))
    .execute(tx)
    .await
    .map_err(told)?;
    Ok(())
}

async fn insert_lines(tx: &mut PgConnection, lines: &[(i64, i64, &Step)]) -> Done<()> {
    sqlx::query(
        "INSERT INTO delivery_journal (shard, position, award, step, state, generation, attempt, at_ms, due_ms, vendor, \
             user_id, campaign, round, prize, fen, reason, note) \
         SELECT * FROM UNNEST($1::bigint[], $2::bigint[], $3::bytea[], $4::bigint[], $5::bigint[], $6::bigint[], \
             $7::bigint[], $8::bigint[], $9::bigint[], $10::bigint[], $11::bigint[], $12::bigint[], $13::bigint[], \
             $14::bigint[], $15::bigint[], $16::bigint[], $17::text[])",
    )
    .bind(column(lines, |(shard, _, _)| *shard))
    .bind(column(lines, |(_, position, _)| *position))
    .bind(column(lines, |(_, _, s)| s.event.award.to_bytes().to_vec()))
    .bind(column(lines, |(_, _, s)| i64::from(s.event.step)))
    .bind(column(lines, |(_, _, s)| s.event.state as i64))
    .bind(column(lines, |(_, _, s)| i64::from(s.event.generation)))
    .bind(column(lines, |(_, _, s)| i64::from(s.event.attempt)))
    .bind(column(lines, |(_, _, s)| signed(s.event.at_ms)))
    .bind(column(lines, |(_, _, s)| signed(s.event.due_ms)))
    .bind(column(lines, |(_, _, s)| i64::from(s.event.vendor.0)))
    .bind(column(lines, |(_, _, s)| signed(s.event.user.0)))
    .bind(column(lines, |(_, _, s)| i64::from(s.event.campaign.0)))
    .bind(column(lines, |(_, _, s)| i64::from(s.event.round.0)))
    .bind(column(lines, |(_, _, s)| i64::from(s.event.prize.0)))
    .bind(column(lines, |(_, _, s)| s.event.fen.0))
    .bind(column(lines, |(_, _, s)| s.row.reason as i64))
    .bind(column(lines, |(_, _, s)| text(&s.row.note)))
    .execute(tx)
    .await
    .map(|_| ())
    .map_err(told)
}

async fn add_counts(tx: &mut PgConnection, by_shard: &BTreeMap<u16, Vec<Written<'_>>>) -> Done<()> {
    let mut rows = Vec::new();
    for (shard, written) in by_shard {
        let changes =
            written.iter().map(|(step, from)| (step.row.vendor, *from, step.row.state, step.row.fen));
        for ((vendor, state), (orders, fen)) in count_changes(changes) {
            rows.push((i64::from(*shard), i64::from(vendor.0), i64::from(state), orders, fen));
        }
    }
    sqlx::query(
        "INSERT INTO delivery_count (shard, vendor, state, orders, fen) \
         SELECT * FROM UNNEST($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[]) \
         ON CONFLICT (shard, vendor, state) DO UPDATE SET orders = delivery_count.orders + excluded.orders, \
             fen = delivery_count.fen + excluded.fen",
    )
    .bind(column(&rows, |r| r.0))
    .bind(column(&rows, |r| r.1))
    .bind(column(&rows, |r| r.2))
    .bind(column(&rows, |r| r.3))
    .bind(column(&rows, |r| r.4))
    .execute(tx)
    .await
    .map(|_| ())
    .map_err(told)
}
