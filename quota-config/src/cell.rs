//! The plans in force, double-buffered: a new set is built beside the running one and swapped in whole.
//!
//! A reader keeps the set that it saw last and looks at one atomic number to learn whether there is another;
//! only then does it take a lock, for as long as it takes to copy a pointer. A half-built plan is never seen,
//! and nobody who draws waits for somebody who compiles.

use campaign::{CampaignId, Plan, SeqNo};
use parking_lot::RwLock;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The plans of all campaigns at one moment.
#[derive(Clone, Debug, Default)]
pub struct Plans {
    by_campaign: BTreeMap<CampaignId, Arc<Plan>>,
    failures: BTreeMap<CampaignId, PlanFailure>,
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
    /// The plan of a campaign.
    pub fn get(&self, campaign: CampaignId) -> Option<&Arc<Plan>> {
        self.by_campaign.get(&campaign)
    }

    /// All plans, by campaign.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Plan>> {
        self.by_campaign.values()
    }

    /// Versions newer than what runs that could not be put into force, by campaign.
    pub fn failures(&self) -> impl Iterator<Item = (CampaignId, &PlanFailure)> {
        self.failures.iter().map(|(campaign, failure)| (*campaign, failure))
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
