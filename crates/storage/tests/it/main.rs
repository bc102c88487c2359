//! Against real SQLite files, and a real PostgreSQL server where there is one.

mod batch;
mod durability;
mod migrations;
mod pg;

use storage::{Sql, SqlOptions};

/// A database in a folder of its own, which lives as long as the returned guard.
async fn open() -> (tempfile::TempDir, Sql) {
    let folder = tempfile::tempdir().unwrap();
    let sql = Sql::open(&folder.path().join("test.db"), SqlOptions::patient()).await.unwrap();
    (folder, sql)
}
