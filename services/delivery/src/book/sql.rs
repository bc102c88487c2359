//! The book in SQLite.
//!
//! A batch is one transaction of four statements, each with the whole batch as one JSON parameter: write the rows under
//! their fence and learn which took it, write the journal's lines of those, and add what changed to the counts. The
//! writer's lock is taken at the beginning, so positions of the journal follow the order of commits.

use super::sql_rows::{JOURNAL_COLUMNS, ORDER_COLUMNS, line_of, order_of, put_change, put_line, put_order};
use super::{
    ALARMS_MAX, Alarm, BATCH_MAX, BookError, Count, DeliveryBook, JournalRow, Transition, count_changes,
};
use crate::core::{Lane, OrderRow, Step};
use async_trait::async_trait;
use campaign::{AwardId, Fen, UserId, VendorId};
use records::DeliveryState;
use std::collections::HashSet;
use storage::batch::{signed, unsigned};
use storage::sqlx::sqlite::SqliteRow;
use storage::sqlx::{self, Row, Sqlite};
use storage::{Batch, BatchFull, Migration, MigrationError, Sql, SqlError, WriteTransaction};

/// Name under which the tables' versions are kept.
pub const SERVICE: &str = "delivery";

/// The tables of delivery: book and accounts.
pub const MIGRATIONS: &[Migration] =
    &[Migration { version: 1, name: "orders, journal, accounts", sql: include_str!("schema_1.sql") }];

const INSERT_ORDERS: &str = "INSERT INTO delivery_order (award, prize_kind, campaign, round, user_id, prize, unit, \
     fen, vendor, won_ms, lapse_ms, state, step, lane, due_ms, reason, note, generation, attempt, called_ms, \
     first_called_ms, failures, payee, merchant, body_sha256, vendor_ref, journal_from) \
     SELECT unhex(value->>0), value->>1, value->>2, value->>3, value->>4, value->>5, value->>6, value->>7, value->>8, \
     value->>9, value->>10, value->>11, value->>12, value->>13, value->>14, value->>15, value->>16, \
     0, 0, 0, 0, 0, '', '', zeroblob(32), '', $2 FROM json_each($1) WHERE true \
     ON CONFLICT (award) DO NOTHING RETURNING award";

// CROSS JOIN fixes the order: over the batch, each row looked up by its key.
const UPDATE_ORDERS: &str = "UPDATE delivery_order SET state = j.value->>2, step = j.value->>3, \
     generation = j.value->>4, attempt = j.value->>5, lane = j.value->>6, due_ms = j.value->>7, \
     called_ms = j.value->>8, first_called_ms = j.value->>9, failures = j.value->>10, payee = j.value->>11, \
     merchant = j.value->>12, body_sha256 = unhex(j.value->>13), vendor_ref = j.value->>14, \
     reason = j.value->>15, note = j.value->>16 FROM json_each($1) AS j \
     WHERE delivery_order.award = unhex(j.value->>0) AND delivery_order.step = j.value->>1 \
     RETURNING delivery_order.award";

const INSERT_JOURNAL: &str = "INSERT INTO delivery_journal (position, award, step, state, generation, attempt, at_ms, \
     due_ms, vendor, user_id, campaign, round, prize, fen, reason, note) \
     SELECT $2 + key, unhex(value->>0), value->>1, value->>2, value->>3, value->>4, value->>5, value->>6, value->>7, \
     value->>8, value->>9, value->>10, value->>11, value->>12, value->>13, value->>14 FROM json_each($1)";

const ADD_COUNTS: &str = "INSERT INTO delivery_count (vendor, state, orders, fen) \
     SELECT value->>0, value->>1, value->>2, value->>3 FROM json_each($1) WHERE true \
     ON CONFLICT (vendor, state) DO UPDATE SET orders = orders + excluded.orders, fen = fen + excluded.fen";

/// Most bytes of one JSON parameter: 4,096 of the longest rows fit.
const JSON_MAX: usize = 8 * 1024 * 1024;

