//! What a settlement is made from: where a data directory has each source.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use campaign::{MacKey, Plan};
use flowlog::{DirLock, DirLockError};
use quota_config::SqlRepository;
use reconcile::{Inputs, Seeds, Settlement, StatementFile, Terms};
use storage::{Sql, SqlOptions};

use crate::keys::Keys;

/// A settlement to be made of a data directory.
#[derive(Debug)]
pub(crate) struct Job {
    data: PathBuf,
    work: PathBuf,
    /// Vendors' statements.
    pub statements: Vec<StatementFile>,
    /// What players were told.
    pub told: Option<PathBuf>,
    /// Entries and units of each round's last seconds.
    pub tails: Option<PathBuf>,
    /// Folder for breaks.csv and redo.csv.
    pub lists: Option<PathBuf>,
    /// Now, patience, and who answers for what is open.
    pub terms: Terms,
}

impl Job {
    /// A settlement of `data` as of `now_ms`, which sorts in `work`, with the usual patience.
    pub fn new(data: &Path, now_ms: u64, work: &Path) -> Job {
        Job {
            data: data.to_owned(),
            work: work.join("runs"),
            statements: Vec::new(),
            told: None,
            tails: None,
            lists: None,
            terms: Terms::at(now_ms),
        }
    }

    /// Makes it. Blocks the thread while it reads and sorts.
    ///
    /// # Errors
    /// When a source can't be read or is not whole.
    pub async fn settle(&self, plans: Vec<Plan>) -> anyhow::Result<Settlement> {
        let keys = Keys::open(&self.data).context("the keys of the data directory")?;
        let mut inputs = Inputs::new(plans, &self.work, self.terms.clone());
        inputs.archives = vec![archive(&self.data)];
        inputs.live = is_running(&self.data)?;
        inputs.delivery_db = Some(self.data.join("delivery.db"));
        inputs.ledger_db = Some(ledger(&self.data));
        inputs.statements.clone_from(&self.statements);
        inputs.seeds = Seeds { published: Vec::new(), keys: keys.seeds.clone() };
        inputs.mac_keys =
            secrets(&self.data, "mac")?.into_iter().map(|(id, key)| MacKey { id, key }).collect();
        inputs.told.clone_from(&self.told);
        inputs.tails.clone_from(&self.tails);
        // One process, one disk: what it acknowledged lies on one machine.
        inputs.replicated = Some(false);
        inputs.out_dir.clone_from(&self.lists);
        Ok(reconcile::run(&inputs).await?)
    }
}

/// All secrets of a kind (`mac`, `token`), with their ids, oldest first: an auditor must know the old ones too.
///
/// # Errors
/// When the file of keys can't be read or is none.
pub(crate) fn secrets(data: &Path, kind: &str) -> anyhow::Result<Vec<(u32, [u8; 32])>> {
    #[derive(serde::Deserialize)]
    struct Secret {
        id: u32,
        key: String,
    }
    let path = data.join("keys").join("keys.toml");
    let text = std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    let mut all: toml::Table = text.parse().with_context(|| format!("in {}", path.display()))?;
    let table =
        all.remove(kind).with_context(|| format!("{} has no keys of kind `{kind}`", path.display()))?;
    let stored: Vec<Secret> = table.try_into().with_context(|| format!("{}: {kind}", path.display()))?;
    let read = |secret: Secret| {
        let key = hex::decode(&secret.key).ok().and_then(|bytes| bytes.try_into().ok());
        let wrong = || format!("{}: {kind} {}: a key is 32 bytes in hexadecimal", path.display(), secret.id);
        Ok((secret.id, key.with_context(wrong)?))
    };
    stored.into_iter().map(read).collect()
}

/// The flow archive of a data directory: embedded, the node's own log.
pub(crate) fn archive(data: &Path) -> PathBuf {
    data.join("lottery").join("log")
}

/// The ledger of a data directory.
pub(crate) fn ledger(data: &Path) -> PathBuf {
    data.join("ledger.db")
}

/// Whether a platform is using the data directory now, so that the end of its log may be moving.
///
/// # Errors
/// When the lock can't be looked at.
pub(crate) fn is_running(data: &Path) -> anyhow::Result<bool> {
    match DirLock::acquire(data) {
        // Let go at once: a settlement must not keep the platform from starting.
        Ok(_lock) => Ok(false),
        Err(DirLockError::Held { .. }) => Ok(true),
        Err(error) => Err(error.into()),
    }
}

/// Every plan that was in force.
///
/// # Errors
/// When there is no repository of plans, or it can't be read.
pub(crate) async fn plans_in(data: &Path, now_ms: u64) -> anyhow::Result<Vec<Plan>> {
    let path = data.join("plans.db");
    anyhow::ensure!(
        path.is_file(),
        "{}: there is no such database; the data directory has never seen a campaign",
        path.display()
    );
    let sql = Sql::open(&path, SqlOptions { readers_max: 1, ..SqlOptions::default() }).await?;
    let repository = SqlRepository::open(sql.clone(), now_ms).await?;
    let plans = reconcile::plans_in(&repository).await;
    sql.close().await;
    Ok(plans?)
}

#[cfg(test)]
mod tests {
    use super::{is_running, plans_in, secrets};
    use crate::keys::Keys;
    use flowlog::DirLock;

    #[tokio::test]
    async fn a_held_lock_means_running_and_missing_plans_are_named() {
        let dir = tempfile::tempdir().unwrap();
        assert!(!is_running(dir.path()).unwrap());
        let held = DirLock::acquire(dir.path()).unwrap();
        assert!(is_running(dir.path()).unwrap());
        drop(held);
        assert!(!is_running(dir.path()).unwrap());
        let error = plans_in(dir.path(), 1).await.unwrap_err().to_string();
        assert!(error.contains("plans.db"), "{error}");
    }

    #[test]
    fn all_keys_of_a_kind_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let keys = Keys::open(dir.path()).unwrap();
        let mac = secrets(dir.path(), "mac").unwrap();
        assert_eq!((mac.len(), mac[0].0, mac[0].1), (1, keys.mac.newest().id, keys.mac.newest().key));
        assert!(secrets(dir.path(), "nonsense").unwrap_err().to_string().contains("nonsense"));
    }
}
