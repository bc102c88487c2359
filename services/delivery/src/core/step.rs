//! The state machine.
//!
//! What it holds to, whatever comes in which order:
//! - a number is sent again only with the same data, inside the vendor's window for repeats, and only when the vendor
//!   said 'not taken' or, asked late enough, 'not found';
//! - a new number is made only when the vendor says that the old one is dead;
//! - time makes nothing final: a call without an answer is unknown until the vendor has said what became of it;
//! - what can't be decided from what the vendor says goes to a person ([`DeliveryState::Rejected`] with its reason),
//!   and never out of sight.

use super::input::{Answer, AskAnswer, Fact, FactKind, Input, Refused, Step};
use super::number::GENERATION_MAX;
use super::policy::VendorPolicy;
use super::row::{OrderRow, Reason, TEXT_MAX, TIME_MAX_MS};
use records::{DeliveryState as S, Order, OrderKind};

/// The first step of an order that the book does not know. `vendor_known`: somebody will serve it.
pub fn first_step(order: &Order, now_ms: u64, vendor_known: bool) -> Step {
    let mut row = OrderRow::of(order);
    row.step = 1;
    match order.kind {
        OrderKind::OnClaim => (row.state, row.due_ms) = (S::New, row.lapse_ms),
        OrderKind::AtOnce | OrderKind::Claim if vendor_known => {
            (row.state, row.due_ms) = (S::Ready, now_ms.max(1));
        }
        OrderKind::AtOnce | OrderKind::Claim => {
            (row.state, row.reason) = (S::Rejected, Reason::UnknownVendor);
        }
    }
    let event = row.event(now_ms);
    Step { row, event, send: false, alarm: None }
}

/// What becomes of `row` when `input` happens at `now_ms`.
///
/// `policy` is `None` for a vendor that is not configured. `random` is any uniform number; it spreads delays.
///
/// # Errors
/// Why nothing changes; see [`Refused`].
pub fn step(
    row: &OrderRow,
    input: &Input,
    now_ms: u64,
    policy: Option<&VendorPolicy>,
    random: u64,
) -> Result<Step, Refused> {
    let mut m = Machine { row: row.clone(), now: now_ms.max(1), random, send: false, alarm: None };
    match (input, policy) {
        (Input::Lapse, _) => m.lapse()?,
        (Input::Claim, policy) => m.claim(policy.is_some())?,
        (Input::VendorGone, None) => m.vendor_gone()?,
        (Input::VendorGone, Some(_)) | (_, None) => return Err(Refused::NotPossible),
        (Input::Permit { payee, merchant, body_sha256 }, Some(p)) => {
            m.permit(p, payee, merchant, body_sha256)?;
        }
        (Input::NoAccountKnown, Some(p)) => {
            m.must_be_due_to_send()?;
            m.held(p);
        }
        (Input::CannotBeSent { note }, Some(_)) => {
            m.must_be_due_to_send()?;
            m.rejected(Reason::CannotBeSent, note);
        }
        (Input::Answered { attempt, generation, answer }, Some(p)) => {
            if m.row.state == S::Sending && (m.row.attempt, m.row.generation) == (*attempt, *generation) {
                m.answered(p, answer);
            } else {
                m.answered_late(p, *generation, answer)?;
            }
        }
        (Input::TimedOut { attempt }, Some(p)) => m.timed_out(p, *attempt)?,
        (Input::Asked { attempt, asked_ms, answer }, Some(p)) => m.asked(p, *attempt, *asked_ms, answer)?,
        (Input::Callback(fact), Some(p)) => m.fact(p, fact)?,
        (Input::AccountRegistered { account }, Some(_)) => m.account_registered(account)?,
        (Input::Redo, Some(_)) => m.redo()?,
    }
    m.row.due_ms = m.row.due_ms.min(TIME_MAX_MS);
    m.row.step = row.step.checked_add(1).ok_or(Refused::UsedUp)?;
    let event = m.row.event(now_ms);
    Ok(Step { row: m.row, event, send: m.send, alarm: m.alarm })
}

struct Machine {
    row: OrderRow,
    now: u64,
    random: u64,
    send: bool,
    alarm: Option<&'static str>,
}

impl Machine {
    fn to(&mut self, state: S, due_ms: u64, reason: Reason, note: &str) {
        self.row.state = state;
        self.row.due_ms = due_ms;
        self.row.reason = reason;
        self.row.note = clipped(note);
    }

