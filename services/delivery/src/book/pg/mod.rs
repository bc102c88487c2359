//! The book in PostgreSQL, for several delivery nodes.
//!
//! A batch is one transaction of a few statements, each over all of its rows: lock the shards, write the orders under their
//! fence, write the journal's lines of those that took it, add what changed to the counts. Whoever holds a shard's row
//! is the only one who writes its orders, so positions follow commits without a hole.
//!
//! A connection that breaks before the commit was sent leaves nothing behind: [`BookError::Unavailable`]. One that breaks
//! behind it leaves nobody knowing: [`BookError::Unsure`], and the caller reads.

mod rows;
mod write;

use super::{ALARMS_MAX, Alarm, BATCH_MAX, BookError, Count, DeliveryBook, JournalRow, SERVICE, Transition};
use crate::core::{Lane, OrderRow, Step};
use async_trait::async_trait;
use campaign::{AwardId, Fen, UserId, VendorId};
use rows::{JOURNAL_COLUMNS, ORDER_COLUMNS, award, column, get, line_of, number, order_of, slot_of};
use std::collections::{BTreeMap, HashSet};
use storage::batch::signed;
use storage::pg::{CommitError, Pg, PgTransaction, migrate};
use storage::sqlx::postgres::{PgArguments, PgRow};
use storage::sqlx::{self, Postgres};
use storage::{Migration, MigrationError, SqlError};

/// The tables of delivery on PostgreSQL: book, accounts and limits.
pub(crate) const MIGRATIONS: &[Migration] = &[
    Migration { version: 1, name: "orders, journal, accounts", sql: include_str!("schema_1.sql") },
    Migration { version: 2, name: "limits of vendors", sql: include_str!("schema_2.sql") },
];

/// Most shards of a book: one for each bucket of users.
pub const SHARDS_MAX: u16 = 4_096;

/// Why the book was not opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenBookError {
    /// The tables can't be brought up to date.
    #[error(transparent)]
    Migration(#[from] MigrationError),
    /// The tables can't be read or written.
    #[error(transparent)]
    Book(#[from] BookError),
    /// A number of shards that can't be.
    #[error("a delivery book has 1 to {SHARDS_MAX} shards, not {0}: one for each partition of topic orders")]
    Count(u16),
    /// The book was made with another number of shards.
    #[error(
        "the delivery book was made with {stored} shards, and {wanted} are asked for. The number never changes: it is \
         that of the partitions of topic orders; correct the configuration"
    )]
    Divided {
        /// Shards of the book.
        stored: u64,
        /// Shards asked for.
        wanted: u16,
    },
}

/// See the module. Cloning gives another handle to the same database.
#[derive(Clone, Debug)]
pub struct PgBook {
    pg: Pg,
    shards: u16,
}

type Query<'q> = sqlx::query::Query<'q, Postgres, PgArguments>;

/// An error before the commit was sent: the server undoes what was written.
fn in_transaction(error: SqlError) -> BookError {
    match error {
        SqlError::TimedOut { .. } | SqlError::Lost(_) => BookError::Unavailable(error.to_string()),
        error => error.into(),
    }
}

fn committed(error: CommitError) -> BookError {
    match error {
        CommitError::NotDone(error) => in_transaction(error),
        error @ CommitError::Unknown(_) => BookError::Unsure(error.to_string()),
    }
}

/// A read may be repeated, whatever happened.
fn reading(error: SqlError) -> BookError {
    in_transaction(error)
}

impl PgBook {
    /// Brings the tables up to date and opens the book with so many shards: as many as the order topic has partitions.
    ///
    /// # Errors
    /// When the database was written by a newer program or can't be written, or the book has another number of shards.
    pub async fn open(pg: Pg, shards: u16, now_ms: u64) -> Result<PgBook, OpenBookError> {
        if shards == 0 || shards > SHARDS_MAX {
            return Err(OpenBookError::Count(shards));
        }
        migrate(&pg, SERVICE, MIGRATIONS, now_ms).await?;
        let book = PgBook { pg, shards };
        if book.stored_shards().await? == 0 {
            // Another node may be doing the same: what counts is what stands there then.
            let numbers: Vec<i64> = (0..shards).map(i64::from).collect();
            let make = "INSERT INTO delivery_shard (shard, position) SELECT q.shard, 0 FROM UNNEST($1::bigint[]) \
                        AS q(shard) ON CONFLICT DO NOTHING";
            book.execute("making shards", sqlx::query(make).bind(numbers)).await?;
        }
        let stored = book.stored_shards().await?;
        if stored != u64::from(shards) {
            return Err(OpenBookError::Divided { stored, wanted: shards });
        }
        Ok(book)
    }

