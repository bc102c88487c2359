//! SQLite under the statements: one writer at a time, who holds the lock from the begin on.

use crate::repository::RepositoryError;
use storage::sqlx::Sqlite;
use storage::sqlx::pool::PoolConnection;
use storage::{Sql, WriteTransaction};

/// The open database.
pub(super) type Store = Sql;
/// A row of it.
pub(super) type Row = storage::sqlx::sqlite::SqliteRow;
/// A transaction that changes something.
pub(super) type Write = WriteTransaction;

/// Begins a change; nobody else changes anything until it ends.
pub(super) async fn write(store: &Store) -> Result<Write, RepositoryError> {
    Ok(store.write().await?)
}

/// Ends a change.
pub(super) async fn commit(_: &Store, write: Write) -> Result<(), RepositoryError> {
    Ok(write.commit().await?)
}

/// A connection that reads.
pub(super) async fn read(store: &Store) -> Result<PoolConnection<Sqlite>, RepositoryError> {
    Ok(store.readers().acquire().await?)
}
