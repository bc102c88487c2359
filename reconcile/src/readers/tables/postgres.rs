//! A connection to PostgreSQL in one read-only transaction, so that everything read over it is of one instant.
//!
//! It is made to the server that takes writes: a standby may be behind it, and a ledger that is older than the archive would
//! look like an award too many. It changes nothing and takes no lock that a writer waits for. A server that is away or
//! refuses is an error at once: whoever started the audit starts it again.

use super::TableError;
use std::future::Future;
use std::time::Duration;
use storage::SqlError;
use storage::pg::{Pg, PgOptions};
use storage::sqlx::postgres::{PgConnection, PgRow};
use storage::sqlx::{self, Connection as _};

/// How long a page may take. A page is read along its key; longer means that nobody is there.
const PAGE_MS: u64 = 60_000;
/// How long saying goodbye may take.
const CLOSE_MS: u64 = 2_000;

/// The transaction.
pub(super) struct Snapshot {
    connection: PgConnection,
}

impl Snapshot {
    /// Connects and begins. The instant is that of the first query.
    pub async fn begin(place: &str, url: &str) -> Result<Snapshot, TableError> {
        let options = PgOptions {
            application: "hongbao reconcile".to_owned(),
            connections_max: 1,
            // How many copies there are is for those to check who write.
            ..PgOptions::development(url)
        };
        let pg = Pg::open(options).await?;
        let failed = |error| TableError::Query { place: place.to_owned(), error };
        let mut connection = pg.connection().await.map_err(failed)?.detach();
        pg.close().await;
        let begin = sqlx::raw_sql("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY");
        within("beginning to read", PAGE_MS, begin.execute(&mut connection)).await.map_err(failed)?;
        Ok(Snapshot { connection })
    }

    /// The rows of a query with whole numbers as parameters.
    pub async fn rows(
        &mut self,
        what: &'static str,
        query: &str,
        parameters: &[i64],
    ) -> Result<Vec<PgRow>, SqlError> {
        let query = parameters.iter().fold(sqlx::query(query), |query, value| query.bind(*value));
        within(what, PAGE_MS, query.fetch_all(&mut self.connection)).await
    }

    /// Lets go. The transaction ends with the connection, however that ends.
    pub async fn end(self) {
        let _ = within("closing", CLOSE_MS, self.connection.close()).await;
    }
}

async fn within<T>(
    what: &'static str,
    limit_ms: u64,
    work: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, SqlError> {
    match tokio::time::timeout(Duration::from_millis(limit_ms), work).await {
        Ok(done) => done.map_err(SqlError::from),
        Err(_) => Err(SqlError::TimedOut { what, limit_ms }),
    }
}
