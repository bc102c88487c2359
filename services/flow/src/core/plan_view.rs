//! What flow needs of plans.

use std::collections::BTreeMap;
use std::sync::Arc;

use campaign::{CampaignId, Delivery, Plan, PrizeId, PrizeKind, RoundId, SeqNo, VendorId};
use parking_lot::RwLock;

/// A prize as its plan has it.
#[derive(Clone, PartialEq, Debug)]
pub struct PrizeFacts {
    /// Name for people.
    pub name: Arc<str>,
    /// What it is.
    pub kind: PrizeKind,
    /// Who delivers it.
    pub vendor: VendorId,
    /// When it is delivered.
    pub delivery: Delivery,
}

/// What is known about a prize.
#[derive(Clone, PartialEq, Debug)]
pub enum PlanAnswer {
    /// This.
    Prize(PrizeFacts),
    /// The plan is there and has no such prize.
    NoSuchPrize,
    /// The plan has not been seen yet. It exists, as something was decided under it: wait for it.
    NoSuchPlan,
}

/// Where plans are looked up.
pub trait PlanView: Send + Sync {
    /// The prize under the plan of that SeqNo, or under a later one of the campaign: ids are never reused.
    fn prize(&self, campaign: CampaignId, round: RoundId, prize: PrizeId, seq_no: SeqNo) -> PlanAnswer;
}

/// The plans that a process has seen.
#[derive(Default)]
pub struct PlanSet {
    plans: RwLock<BTreeMap<(CampaignId, SeqNo), Names>>,
}

type Names = BTreeMap<(RoundId, PrizeId), PrizeFacts>;

impl PlanSet {
    /// No plans.
    pub fn new() -> PlanSet {
        PlanSet::default()
    }

    /// Takes a plan in. The same again changes nothing.
    pub fn insert(&self, plan: &Plan) {
        let mut names = Names::new();
        for round in &plan.rounds {
            for prize in &round.prizes {
                let facts = PrizeFacts {
                    name: prize.name.as_str().into(),
                    kind: prize.kind,
                    vendor: prize.vendor,
                    delivery: prize.delivery,
                };
                names.insert((round.id, prize.id), facts);
            }
        }
        self.plans.write().insert((plan.campaign, plan.seq_no), names);
    }
}

impl PlanView for PlanSet {
    fn prize(&self, campaign: CampaignId, round: RoundId, prize: PrizeId, seq_no: SeqNo) -> PlanAnswer {
        let plans = self.plans.read();
        let mut later = plans.range((campaign, seq_no)..=(campaign, SeqNo(u64::MAX)));
        match later.next() {
            None => PlanAnswer::NoSuchPlan,
            Some((_, names)) => match names.get(&(round, prize)) {
                Some(facts) => PlanAnswer::Prize(facts.clone()),
                None => PlanAnswer::NoSuchPrize,
            },
        }
    }
}
