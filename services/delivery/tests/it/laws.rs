//! Random lives of an order at a vendor that does its worst within the protocol: at most one payment, no hole in the
//! journal, and in the end it is delivered or with a person.

use crate::support::{NOW_MS, order, policy};
use campaign::Fen;
use delivery::core::{
    Answer, AskAnswer, Fact, FactKind, Input, OrderRow, Reason, Refused, VendorPolicy, first_step, number_of,
    step,
};
use delivery::vendor::script::{Act, ScriptVendor};
use delivery::vendor::{Call, Payout, Vendor};
use proptest::prelude::*;
use records::{DeliveryState as S, OrderKind};
use std::collections::VecDeque;

const ACTS: [Act; 10] = [
    Act::Pay,
    Act::PayLater,
    Act::FailLater,
    Act::PaySilently,
    Act::PayAndFault,
    Act::Lose,
    Act::Fault,
    Act::OverLimit,
    Act::NoAccount,
    Act::Refuse,
];

/// What happens next to the order, beside the passing of time.
#[derive(Clone, Copy, Debug)]
enum Event {
    /// The worker does what is due.
    Work,
    /// The worker dies between the journal and the call, or between the answer and the journal.
    CrashBefore,
    CrashAfter,
    /// An answer that was already applied comes again; one that was lost comes late.
    Repeat,
    Claim,
    Redo,
    Registered,
    Lapse,
    Callback,
}

fn events() -> impl Strategy<Value = Vec<(Event, u64)>> {
    let event = prop_oneof![
        6 => Just(Event::Work),
        1 => Just(Event::CrashBefore),
        1 => Just(Event::CrashAfter),
        1 => Just(Event::Repeat),
        1 => Just(Event::Claim),
        1 => Just(Event::Redo),
        1 => Just(Event::Registered),
        1 => Just(Event::Lapse),
        1 => Just(Event::Callback),
    ];
    prop::collection::vec((event, 0u64..2_000), 0..60)
}

struct Life {
    row: OrderRow,
    now: u64,
    policy: VendorPolicy,
    vendor: ScriptVendor,
    random: u64,
    steps: Vec<u32>,
    old_inputs: VecDeque<Input>,
}

impl Life {
    fn apply(&mut self, input: &Input) -> Result<bool, Refused> {
        self.random = self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(99);
        let next = step(&self.row, input, self.now, Some(&self.policy), self.random)?;
        assert_eq!(next.event.step, self.row.step + 1);
        assert_eq!(next.event.state, next.row.state);
        assert!(next.row.generation == self.row.generation || next.row.reason == Reason::NumberDead);
        assert!(self.row.payee.is_empty() || next.row.payee == self.row.payee, "a payee was changed");
        self.steps.push(next.event.step);
        self.row = next.row;
        Ok(next.send)
    }

    fn call(&self) -> Call {
        let payout = Payout::of(&self.row, &self.row.payee, &self.row.merchant);
        Call {
            number: payout.number.clone(),
            attempt: self.row.attempt,
            body: self.vendor.body(&payout).unwrap(),
            fen: self.row.fen,
            send_ns: self.now,
            now_ms: self.now,
        }
    }

    fn work(&mut self, crash: Option<Event>) {
        if self.row.due_ms == 0 || self.row.due_ms > self.now {
            return;
        }
        match self.row.state {
            S::Ready | S::RetryAt | S::Held => {
                let payee =
                    if self.row.payee.is_empty() { "openid".to_owned() } else { self.row.payee.clone() };
                let body = self.vendor.body(&Payout::of(&self.row, &payee, "m")).unwrap();
                let body_sha256 = <sha2::Sha256 as sha2::Digest>::digest(&body).into();
                let permit = Input::Permit { payee, merchant: "m".to_owned(), body_sha256 };
                if self.apply(&permit) != Ok(true) || matches!(crash, Some(Event::CrashBefore)) {
                    return;
                }
                let answer = self.vendor.take(&self.call());
                self.now += 10;
                let (attempt, generation) = (self.row.attempt, self.row.generation);
                let input = match answer {
                    Some(answer) => Input::Answered { attempt, generation, answer },
                    None => Input::TimedOut { attempt },
                };
                self.old_inputs.push_back(input.clone());
                if !matches!(crash, Some(Event::CrashAfter)) {
                    let _ = self.apply(&input);
                }
            }
            S::Sending => {
                let attempt = self.row.attempt;
                self.apply(&Input::TimedOut { attempt }).unwrap();
            }
            S::Accepted | S::Unknown => {
                let answer = self.vendor.ask(&number_of(self.row.award, self.row.generation));
                let input = Input::Asked { attempt: self.row.attempt, asked_ms: self.now, answer };
                self.old_inputs.push_back(input.clone());
                if !matches!(crash, Some(Event::CrashAfter)) {
                    self.apply(&input).unwrap();
                }
            }
            S::New => drop(self.apply(&Input::Lapse)),
            _ => {}
        }
    }

