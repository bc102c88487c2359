//! Where the servers are, and a database of one's own on them.

use anyhow::{Context, Result};
use runtime::{Clock, SystemClock};
use std::collections::BTreeMap;
use std::path::PathBuf;
use storage::pg::{Pg, PgOptions};

/// The file that `deploy/local/services up` writes, unless HONGBAO_SERVICES_DIR names another folder.
const ENV_FILE: &str = "target/services/env";

/// Addresses of the servers.
pub struct Servers {
    env: BTreeMap<String, String>,
}

impl Servers {
    /// The servers of this machine; none when they were not started.
    ///
    /// # Errors
    /// When the file can't be read.
    pub fn find() -> Result<Option<Servers>> {
        let dir = std::env::var_os("HONGBAO_SERVICES_DIR").map(PathBuf::from);
        let path = dir.map_or_else(|| PathBuf::from(ENV_FILE), |dir| dir.join("env"));
        let Ok(text) = std::fs::read_to_string(&path) else { return Ok(None) };
        let pair = |line: &str| line.split_once('=').map(|(key, value)| (key.to_owned(), value.to_owned()));
        Ok(Some(Servers { env: text.lines().filter_map(pair).collect() }))
    }

    fn get(&self, key: &str) -> Result<&str> {
        self.env.get(key).map(String::as_str).with_context(|| format!("the servers' file does not say {key}"))
    }

    /// Kafka's address.
    ///
    /// # Errors
    /// When the file does not say it.
    pub fn kafka(&self) -> Result<&str> {
        self.get("HONGBAO_TEST_KAFKA")
    }

    /// Makes a database; it goes with the value.
    ///
    /// # Errors
    /// When PostgreSQL refuses.
    pub fn database(&self) -> Result<Database> {
        let admin = self.get("HONGBAO_TEST_POSTGRES")?.to_owned();
        // Names of topics begin with it too: letters and digits.
        let name = format!("bench{}", SystemClock.now_ms());
        statement(&admin, &format!("CREATE DATABASE {name}"))?;
        let (server, _) = admin.rsplit_once('/').context("the address of PostgreSQL names no database")?;
        Ok(Database { url: format!("{server}/{name}"), name, admin })
    }
}

/// A database that is dropped with this value.
pub struct Database {
    /// Its address.
    pub url: String,
    /// Its name.
    pub name: String,
    admin: String,
}

impl Drop for Database {
    fn drop(&mut self) {
        // What is left of it when that fails takes room and nothing else.
        let _ = statement(&self.admin, &format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name));
    }
}

fn statement(url: &str, text: &str) -> Result<()> {
    let tokio = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    tokio.block_on(async {
        let pg = Pg::open(PgOptions::development(url)).await?;
        let mut connection = pg.connection().await?;
        storage::sqlx::query(text).execute(&mut *connection).await.with_context(|| text.to_owned())?;
        Ok(())
    })
}