impl From<SqlError> for BookError {
    fn from(error: SqlError) -> BookError {
        match error {
            SqlError::TimedOut { .. } => BookError::Unsure(error.to_string()),
            SqlError::Busy { .. } | SqlError::DiskFull(_) => BookError::Unavailable(error.to_string()),
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
}

impl SqlBook {
    /// Brings the tables up to date and opens the book.
    ///
    /// # Errors
    /// When the database was written by a newer program, or can't be written.
    pub async fn open(sql: Sql, now_ms: u64) -> Result<SqlBook, MigrationError> {
        storage::migrate(&sql, SERVICE, MIGRATIONS, now_ms).await?;
        Ok(SqlBook { sql })
    }

    async fn write_journal(
        &self,
        write: &mut WriteTransaction,
        first_position: i64,
        won: impl Iterator<Item = (&Step, Option<DeliveryState>)>,
    ) -> Result<(), BookError> {
        let (mut lines, mut changes) = (batch(), Vec::new());
        for (step, from) in won {
            put_line(&mut lines, step)?;
            changes.push((step.row.vendor, from, step.row.state, step.row.fen));
        }
        if lines.is_empty() {
            return Ok(());
        }
        let inserting = sqlx::query(INSERT_JOURNAL).bind(lines.to_json()).bind(first_position);
        inserting.execute(&mut **write).await.map_err(SqlError::from)?;
        let mut counts = batch();
        for ((vendor, state), (orders, fen)) in count_changes(changes) {
            counts.row(|row| {
                row.int(vendor.0.into()).int(state.into()).int(orders).int(fen);
            })?;
        }
        sqlx::query(ADD_COUNTS).bind(counts.to_json()).execute(&mut **write).await.map_err(SqlError::from)?;
        Ok(())
    }

    async fn take(&self, first: &[Step]) -> Result<Vec<bool>, BookError> {
        let mut orders = batch();
        for step in first {
            put_order(&mut orders, &step.row)?;
        }
        let mut write = self.sql.write().await?;
        let position = next_position(&mut write).await?;
        let rows = sqlx::query(INSERT_ORDERS).bind(orders.to_json()).bind(position);
        let won = awards_of(&rows.fetch_all(&mut *write).await.map_err(SqlError::from)?)?;
        let new = |step: &Step| won.contains(&step.row.award);
        self.write_journal(&mut write, position, first.iter().filter(|s| new(s)).map(|s| (s, None))).await?;
        commit(write).await?;
        Ok(first.iter().map(new).collect())
    }

    async fn write_steps(&self, steps: &[Transition]) -> Result<Vec<bool>, BookError> {
        let mut changes = batch();
        for t in steps {
            put_change(&mut changes, t.from_step, &t.step.row)?;
        }
        let mut write = self.sql.write().await?;
        let position = next_position(&mut write).await?;
        let rows = sqlx::query(UPDATE_ORDERS).bind(changes.to_json());
        let won = awards_of(&rows.fetch_all(&mut *write).await.map_err(SqlError::from)?)?;
        let took = |t: &&Transition| won.contains(&t.step.row.award);
        let lines = steps.iter().filter(took).map(|t| (&t.step, Some(t.from_state)));
        self.write_journal(&mut write, position, lines).await?;
        commit(write).await?;
        Ok(steps.iter().map(|t| took(&t)).collect())
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

fn awards_of(rows: &[SqliteRow]) -> Result<HashSet<AwardId>, BookError> {
    rows.iter()
        .map(|row| {
            let stored: &[u8] = row.try_get(0).map_err(SqlError::from)?;
            let bytes =
                stored.try_into().map_err(|_| BookError::Broken("an award id of another length".into()))?;
            Ok(AwardId::from_bytes(bytes))
        })
        .collect()
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
    async fn take_orders(&self, first: &[Step]) -> Result<Vec<bool>, BookError> {
        if first.is_empty() { Ok(Vec::new()) } else { self.limited(self.take(first)).await }
    }

    async fn transition(&self, batch: &[Transition]) -> Result<Vec<bool>, BookError> {
        if batch.is_empty() { Ok(Vec::new()) } else { self.limited(self.write_steps(batch)).await }
    }

    async fn rows(&self, awards: &[AwardId]) -> Result<Vec<OrderRow>, BookError> {
        let mut keys = batch();
        for award in awards {
            keys.row(|row| {
                row.bytes(&award.to_bytes());
            })?;
        }
        let text = format!(
            "SELECT {ORDER_COLUMNS} FROM json_each($1) AS j \
             CROSS JOIN delivery_order ON delivery_order.award = unhex(j.value->>0)"
        );
        self.read(sqlx::query(&text).bind(keys.to_json()), order_of).await
    }

    async fn due(
        &self,
        vendor: VendorId,
        lane: Lane,
        now_ms: u64,
        limit: usize,
    ) -> Result<Vec<OrderRow>, BookError> {
        let text = format!(
            "SELECT {ORDER_COLUMNS} FROM delivery_order WHERE vendor = $1 AND lane = $2 AND due_ms <= $3 \
             ORDER BY due_ms, award LIMIT $4"
        );
        let query = sqlx::query(&text).bind(i64::from(vendor.0)).bind(lane as i64);
        self.read(query.bind(signed(now_ms)).bind(rows_max(limit)), order_of).await
    }

    async fn lapse_due(&self, now_ms: u64, limit: usize) -> Result<Vec<OrderRow>, BookError> {
        // The index is by vendor; the counts say which vendors have orders that wait for a claim.
        let waiting = "SELECT vendor FROM delivery_count WHERE state = 1 AND orders > 0";
        let mut rows = Vec::new();
        for vendor in self.read(sqlx::query(waiting), |row| number(row, 0)).await? {
            let vendor = VendorId(u32::try_from(vendor).unwrap_or(u32::MAX));
            rows.extend(self.due(vendor, Lane::Claim, now_ms, limit.saturating_sub(rows.len())).await?);
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

    async fn journal(&self, after: u64, limit: usize) -> Result<Vec<JournalRow>, BookError> {
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

    async fn published(&self) -> Result<u64, BookError> {
        let query = sqlx::query("SELECT position FROM delivery_published WHERE one = 1");
        Ok(self.read(query, |row| number(row, 0)).await?.first().map_or(0, |position| unsigned(*position)))
    }

    async fn set_published(&self, position: u64) -> Result<(), BookError> {
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
