//! Connections to databases: opening, pools, time-outs, migrations, health. No meaning: what a table says is
//! known by the service that owns it.
//!
//! Embedded, that is SQLite: [`Sql`] has one connection that writes, because SQLite has one writer at a time and
//! waiting in a queue of ours is fair and bounded, and a small pool of read-only connections that never wait for
//! it (write-ahead log). A commit that returned is on disk. [`migrate`] brings a service's tables up to date and
//! refuses a database that a newer program has written.
//!
//! In a cluster it is PostgreSQL: [`pg`] has the pool, the transactions and the migrations for it.

pub mod batch;
mod database;
mod error;
mod health;
mod migrate;
pub mod pg;
pub mod redis;
mod rows;
mod sql;
mod stored;

pub use batch::{Batch, BatchFull};
pub use database::{AnyRow, Arg, Database, DatabaseWrite};
pub use error::SqlError;
pub use health::Health;
pub use migrate::{Migrated, Migration, MigrationError, migrate};
pub use rows::{ROWS_MAX, RowQuery, RowStatement};
pub use sql::{OpenError, Sql, SqlOptions, WriteTransaction};
pub use stored::{StoredRow, impossible};

/// The library underneath, so that services write their queries with the same version.
pub use sqlx;
