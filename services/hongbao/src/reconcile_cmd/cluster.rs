//! The books of a cluster, found by the configuration that its processes are run with.
//!
//! Ledger, plans, awards and the delivery journal are in its PostgreSQL. The flow archive is copied from the lanes, byte for
//! byte, into the folder of work, where the next settlement goes on with it, and once more when the journal has been read:
//! so it may be done while the platform runs. Whoever keeps an archive already
//! (`hongbao admin archive`) names it with `--archive`, and Kafka is left alone. A server that is away is an error here, with
//! what was tried: whoever settles is waiting for the answer.

use super::{ClusterSources, ReconcileArgs, Sources};
use crate::cluster_cmd::copy_lanes;
use crate::config::{Config, Mistake};
use crate::run::servers;
use anyhow::Context as _;
use std::path::{Path, PathBuf};

/// The folder that has the keys, or everything.
///
/// # Errors
/// When there is none.
pub(super) fn data_of(args: &ReconcileArgs, config: &Config) -> anyhow::Result<PathBuf> {
    let (data, hint) = match (&args.data, config.cluster.name.is_empty()) {
        (Some(data), _) => (data.clone(), "--data names it"),
        (None, true) => ("data".into(), "name the one that `hongbao up` was given, with --data"),
        (None, false) => {
            config.cluster.check(config.node.id, &[])?;
            (config.cluster.keys.clone(), "cluster.keys names the folder of the installation's keys")
        }
    };
    if data.is_dir() {
        return Ok(data);
    }
    Err(Mistake(format!("{}: there is no such data directory; {hint}", data.display())).into())
}

/// Where lanes are copied to.
pub(super) fn archive_in(work: &Path) -> PathBuf {
    work.join("archive")
}

/// Where the books are; copies the lanes.
///
/// # Errors
/// When a server is away or refuses, or a lane is not whole.
pub(super) async fn sources(args: &ReconcileArgs, config: &Config, work: &Path) -> anyhow::Result<Sources> {
    config.cluster.check(config.node.id, &[])?;
    let postgres = args.postgres.clone().unwrap_or_else(|| config.cluster.postgres.clone());
    let mut archives = args.archive.clone();
    if archives.is_empty() {
        // Asked first: it answers at once, and without it the copy would be for nothing.
        servers::postgres_now(config, &postgres).await?.close().await;
        let archive = archive_in(work);
        copy_lanes(config, &archive, &mut |_| {}).await.context("copying the lanes")?;
        archives.push(archive);
    }
    let mut sources = Sources::cluster(&ClusterSources { postgres, archives })?;
    // Without the switch no process starts on servers that keep one copy.
    sources.replicated = Some(!config.cluster.development);
    Ok(sources)
}
