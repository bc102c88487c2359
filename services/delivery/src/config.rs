//! The settings of delivery.

use crate::core::{GENERATION_MAX, RetrySchedule, VendorPolicy};
use crate::pace::{AdaptOptions, BreakerOptions, LIMIT_MAX, PaceOptions};
use campaign::VendorId;
use serde::{Deserialize, Serialize};

/// All settings of delivery.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DeliveryConfig {
    /// Nothing is sent and nothing asked; orders, claims and callbacks are still taken down.
    pub hold: bool,
    /// How long after its term an unclaimed award is kept in case that its claim is still on the way, ms.
    pub lapse_grace_ms: u64,
    /// How long a worker that found nothing to do waits before it looks again, ms.
    pub idle_poll_ms: u64,
    /// Who delivers.
    pub vendors: Vec<VendorConfig>,
}

impl Default for DeliveryConfig {
    fn default() -> Self {
        Self { hold: false, lapse_grace_ms: 60_000, idle_poll_ms: 50, vendors: Vec::new() }
    }
}

/// Fast or slow: what a player is promised, and how eagerly a worker looks for work.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PathKind {
    /// Cash to a wallet, in real time.
    #[default]
    Fast,
    /// Vouchers and goods.
    Slow,
}

/// Where the user's account at a vendor comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AccountMode {
    /// Registered by the app; without one the prize is held.
    #[default]
    Registered,
    /// The user id in decimal is the account: nothing needs to be registered.
    UserId,
}

/// One vendor.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VendorConfig {
    /// Its id in campaign files.
    pub id: u32,
    /// Name for people.
    pub name: String,
    /// Where it is, `http://host:port`.
    pub base_url: String,
    /// `whsec_...`, in both directions.
    pub secret: String,
    /// Our account there.
    pub merchant_account: String,
    /// Its declared limit, calls a second; 0 stops it. Can be changed live.
    pub capacity_per_second: u32,
    /// Calls at once, at most.
    #[serde(default = "d::concurrency")]
    pub concurrency: usize,
    /// How long a call may take, ms.
    #[serde(default = "d::timeout_ms")]
    pub timeout_ms: u64,
    /// How long behind a time-out the vendor may still take a lost call, ms.
    #[serde(default = "d::settle_ms")]
    pub settle_ms: u64,
    /// How long a number may be asked about, ms.
    #[serde(default = "d::window_ms")]
    pub query_window_ms: u64,
    /// How long a number may be repeated, ms.
    #[serde(default = "d::window_ms")]
    pub repeat_window_ms: u64,
    /// Delays between sends.
    #[serde(default)]
    pub retry: RetrySchedule,
    /// Delays between questions.
    #[serde(default = "d::ask")]
    pub ask: RetrySchedule,
    /// How often a held order is looked at again without anybody registering an account, ms.
    #[serde(default = "d::held_recheck_ms")]
    pub held_recheck_ms: u64,
    /// Numbers that may die before a person decides.
    #[serde(default = "d::generation_max")]
    pub generation_max: u16,
    /// Where accounts come from.
    #[serde(default)]
    pub account: AccountMode,
    /// Fast or slow path.
    #[serde(default)]
    pub kind: PathKind,
    /// Failures in a row that cut the vendor off; 0: never.
    #[serde(default = "d::breaker_failures")]
    pub breaker_failures: u32,
    /// How long it is cut off at first, ms; doubles up to a minute.
    #[serde(default = "d::breaker_open_ms")]
    pub breaker_open_ms: u64,
}

mod d {
    use crate::core::RetrySchedule;

    pub fn concurrency() -> usize {
        64
    }
    pub fn timeout_ms() -> u64 {
        5_000
    }
    pub fn settle_ms() -> u64 {
        2_000
    }
    pub fn window_ms() -> u64 {
        30 * 86_400_000
    }
    pub fn ask() -> RetrySchedule {
        RetrySchedule {
            delays_ms: [1, 2, 5, 15, 60, 300, 1_800].map(|s| s * 1_000).to_vec(),
            spread_permille: 200,
            slow_down_min_ms: 0,
        }
    }
    pub fn held_recheck_ms() -> u64 {
        3_600_000
    }
    pub fn generation_max() -> u16 {
        5
    }
    pub fn breaker_failures() -> u32 {
        50
    }
    pub fn breaker_open_ms() -> u64 {
        1_000
    }
}

