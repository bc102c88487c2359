//! The agent of a node: notices a new SeqNo, compiles it beside the running plan, swaps.
//!
//! Acts on each poll of the repository. A version that does not compile is reported once, in the cell and to the
//! caller, and the plan before it goes on; the agent tries again only with a further SeqNo. While the repository
//! can't be read nothing changes and the next poll tries again.

use crate::cell::{PlanCell, PlanFailure};
use crate::compile::Compiled;
use crate::problem::Problems;
use crate::publish::compile_version;
use crate::repository::{PlanRepository, RepositoryError, Version};
use campaign::{CampaignId, SeqNo};
use runtime::Shutdown;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// How often the repository is asked.
pub const POLL_MS: u64 = 250;

/// What came of one new version.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// It is in force.
    Swapped {
        /// The campaign.
        campaign: CampaignId,
        /// The version.
        seq_no: SeqNo,
    },
    /// It is not, and the plan before it goes on.
    Failed {
        /// The campaign.
        campaign: CampaignId,
        /// Which version, and what is wrong with it.
        failure: PlanFailure,
    },
}

/// Keeps a cell up to date with a repository.
pub struct Agent {
    cell: Arc<PlanCell>,
    /// Highest SeqNo of each campaign that was tried, with success or without.
    tried: BTreeMap<CampaignId, SeqNo>,
}

impl Agent {
    /// An agent for a cell.
    pub fn new(cell: Arc<PlanCell>) -> Agent {
        Agent { cell, tried: BTreeMap::new() }
    }

    /// Asks once, and puts into force what is new. What happened to each new version comes back, by campaign.
    ///
    /// # Errors
    /// When the repository can't be read. What was put into force before that stays.
    pub async fn poll(&mut self, repository: &dyn PlanRepository) -> Result<Vec<Outcome>, RepositoryError> {
        let mut outcomes = Vec::new();
        for version in self.fetch(repository).await? {
            let compiled = compile_version(&version);
            outcomes.push(self.accept(&version, compiled));
        }
        Ok(outcomes)
    }

    /// Polls every 250 ms until the end is asked for. Compiles on a thread for blocking work, so that drawing on
    /// the same runtime goes on meanwhile.
    pub async fn run(mut self, repository: Arc<dyn PlanRepository>, shutdown: Shutdown) {
        let mut reachable = true;
        while !shutdown.is_requested() {
            match self.fetch(&*repository).await {
                Ok(versions) => {
                    if !reachable {
                        tracing::info!("plan repository can be read again");
                    }
                    reachable = true;
                    for version in versions {
                        self.compile_aside(version).await;
                    }
                }
                Err(error) => {
                    if reachable {
                        tracing::warn!(%error, "plan repository can't be read; the plans in force go on");
                    }
                    reachable = false;
                }
            }
            tokio::select! {
                () = tokio::time::sleep(Duration::from_millis(POLL_MS)) => {}
                () = shutdown.wait() => {}
            }
        }
    }

    async fn compile_aside(&mut self, version: Version) {
        let compiling = tokio::task::spawn_blocking(move || {
            let compiled = compile_version(&version);
            (version, compiled)
        });
        // It ends without an answer only if the compiler panicked; the plan before goes on.
        let Ok((version, compiled)) = compiling.await else {
            tracing::error!("the compiler of plans panicked; the plan before goes on");
            return;
        };
        match self.accept(&version, compiled) {
            Outcome::Swapped { campaign, seq_no } => tracing::info!(%campaign, %seq_no, "plan in force"),
            Outcome::Failed { campaign, failure } => {
                tracing::error!(%campaign, seq_no = %failure.seq_no, what = failure.what, "plan refused; the one before goes on");
            }
        }
    }

    /// Versions that are newer than what was tried. A version counts as tried from here on, so that one that
    /// brings the compiler down is not tried for ever.
    async fn fetch(&mut self, repository: &dyn PlanRepository) -> Result<Vec<Version>, RepositoryError> {
        let mut versions = Vec::new();
        for (campaign, head) in repository.heads().await? {
            if self.tried.get(&campaign).is_some_and(|tried| *tried >= head) {
                continue;
            }
            let newest = match repository.newest(campaign).await {
                Ok(newest) => newest,
                // Damage in one campaign must not keep the plans of the others away.
                Err(e @ RepositoryError::Damaged { seq_no, .. }) => {
                    self.tried.insert(campaign, seq_no);
                    tracing::error!(%campaign, %seq_no, error = %e, "plan refused; the one before goes on");
                    self.cell.fail(campaign, PlanFailure { seq_no, what: e.to_string() });
                    continue;
                }
                Err(e) => return Err(e),
            };
            versions.extend(newest);
        }
        for version in &versions {
            self.tried.insert(version.info.campaign, version.info.seq_no);
        }
        Ok(versions)
    }

    fn accept(&self, version: &Version, compiled: Result<Compiled, Problems>) -> Outcome {
        let (campaign, seq_no) = (version.info.campaign, version.info.seq_no);
        let what = match compiled {
            Ok(compiled) if compiled.plan.campaign == campaign => {
                self.cell.install(compiled.plan);
                return Outcome::Swapped { campaign, seq_no };
            }
            Ok(compiled) => format!("its file is about campaign {}", compiled.plan.campaign),
            Err(problems) => problems.to_string(),
        };
        let failure = PlanFailure { seq_no, what };
        self.cell.fail(campaign, failure.clone());
        Outcome::Failed { campaign, failure }
    }
}
