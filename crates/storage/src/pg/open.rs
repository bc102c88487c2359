//! A pool of connections to the server that takes writes.

use std::fmt;
use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgConnection, PgPool, PgPoolOptions};
use sqlx::{ConnectOptions as _, Connection as _, Executor as _, Postgres, Row as _};

use super::address::{self, Target};
use super::error::sort;
use super::probe::{self, Facts};
use super::transaction::message;
use super::{Answers, CommitError, PgOpenError, PgTransaction};
use crate::SqlError;

/// A connection that was idle for longer is asked whether it is still there before it is used.
const IDLE_ASK_MS: u64 = 500;
/// Who waits longer for a connection looks whether another server takes writes now.
const LOOK_AFTER_MS: u64 = 300;
/// Between two such looks while all connections are in use, or are being made.
const LOOK_PAUSE_MS: u64 = 500;
/// Between two tries of [`Pg::wait_for`], at first and at most.
const WAIT_MIN_MS: u64 = 100;
const WAIT_MAX_MS: u64 = 5_000;

/// How a database is opened.
#[derive(Clone)]
pub struct PgOptions {
    /// `postgres://user:password@host:port/database`; several `host:port` may stand there, with commas between.
    pub url: String,
    /// What the server shows beside the connections.
    pub application: String,
    /// Connections, at most.
    pub connections_max: u32,
    /// How long one server may take to answer a connection's beginning.
    pub connect_timeout_ms: u64,
    /// How long a caller waits for a free connection, a search for another server included.
    pub acquire_timeout_ms: u64,
    /// The time limit of [`Pg::within`] and of a commit.
    pub statement_timeout_ms: u64,
    /// How long a statement waits for a row that another transaction holds; the server keeps watch.
    pub lock_timeout_ms: u64,
    /// Take a server without a synchronous standby. What it loses, players were told; reports say 'not replicated'.
    pub development: bool,
    /// The schema that names without one stand for, small letters and underscores; [`migrate`](super::migrate) makes
    /// it. `None`: the server's choice. A service has one of its own where its tables have names that others use too.
    pub schema: Option<&'static str>,
}

impl PgOptions {
    /// The usual limits for this address.
    pub fn new(url: impl Into<String>) -> PgOptions {
        PgOptions {
            url: url.into(),
            application: "hongbao".to_owned(),
            connections_max: 8,
            connect_timeout_ms: 2_000,
            acquire_timeout_ms: 5_000,
            statement_timeout_ms: 10_000,
            lock_timeout_ms: 5_000,
            development: false,
            schema: None,
        }
    }

    /// As [`PgOptions::new`], and with a server that keeps one copy only.
    pub fn development(url: impl Into<String>) -> PgOptions {
        PgOptions { development: true, ..PgOptions::new(url) }
    }

    /// As [`PgOptions::development`], with limits that no call reaches because the machine has other things to do: for whoever
    /// asks what comes of a call, and not when.
    pub fn patient(url: impl Into<String>) -> PgOptions {
        PgOptions {
            connect_timeout_ms: 60_000,
            acquire_timeout_ms: 120_000,
            statement_timeout_ms: 120_000,
            lock_timeout_ms: 60_000,
            ..PgOptions::development(url)
        }
    }
}

impl fmt::Debug for PgOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The address holds a password.
        f.debug_struct("PgOptions")
            .field("connections_max", &self.connections_max)
            .field("statement_timeout_ms", &self.statement_timeout_ms)
            .field("development", &self.development)
            .field("schema", &self.schema)
            .finish_non_exhaustive()
    }
}

/// What a health check found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PgHealth {
    /// Connections open.
    pub connections: u32,
    /// The server that takes writes.
    pub at: String,
    /// Its synchronous standbys now. None: commits have one copy, which calls for an alarm unless it is meant so.
    pub synchronous_standbys: u32,
}

/// An open database. Cloning gives another handle to the same connections.
#[derive(Clone)]
pub struct Pg(Arc<Inner>);

