//! Opening a database and getting at it.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use runtime::Priority;
use sqlx::ConnectOptions as _;
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqlitePool, SqlitePoolOptions,
    SqliteSynchronous,
};
use sqlx::{Connection as _, Sqlite, Transaction};

use crate::SqlError;

/// A transaction that holds the write lock from its first statement on. Dropping it undoes it.
pub type WriteTransaction = Transaction<'static, Sqlite>;

/// Prepared statements that a connection keeps.
const STATEMENTS_KEPT: usize = 250;

/// How a database is opened. What durability needs is not an option: write-ahead log, `synchronous = FULL` and
/// foreign keys are always on.
#[derive(Debug, Clone)]
pub struct SqlOptions {
    /// Connections that read, at most.
    pub readers_max: u32,
    /// Page cache of each connection that reads, in KiB.
    pub page_cache_kib: u32,
    /// Page cache of the connection that writes, in KiB. Filled as it is needed; a page that is not in it is read anew for
    /// each row that changes it.
    pub writer_cache_kib: u32,
    /// How long a statement waits for a lock that another process holds.
    pub busy_timeout_ms: u64,
    /// How long a caller waits for a free connection.
    pub acquire_timeout_ms: u64,
    /// The time limit of [`Sql::within`].
    pub statement_timeout_ms: u64,
    /// Pages in the write-ahead log after which a commit moves them into the database file.
    pub checkpoint_pages: u32,
    /// How much the thread that writes lets others go first. For a database that is behind the answers, not on their way.
    pub writer_priority: Priority,
    /// How much the threads that read do.
    pub reader_priority: Priority,
}

impl SqlOptions {
    /// Options of a database that nobody waits for when it is written: as the default, and it is written when the processor
    /// has nothing else to do.
    pub fn behind() -> Self {
        Self { writer_priority: Priority::Idle, ..Self::default() }
    }

    /// As the default, with limits that no call reaches because the machine has other things to do: for whoever asks what
    /// comes of a call, and not when.
    pub fn patient() -> Self {
        Self {
            busy_timeout_ms: 60_000,
            acquire_timeout_ms: 120_000,
            statement_timeout_ms: 120_000,
            ..Self::default()
        }
    }
}

/// How long opening may take, in ms.
const OPEN_MS: u64 = 60_000;

impl Default for SqlOptions {
    fn default() -> Self {
        Self {
            readers_max: 4,
            page_cache_kib: 16 * 1024,
            writer_cache_kib: 64 * 1024,
            busy_timeout_ms: 2_000,
            acquire_timeout_ms: 5_000,
            statement_timeout_ms: 10_000,
            checkpoint_pages: 4_000,
            writer_priority: Priority::Normal,
            reader_priority: Priority::Normal,
        }
    }
}

/// Why a database could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The folder that it should lie in is missing.
    #[error("{}: the folder for the database does not exist; make it or correct the path", .0.display())]
    NoFolder(PathBuf),
    /// The file is there and can't be used as a database.
    #[error("{}: can't be opened as a database: {error}", path.display())]
    Refused {
        /// The file.
        path: PathBuf,
        /// What SQLite says.
        error: sqlx::Error,
    },
    /// A setting that durability rests on did not take, for instance on a file system without shared memory.
    #[error("{}: asked for {setting} = {wanted} but the database says {got}", path.display())]
    SettingIgnored {
        /// The file.
        path: PathBuf,
        /// The pragma.
        setting: &'static str,
        /// What was asked for.
        wanted: &'static str,
        /// What it is.
        got: String,
    },
}

/// An open database: one writer, several readers. Cloning gives another handle.
#[derive(Debug, Clone)]
pub struct Sql {
    writer: SqlitePool,
    readers: SqlitePool,
    options: SqlOptions,
    path: PathBuf,
}

impl Sql {
    /// Opens the database at `path` and makes the file if it is missing (not its folder).
    ///
    /// # Errors
    /// When the folder is missing, the file is no database, or a setting for durability did not take.
    pub async fn open(path: &Path, options: SqlOptions) -> Result<Self, OpenError> {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        if let Some(folder) = folder.filter(|folder| !folder.is_dir()) {
            return Err(OpenError::NoFolder(folder.to_owned()));
        }
        let refused = |error| OpenError::Refused { path: path.to_owned(), error };
        let writing = connect_options(path, &options, options.writer_cache_kib);
        let reading = connect_options(path, &options, options.page_cache_kib)
            .create_if_missing(false)
            .pragma("query_only", "ON");
        let writer = pool_options(&options, 1, options.writer_priority).connect_lazy_with(writing);
        begin_with(&writer, &options).await.map_err(refused)?;
        // Connected later, one by one: the writer has made the file by then.
        let readers = pool_options(&options, options.readers_max.max(1), options.reader_priority)
            .connect_lazy_with(reading);
        let sql = Self { writer, readers, options, path: path.to_owned() };
        sql.verify("journal_mode", "wal", "wal").await?;
        sql.verify("synchronous", "full", "2").await?;
        sql.verify("foreign_keys", "on", "1").await?;
        Ok(sql)
    }

    /// Read-only connections. A read sees what was committed before it began and never waits for the writer.
    pub fn readers(&self) -> &SqlitePool {
        &self.readers
    }

    /// Begins a transaction that writes. Waits its turn behind others of this process; holds the write lock
    /// at once, so that it can't fail halfway because another process wrote meanwhile.
    ///
    /// # Errors
    /// `Busy` when its turn did not come in time.
    pub async fn write(&self) -> Result<WriteTransaction, SqlError> {
        self.writer.begin_with("BEGIN IMMEDIATE").await.map_err(begun)
    }

