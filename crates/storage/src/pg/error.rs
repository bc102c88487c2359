//! What a server's errors mean for the caller.

use sqlx::postgres::{PgDatabaseError, PgSeverity};

use crate::SqlError;

/// Why a database was not opened. None of them holds a password.
#[derive(Debug, thiserror::Error)]
pub enum PgOpenError {
    /// The address can't be read.
    #[error("the address of PostgreSQL is not postgres://USER:PASSWORD@HOST:PORT/DATABASE: {why}")]
    BadUrl {
        /// What is wrong with it.
        why: String,
    },
    /// No server answered, or none of those that did is ready.
    #[error("PostgreSQL can't be reached: tried {tried}")]
    Unreachable {
        /// Each place that was tried, with what happened there.
        tried: String,
    },
    /// All servers that answered are standbys or older than a server seen before.
    #[error("no server of PostgreSQL takes writes: tried {tried}. Promote a standby, or correct the address")]
    NoPrimary {
        /// Each place that was tried, with what was found there.
        tried: String,
    },
    /// A server refuses the user, the password or the database.
    #[error("PostgreSQL at {at} refuses {who}: {why}")]
    Refused {
        /// Host and port.
        at: String,
        /// User and database.
        who: String,
        /// What the server says.
        why: String,
    },
    /// The server is too old.
    #[error("PostgreSQL at {at} has version {found}; {least} or newer is needed")]
    OldVersion {
        /// Host and port.
        at: String,
        /// Its version.
        found: String,
        /// The oldest that will do.
        least: u32,
    },
    /// What is committed there would have one copy only.
    #[error(
        "PostgreSQL at {at} keeps one copy only: {why}. What a player was told must survive the loss of a server; for \
         tests and trials the development switch takes it as it is"
    )]
    NotReplicated {
        /// Host and port.
        at: String,
        /// What is missing.
        why: String,
    },
}

impl PgOpenError {
    /// Whether waiting may help without anybody doing anything.
    pub fn is_temporary(&self) -> bool {
        matches!(self, PgOpenError::Unreachable { .. } | PgOpenError::NoPrimary { .. })
    }
}

/// Why a commit did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// Nothing of the transaction was done.
    #[error("not committed, nothing was done: {0}")]
    NotDone(#[source] SqlError),
    /// The answer to the commit never came: it may or may not have been done. Repeat the whole call under the same ids.
    #[error("no answer to the commit, it may or may not have been done: {0}")]
    Unknown(#[source] SqlError),
}

impl CommitError {
    /// Sorts what a message that ended in COMMIT said. A server that answers with an error has not committed: the commit
    /// was the last statement, and behind its record there are no errors. A server that ends the connection may have done it before.
    pub(super) fn of(error: sqlx::Error) -> CommitError {
        let answered = match &error {
            sqlx::Error::Database(database) => {
                database.try_downcast_ref::<PgDatabaseError>().is_some_and(|error| {
                    matches!(error.severity(), PgSeverity::Error) && error.code() != COMPLETION_UNKNOWN
                })
            }
            _ => false,
        };
        let error = SqlError::from(error);
        if answered { CommitError::NotDone(error) } else { CommitError::Unknown(error) }
    }

    /// What the database said.
    pub fn sql(&self) -> &SqlError {
        match self {
            CommitError::NotDone(error) | CommitError::Unknown(error) => error,
        }
    }
}

/// Codes of PostgreSQL. <https://www.postgresql.org/docs/current/errcodes-appendix.html>
const COMPLETION_UNKNOWN: &str = "40003";

/// Sorts an error of a PostgreSQL server by what the caller can do about it.
pub(crate) fn sort(error: sqlx::Error) -> SqlError {
    let Some(code) = error.as_database_error().and_then(|database| database.code()) else {
        return SqlError::Other(error);
    };
    match code.as_ref() {
        "40001" => SqlError::Busy { what: "a change of the same rows at the same time" },
        "40P01" => SqlError::Busy { what: "transactions that wait for each other" },
        "55P03" => SqlError::Busy { what: "waiting for a lock" },
        "53100" => SqlError::DiskFull(error),
        // Shut down, crashed, starting up, full of connections, or a standby now.
        "57P01" | "57P02" | COMPLETION_UNKNOWN => SqlError::Lost(error),
        "57P03" | "53300" => SqlError::Unreachable { at: String::new(), error },
        "25006" => SqlError::Unreachable { at: "the server takes no writes (any more)".to_owned(), error },
        code if code.starts_with("23") => SqlError::Constraint(error),
        _ => SqlError::Other(error),
    }
}
