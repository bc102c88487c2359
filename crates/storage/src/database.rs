//! One text for both engines, for tables that people change: small, seldom written, and not worth a second adapter.
//!
//! Statements keep to what SQLite and PostgreSQL both take (`$1`, ON CONFLICT, no batches); values and columns are of
//! four kinds. Hot tables have an adapter for each engine instead, with its own batches. Writers come one after the other, as
//! SQLite has them: in PostgreSQL a transaction that writes begins with a statement that locks one row for all of them.

use sqlx::Row as _;
use sqlx::postgres::PgRow;
use sqlx::query::Query;
use sqlx::sqlite::SqliteRow;

use crate::pg::{CommitError, Pg, PgTransaction};
use crate::{Migration, MigrationError, Sql, SqlError, StoredRow, WriteTransaction, migrate, pg};

/// A value of a statement.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Arg<'a> {
    /// A number.
    Int(i64),
    /// Text.
    Text(&'a str),
    /// Text or nothing.
    TextOrNull(Option<&'a str>),
    /// Bytes.
    Bytes(&'a [u8]),
    /// Bytes or nothing.
    BytesOrNull(Option<&'a [u8]>),
}

/// An open database of either engine. Cloning gives another handle.
#[derive(Clone, Debug)]
pub enum Database {
    /// Embedded.
    Sqlite(Sql),
    /// In a cluster; with the statement that makes writers wait for each other.
    Postgres(Pg, &'static str),
}

/// A transaction that writes. Dropping it undoes it.
#[derive(Debug)]
pub enum DatabaseWrite {
    /// Embedded.
    Sqlite(WriteTransaction),
    /// In a cluster.
    Postgres(PgTransaction),
}

/// A row of either engine.
pub enum AnyRow {
    /// Embedded.
    Sqlite(SqliteRow),
    /// In a cluster.
    Postgres(PgRow),
}

macro_rules! bound {
    ($text:expr, $args:expr) => {
        $args.iter().fold(sqlx::query($text), |query: Query<'_, _, _>, arg| match *arg {
            Arg::Int(value) => query.bind(value),
            Arg::Text(value) => query.bind(value),
            Arg::TextOrNull(value) => query.bind(value),
            Arg::Bytes(value) => query.bind(value),
            Arg::BytesOrNull(value) => query.bind(value),
        })
    };
}

impl Database {
    /// Brings a service's tables up to date, each engine by its own texts.
    ///
    /// # Errors
    /// When a newer program has written them, or they can't be made.
    pub async fn migrate(
        &self,
        service: &str,
        [sqlite, postgres]: [&[Migration]; 2],
        now_ms: u64,
    ) -> Result<(), MigrationError> {
        match self {
            Database::Sqlite(sql) => migrate(sql, service, sqlite, now_ms).await.map(drop),
            Database::Postgres(pg, _) => pg::migrate(pg, service, postgres, now_ms).await.map(drop),
        }
    }

    /// Begins a transaction that writes, behind all others that do.
    ///
    /// # Errors
    /// When its turn did not come in time, or there is no server; nothing was done.
    pub async fn write(&self) -> Result<DatabaseWrite, SqlError> {
        match self {
            Database::Sqlite(sql) => Ok(DatabaseWrite::Sqlite(sql.write().await?)),
            Database::Postgres(pg, lock) => {
                let mut transaction = pg.begin_with_first().await?;
                transaction.run(lock).await?;
                Ok(DatabaseWrite::Postgres(transaction))
            }
        }
    }

    /// Rows outside of any transaction.
    ///
    /// # Errors
    /// What the database says.
    pub async fn rows(&self, text: &str, args: &[Arg<'_>]) -> Result<Vec<AnyRow>, SqlError> {
        Ok(match self {
            Database::Sqlite(sql) => {
                let rows = bound!(text, args).fetch_all(sql.readers()).await?;
                rows.into_iter().map(AnyRow::Sqlite).collect()
            }
            Database::Postgres(pg, _) => {
                let mut connection = pg.connection().await?;
                let rows = bound!(text, args).fetch_all(&mut *connection).await.map_err(pg::sort)?;
                rows.into_iter().map(AnyRow::Postgres).collect()
            }
        })
    }

    /// Runs one operation under the statement time limit.
    ///
    /// # Errors
    /// What the operation says, or `TimedOut`; after that a write may or may not have been done.
    pub async fn within<T, E: Into<SqlError>>(
        &self,
        what: &'static str,
        operation: impl Future<Output = Result<T, E>>,
    ) -> Result<T, SqlError> {
        match self {
            Database::Sqlite(sql) => sql.within(what, operation).await,
            Database::Postgres(pg, _) => pg.within(what, operation).await,
        }
    }
}

impl DatabaseWrite {
    /// Rows as they stand within the transaction.
    ///
    /// # Errors
    /// What the database says.
    pub async fn rows(&mut self, text: &str, args: &[Arg<'_>]) -> Result<Vec<AnyRow>, SqlError> {
        Ok(match self {
            DatabaseWrite::Sqlite(write) => {
                let rows = bound!(text, args).fetch_all(&mut **write).await?;
                rows.into_iter().map(AnyRow::Sqlite).collect()
            }
            DatabaseWrite::Postgres(write) => {
                let rows = bound!(text, args).fetch_all(&mut **write).await.map_err(pg::sort)?;
                rows.into_iter().map(AnyRow::Postgres).collect()
            }
        })
    }

    /// Runs a statement; how many rows it changed.
    ///
    /// # Errors
    /// What the database says.
    pub async fn execute(&mut self, text: &str, args: &[Arg<'_>]) -> Result<u64, SqlError> {
        Ok(match self {
            DatabaseWrite::Sqlite(write) => bound!(text, args).execute(&mut **write).await?.rows_affected(),
            DatabaseWrite::Postgres(write) => {
                let done = bound!(text, args).execute(&mut **write).await;
                done.map_err(pg::sort)?.rows_affected()
            }
        })
    }

    /// Commits. `on`: where it was begun.
    ///
    /// # Errors
    /// [`CommitError::Unknown`]: it may or may not have been done.
    pub async fn commit(self, on: &Database) -> Result<(), CommitError> {
        match (self, on) {
            (DatabaseWrite::Sqlite(write), _) => write.commit().await.map_err(|error| match error.into() {
                error @ (SqlError::DiskFull(_) | SqlError::Constraint(_)) => CommitError::NotDone(error),
                error => CommitError::Unknown(error),
            }),
            (DatabaseWrite::Postgres(write), Database::Postgres(pg, _)) => pg.commit(write).await,
            (DatabaseWrite::Postgres(_), Database::Sqlite(_)) => {
                let told = sqlx::Error::Configuration("a transaction of another database".into());
                Err(CommitError::NotDone(SqlError::Other(told)))
            }
        }
    }
}

macro_rules! of_row {
    ($row:expr, $found:ident => $read:expr) => {
        match $row {
            AnyRow::Sqlite($found) => $read,
            AnyRow::Postgres($found) => $read,
        }
    };
}

impl AnyRow {
    /// Bytes.
    ///
    /// # Errors
    /// When there is no such column, or it holds something else.
    pub fn bytes(&self, column: &'static str) -> Result<&[u8], SqlError> {
        Ok(of_row!(self, row => row.try_get(column))?)
    }

    /// Bytes, or nothing.
    ///
    /// # Errors
    /// As [`AnyRow::bytes`].
    pub fn bytes_or_null(&self, column: &'static str) -> Result<Option<&[u8]>, SqlError> {
        Ok(of_row!(self, row => row.try_get(column))?)
    }

    /// Text, or nothing.
    ///
    /// # Errors
    /// As [`AnyRow::bytes`].
    pub fn text_or_null(&self, column: &'static str) -> Result<Option<&str>, SqlError> {
        Ok(of_row!(self, row => row.try_get(column))?)
    }
}

impl StoredRow for AnyRow {
    fn number(&self, column: &'static str) -> Result<i64, SqlError> {
        of_row!(self, row => row.number(column))
    }

    fn number_or_null(&self, column: &'static str) -> Result<Option<i64>, SqlError> {
        of_row!(self, row => row.number_or_null(column))
    }

    fn text(&self, column: &'static str) -> Result<&str, SqlError> {
        of_row!(self, row => row.text(column))
    }
}
