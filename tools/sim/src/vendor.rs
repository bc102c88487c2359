//! The vendors: idempotent per number, slow, silent, forgetful of answers, and with an exact statement.

use crate::delivery::DeliveryStep;
use crate::world::{Event, World};
use campaign::{AwardId, Fen, VendorId};
use delivery::core::{Answer, AskAnswer, Fact, FactKind, parse_number};
use std::collections::BTreeMap;
use testkit::SimRng;

/// A payout as the vendors' books have it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Payment {
    pub vendor: VendorId,
    pub award: AwardId,
    pub generation: u16,
    pub fen: Fen,
    pub body: Vec<u8>,
    pub status: Status,
    pub accepted_ms: u64,
}

/// How a payout stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Status {
    Paid {
        at_ms: u64,
    },
    Failed {
        at_ms: u64,
    },
    /// Decided later, and how.
    Pending {
        at_ms: u64,
        pays: bool,
    },
}

/// A call as it comes in.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub vendor: VendorId,
    pub number: String,
    pub fen: Fen,
    pub body: Vec<u8>,
    /// Life of the caller.
    pub life: u32,
    pub award: AwardId,
    pub attempt: u32,
    pub generation: u16,
}

/// Something at a vendor's.
pub(crate) enum VendorStep {
    /// A payout arrives.
    Takes(Box<Call>),
    /// A callback about a number goes out.
    CallsBack(String),
}

/// All vendors: numbers are different anyway.
pub(crate) struct SimVendor {
    rng: SimRng,
    pub numbers: BTreeMap<String, Payment>,
    /// Numbers that came again with another body.
    pub mismatches: u64,
}

impl SimVendor {
    pub fn new(seed: u64) -> SimVendor {
        SimVendor { rng: SimRng::new(seed), numbers: BTreeMap::new(), mismatches: 0 }
    }

    /// The answer to a question.
    pub fn ask(&mut self, number: &str, now_ms: u64) -> AskAnswer {
        let Some(payment) = self.numbers.get_mut(number) else { return AskAnswer::NotFound };
        payment.settle(now_ms);
        let vendor_ref = format!("R{}", &number[20..]);
        match payment.status {
            Status::Paid { .. } => AskAnswer::Success { vendor_ref },
            Status::Failed { .. } => AskAnswer::Failed { code: "FAILED".to_owned() },
            Status::Pending { .. } => AskAnswer::Pending { vendor_ref },
        }
    }

    /// Takes a call: the answer, if there is one, and in how many ms callbacks go out. `tame`: all goes well.
    fn take(&mut self, call: &Call, now_ms: u64, tame: bool) -> (Option<Answer>, Vec<u64>) {
        let act = if tame { 0 } else { self.rng.below(100) };
        let fault = Answer::Unknown { note: "500".to_owned() };
        let is_new = !self.numbers.contains_key(&call.number);
        match act {
            55..62 => return (None, vec![]),
            62..67 => return (Some(fault), vec![]),
            67..73 => {
                let code = "429".to_owned();
                return (Some(Answer::NotTaken { retry_after_ms: 50, over_limit: true, code }), vec![]);
            }
            73..75 if is_new => return (Some(Answer::RefusedForGood { code: "REFUSED".to_owned() }), vec![]),
            _ => {}
        }
        let at_ms = now_ms + 100 + self.rng.below(4_000);
        let first = match act {
            75..84 => Status::Pending { at_ms, pays: true },
            84..88 => Status::Pending { at_ms, pays: false },
            _ => Status::Paid { at_ms: now_ms },
        };
        let payment = self.numbers.entry(call.number.clone()).or_insert_with(|| Payment {
            vendor: call.vendor,
            award: call.award,
            generation: call.generation,
            fen: call.fen,
            body: call.body.clone(),
            status: first,
            accepted_ms: now_ms,
        });
        payment.settle(now_ms);
        if payment.body != call.body {
            self.mismatches += 1;
            return (Some(Answer::RefusedForGood { code: "MISMATCH".to_owned() }), vec![]);
        }
        let vendor_ref = format!("R{}", &call.number[20..]);
        let (answer, base) = match payment.status {
            Status::Paid { .. } => (Answer::Accepted { is_final: true, vendor_ref }, 0),
            Status::Failed { .. } => (Answer::NumberDead { code: "FAILED".to_owned() }, 0),
            Status::Pending { at_ms, .. } => {
                (Answer::Accepted { is_final: false, vendor_ref }, at_ms.saturating_sub(now_ms) + 1)
            }
        };
        let callbacks = (0..self.rng.below(3)).map(|_| base + self.rng.below(1_500)).collect();
        let answer = match act {
            88..96 => None,
            96.. => Some(fault),
            _ => Some(answer),
        };
        (answer, callbacks)
    }
}

impl Payment {
    fn settle(&mut self, now_ms: u64) {
        if let Status::Pending { at_ms, pays } = self.status
            && at_ms <= now_ms
        {
            self.status = if pays { Status::Paid { at_ms } } else { Status::Failed { at_ms } };
        }
    }

    /// Was or will be paid.
    pub fn pays(&self) -> bool {
        matches!(self.status, Status::Paid { .. } | Status::Pending { pays: true, .. })
    }
}

impl World {
    pub fn vendor_step(&mut self, step: VendorStep) {
        match step {
            VendorStep::Takes(call) => self.vendor_takes(&call),
            VendorStep::CallsBack(number) => self.vendor_calls_back(&number),
        }
    }

    fn vendor_takes(&mut self, call: &Call) {
        let (now_ms, tame) = (self.now_ms(), self.draining);
        let (answer, callbacks) = self.vendor.take(call, now_ms, tame);
        let said = answer.as_ref().map_or_else(|| "no answer".to_owned(), |a| format!("{a:?}"));
        self.note(format_args!("vendor {}: {} attempt {}: {said}", call.vendor, call.number, call.attempt));
        for wait in callbacks {
            self.push(wait, Event::Vendor(VendorStep::CallsBack(call.number.clone())));
        }
        if let Some(answer) = answer {
            // Now and then an answer comes behind the caller's patience.
            let slow = !tame && self.rng.one_in(15);
            let wait = if slow { self.between(900, 2_500) } else { self.between(2, 60) };
            let (award, attempt, generation) = (call.award, call.attempt, call.generation);
            let step = DeliveryStep::Answered { award, attempt, generation, answer: Box::new(answer) };
            self.push(wait, Event::Delivery(call.life, step));
        }
    }

    fn vendor_calls_back(&mut self, number: &str) {
        let now_ms = self.now_ms();
        let Some(payment) = self.vendor.numbers.get_mut(number) else { return };
        payment.settle(now_ms);
        let vendor_ref = format!("R{}", &number[20..]);
        let kind = match payment.status {
            Status::Paid { .. } => FactKind::Success { vendor_ref },
            Status::Failed { .. } => FactKind::Failed { code: "FAILED".to_owned() },
            Status::Pending { .. } => return,
        };
        let (fen, Some((award, generation))) = (payment.fen, parse_number(number)) else { return };
        let fact = Fact { generation, fen: Some(fen), kind };
        self.delivery_called_back(award, fact);
    }
}
