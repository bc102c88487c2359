//! Plans on their way into force: from the campaign files into the repository, from there to the lottery node, then
//! to flow, and last to the front door, so that nobody is let in to a round that can't be drawn for.

use crate::config::Mistake;
use access::PlanSource;
use async_trait::async_trait;
use campaign::{CampaignId, Plan, SeedKey, SeqNo};
use flow::core::PlanSet;
use lottery::grey::{Grey, WHOLE};
use lottery::node::{ApplyError, Node};
use parking_lot::RwLock;
use quota_config::{
    Agent, CompileOptions, FILE_AUTHOR, GreyPlan, NodePlan, NodeReport, PlanCell, PlanRepository,
    PublishError, Publisher, State, campaign_of, compile, publish_file,
};
use runtime::{SharedClock, Shutdown, exit};
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

/// How often files and repository are looked at.
const POLL: Duration = Duration::from_millis(250);

/// Looks between two reports of what a node runs, where nothing has changed: half a minute.
const SAY_LOOKS: u32 = 120;

/// The plans that the front door lets players in to.
pub struct AccessPlans {
    version: AtomicU64,
    plans: RwLock<Arc<Vec<Arc<Plan>>>>,
}

impl AccessPlans {
    /// No plan yet.
    pub fn new() -> Arc<AccessPlans> {
        Arc::new(AccessPlans { version: AtomicU64::new(0), plans: RwLock::default() })
    }

    /// Called when a plan has changed, or what is grey beside one.
    fn set(&self, plans: Vec<Arc<Plan>>) {
        *self.plans.write() = Arc::new(plans);
        self.version.fetch_add(1, Ordering::Release);
    }
}

impl PlanSource for AccessPlans {
    fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    fn plans(&self) -> Arc<Vec<Arc<Plan>>> {
        self.plans.read().clone()
    }
}

/// Who draws under plans: a lottery node, or the place where one is started anew.
#[async_trait]
pub trait PlanTarget: Send + Sync {
    /// Puts a campaign's plans into force, as [`Node::apply_grey`] does.
    async fn apply_grey(&self, active: Arc<Plan>, grey: Option<Grey>) -> Result<bool, ApplyError>;
}

#[async_trait]
impl PlanTarget for Node {
    async fn apply_grey(&self, active: Arc<Plan>, grey: Option<Grey>) -> Result<bool, ApplyError> {
        Node::apply_grey(self, active, grey).await
    }
}

/// Who is to hear of plans, as far as this process has them.
#[derive(Clone, Default)]
pub struct PlanTargets {
    /// The lottery node.
    pub lottery: Option<Arc<dyn PlanTarget>>,
    /// Flow.
    pub flow: Option<Arc<PlanSet>>,
    /// The front door.
    pub access: Option<Arc<AccessPlans>>,
}

/// A campaign file that is watched.
struct Watched {
    path: PathBuf,
    changed: Option<SystemTime>,
}

/// Brings plans into force.
pub struct Follower {
    files: Vec<Watched>,
    repository: Arc<dyn PlanRepository>,
    seed: SeedKey,
    cell: Arc<PlanCell>,
    agent: Agent,
    targets: PlanTargets,
    applied: Vec<Arc<Plan>>,
    greys: BTreeMap<CampaignId, SeqNo>,
    clock: SharedClock,
    node: u16,
    /// What the repository was told that this node runs, and at which look.
    said: Option<(Vec<NodePlan>, u32)>,
    says: bool,
}

impl Follower {
    /// Follows the repository, and the files into it.
    pub fn new(
        files: Vec<PathBuf>,
        repository: Arc<dyn PlanRepository>,
        seed: SeedKey,
        node: u16,
        targets: PlanTargets,
        cell: Arc<PlanCell>,
        clock: SharedClock,
    ) -> Follower {
        let files = files.into_iter().map(|path| Watched { path, changed: None }).collect();
        let agent = Agent::for_node(Arc::clone(&cell), campaign::NodeId(node));
        let (applied, greys) = (Vec::new(), BTreeMap::new());
        let (said, says) = (None, false);
        Follower { files, repository, seed, cell, agent, targets, applied, greys, clock, node, said, says }
    }

