//! What a player sees of an award.

use protocol::v1::{Award, AwardState, PrizeKind as WireKind};
use records::{DeliveryState, OrderKind};

use super::award::{AwardRecord, Doubt};

/// From which age of a vendor's backlog on players are told how long it may take.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EtaLimits {
    /// '24 hours' from here on.
    pub behind_ms: u64,
    /// '48 hours' from here on.
    pub far_behind_ms: u64,
}

impl Default for EtaLimits {
    fn default() -> Self {
        EtaLimits { behind_ms: 10 * 60_000, far_behind_ms: 24 * 3_600_000 }
    }
}

impl EtaLimits {
    /// The hours to name for a backlog of this age; 0: none.
    pub fn hours(&self, backlog_ms: u64) -> u32 {
        match backlog_ms {
            age if age >= self.far_behind_ms => 48,
            age if age >= self.behind_ms => 24,
            _ => 0,
        }
    }
}

/// An award's state in a player's words.
pub fn public_state(record: &AwardRecord, now_ms: u64) -> AwardState {
    let row = &record.row;
    if row.doubt != Doubt::None {
        return AwardState::InReview;
    }
    let waiting = || match row.order {
        OrderKind::AtOnce => AwardState::Won,
        _ if row.lapse_ms != 0 && now_ms >= row.lapse_ms => AwardState::Lapsed,
        _ => AwardState::Claimable,
    };
    use DeliveryState as S;
    match record.progress.map(|p| p.state) {
        None | Some(S::New) => waiting(),
        Some(S::Ready | S::Sending | S::Accepted | S::RetryAt | S::Unknown) => AwardState::OnTheWay,
        Some(S::Held) => AwardState::NeedsAccount,
        Some(S::Delivered) => AwardState::Delivered,
        Some(S::Lapsed) => AwardState::Lapsed,
        Some(S::Rejected | S::Reversed) => AwardState::InReview,
    }
}

/// The message about an award. `eta_hours` is named only while it is on its way.
pub fn award_view(record: &AwardRecord, prize_name: &str, state: AwardState, eta_hours: u32) -> Award {
    let won = &record.row.won;
    let kind = match record.row.prize_kind {
        campaign::PrizeKind::Cash => WireKind::Cash,
        campaign::PrizeKind::Voucher => WireKind::Voucher,
        campaign::PrizeKind::Goods => WireKind::Goods,
        campaign::PrizeKind::Cover => WireKind::Cover,
    };
    let on_the_way = matches!(state, AwardState::OnTheWay | AwardState::Won);
    Award {
        award: won.award.to_string(),
        campaign: won.campaign.0,
        round: won.round.0,
        prize: won.prize.0,
        prize_name: prize_name.to_owned(),
        kind: kind as i32,
        fen: won.fen.0,
        won_ms: won.time_ms,
        state: state as i32,
        lapse_ms: record.row.lapse_ms,
        eta_hours: if on_the_way { eta_hours } else { 0 },
    }
}
