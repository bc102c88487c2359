//! A transaction that is there or not, and knows when nobody can tell.

use std::ops::{Deref, DerefMut};

use futures_util::TryStreamExt as _;
use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgConnection, PgRow};
use sqlx::{Either, Executor as _, Postgres};

use super::CommitError;
use crate::SqlError;

/// Rows of each statement of a message, in order.
pub type Answers = Vec<Vec<PgRow>>;

/// A transaction. Dropped before [`PgTransaction::rollback`] or the commit, it closes its connection, and the server
/// undoes it: a call that was cut short leaves no connection in an unknown state.
#[derive(Debug)]
pub struct PgTransaction {
    /// Taken when the transaction ends.
    connection: Option<PoolConnection<Postgres>>,
    /// BEGIN goes out with the first message.
    begun: bool,
}

impl PgTransaction {
    pub(super) fn unsent(connection: PoolConnection<Postgres>) -> PgTransaction {
        PgTransaction { connection: Some(connection), begun: false }
    }

    pub(super) async fn begin(&mut self) -> Result<(), sqlx::Error> {
        if !self.begun {
            (&mut **self).execute("BEGIN").await?;
            self.begun = true;
        }
        Ok(())
    }

    /// Sends several statements as one message and waits once: rows come back for each statement, as text. Values
    /// stand in the text, so it is for numbers and for text of this program's own making.
    ///
    /// # Errors
    /// What the first statement that failed says; those behind it were not run, and the transaction can only be dropped.
    pub async fn run(&mut self, text: &str) -> Result<Answers, SqlError> {
        if self.begun {
            return Ok(message(self, text).await?);
        }
        let text = format!("BEGIN;{text}");
        let mut answers = message(self, &text).await?;
        self.begun = true;
        // The answer to BEGIN.
        answers.remove(0);
        Ok(answers)
    }

    /// Undoes everything and gives the connection back.
    ///
    /// # Errors
    /// When the connection is broken; everything is undone then too.
    pub async fn rollback(mut self) -> Result<(), SqlError> {
        if self.begun {
            (&mut *self).execute("ROLLBACK").await?;
        }
        drop(self.connection.take());
        Ok(())
    }

    /// Sends `text` and COMMIT as one message.
    pub(super) async fn run_and_commit(mut self, text: &str) -> Result<Answers, CommitError> {
        // A transaction that has failed answers COMMIT by undoing everything, without an error; any statement
        // before it makes it say so.
        let first = if self.begun { "SELECT 1" } else { "BEGIN" };
        let text = format!("{first};{text}{}COMMIT", if text.is_empty() { "" } else { ";" });
        let mut answers = message(&mut self, &text).await.map_err(CommitError::of)?;
        answers.remove(0);
        answers.pop();
        // It ended well, so its connection is as good as new.
        drop(self.connection.take());
        Ok(answers)
    }

    fn open(&self) -> &PoolConnection<Postgres> {
        // It is taken only by what consumes the transaction.
        #[allow(clippy::expect_used)]
        self.connection.as_ref().expect("a transaction has its connection until it ends")
    }
}

/// Sends statements and waits once for the rows of each.
pub(super) async fn message(on: &mut PgConnection, text: &str) -> Result<Answers, sqlx::Error> {
    let mut stream = on.fetch_many(text);
    let (mut answers, mut rows) = (Vec::new(), Vec::new());
    while let Some(part) = stream.try_next().await? {
        match part {
            Either::Right(row) => rows.push(row),
            Either::Left(_) => answers.push(std::mem::take(&mut rows)),
        }
    }
    Ok(answers)
}

impl Deref for PgTransaction {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        self.open()
    }
}

impl DerefMut for PgTransaction {
    fn deref_mut(&mut self) -> &mut PgConnection {
        // As in `open`.
        #[allow(clippy::expect_used)]
        self.connection.as_mut().expect("a transaction has its connection until it ends")
    }
}

impl Drop for PgTransaction {
    fn drop(&mut self) {
        if let Some(connection) = self.connection.take() {
            // Not given back: the socket is closed, and the server undoes what stands open.
            drop(connection.detach());
        }
    }
}
