//! The plans that were in force, and what a unit's amount must be by them.

use crate::rows::PrizeKey;
use campaign::{
    CampaignId, Fen, Limits, Plan, Prize, Ranges, Round, RoundId, RoundKeys, RoundSeed, SeedKey, SeqNo,
    Tranche, UnitAmounts,
};
use std::collections::BTreeMap;

/// Units in a block of amounts (see `campaign::amounts`): a block's sum needs no seed.
use campaign::amounts::BLOCK_UNITS;

/// Seeds, as published ones or as the keys that make them.
#[derive(Clone, Default)]
pub struct Seeds {
    /// Published seeds.
    pub published: Vec<(CampaignId, RoundId, RoundSeed)>,
    /// Keys that make seeds.
    pub keys: Vec<SeedKey>,
}

/// Why plans or seeds can't be used.
#[derive(Debug, thiserror::Error)]
pub enum PlansError {
    /// No plan at all.
    #[error("no plan was given: reconcile needs every campaign's plans")]
    None,
    /// One SeqNo twice.
    #[error("campaign {0} has SeqNo {1} twice, with different contents")]
    Twice(CampaignId, SeqNo),
    /// A seed that is not the one committed to.
    #[error("the seed given for round {1} of campaign {0} is not the one that the plan commits to")]
    Seed(CampaignId, RoundId),
}

/// Every plan that was in force, with the seeds.
pub struct Plans {
    campaigns: BTreeMap<CampaignId, Vec<Plan>>,
    round_keys: BTreeMap<(CampaignId, RoundId), RoundKeys>,
}

impl Plans {
    /// Puts plans and seeds together.
    ///
    /// # Errors
    /// When there is no plan, two differ under one SeqNo, or a seed is not the committed one.
    pub fn new(plans: Vec<Plan>, seeds: &Seeds) -> Result<Plans, PlansError> {
        let mut campaigns: BTreeMap<CampaignId, Vec<Plan>> = BTreeMap::new();
        for plan in plans {
            let versions = campaigns.entry(plan.campaign).or_default();
            match versions.iter().find(|v| v.seq_no == plan.seq_no) {
                Some(same) if *same == plan => {}
                Some(_) => return Err(PlansError::Twice(plan.campaign, plan.seq_no)),
                None => versions.push(plan),
            }
        }
        if campaigns.is_empty() {
            return Err(PlansError::None);
        }
        let mut round_keys = BTreeMap::new();
        for (&campaign, versions) in &mut campaigns {
            versions.sort_by_key(|p| p.seq_no);
            for round in versions.iter().flat_map(|p| &p.rounds) {
                if let Some(seed) = seed_of(seeds, campaign, round)? {
                    round_keys.insert((campaign, round.id), seed.keys());
                }
            }
        }
        Ok(Plans { campaigns, round_keys })
    }

    /// The newest plan of each campaign.
    pub fn newest(&self) -> impl Iterator<Item = &Plan> {
        self.campaigns.values().filter_map(|versions| versions.last())
    }

    /// The plan of a SeqNo; where it was not given, the next older one, else the oldest.
    pub fn at(&self, campaign: CampaignId, seq_no: SeqNo) -> Option<&Plan> {
        let versions = self.campaigns.get(&campaign)?;
        let behind = versions.partition_point(|p| p.seq_no <= seq_no);
        versions.get(behind.saturating_sub(1))
    }

    /// Limits of a user under a SeqNo.
    pub fn limits(&self, campaign: CampaignId, seq_no: SeqNo) -> Limits {
        self.at(campaign, seq_no).map(|p| p.limits).unwrap_or_default()
    }

    /// Every prize ever planned, with its round and the newest form of it.
    pub fn prizes(&self) -> BTreeMap<PrizeKey, (&Round, &Prize)> {
        let mut all = BTreeMap::new();
        for plan in self.campaigns.values().flatten() {
            for round in &plan.rounds {
                for prize in &round.prizes {
                    all.insert(
                        PrizeKey { campaign: plan.campaign, round: round.id, prize: prize.id },
                        (round, prize),
                    );
                }
            }
        }
        all
    }

    /// A prize as a SeqNo has it.
    pub fn prize_at(&self, key: PrizeKey, seq_no: SeqNo) -> Option<&Prize> {
        let round = self.at(key.campaign, seq_no)?.round(key.round)?;
        round.prizes.iter().find(|p| p.id == key.prize)
    }

    /// Amounts of a prize's units.
    pub fn units(&self, key: PrizeKey, prize: &Prize) -> PlannedUnits {
        PlannedUnits {
            tranches: prize.tranches.clone(),
            amounts: UnitAmounts::new(prize.id.0, prize.tranches.clone()),
            keys: self.round_keys.get(&(key.campaign, key.round)).copied(),
        }
    }
}

fn seed_of(seeds: &Seeds, campaign: CampaignId, round: &Round) -> Result<Option<RoundSeed>, PlansError> {
    let published =
        seeds.published.iter().find(|(c, r, _)| (*c, *r) == (campaign, round.id)).map(|(_, _, s)| *s);
    let made =
        || seeds.keys.iter().find(|k| k.id == round.seed_key_id).map(|k| k.round_seed(campaign, round.id));
    match published.or_else(made) {
        Some(seed) if seed.commitment() != round.seed_commitment => Err(PlansError::Seed(campaign, round.id)),
        seed => Ok(seed),
    }
}

