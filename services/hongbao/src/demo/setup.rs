//! The files that the demonstration's processes start from: vendors with secrets and faults of their own, and the
//! platform's configuration that fits them. Both files hold secrets, so only their owner may read them.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use campaign::{Plan, PrizeKind, SeedKey, SeqNo, VendorId};
use delivery::DeliveryConfig;
use delivery::config::{AccountMode, PathKind, VendorConfig};
use delivery::core::RetrySchedule;
use delivery::pace::LIMIT_MAX;
use quota_config::{CompileOptions, compile};
use serde::Serialize;
use toml::{Table, Value};

/// A wallet takes this many payments a second.
const WALLET_PER_SECOND: u32 = 40_000;
/// What others take where the campaign does not say.
const OTHERS_PER_SECOND: u32 = 2_000;

/// A vendor of the demonstration.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct DemoVendor {
    pub id: u32,
    pub name: String,
    /// It pays cash.
    pub wallet: bool,
    pub per_second: u32,
    pub secret: String,
}

/// Reads a campaign file as the platform will, to learn its vendors before there is a platform.
///
/// # Errors
/// When the file has mistakes; all of them.
pub(super) fn plan_of(source: &[u8], name: &Path, now_ms: u64) -> anyhow::Result<Plan> {
    let key = SeedKey { id: 0, key: [0; 32] };
    let options = CompileOptions { seq_no: SeqNo(1), base_ms: now_ms, seeds: &key, after: None };
    let compiled = compile(source, &options);
    Ok(compiled.map_err(|problems| anyhow::anyhow!("{}:\n{problems}", name.display()))?.plan)
}

/// The vendors of a plan, each with a new secret.
///
/// # Errors
/// When the system gives no random numbers.
pub(super) fn vendors_of(plan: &Plan) -> anyhow::Result<Vec<DemoVendor>> {
    let pays_cash = |id: VendorId| {
        let prizes = plan.rounds.iter().flat_map(|round| &round.prizes);
        prizes.into_iter().any(|prize| prize.vendor == id && prize.kind == PrizeKind::Cash)
    };
    let vendor = |vendor: &campaign::Vendor| {
        let mut key = [0u8; 32];
        getrandom::fill(&mut key).map_err(|e| anyhow::anyhow!("the system gives no random numbers: {e}"))?;
        let wallet = pays_cash(vendor.id);
        let per_second = match (wallet, vendor.release_per_second) {
            (true, _) => WALLET_PER_SECOND,
            (false, 0) => OTHERS_PER_SECOND,
            (false, declared) => u32::try_from(declared).unwrap_or(LIMIT_MAX).min(LIMIT_MAX),
        };
        let secret = format!("whsec_{}", STANDARD.encode(key));
        Ok(DemoVendor { id: vendor.id.0, name: vendor.name.clone(), wallet, per_second, secret })
    };
    plan.vendors.iter().map(vendor).collect()
}

/// The vendor that has the worst day: it takes less than it declares, and is away for a while.
pub(super) fn strict_vendor(vendors: &[DemoVendor]) -> Option<&DemoVendor> {
    let mut slow = vendors.iter().filter(|vendor| !vendor.wallet);
    slow.nth(1)
}

/// What goes wrong at every vendor: chances in parts of a million, times in ms. All of it is the protocol's daily life;
/// nothing of it may lose or double a prize.
const FAULTS: [(&str, i64); 17] = [
    ("timeout_before_ppm", 1_000),
    ("timeout_after_ppm", 3_000),
    ("hang_ms", 3_000),
    ("accept_delay_ms_max", 400),
    ("settling_ms", 500),
    ("error_before_ppm", 2_000),
    ("error_after_ppm", 2_000),
    ("query_timeout_ppm", 5_000),
    ("query_error_ppm", 5_000),
    ("late_ppm", 20_000),
    ("late_ms_min", 300),
    ("late_ms_max", 3_000),
    ("fail_ppm", 1_000),
    ("unfamiliar_ppm", 1_000),
    ("callback_duplicate_ppm", 200_000),
    ("callback_lost_ppm", 50_000),
    // On the first statements; the final ones have every row, and that is what is reconciled.
    ("row_missing_ppm", 5_000),
];

/// The vendor simulator's configuration.
pub(super) fn vendor_sim_toml(vendors: &[DemoVendor], seed: u64) -> anyhow::Result<String> {
    let mut tables = Vec::with_capacity(vendors.len());
    let strict = strict_vendor(vendors).map(|vendor| vendor.id);
    for vendor in vendors {
        let mut table = Table::new();
        table.insert("id".into(), i64::from(vendor.id).into());
        table.insert("name".into(), vendor.name.clone().into());
        table.insert("secret".into(), vendor.secret.clone().into());
        table.insert("limit_per_second".into(), i64::from(vendor.per_second).into());
        // It takes less than it declares, so that 429 is met while there is a backlog.
        let taken =
            if strict == Some(vendor.id) { (vendor.per_second * 6 / 10).max(1) } else { vendor.per_second };
        table.insert("capacity_per_second".into(), i64::from(taken).into());
        table.extend(FAULTS.map(|(key, value)| (key.to_owned(), Value::Integer(value))));
        tables.push(Value::Table(table));
    }
    let mut all = Table::new();
    all.insert("seed".into(), i64::try_from(seed & i64::MAX as u64)?.into());
    all.insert("vendor".into(), Value::Array(tables));
    Ok(toml::to_string(&all)?)
}

