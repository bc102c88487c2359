//! Configuration: the commented default file is what the binary loads, and a file of one's own is laid over it.
//!
//! Refused at start, with the vendor and the key named: unknown keys, chances that sum to more than a million, a limit of
//! 0, two vendors with one id, a vendor without a secret. Live changes go through the same checks and change nothing if
//! one fails.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use hyper::Uri;
use serde::{Deserialize, Serialize};
use toml::{Table, Value};

use crate::sign::{SecretError, Signer};

/// The default file, comments and all.
pub const DEFAULT: &str = include_str!("default.toml");
/// Parts in a whole, for chances.
pub const PPM: u32 = 1_000_000;
/// Vendors in one process.
const VENDORS_MAX: usize = 256;

/// What is wrong with a configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A file can't be read.
    #[error("can't read {path}: {source}")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is no TOML; the text names line and column.
    #[error("{path}: {message}")]
    Syntax {
        /// Which.
        path: PathBuf,
        /// Where and what.
        message: String,
    },
    /// A key is unknown, or its value has the wrong type.
    #[error("{place}: {message}")]
    Key {
        /// The table it stands in.
        place: String,
        /// What and what would be right.
        message: String,
    },
    /// A value is out of its range.
    #[error("{place}: {source}")]
    Value {
        /// The table it stands in.
        place: String,
        /// What and what would be right.
        source: LiveError,
    },
    /// A vendor has no secret.
    #[error(
        "vendor {0}: no secret. Set the environment variable VENDOR_SIM_SECRET_{0}, or `secret`, or `secret_file`; `vendor-sim make-secret` makes one"
    )]
    NoSecret(u32),
    /// A vendor's secret is none.
    #[error("vendor {0}: {1}")]
    Secret(u32, SecretError),
}

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

/// Everything, checked.
#[derive(Debug)]
pub struct Config {
    /// Address to listen on.
    pub listen: SocketAddr,
    /// Folder of the journals.
    pub state_dir: PathBuf,
    /// Seed of all faults.
    pub seed: u64,
    /// Worker threads, 1-64.
    pub threads: usize,
    /// Bounds.
    pub limits: Limits,
    /// At least one.
    pub vendors: Vec<VendorConfig>,
}

/// Bounds on what the process holds.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Open connections.
    pub connections_max: usize,
    /// Payouts a vendor remembers.
    pub payouts_max: u32,
    /// Callbacks waiting for their time.
    pub callbacks_waiting_max: usize,
    /// Payouts waiting to be taken late.
    pub late_accepts_max: usize,
}