/// What the plan says of a unit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum UnitFen {
    /// No such unit.
    NotPlanned,
    /// It exists; its amount needs a seed that was not given.
    NeedsSeed,
    /// Its amount.
    Is(Fen),
}

/// Units of a prize with their amounts.
pub struct PlannedUnits {
    tranches: Vec<Tranche>,
    amounts: UnitAmounts,
    keys: Option<RoundKeys>,
}

impl PlannedUnits {
    /// Units ever planned.
    pub fn planned(&self) -> u64 {
        self.tranches.iter().map(|t| t.units).sum()
    }

    /// Money ever planned.
    pub fn fen(&self) -> Fen {
        self.tranches.iter().map(|t| t.fen).sum()
    }

    /// The amount of a unit.
    pub fn amount(&mut self, unit: u64) -> UnitFen {
        let Some(tranche) = self.tranches.iter().find(|t| t.first <= unit && unit - t.first < t.units) else {
            return UnitFen::NotPlanned;
        };
        if tranche.min == tranche.max {
            return UnitFen::Is(tranche.min);
        }
        let Some(keys) = &self.keys else { return UnitFen::NeedsSeed };
        self.amounts.amount(keys, unit).map_or(UnitFen::NotPlanned, UnitFen::Is)
    }

    /// The sum of a set's amounts; `None` where a seed is needed and not given. Units outside the plan count 0. Whole
    /// blocks take one step each, whatever their amounts are.
    pub fn sum(&mut self, set: &Ranges) -> Option<Fen> {
        let mut sum = Fen::ZERO;
        for range in set.iter() {
            for tranche in self.tranches.clone() {
                let first = range.first.max(tranche.first);
                let end = range.end().min(tranche.first + tranche.units);
                if first < end {
                    sum += self.sum_within(&tranche, first - tranche.first, end - tranche.first)?;
                }
            }
        }
        Some(sum)
    }

    /// Sum of the units `from .. to` counted within a tranche.
    fn sum_within(&mut self, tranche: &Tranche, from: u64, to: u64) -> Option<Fen> {
        if tranche.min == tranche.max {
            return tranche.min.checked_mul(to - from);
        }
        let whole_from = from.next_multiple_of(BLOCK_UNITS);
        let whole_to = if to == tranche.units { to } else { to / BLOCK_UNITS * BLOCK_UNITS };
        let (edges, mut sum) = if whole_from < whole_to {
            let share =
                |n: u64| (i128::from(tranche.fen.0) * i128::from(n) / i128::from(tranche.units)) as i64;
            ([from..whole_from, whole_to..to], Fen(share(whole_to) - share(whole_from)))
        } else {
            ([from..to, to..to], Fen::ZERO)
        };
        for unit in edges.into_iter().flatten() {
            match self.amount(tranche.first + unit) {
                UnitFen::Is(fen) => sum += fen,
                UnitFen::NotPlanned => {}
                UnitFen::NeedsSeed => return None,
            }
        }
        Some(sum)
    }
}

#[cfg(test)]
mod tests {
    use super::{PlannedUnits, UnitFen};
    use campaign::{Fen, Ranges, RoundSeed, Tranche, UnitAmounts};
    use proptest::prelude::*;

    fn units(tranches: Vec<Tranche>, seed: bool) -> PlannedUnits {
        let keys = seed.then(|| RoundSeed([9; 32]).keys());
        PlannedUnits { amounts: UnitAmounts::new(1, tranches.clone()), tranches, keys }
    }

    proptest! {
        #[test]
        fn sums_of_sets_are_sums_of_units(first in 0u64..700, count in 1u64..900, again in 0u64..200, size in 1u64..800) {
            let t = |first, units: u64| Tranche { first, units, fen: Fen(units as i64 * 100), min: Fen(50), max: Fen(900) };
            let mut planned = units(vec![t(0, 600), t(600, size)], true);
            let mut set = Ranges::one(first, count);
            set.add(campaign::UnitRange { first: first + count + again + 1, count: 7 }).unwrap();
            let one_by_one: i64 = set.numbers().map(|n| match planned.amount(n) { UnitFen::Is(f) => f.0, _ => 0 }).sum();
            prop_assert_eq!(planned.sum(&set), Some(Fen(one_by_one)));
        }
    }

    #[test]
    fn without_a_seed_whole_tranches_are_known_and_parts_are_not() {
        let t = Tranche { first: 0, units: 600, fen: Fen(60_000), min: Fen(50), max: Fen(900) };
        let mut planned = units(vec![t], false);
        assert_eq!(planned.sum(&Ranges::one(0, 600)), Some(Fen(60_000)));
        assert_eq!(planned.sum(&Ranges::one(0, 256)), Some(Fen(25_600)));
        assert_eq!(planned.sum(&Ranges::one(0, 255)), None);
        assert_eq!(planned.amount(3), UnitFen::NeedsSeed);
        assert_eq!(planned.amount(600), UnitFen::NotPlanned);
    }
}
