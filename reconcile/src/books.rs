//! The books of one reconciliation: takes rows of every source in any order, sorts them within a bounded memory, and
//! settles. No clock, no network; files only for what does not fit in memory. `run` fills it from disk; a simulation
//! fills it from what its simulated disks hold.

use crate::breaks::Break;
use crate::laws::{Given, judge_laws};
use crate::matching::awards::{Sources, match_awards};
use crate::matching::units::match_units;
use crate::matching::users::match_users;
use crate::matching::{Findings, Terms};
use crate::plans::Plans;
use crate::readers::archive::Place;
use crate::readers::archive::bytes::{Record, Won};
use crate::readers::archive::leases::LeaseBook;
use crate::readers::players::Tails;
use crate::readers::statement::{Coverage, Footer, Line};
use crate::readers::tables::Ledger;
use crate::rows::{
    AwardRow, MAC_RIGHT, MAC_UNCHECKED, MAC_WRONG, PaymentRow, StepRow, ToldRow, UnitRow, UserRow,
};
use crate::settlement::{BREAKS_KEPT_MAX, PrizeLine, Read, Settlement};
use crate::sort::{SortStats, Sorter};
use campaign::{MacKey, NodeId, VendorId};
use std::collections::BTreeMap;
use std::io;
use std::path::Path;

/// Sorters that share the memory.
const SORTERS: usize = 7;

/// Rows of every source, being collected.
pub struct Books {
    awards: Sorter<AwardRow>,
    units: Sorter<UnitRow>,
    users: Sorter<UserRow>,
    steps: Sorter<StepRow>,
    payments: Sorter<PaymentRow>,
    told: Sorter<ToldRow>,
    breaks: Sorter<Break>,
    leases: BTreeMap<NodeId, LeaseBook>,
    mac_keys: Vec<MacKey>,
    coverage: Coverage,
    ledger: Option<Ledger>,
    tails: Option<Tails>,
    given: Given,
    read: Read,
    foreign: crate::matching::Sum,
    foreign_counts: BTreeMap<crate::breaks::Kind, u64>,
    notes: Vec<String>,
}

impl Books {
    /// Empty books that sort within `memory` bytes and spill into `folder`, which must be there. MACs are checked if
    /// `mac_keys` is not empty.
    pub fn new(folder: &Path, memory: usize, mac_keys: Vec<MacKey>) -> Books {
        let share = memory / SORTERS;
        Books {
            awards: Sorter::new(folder, "awards", share),
            units: Sorter::new(folder, "units", share),
            users: Sorter::new(folder, "users", share),
            steps: Sorter::new(folder, "steps", share),
            payments: Sorter::new(folder, "payments", share),
            told: Sorter::new(folder, "told", share),
            breaks: Sorter::new(folder, "breaks", share),
            leases: BTreeMap::new(),
            mac_keys,
            coverage: Coverage::default(),
            ledger: None,
            tails: None,
            given: Given::default(),
            read: Read::default(),
            foreign: crate::matching::Sum::default(),
            foreign_counts: BTreeMap::new(),
            notes: Vec::new(),
        }
    }

    /// A record of the flow archive, in the order of its node's log.
    ///
    /// # Errors
    /// When it can't be kept, or the log has more open leases than can be.
    pub fn record(&mut self, place: Place, record: &Record) -> Result<(), String> {
        let book = self.leases.entry(place.node).or_insert_with(|| LeaseBook::new(place.node));
        if let Some(found) = book.take(place, record)? {
            self.found(found).map_err(|e| e.to_string())?;
        }
        if let Record::Won(won) = record {
            let row = self.award_row(place, won);
            self.award(row).map_err(|e| e.to_string())?;
        }
        Ok(())
    }

    fn award_row(&self, place: Place, won: &Won) -> AwardRow {
        let key = self.mac_keys.iter().find(|k| k.id == won.mac_key);
        let mac = match key {
            _ if self.mac_keys.is_empty() => MAC_UNCHECKED,
            Some(key) if key.mac(&won.facts) == won.mac => MAC_RIGHT,
            _ => MAC_WRONG,
        };
        AwardRow {
            award: won.facts.id,
            campaign: won.facts.campaign,
            round: won.facts.round,
            day: won.day,
            user: won.facts.user,
            counter: won.counter,
            prize: won.facts.prize,
            unit: won.facts.unit,
            fen: won.facts.fen,
            seq_no: won.seq_no,
            lease: won.lease,
            node: place.node,
            epoch: place.epoch,
            position: place.position,
            time_ms: won.time_ms,
            mac,
        }
    }

    /// An award. Through [`Books::record`] where the archive is read.
    ///
    /// # Errors
    /// When it can't be kept.
    pub fn award(&mut self, row: AwardRow) -> io::Result<()> {
        self.read.awards += 1;
        self.units.push(row.by_unit())?;
        self.users.push(row.by_user())?;
        self.awards.push(row)
    }

