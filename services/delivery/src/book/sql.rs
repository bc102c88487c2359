//! The book in SQLite.
//!
//! A batch is one transaction: write the rows under their fence, write the journal's lines of those that took it, and add
//! what changed to the counts. The writer's lock is taken at the beginning, so positions of the journal follow the order
//! of commits. A batch is first written as if all of it will take its fence, which is the rule; when the number of rows
//! changed says otherwise it is undone, what stands is read, and what still fits is written.
//!
//! One database has one writer, so the book has one shard.

use super::newest::Newest;
use super::sql_rows::{
    JOURNAL_COLUMNS, ORDER_COLUMNS, bind_change, bind_line, bind_order, line_of, order_of,
};
use super::{
    ALARMS_MAX, Alarm, BATCH_MAX, BookError, Count, DeliveryBook, JournalRow, Transition, count_changes,
};
use crate::core::{Lane, OrderRow, Step};
use async_trait::async_trait;
use campaign::{AwardId, Fen, UserId, VendorId};
use parking_lot::Mutex;
use records::DeliveryState;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use storage::batch::{signed, unsigned};
use storage::sqlx::sqlite::SqliteRow;
use storage::sqlx::{self, Row, Sqlite};
use storage::{Batch, BatchFull, Migration, MigrationError, RowStatement, Sql, SqlError, WriteTransaction};

/// Name under which the tables' versions are kept.
pub const SERVICE: &str = "delivery";

/// The tables of delivery: book and accounts.
pub const MIGRATIONS: &[Migration] =
    &[Migration { version: 1, name: "orders, journal, accounts", sql: include_str!("schema_1.sql") }];

static INSERT_ORDERS: RowStatement = RowStatement::new(
    "INSERT INTO delivery_order (award, prize_kind, campaign, round, user_id, prize, unit, fen, vendor, won_ms, \
     lapse_ms, state, step, lane, due_ms, reason, note, journal_from, generation, attempt, called_ms, \
     first_called_ms, failures, payee, merchant, body_sha256, vendor_ref) VALUES ",
    "(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0, 0, 0, 0, 0, '', '', zeroblob(32), '')",
    " ON CONFLICT (award) DO NOTHING",
);

// The rows of the batch are the outer loop: SQLite has no index over them, and each finds its order by the key.
static UPDATE_ORDERS: RowStatement = RowStatement::new(
    "UPDATE delivery_order SET state = v.column3, step = v.column4, generation = v.column5, attempt = v.column6, \
     lane = v.column7, due_ms = v.column8, called_ms = v.column9, first_called_ms = v.column10, \
     failures = v.column11, payee = v.column12, merchant = v.column13, body_sha256 = v.column14, \
     vendor_ref = v.column15, reason = v.column16, note = v.column17 FROM (VALUES ",
    "(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    ") AS v WHERE delivery_order.award = v.column1 AND delivery_order.step = v.column2",
);

static INSERT_JOURNAL: RowStatement = RowStatement::new(
    "INSERT INTO delivery_journal (position, award, step, state, generation, attempt, at_ms, due_ms, vendor, \
     user_id, campaign, round, prize, fen, reason, note) VALUES ",
    "(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    "",
);

static ADD_COUNTS: RowStatement = RowStatement::new(
    "INSERT INTO delivery_count (vendor, state, orders, fen) VALUES ",
    "(?, ?, ?, ?)",
    " ON CONFLICT (vendor, state) DO UPDATE SET orders = orders + excluded.orders, fen = fen + excluded.fen",
);

/// Most bytes of one JSON parameter: 4,096 of the longest rows fit.
const JSON_MAX: usize = 8 * 1024 * 1024;

impl From<SqlError> for BookError {
    fn from(error: SqlError) -> BookError {
        match error {
            SqlError::TimedOut { .. } | SqlError::Lost(_) => BookError::Unsure(error.to_string()),
            SqlError::Busy { .. } | SqlError::DiskFull(_) | SqlError::Unreachable { .. } => {
                BookError::Unavailable(error.to_string())
            }
            SqlError::Constraint(_) | SqlError::Other(_) => BookError::Broken(error.to_string()),
        }
    }
}

impl From<BatchFull> for BookError {
    fn from(error: BatchFull) -> BookError {
        BookError::Broken(format!("{error}; at most {BATCH_MAX} rows go into one call"))
    }
}

/// See the module. Cloning gives another handle to the same database.
#[derive(Clone, Debug)]
pub struct SqlBook {
    sql: Sql,
    newest: Arc<Mutex<Newest>>,
}

