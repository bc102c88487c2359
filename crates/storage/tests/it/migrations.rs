use storage::{Migration, MigrationError, migrate, sqlx};

use crate::open;

const ONE: Migration =
    Migration { version: 1, name: "tables", sql: "CREATE TABLE a (id BIGINT); CREATE TABLE b (id BIGINT);" };
const TWO: Migration = Migration { version: 2, name: "index", sql: "CREATE INDEX a_id ON a (id)" };

#[tokio::test]
async fn each_runs_once_and_is_recorded() {
    let (_folder, sql) = open().await;
    let first = migrate(&sql, "flow", &[ONE], 1_000).await.unwrap();
    assert_eq!((first.from, first.to), (0, 1));
    let second = migrate(&sql, "flow", &[ONE, TWO], 2_000).await.unwrap();
    assert_eq!((second.from, second.to), (1, 2));
    let third = migrate(&sql, "flow", &[ONE, TWO], 3_000).await.unwrap();
    assert_eq!((third.from, third.to), (2, 2));
    let rows: Vec<(String, i64, String, i64)> =
        sqlx::query_as("SELECT service, version, name, applied_ms FROM schema_migration ORDER BY version")
            .fetch_all(sql.readers())
            .await
            .unwrap();
    assert_eq!(
        rows,
        [
            ("flow".to_owned(), 1, "tables".to_owned(), 1_000),
            ("flow".to_owned(), 2, "index".to_owned(), 2_000)
        ]
    );
    sqlx::query("SELECT id FROM b").fetch_all(sql.readers()).await.unwrap();
}

#[tokio::test]
async fn services_share_a_database_without_sharing_versions() {
    let (_folder, sql) = open().await;
    migrate(&sql, "flow", &[ONE, TWO], 1).await.unwrap();
    let other = Migration { version: 1, name: "other", sql: "CREATE TABLE c (id BIGINT)" };
    assert_eq!(migrate(&sql, "delivery", &[other], 1).await.unwrap().from, 0);
}

#[tokio::test]
async fn a_newer_database_is_refused_and_unharmed() {
    let (_folder, sql) = open().await;
    migrate(&sql, "flow", &[ONE, TWO], 1).await.unwrap();
    let error = migrate(&sql, "flow", &[ONE], 2).await.unwrap_err();
    assert!(matches!(error, MigrationError::NewerDatabase { found: 2, known: 1, .. }), "{error}");
    assert!(error.to_string().contains("newer program"));
    assert_eq!(migrate(&sql, "flow", &[ONE, TWO], 3).await.unwrap().from, 2);
}

#[tokio::test]
async fn an_edited_migration_is_refused() {
    let (_folder, sql) = open().await;
    migrate(&sql, "flow", &[ONE], 1).await.unwrap();
    let edited = Migration { sql: "CREATE TABLE a (id TEXT)", ..ONE };
    let error = migrate(&sql, "flow", &[edited, TWO], 2).await.unwrap_err();
    assert!(matches!(error, MigrationError::Edited { version: 1, .. }), "{error}");
    assert_eq!(migrate(&sql, "flow", &[ONE], 3).await.unwrap().to, 1);
}

#[tokio::test]
async fn a_failing_migration_takes_all_of_its_run_with_it() {
    let (_folder, sql) = open().await;
    let broken = Migration {
        version: 2,
        name: "broken",
        sql: "CREATE TABLE d (id BIGINT); CREATE TABLE a (id BIGINT)",
    };
    let error = migrate(&sql, "flow", &[ONE, broken], 1).await.unwrap_err();
    assert!(error.to_string().starts_with("migration 2 (broken) of flow failed"), "{error}");
    for table in ["a", "d"] {
        let gone = sqlx::query(&format!("SELECT id FROM {table}")).fetch_all(sql.readers()).await;
        assert!(gone.is_err(), "{table} is there");
    }
    assert_eq!(migrate(&sql, "flow", &[ONE, TWO], 2).await.unwrap().from, 0);
}

#[tokio::test]
async fn a_list_with_a_gap_is_refused() {
    let (_folder, sql) = open().await;
    let error = migrate(&sql, "flow", &[TWO], 1).await.unwrap_err();
    assert!(matches!(error, MigrationError::BadList { position: 1, version: 2, .. }), "{error}");
}
