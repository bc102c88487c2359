//! The shelf on SQLite: messages and entries in chunks, rows of what has changed, all in one transaction with the place
//! of the log.
//!
//! Rows are written sorted, in statements over many rows; chunks have rising numbers and one small index.

mod chunk;
mod read;
mod schema;
mod write;

use super::{Mark, MessageStore, Shelf, StoreError, Timeline};
use crate::core::{Checkpoint, Entry, StoredConversation, StoredUser};
use async_trait::async_trait;
use records::ChatMessage;
use std::path::Path;
use storage::{MigrationError, OpenError, Sql, SqlError, SqlOptions, migrate};

/// The shelf.
#[derive(Clone)]
pub struct SqlShelf {
    sql: Sql,
}

/// Why the database can't be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenShelfError {
    /// It can't be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// Its tables can't be brought up to date.
    #[error(transparent)]
    Migrate(#[from] MigrationError),
}

impl SqlShelf {
    /// Opens the database at a path, and makes it if it is missing.
    ///
    /// # Errors
    /// When it can't be used.
    pub async fn open(path: &Path, now_ms: u64) -> Result<SqlShelf, OpenShelfError> {
        let sql = Sql::open(path, SqlOptions::behind()).await?;
        migrate(&sql, schema::SERVICE, schema::MIGRATIONS, now_ms).await?;
        Ok(SqlShelf { sql })
    }

    /// Closes it after what is under way.
    pub async fn close(&self) {
        self.sql.close().await;
    }
}

fn told(error: impl Into<SqlError>) -> StoreError {
    StoreError::Unavailable(error.into().to_string())
}

#[async_trait]
impl MessageStore for SqlShelf {
    async fn conversations(&self, ids: &[u64]) -> Result<Vec<StoredConversation>, StoreError> {
        read::conversations(&self.sql, ids).await
    }

    async fn pairs(&self, pairs: &[(u64, u64)]) -> Result<Vec<(u64, u64, u64)>, StoreError> {
        read::pairs(&self.sql, pairs).await
    }

    async fn messages(&self, conversation: u64, from: u64, to: u64) -> Result<Vec<ChatMessage>, StoreError> {
        read::messages(&self.sql, conversation, from, to).await
    }
}

#[async_trait]
impl Timeline for SqlShelf {
    async fn users(&self, ids: &[u64]) -> Result<Vec<StoredUser>, StoreError> {
        read::users(&self.sql, ids).await
    }

    async fn entries(&self, user: u64, after: u64, limit: usize) -> Result<Vec<Entry>, StoreError> {
        read::entries(&self.sql, user, after, limit).await
    }
}

#[async_trait]
impl Shelf for SqlShelf {
    async fn mark(&self) -> Result<Mark, StoreError> {
        read::mark(&self.sql).await
    }

    async fn commit(&self, checkpoint: &Checkpoint) -> Result<(), StoreError> {
        let mut transaction = self.sql.write().await.map_err(told)?;
        write::checkpoint(&mut transaction, checkpoint).await.map_err(told)?;
        transaction.commit().await.map_err(told)
    }
}
