//! Versions in SQL. The statements are in the one dialect that SQLite and PostgreSQL both take, so the files of this
//! folder are mounted twice: here over SQLite ([`engine`]), for the embedded platform, and in `repository::pg` over PostgreSQL.
//! What differs between them is the engine's alone: types, how a change locks out others, and the tables' column types.

mod engine;
mod port;
mod proposals;
mod schema;
mod trail;
mod versions;

use super::RepositoryError;
use storage::sqlx;
use storage::{MigrationError, Sql, migrate};

use SqlRepository as Repository;

/// A repository in a database.
pub struct SqlRepository {
    store: Sql,
}

impl From<sqlx::Error> for RepositoryError {
    fn from(error: sqlx::Error) -> RepositoryError {
        RepositoryError::Sql(error.into())
    }
}

impl SqlRepository {
    /// The repository in an open database; makes or updates its tables. `now_ms` goes into the record of
    /// migrations.
    ///
    /// # Errors
    /// When the tables can't be made, or a newer program has written them.
    pub async fn open(sql: Sql, now_ms: u64) -> Result<SqlRepository, MigrationError> {
        migrate(&sql, "quota-config", schema::MIGRATIONS, now_ms).await?;
        Ok(SqlRepository { store: sql })
    }
}
