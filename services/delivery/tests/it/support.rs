//! Orders, keys and settings that the tests share.

use campaign::{
    AwardId, CampaignId, Fen, MacKey, MacKeys, NodeEpoch, NodeId, PrizeId, PrizeKind, RoundId, UserId,
    VendorId,
};
use delivery::config::VendorConfig;
use delivery::core::{RetrySchedule, VendorPolicy};
use records::{Order, OrderKind};

pub const NOW_MS: u64 = 1_767_196_800_000;

pub fn keys() -> MacKeys {
    MacKeys::new(vec![MacKey { id: 1, key: [7; 32] }]).unwrap()
}

pub fn award(n: u64) -> AwardId {
    AwardId::new(NOW_MS - 1_000_000 + n, NodeId(1), NodeEpoch(1), n)
}

/// A signed order; user, unit and amount follow from its number.
pub fn order(n: u64, kind: OrderKind, vendor: u32) -> Order {
    let lapse_ms = if kind == OrderKind::AtOnce { 0 } else { NOW_MS + 10_000 };
    let mut order = Order {
        kind,
        prize_kind: PrizeKind::Cash,
        award: award(n),
        campaign: CampaignId(1),
        round: RoundId(1),
        user: UserId(1_000 + n),
        prize: PrizeId(3),
        unit: n,
        fen: Fen(100 + n as i64 % 50),
        vendor: VendorId(vendor),
        won_ms: NOW_MS - 1_000,
        lapse_ms,
        mac_key: 1,
        mac: [0; 16],
    };
    order.mac = keys().newest().mac(&order.facts());
    order
}

/// Delays of a few ms, so that tests are quick.
pub fn quick(ms: u64) -> RetrySchedule {
    RetrySchedule { delays_ms: vec![ms, 2 * ms, 4 * ms], spread_permille: 100, slow_down_min_ms: ms }
}

pub fn policy() -> VendorPolicy {
    VendorPolicy {
        timeout_ms: 1_000,
        settle_ms: 500,
        begin_within_ms: 100,
        query_window_ms: 1_000_000,
        repeat_window_ms: 1_000_000,
        retry: quick(1_000),
        ask: quick(500),
        held_recheck_ms: 5_000,
        generation_max: 3,
    }
}

pub fn vendor(id: u32, capacity: u32) -> VendorConfig {
    let text = format!(
        "id = {id}\nname = \"v{id}\"\nbase_url = \"http://127.0.0.1:1\"\nsecret = \"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\"\n\
         merchant_account = \"m-1\"\ncapacity_per_second = {capacity}\naccount = \"user_id\"\ntimeout_ms = 60\nsettle_ms = 20\n"
    );
    let mut config: VendorConfig = toml::from_str(&text).unwrap();
    (config.retry, config.ask) = (quick(20), quick(20));
    config
}
