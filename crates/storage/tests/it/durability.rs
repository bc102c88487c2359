use std::time::Duration;

use runtime::Priority;
use storage::{OpenError, Sql, SqlError, SqlOptions, sqlx};

use crate::open;

async fn make_table(sql: &Sql) {
    let mut write = sql.write().await.unwrap();
    sqlx::raw_sql("CREATE TABLE t (id BIGINT PRIMARY KEY)").execute(&mut *write).await.unwrap();
    write.commit().await.unwrap();
}

async fn insert(sql: &Sql, id: i64) -> Result<(), SqlError> {
    let mut write = sql.write().await?;
    sqlx::query("INSERT INTO t (id) VALUES ($1)").bind(id).execute(&mut *write).await?;
    Ok(write.commit().await?)
}

async fn ids(sql: &Sql) -> Vec<i64> {
    sqlx::query_scalar("SELECT id FROM t ORDER BY id").fetch_all(sql.readers()).await.unwrap()
}

#[tokio::test]
async fn readers_and_writer_have_the_settings_that_durability_needs() {
    let folder = tempfile::tempdir().unwrap();
    let sql = Sql::open(&folder.path().join("test.db"), SqlOptions::default()).await.unwrap();
    let mut write = sql.write().await.unwrap();
    let mut read = sql.readers().acquire().await.unwrap();
    for (pragma, expected) in
        [("journal_mode", "wal"), ("synchronous", "2"), ("foreign_keys", "1"), ("busy_timeout", "2000")]
    {
        let text = if pragma == "busy_timeout" { "timeout" } else { pragma };
        let query = format!("SELECT CAST({text} AS TEXT) FROM pragma_{pragma}");
        let of_writer: String = sqlx::query_scalar(&query).fetch_one(&mut *write).await.unwrap();
        let of_reader: String = sqlx::query_scalar(&query).fetch_one(&mut *read).await.unwrap();
        assert_eq!((of_writer.as_str(), of_reader.as_str()), (expected, expected), "{pragma}");
    }
    let cache = "SELECT CAST(cache_size AS TEXT) FROM pragma_cache_size";
    let of_writer: String = sqlx::query_scalar(cache).fetch_one(&mut *write).await.unwrap();
    let of_reader: String = sqlx::query_scalar(cache).fetch_one(&mut *read).await.unwrap();
    assert_eq!((of_writer.as_str(), of_reader.as_str()), ("-65536", "-16384"));
}

