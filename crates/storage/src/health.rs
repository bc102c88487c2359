//! Whether a database answers and still takes writes.

use crate::{Sql, SqlError};

/// What a health check found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Health {
    /// Connections open.
    pub connections: u32,
    /// Size of the write-ahead log in bytes; one that only grows means that a reader holds an old snapshot.
    pub wal_bytes: u64,
}

impl Sql {
    /// Reads through a reader and takes the write lock through the writer, under the statement time limit, without
    /// changing anything.
    ///
    /// # Errors
    /// Whatever keeps the database from answering.
    pub async fn check(&self) -> Result<Health, SqlError> {
        self.within("health check", async {
            sqlx::query("SELECT COUNT(*) FROM sqlite_master").execute(self.readers()).await?;
            self.write().await?.rollback().await?;
            Ok::<(), SqlError>(())
        })
        .await?;
        let mut wal = self.path().as_os_str().to_owned();
        wal.push("-wal");
        let wal_bytes = tokio::fs::metadata(wal).await.map_or(0, |file| file.len());
        Ok(Health { connections: self.connections(), wal_bytes })
    }
}
