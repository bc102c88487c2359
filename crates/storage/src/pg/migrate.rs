//! Bringing a service's tables up to date, while other processes may be doing the same.
//!
//! A row of version 0 for each service is the lock: whoever holds it looks what has run and runs the rest in the same
//! transaction. The others wait for the row and then find nothing left to do.

use std::time::Duration;

use sqlx::{Executor as _, Row as _};

use super::{CommitError, Pg};
use crate::migrate::{RECORD, check_list, check_ran, hash};
use crate::{Migrated, Migration, MigrationError, SqlError};

/// How often a migration that another process was in the way of is tried again, and how long apart.
const TRIES: u32 = 50;
const TRY_AGAIN_MS: u64 = 200;

/// Runs those of `service`'s migrations that have not run yet. `now_ms` goes into the record. Any number of processes
/// may do it at once; each migration runs once.
///
/// # Errors
/// See [`MigrationError`]; nothing was changed then, unless the connection broke at the end: it may be repeated.
pub async fn migrate(
    pg: &Pg,
    service: &str,
    migrations: &[Migration],
    now_ms: u64,
) -> Result<Migrated, MigrationError> {
    check_list(service, migrations)?;
    let mut tries = 0;
    loop {
        let error = match one_try(pg, service, migrations, now_ms).await {
            Ok(done) => return Ok(done),
            Err(error) => error,
        };
        tries += 1;
        if tries == TRIES || !is_in_the_way(&error) {
            return Err(error);
        }
        tracing::debug!(service, %error, "another process migrates; trying again");
        tokio::time::sleep(Duration::from_millis(TRY_AGAIN_MS)).await;
    }
}

/// What PostgreSQL says of a table, and of the type of its rows, that are there already.
const DUPLICATE: [&str; 2] = ["42P07", "42710"];

/// Whether another process made the same table or row at the same moment, or holds it.
fn is_in_the_way(failed: &MigrationError) -> bool {
    let (MigrationError::Sql(sql) | MigrationError::Failed { error: sql, .. }) = failed else { return false };
    match sql {
        SqlError::Busy { .. } | SqlError::Lost(_) => true,
        // A table is rows in the catalogue too.
        SqlError::Constraint(error) => {
            let table = error.as_database_error().and_then(|database| database.table());
            table.is_some_and(|table| table.starts_with("pg_") || table == "schema_migration")
        }
        // `IF NOT EXISTS` looks before it makes the table: another process may have made it in between.
        SqlError::Other(error) if matches!(failed, MigrationError::Sql(_)) => error
            .as_database_error()
            .and_then(|database| database.code())
            .is_some_and(|code| DUPLICATE.contains(&&*code)),
        _ => false,
    }
}

async fn one_try(
    pg: &Pg,
    service: &str,
    migrations: &[Migration],
    now_ms: u64,
) -> Result<Migrated, MigrationError> {
    // By itself, so that nobody waits for a table that is not committed yet.
    let mut connection = pg.connection().await?;
    if let Some(schema) = pg.options().schema {
        // Making one needs a right that the user may lack where somebody made the schema for him.
        let there = sqlx::query("SELECT to_regnamespace($1) IS NOT NULL").bind(schema);
        if !there.fetch_one(&mut *connection).await?.try_get::<bool, _>(0)? {
            (&mut *connection).execute(format!("CREATE SCHEMA IF NOT EXISTS {schema}").as_str()).await?;
        }
    }
    (&mut *connection).execute(RECORD).await?;
    drop(connection);
    let mut transaction = pg.begin().await?;
    let lock = "INSERT INTO schema_migration (service, version, name, sha256, applied_ms) \
                VALUES ($1, 0, 'lock', '', $2) ON CONFLICT (service, version) DO NOTHING";
    sqlx::query(lock).bind(service).bind(now_ms.cast_signed()).execute(&mut *transaction).await?;
    sqlx::query("SELECT version FROM schema_migration WHERE service = $1 AND version = 0 FOR UPDATE")
        .bind(service)
        .fetch_one(&mut *transaction)
        .await?;
    let ran = sqlx::query(
        "SELECT version, sha256 FROM schema_migration WHERE service = $1 AND version > 0 ORDER BY version",
    )
    .bind(service)
    .fetch_all(&mut *transaction)
    .await?;
    let mut from = 0;
    for row in ran {
        let version = u32::try_from(row.try_get::<i64, _>("version")?).unwrap_or(u32::MAX);
        check_ran(service, migrations, version, row.try_get("sha256")?)?;
        from = version;
    }
    for migration in migrations.iter().filter(|migration| migration.version > from) {
        let failed = |error: sqlx::Error| MigrationError::Failed {
            service: service.to_owned(),
            version: migration.version,
            name: migration.name,
            error: error.into(),
        };
        (&mut *transaction).execute(migration.sql).await.map_err(failed)?;
        sqlx::query(
            "INSERT INTO schema_migration (service, version, name, sha256, applied_ms) \
             VALUES ($1, $2, $3, $4, $5)",
        )
        .bind(service)
        .bind(i64::from(migration.version))
        .bind(migration.name)
        .bind(hash(migration.sql))
        .bind(now_ms.cast_signed())
        .execute(&mut *transaction)
        .await
        .map_err(failed)?;
        tracing::info!(service, version = migration.version, name = migration.name, "migration applied");
    }
    // Trying again finds out what became of a commit that was not answered.
    pg.commit(transaction).await.map_err(|error| match error {
        CommitError::NotDone(error) | CommitError::Unknown(error) => MigrationError::Sql(error),
    })?;
    Ok(Migrated { from, to: u32::try_from(migrations.len()).unwrap_or(u32::MAX) })
}