impl SqlBook {
    /// Brings the tables up to date and opens the book.
    ///
    /// # Errors
    /// When the database was written by a newer program, or can't be written.
    pub async fn open(sql: Sql, now_ms: u64) -> Result<SqlBook, MigrationError> {
        storage::migrate(&sql, SERVICE, MIGRATIONS, now_ms).await?;
        Ok(SqlBook { sql, newest: Arc::default() })
    }

    /// Writes the journal's lines and the counts of steps whose rows were written, and commits.
    async fn finish(
        &self,
        mut write: WriteTransaction,
        first_position: i64,
        steps: &[(&Step, Option<DeliveryState>)],
    ) -> Result<(), BookError> {
        let at = |index: usize| first_position + index as i64;
        let put = INSERT_JOURNAL
            .execute(&mut write, steps, |query, index, (step, _)| bind_line(query, at(index), step));
        put.await.map_err(SqlError::from)?;
        let changes = steps.iter().map(|(step, from)| (step.row.vendor, *from, step.row.state, step.row.fen));
        let counts: Vec<_> = count_changes(changes).into_iter().collect();
        let add = ADD_COUNTS.execute(&mut write, &counts, |query, _, ((vendor, state), (orders, fen))| {
            query.bind(i64::from(vendor.0)).bind(i64::from(*state)).bind(*orders).bind(*fen)
        });
        add.await.map_err(SqlError::from)?;
        commit(write).await?;
        let lines = steps.iter().enumerate().map(|(index, (step, _))| line(at(index), step));
        self.newest.lock().extend(lines);
        Ok(())
    }

    /// Takes orders as if all were new; none when one of them is known, and then nothing was written.
    async fn take_all(&self, first: &[&Step]) -> Result<Option<()>, BookError> {
        let mut write = self.sql.write().await?;
        let position = next_position(&mut write).await?;
        let put =
            INSERT_ORDERS.execute(&mut write, first, |query, _, step| bind_order(query, &step.row, position));
        if put.await.map_err(SqlError::from)? != first.len() as u64 {
            write.rollback().await.map_err(SqlError::from)?;
            return Ok(None);
        }
        let steps: Vec<_> = first.iter().map(|step| (*step, None)).collect();
        self.finish(write, position, &steps).await.map(Some)
    }

    async fn take(&self, first: &[Step]) -> Result<Vec<bool>, BookError> {
        let mut new: Vec<&Step> = first.iter().collect();
        while self.take_all(&new).await?.is_none() {
            // Some are known, for good. Whatever comes between this look and the writing is seen by the next one.
            let known = self.steps_of(new.iter().map(|step| step.row.award)).await?;
            let before = new.len();
            new.retain(|step| !known.contains_key(&step.row.award));
            check_progress(before, new.len())?;
            if new.is_empty() {
                return Ok(vec![false; first.len()]);
            }
        }
        let new: HashSet<AwardId> = new.iter().map(|step| step.row.award).collect();
        Ok(first.iter().map(|step| new.contains(&step.row.award)).collect())
    }

    /// Writes steps as if all took their fence; none when one does not, and then nothing was written.
    async fn write_all(&self, steps: &[&Transition]) -> Result<Option<()>, BookError> {
        let mut write = self.sql.write().await?;
        let position = next_position(&mut write).await?;
        let put = UPDATE_ORDERS
            .execute(&mut write, steps, |query, _, t| bind_change(query, t.from_step, &t.step.row));
        if put.await.map_err(SqlError::from)? != steps.len() as u64 {
            write.rollback().await.map_err(SqlError::from)?;
            return Ok(None);
        }
        let steps: Vec<_> = steps.iter().map(|t| (&t.step, Some(t.from_state))).collect();
        self.finish(write, position, &steps).await.map(Some)
    }

    async fn write_steps(&self, batch: &[Transition]) -> Result<Vec<bool>, BookError> {
        let mut open: Vec<&Transition> = batch.iter().collect();
        while self.write_all(&open).await?.is_none() {
            // A step only rises, so what has lost its fence has lost it for good.
            let stand = self.steps_of(open.iter().map(|t| t.step.row.award)).await?;
            let before = open.len();
            open.retain(|t| stand.get(&t.step.row.award) == Some(&t.from_step));
            check_progress(before, open.len())?;
            if open.is_empty() {
                return Ok(vec![false; batch.len()]);
            }
        }
        let won: HashSet<AwardId> = open.iter().map(|t| t.step.row.award).collect();
        Ok(batch.iter().map(|t| won.contains(&t.step.row.award)).collect())
    }

