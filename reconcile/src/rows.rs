//! The rows that are sorted and matched, one type for each source and order. Deriving `Ord` by the order of the fields
//! makes the first fields the sort key and keeps the order total, so that the same input always sorts alike.

use campaign::{
    AwardId, CampaignId, Fen, LeaseId, NodeEpoch, NodeId, PrizeId, RoundId, SeqNo, UserId, VendorId,
};

/// A value that can stand in a spilled row.
pub trait Cell: Sized {
    /// Appends the value.
    fn put(&self, out: &mut Vec<u8>);
    /// Takes the value from the front; `None` where the bytes end early.
    fn take(input: &mut &[u8]) -> Option<Self>;
    /// Bytes that it holds outside itself.
    fn heap(&self) -> usize {
        0
    }
}

macro_rules! integer_cells {
    ($($int:ty),*) => {$(
        impl Cell for $int {
            fn put(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_le_bytes());
            }
            fn take(input: &mut &[u8]) -> Option<Self> {
                let (head, rest) = input.split_first_chunk()?;
                *input = rest;
                Some(<$int>::from_le_bytes(*head))
            }
        }
    )*};
}
integer_cells!(u8, u16, u32, u64, u128, i64);

macro_rules! wrapped_cells {
    ($($name:ident),*) => {$(
        impl Cell for $name {
            fn put(&self, out: &mut Vec<u8>) {
                self.0.put(out);
            }
            fn take(input: &mut &[u8]) -> Option<Self> {
                Cell::take(input).map($name)
            }
        }
    )*};
}
wrapped_cells!(
    AwardId, CampaignId, Fen, LeaseId, NodeEpoch, NodeId, PrizeId, RoundId, SeqNo, UserId, VendorId
);

impl Cell for bool {
    fn put(&self, out: &mut Vec<u8>) {
        u8::from(*self).put(out);
    }
    fn take(input: &mut &[u8]) -> Option<Self> {
        u8::take(input).map(|b| b != 0)
    }
}

impl Cell for String {
    fn put(&self, out: &mut Vec<u8>) {
        (self.len() as u32).put(out);
        out.extend_from_slice(self.as_bytes());
    }
    fn take(input: &mut &[u8]) -> Option<Self> {
        let len = u32::take(input)? as usize;
        let (text, rest) = input.split_at_checked(len)?;
        *input = rest;
        String::from_utf8(text.to_vec()).ok()
    }
    fn heap(&self) -> usize {
        self.capacity()
    }
}

/// A row that the external sort can write to a file and read back.
pub trait Spill: Ord + Sized {
    /// Appends the row.
    fn encode(&self, out: &mut Vec<u8>);
    /// Reads the row; `None` unless the bytes are exactly one.
    fn decode(input: &[u8]) -> Option<Self>;
    /// Memory that it takes, bytes.
    fn weight(&self) -> usize;
}

