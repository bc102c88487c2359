//! The pass by award id: four sources side by side, one award at a time.

use super::judge::{Case, judge};
use super::{Findings, Groups, Terms};
use crate::breaks::{Break, Kind};
use crate::plans::Plans;
use crate::readers::statement::Coverage;
use crate::rows::{AwardRow, DeliveryRow, HISTORY_MAX, PaymentRow, StepRow, ToldRow};
use campaign::AwardId;
use std::io;

/// Statement rows of one award that are looked at one by one; what is above makes one more break.
const PAYMENTS_MAX: usize = 1_024;

/// The sources, each sorted by award.
pub struct Sources<A, S, P, T> {
    /// The flow archive.
    pub awards: A,
    /// The delivery journal, by award and step.
    pub steps: S,
    /// The statements.
    pub payments: P,
    /// What players were told.
    pub told: T,
}

/// Matches the sources award by award.
///
/// # Errors
/// When a source can't be read on, or a break not be kept.
pub fn match_awards<A, S, P, T>(
    sources: Sources<A, S, P, T>,
    plans: &Plans,
    coverage: &Coverage,
    terms: &Terms,
    findings: &mut Findings<'_>,
) -> io::Result<()>
where
    A: Iterator<Item = io::Result<AwardRow>>,
    S: Iterator<Item = io::Result<StepRow>>,
    P: Iterator<Item = io::Result<PaymentRow>>,
    T: Iterator<Item = io::Result<ToldRow>>,
{
    let mut awards = Groups::new(sources.awards);
    let mut steps = Groups::new(sources.steps);
    let mut payments = Groups::new(sources.payments);
    let mut told = Groups::new(sources.told);
    loop {
        let heads: [Option<AwardId>; 4] = [
            awards.peek()?.map(|r| r.award),
            steps.peek()?.map(|r| r.award),
            payments.peek()?.map(|r| r.award),
            told.peek()?.map(|r| r.award),
        ];
        let Some(id) = heads.into_iter().flatten().min() else { return Ok(()) };
        let award = take_award(&mut awards, id, findings)?;
        let delivery = take_delivery(&mut steps, id)?;
        let paid = take_payments(&mut payments, id, findings)?;
        let case = Case { id, award: award.as_ref(), delivery: delivery.as_ref(), payments: &paid };
        judge(&case, plans, coverage, terms, findings)?;
        while let Some(row) = told.next_if(|r| r.award == id)? {
            findings.told += 1;
            check_told(award.as_ref(), &row, findings)?;
        }
    }
}

fn take_award<I: Iterator<Item = io::Result<AwardRow>>>(
    rows: &mut Groups<AwardRow, I>,
    id: AwardId,
    findings: &mut Findings<'_>,
) -> io::Result<Option<AwardRow>> {
    let first = rows.next_if(|r| r.award == id)?;
    while let Some(again) = rows.next_if(|r| r.award == id)? {
        let place = |r: &AwardRow| format!("node {} epoch {} group {}", r.node, r.epoch, r.position);
        let detail = format!("in {} and in {}", first.as_ref().map(place).unwrap_or_default(), place(&again));
        findings
            .add(Break::of_award(Kind::AwardTwice, id, again.key(), detail).by(again.user, again.time_ms))?;
    }
    Ok(first)
}

fn take_delivery<I: Iterator<Item = io::Result<StepRow>>>(
    rows: &mut Groups<StepRow, I>,
    id: AwardId,
) -> io::Result<Option<DeliveryRow>> {
    let mut delivery: Option<DeliveryRow> = None;
    let mut expected = 1;
    while let Some(step) = rows.next_if(|r| r.award == id)? {
        let before = delivery.take();
        let mut row = match before {
            None => DeliveryRow { last: step.clone(), hole: 0, facts_change: false, history: Vec::new() },
            Some(mut row) => {
                row.facts_change |= facts(&row.last) != facts(&step);
                row.last = step.clone();
                row
            }
        };
        if row.hole == 0 && step.step != expected {
            row.hole = expected.min(step.step).max(1);
        }
        if row.history.len() < HISTORY_MAX {
            row.history.push((step.step, step.state));
        }
        expected = step.step.saturating_add(1);
        delivery = Some(row);
    }
    Ok(delivery)
}

fn facts(step: &StepRow) -> impl PartialEq {
    (step.vendor, step.user, step.campaign, step.round, step.prize, step.fen)
}

fn take_payments<I: Iterator<Item = io::Result<PaymentRow>>>(
    rows: &mut Groups<PaymentRow, I>,
    id: AwardId,
    findings: &mut Findings<'_>,
) -> io::Result<Vec<PaymentRow>> {
    let mut paid: Vec<PaymentRow> = Vec::new();
    let mut more = 0u64;
    while let Some(row) = rows.next_if(|r| r.award == id)? {
        // The same row in two statements is one row.
        if paid.last() == Some(&row) {
            continue;
        }
        if paid.len() < PAYMENTS_MAX {
            paid.push(row);
        } else {
            more += 1;
        }
    }
    if more > 0 {
        let detail = format!("{more} statement rows more than the {PAYMENTS_MAX} that were looked at");
        findings.add(Break { award: id, ..Break::of(Kind::PaidTwice, format!("{id}/more"), detail) })?;
    }
    Ok(paid)
}

fn check_told(award: Option<&AwardRow>, told: &ToldRow, findings: &mut Findings<'_>) -> io::Result<()> {
    let key = told.key();
    match award {
        None => {
            let found = Break::of_award(Kind::ToldNotInFlow, told.award, key, "no node's log has it");
            findings.add(found.by(told.user, told.award.time_ms()).amounts(told.fen, campaign::Fen::ZERO))
        }
        Some(award) if (award.user, award.key(), award.fen) != (told.user, key, told.fen) => {
            let detail =
                format!("told user {} {}; the flow has user {} {}", told.user, key, award.user, award.key());
            let found = Break::of_award(Kind::ToldDiffers, told.award, award.key(), detail);
            findings.add(found.by(told.user, award.time_ms).amounts(told.fen, award.fen))
        }
        Some(_) => Ok(()),
    }
}
