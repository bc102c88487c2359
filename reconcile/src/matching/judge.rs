//! The verdict on one award: what flow, journal and statements say of it, put together.

use super::{Findings, Terms};
use crate::breaks::{Break, Class, Kind};
use crate::plans::Plans;
use crate::readers::statement::Coverage;
use crate::rows::{AwardRow, DeliveryRow, Event, MAC_UNCHECKED, MAC_WRONG, PaymentRow, PrizeKey, State};
use campaign::{AwardId, Delivery, Fen, UserId, VendorId};
use std::io;

/// What the sources have of one award.
pub struct Case<'a> {
    /// The award.
    pub id: AwardId,
    /// The flow archive.
    pub award: Option<&'a AwardRow>,
    /// The journal.
    pub delivery: Option<&'a DeliveryRow>,
    /// The statements, by time.
    pub payments: &'a [PaymentRow],
}

/// What the statements come to for one award.
struct Paid {
    /// Payments less reversals.
    live: i64,
    /// Their money.
    fen: Fen,
    /// Amount and vendor of the last success.
    success: Option<(Fen, VendorId)>,
    reversed: bool,
    /// A second payment while another one stood.
    twice_ms: Option<u64>,
    last_ms: u64,
    /// Generations declared dead.
    failed: Vec<u16>,
}

fn paid_of(payments: &[PaymentRow]) -> Paid {
    let mut paid = Paid {
        live: 0,
        fen: Fen::ZERO,
        success: None,
        reversed: false,
        twice_ms: None,
        last_ms: 0,
        failed: vec![],
    };
    // A reversal and a new payment of one instant: sorted so that the reversal comes first.
    for row in payments {
        match row.event {
            Event::Success => {
                paid.live += 1;
                paid.fen += row.fen;
                paid.success = Some((row.fen, row.vendor));
                if paid.live > 1 {
                    paid.twice_ms = paid.twice_ms.or(Some(row.finished_ms));
                }
            }
            Event::Reversed => {
                paid.live -= 1;
                paid.fen = paid.fen - row.fen;
                paid.reversed = true;
            }
            Event::Failed => paid.failed.push(row.generation),
        }
        paid.last_ms = row.finished_ms;
    }
    paid
}

/// Everything that the verdict needs, so that its parts stay short.
struct Judge<'a, 'b, 'c> {
    case: &'a Case<'a>,
    paid: Paid,
    key: PrizeKey,
    user: UserId,
    plans: &'a Plans,
    coverage: &'a Coverage,
    terms: &'a Terms,
    findings: &'b mut Findings<'c>,
}

/// Judges an award: adds it to the totals and says what is wrong.
///
/// # Errors
/// When a break can't be kept.
pub fn judge(
    case: &Case<'_>,
    plans: &Plans,
    coverage: &Coverage,
    terms: &Terms,
    findings: &mut Findings<'_>,
) -> io::Result<()> {
    let (key, user) = match (case.award, case.delivery) {
        (Some(a), _) => (a.key(), a.user),
        (None, Some(d)) => (d.last.key(), d.last.user),
        (None, None) => return stranger(case, findings),
    };
    let paid = paid_of(case.payments);
    Judge { case, paid, key, user, plans, coverage, terms, findings }.run()
}

/// Statement rows under a number whose award nobody knows, or nothing at all (only told).
fn stranger(case: &Case<'_>, findings: &mut Findings<'_>) -> io::Result<()> {
    for row in case.payments.iter().filter(|r| r.event != Event::Failed) {
        match row.event {
            Event::Success => findings.foreign.one(row.fen),
            _ => findings.foreign.less(row.fen),
        }
    }
    if let Some(first) = case.payments.iter().find(|r| r.event != Event::Failed) {
        let detail = format!("vendor {} paid {} yuan for it", first.vendor, first.fen);
        let key = PrizeKey { campaign: 0.into(), round: 0.into(), prize: 0.into() };
        let found = Break::of_award(Kind::PaidNotInFlow, case.id, key, detail);
        findings.add(Break {
            vendor: first.vendor,
            found: first.fen,
            since_ms: first.finished_ms,
            ..found
        })?;
    }
    Ok(())
}

