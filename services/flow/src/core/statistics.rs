//! What is counted of awards and deliveries. Sums only; the store keeps them in the transaction that changes them.

use std::collections::BTreeMap;

use campaign::{CampaignId, Fen, PrizeId, RoundId, VendorId};
use records::DeliveryState;

use super::award::{AwardRow, Doubt};
use crate::limits::STATISTICS_MAX;

/// One line of the statistics.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct StatKey {
    /// The campaign.
    pub campaign: CampaignId,
    /// The round.
    pub round: RoundId,
    /// The prize.
    pub prize: PrizeId,
    /// Who delivers it.
    pub vendor: VendorId,
    /// Where its players were, or 0.
    pub district: u32,
}

/// What is counted in a line, or by how much a line changes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct StatValue {
    /// Units awarded.
    pub awarded_units: i64,
    /// Their money.
    pub awarded_fen: Fen,
    /// Units that their players have.
    pub delivered_units: i64,
    /// Their money.
    pub delivered_fen: Fen,
    /// Units that nobody claimed in time.
    pub lapsed_units: i64,
    /// Their money.
    pub lapsed_fen: Fen,
}

/// Changes, by line.
pub type StatDelta = BTreeMap<StatKey, StatValue>;

impl StatValue {
    /// What a new award adds.
    pub fn awarded(fen: Fen) -> StatValue {
        StatValue { awarded_units: 1, awarded_fen: fen, ..StatValue::default() }
    }

    /// What a step from one state to another changes. A reversed delivery is open again.
    pub fn moved(before: Option<DeliveryState>, after: DeliveryState, fen: Fen) -> StatValue {
        let is = |wanted: DeliveryState| i64::from(after == wanted) - i64::from(before == Some(wanted));
        let (delivered, lapsed) = (is(DeliveryState::Delivered), is(DeliveryState::Lapsed));
        StatValue {
            delivered_units: delivered,
            delivered_fen: Fen(fen.0 * delivered),
            lapsed_units: lapsed,
            lapsed_fen: Fen(fen.0 * lapsed),
            ..StatValue::default()
        }
    }

    /// Adds another value.
    pub fn add(&mut self, other: &StatValue) {
        self.awarded_units += other.awarded_units;
        self.awarded_fen += other.awarded_fen;
        self.delivered_units += other.delivered_units;
        self.delivered_fen += other.delivered_fen;
        self.lapsed_units += other.lapsed_units;
        self.lapsed_fen += other.lapsed_fen;
    }

    /// Units awarded and neither delivered nor lapsed.
    pub fn open_units(&self) -> i64 {
        self.awarded_units - self.delivered_units - self.lapsed_units
    }

    /// Their money.
    pub fn open_fen(&self) -> Fen {
        self.awarded_fen - self.delivered_fen - self.lapsed_fen
    }
}

/// All lines. Bounded: when it is full, awards of a district that has no line yet are counted under district 0.
#[derive(Clone, Debug, Default)]
pub struct StatBook {
    lines: BTreeMap<StatKey, StatValue>,
}

impl StatBook {
    /// A book with these lines.
    pub fn new(lines: impl IntoIterator<Item = (StatKey, StatValue)>) -> StatBook {
        StatBook { lines: lines.into_iter().collect() }
    }

    /// Whether all lines of a change are here.
    pub fn has_all(&self, delta: &StatDelta) -> bool {
        delta.keys().all(|key| self.lines.contains_key(key))
    }

    /// The line of an award. It never changes for an award once it was counted.
    pub fn key(&self, row: &AwardRow) -> StatKey {
        let won = &row.won;
        let exact = StatKey {
            campaign: won.campaign,
            round: won.round,
            prize: won.prize,
            vendor: row.vendor,
            district: won.district,
        };
        if self.lines.len() >= STATISTICS_MAX && !self.lines.contains_key(&exact) {
            return StatKey { district: 0, ..exact };
        }
        exact
    }

    /// Counts a new award. An award that shares its unit with another is not counted as one more.
    pub fn count_award(&self, row: &AwardRow, delta: &mut StatDelta) {
        if row.doubt != Doubt::UnitTwice {
            delta.entry(self.key(row)).or_default().add(&StatValue::awarded(row.won.fen));
        }
    }

    /// Counts a step of an award's delivery.
    pub fn count_step(
        &self,
        row: &AwardRow,
        before: Option<DeliveryState>,
        after: DeliveryState,
        delta: &mut StatDelta,
    ) {
        let value = StatValue::moved(before, after, row.won.fen);
        if value != StatValue::default() {
            delta.entry(self.key(row)).or_default().add(&value);
        }
    }

    /// Takes changes in.
    pub fn apply(&mut self, delta: &StatDelta) {
        for (key, value) in delta {
            self.lines.entry(*key).or_default().add(value);
        }
    }

    /// All lines, by key.
    pub fn lines(&self) -> impl Iterator<Item = (&StatKey, &StatValue)> {
        self.lines.iter()
    }
}