/// What is wrong with the settings.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("delivery.vendors[{at}].{key}: {what}")]
pub struct ConfigMistake {
    /// Which vendor, from 0.
    pub at: usize,
    /// Which key.
    pub key: &'static str,
    /// What is wrong, and what would be right.
    pub what: String,
}

/// Calls of a vendor at once, at most.
pub const CONCURRENCY_MAX: usize = 4_096;

impl DeliveryConfig {
    /// Looks for what no single value can say.
    ///
    /// # Errors
    /// The first mistake.
    pub fn check(&self) -> Result<(), ConfigMistake> {
        for (at, v) in self.vendors.iter().enumerate() {
            let wrong = |key, what: &str| Err(ConfigMistake { at, key, what: what.to_owned() });
            if self.vendors[..at].iter().any(|other| other.id == v.id) {
                return wrong("id", &format!("vendor {} is there twice", v.id));
            }
            if v.capacity_per_second > LIMIT_MAX {
                return wrong("capacity_per_second", &format!("at most {LIMIT_MAX}"));
            }
            if !(1..=CONCURRENCY_MAX).contains(&v.concurrency) {
                return wrong("concurrency", &format!("1 to {CONCURRENCY_MAX}"));
            }
            if !(1..=600_000).contains(&v.timeout_ms) {
                return wrong("timeout_ms", "1 to 600000");
            }
            if v.retry.delays_ms.is_empty() {
                return wrong("retry.delays_ms", "at least one delay");
            }
            if v.ask.delays_ms.is_empty() {
                return wrong("ask.delays_ms", "at least one delay");
            }
            if v.generation_max > GENERATION_MAX {
                return wrong("generation_max", &format!("at most {GENERATION_MAX}"));
            }
            if crate::account::check(&v.merchant_account).is_err() {
                return wrong("merchant_account", "1 to 64 bytes without control characters");
            }
            if v.query_window_ms.min(v.repeat_window_ms) <= v.timeout_ms + v.settle_ms {
                return wrong(
                    "query_window_ms",
                    "the windows must be longer than time-out and settling time",
                );
            }
        }
        Ok(())
    }
}

impl VendorConfig {
    /// The vendor's id.
    pub fn vendor(&self) -> VendorId {
        VendorId(self.id)
    }

    /// What the state machine must know.
    pub fn policy(&self) -> VendorPolicy {
        VendorPolicy {
            timeout_ms: self.timeout_ms,
            settle_ms: self.settle_ms,
            begin_within_ms: 1_000,
            query_window_ms: self.query_window_ms,
            repeat_window_ms: self.repeat_window_ms,
            retry: self.retry.clone(),
            ask: self.ask.clone(),
            held_recheck_ms: self.held_recheck_ms,
            generation_max: self.generation_max,
        }
    }

    /// How the vendor is paced.
    pub fn pace(&self) -> PaceOptions {
        PaceOptions {
            limit_per_second: self.capacity_per_second,
            adapt: AdaptOptions::default(),
            breaker: BreakerOptions {
                failures: self.breaker_failures,
                open_ms: self.breaker_open_ms,
                ..BreakerOptions::default()
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::DeliveryConfig;

    #[test]
    fn reads_a_short_table_and_names_mistakes() {
        let text = r#"
            [[vendors]]
            id = 7
            name = "wallet"
            base_url = "http://127.0.0.1:7900"
            secret = "whsec_x"
            merchant_account = "m-1"
            capacity_per_second = 40000
            account = "user_id"
        "#;
        let config: DeliveryConfig = toml::from_str(text).unwrap();
        assert_eq!(config.check(), Ok(()));
        assert!(toml::from_str::<DeliveryConfig>(&text.replace("secret", "sekret")).is_err());
        let mut twice = config.clone();
        twice.vendors.push(config.vendors[0].clone());
        assert_eq!(twice.check().unwrap_err().to_string(), "delivery.vendors[1].id: vendor 7 is there twice");
        let mut none = config;
        none.vendors[0].retry.delays_ms.clear();
        assert_eq!(none.check().unwrap_err().key, "retry.delays_ms");
    }
}