/// What of the platform's configuration is not as the default has it.
#[derive(Serialize)]
struct PlatformFile {
    access: Access,
    console: Console,
    flow: Flow,
    delivery: DeliveryConfig,
}

#[derive(Serialize)]
struct Access {
    tcp: &'static str,
    http: &'static str,
}

#[derive(Serialize)]
struct Console {
    http: &'static str,
}

#[derive(Serialize)]
struct Flow {
    repeat_interval_ms: u64,
    repeat_grace_ms: u64,
}

/// The platform's configuration, with short patience: a demonstration has minutes, not days.
pub(super) fn platform_toml(vendors: &[DemoVendor], vendor_port: u16) -> anyhow::Result<String> {
    let schedule = |delays_ms: &[u64]| RetrySchedule {
        delays_ms: delays_ms.to_vec(),
        spread_permille: 200,
        slow_down_min_ms: 200,
    };
    let vendor = |vendor: &DemoVendor| VendorConfig {
        id: vendor.id,
        name: vendor.name.clone(),
        base_url: format!("http://127.0.0.1:{vendor_port}"),
        secret: vendor.secret.clone(),
        merchant_account: "demo".to_owned(),
        capacity_per_second: vendor.per_second,
        concurrency: 64,
        timeout_ms: 800,
        settle_ms: 500,
        query_window_ms: 30 * 86_400_000,
        repeat_window_ms: 30 * 86_400_000,
        retry: schedule(&[300, 600, 1_200, 2_000]),
        ask: schedule(&[300, 600, 1_200, 2_000]),
        held_recheck_ms: 2_000,
        generation_max: 5,
        account: AccountMode::UserId,
        kind: if vendor.wallet { PathKind::Fast } else { PathKind::Slow },
        breaker_failures: 50,
        breaker_open_ms: 500,
    };
    let file = PlatformFile {
        access: Access { tcp: "127.0.0.1:0", http: "127.0.0.1:0" },
        console: Console { http: "127.0.0.1:0" },
        flow: Flow { repeat_interval_ms: 5_000, repeat_grace_ms: 3_000 },
        delivery: DeliveryConfig {
            lapse_grace_ms: 1_000,
            vendors: vendors.iter().map(vendor).collect(),
            ..DeliveryConfig::default()
        },
    };
    Ok(toml::to_string(&file)?)
}

/// Writes a file that only its owner may read.
///
/// # Errors
/// When it is there already or can't be written.
pub(super) fn write_secret(path: &Path, text: &str) -> anyhow::Result<()> {
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    file.and_then(|mut file| file.write_all(text.as_bytes()))
        .with_context(|| format!("writing {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::{FAULTS, plan_of, platform_toml, vendor_sim_toml, vendors_of, write_secret};
    use crate::demo::CAMPAIGN;
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::Path;

    const SIM_DEFAULT: &str = include_str!("../../../../tools/vendor-sim/src/default.toml");

    #[test]
    fn the_example_campaign_has_five_vendors_of_unequal_capacity() {
        let plan = plan_of(CAMPAIGN.as_bytes(), Path::new("c.yaml"), 1_767_196_800_000).unwrap();
        let vendors = vendors_of(&plan).unwrap();
        let seen: Vec<_> = vendors.iter().map(|v| (v.id, v.wallet, v.per_second)).collect();
        assert_eq!(
            seen,
            [(1, true, 40_000), (11, false, 1_000), (12, false, 500), (13, false, 200), (21, false, 500)]
        );
        assert_ne!(vendors[0].secret, vendors[1].secret);
        let error = plan_of(b"campaign: x\n", Path::new("c.yaml"), 1).unwrap_err().to_string();
        assert!(error.starts_with("c.yaml"), "{error}");
    }

    #[test]
    fn the_platform_takes_its_configuration() {
        let plan = plan_of(CAMPAIGN.as_bytes(), Path::new("c.yaml"), 1_767_196_800_000).unwrap();
        let vendors = vendors_of(&plan).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("platform.toml");
        write_secret(&path, &platform_toml(&vendors, 7_900).unwrap()).unwrap();
        assert!(write_secret(&path, "again").is_err(), "nothing is overwritten");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let config = crate::config::load(Some(&path), &[]).unwrap();
        assert_eq!(config.delivery.vendors.len(), 5);
        assert_eq!(config.delivery.vendors[1].base_url, "http://127.0.0.1:7900");
        for vendor in &config.delivery.vendors {
            delivery::vendor::sign::Secret::parse(&vendor.secret).unwrap();
        }
    }

    #[test]
    fn the_simulator_knows_every_key() {
        let known: toml::Table = SIM_DEFAULT.parse().unwrap();
        let plan = plan_of(CAMPAIGN.as_bytes(), Path::new("c.yaml"), 1_767_196_800_000).unwrap();
        let text = vendor_sim_toml(&vendors_of(&plan).unwrap(), u64::MAX).unwrap();
        let made: toml::Table = text.parse().unwrap();
        let defaults = known["vendor_defaults"].as_table().unwrap();
        for vendor in made["vendor"].as_array().unwrap() {
            for key in vendor.as_table().unwrap().keys().filter(|key| *key != "id") {
                assert!(defaults.contains_key(key), "{key}");
            }
        }
        assert!(known.contains_key("seed"));
        let sum =
            |keys: &[&str]| FAULTS.iter().filter(|(k, _)| keys.contains(k)).map(|(_, v)| v).sum::<i64>();
        assert!(
            sum(&["timeout_before_ppm", "timeout_after_ppm", "error_before_ppm", "error_after_ppm"])
                < 1_000_000
        );
    }
}
