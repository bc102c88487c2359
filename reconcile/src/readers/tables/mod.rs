//! The tables that are read: delivery's journal, the ledger, plans and the award store, with queries of reconcile's own.
//!
//! Embedded they stand in SQLite files, in a cluster in PostgreSQL; the columns are the same ([`TableSource`]). Nothing is
//! written. A table is read in the order of its key, each page behind the last row of the one before, so memory is one page.
//!
//! In PostgreSQL everything that is read of one opened source is of one instant: one `REPEATABLE READ, READ ONLY`
//! transaction. In SQLite a long transaction would keep a running platform's write-ahead log from being shortened; there
//! each page is a statement of its own, which is enough for a journal whose lines never change, and the ledger is read with
//! a single statement. Two sources are never of one instant: see the order of reading in [`crate::run()`].

mod awards;
mod journal;
mod ledger;
mod place;
mod plans;
mod postgres;

pub use awards::read_awards;
pub use journal::read_journal;
pub use ledger::{Ledger, LedgerLease, LedgerPrize, read_ledger};
pub use place::TableSource;
pub use plans::read_plans;

use postgres::Snapshot;
use std::path::PathBuf;
use storage::pg::PgOpenError;
use storage::sqlx::postgres::PgRow;
use storage::sqlx::sqlite::SqliteRow;
use storage::sqlx::{self, Row as _};
use storage::{OpenError, Sql, SqlError, SqlOptions};

/// Rows of a page.
const PAGE: i64 = 5_000;

/// Why a database could not be read.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    /// No such file.
    #[error("{}: there is no such database; name the one that the platform writes", .0.display())]
    Missing(PathBuf),
    /// It can't be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// A PostgreSQL server can't be reached or refuses.
    #[error(transparent)]
    Server(#[from] PgOpenError),
    /// A query failed.
    #[error("{place}: {error}")]
    Query {
        /// The file or the server.
        place: String,
        /// What the database says.
        error: SqlError,
    },
    /// A row that no program of ours wrote.
    #[error("{place}: {row} of {table}: {what}")]
    Row {
        /// The file or the server.
        place: String,
        /// The table.
        table: &'static str,
        /// Which row.
        row: String,
        /// What is wrong.
        what: String,
    },
    /// What was read can't be kept.
    #[error("what was read can't be kept: {0}")]
    Keep(#[from] std::io::Error),
}

/// A source of tables that is open.
pub struct Tables {
    /// For errors: the file, or user, host, port and database.
    place: String,
    handle: Handle,
}

enum Handle {
    Sqlite(Sql),
    Postgres(Box<Snapshot>),
}

impl Tables {
    /// Opens a source. In PostgreSQL this begins the transaction that everything is read in.
    ///
    /// # Errors
    /// When the file is missing or no database, or the server can't be reached or refuses.
    pub async fn open(source: &TableSource) -> Result<Tables, TableError> {
        let place = source.to_string();
        let handle = match source {
            TableSource::Sqlite(path) => {
                if !path.is_file() {
                    return Err(TableError::Missing(path.clone()));
                }
                let options = SqlOptions { readers_max: 1, ..SqlOptions::default() };
                Handle::Sqlite(Sql::open(path, options).await?)
            }
            TableSource::Postgres(url) => Handle::Postgres(Box::new(Snapshot::begin(&place, url).await?)),
        };
        Ok(Tables { place, handle })
    }

    /// Ends what was begun.
    pub async fn close(self) {
        match self.handle {
            Handle::Sqlite(sql) => sql.close().await,
            Handle::Postgres(snapshot) => snapshot.end().await,
        }
    }

    /// Whether tables are divided over shards, as they are in PostgreSQL.
    fn has_shards(&self) -> bool {
        matches!(self.handle, Handle::Postgres(_))
    }

    /// The rows of a query with whole numbers as parameters.
    async fn rows(
        &mut self,
        what: &'static str,
        query: &str,
        parameters: &[i64],
    ) -> Result<Vec<Cells>, TableError> {
        let read = match &mut self.handle {
            Handle::Sqlite(sql) => {
                let query = parameters.iter().fold(sqlx::query(query), |query, value| query.bind(*value));
                let rows = sql.within(what, query.fetch_all(sql.readers())).await;
                rows.map(|rows| rows.into_iter().map(Cells::Sqlite).collect())
            }
            Handle::Postgres(snapshot) => {
                let rows = snapshot.rows(what, query, parameters).await;
                rows.map(|rows| rows.into_iter().map(Cells::Postgres).collect())
            }
        };
        read.map_err(|error| TableError::Query { place: self.place.clone(), error })
    }

    fn wrong(&self, table: &'static str, row: String, what: String) -> TableError {
        TableError::Row { place: self.place.clone(), table, row, what }
    }
}

/// A row of either database.
enum Cells {
    Sqlite(SqliteRow),
    Postgres(PgRow),
}

impl Cells {
    /// A whole number of any width.
    fn signed(&self, column: &str) -> Result<i64, String> {
        let read = match self {
            Cells::Sqlite(row) => row.try_get(column),
            // The driver reads a column only as the width that it has.
            Cells::Postgres(row) => row
                .try_get(column)
                .or_else(|_| row.try_get::<i32, _>(column).map(i64::from))
                .or_else(|_| row.try_get::<i16, _>(column).map(i64::from)),
        };
        read.map_err(|e| e.to_string())
    }

    /// An unsigned number, stored as the signed one with the same bits, that must fit.
    fn number<T: TryFrom<u64>>(&self, column: &str) -> Result<T, String> {
        let stored = self.signed(column)?;
        T::try_from(stored.cast_unsigned()).map_err(|_| format!("`{column}` is {stored}, out of range"))
    }

    /// Bytes of whatever length.
    fn blob(&self, column: &str) -> Result<&[u8], String> {
        match self {
            Cells::Sqlite(row) => row.try_get(column),
            Cells::Postgres(row) => row.try_get(column),
        }
        .map_err(|e| e.to_string())
    }

    /// Exactly `N` bytes.
    fn bytes<const N: usize>(&self, column: &str) -> Result<[u8; N], String> {
        let stored = self.blob(column)?;
        stored.try_into().map_err(|_| format!("`{column}` has {} bytes; it must have {N}", stored.len()))
    }

    fn text(&self, column: &str) -> Result<&str, String> {
        match self {
            Cells::Sqlite(row) => row.try_get(column),
            Cells::Postgres(row) => row.try_get(column),
        }
        .map_err(|e| e.to_string())
    }
}
