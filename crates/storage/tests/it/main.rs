//! Against real SQLite files.

mod batch;
mod durability;
mod migrations;

use storage::{Sql, SqlOptions};

/// A database in a folder of its own, which lives as long as the returned guard.
async fn open() -> (tempfile::TempDir, Sql) {
    let folder = tempfile::tempdir().unwrap();
    let sql = Sql::open(&folder.path().join("test.db"), SqlOptions::default()).await.unwrap();
    (folder, sql)
}
