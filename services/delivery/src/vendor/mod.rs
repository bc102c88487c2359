//! A vendor, as delivery needs it: something that pays under a number and can be asked about that number.
//!
//! # What an adapter promises
//! It translates, and nothing else: it keeps no state, repeats nothing, and waits for nothing but the answer; the worker
//! around it has the time-out, the pace and the retries. [`Vendor::body`] gives the same bytes for the same payout for
//! ever, since their hash is stored before the first call. An answer that it does not know for sure is
//! [`Answer::Unknown`]: only what the vendor's documentation says is safe may be called 'not taken' or 'dead'.

pub mod http;
pub mod script;
pub mod sign;
mod wire;

use crate::core::{Answer, AskAnswer, Fact, OrderRow, number_of};
use async_trait::async_trait;
use campaign::{AwardId, Fen, PrizeId, PrizeKind};

pub use wire::ProtocolError;

/// A payout: what is frozen under its number.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Payout {
    /// The vendor's number.
    pub number: String,
    /// The award behind it.
    pub award: AwardId,
    /// What it is.
    pub kind: PrizeKind,
    /// The prize.
    pub prize: PrizeId,
    /// Amount.
    pub fen: Fen,
    /// Our account at the vendor.
    pub merchant: String,
    /// The user's account at the vendor.
    pub payee: String,
}

impl Payout {
    /// The payout of a row under its present generation.
    pub fn of(row: &OrderRow, payee: &str, merchant: &str) -> Payout {
        Payout {
            number: number_of(row.award, row.generation),
            award: row.award,
            kind: row.prize_kind,
            prize: row.prize,
            fen: row.fen,
            merchant: merchant.to_owned(),
            payee: payee.to_owned(),
        }
    }
}

/// One call.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Call {
    /// The vendor's number.
    pub number: String,
    /// Which attempt of the award it is, from 1.
    pub attempt: u32,
    /// What [`Vendor::body`] gave.
    pub body: Vec<u8>,
    /// Amount, to compare with the answer.
    pub fen: Fen,
    /// Stamp of the pace, monotonic ns.
    pub send_ns: u64,
    /// The time for signatures, ms UTC.
    pub now_ms: u64,
}

/// A question.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Question {
    /// The vendor's number.
    pub number: String,
    /// Different for each question about a number.
    pub ask: u64,
    /// Amount, to compare with the answer.
    pub fen: Fen,
    /// The time for signatures, ms UTC.
    pub now_ms: u64,
}

/// A callback that has been believed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Believed {
    /// The award that it is about.
    pub award: AwardId,
    /// What it says.
    pub fact: Fact,
}

/// Why a callback was not believed.
#[derive(Debug, thiserror::Error)]
pub enum CallbackError {
    /// Signature, time or headers are wrong.
    #[error(transparent)]
    Signature(#[from] sign::SignatureError),
    /// It is signed and makes no sense.
    #[error("the callback is not in the vendor protocol: {0}")]
    Protocol(#[from] ProtocolError),
    /// This vendor sends none.
    #[error("this vendor has no callbacks")]
    None,
}

/// See the module.
#[async_trait]
pub trait Vendor: Send + Sync + 'static {
    /// The bytes of a payout.
    ///
    /// # Errors
    /// Why the protocol can't express it.
    fn body(&self, payout: &Payout) -> Result<Vec<u8>, ProtocolError>;

    /// Calls for a payout and sorts the answer. May be dropped at any time: the outcome is unknown then.
    async fn submit(&self, call: Call) -> Answer;

    /// Asks by number and sorts the answer.
    async fn query(&self, question: Question) -> AskAnswer;

    /// Checks a callback and says what it means.
    ///
    /// # Errors
    /// Why it is not believed.
    fn callback(
        &self,
        headers: &::http::HeaderMap,
        body: &[u8],
        now_ms: u64,
    ) -> Result<Believed, CallbackError>;
}
