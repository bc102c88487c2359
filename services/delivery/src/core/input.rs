//! What can happen to a delivery, and what comes of it.

use super::row::OrderRow;
use campaign::Fen;
use records::DeliveryEvent;

/// A vendor's answer to a payout, sorted by what it means for us.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Answer {
    /// Taken. `is_final`: paid; otherwise to be asked about until it is.
    Accepted {
        /// Nothing more will come (save a reversal).
        is_final: bool,
        /// The vendor's own reference.
        vendor_ref: String,
    },
    /// Taken earlier, paid, and taken back since.
    Reversed {
        /// The vendor's own reference.
        vendor_ref: String,
    },
    /// Not taken, and never will be under this call.
    RefusedForGood {
        /// The vendor's code.
        code: String,
    },
    /// The number is dead: no money moved and none will under it.
    NumberDead {
        /// The vendor's code.
        code: String,
    },
    /// Not taken; the same number later.
    NotTaken {
        /// Not before so many ms from now; 0: as our schedule says.
        retry_after_ms: u64,
        /// The vendor says that we are too fast.
        over_limit: bool,
        /// The vendor's code.
        code: String,
    },
    /// Not taken: the vendor does not know the payee.
    NoAccount,
    /// Nobody knows. Ask by number.
    Unknown {
        /// What was seen instead of an answer.
        note: String,
    },
}

/// A vendor's answer to a question by number.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum AskAnswer {
    /// Paid.
    Success {
        /// The vendor's own reference.
        vendor_ref: String,
    },
    /// Taken and not decided.
    Pending {
        /// The vendor's own reference.
        vendor_ref: String,
    },
    /// The number is dead: no money moved and none will under it.
    Failed {
        /// The vendor's code.
        code: String,
    },
    /// The vendor does not know the number now.
    NotFound,
    /// Paid, and taken back since.
    Reversed {
        /// The vendor's own reference.
        vendor_ref: String,
    },
    /// An answer that says nothing to us.
    Unfamiliar {
        /// What it was.
        note: String,
    },
    /// No answer: time-out, fault, too fast.
    NoAnswer {
        /// What was seen instead.
        note: String,
        /// Not before so many ms from now; 0: as our schedule says.
        retry_after_ms: u64,
    },
}

/// What a vendor says about a number without being asked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fact {
    /// Which of our numbers it is about.
    pub generation: u16,
    /// The amount that it names; `None` when it names none.
    pub fen: Option<Fen>,
    /// What it says.
    pub kind: FactKind,
}

/// See [`Fact`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum FactKind {
    /// Paid.
    Success {
        /// The vendor's own reference.
        vendor_ref: String,
    },
    /// Dead: no money moved and none will.
    Failed {
        /// The vendor's code.
        code: String,
    },
    /// Taken back.
    Reversed {
        /// The vendor's own reference.
        vendor_ref: String,
    },
}

/// Something that happens to a delivery.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Input {
    /// The player wants it.
    Claim,
    /// It may be sent now, with these data; frozen at the first attempt, compared at each later one.
    Permit {
        /// The user's account at the vendor.
        payee: String,
        /// Our account at the vendor.
        merchant: String,
        /// SHA-256 of the bytes that will be sent under this generation's number.
        body_sha256: [u8; 32],
    },
    /// It was due, and the user has no account at the vendor.
    NoAccountKnown,
    /// It was due, and can't be expressed in the vendor's protocol.
    CannotBeSent {
        /// Why.
        note: String,
    },
    /// The vendor answered a payout.
    Answered {
        /// The attempt that it answers.
        attempt: u32,
        /// The generation of the number that was called.
        generation: u16,
        /// The answer.
        answer: Answer,
    },
    /// No answer to a payout in time, or whoever sent it is gone.
    TimedOut {
        /// The attempt.
        attempt: u32,
    },
    /// The vendor answered a question.
    Asked {
        /// The attempt that was the last when the question was put.
        attempt: u32,
        /// When it was put, ms UTC.
        asked_ms: u64,
        /// The answer.
        answer: AskAnswer,
    },
    /// A callback.
    Callback(Fact),
    /// The user registered an account at the vendor.
    AccountRegistered {
        /// The account.
        account: String,
    },
    /// Its term to be claimed may be over.
    Lapse,
    /// Its vendor is no longer configured, and nobody would ever serve it.
    VendorGone,
    /// Reconciliation or a person wants it looked at again.
    Redo,
}

/// A step of the state machine.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Step {
    /// The row as it becomes.
    pub row: OrderRow,
    /// Its line in the journal.
    pub event: DeliveryEvent,
    /// The call is to be made once the step is durable.
    pub send: bool,
    /// A person should hear of it at once: vendor and book contradict each other.
    pub alarm: Option<&'static str>,
}

/// Why an input changes nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Refused {
    /// It speaks of an attempt or a number that is not the current one any more.
    #[error("stale: the order has moved on since")]
    Stale,
    /// What it says has been done already.
    #[error("already so")]
    NothingNew,
    /// It is too early.
    #[error("not due yet")]
    NotDue,
    /// The state allows no such thing.
    #[error("not possible in this state")]
    NotPossible,
    /// It names another amount than the order. A person should hear of it.
    #[error("the vendor names another amount than the order has")]
    AmountDiffers,
    /// The vendor contradicts itself about an order that it says is finished. A person should hear of it.
    #[error("the vendor contradicts what it said before")]
    Contradiction,
    /// Steps, attempts or generations can't be counted further.
    #[error("the order has no numbers left to count with")]
    UsedUp,
}