impl Judge<'_, '_, '_> {
    fn run(mut self) -> io::Result<()> {
        let before: u64 = self.findings.counts.values().sum();
        let totals = self.findings.of(self.key);
        totals.statement = totals.statement + super::Sum { units: self.paid.live, fen: self.paid.fen };
        if let Some(award) = self.case.award {
            totals.awarded.one(award.fen);
            self.mac(award)?;
        }
        if let Some(ms) = self.paid.twice_ms {
            let detail = format!("{} payments stand, {} yuan in all", self.paid.live.max(2), self.paid.fen);
            self.add(Kind::PaidTwice, ms, detail)?;
        }
        match (self.case.award, self.case.delivery) {
            (Some(award), None) => self.no_order(award)?,
            (None, Some(delivery)) => {
                let detail = format!("delivery has it as {}", delivery.last.state.name());
                self.add(Kind::OrderWithoutAward, delivery.last.at_ms, detail)?;
                self.delivery(delivery)?;
            }
            (Some(award), Some(delivery)) => {
                self.facts(award, delivery)?;
                self.delivery(delivery)?;
            }
            (None, None) => {}
        }
        if self.findings.counts.values().sum::<u64>() == before {
            self.findings.matched += 1;
        }
        Ok(())
    }

    fn add(&mut self, kind: Kind, since_ms: u64, detail: String) -> io::Result<()> {
        let vendor = match (self.case.delivery, self.paid.success) {
            (Some(d), _) => d.last.vendor,
            (None, Some((_, vendor))) => vendor,
            (None, None) => VendorId(0),
        };
        let expected =
            self.case.award.map(|a| a.fen).or(self.case.delivery.map(|d| d.last.fen)).unwrap_or_default();
        let history = self
            .case
            .delivery
            .filter(|_| kind.class() != Class::Wait)
            .map(|d| format!("; journal: {}", d.history()));
        let detail = detail + &history.unwrap_or_default();
        let found = Break::of_award(kind, self.case.id, self.key, detail).by(self.user, since_ms);
        self.findings.add(Break { vendor, expected, found: self.paid.fen, ..found })
    }

    fn mac(&mut self, award: &AwardRow) -> io::Result<()> {
        if award.mac != MAC_UNCHECKED {
            self.findings.macs += 1;
        }
        if award.mac == MAC_WRONG {
            let place = format!("node {} epoch {} group {}", award.node, award.epoch, award.position);
            self.add(
                Kind::MacWrong,
                award.time_ms,
                format!("the record in {place} has a MAC that none of our keys gives"),
            )?;
        }
        Ok(())
    }

    fn no_order(&mut self, award: &AwardRow) -> io::Result<()> {
        if self.paid.live != 0 {
            self.add(
                Kind::PaidAgainstJournal,
                self.paid.last_ms,
                "paid, and delivery has no order".to_string(),
            )?;
        }
        let age_ms = self.terms.now_ms.saturating_sub(award.time_ms);
        if age_ms > self.terms.order_ms {
            return self.add(
                Kind::OrderMissing,
                award.time_ms,
                format!("no order {} s after the win", age_ms / 1000),
            );
        }
        self.findings.of(self.key).ordering.one(award.fen);
        self.add(Kind::OrderPending, award.time_ms, "its order is on the way".to_string())
    }

    fn facts(&mut self, award: &AwardRow, delivery: &DeliveryRow) -> io::Result<()> {
        let last = &delivery.last;
        if (award.user, award.key()) != (last.user, last.key()) || delivery.facts_change {
            let detail = format!(
                "flow: user {} {}; journal: user {} {}",
                award.user,
                award.key(),
                last.user,
                last.key()
            );
            self.add(Kind::OrderDiffers, last.at_ms, detail)?;
        }
        if award.fen != last.fen {
            let detail = format!("flow {} yuan, journal {} yuan", award.fen, last.fen);
            self.add(Kind::OrderAmount, last.at_ms, detail)?;
        }
        if last.state == State::Lapsed {
            self.lapse(award, delivery)?;
        }
        Ok(())
    }

    fn lapse(&mut self, award: &AwardRow, delivery: &DeliveryRow) -> io::Result<()> {
        let Some(prize) = self.plans.prize_at(award.key(), award.seq_no) else { return Ok(()) };
        let term_ms = match prize.delivery {
            Delivery::OnClaim { term_ms } => Some(term_ms),
            Delivery::AtOnce => None,
        };
        let at_ms = delivery.last.at_ms;
        match term_ms {
            Some(term_ms) if at_ms >= award.time_ms.saturating_add(term_ms) => Ok(()),
            Some(term_ms) => {
                let after = at_ms.saturating_sub(award.time_ms);
                self.add(
                    Kind::LapsedEarly,
                    at_ms,
                    format!("after {} s of a term of {} s", after / 1000, term_ms / 1000),
                )
            }
            None => self.add(
                Kind::LapsedEarly,
                at_ms,
                "the prize is delivered at once and has no term".to_string(),
            ),
        }
    }

    fn delivery(&mut self, delivery: &DeliveryRow) -> io::Result<()> {
        let last = &delivery.last;
        if delivery.hole > 0 {
            self.add(
                Kind::JournalHole,
                last.at_ms,
                format!("step {} is missing or there twice", delivery.hole),
            )?;
        }
        // Under the prize of the flow, where both speak; a difference is a break of its own.
        let totals = self.findings.of(self.key);
        match last.state {
            State::Delivered => totals.delivered.one(last.fen),
            State::Lapsed => totals.lapsed.one(last.fen),
            _ => totals.open.one(last.fen),
        }
        if let (Some((fen, vendor)), true) = (self.paid.success, self.paid.twice_ms.is_none())
            && (fen != last.fen || vendor != last.vendor)
        {
            let detail = format!(
                "vendor {vendor} paid {fen} yuan; the order says {} yuan by vendor {}",
                last.fen, last.vendor
            );
            self.add(Kind::PaidAmount, self.paid.last_ms, detail)?;
        }
        match last.state {
            State::Delivered => self.delivered(delivery),
            State::Reversed => self.reversed(delivery),
            State::New | State::Lapsed | State::Rejected => self.unsent(delivery),
            _ => self.working(delivery),
        }
    }

    /// Is the vendor's last word on everything up to the last step there?
    fn final_word(&self, delivery: &DeliveryRow) -> bool {
        let last = &delivery.last;
        let from_ms = self.case.award.map_or(self.case.id.time_ms(), |a| a.time_ms);
        self.coverage.covers(
            last.vendor,
            from_ms.min(last.at_ms),
            last.at_ms.saturating_add(self.terms.clock_ms),
        )
    }

    /// Delivered and statement differ by this award, and the difference is an open case with a name.
    fn explain(&mut self, delivered: bool, fen: Fen) {
        let explained = &mut self.findings.of(self.key).explained;
        if delivered { explained.one(fen) } else { explained.less(fen) }
    }

    fn delivered(&mut self, delivery: &DeliveryRow) -> io::Result<()> {
        let last = &delivery.last;
        if self.paid.live > 0 {
            return Ok(());
        }
        if self.paid.reversed {
            self.explain(true, last.fen);
            return self.add(
                Kind::ReversedUnnoticed,
                self.paid.last_ms,
                "taken back by the statement".to_string(),
            );
        }
        let age_ms = self.terms.now_ms.saturating_sub(last.at_ms);
        if self.final_word(delivery) {
            let detail = format!(
                "delivered at {} ms; the final statement of vendor {} has no payment",
                last.at_ms, last.vendor
            );
            return self.add(Kind::MissingAtVendor, last.at_ms, detail);
        }
        if age_ms > self.terms.statement_ms {
            let detail = format!("delivered {} s ago and on no statement", age_ms / 1000);
            return self.add(Kind::MissingAtVendor, last.at_ms, detail);
        }
        self.explain(true, last.fen);
        let why = if self.coverage.knows(last.vendor) {
            "no statement is final up to it"
        } else {
            "no statement of its vendor was given"
        };
        self.add(Kind::NotYetOnStatement, last.at_ms, why.to_string())
    }

    fn reversed(&mut self, delivery: &DeliveryRow) -> io::Result<()> {
        let at_ms = delivery.last.at_ms;
        if self.paid.live > 0 {
            self.explain(false, self.paid.fen);
            if self.final_word(delivery) {
                self.add(Kind::ReversalMissing, at_ms, "the final statement has it as paid".to_string())?;
            }
        }
        self.add(Kind::OpenPerson, at_ms, "delivered once and taken back".to_string())
    }

    fn unsent(&mut self, delivery: &DeliveryRow) -> io::Result<()> {
        let last = &delivery.last;
        if self.paid.live != 0 {
            return self.add(
                Kind::PaidAgainstJournal,
                self.paid.last_ms,
                format!("paid; the journal has it as {}", last.state.name()),
            );
        }
        match last.state {
            State::Rejected => self.add(Kind::OpenPerson, last.at_ms, "refused for good".to_string()),
            State::New if last.due_ms > 0 => {
                self.overdue(delivery, "waits for its player, whose term is over")
            }
            _ => Ok(()),
        }
    }

    fn working(&mut self, delivery: &DeliveryRow) -> io::Result<()> {
        let last = &delivery.last;
        if self.paid.live > 0 {
            self.explain(false, self.paid.fen);
            return self.add(
                Kind::ResolvedPaid,
                self.paid.last_ms,
                format!("paid; the journal has it as {}", last.state.name()),
            );
        }
        let undecided = matches!(last.state, State::Unknown | State::Accepted | State::Sending);
        if undecided && self.paid.failed.contains(&last.generation) {
            let detail =
                format!("number {:02} is dead; the journal has it as {}", last.generation, last.state.name());
            return self.add(Kind::ResolvedFailed, self.paid.last_ms, detail);
        }
        let stuck = self.terms.now_ms.saturating_sub(last.at_ms.max(last.due_ms)) > self.terms.stuck_ms;
        let kind = if stuck { Kind::Stuck } else { Kind::OpenWorking };
        self.add(
            kind,
            last.at_ms,
            format!("delivery has it as {} since step {}", last.state.name(), last.step),
        )
    }

    fn overdue(&mut self, delivery: &DeliveryRow, why: &str) -> io::Result<()> {
        let last = &delivery.last;
        if self.terms.now_ms.saturating_sub(last.due_ms) > self.terms.stuck_ms {
            return self.add(Kind::Stuck, last.due_ms, why.to_string());
        }
        Ok(())
    }
}
