//! Where the books are: in one data directory, or in a cluster's PostgreSQL and archives.

use std::path::{Path, PathBuf};

use anyhow::ensure;
use campaign::Plan;
use flowlog::{DirLock, DirLockError};
use quota_config::SqlRepository;
use reconcile::TableSource;
use reconcile::readers::tables::{self, Tables};
use storage::{Sql, SqlOptions};

/// Where a cluster keeps its books.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct ClusterSources {
    /// URL of the database with the tables of plans, ledger, awards and deliveries.
    pub postgres: String,
    /// Folders with the nodes' archives: one for each node, or one above them all.
    pub archives: Vec<PathBuf>,
}

/// Where each source of a settlement is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Sources {
    /// Folders of the flow archive; searched also in folders below.
    pub archives: Vec<PathBuf>,
    /// The delivery journal.
    pub delivery: TableSource,
    /// The ledger.
    pub ledger: TableSource,
    /// The repository of plans.
    pub plans: TableSource,
    /// The award store.
    pub awards: TableSource,
    /// What was acknowledged lay on several machines; `None`: not known.
    pub replicated: Option<bool>,
    /// The platform's data directory, if one process has everything in it.
    embedded: Option<PathBuf>,
}

impl Sources {
    /// Those of a data directory. One process, one disk: what it acknowledged lies on one machine.
    pub fn embedded(data: &Path) -> Sources {
        let table = |name: &str| TableSource::Sqlite(data.join(name));
        Sources {
            archives: vec![data.join("lottery").join("log")],
            delivery: table("delivery.db"),
            ledger: table("ledger.db"),
            plans: table("plans.db"),
            awards: table("flow.db"),
            replicated: Some(false),
            embedded: Some(data.to_owned()),
        }
    }

    /// Those of a cluster.
    ///
    /// # Errors
    /// When there is no archive: without one nothing can be settled.
    pub fn cluster(cluster: &ClusterSources) -> anyhow::Result<Sources> {
        ensure!(
            !cluster.archives.is_empty(),
            "a cluster's archives are not in the data directory; name them with --archive DIR, once for each node"
        );
        for folder in &cluster.archives {
            ensure!(folder.is_dir(), "{}: there is no such folder of an archive", folder.display());
        }
        let tables = TableSource::Postgres(cluster.postgres.clone());
        Ok(Sources {
            archives: cluster.archives.clone(),
            delivery: tables.clone(),
            ledger: tables.clone(),
            plans: tables.clone(),
            awards: tables,
            replicated: None,
            embedded: None,
        })
    }

    /// Whether the end of an archive may be moving. Of a cluster nobody here knows, so it may.
    ///
    /// # Errors
    /// When the lock of the data directory can't be looked at.
    pub fn may_be_running(&self) -> anyhow::Result<bool> {
        self.embedded.as_deref().map_or(Ok(true), is_running)
    }

    /// Every plan that was in force.
    ///
    /// # Errors
    /// When there is no repository of plans, or it can't be read.
    pub async fn plans(&self, now_ms: u64) -> anyhow::Result<Vec<Plan>> {
        match &self.plans {
            TableSource::Sqlite(path) => plans_in_file(path, now_ms).await,
            TableSource::Postgres(_) => {
                let mut tables = Tables::open(&self.plans).await?;
                let plans = tables::read_plans(&mut tables).await;
                tables.close().await;
                Ok(plans?)
            }
        }
    }
}

async fn plans_in_file(path: &Path, now_ms: u64) -> anyhow::Result<Vec<Plan>> {
    ensure!(
        path.is_file(),
        "{}: there is no such database; the data directory has never seen a campaign",
        path.display()
    );
    let sql = Sql::open(path, SqlOptions { readers_max: 1, ..SqlOptions::default() }).await?;
    let repository = SqlRepository::open(sql.clone(), now_ms).await?;
    let plans = reconcile::plans_in(&repository).await;
    sql.close().await;
    Ok(plans?)
}

/// Whether a platform is using the data directory now, so that the end of its log may be moving.
fn is_running(data: &Path) -> anyhow::Result<bool> {
    match DirLock::acquire(data) {
        // Let go at once: a settlement must not keep the platform from starting.
        Ok(_lock) => Ok(false),
        Err(DirLockError::Held { .. }) => Ok(true),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::{ClusterSources, Sources};
    use flowlog::DirLock;
    use reconcile::TableSource;

    #[tokio::test]
    async fn a_held_lock_means_running_and_missing_plans_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let sources = Sources::embedded(dir.path());
        assert!(!sources.may_be_running().unwrap());
        let held = DirLock::acquire(dir.path()).unwrap();
        assert!(sources.may_be_running().unwrap());
        drop(held);
        assert!(!sources.may_be_running().unwrap());
        let error = sources.plans(1).await.unwrap_err().to_string();
        assert!(error.contains("plans.db"), "{error}");
    }

    #[test]
    fn a_cluster_needs_its_archives() {
        let dir = tempfile::tempdir().unwrap();
        let mut cluster = ClusterSources { postgres: "postgres://u:secret@h/d".into(), archives: vec![] };
        assert!(Sources::cluster(&cluster).unwrap_err().to_string().contains("--archive"));
        cluster.archives = vec![dir.path().join("none")];
        assert!(Sources::cluster(&cluster).unwrap_err().to_string().contains("none"));
        cluster.archives = vec![dir.path().to_owned()];
        let sources = Sources::cluster(&cluster).unwrap();
        assert_eq!(sources.ledger, TableSource::Postgres(cluster.postgres));
        assert_eq!((sources.replicated, sources.may_be_running().unwrap()), (None, true));
        assert!(!format!("{sources:?}").contains("secret"));
    }
}