struct Inner {
    options: PgOptions,
    targets: Vec<Target>,
    current: RwLock<Current>,
    /// Held by whoever looks for another server; when that was last.
    looking: tokio::sync::Mutex<Option<tokio::time::Instant>>,
}

#[derive(Clone)]
struct Current {
    pool: PgPool,
    facts: Facts,
    /// Rises with each change of server.
    turn: u64,
}

impl fmt::Debug for Pg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pg").field("at", &self.at()).field("options", &self.0.options).finish()
    }
}

impl Pg {
    /// Opens the database: finds the server that takes writes and checks it.
    ///
    /// # Errors
    /// Says which server, what was tried and what would be right; see [`PgOpenError`].
    pub async fn open(options: PgOptions) -> Result<Pg, PgOpenError> {
        let targets = address::parse(&options.url)?;
        let facts = probe::find_primary(&targets, options.connect_timeout_ms, 0).await?;
        let target = &targets[facts.index];
        probe::check(&facts, target, options.development, options.connect_timeout_ms).await?;
        let pool = pool(target, &options);
        let current = RwLock::new(Current { pool, facts, turn: 0 });
        Ok(Pg(Arc::new(Inner { options, targets, current, looking: tokio::sync::Mutex::default() })))
    }

    /// Opens the database, and keeps trying while no server answers or none takes writes. `tell` hears each failure,
    /// with the time until the next try.
    ///
    /// # Errors
    /// What waiting does not put right.
    pub async fn wait_for(
        options: PgOptions,
        mut tell: impl FnMut(&PgOpenError, Duration),
    ) -> Result<Pg, PgOpenError> {
        let mut pause = Duration::from_millis(WAIT_MIN_MS);
        loop {
            match Pg::open(options.clone()).await {
                Err(error) if error.is_temporary() => tell(&error, pause),
                done => return done,
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(WAIT_MAX_MS));
        }
    }

    /// A connection outside of any transaction: each statement is its own.
    ///
    /// # Errors
    /// `Busy` when all connections stayed in use, `Unreachable` when there is no server.
    pub async fn connection(&self) -> Result<PoolConnection<Postgres>, SqlError> {
        let limit = Duration::from_millis(self.0.options.acquire_timeout_ms);
        match tokio::time::timeout(limit, self.search()).await {
            Ok(done) => done,
            Err(_) => Err(self.none_came(sqlx::Error::PoolTimedOut)),
        }
    }

    /// Begins a transaction (READ COMMITTED).
    ///
    /// # Errors
    /// As [`Pg::connection`]; nothing was done.
    pub async fn begin(&self) -> Result<PgTransaction, SqlError> {
        // A connection may have died a moment ago; there are no more of these than connections.
        let mut left = self.0.options.connections_max;
        loop {
            let mut transaction = self.begin_with_first().await?;
            match transaction.begin().await {
                Ok(()) => return Ok(transaction),
                Err(error) if left > 0 && matches!(error, sqlx::Error::Io(_)) => left -= 1,
                Err(error) => return Err(self.placed(error)),
            }
        }
    }

    /// A transaction whose BEGIN goes out with its first message ([`PgTransaction::run`]): one wait less.
    ///
    /// # Errors
    /// As [`Pg::connection`].
    pub async fn begin_with_first(&self) -> Result<PgTransaction, SqlError> {
        Ok(PgTransaction::unsent(self.connection().await?))
    }

    /// Sends statements that only read, as one message outside of a transaction of ours: rows come back for each statement,
    /// see [`PgTransaction::run`] for what may stand in the text.
    ///
    /// # Errors
    /// As [`Pg::connection`], and what the first statement that failed says.
    pub async fn ask(&self, text: &str) -> Result<Answers, SqlError> {
        let mut connection = self.connection().await?;
        Ok(message(&mut connection, text).await?)
    }

    /// Commits.
    ///
    /// # Errors
    /// `NotDone`: nothing was done. `Unknown`: no answer came in time, or the connection broke.
    pub async fn commit(&self, transaction: PgTransaction) -> Result<(), CommitError> {
        self.run_and_commit(transaction, "").await.map(|_| ())
    }