    /// A step of the delivery journal; also says that there is a journal.
    ///
    /// # Errors
    /// When it can't be kept.
    pub fn step(&mut self, row: StepRow) -> io::Result<()> {
        self.given.journal = true;
        self.read.steps += 1;
        self.steps.push(row)
    }

    /// A row of a statement.
    ///
    /// # Errors
    /// When it can't be kept.
    pub fn statement_line(&mut self, line: Line) -> io::Result<()> {
        self.read.statement_rows += 1;
        match line {
            Line::Ours(row) => self.payments.push(row),
            Line::Foreign(found) => self.found(found),
        }
    }

    /// The end of a statement.
    pub fn statement(&mut self, vendor: VendorId, footer: &Footer) {
        self.given.statements = true;
        self.coverage.add(vendor, footer);
    }

    /// What a player was told; also says that it was written down.
    ///
    /// # Errors
    /// When it can't be kept.
    pub fn told(&mut self, row: ToldRow) -> io::Result<()> {
        self.given.told = true;
        self.read.told += 1;
        self.told.push(row)
    }

    /// Sources that are given even if they hold nothing.
    pub fn given(&mut self) -> &mut Given {
        &mut self.given
    }

    /// The ledger.
    pub fn ledger(&mut self, ledger: Ledger) {
        self.given.ledger = true;
        self.ledger = Some(ledger);
    }

    /// How the rounds' last seconds went.
    pub fn tails(&mut self, tails: Tails) {
        self.tails = Some(tails);
    }

    /// Groups that were read of the archive.
    pub fn groups(&mut self, groups: u64) {
        self.read.groups += groups;
    }

    /// Something that a reader of the report should know.
    pub fn note(&mut self, note: String) {
        self.notes.push(note);
    }

    fn found(&mut self, found: Break) -> io::Result<()> {
        *self.foreign_counts.entry(found.kind).or_default() += 1;
        if found.kind == crate::breaks::Kind::PaidNotInFlow {
            // A reversal has a negative amount.
            let units = if found.found < campaign::Fen::ZERO { -1 } else { 1 };
            self.foreign = self.foreign + crate::matching::Sum { units, fen: found.found };
        }
        self.breaks.push(found)
    }

    /// Matches everything and settles. `each` gets every break in order, however many there are.
    ///
    /// # Errors
    /// When a run file can't be written or read, or `each` fails.
    pub fn settle(
        self,
        plans: &Plans,
        terms: &Terms,
        each: &mut dyn FnMut(&Break) -> io::Result<()>,
    ) -> io::Result<Settlement> {
        let Books {
            awards, units, users, steps, payments, told, mut breaks, coverage, ledger, tails, ..
        } = self;
        let mut read = self.read;
        let stats =
            [awards.stats(), units.stats(), users.stats(), steps.stats(), payments.stats(), told.stats()];
        let mut push = |found| breaks.push(found);
        let mut findings = Findings::new(&mut push);
        findings.foreign = self.foreign;
        findings.counts = self.foreign_counts;
        let (awards, steps) = (awards.finish()?, steps.finish()?);
        let sources = Sources { awards, steps, payments: payments.finish()?, told: told.finish()? };
        match_awards(sources, plans, &coverage, terms, &mut findings)?;
        match_units(units.finish()?, plans, ledger.as_ref(), terms.now_ms, &mut findings)?;
        match_users(users.finish()?, plans, &mut findings)?;
        let laws = judge_laws(&findings, &self.given, tails.as_ref(), terms);
        let Findings { totals, counts, foreign, matched, .. } = findings;
        for s in stats.into_iter().chain([breaks.stats()]) {
            let SortStats { runs, resident_max, .. } = s;
            read.runs += runs;
            read.resident_max = read.resident_max.max(resident_max);
        }
        let mut kept = Vec::new();
        for found in breaks.finish()? {
            let found = found?;
            each(&found)?;
            if kept.len() < BREAKS_KEPT_MAX {
                kept.push(found);
            }
        }
        let planned = plans.prizes();
        let lines = totals.into_iter().map(|(key, totals)| {
            let (round_name, name) =
                planned.get(&key).map_or((String::new(), "not in any plan".to_string()), |(r, p)| {
                    (r.name.clone(), p.name.clone())
                });
            PrizeLine { key, round_name, name, totals }
        });
        Ok(Settlement {
            now_ms: terms.now_ms,
            responsible: terms.responsible.clone(),
            laws,
            prizes: lines.collect(),
            breaks: kept,
            counts: counts.into_iter().collect(),
            matched,
            foreign,
            read,
            notes: self.notes,
        })
    }
}
