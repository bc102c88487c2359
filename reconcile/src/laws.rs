//! The laws of the money, each with 'holds' or the numbers that break it.

use crate::breaks::Kind;
use crate::matching::{Findings, Sum, Terms, Totals};
use crate::readers::copies::OneCopy;
use crate::readers::players::{ENTRIES_PER_UNIT, Tails};
use crate::rows::PrizeKey;

/// Whether a law holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// It was checked and holds.
    Holds,
    /// It was checked and is broken.
    Broken,
    /// A source that it needs was not given.
    NotChecked,
}

/// A law with its verdict.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Law {
    /// Its number.
    pub law: u8,
    /// Its name.
    pub name: &'static str,
    /// The verdict.
    pub verdict: Verdict,
    /// What was checked, or the numbers that break it.
    pub detail: String,
}

/// Which sources were given.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Given {
    /// The delivery journal.
    pub journal: bool,
    /// The ledger.
    pub ledger: bool,
    /// Statements.
    pub statements: bool,
    /// What players were told.
    pub told: bool,
    /// Every copy of what was told is on several machines.
    pub replicated: Option<bool>,
    /// Times in which it was on one all the same.
    pub one_copy: Vec<OneCopy>,
}

/// The law that a kind of break breaks; `None`: it is an open case that the laws allow.
pub fn law_of(kind: Kind) -> Option<u8> {
    use Kind::*;
    match kind {
        UnitTwice | UnitNotPlanned | UnitStillFree | AwardAmount | MacWrong => Some(1),
        ToldNotInFlow | ToldDiffers => Some(2),
        PaidTwice => Some(3),
        OrderMissing | JournalHole | LapsedEarly | MissingAtVendor => Some(4),
        LimitRound | LimitDay | LimitCampaign | DrawTwice => Some(5),
        UnitLost => Some(6),
        AwardTwice | LeaseUnknown | WonAfterClose | LeaseSums | OrderWithoutAward | OrderDiffers
        | OrderAmount | PaidNotInFlow | PaidAmount | PaidAgainstJournal | LedgerPlan | LedgerSums => Some(7),
        OrderPending | OpenPerson | OpenWorking | Stuck | NotYetOnStatement | ResolvedPaid
        | ResolvedFailed | ReversedUnnoticed | ReversalMissing => None,
    }
}

/// Names in a sentence of the report, at most; the rest is counted.
const NAMED_MAX: usize = 8;

/// Collects what breaks a law.
#[derive(Default)]
struct Faults {
    named: Vec<String>,
    more: usize,
}

impl Faults {
    fn add(&mut self, what: String) {
        if self.named.len() < NAMED_MAX { self.named.push(what) } else { self.more += 1 }
    }

    /// Breaks of the kinds that break this law.
    fn breaks(&mut self, law: u8, findings: &Findings<'_>) {
        for (kind, count) in findings.counts.iter().filter(|(kind, _)| law_of(**kind) == Some(law)) {
            self.add(format!("{count} x {}", kind.name()));
        }
    }

    fn law(self, law: u8, name: &'static str, holds: Verdict, detail: String) -> Law {
        if self.named.is_empty() {
            return Law { law, name, verdict: holds, detail };
        }
        let more = if self.more > 0 { format!("; and {} more", self.more) } else { String::new() };
        Law { law, name, verdict: Verdict::Broken, detail: self.named.join("; ") + &more }
    }
}

fn checked(given: bool) -> Verdict {
    if given { Verdict::Holds } else { Verdict::NotChecked }
}

/// Judges all laws.
pub fn judge_laws(findings: &Findings<'_>, given: &Given, tails: Option<&Tails>, terms: &Terms) -> Vec<Law> {
    vec![
        never_over_budget(findings, given),
        told_is_true(findings, given),
        paid_once(findings, given),
        everything_arrives(findings, given, terms),
        limits_hold(findings),
        nothing_stranded(findings, given, tails),
        every_fen(findings, given),
    ]
}

fn count(findings: &Findings<'_>, kinds: &[Kind]) -> u64 {
    kinds.iter().filter_map(|k| findings.counts.get(k)).sum()
}

