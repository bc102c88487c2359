//! What happens, in order: vendors, platform, players; a crash in the middle of a round; the end of the rounds; the end
//! of deliveries; the settlement.

use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use campaign::{Plan, VendorId};
use reconcile::{Settlement, StatementFile};
use runtime::{Clock as _, SystemClock, exit};
use serde::Deserialize;
use serde_json::{Value, json};

use super::children::Child;
use super::setup::{self, DemoVendor};
use super::view::Screen;
use super::watch::{self, Seen};
use super::{CAMPAIGN, DemoArgs, report, told};
use crate::call::Http;
use crate::keys::Keys;
use crate::reconcile_cmd::{self, Job, RoundTail, Sources, Span};

/// How long a process may take to get ready.
const START: Duration = Duration::from_secs(20);
/// How long a process may take to stop when it is asked to.
const STOP: Duration = Duration::from_secs(15);
/// How often the processes are looked after.
const TICK: Duration = Duration::from_millis(50);
/// How long the platform stays dead.
const DEAD_MS: u64 = 1_000;
/// How long players may take to hear what is still open behind the last round, ms.
const PLAYERS_GRACE_MS: u64 = 15_000;
/// How long delivery may take behind the last round, ms.
const DRAIN_MS: u64 = 45_000;
/// So many players win everything that the example campaign has.
const ENOUGH_PLAYERS: u32 = 20_000;
/// Outage of a vendor, counted from the opening of the first round, ms.
const OUTAGE_MS: (u64, u64) = (4_000, 7_000);

/// What the platform writes when it serves.
#[derive(Clone, Debug, Deserialize)]
struct Ports {
    tcp: String,
    http: String,
}

/// The crash.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Crash {
    At(u64),
    Dead { since_ms: u64 },
    Over,
}

/// The demonstration while it runs.
pub(super) struct Script<'a> {
    folder: &'a Path,
    screen: &'a mut Screen,
    http: Http,
    plan: Plan,
    vendors: Vec<DemoVendor>,
    ports: Ports,
    admin_token: String,
    platform: Child,
    vendor_sim: Child,
    vendor_port: u16,
    players: Child,
    crash: Crash,
    /// The example campaign with its players, of whom enough come to every round.
    everything_goes: bool,
    begun_ms: u64,
    seen: Seen,
    looked_ms: u64,
}

impl<'a> Script<'a> {
    /// Plays it to the settlement.
    ///
    /// # Errors
    /// When a process can't be started, ends by itself or does not get ready, or the books can't be read.
    pub async fn play(
        args: &'a DemoArgs,
        folder: &'a Path,
        screen: &'a mut Screen,
    ) -> anyhow::Result<Settlement> {
        let mut script = Script::begin(args, folder, screen).await?;
        script.break_a_vendor().await?;
        script.rounds().await?;
        script.drain().await?;
        script.settle().await
    }

    async fn begin(
        args: &'a DemoArgs,
        folder: &'a Path,
        screen: &'a mut Screen,
    ) -> anyhow::Result<Script<'a>> {
        let begun_ms = SystemClock.now_ms();
        let campaign = folder.join("campaign.yaml");
        let source = match &args.campaign {
            Some(path) => std::fs::read(path).with_context(|| format!("reading {}", path.display()))?,
            None => CAMPAIGN.as_bytes().to_vec(),
        };
        let name = args.campaign.as_deref().unwrap_or(Path::new("new-years-eve.yaml"));
        let vendors = setup::vendors_of(&setup::plan_of(&source, name, begun_ms)?)?;
        std::fs::write(&campaign, &source).with_context(|| format!("writing {}", campaign.display()))?;

        setup::write_secret(&folder.join("vendors.toml"), &setup::vendor_sim_toml(&vendors, args.seed)?)?;
        let mut vendor_sim =
            Child::start("vendor-sim", vendor_sim_command(folder)?, &folder.join("vendor-sim.log"))?;
        let vendor_port: u16 = vendor_sim.ready(&folder.join("vendor-sim.port"), START).await?;
        screen.say(&format!("{} vendors on port {vendor_port}, each with faults of its own", vendors.len()));

        setup::write_secret(&folder.join("platform.toml"), &setup::platform_toml(&vendors, vendor_port)?)?;
        let log = folder.join("platform.log");
        let mut platform = Child::start("hongbao up", platform_command(folder, None)?, &log)?;
        let ports: Ports = platform.ready(&folder.join("platform.port"), START).await?;
        screen.say(&format!("platform serves frames on {}, HTTP on {}", ports.tcp, ports.http));
        let data = data_of(folder);
        let admin_token = Keys::open(&data)?.admin_token;
        let now_ms = SystemClock.now_ms();
        let plan = Sources::embedded(&data).plans(now_ms).await?.into_iter().next_back();
        let plan = plan.context("the platform has published no plan")?;
        ensure!(!plan.rounds.is_empty(), "campaign {} has no rounds", plan.campaign);

