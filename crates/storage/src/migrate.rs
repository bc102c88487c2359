//! Bringing a service's tables up to date.
//!
//! A service hands in its whole list of migrations under its own name; several services may share a database. All
//! that are missing run in one transaction, so a database is never between two versions. What ran is recorded
//! with the hash of its text.
//!
//! Refused: a database with a version that this program does not know (a newer program wrote it), and a migration
//! whose text was changed after it ran (the tables would not be what the text says).

use sha2::{Digest, Sha256};
use sqlx::Row;

use crate::{Sql, SqlError};

/// One step: applied once, never edited.
#[derive(Debug, Clone, Copy)]
pub struct Migration {
    /// 1, 2, 3, ... without a gap.
    pub version: u32,
    /// A few words for people.
    pub name: &'static str,
    /// One or more statements.
    pub sql: &'static str,
}

/// What [`migrate`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Migrated {
    /// Version before; 0 for a new database.
    pub from: u32,
    /// Version now.
    pub to: u32,
}

/// Why tables could not be brought up to date. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum MigrationError {
    /// The list that was handed in is not 1, 2, 3, ...: a mistake in the program.
    #[error("migrations of {service} must be numbered 1, 2, 3, ...; number {position} has version {version}")]
    BadList {
        /// The service.
        service: String,
        /// Position in the list, from 1.
        position: usize,
        /// The version found there.
        version: u32,
    },
    /// The database is ahead of the program.
    #[error(
        "the tables of {service} have version {found}, and this program knows versions up to {known}: \
         a newer program has written them. Start that one, or restore a backup from before"
    )]
    NewerDatabase {
        /// The service.
        service: String,
        /// Version in the database.
        found: u32,
        /// Highest version in the list.
        known: u32,
    },
    /// A migration was edited after it ran.
    #[error(
        "migration {version} ({name}) of {service} was changed after it had run here: its text has SHA-256 {now}, \
         what ran had {ran}. Restore its text and make the change in a new migration"
    )]
    Edited {
        /// The service.
        service: String,
        /// Which one.
        version: u32,
        /// Its name now.
        name: &'static str,
        /// Hash of the text now.
        now: String,
        /// Hash of the text that ran.
        ran: String,
    },
    /// A statement failed.
    #[error("migration {version} ({name}) of {service} failed: {error}")]
    Failed {
        /// The service.
        service: String,
        /// Which one.
        version: u32,
        /// Its name.
        name: &'static str,
        /// What the database says.
        error: SqlError,
    },
    /// The database could not be reached or its record of migrations not be used.
    #[error(transparent)]
    Sql(#[from] SqlError),
}

impl From<sqlx::Error> for MigrationError {
    fn from(error: sqlx::Error) -> Self {
        MigrationError::Sql(error.into())
    }
}

pub(crate) const RECORD: &str = "CREATE TABLE IF NOT EXISTS schema_migration (
    service    TEXT    NOT NULL,
    version    BIGINT  NOT NULL,
    name       TEXT    NOT NULL,
    sha256     TEXT    NOT NULL,
    applied_ms BIGINT  NOT NULL,
    PRIMARY KEY (service, version)
)";

/// Runs those of `service`'s migrations that have not run yet. `now_ms` goes into the record.
///
/// # Errors
/// See [`MigrationError`]; the database is then as it was before.
pub async fn migrate(
    sql: &Sql,
    service: &str,
    migrations: &[Migration],
    now_ms: u64,
) -> Result<Migrated, MigrationError> {
    check_list(service, migrations)?;
    let mut transaction = sql.write().await?;
    sqlx::query(RECORD).execute(&mut *transaction).await?;
    let ran = sqlx::query("SELECT version, sha256 FROM schema_migration WHERE service = $1 ORDER BY version")
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
        sqlx::raw_sql(migration.sql).execute(&mut *transaction).await.map_err(failed)?;
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
    transaction.commit().await?;
    // The list has no gap, so its length is its last version.
    Ok(Migrated { from, to: u32::try_from(migrations.len()).unwrap_or(u32::MAX) })
}

pub(crate) fn check_list(service: &str, migrations: &[Migration]) -> Result<(), MigrationError> {
    for (position, migration) in (1..).zip(migrations) {
        if u32::try_from(position) != Ok(migration.version) {
            let (service, version) = (service.to_owned(), migration.version);
            return Err(MigrationError::BadList { service, position, version });
        }
    }
    Ok(())
}

pub(crate) fn check_ran(
    service: &str,
    migrations: &[Migration],
    version: u32,
    ran: String,
) -> Result<(), MigrationError> {
    let Some(migration) = migrations.iter().find(|migration| migration.version == version) else {
        let known = migrations.last().map_or(0, |migration| migration.version);
        return Err(MigrationError::NewerDatabase { service: service.to_owned(), found: version, known });
    };
    let now = hash(migration.sql);
    if now == ran {
        return Ok(());
    }
    Err(MigrationError::Edited { service: service.to_owned(), version, name: migration.name, now, ran })
}

pub(crate) fn hash(sql: &str) -> String {
    hex::encode(Sha256::digest(sql.as_bytes()))
}