    /// The steps at which orders stand; unknown awards are left out.
    async fn steps_of(
        &self,
        awards: impl Iterator<Item = AwardId>,
    ) -> Result<HashMap<AwardId, u32>, BookError> {
        let text = "SELECT o.award, o.step FROM json_each($1) AS j \
                    CROSS JOIN delivery_order AS o ON o.award = unhex(j.value->>0)";
        let steps = self.read(sqlx::query(text).bind(keys(awards)?), |row| {
            let stored: &[u8] = row.try_get(0).map_err(SqlError::from)?;
            let bytes =
                stored.try_into().map_err(|_| BookError::Broken("an award id of another length".into()))?;
            let step = u32::try_from(number(row, 1)?);
            Ok((
                AwardId::from_bytes(bytes),
                step.map_err(|_| BookError::Broken("a step out of range".into()))?,
            ))
        });
        Ok(steps.await?.into_iter().collect())
    }

    async fn write_alarms(&self, alarms: &[Alarm]) -> Result<(), BookError> {
        let mut write = self.sql.write().await?;
        let kept: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM delivery_alarm")
            .fetch_one(&mut *write)
            .await
            .map_err(SqlError::from)?;
        let room = i64::try_from(ALARMS_MAX).unwrap_or(i64::MAX).saturating_sub(kept);
        let mut rows = batch();
        for alarm in alarms {
            rows.row(|row| {
                row.text(&alarm.kind).bytes(&alarm.award.to_bytes()).text(&alarm.detail);
                row.int(signed(alarm.at_ms)).int(signed(alarm.times));
            })?;
        }
        let statement = if room > 0 {
            "INSERT INTO delivery_alarm (kind, award, detail, at_ms, times) \
             SELECT value->>0, unhex(value->>1), value->>2, value->>3, value->>4 FROM json_each($1) WHERE true \
             ON CONFLICT (kind, award) DO UPDATE SET times = times + excluded.times"
        } else {
            "UPDATE delivery_alarm SET times = times + (j.value->>4) FROM json_each($1) AS j \
             WHERE kind = j.value->>0 AND award = unhex(j.value->>1)"
        };
        sqlx::query(statement).bind(rows.to_json()).execute(&mut *write).await.map_err(SqlError::from)?;
        commit(write).await
    }

    async fn read<'q, T>(
        &self,
        query: sqlx::query::Query<'q, Sqlite, sqlx::sqlite::SqliteArguments<'q>>,
        of: impl Fn(&SqliteRow) -> Result<T, BookError>,
    ) -> Result<Vec<T>, BookError> {
        let rows = self.sql.within("reading the delivery book", query.fetch_all(self.sql.readers())).await?;
        rows.iter().map(of).collect()
    }

    /// One call under the statement time limit. Dropped at its end it is undone, unless it was being committed.
    async fn limited<T>(&self, call: impl Future<Output = Result<T, BookError>>) -> Result<T, BookError> {
        let outcome = self.sql.within("writing the delivery book", async { Ok::<_, SqlError>(call.await) });
        outcome.await?
    }
}

fn batch() -> Batch {
    Batch::new(BATCH_MAX, JSON_MAX)
}

async fn next_position(write: &mut WriteTransaction) -> Result<i64, BookError> {
    let next = sqlx::query_scalar("SELECT COALESCE(MAX(position), 0) + 1 FROM delivery_journal");
    Ok(next.fetch_one(&mut **write).await.map_err(SqlError::from)?)
}

async fn commit(write: WriteTransaction) -> Result<(), BookError> {
    // Whatever a commit says went wrong, it may be on the disk.
    write.commit().await.map_err(|error| BookError::Unsure(error.to_string()))
}

fn check_rows(rows: usize) -> Result<(), BookError> {
    if rows > BATCH_MAX {
        return Err(BookError::Broken(format!("{rows} rows; at most {BATCH_MAX} go into one call")));
    }
    Ok(())
}

/// Each look at what stands takes something away from a batch that was not written, or it is no batch.
fn check_progress(before: usize, after: usize) -> Result<(), BookError> {
    if after == before {
        return Err(BookError::Broken("an award occurs twice in one call".into()));
    }
    Ok(())
}

/// The parameter that names awards.
fn keys(awards: impl Iterator<Item = AwardId>) -> Result<String, BookError> {
    let mut keys = batch();
    for award in awards {
        keys.row(|row| {
            row.bytes(&award.to_bytes());
        })?;
    }
    Ok(keys.to_json())
}

