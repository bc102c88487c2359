//! The running plans as the core reads them: one immutable table, swapped whole when a plan changes.

use super::line::RoundRules;
use super::pool::{Picks, RoundPool};
use crate::grey::takes;
use campaign::{CampaignId, Places, Plan, Round, RoundId, SeedKey};
use std::collections::BTreeSet;
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

/// A plan as entries see it: what runs when, under which rules, with which odds.
pub struct Terms {
    /// The plan.
    pub plan: Arc<Plan>,
    /// How it draws in each round, in the plan's order.
    picks: Vec<Picks>,
    /// Where districts lie.
    places: Places,
    /// One behind the other, from the beginning of time to its end.
    stretches: Vec<Stretch>,
    /// The stretch that was asked for last: time goes on, so it is nearly always the one.
    newest: AtomicUsize,
}

/// A grey release that is out.
#[derive(Clone)]
struct GreyTerms {
    terms: Arc<Terms>,
    users_per_mille: u16,
}

/// A campaign under one plan, or under two.
pub struct CampaignCore {
    /// The active plan.
    pub plan: Arc<Plan>,
    rounds: Vec<RoundCore>,
    active: Arc<Terms>,
    /// The plan of some users, if one is tried.
    grey: Option<Box<GreyTerms>>,
    /// Rounds that the plan has no more, while leases of theirs must be given back.
    gone: Vec<(RoundId, Arc<RoundPool>)>,
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
    /// Prepares a plan. Rounds that run already keep their pools, with the leases in them (taken over from `before`).
    pub fn new(
        plan: Arc<Plan>,
        seed_keys: &[SeedKey],
        before: Option<&CampaignCore>,
    ) -> Result<CampaignCore, PlanRefused> {
        // First everything that can fail, then what changes pools.
        let known = |(i, round): (usize, &Round)| before.and_then(|b| b.find(round, i));
        let was: Vec<Option<Known<'_>>> = plan.rounds.iter().enumerate().map(known).collect();
        let keys = |(round, was): (&Round, &Option<Known<'_>>)| match was {
            Some(was) => Ok(*was.pool.keys()),
            None => round_keys(&plan, round, seed_keys),
        };
        let keys = plan.rounds.iter().zip(&was).map(keys).collect::<Result<Vec<_>, _>>()?;
        let (mut rounds, mut picks) = (Vec::with_capacity(keys.len()), Vec::with_capacity(keys.len()));
        for (index, ((round, was), keys)) in plan.rounds.iter().zip(was).zip(keys).enumerate() {
            let (pool, draws) = match was {
                Some(was) => (Arc::clone(was.pool), was.pool.follow(round, was.drawn)),
                None => {
                    let (pool, draws) = RoundPool::new(round, keys);
                    (Arc::new(pool), draws)
                }
            };
            rounds.push(RoundCore { index, pool });
            picks.push(draws);
        }
        let active = Arc::new(Terms::new(Arc::clone(&plan), picks));
        let gone = before.map_or_else(Vec::new, |b| b.gone_under(&plan));
        Ok(CampaignCore { plan, rounds, active, grey: None, gone })
    }

    /// The same campaign with `grey` beside its active plan for a share of the users; `None`: with the active plan alone.
    /// The plan has been checked ([`crate::grey::check`]).
    pub fn with_grey(&self, grey: Option<(Arc<Plan>, u16)>) -> CampaignCore {
        let grey = grey.filter(|(_, users)| *users > 0).map(|(plan, users_per_mille)| {
            let known = self.grey.as_ref().filter(|g| Arc::ptr_eq(&g.terms.plan, &plan));
            let terms = known.map_or_else(|| self.terms_beside(plan), |g| Arc::clone(&g.terms));
            Box::new(GreyTerms { terms, users_per_mille })
        });
        CampaignCore {
            plan: Arc::clone(&self.plan),
            rounds: self
                .rounds
                .iter()
                .map(|r| RoundCore { index: r.index, pool: Arc::clone(&r.pool) })
                .collect(),
            active: Arc::clone(&self.active),
            grey,
            gone: self.gone.clone(),
        }
    }

    /// The terms of a plan with the same rounds, prizes and units as the active one.
    fn terms_beside(&self, plan: Arc<Plan>) -> Arc<Terms> {
        let own = self.plan.rounds.iter().zip(&self.active.picks);
        let picks = plan.rounds.iter().zip(&self.rounds).zip(own);
        let picks = picks.map(|((round, at), was)| at.pool.follow(round, Some(was))).collect();
        Arc::new(Terms::new(plan, picks))
    }

    /// The grey plan and the share of its users, if one is out.
    pub fn grey(&self) -> Option<(&Arc<Plan>, u16)> {
        self.grey.as_ref().map(|g| (&g.terms.plan, g.users_per_mille))
    }

    /// The terms that a user draws under.
    #[inline]
    pub fn terms(&self, user: u64) -> &Terms {
        match &self.grey {
            None => &self.active,
            Some(grey) if takes(user, self.plan.campaign, grey.users_per_mille) => &grey.terms,
            Some(_) => &self.active,
        }
    }

    /// What this one knows of a round of the next plan; `at` is where it most likely stands.
    fn find(&self, round: &Round, at: usize) -> Option<Known<'_>> {
        let is = |i: &usize| self.plan.rounds.get(*i).is_some_and(|r| r.id == round.id);
        let at = Some(at).filter(is).or_else(|| self.plan.rounds.iter().position(|r| r.id == round.id));
        let planned = at.map(|i| Known {
            pool: &self.rounds[i].pool,
            drawn: Some((&self.plan.rounds[i], &self.active.picks[i])),
        });
        let gone = || self.gone.iter().find(|(id, _)| *id == round.id);
        planned.or_else(|| gone().map(|(_, pool)| Known { pool, drawn: None }))
    }

    /// The rounds that `next` has no more, and of which leases are out.
    fn gone_under(&self, next: &Plan) -> Vec<(RoundId, Arc<RoundPool>)> {
        let kept: BTreeSet<RoundId> = next.rounds.iter().map(|r| r.id).collect();
        let mine = self.rounds().map(|(round, at)| (round.id, &at.pool));
        let all = mine.chain(self.gone.iter().map(|(id, pool)| (*id, pool)));
        let gone = all.filter(|(id, pool)| !kept.contains(id) && !pool.retire());
        gone.map(|(id, pool)| (id, Arc::clone(pool))).collect()
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

    /// Rounds that the plan has no more and whose leases must be given back.
    pub fn gone(&self) -> impl Iterator<Item = (RoundId, &Arc<RoundPool>)> {
        self.gone.iter().map(|(id, pool)| (*id, pool))
    }
}

/// A round that was there before: its pool, and how the plan before drew from it.
struct Known<'a> {
    pool: &'a Arc<RoundPool>,
    drawn: Option<(&'a Round, &'a Picks)>,
}

impl Terms {
    fn new(plan: Arc<Plan>, picks: Vec<Picks>) -> Terms {
        let (stretches, places) = (stretches(&plan), plan.places());
        Terms { plan, picks, places, stretches, newest: AtomicUsize::new(0) }
    }

    /// How the plan draws in a round, by its place in the plan.
    #[inline]
    pub fn picks(&self, index: usize) -> &Picks {
        &self.picks[index]
    }

    /// Where districts lie under the plan.
    #[inline]
    pub fn places(&self) -> &Places {
        &self.places
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