    fn event(&mut self, event: Event) {
        let done = match event {
            Event::Work => return self.work(None),
            Event::CrashBefore | Event::CrashAfter => return self.work(Some(event)),
            Event::Repeat => match self.old_inputs.pop_front() {
                Some(old) => {
                    self.old_inputs.push_back(old.clone());
                    // Questions are repeated as they are only while the attempt is the last.
                    self.apply(&old)
                }
                None => return,
            },
            Event::Claim => self.apply(&Input::Claim),
            Event::Redo => self.apply(&Input::Redo),
            Event::Registered => self.apply(&Input::AccountRegistered { account: "openid".to_owned() }),
            Event::Lapse => self.apply(&Input::Lapse),
            Event::Callback => {
                let generation = self.row.generation;
                let fen = Some(self.row.fen);
                let kind = match self.vendor.ask(&number_of(self.row.award, generation)) {
                    AskAnswer::Success { vendor_ref } => FactKind::Success { vendor_ref },
                    AskAnswer::Failed { code } => FactKind::Failed { code },
                    _ => return,
                };
                self.apply(&Input::Callback(Fact { generation, fen, kind }))
            }
        };
        let _ = done;
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn one_payment_and_an_end(
        acts in prop::collection::vec(0usize..ACTS.len(), 1..12),
        life in events(),
        on_claim: bool,
        random: u64,
    ) {
        let script = acts.clone();
        // After the scripted attempts the vendor behaves.
        let vendor = ScriptVendor::new(move |_, attempt| script.get(attempt as usize - 1).map_or(Act::Pay, |a| ACTS[*a]));
        let kind = if on_claim { OrderKind::OnClaim } else { OrderKind::AtOnce };
        let first = first_step(&order(1, kind, 7), NOW_MS, true);
        let mut l = Life { row: first.row, now: NOW_MS, policy: policy(), vendor, random, steps: vec![1], old_inputs: VecDeque::new() };
        for (event, wait) in life {
            l.event(event);
            l.now += wait;
            prop_assert_eq!(l.vendor.double_payments(), 0);
        }
        for _ in 0..400 {
            l.now = l.now.max(l.row.due_ms) + 1;
            l.work(None);
        }
        prop_assert_eq!(l.vendor.double_payments(), 0);
        prop_assert_eq!(l.vendor.mismatches(), 0);
        let steps: Vec<u32> = (1..=l.steps.len() as u32).collect();
        prop_assert_eq!(&l.steps, &steps);
        match l.row.state {
            S::Delivered => prop_assert_eq!(l.vendor.paid().len(), 1),
            S::Rejected => {}
            S::Lapsed => prop_assert!(l.vendor.paid().is_empty()),
            other => prop_assert!(false, "ended in {:?}", other),
        }
    }
}

fn sent() -> OrderRow {
    let row = first_step(&order(1, OrderKind::AtOnce, 7), NOW_MS, true).row;
    let permit = Input::Permit { payee: "p".into(), merchant: "m".into(), body_sha256: [1; 32] };
    step(&row, &permit, NOW_MS, Some(&policy()), 0).unwrap().row
}

fn next(row: &OrderRow, input: Input, now: u64) -> Result<OrderRow, Refused> {
    step(row, &input, now, Some(&policy()), u64::MAX / 2).map(|s| s.row)
}

#[test]
fn not_found_counts_only_late_enough_and_inside_the_windows() {
    let unknown = next(&sent(), Input::TimedOut { attempt: 1 }, NOW_MS + 1_100).unwrap();
    assert_eq!((unknown.state, unknown.due_ms), (S::Unknown, NOW_MS + 1_600));
    let ask = |asked_ms, now| {
        next(&unknown, Input::Asked { attempt: 1, asked_ms, answer: AskAnswer::NotFound }, now)
    };
    assert_eq!(ask(NOW_MS + 1_599, NOW_MS + 1_700).unwrap().state, S::Unknown);
    let again = ask(NOW_MS + 1_600, NOW_MS + 1_700).unwrap();
    assert_eq!((again.state, again.generation, again.attempt), (S::RetryAt, 0, 1));
    let late = ask(NOW_MS + 1_000_001, NOW_MS + 1_000_001).unwrap();
    assert_eq!((late.state, late.reason), (S::Rejected, Reason::WindowOver));
    // A repeat must keep payee, merchant and body.
    let at = again.due_ms;
    let permit = |payee: &str, hash| Input::Permit {
        payee: payee.into(),
        merchant: "m".into(),
        body_sha256: [hash; 32],
    };
    assert_eq!(next(&again, permit("q", 1), at).unwrap().reason, Reason::PayeeDiffers);
    assert_eq!(next(&again, permit("p", 2), at).unwrap().reason, Reason::BodyChanged);
    let repeated = next(&again, permit("p", 1), at).unwrap();
    assert_eq!((repeated.state, repeated.attempt, repeated.generation), (S::Sending, 2, 0));
    assert_eq!(next(&again, permit("p", 1), at - 1), Err(Refused::NotDue));
}

#[test]
fn only_a_dead_number_makes_a_new_one() {
    let dead = Input::Answered { attempt: 1, generation: 0, answer: Answer::NumberDead { code: "X".into() } };
    let row = next(&sent(), dead, NOW_MS).unwrap();
    assert_eq!((row.state, row.generation, row.first_called_ms), (S::RetryAt, 1, 0));
    assert_eq!(row.payee, "p", "the payee stays frozen");
    // The dead number is said to be paid after all: nothing is sent any more, and a redo does not help.
    let paid = |generation, fen| {
        Input::Callback(Fact {
            generation,
            fen: Some(Fen(fen)),
            kind: FactKind::Success { vendor_ref: "R".into() },
        })
    };
    assert_eq!(next(&row, paid(0, 1), NOW_MS), Err(Refused::AmountDiffers));
    let stopped = step(&row, &paid(0, row.fen.0), NOW_MS, Some(&policy()), 0).unwrap();
    assert!(stopped.alarm.is_some());
    assert_eq!((stopped.row.state, stopped.row.reason), (S::Rejected, Reason::Contradiction));
    assert_eq!(next(&stopped.row, Input::Redo, NOW_MS), Err(Refused::NotPossible));
}

#[test]
fn stale_inputs_change_nothing_and_late_good_news_is_not_lost() {
    let row = sent();
    let accepted = Answer::Accepted { is_final: true, vendor_ref: "R".into() };
    let late = Input::Answered { attempt: 1, generation: 0, answer: accepted };
    let unknown = next(&row, Input::TimedOut { attempt: 1 }, NOW_MS + 1_100).unwrap();
    assert_eq!(next(&unknown, Input::TimedOut { attempt: 1 }, NOW_MS + 1_100), Err(Refused::Stale));
    assert_eq!(next(&row, Input::TimedOut { attempt: 2 }, NOW_MS), Err(Refused::Stale));
    let delivered = next(&unknown, late.clone(), NOW_MS + 1_200).unwrap();
    assert_eq!((delivered.state, delivered.vendor_ref.as_str()), (S::Delivered, "R"));
    assert_eq!(next(&delivered, late, NOW_MS + 1_300), Err(Refused::NothingNew));
    let reversed = Fact { generation: 0, fen: None, kind: FactKind::Reversed { vendor_ref: "R".into() } };
    let row = next(&delivered, Input::Callback(reversed), NOW_MS + 2_000).unwrap();
    assert_eq!(row.state, S::Reversed);
    assert_eq!(next(&row, Input::Redo, NOW_MS + 2_000), Err(Refused::NotPossible));
}

#[test]
fn claims_lapses_and_unknown_vendors() {
    let first = |kind, known| first_step(&order(1, kind, 7), NOW_MS, known).row;
    let new = first(OrderKind::OnClaim, true);
    assert_eq!((new.state, new.due_ms), (S::New, NOW_MS + 10_000));
    assert_eq!(next(&new, Input::Lapse, NOW_MS + 9_999), Err(Refused::NotDue));
    assert_eq!(next(&new, Input::Lapse, NOW_MS + 10_000).unwrap().state, S::Lapsed);
    let claimed = next(&new, Input::Claim, NOW_MS + 5).unwrap();
    assert_eq!(claimed.state, S::Ready);
    assert_eq!(next(&claimed, Input::Claim, NOW_MS + 5), Err(Refused::NothingNew));
    assert_eq!(next(&claimed, Input::Lapse, NOW_MS + 20_000), Err(Refused::Stale));

    let stranger = first(OrderKind::AtOnce, false);
    assert_eq!((stranger.state, stranger.reason), (S::Rejected, Reason::UnknownVendor));
    assert_eq!(step(&stranger, &Input::Redo, NOW_MS, None, 0).unwrap_err(), Refused::NotPossible);
    assert_eq!(next(&stranger, Input::Redo, NOW_MS).unwrap().state, S::Ready);
    let gone = step(&claimed, &Input::VendorGone, NOW_MS, None, 0).unwrap().row;
    assert_eq!((gone.state, gone.reason), (S::Rejected, Reason::UnknownVendor));
}