fn never_over_budget(findings: &Findings<'_>, given: &Given) -> Law {
    let mut faults = Faults::default();
    for (key, t) in &findings.totals {
        if t.awarded.units > t.budget.units || t.awarded.fen > t.budget.fen {
            let (a, b) = (t.awarded, t.budget);
            faults.add(format!(
                "{key}: awarded {} units, {} yuan of {} units, {} yuan",
                a.units, a.fen, b.units, b.fen
            ));
        }
    }
    faults.breaks(1, findings);
    let awarded = total(findings, |t| t.awarded);
    let source = if given.ledger { "plan and ledger" } else { "the plan alone: no ledger was given" };
    let macs = match findings.macs {
        0 => "no MAC was checked".to_string(),
        n => format!("{n} MACs checked"),
    };
    let detail = format!(
        "{} units, {} yuan awarded within the budget by {source}; no unit twice; {macs}",
        awarded.units, awarded.fen
    );
    faults.law(1, "never over budget", Verdict::Holds, detail)
}

fn told_is_true(findings: &Findings<'_>, given: &Given) -> Law {
    let mut faults = Faults::default();
    faults.breaks(2, findings);
    let copies = copies(given);
    let detail = match given.told {
        true => format!("{} answers to players are in the flow archive as told{copies}", findings.told),
        false => format!("not checked: no record of what players were told was given{copies}"),
    };
    faults.law(2, "what a player was told is true", checked(given.told), detail)
}

/// What stands beside the law of how safely its promise was kept.
fn copies(given: &Given) -> String {
    let mut text = String::new();
    if given.replicated == Some(false) {
        text += "; not replicated";
    }
    let mut times = given.one_copy.clone();
    times.sort();
    for (at, time) in times.iter().take(NAMED_MAX).enumerate() {
        text += if at == 0 { "; with one copy only: " } else { ", " };
        text += &time.to_string();
    }
    if times.len() > NAMED_MAX {
        text += &format!(", and {} times more", times.len() - NAMED_MAX);
    }
    text
}

fn paid_once(findings: &Findings<'_>, given: &Given) -> Law {
    let mut faults = Faults::default();
    faults.breaks(3, findings);
    let paid = total(findings, |t| t.statement);
    let detail = match given.statements {
        true => format!("{} payments, no award with two", paid.units),
        false => "not checked: no vendor's statement was given".to_string(),
    };
    faults.law(3, "at most one payment", checked(given.statements), detail)
}

fn everything_arrives(findings: &Findings<'_>, given: &Given, terms: &Terms) -> Law {
    let mut faults = Faults::default();
    faults.breaks(4, findings);
    let open = total(findings, |t| t.open).units;
    let nameless = terms.responsible.trim().is_empty();
    if nameless && open > 0 {
        faults.add(format!("{open} open with nobody's name to them"));
    }
    let person =
        count(findings, &[Kind::OpenPerson, Kind::Stuck, Kind::ReversedUnnoticed, Kind::ReversalMissing]);
    let (delivered, lapsed) = (total(findings, |t| t.delivered).units, total(findings, |t| t.lapsed).units);
    let detail = match given.journal {
        true => format!(
            "{delivered} delivered, {lapsed} lapsed, {open} open, {person} of them for {} to decide; {} orders on the way",
            terms.responsible,
            total(findings, |t| t.ordering).units
        ),
        false => "not checked: no delivery journal was given".to_string(),
    };
    faults.law(4, "delivered, lapsed, or open with a name", checked(given.journal), detail)
}

fn limits_hold(findings: &Findings<'_>) -> Law {
    let mut faults = Faults::default();
    faults.breaks(5, findings);
    faults.law(
        5,
        "never over a user's limit",
        Verdict::Holds,
        "no user is above a limit, no draw won twice".to_string(),
    )
}

