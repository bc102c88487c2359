//! What the unit tests start from.

use crate::config::Live;
use crate::payout::{Id, Kind, Order, Payout, Plan, RowFate};

/// The default settings: no faults.
pub fn quiet() -> Live {
    let secrets = |_: &str| Some("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".into());
    let config = crate::config::parse(None, std::path::Path::new("-"), secrets).unwrap();
    config.vendors.into_iter().next().unwrap().live
}

/// 880 fen in cash.
pub fn order(number: &str, award: &str) -> Order {
    Order {
        number: Id::parse(number).unwrap(),
        award: Id::parse(award).unwrap(),
        kind: Kind::Cash,
        prize: 3,
        fen: 880,
        merchant_account: "m-1".into(),
        payee: "openid-42".into(),
    }
}

/// The same, taken and paid at once.
pub fn payout(number: &str, award: &str, now_ms: u64) -> Payout {
    let plan = Plan {
        finish_ms: now_ms,
        failed: false,
        unfamiliar: false,
        reverse_ms: None,
        row: RowFate::InTime,
        callbacks: None,
    };
    Payout { order: order(number, award), accepted_ms: now_ms, plan, finish_told: false, reverse_told: false }
}
