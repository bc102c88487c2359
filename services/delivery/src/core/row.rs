//! A delivery order as the book keeps it.

use campaign::{AwardId, CampaignId, Fen, PrizeId, PrizeKind, RoundId, UserId, VendorId};
use records::{DeliveryEvent, DeliveryState, Order};

/// Longest text that a row keeps of what a vendor or a configuration says (payee, merchant account, reference), bytes.
pub const TEXT_MAX: usize = 128;

/// Latest time that a row can name: SQL has signed numbers.
pub const TIME_MAX_MS: u64 = i64::MAX as u64;

/// Why an order is where it is; for people, and to know what a redo may do. Stored numbers, never reused.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum Reason {
    /// Nothing special.
    None = 0,
    /// No vendor of this id is configured.
    UnknownVendor = 1,
    /// The vendor refused it for good.
    Refused = 2,
    /// The vendor says 'not found' or nothing, and its windows for questions or repeats are over.
    WindowOver = 3,
    /// The vendor declared number after number dead.
    GenerationsUsedUp = 4,
    /// The bytes to be sent are not those that were sent first.
    BodyChanged = 5,
    /// The user registered another account than the one that the first attempt froze.
    PayeeDiffers = 6,
    /// The vendor says that a number was paid which it had declared dead, or which was never sent. Never sent again.
    Contradiction = 7,
    /// The vendor is slowing us down or does not take it now.
    NotTaken = 8,
    /// No answer in time, or one that says nothing.
    NoAnswer = 9,
    /// The user has no account.
    NoAccount = 10,
    /// The vendor declared the number dead; a new one is used.
    NumberDead = 11,
    /// Reconciliation or a person handed it back.
    Redo = 12,
    /// The payout can't be expressed in the vendor's protocol (payee or account too long, amount below zero).
    CannotBeSent = 13,
}

impl Reason {
    /// All reasons.
    pub const ALL: [Reason; 14] = [
        Reason::None,
        Reason::UnknownVendor,
        Reason::Refused,
        Reason::WindowOver,
        Reason::GenerationsUsedUp,
        Reason::BodyChanged,
        Reason::PayeeDiffers,
        Reason::Contradiction,
        Reason::NotTaken,
        Reason::NoAnswer,
        Reason::NoAccount,
        Reason::NumberDead,
        Reason::Redo,
        Reason::CannotBeSent,
    ];

    /// The reason of a stored number.
    pub fn from_u8(value: u8) -> Option<Reason> {
        Self::ALL.get(usize::from(value)).copied()
    }

    /// Word for files and reports.
    pub fn name(self) -> &'static str {
        match self {
            Reason::None => "",
            Reason::UnknownVendor => "unknown_vendor",
            Reason::Refused => "refused",
            Reason::WindowOver => "window_over",
            Reason::GenerationsUsedUp => "generations_used_up",
            Reason::BodyChanged => "body_changed",
            Reason::PayeeDiffers => "payee_differs",
            Reason::Contradiction => "contradiction",
            Reason::NotTaken => "not_taken",
            Reason::NoAnswer => "no_answer",
            Reason::NoAccount => "no_account",
            Reason::NumberDead => "number_dead",
            Reason::Redo => "redo",
            Reason::CannotBeSent => "cannot_be_sent",
        }
    }
}

/// What a row with a due time waits for. The book keeps one index over (vendor, lane, due).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum Lane {
    /// To be sent, or held and to be looked at again.
    Send = 1,
    /// To be asked about; or a call whose answer is overdue.
    Ask = 2,
    /// For its player's claim.
    Claim = 3,
}