        let players = start_players(args, folder, &plan, &ports)?;
        screen.say(&format!("{} players come, {} rounds", args.players, plan.rounds.len()));
        let crash = Crash::At(crash_ms(&plan));
        let everything_goes = args.campaign.is_none() && args.players >= ENOUGH_PLAYERS;
        let http = Http::new();
        let (seen, looked_ms) = (Seen::default(), 0);
        Ok(Script {
            folder,
            screen,
            http,
            plan,
            vendors,
            ports,
            admin_token,
            platform,
            vendor_sim,
            vendor_port,
            players,
            crash,
            everything_goes,
            begun_ms,
            seen,
            looked_ms,
        })
    }

    fn vendor_url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.vendor_port)
    }

    /// Tells the vendors where callbacks go, and one of them when to be away.
    async fn break_a_vendor(&mut self) -> anyhow::Result<()> {
        let callback_url = format!("http://{}/callbacks/vendor", self.ports.http);
        let health = self.http.call(&self.vendor_url("/health"), None, None).await?;
        let up_ms = health["uptime_ms"].as_u64().context("vendor-sim does not say how long it is up")?;
        let zero_ms = SystemClock.now_ms().saturating_sub(up_ms);
        let open_ms = self.plan.rounds[0].open_ms.saturating_sub(zero_ms);
        let away = setup::strict_vendor(&self.vendors).map(|vendor| vendor.id);
        for vendor in &self.vendors {
            let mut change = json!({ "callback_url": callback_url });
            if away == Some(vendor.id) {
                let (from_ms, to_ms) = (open_ms + OUTAGE_MS.0, open_ms + OUTAGE_MS.1);
                change["outages"] = json!([{ "from_ms": from_ms, "to_ms": to_ms, "mode": "refuse" }]);
            }
            let url = self.vendor_url(&format!("/admin/vendors/{}/faults", vendor.id));
            self.http.call(&url, None, Some(&change)).await?;
        }
        Ok(())
    }

    /// One look after everything: processes, crash, picture.
    async fn tick(&mut self) -> anyhow::Result<()> {
        self.vendor_sim.must_run()?;
        let now_ms = SystemClock.now_ms();
        match self.crash {
            Crash::At(at_ms) if now_ms >= at_ms => {
                self.platform.must_run()?;
                self.platform.kill();
                self.crash = Crash::Dead { since_ms: now_ms };
                self.screen.say("platform killed (SIGKILL)");
            }
            Crash::Dead { since_ms } if now_ms >= since_ms + DEAD_MS => self.restart(since_ms).await?,
            Crash::Dead { .. } => {}
            Crash::At(_) | Crash::Over => self.platform.must_run()?,
        }
        if now_ms >= self.looked_ms + 1_000 {
            self.look(now_ms).await;
        }
        tokio::time::sleep(TICK).await;
        Ok(())
    }

    async fn restart(&mut self, since_ms: u64) -> anyhow::Result<()> {
        let file = self.folder.join("platform.port");
        std::fs::remove_file(&file).with_context(|| format!("removing {}", file.display()))?;
        let command = platform_command(self.folder, Some(&self.ports))?;
        let begun_ms = SystemClock.now_ms();
        self.platform = Child::start("hongbao up", command, &self.folder.join("platform.log"))?;
        let _: Ports = self.platform.ready(&file, START).await?;
        let now_ms = SystemClock.now_ms();
        self.crash = Crash::Over;
        self.screen.say(&format!(
            "platform is back: {} ms after the kill, {} ms after it was started again",
            now_ms - since_ms,
            now_ms - begun_ms
        ));
        Ok(())
    }

    /// Asks the platform how it is and shows it.
    async fn look(&mut self, now_ms: u64) {
        let url = format!("http://{}/admin/status", self.ports.http);
        let asked = match self.crash {
            Crash::Dead { .. } => None,
            _ => self.http.call(&url, Some(&self.admin_token), None).await.ok(),
        };
        let before = self.seen.draws;
        let mut users = 0;
        if let Some(status) = &asked {
            self.seen = Seen::of(status);
            users = status["node"]["users"].as_u64().unwrap_or(0);
        }
        // After a restart the count begins again.
        let drawn = self.seen.draws.checked_sub(before).unwrap_or(self.seen.draws);
        let passed_ms = now_ms.saturating_sub(self.looked_ms).max(1);
        let mut picture = watch::picture(&self.plan, &self.seen, now_ms);
        picture.second = (now_ms - self.begun_ms) / 1_000;
        picture.up = asked.is_some();
        picture.players = users;
        picture.draws_per_second = if asked.is_some() { drawn * 1_000 / passed_ms } else { 0 };
        self.screen.show(&picture);
        self.looked_ms = now_ms;
    }

    /// Until every round is over and the players have heard all that they asked.
    async fn rounds(&mut self) -> anyhow::Result<()> {
        let close_ms = self.plan.rounds.iter().map(|round| round.close_ms).max().unwrap_or(0);
        loop {
            self.tick().await?;
            let now_ms = SystemClock.now_ms();
            if let Some(status) = self.players.ended()? {
                // Contradictions are the settlement's business.
                let counted = status.success() || status.code() == Some(i32::from(exit::CHECK_FAILED));
                ensure!(counted, "the players ended with {status}. They said last:\n{}", self.players.tail());
                ensure!(
                    now_ms >= close_ms,
                    "the players left before the last round was over:\n{}",
                    self.players.tail()
                );
                ensure!(self.crash == Crash::Over, "the players left before the crash");
                return Ok(());
            }
            let late_ms = close_ms + PLAYERS_GRACE_MS + 10_000;
            ensure!(now_ms < late_ms, "the players do not end. They said last:\n{}", self.players.tail());
        }
    }

    /// Until all is delivered, lapsed or with a person, or the time is up.
    async fn drain(&mut self) -> anyhow::Result<()> {
        let close_ms = self.plan.rounds.iter().map(|round| round.close_ms).max().unwrap_or(0);
        loop {
            self.tick().await?;
            let now_ms = SystemClock.now_ms();
            let after_s = now_ms.saturating_sub(close_ms) / 1_000;
            if self.seen.awarded > 0 && self.seen.is_drained() {
                self.screen.say(&format!("delivery is done {after_s} s after the last round"));
                return Ok(());
            }
            if now_ms >= close_ms + DRAIN_MS {
                self.screen
                    .say(&format!("delivery is not done after {after_s} s: {}", self.seen.still_open()));
                return Ok(());
            }
        }
    }

    /// Stops the platform, fetches the final statements, settles.
    async fn settle(&mut self) -> anyhow::Result<Settlement> {
        if self.platform.stop(STOP).await?.is_none_or(|status| !status.success()) {
            bail!("the platform did not stop in order. It said last:\n{}", self.platform.tail());
        }
        let (data, work) = (data_of(self.folder), self.folder.join("reconcile"));
        std::fs::create_dir_all(&work).with_context(|| format!("making {}", work.display()))?;
        let now_ms = SystemClock.now_ms();
        let sources = Sources::embedded(&data);
        let plans = sources.plans(now_ms).await?;
        let statements = self.statements(&plans, now_ms, &work).await?;
        let told_csv = self.folder.join("told.csv");
        let tails = reconcile_cmd::round_tails(&self.folder.join("rounds.csv"), &sources).await?;
        let tails_csv = work.join("tails.csv");
        reconcile_cmd::write_tails(&tails, &tails_csv)?;

        let mut job = Job::new(&data, sources.clone(), now_ms, &work);
        job.statements = statements;
        job.told = Some(told_csv.clone());
        job.tails = Some(tails_csv);
        job.lists = Some(work.clone());
        // Everything has had its time: an award without an order now is one that was lost.
        job.terms.order_ms = 0;
        "the demonstration's operator".clone_into(&mut job.terms.responsible);
        let settlement = job.settle(plans).await?;
        let stats = self.http.call(&self.vendor_url("/stats"), None, None).await?;
        let seen = report::Seen {
            told: told::compare(&told_csv, &sources.awards).await?,
            contradictions: self.contradictions()?,
            double_payments: sum_of(&stats, "double_payments"),
            everything_goes: self.everything_goes,
        };
        let settlement = report::with_seen(settlement, &seen);

        self.screen.say("");
        for tail in &tails {
            self.screen.say(&tail.text());
        }
        self.missing_tails(&tails);
        self.screen.say(&seen.told.text());
        self.screen.say(&vendor_faults(&stats));
        Ok(settlement)
    }

    fn missing_tails(&mut self, tails: &[RoundTail]) {
        for round in self.plan.rounds.iter().filter(|round| tails.iter().all(|tail| tail.round != round.id)) {
            self.screen.say(&format!("round {}: no player had an entry", round.id));
        }
    }

    async fn statements(
        &self,
        plans: &[Plan],
        now_ms: u64,
        work: &Path,
    ) -> anyhow::Result<Vec<StatementFile>> {
        let config = crate::config::load(Some(&self.folder.join("platform.toml")), &[])?;
        let span = Span::of(plans, now_ms);
        let mut files = Vec::new();
        for vendor in &config.delivery.vendors {
            let path = work.join(format!("statement-{}.csv", vendor.id));
            // The final statement, as a vendor has it the day after: a fresh one may lack rows, which only age.
            let fetched = reconcile_cmd::fetch(vendor, span, true, &path, &SystemClock).await;
            fetched.with_context(|| format!("fetching the statement of vendor {}", vendor.id))?;
            files.push(StatementFile { vendor: VendorId(vendor.id), path });
        }
        Ok(files)
    }

    /// Awards that the players were told twice, differently, by their own report.
    fn contradictions(&self) -> anyhow::Result<u64> {
        let path = self.folder.join("players.json");
        let text = std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        let report: Value = serde_json::from_str(&text).with_context(|| format!("in {}", path.display()))?;
        report["contradictions"]
            .as_u64()
            .with_context(|| format!("{} does not count contradictions", path.display()))
    }
}