    /// Runs one operation under the statement time limit.
    ///
    /// # Errors
    /// What the operation says, or `TimedOut`; after that a write may or may not have been done.
    pub async fn within<T, E: Into<SqlError>>(
        &self,
        what: &'static str,
        operation: impl Future<Output = Result<T, E>>,
    ) -> Result<T, SqlError> {
        let limit_ms = self.options.statement_timeout_ms;
        match tokio::time::timeout(Duration::from_millis(limit_ms), operation).await {
            Ok(result) => result.map_err(Into::into),
            Err(_) => Err(SqlError::TimedOut { what, limit_ms }),
        }
    }

    /// How many connections are open now.
    pub fn connections(&self) -> u32 {
        self.writer.size() + self.readers.size()
    }

    /// The options that it was opened with.
    pub fn options(&self) -> &SqlOptions {
        &self.options
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Closes all connections after the statements under way; the last one moves the write-ahead log into the
    /// database file. Not needed for durability.
    pub async fn close(&self) {
        self.readers.close().await;
        self.writer.close().await;
    }

    async fn verify(
        &self,
        setting: &'static str,
        wanted: &'static str,
        answer: &str,
    ) -> Result<(), OpenError> {
        let got = self
            .pragma(setting)
            .await
            .map_err(|error| OpenError::Refused { path: self.path.clone(), error })?;
        if got.eq_ignore_ascii_case(answer) {
            return Ok(());
        }
        Err(OpenError::SettingIgnored { path: self.path.clone(), setting, wanted, got })
    }

    /// What a pragma of the writer says, as text.
    async fn pragma(&self, setting: &'static str) -> Result<String, sqlx::Error> {
        // The table-valued form: its column has a known place, and the pragma's name is a value, not text to paste.
        let (got,): (String,) =
            sqlx::query_as(&format!("SELECT CAST({setting} AS TEXT) FROM pragma_{setting}"))
                .fetch_one(&self.writer)
                .await?;
        Ok(got)
    }
}

/// Makes the first connection. Making a database, or one's log, takes several syncs, and a disk that is busy with others' data
/// long over each: nobody waits for this one yet, so that it may take longer than a caller's turn.
async fn begin_with(writer: &SqlitePool, options: &SqlOptions) -> Result<(), sqlx::Error> {
    let tries = OPEN_MS / options.acquire_timeout_ms.max(1) + 1;
    for _ in 1..tries {
        match writer.acquire().await {
            Err(sqlx::Error::PoolTimedOut) => {}
            other => return other.map(drop),
        }
    }
    writer.acquire().await.map(drop)
}

fn begun(error: sqlx::Error) -> SqlError {
    match SqlError::from(error) {
        SqlError::Busy { .. } => SqlError::Busy { what: "beginning a write" },
        other => other,
    }
}

fn connect_options(path: &Path, options: &SqlOptions, cache_kib: u32) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .foreign_keys(true)
        .busy_timeout(Duration::from_millis(options.busy_timeout_ms))
        // A negative size is in KiB, a positive one in pages.
        .pragma("cache_size", format!("-{cache_kib}"))
        .pragma("wal_autocheckpoint", options.checkpoint_pages.to_string())
        // After a burst the log file shrinks again.
        .pragma("journal_size_limit", (64 * 1024 * 1024).to_string())
        .pragma("temp_store", "MEMORY")
        // A statement over rows has a text for each power of two.
        .statement_cache_capacity(STATEMENTS_KEPT)
        // A line for each statement would cost more than many statements do.
        .disable_statement_logging()
}

/// Lowers the priority of the thread that runs the connection's statements. The thread is the driver's own and reachable
/// only from within a statement: SQLite calls a progress handler on it.
async fn lower_thread(connection: &mut SqliteConnection, priority: Priority) -> Result<(), sqlx::Error> {
    if priority == Priority::Normal {
        return Ok(());
    }
    let lowered = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&lowered);
    connection.lock_handle().await?.set_progress_handler(1, move || {
        if !flag.swap(true, Ordering::Relaxed) && !priority.set() {
            tracing::warn!(?priority, "the system does not let a thread lower its priority");
        }
        true
    });
    // Some steps of any statement: the handler is called between two of them.
    sqlx::query("SELECT COUNT(*) FROM sqlite_master").execute(&mut *connection).await?;
    connection.lock_handle().await?.remove_progress_handler();
    if !lowered.load(Ordering::Relaxed) {
        tracing::warn!(?priority, "SQLite did not call the handler that lowers its thread's priority");
    }
    Ok(())
}

fn pool_options(options: &SqlOptions, connections_max: u32, priority: Priority) -> SqlitePoolOptions {
    SqlitePoolOptions::new()
        .after_connect(move |connection, _| Box::pin(lower_thread(connection, priority)))
        .max_connections(connections_max)
        .acquire_timeout(Duration::from_millis(options.acquire_timeout_ms))
        // Connections to a file don't go stale, and a new one starts with a cold cache.
        .idle_timeout(None)
        .max_lifetime(None)
        .test_before_acquire(false)
        // SQLite undoes a transaction itself when the disk is full, and the driver, whose own undoing then fails, goes on
        // counting it as open: such a connection begins nothing any more, and is replaced.
        .before_acquire(|connection, _| Box::pin(async move { Ok(!connection.is_in_transaction()) }))
}