    async fn stored_shards(&self) -> Result<u64, BookError> {
        let rows =
            self.read(sqlx::query("SELECT COUNT(*) FROM delivery_shard"), |row| number(row, 0)).await?;
        Ok(rows.first().copied().unwrap_or(0))
    }

    async fn read<T>(
        &self,
        query: Query<'_>,
        of: impl Fn(&PgRow) -> Result<T, BookError>,
    ) -> Result<Vec<T>, BookError> {
        let asking = async {
            let mut connection = self.pg.connection().await?;
            query.fetch_all(&mut *connection).await.map_err(SqlError::from)
        };
        let rows = self.pg.within("reading the delivery book", asking).await.map_err(reading)?;
        rows.iter().map(of).collect()
    }

    /// One statement that is its own transaction.
    async fn execute(&self, what: &'static str, query: Query<'_>) -> Result<(), BookError> {
        let writing = async {
            let mut connection = self.pg.connection().await?;
            query.execute(&mut *connection).await.map_err(SqlError::from)
        };
        self.pg.within(what, writing).await?;
        Ok(())
    }

    /// One transaction under the time limit. Cut off at its end, it is undone.
    async fn write<T>(
        &self,
        work: impl AsyncFnOnce(&mut PgTransaction) -> Result<T, BookError> + Send,
    ) -> Result<T, BookError> {
        let mut tx = self.pg.begin().await.map_err(in_transaction)?;
        let working = async { Ok::<_, SqlError>(work(&mut tx).await) };
        match self.pg.within("writing the delivery book", working).await {
            Ok(Ok(done)) => {
                self.pg.commit(tx).await.map_err(committed)?;
                Ok(done)
            }
            Ok(Err(error)) => {
                // What the failure was is what counts; dropped, it is undone too.
                let _ = tx.rollback().await;
                Err(error)
            }
            Err(error) => Err(in_transaction(error)),
        }
    }

    fn check_shard(&self, shard: u16) -> Result<(), BookError> {
        if shard < self.shards {
            return Ok(());
        }
        Err(BookError::Broken(format!("there is no shard {shard}, the book has {}", self.shards)))
    }
}

fn check_batch(awards: impl ExactSizeIterator<Item = AwardId>) -> Result<(), BookError> {
    let rows = awards.len();
    if rows > BATCH_MAX {
        return Err(BookError::Broken(format!("{rows} rows; at most {BATCH_MAX} go into one call")));
    }
    if awards.collect::<HashSet<_>>().len() != rows {
        return Err(BookError::Broken("an award occurs twice in one call".into()));
    }
    Ok(())
}

fn behind(after: Option<AwardId>) -> Vec<u8> {
    // No bytes sort before the empty ones, and no award id is empty.
    after.map_or_else(Vec::new, |award| award.to_bytes().to_vec())
}

fn rows_max(limit: usize) -> i64 {
    limit.min(BATCH_MAX) as i64
}

/// The front of one index range for each shard, put together: no range is read further than the answer goes.
fn fronts(shards: &[u16], columns: &str) -> String {
    let front = |shard: &u16| {
        format!(
            "(SELECT {columns} FROM delivery_order WHERE shard = {shard} AND vendor = $1 AND lane = $2 AND due_ms <= $3 \
             ORDER BY due_ms, award LIMIT $4)"
        )
    };
    shards.iter().map(front).collect::<Vec<_>>().join(" UNION ALL ")
}

#[async_trait]
impl DeliveryBook for PgBook {
    fn shards(&self) -> u16 {
        self.shards
    }

    async fn take_orders(&self, first: &[Step]) -> Result<Vec<bool>, BookError> {
        check_batch(first.iter().map(|step| step.row.award))?;
        if first.is_empty() {
            return Ok(Vec::new());
        }
        let shards = self.shards;
        let new = self.write(async move |tx| write::take(tx, first, shards).await).await?;
        Ok(first.iter().map(|step| new.contains(&step.row.award)).collect())
    }

    async fn transition(&self, batch: &[Transition]) -> Result<Vec<bool>, BookError> {
        check_batch(batch.iter().map(|t| t.step.row.award))?;
        if batch.is_empty() {
            return Ok(Vec::new());
        }
        let shards = self.shards;
        let won = self.write(async move |tx| write::steps(tx, batch, shards).await).await?;
        Ok(batch.iter().map(|t| won.contains(&t.step.row.award)).collect())
    }