fn nothing_stranded(findings: &Findings<'_>, given: &Given, tails: Option<&Tails>) -> Law {
    let mut faults = Faults::default();
    let mut notes = Vec::new();
    let mut verdict = checked(given.ledger);
    let mut closed = 0;
    for (key, t) in findings.totals.iter().filter(|(_, t)| t.closed && t.in_ledger) {
        closed += 1;
        if t.locked.units != 0 {
            faults.add(format!("{key}: {} units locked in open leases of a closed round", t.locked.units));
        }
        if t.unissued.units == 0 || t.paused {
            continue;
        }
        let left = t.unissued.units;
        match tails.map(|tails| tails.get(&(key.campaign, key.round))) {
            Some(Some(tail)) if tail.enough() => {
                let (entries, units) = (tail.entries, tail.units_left);
                faults.add(format!("{key}: {left} units unissued, though {entries} entries came for the last {units} units"));
            }
            Some(Some(tail)) => notes.push(format!(
                "{key}: {left} units unissued; {} entries for the last {} units are fewer than {ENTRIES_PER_UNIT} each",
                tail.entries, tail.units_left
            )),
            _ => {
                verdict = Verdict::NotChecked;
                notes.push(format!("{key}: {left} units unissued; not checked: the entries of its last seconds were not given"));
            }
        }
    }
    faults.breaks(6, findings);
    let mut detail = match given.ledger {
        true => format!("{closed} prizes of closed rounds, nothing locked"),
        false => "not checked: no ledger was given".to_string(),
    };
    let more = notes.len().saturating_sub(NAMED_MAX);
    notes.truncate(NAMED_MAX);
    for note in notes {
        detail = detail + "; " + &note;
    }
    if more > 0 {
        detail = format!("{detail}; and {more} more");
    }
    faults.law(6, "nothing stranded", verdict, detail)
}

fn every_fen(findings: &Findings<'_>, given: &Given) -> Law {
    let mut faults = Faults::default();
    let mut seedless = 0;
    for (key, t) in &findings.totals {
        if given.ledger && t.in_ledger {
            seedless += u64::from(t.needs_seed);
            let parts = t.awarded + t.unissued + t.locked;
            let fen = t.needs_seed || t.budget.fen == parts.fen;
            if t.budget.units != parts.units || !fen {
                faults.add(equation(key, "budget", t.budget, "awarded + unissued + locked", parts));
            }
        } else if given.ledger && t.awarded.units != 0 {
            faults.add(format!("{key}: awarded, and the ledger has no such prize"));
        }
        if given.journal {
            let parts = t.delivered + t.open + t.lapsed + t.ordering;
            if t.awarded != parts {
                faults.add(equation(key, "awarded", t.awarded, "delivered + open + lapsed", parts));
            }
            let parts = t.statement + t.explained;
            if given.statements && t.delivered != parts {
                faults.add(equation(key, "delivered", t.delivered, "statement + open differences", parts));
            }
        }
    }
    faults.breaks(7, findings);
    let mut detail = "budget = awarded + unissued + locked; awarded = delivered + open + lapsed; delivered = statement + open differences".to_string();
    let open = total(findings, |t| t.explained);
    if open != Sum::default() {
        detail = format!("{detail} (open differences: {} units, {} yuan)", open.units, open.fen);
    }
    let mut verdict = checked(given.ledger && given.journal && given.statements);
    if verdict == Verdict::NotChecked {
        detail = "not checked in full: ledger, journal and statements are needed".to_string();
    } else if seedless > 0 {
        verdict = Verdict::NotChecked;
        detail = format!(
            "{detail}; amounts of {seedless} prizes not checked: the seeds of their rounds were not given"
        );
    }
    faults.law(7, "every fen adds up", verdict, detail)
}

fn equation(key: &PrizeKey, left: &str, a: Sum, right: &str, b: Sum) -> String {
    format!("{key}: {left} {} units, {} yuan; {right} {} units, {} yuan", a.units, a.fen, b.units, b.fen)
}

/// Sum of a column over all prizes.
pub fn total(findings: &Findings<'_>, column: impl Fn(&Totals) -> Sum) -> Sum {
    findings.totals.values().fold(Sum::default(), |sum, t| sum + column(t))
}

#[cfg(test)]
mod tests {
    use super::law_of;
    use crate::breaks::{Class, Kind};

    #[test]
    fn every_alarm_breaks_a_law_and_no_waiting_does() {
        for &kind in Kind::ALL {
            match kind.class() {
                Class::Alarm => assert!(law_of(kind).is_some(), "{}", kind.name()),
                Class::Wait => assert!(law_of(kind).is_none(), "{}", kind.name()),
                _ => {}
            }
        }
    }
}
