//! The pass by unit: every number of a prize stands in exactly one place: awarded, free in the ledger, cancelled, or in an
//! open lease. What stands in two is a unit that could be given twice; what stands in none is lost.

use super::{Findings, Groups, Sum};
use crate::breaks::{Break, Kind};
use crate::plans::{PlannedUnits, Plans, UnitFen};
use crate::readers::tables::{Ledger, LedgerPrize};
use crate::rows::{PrizeKey, UnitRow};
use campaign::{Fen, Prize, Ranges, UnitRange};
use std::collections::BTreeMap;
use std::io;

/// Where the ledger has a range of units.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum At {
    Free,
    Cancelled,
    Leased,
}

/// Checks every prize's units. `rows` are sorted by unit; without a ledger only plan and awards are compared.
///
/// # Errors
/// When the rows can't be read on, or a break not be kept.
pub fn match_units(
    rows: impl Iterator<Item = io::Result<UnitRow>>,
    plans: &Plans,
    ledger: Option<&Ledger>,
    now_ms: u64,
    findings: &mut Findings<'_>,
) -> io::Result<()> {
    let mut rows = Groups::new(rows);
    let planned = plans.prizes();
    let mut stock: BTreeMap<PrizeKey, &LedgerPrize> = BTreeMap::new();
    for prize in ledger.into_iter().flat_map(|l| &l.prizes) {
        stock.insert(prize.key, prize);
    }
    let mut keys: Vec<PrizeKey> = planned.keys().chain(stock.keys()).copied().collect();
    keys.sort_unstable();
    keys.dedup();
    for key in keys {
        // Awards of prizes that neither plan nor ledger has come before.
        while let Some(row) = rows.next_if(|r| r.key() < key)? {
            not_planned(&row, findings)?;
        }
        let prize = planned.get(&key);
        let mut pass = Pass::new(key, prize.map(|p| p.1), plans, findings);
        pass.findings.of(key).closed = prize.is_some_and(|(round, _)| round.close_ms <= now_ms);
        if let Some(row) = stock.get(&key) {
            pass.take_ledger(row, ledger)?;
        }
        pass.run(&mut rows)?;
    }
    while let Some(row) = rows.next_if(|_| true)? {
        not_planned(&row, findings)?;
    }
    Ok(())
}

fn not_planned(row: &UnitRow, findings: &mut Findings<'_>) -> io::Result<()> {
    let detail = format!("no plan has unit {} of {}", row.unit, row.key());
    let found = Break::of_award(Kind::UnitNotPlanned, row.award, row.key(), detail);
    findings.add(found.by(row.user, row.time_ms).amounts(Fen::ZERO, row.fen))
}

struct Pass<'a, 'b> {
    key: PrizeKey,
    units: Option<PlannedUnits>,
    made: Option<u64>,
    places: Vec<(UnitRange, At)>,
    at: usize,
    /// Numbers below are accounted for.
    next: u64,
    findings: &'a mut Findings<'b>,
}

impl<'a, 'b> Pass<'a, 'b> {
    fn new(
        key: PrizeKey,
        prize: Option<&Prize>,
        plans: &Plans,
        findings: &'a mut Findings<'b>,
    ) -> Pass<'a, 'b> {
        let units = prize.map(|p| plans.units(key, p));
        let totals = findings.of(key);
        if let Some(units) = &units {
            totals.budget = Sum::of(units.planned(), units.fen());
        }
        Pass { key, units, made: None, places: Vec::new(), at: 0, next: 0, findings }
    }

    fn sum(&mut self, set: &Ranges) -> Sum {
        let fen = match &mut self.units {
            Some(units) => units.sum(set),
            None => Some(Fen::ZERO),
        };
        if fen.is_none() {
            self.findings.of(self.key).needs_seed = true;
        }
        Sum::of(set.len(), fen.unwrap_or_default())
    }

    fn broken(&mut self, kind: Kind, what: &str, detail: String) -> io::Result<()> {
        self.findings.add(Break::of(kind, format!("{}/{what}", self.key), detail).on(self.key))
    }