    /// The same, saying in the repository what this node runs, for desks in other processes.
    pub fn saying_what_runs(self) -> Follower {
        Follower { says: true, ..self }
    }

    /// The first look: a file that is wrong now is an error, not a warning.
    pub async fn first(mut self) -> anyhow::Result<Follower> {
        for i in 0..self.files.len() {
            self.publish(i).await?;
        }
        self.follow().await?;
        self.say().await;
        Ok(self)
    }

    /// Looks again and again until the end is asked for. A file that has become wrong is said once, and the plan
    /// before it goes on.
    pub async fn run(mut self, shutdown: Shutdown) -> anyhow::Result<()> {
        while !shutdown.is_requested() {
            tokio::select! {
                () = tokio::time::sleep(POLL) => {}
                () = shutdown.wait() => break,
            }
            for i in 0..self.files.len() {
                if let Err(error) = self.publish(i).await {
                    tracing::error!("{error:#}; the plan before goes on");
                }
            }
            if let Err(error) = self.follow().await {
                tracing::error!("{error:#}; the plans in force go on");
            }
            self.say().await;
        }
        Ok(())
    }

    async fn publish(&mut self, i: usize) -> anyhow::Result<()> {
        let file = &mut self.files[i];
        let path = file.path.display().to_string();
        let changed = std::fs::metadata(&file.path)
            .and_then(|m| m.modified())
            .map_err(|e| unreadable(&file.path, &e))?;
        if file.changed == Some(changed) {
            return Ok(());
        }
        file.changed = Some(changed);
        let source = read(&file.path)?;
        if self.was_published(&source).await? {
            return Ok(());
        }
        let publisher = Publisher {
            author: FILE_AUTHOR.into(),
            reason: format!("{path} has changed"),
            now_ms: self.clock.now_ms(),
        };
        let published =
            publish_file(&*self.repository, &source, &publisher, &self.seed).await.map_err(|error| {
                match error {
                    PublishError::File(problems) => Mistake(format!("{path}:\n{problems}")).into(),
                    other => anyhow::Error::from(other).context(path.clone()),
                }
            })?;
        for warning in &published.warnings {
            tracing::warn!(file = path, "{warning}");
        }
        if published.changed {
            tracing::info!(file = path, campaign = %published.campaign, seq_no = %published.seq_no, "published");
        }
        Ok(())
    }

    /// Whether the file is what it was when it was last published. What operators changed since stays then: a restart
    /// is no edit of the file.
    async fn was_published(&self, source: &[u8]) -> anyhow::Result<bool> {
        let Some(campaign) = campaign_of(source) else { return Ok(false) };
        let history = self.repository.all(campaign).await?;
        let last = history.iter().filter(|v| v.author == FILE_AUTHOR && v.state == State::Active);
        let last = last.max_by_key(|v| v.seq_no);
        Ok(last.is_some_and(|v| v.sha256 == <[u8; 32]>::from(Sha256::digest(source))))
    }

    /// Brings what is new in the repository into force.
    async fn follow(&mut self) -> anyhow::Result<()> {
        self.agent.poll(&*self.repository).await?;
        let plans = self.cell.plans();
        let mut changed = false;
        for plan in plans.iter() {
            changed |= self.bring(plan, plans.grey(plan.campaign)).await?;
        }
        if let Some(access) = self.targets.access.as_ref().filter(|_| changed) {
            access.set(self.applied.clone());
        }
        Ok(())
    }

    /// Says what runs here when that has changed, and now and then, should a database have been restored. What can't be
    /// said now is said at the next look.
    async fn say(&mut self) {
        if !self.says {
            return;
        }
        let plans = self.cell.plans().report();
        if let Some((said, looks)) = &mut self.said
            && *said == plans
            && *looks < SAY_LOOKS
        {
            *looks += 1;
            return;
        }
        let report = NodeReport { node: self.node, at_ms: self.clock.now_ms(), plans: plans.clone() };
        match self.repository.report(report).await {
            Ok(()) => self.said = Some((plans, 0)),
            Err(error) => tracing::debug!(%error, "could not say what this node runs"),
        }
    }

