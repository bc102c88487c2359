//! A settlement that is to be made: its sources, and the keys that check and seed them.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use campaign::Plan;
use reconcile::readers::copies::OneCopy;
use reconcile::{Inputs, Seeds, Settlement, StatementFile, Terms};

use super::sources::Sources;
use crate::cluster_cmd::copy_lanes;
use crate::config::Config;
use crate::keys::Keys;

/// A settlement to be made.
#[derive(Debug)]
pub(crate) struct Job {
    /// Where the folder of keys is.
    data: PathBuf,
    work: PathBuf,
    sources: Sources,
    /// Vendors' statements.
    pub statements: Vec<StatementFile>,
    /// What players were told.
    pub told: Option<PathBuf>,
    /// Entries and units of each round's last seconds.
    pub tails: Option<PathBuf>,
    /// Times in which one copy only was kept of what was acknowledged.
    pub one_copy: Vec<OneCopy>,
    /// The cluster whose lanes are copied, and where to: once more when the journal has been read.
    pub lanes: Option<(Config, PathBuf)>,
    /// Folder for breaks.csv and redo.csv.
    pub lists: Option<PathBuf>,
    /// Now, patience, and who answers for what is open.
    pub terms: Terms,
}

impl Job {
    /// A settlement of what `sources` say, with the keys of `data`, as of `now_ms`, which sorts in `work`, with the usual
    /// patience.
    pub fn new(data: &Path, sources: Sources, now_ms: u64, work: &Path) -> Job {
        Job {
            data: data.to_owned(),
            work: work.join("runs"),
            sources,
            statements: Vec::new(),
            told: None,
            tails: None,
            one_copy: Vec::new(),
            lanes: None,
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
        let sources = &self.sources;
        let mut inputs = Inputs::new(plans, &self.work, self.terms.clone());
        inputs.archives.clone_from(&sources.archives);
        inputs.live = sources.may_be_running()?;
        inputs.delivery = Some(sources.delivery.clone());
        inputs.ledger = Some(sources.ledger.clone());
        inputs.statements.clone_from(&self.statements);
        inputs.seeds = Seeds { published: Vec::new(), keys: keys.seeds.clone() };
        // An auditor must know the old keys too.
        inputs.mac_keys = keys.mac.all().to_vec();
        inputs.told.clone_from(&self.told);
        inputs.tails.clone_from(&self.tails);
        inputs.replicated = sources.replicated;
        inputs.one_copy.clone_from(&self.one_copy);
        inputs.out_dir.clone_from(&self.lists);
        let copied = async || match &self.lanes {
            Some((config, archive)) => copy_lanes(config, archive, &mut |_| {}).await.map(|_| ()),
            None => Ok(()),
        };
        reconcile::run_with(&inputs, copied).await
    }
}