/// One vendor.
#[derive(Debug)]
pub struct VendorConfig {
    /// Number in paths.
    pub id: u32,
    /// Name for people.
    pub name: String,
    /// Its key.
    pub signer: Signer,
    /// What can be changed later.
    pub live: Live,
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

/// The top of the file, without the vendors.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Top {
    listen: SocketAddr,
    state_dir: PathBuf,
    seed: u64,
    threads: usize,
    limits: Limits,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Who {
    id: u32,
    name: String,
    secret: String,
    secret_file: PathBuf,
}

/// Reads the default file, lays the one at `path` over it, and looks up secrets, first by `env` (variable name to value).
pub fn load(path: Option<&Path>, env: impl Fn(&str) -> Option<String>) -> Result<Config, ConfigError> {
    let mut text = None;
    if let Some(path) = path {
        let read = std::fs::read_to_string(path);
        text = Some(read.map_err(|source| ConfigError::Read { path: path.to_owned(), source })?);
    }
    parse(text.as_deref(), path.unwrap_or(Path::new("default.toml")), env)
}

/// As [`load`], from the text of a file called `path`.
pub fn parse(
    text: Option<&str>,
    path: &Path,
    env: impl Fn(&str) -> Option<String>,
) -> Result<Config, ConfigError> {
    let mut all = table(DEFAULT, Path::new("default.toml"))?;
    if let Some(text) = text {
        lay_over(&mut all, table(text, path)?);
    }
    let vendors = all.remove("vendor");
    let defaults = match all.remove("vendor_defaults") {
        Some(Value::Table(table)) => table,
        _ => return Err(key_error("vendor_defaults", "must be a table")),
    };
    let top: Top = Value::Table(all)
        .try_into()
        .map_err(|e: toml::de::Error| key_error("the file's top", e.message()))?;
    if !(1..=64).contains(&top.threads) {
        return Err(key_error("threads", "must be 1 to 64"));
    }
    let Some(Value::Array(vendors)) = vendors else {
        return Err(key_error("vendor", "must be an array of tables: [[vendor]]"));
    };
    if vendors.is_empty() || vendors.len() > VENDORS_MAX {
        return Err(key_error("vendor", "1 to 256 of them"));
    }
    let mut seen = BTreeSet::new();
    let mut out = Vec::with_capacity(vendors.len());
    for (nth, own) in vendors.into_iter().enumerate() {
        let Value::Table(own) = own else {
            return Err(key_error("vendor", "must be an array of tables: [[vendor]]"));
        };
        let vendor = vendor(nth, own, defaults.clone(), &env)?;
        if !seen.insert(vendor.id) {
            return Err(key_error(&format!("vendor {}", vendor.id), "this id stands twice"));
        }
        out.push(vendor);
    }
    let Top { listen, state_dir, seed, threads, limits } = top;
    Ok(Config { listen, state_dir, seed, threads, limits, vendors: out })
}

fn vendor(
    nth: usize,
    own: Table,
    mut all: Table,
    env: &impl Fn(&str) -> Option<String>,
) -> Result<VendorConfig, ConfigError> {
    lay_over(&mut all, own);
    let place = all.get("id").map_or(format!("vendor table {}", nth + 1), |id| format!("vendor {id}"));
    let mut who = Table::new();
    for key in ["id", "name", "secret", "secret_file"] {
        if let Some(value) = all.remove(key) {
            who.insert(key.into(), value);
        }
    }
    let who: Who =
        Value::Table(who).try_into().map_err(|e: toml::de::Error| key_error(&place, e.message()))?;
    let live: Live =
        Value::Table(all).try_into().map_err(|e: toml::de::Error| key_error(&place, e.message()))?;
    live.check().map_err(|source| ConfigError::Value { place, source })?;
    let signer = Signer::from_secret(&secret(&who, env)?).map_err(|e| ConfigError::Secret(who.id, e))?;
    Ok(VendorConfig { id: who.id, name: who.name, signer, live })
}

fn secret(who: &Who, env: &impl Fn(&str) -> Option<String>) -> Result<String, ConfigError> {
    if let Some(secret) = env(&format!("VENDOR_SIM_SECRET_{}", who.id)).filter(|s| !s.is_empty()) {
        return Ok(secret);
    }
    if !who.secret.is_empty() {
        return Ok(who.secret.clone());
    }
    if who.secret_file.as_os_str().is_empty() {
        return Err(ConfigError::NoSecret(who.id));
    }
    let text = std::fs::read_to_string(&who.secret_file)
        .map_err(|source| ConfigError::Read { path: who.secret_file.clone(), source })?;
    Ok(text.lines().next().unwrap_or_default().trim().to_owned())
}

fn table(text: &str, path: &Path) -> Result<Table, ConfigError> {
    text.parse::<Table>().map_err(|e| ConfigError::Syntax { path: path.to_owned(), message: e.to_string() })
}

/// Keys of `over` replace those of `under`; tables are laid over each other, arrays replaced whole.
fn lay_over(under: &mut Table, over: Table) {
    for (key, value) in over {
        match (under.get_mut(&key), value) {
            (Some(Value::Table(inner)), Value::Table(fields)) => lay_over(inner, fields),
            (_, value) => drop(under.insert(key, value)),
        }
    }
}

fn key_error(place: &str, message: &str) -> ConfigError {
    ConfigError::Key { place: place.to_owned(), message: message.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_secrets(name: &str) -> Option<String> {
        name.starts_with("VENDOR_SIM_SECRET_").then(|| "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".into())
    }

    fn read(text: &str) -> Result<Config, ConfigError> {
        parse(Some(text), Path::new("mine.toml"), with_secrets)
    }

    #[test]
    fn the_default_file_is_complete_and_behaves_well() {
        let config = parse(None, Path::new("-"), with_secrets).unwrap();
        assert_eq!(config.vendors.len(), 2);
        assert_eq!(config.vendors[0].live.limit_per_second, 40_000);
        assert_eq!(config.vendors[1].live.capacity_per_second, 2_000);
        assert_eq!(config.vendors[0].live.timeout_after_ppm, 0);
    }

    #[test]
    fn there_is_no_secret_unless_one_is_given() {
        let error = parse(None, Path::new("-"), |_| None).unwrap_err().to_string();
        assert!(error.contains("vendor 1: no secret") && error.contains("VENDOR_SIM_SECRET_1"), "{error}");
    }

    #[test]
    fn a_file_is_laid_over_key_by_key() {
        let text =
            "seed = 9\n[vendor_defaults]\nlate_ppm = 5\n[[vendor]]\nid = 4\n[vendor.latency]\nmean_ms = 9";
        let config = read(text).unwrap();
        assert_eq!((config.seed, config.vendors.len(), config.vendors[0].id), (9, 1, 4));
        let live = &config.vendors[0].live;
        assert_eq!((live.late_ppm, live.latency.min_ms, live.latency.mean_ms), (5, 1, 9));
    }

    #[test]
    fn errors_name_place_and_remedy() {
        let shows = |text: &str, parts: &[&str]| {
            let error = read(text).unwrap_err().to_string();
            assert!(parts.iter().all(|p| error.contains(p)), "{error}");
        };
        shows("seed = = 1", &["mine.toml", "line 1"]);
        shows("sed = 1", &["unknown field", "sed"]);
        shows("[[vendor]]\nid = 3\nlate_pmm = 1", &["vendor 3", "late_pmm"]);
        shows("[[vendor]]\nname = \"x\"", &["vendor table 1", "id"]);
        shows("[[vendor]]\nid = 3\n[[vendor]]\nid = 3", &["vendor 3", "twice"]);
        shows(
            "[[vendor]]\nid = 3\nlate_ppm = 600000\nfail_ppm = 600000",
            &["vendor 3", "fail_ppm", "1200000"],
        );
        shows("[[vendor]]\nid = 3\nunfamiliar_status = \"success\"", &["unfamiliar_status"]);
        shows("[[vendor]]\nid = 3\ncallback_url = \"https://x/\"", &["callback_url", "http://"]);
        shows("[[vendor]]\nid = 3\naccept_delay_ms_max = 9999", &["settling_ms"]);
        shows("[[vendor]]\nid = 3\nlimit_per_second = 0", &["limit_per_second = 0"]);
    }

    #[test]
    fn live_changes_touch_only_what_they_name() {
        let live = &read("").unwrap().vendors[0].live;
        let change = serde_json::json!({"late_ppm": 7, "latency": {"tail_ms": 99}});
        let changed = live.changed(&change).unwrap();
        let want = Live { late_ppm: 7, latency: Latency { tail_ms: 99, ..live.latency }, ..live.clone() };
        assert_eq!(changed, want);
        assert!(live.changed(&serde_json::json!({"late_pp": 7})).is_err());
        assert!(live.changed(&serde_json::json!({"late_ppm": 1_000_001})).is_err());
        assert!(live.changed(&serde_json::json!([])).is_err());
    }
}
