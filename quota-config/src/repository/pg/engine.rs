//! PostgreSQL under the statements. Changes of plans are few, so each of them locks the one row of the trail's head first: changes happen
//! one after the other, on all machines, and each sees what the one before it did.

use crate::repository::RepositoryError;
use storage::SqlError;
use storage::pg::{CommitError, Pg, PgTransaction};
use storage::sqlx::pool::PoolConnection;
use storage::sqlx::{self, Postgres};

/// The open database.
pub(super) type Store = Pg;
/// A row of it.
pub(super) type Row = storage::sqlx::postgres::PgRow;
/// A transaction that changes something.
pub(super) type Write = PgTransaction;

/// Begins a change; nobody else changes anything until it ends.
pub(super) async fn write(store: &Store) -> Result<Write, RepositoryError> {
    let mut write = store.begin_with_first().await?;
    let locked = write.run("SELECT n FROM plan_audit_head WHERE one = 1 FOR UPDATE").await?;
    match locked.first().is_some_and(|rows| rows.len() == 1) {
        true => Ok(write),
        false => Err(RepositoryError::Sql(SqlError::Other(sqlx::Error::RowNotFound))),
    }
}

/// Ends a change. After an error that is not 'nothing was done' the call may be repeated, as the port says.
pub(super) async fn commit(store: &Store, write: Write) -> Result<(), RepositoryError> {
    store.commit(write).await.map_err(|error| match error {
        CommitError::NotDone(error) | CommitError::Unknown(error) => RepositoryError::Sql(error),
    })
}

/// A connection that reads.
pub(super) async fn read(store: &Store) -> Result<PoolConnection<Postgres>, RepositoryError> {
    Ok(store.connection().await?)
}