    fn take_ledger(&mut self, row: &LedgerPrize, ledger: Option<&Ledger>) -> io::Result<()> {
        self.made = Some(row.made);
        let planned = self.units.as_ref().map_or(0, PlannedUnits::planned);
        if planned != row.made {
            self.broken(
                Kind::LedgerPlan,
                "made",
                format!("the plan has {planned} units, the ledger {}", row.made),
            )?;
        }
        let mut leased = Ranges::new();
        for lease in ledger.into_iter().flat_map(|l| &l.open).filter(|l| l.key == row.key) {
            for &range in &lease.units {
                if let Err(twice) = leased.add(range) {
                    let (node, epoch, number) = lease.id;
                    let detail = format!(
                        "unit {} is in lease {number} of node {node} epoch {epoch} and in another one",
                        twice.number
                    );
                    self.broken(Kind::LedgerSums, &format!("unit {}", twice.number), detail)?;
                }
            }
        }
        if leased.len() != row.leased {
            let detail =
                format!("open leases hold {} units, the prize row says {}", leased.len(), row.leased);
            self.broken(Kind::LedgerSums, "leased", detail)?;
        }
        let elsewhere = row.fresh.len() + row.came_back.len() + row.cancelled.len() + row.leased;
        if row.made.checked_sub(elsewhere) != Some(row.used) {
            let detail =
                format!("{} made, {elsewhere} free, cancelled or leased, and {} used", row.made, row.used);
            self.broken(Kind::LedgerSums, "used", detail)?;
        }
        let (fresh, back) = (self.sum(&row.fresh), self.sum(&row.came_back));
        let (cancelled, locked) = (self.sum(&row.cancelled), self.sum(&leased));
        let totals = self.findings.of(self.key);
        totals.budget = totals.budget - cancelled;
        totals.unissued = fresh + back;
        totals.locked = locked;
        totals.paused = row.paused;
        totals.in_ledger = true;
        for (set, at) in [
            (&row.fresh, At::Free),
            (&row.came_back, At::Free),
            (&row.cancelled, At::Cancelled),
            (&leased, At::Leased),
        ] {
            self.places.extend(set.iter().map(|range| (range, at)));
        }
        self.places.sort_unstable();
        let twice = self.places.windows(2).find(|w| w[1].0.first < w[0].0.end()).map(|w| w[1].0.first);
        if let Some(unit) = twice {
            self.broken(
                Kind::LedgerSums,
                "twice",
                format!("unit {unit} stands in two places of the ledger"),
            )?;
        }
        Ok(())
    }

    fn run<I: Iterator<Item = io::Result<UnitRow>>>(
        mut self,
        rows: &mut Groups<UnitRow, I>,
    ) -> io::Result<()> {
        let key = self.key;
        let mut last: Option<UnitRow> = None;
        while let Some(row) = rows.next_if(|r| r.key() == key)? {
            match &last {
                Some(before) if before.unit == row.unit => {
                    // The same award twice is found by its id.
                    if before.award != row.award {
                        let detail = format!("unit {} went to award {} too", row.unit, before.award);
                        let found = Break::of_award(Kind::UnitTwice, row.award, key, detail);
                        self.findings.add(found.by(row.user, row.time_ms).amounts(Fen::ZERO, row.fen))?;
                    }
                }
                _ => self.awarded(&row)?,
            }
            last = Some(row);
        }
        if let Some(made) = self.made {
            self.advance(made)?;
        }
        Ok(())
    }

    /// A unit that is awarded, the first award of it.
    fn awarded(&mut self, row: &UnitRow) -> io::Result<()> {
        match self.units.as_mut().map_or(UnitFen::NotPlanned, |u| u.amount(row.unit)) {
            UnitFen::NotPlanned => not_planned(row, self.findings)?,
            UnitFen::NeedsSeed => self.findings.of(self.key).needs_seed = true,
            UnitFen::Is(fen) if fen == row.fen => {}
            UnitFen::Is(fen) => {
                let detail = format!("unit {} is worth {fen} yuan, the award says {}", row.unit, row.fen);
                let found = Break::of_award(Kind::AwardAmount, row.award, self.key, detail);
                self.findings.add(found.by(row.user, row.time_ms).amounts(fen, row.fen))?;
            }
        }
        if self.made.is_none_or(|made| row.unit >= made) {
            return Ok(());
        }
        self.advance(row.unit)?;
        self.next = row.unit + 1;
        while self.places.get(self.at).is_some_and(|(range, _)| range.end() <= row.unit) {
            self.at += 1;
        }
        match self.places.get(self.at) {
            Some((range, At::Leased)) if range.first <= row.unit => {
                // Awarded from a lease that is still open: no longer locked. Its amount is the unit's, not the award's.
                let one = self.sum(&Ranges::one(row.unit, 1));
                let totals = self.findings.of(self.key);
                totals.locked = totals.locked - one;
                Ok(())
            }
            Some((range, at)) if range.first <= row.unit => {
                let at = if *at == At::Free { "free" } else { "cancelled" };
                let detail = format!("unit {} is awarded, and {at} in the ledger", row.unit);
                let found = Break::of_award(Kind::UnitStillFree, row.award, self.key, detail);
                self.findings.add(found.by(row.user, row.time_ms).amounts(Fen::ZERO, row.fen))
            }
            _ => Ok(()),
        }
    }

    /// Accounts for the numbers up to `unit`, which no award has.
    fn advance(&mut self, unit: u64) -> io::Result<()> {
        while self.next < unit {
            while self.places.get(self.at).is_some_and(|(range, _)| range.end() <= self.next) {
                self.at += 1;
            }
            match self.places.get(self.at).map(|(range, _)| *range) {
                Some(range) if range.first <= self.next => self.next = range.end().min(unit),
                range => {
                    let end = range.map_or(unit, |r| r.first.min(unit));
                    let lost = Ranges::one(self.next, end - self.next);
                    let detail =
                        format!("units {lost} are neither awarded nor free, cancelled or in an open lease");
                    self.broken(Kind::UnitLost, &format!("unit {}", self.next), detail)?;
                    self.next = end;
                }
            }
        }
        Ok(())
    }
}
