//! What stands around the platform in both demonstrations: vendors that misbehave, and the crowd of players.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use campaign::{Plan, VendorId};
use reconcile::StatementFile;
use runtime::{Clock as _, SystemClock};
use serde_json::{Value, json};

use super::children::Child;
use super::setup::{self, DemoVendor};
use super::view::Screen;
use crate::call::Http;
use crate::config::Config;
use crate::keys::Keys;
use crate::reconcile_cmd::{self, RoundTail, Span};

/// How long players may take to hear what is still open behind the last round, ms.
pub(super) const PLAYERS_GRACE_MS: u64 = 15_000;
/// So many players win everything that the example campaign has.
pub(super) const ENOUGH_PLAYERS: u32 = 20_000;
/// Outage of a vendor, counted from the opening of the first round, ms.
const OUTAGE_MS: (u64, u64) = (4_000, 7_000);

/// The vendor simulator with its vendors.
pub(super) struct Vendors {
    /// Who they are.
    pub list: Vec<DemoVendor>,
    /// Their process.
    pub sim: Child,
    /// Where it listens.
    pub port: u16,
}

impl Vendors {
    /// Starts the simulator.
    ///
    /// # Errors
    /// When it is missing or does not get ready.
    pub async fn start(
        folder: &Path,
        list: Vec<DemoVendor>,
        seed: u64,
        patience: Duration,
    ) -> anyhow::Result<Vendors> {
        setup::write_secret(&folder.join("vendors.toml"), &setup::vendor_sim_toml(&list, seed)?)?;
        let mut command = Command::new(sibling("vendor-sim")?);
        command.args(["run", "--listen", "127.0.0.1:0", "--config"]).arg(folder.join("vendors.toml"));
        command.arg("--state-dir").arg(folder.join("vendors"));
        command.arg("--port-file").arg(folder.join("vendor-sim.port"));
        let mut sim = Child::start("vendor-sim", command, &folder.join("vendor-sim.log"))?;
        let port = sim.ready(&folder.join("vendor-sim.port"), patience).await?;
        Ok(Vendors { list, sim, port })
    }

    fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    /// Tells the vendors where callbacks go (host and port), and one of them when to be away.
    ///
    /// # Errors
    /// When the simulator does not answer.
    pub async fn arrange(&self, http: &Http, callbacks: &str, plan: &Plan) -> anyhow::Result<()> {
        let callback_url = format!("http://{callbacks}/callbacks/vendor");
        let health = http.call(&self.url("/health"), None, None).await?;
        let up_ms = health["uptime_ms"].as_u64().context("vendor-sim does not say how long it is up")?;
        let zero_ms = SystemClock.now_ms().saturating_sub(up_ms);
        let open_ms = plan.rounds.first().map_or(0, |round| round.open_ms.saturating_sub(zero_ms));
        let away = setup::strict_vendor(&self.list).map(|vendor| vendor.id);
        for vendor in &self.list {
            let mut change = json!({ "callback_url": callback_url });
            if away == Some(vendor.id) {
                let (from_ms, to_ms) = (open_ms + OUTAGE_MS.0, open_ms + OUTAGE_MS.1);
                change["outages"] = json!([{ "from_ms": from_ms, "to_ms": to_ms, "mode": "refuse" }]);
            }
            let url = self.url(&format!("/admin/vendors/{}/faults", vendor.id));
            http.call(&url, None, Some(&change)).await?;
        }
        Ok(())
    }

    /// What the vendors have counted.
    ///
    /// # Errors
    /// When the simulator does not answer.
    pub async fn stats(&self, http: &Http) -> anyhow::Result<VendorStats> {
        Ok(VendorStats(http.call(&self.url("/stats"), None, None).await?))
    }
}

/// The vendors' counts.
pub(super) struct VendorStats(Value);

impl VendorStats {
    /// A count over all vendors.
    pub fn sum(&self, key: &str) -> u64 {
        let vendors = self.0["vendors"].as_array().into_iter().flatten();
        vendors.map(|vendor| vendor[key].as_u64().unwrap_or(0)).sum()
    }

    /// What the vendors did to us, for people.
    pub fn text(&self) -> String {
        let count = |key: &str, what: &str| format!("{} {what}", self.sum(key));
        [
            format!("vendors: {} payouts taken", self.sum("accepted")),
            count("double_payments", "paid twice"),
            count("timeouts_after", "time-outs after taking"),
            count("timeouts_before", "before"),
            count("errors_after", "errors 500 after taking"),
            count("errors_before", "before"),
            count("over_capacity", "over capacity (429)"),
            count("outage_hits", "in an outage"),
            count("queries", "questions answered"),
        ]
        .join(", ")
    }
}

