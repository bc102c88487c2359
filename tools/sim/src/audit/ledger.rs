//! What the ledger and the log say of each other: every unit stands in one place, every lease ended as its wins say.

use super::laws::key_of;
use super::{Audit, Evidence, Life};
use crate::plan::{CAMPAIGN, seed_key};
use campaign::{Fen, LeaseId, Ranges, UnitAmounts};
use lottery::ledger::PrizeKey;
use std::collections::{BTreeMap, BTreeSet};

impl Evidence<'_> {
    fn amounts(&self, key: PrizeKey) -> Option<UnitAmounts> {
        let round = self.plan().round(key.round)?;
        let prize = round.prizes.iter().find(|p| p.id == key.prize)?;
        Some(UnitAmounts::new(prize.id.0, prize.tranches.clone()))
    }

    /// The amount of a unit, by the round's seed.
    pub fn amount(&self, key: PrizeKey, unit: u64) -> Option<Fen> {
        let keys = seed_key().round_seed(CAMPAIGN, key.round).keys();
        self.amounts(key)?.amount(&keys, unit)
    }

    /// The amount of some units together.
    fn sum(&self, key: PrizeKey, units: impl Iterator<Item = u64>) -> Fen {
        let keys = seed_key().round_seed(CAMPAIGN, key.round).keys();
        let Some(mut amounts) = self.amounts(key) else { return Fen(0) };
        units.filter_map(|unit| amounts.amount(&keys, unit)).sum()
    }

    /// The effective budget in money: every unit made and not cancelled.
    pub fn fen_of_budget(&self, key: PrizeKey) -> Fen {
        let Some(row) = self.ledger.prizes.get(&key) else { return Fen(0) };
        self.sum(key, (0..row.made).filter(|unit| !row.cancelled.contains(*unit)))
    }
}

impl Audit<'_> {
    /// Law 7: budget = awarded + unissued + locked, in units and in fen; and no awarded unit can be granted again.
    pub fn ledger(&mut self) {
        let mut broken = Vec::new();
        let mut awarded: BTreeMap<PrizeKey, BTreeSet<u64>> = BTreeMap::new();
        for award in self.log.awards.values() {
            awarded.entry(key_of(award.won.round, award.won.prize)).or_default().insert(award.won.unit);
        }
        for (key, row) in &self.evidence.ledger.prizes {
            if let Err(why) = row.check() {
                broken.push((7, why));
            }
            let none = BTreeSet::new();
            let units = awarded.get(key).unwrap_or(&none);
            let free: Vec<u64> = row.fresh.numbers().chain(row.returned.numbers()).collect();
            for unit in units {
                if free.contains(unit) || row.cancelled.contains(*unit) || *unit >= row.made {
                    broken.push((1, format!("unit {unit} of {key} was awarded, and the ledger has it free, cancelled or never made")));
                }
            }
            if row.used != units.len() as u64 {
                broken.push((
                    7,
                    format!("{key}: the ledger has {} units used, the log has {}", row.used, units.len()),
                ));
            }
            let parts = units.len() as u64 + free.len() as u64 + row.leased;
            if parts != row.budget() {
                broken.push((
                    7,
                    format!("{key}: budget {} units, awarded + unissued + locked {parts}", row.budget()),
                ));
            }
            let fen = self.evidence.sum(*key, units.iter().copied().chain(free.iter().copied()));
            let budget = self.evidence.fen_of_budget(*key);
            if row.leased == 0 && fen != budget {
                broken.push((7, format!("{key}: budget {} fen, awarded + unissued {} fen", budget.0, fen.0)));
            }
        }
        broken.into_iter().for_each(|(law, what)| self.broken(law, what));
    }

    /// Laws 6 and 7: a lease's wins are units of it; with what went back they are all of it; it stands in the log
    /// before its first win.
    pub fn leases(&mut self) {
        let mut broken = Vec::new();
        let mut used: BTreeMap<(Life, LeaseId), Ranges> = BTreeMap::new();
        let got: BTreeSet<(Life, LeaseId)> =
            self.log.got.iter().map(|(life, got)| (*life, got.lease)).collect();
        for award in self.log.awards.values() {
            let lease = (award.life, award.won.lease);
            if used
                .entry(lease)
                .or_default()
                .add(campaign::UnitRange { first: award.won.unit, count: 1 })
                .is_err()
            {
                broken.push((1, format!("unit {} was given twice from {}", award.won.unit, name(lease))));
            }
            if !got.contains(&lease) {
                broken.push((
                    7,
                    format!("award {} is from a lease that the log does not have", award.won.award),
                ));
            }
        }
        for (key, row) in &self.evidence.ledger.leases {
            let this = name(((key.node, key.epoch), key.lease));
            let wins = used.remove(&((key.node, key.epoch), key.lease)).unwrap_or_default();
            let Some(closed) = &row.closed else {
                broken.push((6, format!("{this} is open")));
                continue;
            };
            let mut all = wins.clone();
            let whole = all.add_all(&closed.returned).is_ok() && all == row.numbers();
            if !whole || closed.used != wins.len() {
                broken.push((
                    7,
                    format!(
                        "{this} ({}): units {}, won {wins}, closed with {} used and {} back",
                        row.prize,
                        row.numbers(),
                        closed.used,
                        closed.returned
                    ),
                ));
            }
        }
        for (lease, wins) in used {
            broken.push((
                7,
                format!("units {wins} were won from {}, which the ledger does not know", name(lease)),
            ));
        }
        broken.into_iter().for_each(|(law, what)| self.broken(law, what));
    }
}

fn name(((node, epoch), lease): (Life, LeaseId)) -> String {
    format!("lease {lease} of node {node} in epoch {epoch}")
}
