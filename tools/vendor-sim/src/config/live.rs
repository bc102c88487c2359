//! What of a vendor can be changed while it runs, and what it must be. A change is checked whole, and changes nothing if it fails.

use hyper::Uri;
use serde::{Deserialize, Serialize};

/// Parts in a whole, for chances.
pub const PPM: u32 = 1_000_000;

/// What is wrong with what can be changed live.
#[derive(Debug, thiserror::Error)]
pub enum LiveError {
    /// Out of range.
    #[error("{key} = {value}: must be {rule}")]
    Range {
        /// Which key, or the sum of which.
        key: &'static str,
        /// What it is.
        value: String,
        /// What would be right.
        rule: &'static str,
    },
    /// Unknown key or wrong type in a live change.
    #[error("{0}")]
    Shape(String),
}

/// What of a vendor can be changed while it runs. The meaning of each key stands in the default file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)] // said once, in default.toml
pub struct Live {
    pub limit_per_second: u32,
    pub capacity_per_second: u32,
    pub query_capacity_per_second: u32,
    pub burst_ms: u32,
    pub callback_url: String,
    pub callback_always: bool,
    pub callback_delay_ms_min: u32,
    pub callback_delay_ms_max: u32,
    pub callback_duplicate_ppm: u32,
    pub callback_lost_ppm: u32,
    pub require_account: bool,
    pub account_missing_ppm: u32,
    pub timeout_before_ppm: u32,
    pub timeout_after_ppm: u32,
    pub error_before_ppm: u32,
    pub error_after_ppm: u32,
    pub query_timeout_ppm: u32,
    pub query_error_ppm: u32,
    pub hang_ms: u32,
    pub accept_delay_ms_max: u32,
    pub settling_ms: u32,
    pub refuse_ppm: u32,
    pub late_ppm: u32,
    pub fail_ppm: u32,
    pub unfamiliar_ppm: u32,
    pub unfamiliar_status: String,
    pub late_ms_min: u32,
    pub late_ms_max: u32,
    pub reversed_ppm: u32,
    pub reverse_ms_min: u32,
    pub reverse_ms_max: u32,
    pub row_missing_ppm: u32,
    pub row_late_ppm: u32,
    pub row_late_ms: u32,
    pub row_missing_final_ppm: u32,
    pub outages: Vec<Outage>,
    pub latency: Latency,
}

/// Time to answer.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct Latency {
    pub min_ms: u32,
    pub mean_ms: u32,
    pub tail_ms: u32,
}

/// A time in which nothing works, in ms since start: from the first to just before the second.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct Outage {
    pub from_ms: u64,
    pub to_ms: u64,
    pub mode: OutageMode,
}

/// How it doesn't work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OutageMode {
    /// The connection is closed.
    Refuse,
    /// No answer until the outage ends or `hang_ms` have passed; then the connection is closed.
    Hang,
    /// 503.
    Error,
}

impl Live {
    /// Checks ranges and sums.
    pub fn check(&self) -> Result<(), LiveError> {
        let sums = [
            (
                "timeout_before_ppm + timeout_after_ppm + error_before_ppm + error_after_ppm",
                &[
                    self.timeout_before_ppm,
                    self.timeout_after_ppm,
                    self.error_before_ppm,
                    self.error_after_ppm,
                ][..],
            ),
            ("query_timeout_ppm + query_error_ppm", &[self.query_timeout_ppm, self.query_error_ppm]),
            ("late_ppm + fail_ppm + unfamiliar_ppm", &[self.late_ppm, self.fail_ppm, self.unfamiliar_ppm]),
            (
                "row_missing_ppm + row_late_ppm + row_missing_final_ppm",
                &[self.row_missing_ppm, self.row_late_ppm, self.row_missing_final_ppm],
            ),
            (
                "callback_duplicate_ppm + callback_lost_ppm",
                &[self.callback_duplicate_ppm, self.callback_lost_ppm],
            ),
            ("refuse_ppm", &[self.refuse_ppm]),
            ("reversed_ppm", &[self.reversed_ppm]),
            ("account_missing_ppm", &[self.account_missing_ppm]),
        ];
        for (key, parts) in sums {
            let sum: u64 = parts.iter().map(|&p| u64::from(p)).sum();
            ensure(sum <= u64::from(PPM), key, sum, "0 to 1000000")?;
        }
        for (key, value) in [
            ("limit_per_second", self.limit_per_second),
            ("capacity_per_second", self.capacity_per_second),
            ("query_capacity_per_second", self.query_capacity_per_second),
        ] {
            ensure((1..=1_000_000).contains(&value), key, value, "1 to 1000000")?;
        }
        let ordered = "at least its minimum";
        ensure(self.late_ms_min <= self.late_ms_max, "late_ms_max", self.late_ms_max, ordered)?;
        ensure(self.reverse_ms_min <= self.reverse_ms_max, "reverse_ms_max", self.reverse_ms_max, ordered)?;
        let (low, high) = (self.callback_delay_ms_min, self.callback_delay_ms_max);
        ensure(low <= high, "callback_delay_ms_max", high, ordered)?;
        let Latency { min_ms, mean_ms, tail_ms } = self.latency;
        ensure(
            min_ms <= mean_ms && mean_ms <= tail_ms,
            "latency.mean_ms",
            mean_ms,
            "between min_ms and tail_ms",
        )?;
        let delay = self.accept_delay_ms_max;
        ensure(delay <= self.settling_ms, "accept_delay_ms_max", delay, "at most settling_ms")?;
        self.check_texts()
    }

    fn check_texts(&self) -> Result<(), LiveError> {
        let status = &self.unfamiliar_status;
        let known = ["accepted", "processing", "success", "failed", "reversed"].contains(&status.as_str());
        let plain =
            !status.is_empty() && status.bytes().all(|b| b.is_ascii_graphic() && b != b'"' && b != b'\\');
        ensure(
            plain && !known && status.len() <= 64,
            "unfamiliar_status",
            status,
            "1-64 plain characters, and no status of the protocol",
        )?;
        let url = &self.callback_url;
        let http = url.parse::<Uri>().is_ok_and(|u| u.scheme_str() == Some("http") && u.host().is_some());
        ensure(url.is_empty() || http, "callback_url", url, "empty or an http:// address")?;
        for outage in &self.outages {
            ensure(outage.from_ms < outage.to_ms, "outages.to_ms", outage.to_ms, "after from_ms")?;
        }
        ensure(self.outages.len() <= 64, "outages", self.outages.len(), "64 at most")
    }

    /// This one with the keys of a JSON object changed, checked.
    pub fn changed(&self, change: &serde_json::Value) -> Result<Self, LiveError> {
        let shape = |e: serde_json::Error| LiveError::Shape(e.to_string());
        let mut all = serde_json::to_value(self).map_err(shape)?;
        let (Some(into), Some(from)) = (all.as_object_mut(), change.as_object()) else {
            return Err(LiveError::Shape("the body is a JSON object of the keys to change".into()));
        };
        for (key, value) in from {
            match (into.get_mut(key).and_then(|v| v.as_object_mut()), value.as_object()) {
                (Some(inner), Some(fields)) => inner.extend(fields.clone()),
                _ => drop(into.insert(key.clone(), value.clone())),
            }
        }
        let live: Self = serde_json::from_value(all).map_err(shape)?;
        live.check()?;
        Ok(live)
    }
}

fn ensure(
    holds: bool,
    key: &'static str,
    value: impl std::fmt::Display,
    rule: &'static str,
) -> Result<(), LiveError> {
    if holds { Ok(()) } else { Err(LiveError::Range { key, value: value.to_string(), rule }) }
}