/// The vendors' final statements, as they have them the day after: a fresh one may lack rows, which only age.
///
/// # Errors
/// When a vendor refuses or does not answer.
pub(super) async fn statements(
    config: &Config,
    plans: &[Plan],
    now_ms: u64,
    work: &Path,
) -> anyhow::Result<Vec<StatementFile>> {
    let span = Span::of(plans, now_ms);
    let mut files = Vec::new();
    for vendor in &config.delivery.vendors {
        let path = work.join(format!("statement-{}.csv", vendor.id));
        let fetched = reconcile_cmd::fetch(vendor, span, true, &path, &SystemClock).await;
        fetched.with_context(|| format!("fetching the statement of vendor {}", vendor.id))?;
        files.push(StatementFile { vendor: VendorId(vendor.id), path });
    }
    Ok(files)
}

/// Who plays, and where.
pub(super) struct Crowd<'a> {
    /// Addresses of frames, with commas.
    pub frames: &'a str,
    /// Addresses of HTTP, with commas.
    pub http: &'a str,
    /// How many players.
    pub players: u32,
    /// Seed of their chances.
    pub seed: u64,
}

impl Crowd<'_> {
    /// Starts the load generator, which writes into `folder`, for a campaign. `keys`: the folder of the platform's keys.
    ///
    /// # Errors
    /// When it is missing, or there are no keys.
    pub fn start(&self, folder: &Path, keys: &Path, plan: &Plan) -> anyhow::Result<Child> {
        let key_file = folder.join("token.key");
        setup::write_secret(&key_file, &format!("{}\n", Keys::open(keys)?.token_key))?;
        let mut command = Command::new(sibling("loadgen")?);
        command.args(["players", "--json", "--frames", self.frames, "--http", self.http]);
        command.arg("--user-key").arg(key_file);
        command.args(["--players", &self.players.to_string(), "--seed", &self.seed.to_string()]);
        command.args(["--campaign", &plan.campaign.to_string(), "--grace-ms", &PLAYERS_GRACE_MS.to_string()]);
        // A gateway's connections for most, connections of their own and HTTP for some.
        command.args(["--own-share", "2%", "--http-share", "3%"]);
        // Over HTTP one request at a time is under way on a connection; players who queued for one would wait for each other.
        command.args(["--http-connections", &(self.players * 3 / 100).clamp(16, HTTP_MAX).to_string()]);
        // They come back after a crash within a demonstration's time, and hear again what they did not hear.
        command.args(["--reconnect-scale", "10%", "--answer-ms", "2000", "--look", "5%"]);
        command.arg("--told").arg(folder.join("told.csv")).arg("--rounds").arg(folder.join("rounds.csv"));
        command.arg("--report").arg(folder.join("players.json"));
        Child::start("loadgen", command, &folder.join("players.log"))
    }
}

/// Connections of players over HTTP, at most.
const HTTP_MAX: u32 = 1_000;

/// The players' own report.
///
/// # Errors
/// When it is missing or is none.
pub(super) fn players_report(folder: &Path) -> anyhow::Result<Value> {
    let path = folder.join("players.json");
    let text = std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    serde_json::from_str(&text).with_context(|| format!("in {}", path.display()))
}

/// Awards that the players were told twice, differently, by their own report.
///
/// # Errors
/// When it does not count them.
pub(super) fn contradictions(report: &Value) -> anyhow::Result<u64> {
    report["contradictions"].as_u64().context("players.json does not count contradictions")
}

/// Says how each round ended.
pub(super) fn say_tails(screen: &mut Screen, plan: &Plan, tails: &[RoundTail]) {
    for tail in tails {
        screen.say(&tail.text());
    }
    for round in plan.rounds.iter().filter(|round| tails.iter().all(|tail| tail.round != round.id)) {
        screen.say(&format!("round {}: no player had an entry", round.id));
    }
}

/// A program that was built together with this one.
fn sibling(name: &str) -> anyhow::Result<PathBuf> {
    let ours = std::env::current_exe().context("finding this program's own file")?;
    let path = ours.with_file_name(name);
    ensure!(
        path.is_file(),
        "{} is missing; build it with `cargo build --release -p hongbao -p vendor-sim -p loadgen`",
        path.display()
    );
    Ok(path)
}