/// The journal's line of a step.
fn line(position: i64, step: &Step) -> JournalRow {
    JournalRow {
        position: unsigned(position),
        event: step.event,
        reason: step.row.reason,
        note: step.row.note.clone(),
    }
}

/// The book has shard 0 and no other.
fn only(shard: u16) -> Result<(), BookError> {
    if shard == 0 {
        Ok(())
    } else {
        Err(BookError::Broken(format!("there is no shard {shard}, the book has 1")))
    }
}

fn behind(after: Option<AwardId>) -> Vec<u8> {
    // No blob sorts before the empty one, and no award id is empty.
    after.map_or_else(Vec::new, |award| award.to_bytes().to_vec())
}

fn rows_max(limit: usize) -> i64 {
    limit.min(BATCH_MAX) as i64
}

fn number(row: &SqliteRow, at: usize) -> Result<i64, BookError> {
    Ok(row.try_get(at).map_err(SqlError::from)?)
}

#[async_trait]
impl DeliveryBook for SqlBook {
    fn shards(&self) -> u16 {
        1
    }

    async fn take_orders(&self, first: &[Step]) -> Result<Vec<bool>, BookError> {
        check_rows(first.len())?;
        if first.is_empty() { Ok(Vec::new()) } else { self.limited(self.take(first)).await }
    }

    async fn transition(&self, batch: &[Transition]) -> Result<Vec<bool>, BookError> {
        check_rows(batch.len())?;
        if batch.is_empty() { Ok(Vec::new()) } else { self.limited(self.write_steps(batch)).await }
    }

    async fn rows(&self, awards: &[AwardId]) -> Result<Vec<OrderRow>, BookError> {
        // CROSS JOIN fixes the order: over the batch, each row looked up by its key.
        let text = format!(
            "SELECT {ORDER_COLUMNS} FROM json_each($1) AS j \
             CROSS JOIN delivery_order ON delivery_order.award = unhex(j.value->>0)"
        );
        self.read(sqlx::query(&text).bind(keys(awards.iter().copied())?), order_of).await
    }

    async fn due(
        &self,
        shards: &[u16],
        vendor: VendorId,
        lane: Lane,
        now_ms: u64,
        limit: usize,
    ) -> Result<Vec<OrderRow>, BookError> {
        if !shards.contains(&0) {
            return Ok(Vec::new());
        }
        let text = format!(
            "SELECT {ORDER_COLUMNS} FROM delivery_order WHERE vendor = $1 AND lane = $2 AND due_ms <= $3 \
             ORDER BY due_ms, award LIMIT $4"
        );
        let query = sqlx::query(&text).bind(i64::from(vendor.0)).bind(lane as i64);
        self.read(query.bind(signed(now_ms)).bind(rows_max(limit)), order_of).await
    }

    async fn lapse_due(&self, shards: &[u16], now_ms: u64, limit: usize) -> Result<Vec<OrderRow>, BookError> {
        // The index is by vendor; the counts say which vendors have orders that wait for a claim.
        let waiting = "SELECT vendor FROM delivery_count WHERE state = 1 AND orders > 0";
        let mut rows = Vec::new();
        for vendor in self.read(sqlx::query(waiting), |row| number(row, 0)).await? {
            let vendor = VendorId(u32::try_from(vendor).unwrap_or(u32::MAX));
            let left = limit.saturating_sub(rows.len());
            rows.extend(self.due(shards, vendor, Lane::Claim, now_ms, left).await?);
        }
        Ok(rows)
    }

    async fn oldest_due(&self, vendor: VendorId, lane: Lane) -> Result<Option<u64>, BookError> {
        let text =
            "SELECT due_ms FROM delivery_order WHERE vendor = $1 AND lane = $2 ORDER BY due_ms LIMIT 1";
        let query = sqlx::query(text).bind(i64::from(vendor.0)).bind(lane as i64);
        Ok(self.read(query, |row| number(row, 0)).await?.first().map(|due_ms| unsigned(*due_ms)))
    }

    async fn held(&self, user: UserId, vendor: VendorId, limit: usize) -> Result<Vec<OrderRow>, BookError> {
        let text = format!(
            "SELECT {ORDER_COLUMNS} FROM delivery_order WHERE state = 9 AND user_id = $1 AND vendor = $2 \
             ORDER BY award LIMIT $3"
        );
        let query = sqlx::query(&text).bind(signed(user.0)).bind(i64::from(vendor.0));
        self.read(query.bind(rows_max(limit)), order_of).await
    }