/// Declares a row: the struct, and how it is spilled (its fields in order).
#[macro_export]
#[doc(hidden)]
macro_rules! row {
    ($(#[$doc:meta])* pub struct $name:ident { $($(#[$field_doc:meta])* pub $field:ident: $type:ty),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
        pub struct $name { $($(#[$field_doc])* pub $field: $type),* }

        impl $crate::rows::Spill for $name {
            fn encode(&self, out: &mut Vec<u8>) {
                $($crate::rows::Cell::put(&self.$field, out);)*
            }
            fn decode(mut input: &[u8]) -> Option<Self> {
                let row = $name { $($field: $crate::rows::Cell::take(&mut input)?),* };
                input.is_empty().then_some(row)
            }
            fn weight(&self) -> usize {
                std::mem::size_of::<Self>() $(+ $crate::rows::Cell::heap(&self.$field))*
            }
        }
    };
}

row! {
    /// An award of the flow archive (流水), by its id.
    pub struct AwardRow {
        /// The award.
        pub award: AwardId,
        /// Campaign.
        pub campaign: CampaignId,
        /// Round.
        pub round: RoundId,
        /// Local day, days since 1970-01-01.
        pub day: u32,
        /// Who won.
        pub user: UserId,
        /// Counter of the draw.
        pub counter: u32,
        /// The prize.
        pub prize: PrizeId,
        /// Number of the unit.
        pub unit: u64,
        /// Amount.
        pub fen: Fen,
        /// Plan under which it was decided.
        pub seq_no: SeqNo,
        /// Lease that the unit came from.
        pub lease: LeaseId,
        /// Node that decided it.
        pub node: NodeId,
        /// The node's epoch.
        pub epoch: NodeEpoch,
        /// Position of its group in the node's log.
        pub position: u64,
        /// When it was decided, ms UTC.
        pub time_ms: u64,
        /// What its MAC is worth: [`MAC_UNCHECKED`], [`MAC_RIGHT`], [`MAC_WRONG`].
        pub mac: u8,
    }
}

/// No MAC keys were given.
pub const MAC_UNCHECKED: u8 = 0;
/// The MAC is that of the award's facts.
pub const MAC_RIGHT: u8 = 1;
/// The MAC is another one, or of a key that is not known.
pub const MAC_WRONG: u8 = 2;

row! {
    /// An award by its unit.
    pub struct UnitRow {
        /// Campaign.
        pub campaign: CampaignId,
        /// Round.
        pub round: RoundId,
        /// The prize.
        pub prize: PrizeId,
        /// Number of the unit.
        pub unit: u64,
        /// The award.
        pub award: AwardId,
        /// Amount.
        pub fen: Fen,
        /// Who won.
        pub user: UserId,
        /// When, ms UTC.
        pub time_ms: u64,
    }
}

row! {
    /// An award by its user and draw.
    pub struct UserRow {
        /// Campaign.
        pub campaign: CampaignId,
        /// Who won.
        pub user: UserId,
        /// Round.
        pub round: RoundId,
        /// Counter of the draw.
        pub counter: u32,
        /// The award.
        pub award: AwardId,
        /// Local day.
        pub day: u32,
        /// Plan under which it was decided.
        pub seq_no: SeqNo,
        /// When, ms UTC.
        pub time_ms: u64,
    }
}

impl AwardRow {
    /// The same award for the pass by units.
    pub fn by_unit(&self) -> UnitRow {
        UnitRow {
            campaign: self.campaign,
            round: self.round,
            prize: self.prize,
            unit: self.unit,
            award: self.award,
            fen: self.fen,
            user: self.user,
            time_ms: self.time_ms,
        }
    }

    /// The same award for the pass by users.
    pub fn by_user(&self) -> UserRow {
        UserRow {
            campaign: self.campaign,
            user: self.user,
            round: self.round,
            counter: self.counter,
            award: self.award,
            day: self.day,
            seq_no: self.seq_no,
            time_ms: self.time_ms,
        }
    }
}

/// Where a delivery stands. The numbers are those of the journal (`docs/formats.md`).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum State {
    /// Waits for its player's claim.
    New = 1,
    /// To be sent.
    Ready = 2,
    /// A call is under way, or was when the process ended.
    Sending = 3,
    /// The vendor has it and has not finished.
    Accepted = 4,
    /// The player has it.
    Delivered = 5,
    /// Delivered once and taken back.
    Reversed = 6,
    /// To be sent again.
    RetryAt = 7,
    /// Nobody knows whether the vendor took it.
    Unknown = 8,
    /// The player has no account at the vendor.
    Held = 9,
    /// Not claimed in time; final.
    Lapsed = 10,
    /// Refused for good.
    Rejected = 11,
}

impl State {
    /// The state of a stored number.
    pub fn from_u8(value: u8) -> Option<State> {
        use State::*;
        [New, Ready, Sending, Accepted, Delivered, Reversed, RetryAt, Unknown, Held, Lapsed, Rejected]
            .into_iter()
            .find(|s| *s as u8 == value)
    }

    /// Word for reports.
    pub fn name(self) -> &'static str {
        match self {
            State::New => "new",
            State::Ready => "ready",
            State::Sending => "sending",
            State::Accepted => "accepted",
            State::Delivered => "delivered",
            State::Reversed => "reversed",
            State::RetryAt => "retry_at",
            State::Unknown => "unknown",
            State::Held => "held",
            State::Lapsed => "lapsed",
            State::Rejected => "rejected",
        }
    }
}

impl Cell for State {
    fn put(&self, out: &mut Vec<u8>) {
        (*self as u8).put(out);
    }
    fn take(input: &mut &[u8]) -> Option<Self> {
        State::from_u8(u8::take(input)?)
    }
}

row! {
    /// One step of the delivery journal (发货).
    pub struct StepRow {
        /// The award.
        pub award: AwardId,
        /// Number of the step.
        pub step: u32,
        /// State that it led to.
        pub state: State,
        /// Generation of the vendor's number.
        pub generation: u16,
        /// When, ms UTC.
        pub at_ms: u64,
        /// When something happens next, ms UTC; 0: nothing planned.
        pub due_ms: u64,
        /// Who delivers.
        pub vendor: VendorId,
        /// Who gets it.
        pub user: UserId,
        /// Campaign.
        pub campaign: CampaignId,
        /// Round.
        pub round: RoundId,
        /// The prize.
        pub prize: PrizeId,
        /// Amount.
        pub fen: Fen,
    }
}

/// A delivery: the last step of its journal, and what is wrong with the steps before.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DeliveryRow {
    /// The last step.
    pub last: StepRow,
    /// The first number that is missing or there twice; 0: the steps are 1, 2, 3 ... without a hole.
    pub hole: u32,
    /// A step speaks of other facts (user, prize, amount ...) than the one before.
    pub facts_change: bool,
    /// The first steps with their states, for people.
    pub history: Vec<(u32, State)>,
}

/// Steps that a delivery's history names.
pub const HISTORY_MAX: usize = 12;

impl DeliveryRow {
    /// The steps for people: `1 ready, 2 sending, 3 unknown`; the last one is always there.
    pub fn history(&self) -> String {
        let mut steps: Vec<String> =
            self.history.iter().map(|(step, state)| format!("{step} {}", state.name())).collect();
        if self.history.last().is_none_or(|(step, _)| *step < self.last.step) {
            steps.push(format!("... {} {}", self.last.step, self.last.state.name()));
        }
        steps.join(", ")
    }
}

/// What a statement row says.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(u8)]
pub enum Event {
    /// Money came back.
    Reversed = 0,
    /// Paid.
    Success = 1,
    /// The number is dead; no money moved.
    Failed = 2,
}

impl Cell for Event {
    fn put(&self, out: &mut Vec<u8>) {
        (*self as u8).put(out);
    }
    fn take(input: &mut &[u8]) -> Option<Self> {
        match u8::take(input)? {
            0 => Some(Event::Reversed),
            1 => Some(Event::Success),
            2 => Some(Event::Failed),
            _ => None,
        }
    }
}

row! {
    /// A row of a vendor's statement whose number is one of ours.
    pub struct PaymentRow {
        /// The award in the number.
        pub award: AwardId,
        /// When it was final, ms UTC by the vendor's clock.
        pub finished_ms: u64,
        /// What happened.
        pub event: Event,
        /// The generation in the number.
        pub generation: u16,
        /// The vendor.
        pub vendor: VendorId,
        /// Amount.
        pub fen: Fen,
        /// The vendor's own reference.
        pub vendor_ref: String,
    }
}

row! {
    /// What a player was told.
    pub struct ToldRow {
        /// The award.
        pub award: AwardId,
        /// The player.
        pub user: UserId,
        /// Campaign.
        pub campaign: CampaignId,
        /// Round.
        pub round: RoundId,
        /// The prize.
        pub prize: PrizeId,
        /// Amount.
        pub fen: Fen,
    }
}

/// A prize of a round of a campaign: the line of the settlement.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct PrizeKey {
    /// The campaign.
    pub campaign: CampaignId,
    /// The round.
    pub round: RoundId,
    /// The prize.
    pub prize: PrizeId,
}

