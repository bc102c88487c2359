//! What can go wrong with a statement, sorted by what the caller can do about it.

use sqlx::postgres::PgDatabaseError;

/// Why a statement or a transaction failed.
#[derive(Debug, thiserror::Error)]
pub enum SqlError {
    /// No answer in time. A read may be repeated; of a write it is not known whether it was done.
    #[error("{what}: no answer from the database within {limit_ms} ms")]
    TimedOut {
        /// What was tried.
        what: &'static str,
        /// How long it was allowed to take.
        limit_ms: u64,
    },
    /// Every connection stayed busy. Nothing was done; a later try can succeed.
    #[error(
        "{what}: the database stayed busy for as long as one may wait; nothing was done. Try again, or look for a \
         transaction that is held too long"
    )]
    Busy {
        /// What was tried.
        what: &'static str,
    },
    /// The disk is full. Nothing of the transaction was kept; reads go on working.
    #[error("the database's disk is full; nothing was done: {0}")]
    DiskFull(#[source] sqlx::Error),
    /// No server could be reached. Nothing was sent; a later try can succeed.
    #[error("the database can't be reached, nothing was done: {at}: {error}")]
    Unreachable {
        /// Which server.
        at: String,
        /// What was heard.
        #[source]
        error: sqlx::Error,
    },
    /// The connection broke. A read may be repeated; of a write outside of a transaction, and of a commit, it is not
    /// known whether it was done.
    #[error("the connection to the database broke: {0}")]
    Lost(#[source] sqlx::Error),
    /// A unique key or another constraint refused it; trying again gives the same answer.
    #[error("refused by a constraint of the database: {0}")]
    Constraint(#[source] sqlx::Error),
    /// Anything else, a broken file among it.
    #[error("database error: {0}")]
    Other(#[source] sqlx::Error),
}

impl SqlError {
    /// Whether nothing was done and trying again later may succeed.
    pub fn is_retryable(&self) -> bool {
        matches!(self, SqlError::Busy { .. } | SqlError::DiskFull(_) | SqlError::Unreachable { .. })
    }
}

/// Primary result codes of SQLite; extended codes carry them in their low byte.
/// <https://www.sqlite.org/rescode.html>
const SQLITE_BUSY: u32 = 5;
const SQLITE_FULL: u32 = 13;

impl From<sqlx::Error> for SqlError {
    fn from(error: sqlx::Error) -> Self {
        if matches!(error, sqlx::Error::PoolTimedOut) {
            return SqlError::Busy { what: "waiting for a connection" };
        }
        if matches!(error, sqlx::Error::Io(_)) {
            return SqlError::Lost(error);
        }
        let Some(database) = error.as_database_error() else { return SqlError::Other(error) };
        if database.try_downcast_ref::<PgDatabaseError>().is_some() {
            return crate::pg::sort(error);
        }
        let refused = !matches!(database.kind(), sqlx::error::ErrorKind::Other);
        let primary = database.code().and_then(|code| code.parse::<u32>().ok()).map(|code| code & 0xff);
        match primary {
            Some(SQLITE_BUSY) => SqlError::Busy { what: "waiting for a lock" },
            Some(SQLITE_FULL) => SqlError::DiskFull(error),
            _ if refused => SqlError::Constraint(error),
            _ => SqlError::Other(error),
        }
    }
}
