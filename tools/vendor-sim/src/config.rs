//! Configuration: the commented default file is what the binary loads, and a file of one's own is laid over it.
//!
//! Refused at start, with the vendor and the key named: unknown keys, chances that sum to more than a million, a limit of
//! 0, two vendors with one id, a vendor without a secret. Live changes go through the same checks and change nothing if
//! one fails: see [`Live`].

mod live;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use toml::{Table, Value};

use crate::sign::{SecretError, Signer};

pub use live::{Latency, Live, LiveError, Outage, OutageMode, PPM};

/// The default file, comments and all.
pub const DEFAULT: &str = include_str!("default.toml");
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