/// A count of the vendors' statistics, over all vendors.
fn sum_of(stats: &Value, key: &str) -> u64 {
    let vendors = stats["vendors"].as_array().into_iter().flatten();
    vendors.map(|vendor| vendor[key].as_u64().unwrap_or(0)).sum()
}

/// What the vendors did to us.
fn vendor_faults(stats: &Value) -> String {
    let count = |key: &str, what: &str| format!("{} {what}", sum_of(stats, key));
    [
        format!("vendors: {} payouts taken", sum_of(stats, "accepted")),
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

/// The platform's data directory.
fn data_of(folder: &Path) -> PathBuf {
    folder.join("platform")
}

/// The middle of the second round, or of the only one.
fn crash_ms(plan: &Plan) -> u64 {
    let mut rounds: Vec<_> = plan.rounds.iter().collect();
    rounds.sort_by_key(|round| round.open_ms);
    let round = rounds.get(1).or(rounds.first());
    round.map_or(0, |round| round.open_ms + (round.close_ms - round.open_ms) / 2)
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

fn vendor_sim_command(folder: &Path) -> anyhow::Result<Command> {
    let mut command = Command::new(sibling("vendor-sim")?);
    command.args(["run", "--listen", "127.0.0.1:0", "--config"]).arg(folder.join("vendors.toml"));
    command
        .arg("--state-dir")
        .arg(folder.join("vendors"))
        .arg("--port-file")
        .arg(folder.join("vendor-sim.port"));
    Ok(command)
}

/// The platform; with `ports` on those, else on free ones.
fn platform_command(folder: &Path, ports: Option<&Ports>) -> anyhow::Result<Command> {
    // This very program, also when its file was built anew or removed meanwhile.
    let mut command = Command::new("/proc/self/exe");
    command
        .arg0("hongbao")
        .arg("up")
        .arg("--data")
        .arg(data_of(folder))
        .arg("--config")
        .arg(folder.join("platform.toml"));
    command
        .arg("--campaign")
        .arg(folder.join("campaign.yaml"))
        .arg("--port-file")
        .arg(folder.join("platform.port"));
    if let Some(ports) = ports {
        command.arg("--set").arg(format!("access.tcp={}", ports.tcp));
        command.arg("--set").arg(format!("access.http={}", ports.http));
    }
    Ok(command)
}

fn start_players(args: &DemoArgs, folder: &Path, plan: &Plan, ports: &Ports) -> anyhow::Result<Child> {
    let keys = Keys::open(&data_of(folder))?;
    let key_file = folder.join("token.key");
    setup::write_secret(&key_file, &format!("{}\n", keys.token_key))?;
    let mut command = Command::new(sibling("loadgen")?);
    command.args(["players", "--json", "--frames", &ports.tcp, "--http", &ports.http]);
    command.arg("--user-key").arg(key_file);
    command.args(["--players", &args.players.to_string(), "--seed", &args.seed.to_string()]);
    command.args(["--campaign", &plan.campaign.to_string(), "--grace-ms", &PLAYERS_GRACE_MS.to_string()]);
    // A gateway's connections for most, connections of their own and HTTP for some.
    command.args(["--own-share", "2%", "--http-share", "3%"]);
    // They come back after a crash within a demonstration's time, and hear again what they did not hear.
    command.args(["--reconnect-scale", "10%", "--answer-ms", "2000", "--look", "5%"]);
    command.arg("--told").arg(folder.join("told.csv")).arg("--rounds").arg(folder.join("rounds.csv"));
    command.arg("--report").arg(folder.join("players.json"));
    Child::start("loadgen", command, &folder.join("players.log"))
}

#[cfg(test)]
mod tests {
    use super::{CAMPAIGN, crash_ms, setup};
    use std::path::Path;

    #[test]
    fn the_crash_comes_in_the_middle_of_the_second_round() {
        let base = 1_767_196_800_000;
        let mut plan = setup::plan_of(CAMPAIGN.as_bytes(), Path::new("c.yaml"), base).unwrap();
        assert_eq!(crash_ms(&plan), base + 25_000 + 7_000);
        plan.rounds.truncate(1);
        assert_eq!(crash_ms(&plan), base + 6_000 + 7_000);
    }
}