    async fn rows(&self, awards: &[AwardId]) -> Result<Vec<OrderRow>, BookError> {
        let mut awards = awards.to_vec();
        awards.sort_unstable();
        awards.dedup();
        let text = format!(
            "SELECT {ORDER_COLUMNS} FROM UNNEST($1::bigint[], $2::bytea[]) AS q(in_slot, of_award) \
             JOIN delivery_order ON slot = q.in_slot AND award = q.of_award"
        );
        let query = sqlx::query(&text).bind(column(&awards, |award| slot_of(*award)));
        self.read(query.bind(column(&awards, |award| award.to_bytes().to_vec())), order_of).await
    }

    async fn due(
        &self,
        shards: &[u16],
        vendor: VendorId,
        lane: Lane,
        now_ms: u64,
        limit: usize,
    ) -> Result<Vec<OrderRow>, BookError> {
        if shards.is_empty() {
            return Ok(Vec::new());
        }
        let fronts = fronts(shards, ORDER_COLUMNS);
        let text = format!("SELECT {ORDER_COLUMNS} FROM ({fronts}) AS due ORDER BY due_ms, award LIMIT $4");
        let query = sqlx::query(&text).bind(i64::from(vendor.0)).bind(lane as i64);
        self.read(query.bind(signed(now_ms.min(crate::core::TIME_MAX_MS))).bind(rows_max(limit)), order_of)
            .await
    }

    async fn lapse_due(&self, shards: &[u16], now_ms: u64, limit: usize) -> Result<Vec<OrderRow>, BookError> {
        // The index is by vendor; the counts say which vendors have orders that wait for a claim.
        let waiting = "SELECT DISTINCT vendor FROM delivery_count WHERE state = 1 AND orders > 0 AND \
                       shard = ANY($1::bigint[]) ORDER BY vendor";
        let waiting = sqlx::query(waiting).bind(column(shards, |shard| i64::from(*shard)));
        let mut rows = Vec::new();
        for vendor in self.read(waiting, |row| number(row, 0)).await? {
            let left = limit.saturating_sub(rows.len());
            rows.extend(self.due(shards, VendorId(vendor), Lane::Claim, now_ms, left).await?);
        }
        Ok(rows)
    }

    async fn oldest_due(&self, vendor: VendorId, lane: Lane) -> Result<Option<u64>, BookError> {
        let all: Vec<u16> = (0..self.shards).collect();
        let text = format!("SELECT MIN(due_ms) FROM ({}) AS due", fronts(&all, "due_ms, award"));
        let query = sqlx::query(&text).bind(i64::from(vendor.0)).bind(lane as i64).bind(i64::MAX).bind(1i64);
        let oldest = self.read(query, |row| get::<Option<i64>>(row, 0)).await?;
        Ok(oldest.first().copied().flatten().map(|due_ms| due_ms.cast_unsigned()))
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
        let text = format!(
            "SELECT {ORDER_COLUMNS} FROM delivery_order WHERE (slot, award) > ($1, $2) ORDER BY slot, award LIMIT $3"
        );
        let query = sqlx::query(&text).bind(after.map_or(-1, slot_of)).bind(behind(after));
        self.read(query.bind(rows_max(limit)), order_of).await
    }

    async fn journal(&self, shard: u16, after: u64, limit: usize) -> Result<Vec<JournalRow>, BookError> {
        self.check_shard(shard)?;
        let text = format!(
            "SELECT {JOURNAL_COLUMNS} FROM delivery_journal WHERE shard = $1 AND position > $2 ORDER BY position LIMIT $3"
        );
        let query = sqlx::query(&text).bind(i64::from(shard)).bind(signed(after));
        self.read(query.bind(rows_max(limit)), line_of).await
    }

    async fn history(&self, award: AwardId) -> Result<Vec<JournalRow>, BookError> {
        let text = format!(
            "SELECT {JOURNAL_COLUMNS} FROM delivery_journal WHERE award = $2 AND shard = \
             (SELECT shard FROM delivery_order WHERE slot = $1 AND award = $2) ORDER BY step"
        );
        let query = sqlx::query(&text).bind(slot_of(award)).bind(award.to_bytes().to_vec());
        self.read(query, line_of).await
    }

