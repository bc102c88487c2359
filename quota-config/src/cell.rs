//! The plans in force, double-buffered: a new set is built beside the running one and swapped in whole.
//!
//! A reader keeps the set that it saw last and looks at one atomic number to learn whether there is another;
//! only then does it take a lock, for as long as it takes to copy a pointer. A half-built plan is never seen,
//! and nobody who draws waits for somebody who compiles.

use crate::desk::{NodeFailure, NodePlan};
use crate::repository::Rollout;
use campaign::{CampaignId, Plan, SeqNo};
use parking_lot::RwLock;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The plans of all campaigns at one moment.
#[derive(Clone, Debug, Default)]
pub struct Plans {
    by_campaign: BTreeMap<CampaignId, Arc<Plan>>,
    greys: BTreeMap<CampaignId, GreyPlan>,
    failures: BTreeMap<CampaignId, PlanFailure>,
    grey_failures: BTreeMap<CampaignId, PlanFailure>,
}

/// A plan that is out grey: the active one with other weights, regions, limits, pacing or speeds, under the active pauses.
#[derive(Clone, Debug)]
pub struct GreyPlan {
    /// The plan, under its own SeqNo.
    pub plan: Arc<Plan>,
    /// To whom it goes.
    pub rollout: Rollout,
    /// This node is named: it is the plan of everybody here.
    pub whole_node: bool,
}

/// A version that could not be put into force. The plan before it goes on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PlanFailure {
    /// The version.
    pub seq_no: SeqNo,
    /// What is wrong with it.
    pub what: String,
}

impl Plans {
    /// The active plan of a campaign: what the ledger and everything that counts budgets hears of.
    pub fn get(&self, campaign: CampaignId) -> Option<&Arc<Plan>> {
        self.by_campaign.get(&campaign)
    }

    /// The grey plan of a campaign, if one is out.
    pub fn grey(&self, campaign: CampaignId) -> Option<&GreyPlan> {
        self.greys.get(&campaign)
    }

    /// What this node runs of each campaign, and what it could not put into force.
    pub fn report(&self) -> Vec<NodePlan> {
        let mut campaigns: Vec<CampaignId> = self.by_campaign.keys().copied().collect();
        campaigns.extend(self.failures.keys().chain(self.grey_failures.keys()));
        campaigns.sort_unstable();
        campaigns.dedup();
        let report = |campaign: CampaignId| {
            let failed = self.failures.get(&campaign).or_else(|| self.grey_failures.get(&campaign));
            NodePlan {
                campaign,
                seq_no: self.by_campaign.get(&campaign).map(|plan| plan.seq_no),
                grey: self.greys.get(&campaign).map(|grey| grey.plan.seq_no),
                failure: failed.map(|f| NodeFailure { seq_no: f.seq_no, what: f.what.clone() }),
            }
        };
        campaigns.into_iter().map(report).collect()
    }

    /// All active plans, by campaign.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Plan>> {
        self.by_campaign.values()
    }

    /// Versions newer than what runs, active ones and then grey ones, that could not be put into force, by campaign.
    pub fn failures(&self) -> impl Iterator<Item = (CampaignId, &PlanFailure)> {
        self.failures.iter().chain(&self.grey_failures).map(|(campaign, failure)| (*campaign, failure))
    }
}

/// Where the plans in force are.
#[derive(Debug, Default)]
pub struct PlanCell {
    /// Counts swaps. Raised under the lock, so that a reader that sees it finds at least that set.
    version: AtomicU64,
    plans: RwLock<Arc<Plans>>,
}

impl PlanCell {
    /// A cell without plans.
    pub fn new() -> Arc<PlanCell> {
        Arc::new(PlanCell::default())
    }

    /// The plans in force now. Takes a lock for a moment: hot paths keep a [`PlanReader`].
    pub fn plans(&self) -> Arc<Plans> {
        self.plans.read().clone()
    }

    /// A handle that reads without a lock as long as nothing changes. One for each thread or task.
    pub fn reader(self: &Arc<Self>) -> PlanReader {
        let plans = self.plans.read();
        PlanReader { seen: self.version.load(Ordering::Acquire), plans: plans.clone(), cell: self.clone() }
    }

    /// Puts a plan into force, unless a version that is as new or newer is. Says whether it did.
    pub fn install(&self, plan: Plan) -> bool {
        let plan = Arc::new(plan);
        self.change(|plans| {
            let campaign = plan.campaign;
            if plans.get(campaign).is_some_and(|running| running.seq_no >= plan.seq_no) {
                return false;
            }
            if plans.failures.get(&campaign).is_some_and(|f| f.seq_no <= plan.seq_no) {
                plans.failures.remove(&campaign);
            }
            plans.by_campaign.insert(campaign, plan);
            true
        })
    }

    /// Notes that a version could not be put into force.
    pub fn fail(&self, campaign: CampaignId, failure: PlanFailure) {
        self.change(|plans| {
            plans.failures.insert(campaign, failure);
            true
        });
    }

    /// Puts a grey plan out, in the place of the one that is.
    pub fn install_grey(&self, grey: GreyPlan) {
        self.change(|plans| {
            let campaign = grey.plan.campaign;
            plans.grey_failures.remove(&campaign);
            plans.greys.insert(campaign, grey);
            true
        });
    }

    /// Ends what is grey of a campaign. Says whether there was anything.
    pub fn end_grey(&self, campaign: CampaignId) -> bool {
        self.change(|plans| {
            let failed = plans.grey_failures.remove(&campaign).is_some();
            plans.greys.remove(&campaign).is_some() || failed
        })
    }

    /// Notes that a grey version could not be put out. What was grey before goes on.
    pub fn fail_grey(&self, campaign: CampaignId, failure: PlanFailure) {
        self.change(|plans| {
            plans.grey_failures.insert(campaign, failure);
            true
        });
    }

    fn change(&self, edit: impl FnOnce(&mut Plans) -> bool) -> bool {
        let mut current = self.plans.write();
        let mut next = Plans::clone(&current);
        if !edit(&mut next) {
            return false;
        }
        *current = Arc::new(next);
        self.version.fetch_add(1, Ordering::Release);
        true
    }
}

/// A reader's own view of the plans.
#[derive(Clone, Debug)]
pub struct PlanReader {
    cell: Arc<PlanCell>,
    seen: u64,
    plans: Arc<Plans>,
}

impl PlanReader {
    /// The plans in force: one atomic load, and a new pointer if something was swapped.
    #[inline]
    pub fn current(&mut self) -> &Plans {
        if self.cell.version.load(Ordering::Acquire) != self.seen {
            self.refresh();
        }
        &self.plans
    }

    /// The plan of a campaign in force.
    #[inline]
    pub fn plan(&mut self, campaign: CampaignId) -> Option<&Arc<Plan>> {
        self.current().get(campaign)
    }

    #[cold]
    fn refresh(&mut self) {
        let plans = self.cell.plans.read();
        self.seen = self.cell.version.load(Ordering::Acquire);
        self.plans = plans.clone();
    }
}
