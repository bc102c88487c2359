//! The agent of a node: notices a new SeqNo, compiles it beside the running plan, swaps.
//!
//! Acts on each poll of the repository. A version that does not compile is reported once, in the cell and to the
//! caller, and the plan before it goes on; the agent tries again only with a further SeqNo. While the repository
//! can't be read nothing changes and the next poll tries again.
//!
//! A grey version is compiled under the pauses, stops and lowerings of the active one, and anew when either
//! changes. Grey versions are looked for before active ones: so a promoted one is seen as active no later than it
//! is no longer seen as grey, and nobody falls back for a moment.

use crate::adjust::Adjustments;
use crate::cell::{GreyPlan, PlanCell, PlanFailure};
use crate::compile::Compiled;
use crate::diff::Diff;
use crate::problem::Problems;
use crate::publish::{compile_adjusted, compile_version};
use crate::repository::{PlanRepository, RepositoryError, Rollout, Version};
use campaign::{CampaignId, NodeId, SeqNo};
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
    /// It is out grey, or was compiled anew because its rollout or the active version changed.
    Grey {
        /// The campaign.
        campaign: CampaignId,
        /// The version.
        seq_no: SeqNo,
        /// It is the plan of everybody on this node.
        whole_node: bool,
    },
    /// Nothing is grey any more: everybody has the active plan.
    GreyEnded {
        /// The campaign.
        campaign: CampaignId,
    },
    /// It is not in force, and the plan before it goes on.
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
    node: Option<NodeId>,
    /// Highest SeqNo of each campaign that was tried, with success or without.
    tried: BTreeMap<CampaignId, SeqNo>,
    /// What was tried of each campaign that has something grey.
    greys_tried: BTreeMap<CampaignId, GreyTried>,
}

/// A grey version, its rollout, and the active version that it lies over.
type GreyTried = (SeqNo, Rollout, SeqNo);

/// One thing to do.
enum Job {
    Active(Version),
    Grey { grey: Version, rollout: Rollout, brakes: Adjustments },
    EndGrey(CampaignId),
}

impl Agent {
    /// An agent for a cell on a node that no grey release can name.
    pub fn new(cell: Arc<PlanCell>) -> Agent {
        Agent { cell, node: None, tried: BTreeMap::new(), greys_tried: BTreeMap::new() }
    }

    /// An agent for the cell of a node.
    pub fn for_node(cell: Arc<PlanCell>, node: NodeId) -> Agent {
        Agent { node: Some(node), ..Agent::new(cell) }
    }

    /// Asks once, and puts into force what is new. What happened to each new version comes back, active ones
    /// first. Compiles on a thread for blocking work, so that drawing on the same runtime goes on meanwhile.
    ///
    /// # Errors
    /// When the repository can't be read. What was put into force before that stays.
    pub async fn poll(&mut self, repository: &dyn PlanRepository) -> Result<Vec<Outcome>, RepositoryError> {
        let mut outcomes = Vec::new();
        for job in self.fetch(repository).await? {
            outcomes.extend(self.act(job).await);
        }
        Ok(outcomes)
    }