    async fn published(&self, shard: u16) -> Result<u64, BookError> {
        self.check_shard(shard)?;
        let query =
            sqlx::query("SELECT position FROM delivery_published WHERE shard = $1").bind(i64::from(shard));
        Ok(self.read(query, |row| number(row, 0)).await?.first().copied().unwrap_or(0))
    }

    async fn set_published(&self, shard: u16, position: u64) -> Result<(), BookError> {
        self.check_shard(shard)?;
        let query = sqlx::query(
            "INSERT INTO delivery_published (shard, position) VALUES ($1, $2) ON CONFLICT (shard) DO UPDATE SET \
             position = GREATEST(delivery_published.position, excluded.position)",
        );
        let query = query.bind(i64::from(shard)).bind(signed(position));
        self.execute("remembering what was published", query).await
    }

    async fn unpublished(&self, shards: &[u16]) -> Result<Vec<u16>, BookError> {
        let query = sqlx::query(
            "SELECT s.shard FROM delivery_shard s LEFT JOIN delivery_published p ON p.shard = s.shard \
             WHERE s.shard = ANY($1::bigint[]) AND s.position > COALESCE(p.position, 0) ORDER BY s.shard",
        );
        self.read(query.bind(column(shards, |shard| i64::from(*shard))), |row| number(row, 0)).await
    }

    async fn counts(&self) -> Result<Vec<Count>, BookError> {
        let text = "SELECT vendor, state, CAST(SUM(orders) AS BIGINT), CAST(SUM(fen) AS BIGINT) FROM delivery_count \
                    GROUP BY vendor, state HAVING SUM(orders) <> 0 ORDER BY vendor, state";
        self.read(sqlx::query(text), |row| {
            Ok(Count {
                vendor: VendorId(number(row, 0)?),
                state: number(row, 1)?,
                orders: number(row, 2)?,
                fen: Fen(get(row, 3)?),
            })
        })
        .await
    }

    async fn alarm(&self, alarms: &[Alarm]) -> Result<(), BookError> {
        if alarms.is_empty() {
            return Ok(());
        }
        let kept =
            self.read(sqlx::query("SELECT COUNT(*) FROM delivery_alarm"), |row| number(row, 0)).await?;
        let text = if kept.first().is_some_and(|kept: &u64| *kept < ALARMS_MAX) {
            "INSERT INTO delivery_alarm (kind, award, detail, at_ms, times) \
             SELECT * FROM UNNEST($1::text[], $2::bytea[], $3::text[], $4::bigint[], $5::bigint[]) \
             ON CONFLICT (kind, award) DO UPDATE SET times = delivery_alarm.times + excluded.times"
        } else {
            "UPDATE delivery_alarm SET times = delivery_alarm.times + v.times \
             FROM UNNEST($1::text[], $2::bytea[], $3::text[], $4::bigint[], $5::bigint[]) \
             AS v(kind, award, detail, at_ms, times) \
             WHERE delivery_alarm.kind = v.kind AND delivery_alarm.award = v.award"
        };
        // Each row once in a statement, and in the order of keys, so that two writers don't wait for each other.
        let mut merged: BTreeMap<(&str, AwardId), Alarm> = BTreeMap::new();
        for alarm in alarms {
            let known = merged.entry((&alarm.kind, alarm.award));
            known.and_modify(|known| known.times += alarm.times).or_insert_with(|| alarm.clone());
        }
        let alarms: Vec<Alarm> = merged.into_values().collect();
        let query = sqlx::query(text)
            .bind(column(&alarms, |a| rows::text(&a.kind)))
            .bind(column(&alarms, |a| a.award.to_bytes().to_vec()))
            .bind(column(&alarms, |a| rows::text(&a.detail)))
            .bind(column(&alarms, |a| signed(a.at_ms)))
            .bind(column(&alarms, |a| signed(a.times)));
        self.execute("raising alarms", query).await
    }

    async fn alarms(&self, limit: usize) -> Result<Vec<Alarm>, BookError> {
        let text = "SELECT kind, award, detail, at_ms, times FROM delivery_alarm \
                    ORDER BY at_ms DESC, kind DESC, award DESC LIMIT $1";
        self.read(sqlx::query(text).bind(rows_max(limit)), |row| {
            Ok(Alarm {
                kind: get(row, 0)?,
                award: award(row, 1)?,
                detail: get(row, 2)?,
                at_ms: number(row, 3)?,
                times: number(row, 4)?,
            })
        })
        .await
    }
}
