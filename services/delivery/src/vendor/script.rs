//! A vendor in memory that misbehaves by script: for tests and for the simulation.
//!
//! It is what the vendor protocol promises and no better: idempotent per number, vague by time-out, late, forgetful in no
//! place. Given the same behaviour it does the same. [`ScriptVendor::double_payments`] is what a test is after.

use super::{Believed, Call, CallbackError, Payout, ProtocolError, Question, Vendor, wire};
use crate::core::{Answer, AskAnswer};
use async_trait::async_trait;
use campaign::AwardId;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::future::pending;
use std::sync::Arc;

/// What the vendor does with an attempt.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Act {
    /// Pays and says so.
    Pay,
    /// Takes it; the second question finds it paid.
    PayLater,
    /// Takes it; the second question finds it failed.
    FailLater,
    /// Pays, and the answer is lost: the caller waits for ever.
    PaySilently,
    /// Pays, and answers with a fault.
    PayAndFault,
    /// The call is lost: the caller waits for ever.
    Lose,
    /// Answers with a fault and does nothing.
    Fault,
    /// Has no room.
    OverLimit,
    /// Knows no such payee.
    NoAccount,
    /// Refuses for good.
    Refuse,
}

/// What it remembers of a number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Status {
    Paid,
    Pending { asked: u32, pays: bool },
    Failed,
}

/// A send as the vendor saw it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Seen {
    /// The number.
    pub number: String,
    /// The attempt.
    pub attempt: u32,
    /// The stamp.
    pub send_ns: u64,
    /// The body.
    pub body: Vec<u8>,
}

#[derive(Default)]
struct Books {
    numbers: HashMap<String, (Vec<u8>, Status)>,
    seen: Vec<Seen>,
    mismatches: u64,
}

type Script = dyn Fn(&str, u32) -> Act + Send + Sync;

/// See the module. Cloning gives another handle to the same vendor.
#[derive(Clone)]
pub struct ScriptVendor {
    books: Arc<Mutex<Books>>,
    script: Arc<Script>,
}

impl ScriptVendor {
    /// A vendor that does with (number, attempt) what `script` says.
    pub fn new(script: impl Fn(&str, u32) -> Act + Send + Sync + 'static) -> ScriptVendor {
        ScriptVendor { books: Arc::default(), script: Arc::new(script) }
    }

    /// Every send that came, in order.
    pub fn seen(&self) -> Vec<Seen> {
        self.books.lock().seen.clone()
    }

    /// Awards that are paid or will be, each once for each of its numbers.
    pub fn paid(&self) -> Vec<AwardId> {
        let books = self.books.lock();
        let pays = |s: &Status| matches!(s, Status::Paid | Status::Pending { pays: true, .. });
        let mut paid: Vec<AwardId> = books
            .numbers
            .iter()
            .filter(|(_, (_, status))| pays(status))
            .filter_map(|(number, _)| crate::core::parse_number(number).map(|(award, _)| award))
            .collect();
        paid.sort();
        paid
    }

    /// Awards that are paid under more than one number.
    pub fn double_payments(&self) -> usize {
        self.paid().windows(2).filter(|pair| pair[0] == pair[1]).count()
    }

    /// Repeats of a number with other data.
    pub fn mismatches(&self) -> u64 {
        self.books.lock().mismatches
    }

    /// Takes a call without waiting: `None` when no answer will ever come. For callers that have their own time.
    pub fn take(&self, call: &Call) -> Option<Answer> {
        let mut books = self.books.lock();
        books.seen.push(Seen {
            number: call.number.clone(),
            attempt: call.attempt,
            send_ns: call.send_ns,
            body: call.body.clone(),
        });
        let act = (self.script)(&call.number, call.attempt);
        let fault = || Answer::Unknown { note: "500".to_owned() };
        match act {
            Act::Lose => return None,
            Act::Fault => return Some(fault()),
            Act::OverLimit => {
                return Some(Answer::NotTaken {
                    retry_after_ms: 1,
                    over_limit: true,
                    code: "429".to_owned(),
                });
            }
            Act::NoAccount if !books.numbers.contains_key(&call.number) => return Some(Answer::NoAccount),
            Act::Refuse if !books.numbers.contains_key(&call.number) => {
                return Some(Answer::RefusedForGood { code: "REFUSED".to_owned() });
            }
            _ => {}
        }
        let first = match act {
            Act::PayLater => Status::Pending { asked: 0, pays: true },
            Act::FailLater => Status::Pending { asked: 0, pays: false },
            _ => Status::Paid,
        };
        let (body, status) =
            books.numbers.entry(call.number.clone()).or_insert_with(|| (call.body.clone(), first));
        let (same, status) = (*body == call.body, *status);
        if !same {
            books.mismatches += 1;
            return Some(Answer::RefusedForGood { code: "MISMATCH".to_owned() });
        }
        match (act, status) {
            (Act::PaySilently, _) => None,
            (Act::PayAndFault, _) => Some(fault()),
            (_, Status::Paid) => Some(Answer::Accepted { is_final: true, vendor_ref: "R".to_owned() }),
            (_, Status::Pending { .. }) => {
                Some(Answer::Accepted { is_final: false, vendor_ref: "R".to_owned() })
            }
            (_, Status::Failed) => Some(Answer::NumberDead { code: "FAILED".to_owned() }),
        }
    }

    /// Answers a question without waiting.
    pub fn ask(&self, number: &str) -> AskAnswer {
        let mut books = self.books.lock();
        let Some((_, status)) = books.numbers.get_mut(number) else { return AskAnswer::NotFound };
        if let Status::Pending { asked, pays } = status {
            if *asked == 0 {
                *asked += 1;
                return AskAnswer::Pending { vendor_ref: "R".to_owned() };
            }
            *status = if *pays { Status::Paid } else { Status::Failed };
        }
        match status {
            Status::Failed => AskAnswer::Failed { code: "FAILED".to_owned() },
            _ => AskAnswer::Success { vendor_ref: "R".to_owned() },
        }
    }
}

#[async_trait]
impl Vendor for ScriptVendor {
    fn body(&self, payout: &Payout) -> Result<Vec<u8>, ProtocolError> {
        wire::pay_body(payout)
    }

    async fn submit(&self, call: Call) -> Answer {
        match self.take(&call) {
            Some(answer) => answer,
            None => pending().await,
        }
    }

    async fn query(&self, question: Question) -> AskAnswer {
        self.ask(&question.number)
    }

    fn callback(
        &self,
        _headers: &http::HeaderMap,
        body: &[u8],
        _now_ms: u64,
    ) -> Result<Believed, CallbackError> {
        Ok(wire::callback(body)?)
    }
}