    fn rejected(&mut self, reason: Reason, note: &str) {
        self.to(S::Rejected, 0, reason, note);
    }

    fn delivered(&mut self, vendor_ref: &str) {
        self.row.failures = 0;
        self.named(vendor_ref);
        self.to(S::Delivered, 0, Reason::None, "");
    }

    fn reversed(&mut self, vendor_ref: &str) {
        self.named(vendor_ref);
        self.to(S::Reversed, 0, Reason::None, "");
    }

    /// Keeps the vendor's reference, if it gave one.
    fn named(&mut self, vendor_ref: &str) {
        if !vendor_ref.is_empty() {
            self.row.vendor_ref = clipped(vendor_ref);
        }
    }

    fn held(&mut self, p: &VendorPolicy) {
        self.to(S::Held, self.now.saturating_add(p.held_recheck_ms.max(1)), Reason::NoAccount, "");
    }

    fn failed_once_more(&mut self) -> u32 {
        self.row.failures = self.row.failures.saturating_add(1);
        self.row.failures
    }

    fn ask_later(&mut self, p: &VendorPolicy, state: S, at_least_ms: u64, reason: Reason, note: &str) {
        let failures = self.failed_once_more();
        if self.over(p.query_window_ms) {
            return self.rejected(Reason::WindowOver, note);
        }
        let delay = p.ask.delay_ms(failures, false, self.random).max(at_least_ms).max(1);
        self.to(state, self.now.saturating_add(delay), reason, note);
    }

    /// Is a window over that began with the number's first call?
    fn over(&self, window_ms: u64) -> bool {
        self.now > self.row.first_called_ms.saturating_add(window_ms)
    }

    /// The vendor declared the number dead: go on under the next one, or leave it to a person.
    fn dead(&mut self, p: &VendorPolicy, code: &str) {
        let failures = self.failed_once_more();
        if self.row.generation >= p.generation_max.min(GENERATION_MAX) {
            return self.rejected(Reason::GenerationsUsedUp, code);
        }
        self.row.generation += 1;
        self.row.first_called_ms = 0;
        self.row.body_sha256 = [0; 32];
        self.row.vendor_ref.clear();
        let delay = p.retry.delay_ms(failures, false, self.random).max(1);
        self.to(S::RetryAt, self.now.saturating_add(delay), Reason::NumberDead, code);
    }

    fn must_be_due_to_send(&self) -> Result<(), Refused> {
        match self.row.state {
            S::Ready | S::RetryAt | S::Held if self.row.due_ms <= self.now => Ok(()),
            S::Ready | S::RetryAt | S::Held => Err(Refused::NotDue),
            _ => Err(Refused::Stale),
        }
    }

    fn claim(&mut self, vendor_known: bool) -> Result<(), Refused> {
        // Flow has checked the plan's term when the player pressed the button; our clock at this later moment is no
        // argument against him.
        match (self.row.state, vendor_known) {
            (S::New, true) => self.to(S::Ready, self.now, Reason::None, ""),
            (S::New, false) => self.rejected(Reason::UnknownVendor, ""),
            _ => return Err(Refused::NothingNew),
        }
        Ok(())
    }

    fn lapse(&mut self) -> Result<(), Refused> {
        match self.row.state {
            S::New if self.row.lapse_ms != 0 && self.row.lapse_ms <= self.now => {
                self.to(S::Lapsed, 0, Reason::None, "");
                Ok(())
            }
            S::New => Err(Refused::NotDue),
            _ => Err(Refused::Stale),
        }
    }

    fn vendor_gone(&mut self) -> Result<(), Refused> {
        match self.row.state {
            S::Ready | S::RetryAt | S::Held | S::Sending | S::Accepted | S::Unknown => {
                self.rejected(Reason::UnknownVendor, "");
                Ok(())
            }
            _ => Err(Refused::Stale),
        }
    }