/// One award's delivery.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OrderRow {
    /// The award.
    pub award: AwardId,
    /// What is delivered.
    pub prize_kind: PrizeKind,
    /// Its campaign.
    pub campaign: CampaignId,
    /// Its round.
    pub round: RoundId,
    /// Who gets it.
    pub user: UserId,
    /// The prize.
    pub prize: PrizeId,
    /// Number of the unit.
    pub unit: u64,
    /// Amount.
    pub fen: Fen,
    /// Who delivers.
    pub vendor: VendorId,
    /// When it was won, ms UTC.
    pub won_ms: u64,
    /// When it lapses unless claimed, ms UTC; 0: never.
    pub lapse_ms: u64,
    /// Where it stands.
    pub state: DeliveryState,
    /// Steps made: the last one's number.
    pub step: u32,
    /// Generation of the vendor's number.
    pub generation: u16,
    /// Calls that moved or may have moved money, over all generations: the fence of answers.
    pub attempt: u32,
    /// When something happens next, ms UTC; 0: nothing is planned.
    pub due_ms: u64,
    /// When the last call was journalled, ms UTC; 0: never.
    pub called_ms: u64,
    /// When the first call under this generation's number was, ms UTC; 0: not yet.
    pub first_called_ms: u64,
    /// Failures in a row, for the back-off.
    pub failures: u32,
    /// The user's account, frozen at the first attempt; empty before.
    pub payee: String,
    /// Our account at the vendor, frozen at the first attempt; empty before.
    pub merchant: String,
    /// SHA-256 of the body under this generation's number; zeros before its first call.
    pub body_sha256: [u8; 32],
    /// The vendor's own reference; empty until it has given one.
    pub vendor_ref: String,
    /// Why it is where it is.
    pub reason: Reason,
    /// A vendor's code or a few words beside the reason.
    pub note: String,
}

impl OrderRow {
    /// The row of an order before its first step: step 0, which is never stored.
    pub fn of(order: &Order) -> OrderRow {
        OrderRow {
            award: order.award,
            prize_kind: order.prize_kind,
            campaign: order.campaign,
            round: order.round,
            user: order.user,
            prize: order.prize,
            unit: order.unit,
            fen: order.fen,
            vendor: order.vendor,
            won_ms: order.won_ms,
            lapse_ms: order.lapse_ms.min(TIME_MAX_MS),
            state: DeliveryState::New,
            step: 0,
            generation: 0,
            attempt: 0,
            due_ms: 0,
            called_ms: 0,
            first_called_ms: 0,
            failures: 0,
            payee: String::new(),
            merchant: String::new(),
            body_sha256: [0; 32],
            vendor_ref: String::new(),
            reason: Reason::None,
            note: String::new(),
        }
    }

    /// Does the order speak of the same award? A claim may differ in kind only.
    pub fn agrees_with(&self, order: &Order) -> bool {
        let of = OrderRow::of(order);
        (self.award, self.prize_kind, self.campaign, self.round, self.user, self.prize, self.unit)
            == (of.award, of.prize_kind, of.campaign, of.round, of.user, of.prize, of.unit)
            && (self.fen, self.vendor, self.won_ms) == (of.fen, of.vendor, of.won_ms)
    }

    /// What the row waits for; `None` when only an event from outside can move it.
    pub fn lane(&self) -> Option<Lane> {
        if self.due_ms == 0 {
            return None;
        }
        match self.state {
            DeliveryState::New => Some(Lane::Claim),
            DeliveryState::Ready | DeliveryState::RetryAt | DeliveryState::Held => Some(Lane::Send),
            DeliveryState::Sending | DeliveryState::Accepted | DeliveryState::Unknown => Some(Lane::Ask),
            DeliveryState::Delivered
            | DeliveryState::Reversed
            | DeliveryState::Lapsed
            | DeliveryState::Rejected => None,
        }
    }

    /// The journal's event for the row's last step, at `at_ms`.
    pub fn event(&self, at_ms: u64) -> DeliveryEvent {
        DeliveryEvent {
            award: self.award,
            step: self.step,
            state: self.state,
            generation: self.generation,
            attempt: self.attempt,
            at_ms,
            due_ms: self.due_ms,
            vendor: self.vendor,
            user: self.user,
            campaign: self.campaign,
            round: self.round,
            prize: self.prize,
            fen: self.fen,
        }
    }
}