/// The nice values of this process's SQLite threads.
#[cfg(target_os = "linux")]
fn nice_of_workers() -> Vec<i32> {
    let mut nice = Vec::new();
    for thread in std::fs::read_dir("/proc/self/task").unwrap() {
        let stat = std::fs::read_to_string(thread.unwrap().path().join("stat")).unwrap_or_default();
        let Some((name, fields)) = stat.rsplit_once(')') else { continue };
        if name.contains("(sqlx-sqlite") {
            // Behind the name: state is the 3rd field of all, nice the 19th.
            nice.push(fields.split_whitespace().nth(16).unwrap().parse().unwrap());
        }
    }
    nice
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_database_behind_the_answers_runs_on_niced_threads() {
    let folder = tempfile::tempdir().unwrap();
    // Values that no other test of this process has.
    let (writer_priority, reader_priority) = (Priority::Nice(7), Priority::Nice(8));
    let options = SqlOptions { writer_priority, reader_priority, ..SqlOptions::default() };
    let sql = Sql::open(&folder.path().join("test.db"), options).await.unwrap();
    make_table(&sql).await;
    insert(&sql, 1).await.unwrap();
    assert_eq!(ids(&sql).await, [1]);
    // The writer and one reader.
    let threads = nice_of_workers();
    let count = |wanted: i32| threads.iter().filter(|nice| **nice == wanted).count();
    assert_eq!((count(7), count(8)), (1, 1));
}

/// Writes in this process, which then never closes the database, as after a kill: a copy of the files as they are
/// at this moment holds what was committed and nothing else.
#[tokio::test]
async fn what_was_committed_survives_and_what_was_not_does_not() {
    let (folder, sql) = open().await;
    make_table(&sql).await;
    for id in 1..=20 {
        insert(&sql, id).await.unwrap();
    }
    let mut undecided = sql.write().await.unwrap();
    sqlx::query("INSERT INTO t (id) VALUES (99)").execute(&mut *undecided).await.unwrap();

    let copy = tempfile::tempdir().unwrap();
    // The shared-memory index is left behind, as a crash of the machine would: it is rebuilt from the log.
    for name in ["test.db", "test.db-wal"] {
        std::fs::copy(folder.path().join(name), copy.path().join(name)).unwrap();
    }
    let after = Sql::open(&copy.path().join("test.db"), SqlOptions::default()).await.unwrap();
    assert_eq!(ids(&after).await, (1..=20).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_dropped_transaction_is_undone_and_the_writer_goes_on() {
    let (_folder, sql) = open().await;
    make_table(&sql).await;
    let mut write = sql.write().await.unwrap();
    sqlx::query("INSERT INTO t (id) VALUES (1)").execute(&mut *write).await.unwrap();
    drop(write);
    insert(&sql, 2).await.unwrap();
    assert_eq!(ids(&sql).await, [2]);
}

#[tokio::test]
async fn reads_do_not_wait_for_a_write_and_do_not_write() {
    let (_folder, sql) = open().await;
    make_table(&sql).await;
    insert(&sql, 1).await.unwrap();
    let mut write = sql.write().await.unwrap();
    sqlx::query("INSERT INTO t (id) VALUES (2)").execute(&mut *write).await.unwrap();
    assert_eq!(ids(&sql).await, [1]);
    let refused = sqlx::query("INSERT INTO t (id) VALUES (3)").execute(sql.readers()).await;
    assert!(refused.unwrap_err().to_string().contains("readonly"));
    write.commit().await.unwrap();
    assert_eq!(ids(&sql).await, [1, 2]);
}

#[tokio::test]
async fn a_writer_that_does_not_get_its_turn_is_told_that_nothing_was_done() {
    let folder = tempfile::tempdir().unwrap();
    let options = SqlOptions { acquire_timeout_ms: 600, busy_timeout_ms: 30, ..SqlOptions::default() };
    let path = folder.path().join("test.db");
    let sql = Sql::open(&path, options.clone()).await.unwrap();
    let other_process = Sql::open(&path, options).await.unwrap();
    make_table(&sql).await;
    let held = sql.write().await.unwrap();
    for waiting in [&sql, &other_process] {
        let error = waiting.write().await.unwrap_err();
        assert!(matches!(error, SqlError::Busy { what: "beginning a write" }), "{error}");
        assert!(error.is_retryable());
    }
    held.rollback().await.unwrap();
    insert(&other_process, 1).await.unwrap();
    assert_eq!(ids(&sql).await, [1]);
}

#[tokio::test]
async fn errors_are_sorted_by_what_can_be_done() {
    let (_folder, sql) = open().await;
    make_table(&sql).await;
    insert(&sql, 1).await.unwrap();
    let error = insert(&sql, 1).await.unwrap_err();
    assert!(matches!(error, SqlError::Constraint(_)) && !error.is_retryable(), "{error}");

    let mut write = sql.write().await.unwrap();
    sqlx::raw_sql("PRAGMA max_page_count = 3").execute(&mut *write).await.unwrap();
    let full = sqlx::query("CREATE TABLE big AS SELECT randomblob(1000000) AS b").execute(&mut *write).await;
    let error = SqlError::from(full.unwrap_err());
    assert!(matches!(error, SqlError::DiskFull(_)) && error.is_retryable(), "{error}");
}

#[tokio::test]
async fn an_operation_that_hangs_is_cut_off() {
    let folder = tempfile::tempdir().unwrap();
    let options = SqlOptions { statement_timeout_ms: 10, ..SqlOptions::default() };
    let sql = Sql::open(&folder.path().join("test.db"), options).await.unwrap();
    let error = sql.within("test", std::future::pending::<Result<(), SqlError>>()).await.unwrap_err();
    assert_eq!(error.to_string(), "test: no answer from the database within 10 ms");
    let fine =
        tokio::time::timeout(Duration::from_secs(60), sql.within("test", async { Ok::<_, SqlError>(7) }));
    assert_eq!(fine.await.unwrap().unwrap(), 7);
}

#[tokio::test]
async fn health_is_checked_through_both_ways() {
    let (_folder, sql) = open().await;
    make_table(&sql).await;
    let health = sql.check().await.unwrap();
    assert!(health.connections >= 2 && health.wal_bytes > 0, "{health:?}");
    sql.close().await;
    assert!(sql.check().await.is_err());
}

#[tokio::test]
async fn what_is_no_database_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let missing = Sql::open(&folder.path().join("no/such/test.db"), SqlOptions::default()).await;
    assert!(matches!(missing, Err(OpenError::NoFolder(_))));
    let path = folder.path().join("text.db");
    std::fs::write(&path, "a letter to a friend, long enough to be mistaken for something else\n".repeat(40))
        .unwrap();
    let error = Sql::open(&path, SqlOptions::default()).await.unwrap_err().to_string();
    assert!(error.contains("text.db") && error.contains("not a database"), "{error}");
}