    /// Brings a campaign's plans to node and flow. True: something changed.
    async fn bring(&mut self, plan: &Arc<Plan>, grey: Option<&GreyPlan>) -> anyhow::Result<bool> {
        let campaign = plan.campaign;
        let known = self.applied.iter().find(|p| p.campaign == campaign);
        let newer = known.is_none_or(|p| p.seq_no < plan.seq_no);
        let (mut changed, beside) = self.draw_under(plan, grey, newer).await?;
        let was = match beside {
            Some(grey) => self.greys.insert(campaign, grey.plan.seq_no),
            None => self.greys.remove(&campaign),
        };
        changed |= was != beside.map(|grey| grey.plan.seq_no);
        if let Some(flow) = &self.targets.flow {
            if let Some(grey) = beside {
                flow.insert(&grey.plan);
            }
            if newer {
                flow.insert(plan);
            }
        }
        if newer {
            self.applied.retain(|p| p.campaign != campaign);
            self.applied.push(Arc::clone(plan));
            tracing::info!(%campaign, seq_no = %plan.seq_no, name = plan.name, "plan in force");
        }
        if changed && let Some(grey) = beside {
            tracing::info!(%campaign, seq_no = %grey.plan.seq_no, rollout = %grey.rollout, "grey plan in force");
        }
        Ok(changed || newer)
    }

    /// Hands a campaign's plans to the lottery node, if there is one here. Whether something changed, and what is grey
    /// beside the active plan now.
    async fn draw_under<'a>(
        &self,
        plan: &Arc<Plan>,
        grey: Option<&'a GreyPlan>,
        newer: bool,
    ) -> anyhow::Result<(bool, Option<&'a GreyPlan>)> {
        let Some(lottery) = &self.targets.lottery else { return Ok((false, grey)) };
        match lottery.apply_grey(Arc::clone(plan), grey.map(to_grey)).await {
            Ok(changed) => Ok((changed, grey)),
            Err(ApplyError::Grey(error)) => {
                // The active plan is everybody's then; it must not wait for a person to look at the grey one.
                if newer {
                    let campaign = plan.campaign;
                    tracing::error!(%campaign, %error, "the grey version is not put into force; the active one goes on");
                }
                Ok((lottery.apply_grey(Arc::clone(plan), None).await?, None))
            }
            Err(error) => Err(error.into()),
        }
    }
}

/// A grey plan as the node takes it. This process is the only node: named, it has all of the release.
fn to_grey(grey: &GreyPlan) -> Grey {
    let plan = Arc::clone(&grey.plan);
    Grey::to_users(plan, if grey.whole_node { WHOLE } else { grey.rollout.users_per_mille })
}

/// A campaign file's text.
fn read(file: &Path) -> Result<Vec<u8>, Mistake> {
    std::fs::read(file).map_err(|error| unreadable(file, &error))
}

fn unreadable(file: &Path, error: &std::io::Error) -> Mistake {
    Mistake(format!("campaign file {} can't be read: {error}", file.display()))
}

/// Compiles a file and says what is wrong with it.
pub fn check(file: &Path) -> anyhow::Result<u8> {
    let source = read(file)?;
    // Seeds only decide commitments, which a check does not show.
    let seeds = SeedKey { id: 1, key: [0; 32] };
    let options = CompileOptions { seq_no: campaign::SeqNo(1), base_ms: 0, seeds: &seeds, after: None };
    match compile(&source, &options) {
        Ok(compiled) => {
            for warning in &compiled.warnings {
                crate::cli::eprint(&format!("{}: {warning}", file.display()));
            }
            let plan = compiled.plan;
            let units: u64 = plan.rounds.iter().flat_map(|r| &r.prizes).map(campaign::Prize::units).sum();
            crate::cli::print(&format!(
                "{}: campaign {} '{}', {} rounds, {units} units: good",
                file.display(),
                plan.campaign,
                plan.name,
                plan.rounds.len()
            ));
            Ok(exit::OK)
        }
        Err(problems) => Err(Mistake(format!("{}:\n{problems}", file.display())).into()),
    }
}
