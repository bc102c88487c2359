//! Versions in PostgreSQL, for a platform on many machines: the statements of `repository::sql` over another [`engine`].

mod engine;
#[allow(clippy::duplicate_mod)] // the same statements, compiled for this engine's types
#[path = "../sql/port.rs"]
mod port;
#[allow(clippy::duplicate_mod)]
#[path = "../sql/proposals.rs"]
mod proposals;
mod schema;
#[allow(clippy::duplicate_mod)]
#[path = "../sql/trail.rs"]
mod trail;
#[allow(clippy::duplicate_mod)]
#[path = "../sql/versions.rs"]
mod versions;

use storage::MigrationError;
use storage::pg::{Pg, migrate};

use PgRepository as Repository;

/// A repository in PostgreSQL.
pub struct PgRepository {
    store: Pg,
}

impl PgRepository {
    /// The repository in an open database; makes or updates its tables. `now_ms` goes into the record of migrations.
    ///
    /// # Errors
    /// When the tables can't be made, or a newer program has written them.
    pub async fn open(pg: Pg, now_ms: u64) -> Result<PgRepository, MigrationError> {
        migrate(&pg, "quota-config", schema::MIGRATIONS, now_ms).await?;
        Ok(PgRepository { store: pg })
    }
}