impl std::fmt::Display for PrizeKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "campaign {} round {} prize {}", self.campaign, self.round, self.prize)
    }
}

macro_rules! keyed {
    ($($row:ident),*) => {$(
        impl $row {
            /// The prize that it is of.
            pub fn key(&self) -> PrizeKey {
                PrizeKey { campaign: self.campaign, round: self.round, prize: self.prize }
            }
        }
    )*};
}
keyed!(AwardRow, UnitRow, StepRow, ToldRow);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_keep_their_numbers_and_rows_round_trip() {
        for n in 0..=255u8 {
            assert_eq!(State::from_u8(n).map(|s| s as u8), (1..=11).contains(&n).then_some(n));
        }
        let row = PaymentRow {
            award: AwardId(7 << 90),
            finished_ms: 5,
            event: Event::Failed,
            generation: 3,
            vendor: VendorId(2),
            fen: Fen(-1),
            vendor_ref: "R1,\"x\"".into(),
        };
        let mut bytes = Vec::new();
        row.encode(&mut bytes);
        assert_eq!(PaymentRow::decode(&bytes), Some(row));
        assert_eq!(PaymentRow::decode(&bytes[..bytes.len() - 1]), None);
        bytes.push(0);
        assert_eq!(PaymentRow::decode(&bytes), None);
    }
}