    /// Polls every 250 ms until the end is asked for.
    pub async fn run(mut self, repository: Arc<dyn PlanRepository>, shutdown: Shutdown) {
        let mut reachable = true;
        while !shutdown.is_requested() {
            match self.poll(&*repository).await {
                Ok(outcomes) => {
                    if !reachable {
                        tracing::info!("plan repository can be read again");
                    }
                    reachable = true;
                    outcomes.iter().for_each(log);
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

    async fn act(&self, job: Job) -> Option<Outcome> {
        match job {
            Job::Active(version) => {
                let compile = move || {
                    let compiled = compile_version(&version);
                    (version, compiled)
                };
                let (version, compiled) = beside(compile).await?;
                Some(self.accept(&version, compiled))
            }
            Job::Grey { grey, rollout, brakes } => {
                let compile = move || {
                    let compiled = compile_adjusted(&grey, &grey.adjustments.with_brakes_of(&brakes));
                    (grey, compiled)
                };
                let (grey, compiled) = beside(compile).await?;
                Some(self.accept_grey(&grey, rollout, compiled))
            }
            Job::EndGrey(campaign) => self.cell.end_grey(campaign).then_some(Outcome::GreyEnded { campaign }),
        }
    }

    /// What is newer than what was tried. It counts as tried from here on, so that a version that brings the
    /// compiler down is not tried for ever.
    async fn fetch(&mut self, repository: &dyn PlanRepository) -> Result<Vec<Job>, RepositoryError> {
        let mut jobs = Vec::new();
        let greys = repository.greys().await?;
        let heads = repository.heads().await?;
        for (campaign, head) in heads.iter().copied() {
            if self.tried.get(&campaign).is_some_and(|tried| *tried >= head) {
                continue;
            }
            match repository.newest(campaign).await {
                Ok(Some(version)) => jobs.push(Job::Active(version)),
                Ok(None) => {}
                // Damage in one campaign must not keep the plans of the others away.
                Err(e @ RepositoryError::Damaged { seq_no, .. }) => {
                    self.tried.insert(campaign, seq_no);
                    tracing::error!(%campaign, %seq_no, error = %e, "plan refused; the one before goes on");
                    self.cell.fail(campaign, PlanFailure { seq_no, what: e.to_string() });
                }
                Err(e) => return Err(e),
            }
        }
        let mut greys_tried = self.greys_tried.clone();
        greys_tried.retain(|campaign, _| greys.iter().any(|grey| grey.0 == *campaign));
        let ended = self.greys_tried.keys().filter(|campaign| !greys_tried.contains_key(campaign));
        jobs.extend(ended.copied().map(Job::EndGrey));
        for (campaign, seq_no, rollout) in greys {
            let Some((_, head)) = heads.iter().find(|head| head.0 == campaign) else { continue };
            let seen = (seq_no, rollout, *head);
            if greys_tried.get(&campaign) != Some(&seen)
                && let Some((tried, job)) = self.fetch_grey(repository, campaign, seen).await?
            {
                greys_tried.insert(campaign, tried);
                jobs.extend(job);
            }
        }
        for job in &jobs {
            if let Job::Active(version) = job {
                self.tried.insert(version.info.campaign, version.info.seq_no);
            }
        }
        self.greys_tried = greys_tried;
        Ok(jobs)
    }

    /// The grey version of a campaign with what it lies over; `None`: it ended in this moment, and the next poll
    /// sees it gone.
    async fn fetch_grey(
        &self,
        repository: &dyn PlanRepository,
        campaign: CampaignId,
        seen: GreyTried,
    ) -> Result<Option<(GreyTried, Option<Job>)>, RepositoryError> {
        let read = async {
            let grey = repository.grey(campaign).await?;
            Ok(grey.zip(repository.newest(campaign).await?))
        };
        match read.await {
            Ok(Some(((grey, rollout), head))) => {
                let tried = (grey.info.seq_no, rollout.clone(), head.info.seq_no);
                Ok(Some((tried, Some(Job::Grey { grey, rollout, brakes: head.adjustments }))))
            }
            Ok(None) => Ok(None),
            Err(e @ RepositoryError::Damaged { seq_no, .. }) => {
                tracing::error!(%campaign, %seq_no, error = %e, "grey plan refused; the one before goes on");
                self.cell.fail_grey(campaign, PlanFailure { seq_no, what: e.to_string() });
                Ok(Some((seen, None)))
            }
            Err(e) => Err(e),
        }
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

    fn accept_grey(&self, grey: &Version, rollout: Rollout, compiled: Result<Compiled, Problems>) -> Outcome {
        let (campaign, seq_no) = (grey.info.campaign, grey.info.seq_no);
        let what = match (compiled, self.cell.plans().get(campaign)) {
            (Err(problems), _) => problems.to_string(),
            (Ok(_), None) => "no active plan runs here that it could lie over".to_string(),
            // Checked before it went out; held against what really runs here once more.
            (Ok(compiled), Some(active)) => match Diff::between(Some(active), &compiled.plan).only_grey() {
                Err(places) => places.join("\n"),
                Ok(()) => {
                    let whole_node = self.node.is_some_and(|node| rollout.has_node(node));
                    let plan = Arc::new(compiled.plan);
                    self.cell.install_grey(GreyPlan { plan, rollout, whole_node });
                    return Outcome::Grey { campaign, seq_no, whole_node };
                }
            },
        };
        let failure = PlanFailure { seq_no, what };
        self.cell.fail_grey(campaign, failure.clone());
        Outcome::Failed { campaign, failure }
    }
}

/// Runs the compiler beside the runtime. It ends without an answer only if it panicked; what ran before goes on.
async fn beside<T: Send + 'static>(compile: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    let ended = tokio::task::spawn_blocking(compile).await;
    if ended.is_err() {
        tracing::error!("the compiler of plans panicked; the plan before goes on");
    }
    ended.ok()
}

fn log(outcome: &Outcome) {
    match outcome {
        Outcome::Swapped { campaign, seq_no } => tracing::info!(%campaign, %seq_no, "plan in force"),
        Outcome::Grey { campaign, seq_no, whole_node } => {
            tracing::info!(%campaign, %seq_no, whole_node, "grey plan out");
        }
        Outcome::GreyEnded { campaign } => tracing::info!(%campaign, "grey plan ended"),
        Outcome::Failed { campaign, failure } => {
            tracing::error!(%campaign, seq_no = %failure.seq_no, what = failure.what, "plan refused; the one before goes on");
        }
    }
}