    fn permit(
        &mut self,
        p: &VendorPolicy,
        payee: &str,
        merchant: &str,
        body: &[u8; 32],
    ) -> Result<(), Refused> {
        self.must_be_due_to_send()?;
        let frozen = self.row.attempt > 0;
        let called = self.row.first_called_ms != 0;
        if called && self.over(p.repeat_window_ms) {
            self.rejected(Reason::WindowOver, "too late to repeat the number");
        } else if frozen && (self.row.payee != payee || self.row.merchant != merchant) {
            self.rejected(Reason::PayeeDiffers, "");
        } else if called && self.row.body_sha256 != *body {
            self.rejected(Reason::BodyChanged, "");
        } else if [payee, merchant].iter().any(|t| t.is_empty() || t.len() > TEXT_MAX) {
            self.rejected(Reason::CannotBeSent, "payee and merchant account have 1 to 128 bytes");
        } else {
            self.row.attempt = self.row.attempt.checked_add(1).ok_or(Refused::UsedUp)?;
            if !called {
                self.row.first_called_ms = self.now;
            }
            self.row.called_ms = self.now;
            self.row.payee = payee.to_owned();
            self.row.merchant = merchant.to_owned();
            self.row.body_sha256 = *body;
            self.to(S::Sending, p.settled_ms(self.now), Reason::None, "");
            self.send = true;
        }
        Ok(())
    }

    fn answered(&mut self, p: &VendorPolicy, answer: &Answer) {
        match answer {
            Answer::Accepted { is_final: true, vendor_ref } => self.delivered(vendor_ref),
            Answer::Accepted { is_final: false, vendor_ref } => {
                self.row.failures = 0;
                self.named(vendor_ref);
                self.ask_later(p, S::Accepted, 0, Reason::None, "");
            }
            Answer::Reversed { vendor_ref } => self.reversed(vendor_ref),
            Answer::RefusedForGood { code } => self.rejected(Reason::Refused, code),
            Answer::NumberDead { code } => self.dead(p, code),
            Answer::NotTaken { retry_after_ms, over_limit, code } => {
                let failures = self.failed_once_more();
                let delay = p.retry.delay_ms(failures, *over_limit, self.random).max(*retry_after_ms).max(1);
                self.to(S::RetryAt, self.now.saturating_add(delay), Reason::NotTaken, code);
            }
            Answer::NoAccount => self.held(p),
            Answer::Unknown { note } => self.unknown(p, note),
        }
    }

    /// Ask as soon as every answer, 'not found' too, can be believed.
    fn unknown(&mut self, p: &VendorPolicy, note: &str) {
        self.failed_once_more();
        let at = p.settled_ms(self.row.called_ms).max(self.now);
        self.to(S::Unknown, at, Reason::NoAnswer, note);
    }

    /// An answer to a call that the order has left behind. What it says of money is not lost: it is a fact about the
    /// number, like a callback.
    fn answered_late(&mut self, p: &VendorPolicy, generation: u16, answer: &Answer) -> Result<(), Refused> {
        let kind = match answer {
            Answer::Accepted { is_final: true, vendor_ref } => {
                FactKind::Success { vendor_ref: vendor_ref.clone() }
            }
            Answer::Reversed { vendor_ref } => FactKind::Reversed { vendor_ref: vendor_ref.clone() },
            Answer::NumberDead { code } => FactKind::Failed { code: code.clone() },
            _ => return Err(Refused::Stale),
        };
        self.fact(p, &Fact { generation, fen: None, kind })
    }

    fn timed_out(&mut self, p: &VendorPolicy, attempt: u32) -> Result<(), Refused> {
        if self.row.state != S::Sending || self.row.attempt != attempt {
            return Err(Refused::Stale);
        }
        self.unknown(p, "no answer in time");
        Ok(())
    }

    fn asked(
        &mut self,
        p: &VendorPolicy,
        attempt: u32,
        asked_ms: u64,
        answer: &AskAnswer,
    ) -> Result<(), Refused> {
        let state = self.row.state;
        if !matches!(state, S::Accepted | S::Unknown) || self.row.attempt != attempt {
            return Err(Refused::Stale);
        }
        match answer {
            AskAnswer::Success { vendor_ref } => self.delivered(vendor_ref),
            AskAnswer::Reversed { vendor_ref } => self.reversed(vendor_ref),
            AskAnswer::Failed { code } => self.dead(p, code),
            AskAnswer::Pending { vendor_ref } => {
                self.named(vendor_ref);
                self.ask_later(p, S::Accepted, 0, Reason::None, "");
            }
            AskAnswer::NotFound => self.not_found(p, asked_ms),
            AskAnswer::Unfamiliar { note } => self.ask_later(p, S::Unknown, 0, Reason::NoAnswer, note),
            AskAnswer::NoAnswer { note, retry_after_ms } => {
                self.ask_later(p, state, *retry_after_ms, Reason::NoAnswer, note);
            }
        }
        Ok(())
    }

