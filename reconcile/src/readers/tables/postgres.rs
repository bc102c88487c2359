//! A connection to PostgreSQL in one read-only transaction, so that everything read over it is of one instant.
//!
//! It changes nothing, takes no lock that a writer waits for, and may be made to a standby. A server that is away or
//! refuses is an error at once: whoever started the audit starts it again.

use super::{TableError, TableSource};
use std::future::Future;
use std::str::FromStr as _;
use std::time::Duration;
use storage::SqlError;
use storage::sqlx::postgres::{PgConnectOptions, PgConnection, PgRow};
use storage::sqlx::{self, ConnectOptions as _, Connection as _};

/// How long a connection may take.
const CONNECT_MS: u64 = 10_000;
/// How long a page may take. A page is read along its key; longer means that nobody is there.
const PAGE_MS: u64 = 60_000;

/// The transaction.
pub(super) struct Snapshot {
    connection: PgConnection,
}

impl Snapshot {
    /// Connects and begins. The instant is that of the first query.
    pub async fn begin(url: &str) -> Result<Snapshot, TableError> {
        let options = PgConnectOptions::from_str(url).map_err(|error| TableError::Url(error.to_string()))?;
        let options = options.application_name("hongbao reconcile").disable_statement_logging();
        let place = TableSource::Postgres(url.to_owned()).to_string();
        let connecting = async {
            let mut connection = options.connect().await?;
            sqlx::raw_sql("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY")
                .execute(&mut connection)
                .await?;
            Ok(connection)
        };
        let connection = within("connecting", CONNECT_MS, connecting).await;
        let connection = connection.map_err(|error| TableError::Connect { place, error })?;
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
        let _ = within("closing", CONNECT_MS, self.connection.close()).await;
    }
}

async fn within<T>(
    what: &'static str,
    limit_ms: u64,
    work: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, SqlError> {
    match tokio::time::timeout(Duration::from_millis(limit_ms), work).await {
        Ok(done) => done.map_err(SqlError::Other),
        Err(_) => Err(SqlError::TimedOut { what, limit_ms }),
    }
}
