//! The running plans as the core reads them: one immutable table, swapped whole when a plan changes.

use super::line::RoundRules;
use super::pool::RoundPool;
use campaign::{CampaignId, Plan, Round, RoundId, SeedKey};
use std::sync::Arc;

/// A round as the core draws for it.
pub struct RoundCore {
    /// Where the round stands in the plan.
    pub index: usize,
    /// Its prizes and leases.
    pub pool: Arc<RoundPool>,
}

/// A campaign under one plan.
pub struct CampaignCore {
    /// The plan.
    pub plan: Arc<Plan>,
    rounds: Vec<RoundCore>,
}

/// Why a plan can't be drawn from.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum PlanRefused {
    /// The seed key makes another seed than the one committed to.
    #[error(
        "campaign {campaign}, round {round}: the seed of key {key} does not match the commitment in the plan; \
         start the node with the key that the plan was made with"
    )]
    Seed {
        /// The campaign.
        campaign: CampaignId,
        /// The round.
        round: RoundId,
        /// The key that was asked for.
        key: u32,
    },
    /// No such key.
    #[error("campaign {campaign}, round {round}: seed key {key} is not known to this node")]
    NoKey {
        /// The campaign.
        campaign: CampaignId,
        /// The round.
        round: RoundId,
        /// The key that was asked for.
        key: u32,
    },
}

impl CampaignCore {
    /// Prepares a plan. Rounds that run already keep their leases (taken over from `before`).
    pub fn new(
        plan: Arc<Plan>,
        seed_keys: &[SeedKey],
        before: Option<&CampaignCore>,
    ) -> Result<CampaignCore, PlanRefused> {
        // First everything that can fail, then what moves leases.
        let keys =
            plan.rounds.iter().map(|r| round_keys(&plan, r, seed_keys)).collect::<Result<Vec<_>, _>>()?;
        let rounds = plan.rounds.iter().zip(keys).enumerate().map(|(index, (round, keys))| {
            let pool = match before.and_then(|b| b.round(round.id)) {
                Some(was) => was.pool.renewed(round),
                None => RoundPool::new(round, keys),
            };
            RoundCore { index, pool: Arc::new(pool) }
        });
        let rounds = rounds.collect();
        Ok(CampaignCore { plan, rounds })
    }

    /// A round by its id.
    pub fn round(&self, id: RoundId) -> Option<&RoundCore> {
        self.rounds.iter().find(|r| self.plan.rounds[r.index].id == id)
    }

    /// The round that runs at an instant.
    pub fn round_at(&self, ms: u64) -> Option<&RoundCore> {
        let i = self.plan.rounds.partition_point(|r| r.close_ms <= ms);
        self.rounds.get(i).filter(|r| self.plan.rounds[r.index].open_ms <= ms)
    }

    /// All rounds.
    pub fn rounds(&self) -> impl Iterator<Item = (&Round, &RoundCore)> {
        self.rounds.iter().map(|r| (&self.plan.rounds[r.index], r))
    }

    /// The rules of a round at an instant.
    pub fn rules(&self, round: &RoundCore, now_ms: u64) -> RoundRules {
        let plan = &self.plan;
        let r = &plan.rounds[round.index];
        let next_day = plan.days.get(plan.days.partition_point(|d| d.0 <= now_ms)).map_or(0, |d| d.0);
        RoundRules {
            round: r.id.0,
            open_ms: r.open_ms,
            close_ms: r.close_ms,
            next_open_ms: plan.rounds.get(round.index + 1).map_or(0, |n| n.open_ms),
            next_day_ms: next_day,
            limits: plan.limits,
            submit_min_ms: plan.pacing.submit_min_ms,
            stagger: plan.stagger,
        }
    }
}

fn round_keys(plan: &Plan, round: &Round, known: &[SeedKey]) -> Result<campaign::RoundKeys, PlanRefused> {
    let (campaign, id, key) = (plan.campaign, round.id, round.seed_key_id);
    let seed_key =
        known.iter().find(|k| k.id == key).ok_or(PlanRefused::NoKey { campaign, round: id, key })?;
    let seed = seed_key.round_seed(campaign, id);
    if seed.commitment() != round.seed_commitment {
        return Err(PlanRefused::Seed { campaign, round: id, key });
    }
    Ok(seed.keys())
}

/// All campaigns that run here, by id.
#[derive(Default)]
pub struct Campaigns(Vec<Arc<CampaignCore>>);

impl Campaigns {
    /// A campaign.
    #[inline]
    pub fn get(&self, id: u32) -> Option<&Arc<CampaignCore>> {
        self.0.iter().find(|c| c.plan.campaign.0 == id)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<CampaignCore>> {
        self.0.iter()
    }

    /// The same with one campaign added or replaced.
    pub fn with(&self, campaign: CampaignCore) -> Campaigns {
        let id = campaign.plan.campaign;
        let others = self.0.iter().filter(|c| c.plan.campaign != id).cloned();
        let mut all: Vec<_> = others.chain([Arc::new(campaign)]).collect();
        all.sort_by_key(|c| c.plan.campaign);
        Campaigns(all)
    }
}
