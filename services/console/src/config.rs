//! How the admin API listens, and every bound that it keeps.

use serde::Deserialize;
use std::net::{Ipv4Addr, SocketAddr};

/// Largest JSON body, in bytes; rehearsals have a bound of their own.
pub const JSON_BYTES_MAX: usize = 64 << 10;
/// Largest body that starts a rehearsal: a file and an evening's arrivals by the second.
pub const REHEARSAL_BYTES_MAX: usize = 48 << 20;
/// Longest idempotency key, in bytes.
pub const KEY_BYTES_MAX: usize = 200;
/// Items of a page where the caller names no number.
pub const PAGE_DEFAULT: usize = 100;
/// Most items of a page.
pub const PAGE_MAX: usize = 1_000;
/// Longest reason, in bytes.
pub const REASON_BYTES_MAX: usize = 2_000;

/// Settings of the admin API.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ConsoleConfig {
    /// Where it listens; nothing: it does not.
    pub http: Option<SocketAddr>,
    /// Connections at once; further ones wait in the kernel's queue.
    pub connections_max: usize,
    /// How long a request's head may take to arrive, ms.
    pub head_ms: u64,
    /// How long a request may take from its head to the head of its answer, ms.
    pub request_ms: u64,
    /// How long a change may take, ms. It goes on where its caller has gone away, and is cut off here.
    pub change_ms: u64,
    /// How long one page of an export may take, to be read and to be taken by the caller, ms.
    pub page_ms: u64,
    /// Requests of one token a second, over time.
    pub token_per_second: u32,
    /// Requests of one token at once.
    pub token_burst: u32,
    /// Requests without a valid token that one address may make a minute, over time.
    pub strangers_per_minute: u32,
    /// Requests without a valid token that one address may make at once.
    pub strangers_burst: u32,
    /// Changes under way at once.
    pub changes_max: usize,
    /// Requests at once that read files or compile plans: each may take a processor and some 100 MB.
    pub heavy_max: usize,
    /// Exports at once.
    pub exports_max: usize,
    /// Awards that an export holds at once.
    pub export_page: usize,
    /// Rehearsals that wait while one runs.
    pub rehearsals_waiting_max: usize,
    /// Rehearsals that are kept when they are done.
    pub rehearsals_kept: usize,
}

impl Default for ConsoleConfig {
    fn default() -> ConsoleConfig {
        ConsoleConfig {
            http: Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 7602))),
            connections_max: 256,
            head_ms: 10_000,
            request_ms: 120_000,
            change_ms: 30_000,
            page_ms: 30_000,
            token_per_second: 50,
            token_burst: 200,
            strangers_per_minute: 30,
            strangers_burst: 30,
            changes_max: 64,
            heavy_max: 4,
            exports_max: 2,
            export_page: 1_000,
            rehearsals_waiting_max: 4,
            rehearsals_kept: 10,
        }
    }
}

/// A setting outside of its range.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{key} is {value}; write {range}")]
pub struct ConfigRange {
    /// Which.
    pub key: &'static str,
    /// What was written.
    pub value: u64,
    /// What may be written.
    pub range: &'static str,
}

impl ConsoleConfig {
    /// Holds each setting against its range.
    ///
    /// # Errors
    /// The first that is outside.
    pub fn check(&self) -> Result<(), ConfigRange> {
        const MS: (&str, u64, u64) = ("100 to 3600000 (ms)", 100, 3_600_000);
        const MANY: (&str, u64, u64) = ("1 to 100000", 1, 100_000);
        const FEW: (&str, u64, u64) = ("1 to 64", 1, 64);
        let settings = [
            ("connections_max", self.connections_max as u64, MANY),
            ("head_ms", self.head_ms, MS),
            ("request_ms", self.request_ms, MS),
            ("change_ms", self.change_ms, MS),
            ("page_ms", self.page_ms, MS),
            ("token_per_second", self.token_per_second.into(), MANY),
            ("token_burst", self.token_burst.into(), MANY),
            ("strangers_per_minute", self.strangers_per_minute.into(), MANY),
            ("strangers_burst", self.strangers_burst.into(), MANY),
            ("changes_max", self.changes_max as u64, MANY),
            ("heavy_max", self.heavy_max as u64, FEW),
            ("exports_max", self.exports_max as u64, FEW),
            ("export_page", self.export_page as u64, MANY),
            ("rehearsals_waiting_max", self.rehearsals_waiting_max as u64, FEW),
            ("rehearsals_kept", self.rehearsals_kept as u64, FEW),
        ];
        for (key, value, (range, least, most)) in settings {
            if !(least..=most).contains(&value) {
                return Err(ConfigRange { key, value, range });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::ConsoleConfig;

    #[test]
    fn settings_stay_within_their_ranges() {
        assert_eq!(ConsoleConfig::default().check(), Ok(()));
        let wrong = ConsoleConfig { heavy_max: 0, ..ConsoleConfig::default() };
        assert_eq!(wrong.check().unwrap_err().to_string(), "heavy_max is 0; write 1 to 64");
    }
}
