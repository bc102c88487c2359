//! The running plans as the core reads them: one immutable table, swapped whole when a plan changes.

use super::line::RoundRules;
use super::pool::RoundPool;
use campaign::{CampaignId, Plan, Round, RoundId, SeedKey};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A round as the core draws for it.
pub struct RoundCore {
    /// Where the round stands in the plan.
    pub index: usize,
    /// Its prizes and leases.
    pub pool: Arc<RoundPool>,
}

/// A stretch of time in which the same round and the same local day run: what every entry of it must know,
/// computed once with the plan.
pub struct Stretch {
    from_ms: u64,
    until_ms: u64,
    /// The local day.
    pub day: u32,
    /// Where the round that runs stands in the plan, and its rules.
    pub round: Option<(usize, RoundRules)>,
}

/// A campaign under one plan.
pub struct CampaignCore {
    /// The plan.
    pub plan: Arc<Plan>,
    rounds: Vec<RoundCore>,
    /// One behind the other, from the beginning of time to its end.
    stretches: Vec<Stretch>,
    /// The stretch that was asked for last: time goes on, so it is nearly always the one.
    newest: AtomicUsize,
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
        let stretches = stretches(&plan);
        Ok(CampaignCore { plan, rounds, stretches, newest: AtomicUsize::new(0) })
    }

    /// What is common to all entries of an instant.
    #[inline]
    pub fn at(&self, ms: u64) -> &Stretch {
        let newest = &self.stretches[self.newest.load(Ordering::Relaxed)];
        if newest.from_ms <= ms && ms < newest.until_ms { newest } else { self.find_at(ms) }
    }

    #[cold]
    fn find_at(&self, ms: u64) -> &Stretch {
        // The last stretch has no end; the instant that is the end of time belongs to it.
        let i = self.stretches.partition_point(|s| s.until_ms <= ms).min(self.stretches.len() - 1);
        self.newest.store(i, Ordering::Relaxed);
        &self.stretches[i]
    }

    /// A round by its place in the plan.
    #[inline]
    pub fn round_by_index(&self, index: usize) -> &RoundCore {
        &self.rounds[index]
    }

    /// A round by its id.
    pub fn round(&self, id: RoundId) -> Option<&RoundCore> {
        self.rounds.iter().find(|r| self.plan.rounds[r.index].id == id)
    }

    /// All rounds.
    pub fn rounds(&self) -> impl Iterator<Item = (&Round, &RoundCore)> {
        self.rounds.iter().map(|r| (&self.plan.rounds[r.index], r))
    }
}

/// Cuts time where a round opens or closes, and where a local day begins.
fn stretches(plan: &Plan) -> Vec<Stretch> {
    let mut cuts: Vec<u64> = plan.rounds.iter().flat_map(|r| [r.open_ms, r.close_ms]).collect();
    cuts.extend(plan.days.iter().map(|d| d.0));
    cuts.extend([0, u64::MAX]);
    cuts.sort_unstable();
    cuts.dedup();
    let stretch = |cut: &[u64]| {
        let ms = cut[0];
        let index = plan.rounds.partition_point(|r| r.close_ms <= ms);
        let runs = plan.rounds.get(index).is_some_and(|r| r.open_ms <= ms);
        Stretch {
            from_ms: ms,
            until_ms: cut[1],
            day: plan.day_at(ms),
            round: runs.then(|| (index, rules(plan, index, ms))),
        }
    };
    cuts.windows(2).map(stretch).collect()
}

/// The rules of a round at an instant.
fn rules(plan: &Plan, index: usize, now_ms: u64) -> RoundRules {
    let r = &plan.rounds[index];
    let next_day = plan.days.get(plan.days.partition_point(|d| d.0 <= now_ms)).map_or(0, |d| d.0);
    RoundRules {
        round: r.id.0,
        open_ms: r.open_ms,
        close_ms: r.close_ms,
        next_open_ms: plan.rounds.get(index + 1).map_or(0, |n| n.open_ms),
        next_day_ms: next_day,
        limits: plan.limits,
        submit_min_ms: plan.pacing.submit_min_ms,
        stagger: plan.stagger,
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