    async fn with_person(&self, after: Option<AwardId>, limit: usize) -> Result<Vec<OrderRow>, BookError> {
        let text = format!(
            "SELECT {ORDER_COLUMNS} FROM delivery_order WHERE state = 11 AND award > $1 ORDER BY award LIMIT $2"
        );
        self.read(sqlx::query(&text).bind(behind(after)).bind(rows_max(limit)), order_of).await
    }

    async fn scan(&self, after: Option<AwardId>, limit: usize) -> Result<Vec<OrderRow>, BookError> {
        let text =
            format!("SELECT {ORDER_COLUMNS} FROM delivery_order WHERE award > $1 ORDER BY award LIMIT $2");
        self.read(sqlx::query(&text).bind(behind(after)).bind(rows_max(limit)), order_of).await
    }

    async fn journal(&self, shard: u16, after: u64, limit: usize) -> Result<Vec<JournalRow>, BookError> {
        only(shard)?;
        if let Some(lines) = self.newest.lock().behind(after, limit.min(BATCH_MAX)) {
            return Ok(lines);
        }
        let text = format!(
            "SELECT {JOURNAL_COLUMNS} FROM delivery_journal WHERE position > $1 ORDER BY position LIMIT $2"
        );
        self.read(sqlx::query(&text).bind(signed(after)).bind(rows_max(limit)), line_of).await
    }

    async fn history(&self, award: AwardId) -> Result<Vec<JournalRow>, BookError> {
        // The award's steps are as many as its row says, so the scan ends with the last one.
        let text = format!(
            "SELECT {JOURNAL_COLUMNS} FROM delivery_journal WHERE award = $1 AND position >= \
             (SELECT journal_from FROM delivery_order WHERE award = $1) ORDER BY position LIMIT \
             COALESCE((SELECT step FROM delivery_order WHERE award = $1), 0)"
        );
        self.read(sqlx::query(&text).bind(award.to_bytes().to_vec()), line_of).await
    }

    async fn published(&self, shard: u16) -> Result<u64, BookError> {
        only(shard)?;
        let query = sqlx::query("SELECT position FROM delivery_published WHERE one = 1");
        Ok(self.read(query, |row| number(row, 0)).await?.first().map_or(0, |position| unsigned(*position)))
    }

    async fn set_published(&self, shard: u16, position: u64) -> Result<(), BookError> {
        only(shard)?;
        self.limited(async {
            let mut write = self.sql.write().await?;
            sqlx::query("UPDATE delivery_published SET position = MAX(position, $1) WHERE one = 1")
                .bind(signed(position))
                .execute(&mut *write)
                .await
                .map_err(SqlError::from)?;
            commit(write).await
        })
        .await
    }

    async fn counts(&self) -> Result<Vec<Count>, BookError> {
        let text =
            "SELECT vendor, state, orders, fen FROM delivery_count WHERE orders <> 0 ORDER BY vendor, state";
        self.read(sqlx::query(text), |row| {
            Ok(Count {
                vendor: VendorId(u32::try_from(number(row, 0)?).unwrap_or(u32::MAX)),
                state: u8::try_from(number(row, 1)?).unwrap_or(u8::MAX),
                orders: unsigned(number(row, 2)?),
                fen: Fen(number(row, 3)?),
            })
        })
        .await
    }

    async fn alarm(&self, alarms: &[Alarm]) -> Result<(), BookError> {
        if alarms.is_empty() { Ok(()) } else { self.limited(self.write_alarms(alarms)).await }
    }

    async fn alarms(&self, limit: usize) -> Result<Vec<Alarm>, BookError> {
        let text = "SELECT kind, award, detail, at_ms, times FROM delivery_alarm \
                    ORDER BY at_ms DESC, kind DESC, award DESC LIMIT $1";
        self.read(sqlx::query(text).bind(rows_max(limit)), |row| {
            let award: Vec<u8> = row.try_get(1).map_err(SqlError::from)?;
            let award =
                award.try_into().map_err(|_| BookError::Broken("alarm without an award id".into()))?;
            Ok(Alarm {
                kind: row.try_get(0).map_err(SqlError::from)?,
                award: AwardId::from_bytes(award),
                detail: row.try_get(2).map_err(SqlError::from)?,
                at_ms: unsigned(number(row, 3)?),
                times: unsigned(number(row, 4)?),
            })
        })
        .await
    }
}
