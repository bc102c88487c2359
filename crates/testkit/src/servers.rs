//! The real servers that tests run against, and how a test gets a part of one for itself.
//!
//! `deploy/local/services up` starts them and writes their addresses into a file; `make test` does so before it runs the
//! tests and sets `HONGBAO_TEST_SERVERS=1`. A test that needs a server asks here for its address. Without one it is
//! skipped with a printed line, except under that variable: then a missing server is a failure, so that nothing is
//! left out unnoticed.

use std::collections::BTreeMap;
use std::future::Future;
use std::hash::{BuildHasher as _, RandomState};
use std::path::PathBuf;

use crate::package;
use sqlx::postgres::PgConnection;
use sqlx::{Connection as _, Executor as _};

/// Set to 1 where every server must be there.
pub const MUST: &str = "HONGBAO_TEST_SERVERS";
/// The folder of the servers, where it is not `target/services`.
pub const FOLDER: &str = "HONGBAO_SERVICES_DIR";

/// Address of a PostgreSQL server whose user may make databases: `postgres://user:password@host:port/postgres`.
pub fn postgres() -> Option<String> {
    find("HONGBAO_TEST_POSTGRES")
}

/// Address of a Kafka broker: `host:port`.
pub fn kafka() -> Option<String> {
    find("HONGBAO_TEST_KAFKA")
}

/// Address of a Redis server: `redis://host:port`.
pub fn redis() -> Option<String> {
    find("HONGBAO_TEST_REDIS")
}

/// Address of a memcached server: `host:port`.
pub fn memcached() -> Option<String> {
    find("HONGBAO_TEST_MEMCACHED")
}

/// Sixteen hexadecimal digits that no other test has: for names of topics, keys and databases.
pub fn unique() -> String {
    // The standard library draws a new key for each of these from the system's randomness.
    format!("{:016x}", RandomState::new().hash_one(std::process::id()))
}

fn find(name: &str) -> Option<String> {
    let found = std::env::var(name).ok().filter(|value| !value.is_empty()).or_else(|| from_file(name));
    if found.is_none() {
        let how = "run 'deploy/local/services up' (make test does), or set it";
        assert!(std::env::var(MUST).as_deref() != Ok("1"), "{MUST}=1, but {name} is not known: {how}");
        eprintln!("skipped: {name} is not known; {how}");
    }
    found
}

fn from_file(name: &str) -> Option<String> {
    let text = match std::env::var(FOLDER) {
        Ok(folder) => std::fs::read_to_string(PathBuf::from(folder).join("env")).ok()?,
        // Packages lie one or two folders deep.
        Err(_) => {
            package().ancestors().find_map(|d| std::fs::read_to_string(d.join("target/services/env")).ok())?
        }
    };
    let lines: BTreeMap<&str, &str> = text.lines().filter_map(|line| line.split_once('=')).collect();
    lines.get(name).map(|value| (*value).to_owned())
}

/// An empty database of a test's own, dropped with this value.
#[derive(Debug)]
pub struct FreshDatabase {
    url: String,
    name: String,
    server: String,
}

impl FreshDatabase {
    /// Makes one; `None` where there is no server (see [`postgres`]).
    ///
    /// # Panics
    /// When the server is known and does not do it.
    pub fn new() -> Option<FreshDatabase> {
        let server = postgres()?;
        let name = format!("t_{}", unique());
        run(&server, format!("CREATE DATABASE {name}"));
        let (head, _) = server.rsplit_once('/').unwrap_or((&server, ""));
        Some(FreshDatabase { url: format!("{head}/{name}"), name, server: server.clone() })
    }

    /// Its address.
    pub fn url(&self) -> &str {
        &self.url
    }
}

impl Drop for FreshDatabase {
    fn drop(&mut self) {
        run(&self.server, format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name));
    }
}

/// Runs one statement from wherever this is called, a runtime's thread too.
fn run(server: &str, statement: String) {
    let server = server.to_owned();
    let work = async move {
        let mut connection =
            PgConnection::connect(&server).await.unwrap_or_else(|error| panic!("PostgreSQL: {error}"));
        let done = connection.execute(statement.as_str()).await;
        done.unwrap_or_else(|error| panic!("{statement}: {error}"));
        let _ = connection.close().await;
    };
    let done = std::thread::spawn(|| block_on(work)).join();
    if let Err(panic) = done
        && !std::thread::panicking()
    {
        std::panic::resume_unwind(panic);
    }
}

fn block_on(work: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.unwrap_or_else(|error| panic!("no runtime: {error}")).block_on(work);
}