    /// Sends these last statements together with the commit, as one message, see [`PgTransaction::run`].
    ///
    /// # Errors
    /// As [`Pg::commit`].
    pub async fn run_and_commit(
        &self,
        transaction: PgTransaction,
        text: &str,
    ) -> Result<Answers, CommitError> {
        let limit_ms = self.0.options.statement_timeout_ms;
        let working = transaction.run_and_commit(text);
        match tokio::time::timeout(Duration::from_millis(limit_ms), working).await {
            Ok(done) => done,
            Err(_) => Err(CommitError::Unknown(SqlError::TimedOut { what: "commit", limit_ms })),
        }
    }

    /// Runs one operation under the statement time limit.
    ///
    /// # Errors
    /// What the operation says, or `TimedOut`; of a write outside of a transaction it is not known then whether it was done.
    pub async fn within<T, E: Into<SqlError>>(
        &self,
        what: &'static str,
        operation: impl Future<Output = Result<T, E>>,
    ) -> Result<T, SqlError> {
        let limit_ms = self.0.options.statement_timeout_ms;
        match tokio::time::timeout(Duration::from_millis(limit_ms), operation).await {
            Ok(result) => result.map_err(Into::into),
            Err(_) => Err(SqlError::TimedOut { what, limit_ms }),
        }
    }

    /// The options that it was opened with.
    pub fn options(&self) -> &PgOptions {
        &self.0.options
    }

    /// Host and port of the server in use.
    pub fn at(&self) -> String {
        self.0.targets[self.now().facts.index].at.clone()
    }

    /// Asks the server whether it answers, and what it is replicated to.
    ///
    /// # Errors
    /// Whatever keeps it from answering.
    pub async fn check(&self) -> Result<PgHealth, SqlError> {
        let current = self.now();
        let synchronous_standbys = self
            .within("health check", async {
                let mut connection = self.connection().await?;
                match current.facts.replicates_itself {
                    true => connection.ping().await.map(|()| 0),
                    false => probe::synchronous_standbys(&mut connection).await,
                }
                .map_err(SqlError::from)
            })
            .await?;
        Ok(PgHealth { connections: self.now().pool.size(), at: self.at(), synchronous_standbys })
    }

    /// Closes all connections after the statements under way.
    pub async fn close(&self) {
        self.now().pool.close().await;
    }