    fn not_found(&mut self, p: &VendorPolicy, asked_ms: u64) {
        let settled = p.settled_ms(self.row.called_ms);
        if self.over(p.query_window_ms) || self.over(p.repeat_window_ms) {
            self.rejected(Reason::WindowOver, "the vendor does not find the number");
        } else if self.row.state == S::Accepted {
            // It has said that it took the number. Sending again would rest on which of its two words is true.
            self.ask_later(p, S::Accepted, 0, Reason::NoAnswer, "accepted before, not found now");
        } else if asked_ms < settled {
            self.to(S::Unknown, settled.max(self.now + 1), Reason::NoAnswer, "not found, too early to count");
        } else {
            let wait = p.retry.delay_ms(self.row.failures, true, self.random);
            let at = self.row.called_ms.saturating_add(wait).max(self.now);
            self.to(S::RetryAt, at, Reason::NoAnswer, "not found: it was not taken");
        }
    }

    fn fact(&mut self, p: &VendorPolicy, fact: &Fact) -> Result<(), Refused> {
        if fact.fen.is_some_and(|fen| fen != self.row.fen) {
            return Err(Refused::AmountDiffers);
        }
        let current = fact.generation == self.row.generation && self.row.first_called_ms != 0;
        if self.row.reason == Reason::Contradiction || !current {
            return self.fact_of_another_number(fact);
        }
        match (&fact.kind, self.row.state) {
            (FactKind::Success { .. }, S::Delivered | S::Reversed) => return Err(Refused::NothingNew),
            (FactKind::Success { vendor_ref }, _) => self.delivered(vendor_ref),
            (FactKind::Reversed { .. }, S::Reversed) => return Err(Refused::NothingNew),
            (FactKind::Reversed { vendor_ref }, _) => self.reversed(vendor_ref),
            (FactKind::Failed { .. }, S::Delivered | S::Reversed) => return Err(Refused::Contradiction),
            (FactKind::Failed { .. }, S::Rejected) => return Err(Refused::NothingNew),
            (FactKind::Failed { code }, _) => self.dead(p, code),
        }
        Ok(())
    }

    /// A number that was declared dead, or that was never sent, is said to be paid: nothing may be sent any more
    /// before a person has looked.
    fn fact_of_another_number(&mut self, fact: &Fact) -> Result<(), Refused> {
        if matches!(fact.kind, FactKind::Failed { .. }) {
            return Err(Refused::Stale);
        }
        match self.row.state {
            S::Delivered | S::Reversed | S::Lapsed => Err(Refused::Contradiction),
            S::Rejected if self.row.reason == Reason::Contradiction => Err(Refused::Contradiction),
            _ => {
                self.alarm = Some("vendor says a dead or unsent number was paid");
                let note = format!("generation {} is said to be paid", fact.generation);
                self.rejected(Reason::Contradiction, &note);
                Ok(())
            }
        }
    }

    fn account_registered(&mut self, account: &str) -> Result<(), Refused> {
        if self.row.state != S::Held {
            return Err(Refused::NothingNew);
        }
        if self.row.payee.is_empty() || self.row.payee == account {
            self.to(S::Ready, self.now, Reason::None, "");
        } else {
            // The number was called with another payee, and a number never changes its data.
            self.rejected(Reason::PayeeDiffers, "");
        }
        Ok(())
    }

    fn redo(&mut self) -> Result<(), Refused> {
        match self.row.state {
            S::Rejected if self.row.reason == Reason::Contradiction => Err(Refused::NotPossible),
            S::Reversed | S::Lapsed => Err(Refused::NotPossible),
            S::New | S::Ready | S::Sending | S::RetryAt => Err(Refused::NothingNew),
            S::Delivered | S::Accepted | S::Unknown | S::Rejected | S::Held => {
                self.row.failures = 0;
                let called = self.row.first_called_ms != 0;
                let state = if called { S::Unknown } else { S::Ready };
                self.to(state, self.now, Reason::Redo, "");
                Ok(())
            }
        }
    }
}

/// At most [`TEXT_MAX`] bytes, cut between characters.
fn clipped(text: &str) -> String {
    let mut end = text.len().min(TEXT_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].to_owned()
}
