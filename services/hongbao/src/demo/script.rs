//! What happens, in order: vendors, platform, players; a crash in the middle of a round; the end of the rounds; the end
//! of deliveries; the settlement.

use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use campaign::Plan;
use reconcile::Settlement;
use runtime::{Clock as _, SystemClock, exit};
use serde::Deserialize;

use super::around::{self, Crowd, ENOUGH_PLAYERS, PLAYERS_GRACE_MS, Vendors};
use super::children::Child;
use super::setup;
use super::view::Screen;
use super::watch::{self, Seen};
use super::{CAMPAIGN, DemoArgs, report, told};
use crate::call::Http;
use crate::keys::Keys;
use crate::reconcile_cmd::{self, Job, Sources};

/// How long a process may take to get ready.
const START: Duration = Duration::from_secs(20);
/// How long a process may take to stop when it is asked to.
const STOP: Duration = Duration::from_secs(15);
/// How often the processes are looked after.
pub(super) const TICK: Duration = Duration::from_millis(50);
/// How long the platform stays dead.
const DEAD_MS: u64 = 1_000;
/// How long delivery may take behind the last round, ms.
const DRAIN_MS: u64 = 45_000;

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
    vendors: Vendors,
    ports: Ports,
    admin_token: String,
    platform: Child,
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
        script.vendors.arrange(&script.http, &script.ports.http, &script.plan).await?;
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

        let vendors = Vendors::start(folder, vendors, args.seed, START).await?;
        let (count, port) = (vendors.list.len(), vendors.port);
        screen.say(&format!("{count} vendors on port {port}, each with faults of its own"));

        setup::write_secret(&folder.join("platform.toml"), &setup::platform_toml(&vendors.list, port)?)?;
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

        let crowd = Crowd { frames: &ports.tcp, http: &ports.http, players: args.players, seed: args.seed };
        let players = crowd.start(folder, &data, &plan)?;
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
            players,
            crash,
            everything_goes,
            begun_ms,
            seen,
            looked_ms,
        })
    }

    /// One look after everything: processes, crash, picture.
    async fn tick(&mut self) -> anyhow::Result<()> {
        self.vendors.sim.must_run()?;
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
        let config = crate::config::load(Some(&self.folder.join("platform.toml")), &[])?;
        let statements = around::statements(&config, &plans, now_ms, &work).await?;
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
        let stats = self.vendors.stats(&self.http).await?;
        let seen = report::Seen {
            told: told::compare(&told_csv, &sources.awards).await?,
            contradictions: around::contradictions(&around::players_report(self.folder)?)?,
            double_payments: stats.sum("double_payments"),
            everything_goes: self.everything_goes,
        };
        let settlement = report::with_seen(settlement, &seen);

        self.screen.say("");
        around::say_tails(self.screen, &self.plan, &tails);
        self.screen.say(&seen.told.text());
        self.screen.say(&stats.text());
        Ok(settlement)
    }
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