    fn now(&self) -> Current {
        self.0.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn search(&self) -> Result<PoolConnection<Postgres>, SqlError> {
        loop {
            let current = self.now();
            let mut acquiring = pin!(current.pool.acquire());
            loop {
                let pause = Duration::from_millis(LOOK_AFTER_MS);
                let error = match tokio::time::timeout(pause, &mut acquiring).await {
                    Ok(Ok(connection)) => return Ok(connection),
                    Ok(Err(error)) => Some(error),
                    Err(_) => None,
                };
                // Connections that are all in use are no sign of a server that has gone, but those that are being made to
                // one that has look the same from here: then somebody looks now and then.
                let busy = error.is_none() && current.pool.size() >= self.0.options.connections_max;
                if self.look_around(current.turn, busy).await {
                    break;
                }
                if let Some(error) = error {
                    return Err(self.none_came(error));
                }
            }
        }
    }

    /// Whether another server is in use than at `turn`, looking for one if it is this caller's turn.
    async fn look_around(&self, turn: u64, busy: bool) -> bool {
        if self.0.targets.len() == 1 {
            return false;
        }
        let mut looked = match busy {
            // One of many who wait is enough.
            true => match self.0.looking.try_lock() {
                Ok(looked) => looked,
                Err(_) => return self.now().turn != turn,
            },
            false => self.0.looking.lock().await,
        };
        let current = self.now();
        if current.turn != turn {
            return true;
        }
        let (now, pause) = (tokio::time::Instant::now(), Duration::from_millis(LOOK_PAUSE_MS));
        if busy && looked.is_some_and(|at| now < at + pause) {
            return false;
        }
        *looked = Some(now);
        let options = &self.0.options;
        let found =
            probe::find_primary(&self.0.targets, options.connect_timeout_ms, current.facts.timeline).await;
        let Ok(facts) = found else { return false };
        if facts.index == current.facts.index {
            return false;
        }
        let target = &self.0.targets[facts.index];
        tracing::warn!(from = self.at(), to = target.at, "another server takes writes now");
        let new = Current { pool: pool(target, options), facts, turn: turn + 1 };
        *self.0.current.write().unwrap_or_else(PoisonError::into_inner) = new;
        // Marks it closed at once; connections in use are closed when they come back.
        drop(current.pool.close());
        true
    }

    /// Why no connection came.
    fn none_came(&self, error: sqlx::Error) -> SqlError {
        let current = self.now();
        let full = current.pool.size() >= self.0.options.connections_max;
        match error {
            sqlx::Error::PoolTimedOut if full && current.pool.num_idle() == 0 => {
                SqlError::Busy { what: "waiting for a connection" }
            }
            error => SqlError::Unreachable { at: self.at(), error },
        }
    }

    /// Of a statement that ran before anything was to be kept.
    fn placed(&self, error: sqlx::Error) -> SqlError {
        match sort(error) {
            SqlError::Other(error @ sqlx::Error::Io(_)) | SqlError::Lost(error) => {
                SqlError::Unreachable { at: self.at(), error }
            }
            other => other,
        }
    }
}

fn pool(target: &Target, options: &PgOptions) -> PgPool {
    let settings = settings(options);
    let connect = target.connect.clone().application_name(&options.application).disable_statement_logging();
    PgPoolOptions::new()
        .max_connections(options.connections_max.max(1))
        .acquire_timeout(Duration::from_millis(options.acquire_timeout_ms))
        .test_before_acquire(false)
        .before_acquire(|connection, meta| {
            Box::pin(async move {
                Ok(meta.idle_for < Duration::from_millis(IDLE_ASK_MS) || connection.ping().await.is_ok())
            })
        })
        .after_connect(move |connection, _| {
            let settings = settings.clone();
            Box::pin(async move { prepare(connection, &settings).await })
        })
        .connect_lazy_with(connect)
}

/// What each connection is set to. Statements are short and there are many of them: what the planner believes that one costs
/// grows with the parts of the tables that it names, and by that guess the server would compile it to machine code for 20 s
/// before it runs for a millisecond (seen with 40 users' rows sought in four tables of 16 parts). Servers that speak the same
/// protocol may know no such setting.
fn settings(options: &PgOptions) -> String {
    let path = options.schema.map(|schema| format!("SET search_path = {schema}; ")).unwrap_or_default();
    format!(
        "{path}SELECT CASE WHEN current_setting('jit', true) IS NULL THEN '' ELSE set_config('jit', 'off', false) END; \
         SET lock_timeout = {lock}; SET idle_in_transaction_session_timeout = {idle}; \
         SET default_transaction_isolation = 'read committed'; \
         SELECT CASE WHEN current_setting('synchronous_commit') IN ('off', 'local', 'remote_write') \
         THEN set_config('synchronous_commit', 'on', false) ELSE '' END; \
         SELECT CASE WHEN pg_is_in_recovery() THEN 1 ELSE 0 END AS standby",
        lock = options.lock_timeout_ms,
        // A client that is alive gives up before.
        idle = options.statement_timeout_ms.saturating_mul(2),
    )
}

async fn prepare(connection: &mut PgConnection, settings: &str) -> Result<(), sqlx::Error> {
    let rows = connection.fetch_all(settings).await?;
    let standby = rows.last().map(|row| row.try_get::<i32, _>("standby")).transpose()?;
    if standby == Some(0) {
        return Ok(());
    }
    Err(sqlx::Error::Configuration("the server is a standby and takes no writes".into()))
}
