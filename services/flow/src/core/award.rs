//! An award as flow knows it, and what can be wrong with one.

use campaign::{AwardId, NodeId, PrizeKind, VendorId};
use records::{DeliveryEvent, DeliveryState, Order, OrderKind, Won};

/// Why no order is made for an award, if so. The number is stored.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
#[repr(u8)]
pub enum Doubt {
    /// Nothing is wrong.
    #[default]
    None = 0,
    /// Its unit was given to another award before.
    UnitTwice = 1,
    /// The plan that it names has no such prize.
    NoSuchPrize = 2,
}

impl Doubt {
    /// The doubt of a stored number; an unknown number is the strictest.
    pub fn from_u8(value: u8) -> Doubt {
        match value {
            0 => Doubt::None,
            1 => Doubt::UnitTwice,
            _ => Doubt::NoSuchPrize,
        }
    }
}

/// An award with what its plan says about its delivery. Never changes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AwardRow {
    /// The record, as the node logged it.
    pub won: Won,
    /// Who delivers; 0 for a prize that the plan does not have.
    pub vendor: VendorId,
    /// What is delivered.
    pub prize_kind: PrizeKind,
    /// Whether it goes out at once or waits for a claim.
    pub order: OrderKind,
    /// When it lapses unless claimed, ms UTC; 0: never.
    pub lapse_ms: u64,
    /// Why no order is made.
    pub doubt: Doubt,
}

impl AwardRow {
    /// The delivery order of the given kind for this award.
    pub fn order(&self, kind: OrderKind) -> Order {
        let won = &self.won;
        Order {
            kind,
            prize_kind: self.prize_kind,
            award: won.award,
            campaign: won.campaign,
            round: won.round,
            user: won.user,
            prize: won.prize,
            unit: won.unit,
            fen: won.fen,
            vendor: self.vendor,
            won_ms: won.time_ms,
            lapse_ms: self.lapse_ms,
            mac_key: won.mac_key,
            mac: won.mac,
        }
    }
}

/// How far an award's delivery is, by the newest step that flow has seen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Progress {
    /// Number of the step.
    pub step: u32,
    /// State that it led to.
    pub state: DeliveryState,
    /// When, ms UTC.
    pub at_ms: u64,
    /// When something happens next; 0: nothing is planned.
    pub due_ms: u64,
    /// Since when the award has been on its way to its player without a rest, ms UTC; 0 when it is not.
    pub since_ms: u64,
}

impl Progress {
    /// The progress after an event, or none when the event is not newer.
    pub fn after(before: Option<&Progress>, event: &DeliveryEvent) -> Option<Progress> {
        if before.is_some_and(|b| b.step >= event.step) {
            return None;
        }
        let since_ms = match (on_the_way(event.state), before.map_or(0, |b| b.since_ms)) {
            (false, _) => 0,
            (true, 0) => event.at_ms.max(1),
            (true, since) => since,
        };
        let DeliveryEvent { step, state, at_ms, due_ms, .. } = *event;
        Some(Progress { step, state, at_ms, due_ms, since_ms })
    }
}

/// Whether a delivery in this state waits for a vendor (and not for its player, a person or nothing).
pub fn on_the_way(state: DeliveryState) -> bool {
    use DeliveryState::{Accepted, Ready, RetryAt, Sending, Unknown};
    matches!(state, Ready | Sending | Accepted | RetryAt | Unknown)
}

/// An award with its delivery's progress.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AwardRecord {
    /// The award.
    pub row: AwardRow,
    /// Its delivery; none while delivery's journal has not been heard of it.
    pub progress: Option<Progress>,
}

/// What went wrong, so that a person must look. The number is stored.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum AlarmKind {
    /// The award's MAC is wrong: the record was not made by a node of this platform, or was changed. Not stored, no order.
    BadMac = 1,
    /// The award's unit belongs to another award. Stored, no order.
    UnitTwice = 2,
    /// The plan has no such prize. Stored, no order.
    NoSuchPrize = 3,
    /// An award id that is there already with other facts. The first one stands.
    IdTwice = 4,
    /// The award's id names another node or epoch than the group that it stands in. Not stored, no order.
    ForeignId = 5,
}

impl AlarmKind {
    /// The kind of a stored number.
    pub fn from_u8(value: u8) -> Option<AlarmKind> {
        use AlarmKind::{BadMac, ForeignId, IdTwice, NoSuchPrize, UnitTwice};
        [BadMac, UnitTwice, NoSuchPrize, IdTwice, ForeignId].into_iter().find(|k| *k as u8 == value)
    }

    /// A sentence for people.
    pub fn text(self) -> &'static str {
        match self {
            AlarmKind::BadMac => "the MAC of this award is wrong; it was not stored and gets no order",
            AlarmKind::UnitTwice => "this award's unit was given to another award before; it gets no order",
            AlarmKind::NoSuchPrize => "the plan has no such prize; the award gets no order",
            AlarmKind::IdTwice => "another award with the same id is stored; this one was ignored",
            AlarmKind::ForeignId => "the award's id names another node or epoch than its log; it was ignored",
        }
    }
}

/// An alarm about an award. There is at most one of a kind for each award.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Alarm {
    /// What is wrong.
    pub kind: AlarmKind,
    /// The award.
    pub award: AwardId,
    /// Lane in which it stands.
    pub node: NodeId,
    /// Position of its group there, or of the first group that was taken in together with it.
    pub position: u64,
    /// The award that it collides with, or 0.
    pub other: AwardId,
}
