//! What happens, in order: vendors, platform, players; the events; the end of deliveries; the settlement.

use std::collections::VecDeque;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use campaign::Plan;
use reconcile::Settlement;
use reconcile::readers::copies::OneCopy;
use runtime::{Clock as _, SystemClock, exit};
use serde_json::Value;
use toml::Table;

use super::DemoClusterArgs;
use super::chain::Chain;
use super::events::{Event, events};
use super::fleet::Fleet;
use super::servers::Servers;
use crate::call::Http;
use crate::demo::around::{self, Crowd, ENOUGH_PLAYERS, PLAYERS_GRACE_MS, Vendors};
use crate::demo::children::Child;
use crate::demo::script::TICK;
use crate::demo::setup::{self, DemoVendor};
use crate::demo::view::Screen;
use crate::demo::watch::{self, Seen};
use crate::demo::{CAMPAIGN, report, told};
use crate::keys::Keys;
use crate::reconcile_cmd::{self, ClusterSources, Job, Sources};

/// How long the vendor simulator may take to get ready.
const START: Duration = Duration::from_secs(20);
/// How long a process of the platform may take to end when it is asked to: a lottery node hands its users over in it.
const STOP: Duration = Duration::from_secs(25);
/// How long delivery may take behind the last round, ms: every commit waits for the standby.
const DRAIN_MS: u64 = 150_000;
/// Waits that ended later than so long after an event have another reason, ms.
const GAP_MS: u64 = 15_000;
/// A wait may have begun so long before its cause, ms: its draw was asked just then.
const BEFORE_MS: u64 = 200;

/// The demonstration while it runs.
pub(super) struct Script<'a> {
    args: &'a DemoClusterArgs,
    folder: &'a Path,
    screen: &'a mut Screen,
    http: Http,
    servers: Servers,
    plan: Plan,
    vendors: Vendors,
    admin_token: String,
    fleet: Fleet,
    players: Child,
    events: VecDeque<(u64, Event)>,
    happened: Vec<(u64, Event)>,
    one_copy: Vec<OneCopy>,
    begun_ms: u64,
    seen: Seen,
    looked_ms: u64,
    chain: Chain,
}

impl<'a> Script<'a> {
    /// Plays it to the settlement.
    ///
    /// # Errors
    /// When a process can't be started, ends by itself or does not get ready, or the books can't be read.
    pub async fn play(
        args: &'a DemoClusterArgs,
        folder: &'a Path,
        screen: &'a mut Screen,
    ) -> anyhow::Result<Settlement> {
        let mut script = Script::begin(args, folder, screen).await?;
        script.rounds().await?;
        script.drain().await?;
        script.settle().await
    }

    async fn begin(
        args: &'a DemoClusterArgs,
        folder: &'a Path,
        screen: &'a mut Screen,
    ) -> anyhow::Result<Script<'a>> {
        let begun_ms = SystemClock.now_ms();
        let servers = Servers::read(&args.servers, &args.services)?;
        let campaign = folder.join("campaign.yaml");
        std::fs::write(&campaign, CAMPAIGN).with_context(|| format!("writing {}", campaign.display()))?;
        let vendors =
            setup::vendors_of(&setup::plan_of(CAMPAIGN.as_bytes(), Path::new("campaign.yaml"), begun_ms)?)?;
        let vendors = Vendors::start(folder, vendors, args.seed, START).await?;
        screen.say(&format!("{} vendors, each with faults of its own", vendors.list.len()));
        let keys = Keys::open(folder)?;
        let text = cluster_toml(&vendors.list, vendors.port, folder, &servers)?;
        setup::write_secret(&folder.join("cluster.toml"), &text)?;

        let mut fleet = Fleet::default();
        for (role, nodes) in [
            ("flow", vec![11, 12]),
            ("delivery", vec![21, 22]),
            ("lottery", vec![1, 2, 3]),
            ("access", vec![31, 32]),
        ] {
            for node in nodes {
                fleet.start(folder, role, node, None).await?;
            }
        }
        // Last, so that the campaign begins when everybody is there.
        fleet.start(folder, "console", 41, Some(&campaign)).await?;
        screen.say("platform: 2 access, 3 lottery, 2 flow, 2 delivery, 1 console");
        let sources =
            ClusterSources { postgres: servers.postgres()?.to_owned(), archives: vec![folder.to_owned()] };
        let plans = Sources::cluster(&sources)?.plans(begun_ms).await?;
        let plan = plans.into_iter().next_back().context("the platform has published no plan")?;
        let players = start_players(args, folder, &plan, &fleet)?;
        screen.say(&format!("{} players come, {} rounds", args.players, plan.rounds.len()));
        let http = Http::new();
        let callbacks =
            fleet.of("delivery").find_map(|m| m.ports.health.clone()).context("no delivery node")?;
        vendors.arrange(&http, &callbacks, &plan).await?;
        let events = if args.calm { VecDeque::new() } else { events(&plan).into() };
        Ok(Script {
            args,
            folder,
            screen,
            http,
            servers,
            plan,
            vendors,
            admin_token: keys.admin_token,
            fleet,
            players,
            events,
            happened: Vec::new(),
            one_copy: Vec::new(),
            begun_ms,
            seen: Seen::default(),
            looked_ms: 0,
            chain: Chain::default(),
        })
    }

    /// One look after everything: processes, events, picture.
    async fn tick(&mut self) -> anyhow::Result<()> {
        self.vendors.sim.must_run()?;
        self.fleet.must_run()?;
        let now_ms = SystemClock.now_ms();
        if let Some((_, event)) = self.events.pop_front_if(|(at_ms, _)| *at_ms <= now_ms) {
            self.screen.say(event.text());
            self.happened.push((now_ms, event));
            self.chain.event(now_ms, event == Event::KillLottery);
            self.befall(event).await.with_context(|| event.text())?;
        }
        if !self.happened.is_empty()
            && let Some(nodes) = self.fleet.lottery(&self.http, &self.admin_token).await
        {
            for line in self.chain.seen(SystemClock.now_ms(), &nodes) {
                self.screen.say(&line);
            }
        }
        if now_ms >= self.looked_ms + 1_000 {
            self.look(now_ms).await;
        }
        tokio::time::sleep(TICK).await;
        Ok(())
    }

    async fn befall(&mut self, event: Event) -> anyhow::Result<()> {
        match event {
            Event::KillBroker => self.servers.kill("KAFKA_2"),
            Event::FlushCaches => {
                self.servers.flush().await?;
                self.servers.kill("REDIS_1")
            }
            Event::KillLottery => {
                let node = self.fleet.find("lottery", 2).context("lottery node 2")?;
                node.gone = true;
                node.child.kill();
                Ok(())
            }
            Event::AddLottery => self.fleet.start(self.folder, "lottery", 4, None).await,
            Event::DrainLottery => {
                let node = self.fleet.find("lottery", 3).context("lottery node 3")?;
                node.gone = true;
                node.child.ask()
            }
            Event::KillPrimary => {
                self.servers.kill("POSTGRES_PRIMARY")?;
                self.servers.promote().await?;
                // From here on PostgreSQL has one copy; the settlement says so.
                let from_ms = SystemClock.now_ms();
                self.one_copy.push(OneCopy { from_ms, to_ms: None, server: "PostgreSQL".to_owned() });
                Ok(())
            }
        }
    }

    /// Asks the platform how it is and shows it.
    async fn look(&mut self, now_ms: u64) {
        let before = self.seen.draws;
        let asked = self.fleet.status(&self.http, &self.admin_token).await;
        let mut users = 0;
        if let Some(status) = &asked {
            self.seen = Seen::of(status);
            users = status["node"]["users"].as_u64().unwrap_or(0);
        }
        let drawn = self.seen.draws.saturating_sub(before);
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
                ensure!(now_ms >= close_ms, "the players left early:\n{}", self.players.tail());
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
                let open = self.seen.still_open();
                self.screen.say(&format!("delivery is not done after {after_s} s: {open}"));
                return Ok(());
            }
        }
    }

    /// Stops the platform from the front, copies the lanes to an archive, fetches the final statements, settles.
    async fn settle(&mut self) -> anyhow::Result<Settlement> {
        for role in ["console", "access", "lottery", "delivery", "flow"] {
            for member in self.fleet.members.iter_mut().filter(|m| m.role == role) {
                if member.gone && member.node == 2 {
                    continue;
                }
                let (name, status) = (member.name(), member.child.stop(STOP).await?);
                let in_order = status.is_some_and(|status| status.success());
                ensure!(
                    in_order,
                    "{name} did not stop in order ({status:?}). It said last:\n{}",
                    member.child.tail()
                );
            }
        }
        let (work, archive) = (self.folder.join("reconcile"), self.folder.join("archive"));
        std::fs::create_dir_all(&work).with_context(|| format!("making {}", work.display()))?;
        self.archive(&archive).await?;
        let now_ms = SystemClock.now_ms();
        let postgres = self.servers.postgres()?.to_owned();
        let mut sources = Sources::cluster(&ClusterSources { postgres, archives: vec![archive] })?;
        sources.replicated = Some(true);
        let plans = sources.plans(now_ms).await?;
        let config = crate::config::load(Some(&self.folder.join("cluster.toml")), &[])?;
        let statements = around::statements(&config, &plans, now_ms, &work).await?;
        let tails = reconcile_cmd::round_tails(&self.folder.join("rounds.csv"), &sources).await?;
        let tails_csv = work.join("tails.csv");
        reconcile_cmd::write_tails(&tails, &tails_csv)?;
        let told_csv = self.folder.join("told.csv");
        let told = told::compare(&told_csv, &sources.awards).await?;

        let mut job = Job::new(self.folder, sources, now_ms, &work);
        job.statements = statements;
        job.told = Some(told_csv);
        job.tails = Some(tails_csv);
        job.one_copy.clone_from(&self.one_copy);
        job.lists = Some(work.clone());
        // Everything has had its time: an award without an order now is one that was lost.
        job.terms.order_ms = 0;
        "the demonstration's operator".clone_into(&mut job.terms.responsible);
        let settlement = job.settle(plans).await?;
        let stats = self.vendors.stats(&self.http).await?;
        let players = around::players_report(self.folder)?;
        let seen = report::Seen {
            told,
            contradictions: around::contradictions(&players)?,
            double_payments: stats.sum("double_payments"),
            everything_goes: self.args.players >= ENOUGH_PLAYERS,
        };
        let settlement = report::with_seen(settlement, &seen);
        self.screen.say("");
        around::say_tails(self.screen, &self.plan, &tails);
        self.gaps(&players);
        self.screen.say(&seen.told.text());
        self.screen.say(&stats.text());
        Ok(settlement)
    }

    /// Copies the lanes, byte for byte, to segment files that the settlement reads.
    async fn archive(&mut self, into: &Path) -> anyhow::Result<()> {
        let mut command = Command::new("/proc/self/exe");
        command.args(["admin", "archive", "--config"]).arg(self.folder.join("cluster.toml"));
        command.arg("--out").arg(into);
        let mut child = Child::start("hongbao admin archive", command, &self.folder.join("archive.log"))?;
        loop {
            if let Some(status) = child.ended()? {
                ensure!(status.success(), "the lanes could not be copied:\n{}", child.tail());
                return Ok(());
            }
            tokio::time::sleep(TICK).await;
        }
    }

    /// How long players had to wait for an answer, at most, when nodes came and went.
    fn gaps(&mut self, players: &Value) {
        let waits: Vec<(u64, u64)> = players["waits"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|wait| Some((wait["at_s"].as_u64()? * 1_000, wait["longest_ms"].as_u64()?)))
            .collect();
        // A wait is put down to what had happened last when it began, give or take the second in which it ended.
        let cause = |at_ms: u64, longest_ms: u64| {
            let began_ms = (at_ms + 1_000).saturating_sub(longest_ms);
            self.happened.iter().rposition(|(event_ms, _)| *event_ms <= began_ms + BEFORE_MS)
        };
        for (i, (event_ms, event)) in self.happened.iter().enumerate() {
            let near = waits.iter().filter(|(at_ms, _)| *at_ms < event_ms + GAP_MS);
            let own = near.filter(|(at_ms, longest_ms)| cause(*at_ms, *longest_ms) == Some(i));
            let longest_ms = own.map(|(_, longest_ms)| *longest_ms).max().unwrap_or(0);
            if let Some(what) = event.gap() {
                self.screen.say(&format!("longest wait for an answer {what}: {longest_ms} ms"));
            }
        }
    }
}

fn start_players(args: &DemoClusterArgs, folder: &Path, plan: &Plan, fleet: &Fleet) -> anyhow::Result<Child> {
    let addresses = |of: fn(&super::fleet::Ports) -> Option<String>| {
        fleet.of("access").filter_map(|member| of(&member.ports)).collect::<Vec<_>>().join(",")
    };
    let (frames, http) = (addresses(|ports| ports.tcp.clone()), addresses(|ports| ports.http.clone()));
    Crowd { frames: &frames, http: &http, players: args.players, seed: args.seed }.start(folder, folder, plan)
}

/// The platform's configuration: what the single demonstration has, and the cluster's servers.
fn cluster_toml(
    vendors: &[DemoVendor],
    vendor_port: u16,
    folder: &Path,
    servers: &Servers,
) -> anyhow::Result<String> {
    let mut all: Table = setup::platform_toml(vendors, vendor_port)?.parse()?;
    let mut cluster = Table::new();
    let texts = |list: Vec<String>| toml::Value::from(list);
    cluster.insert("name".into(), "demo".into());
    cluster.insert("calls".into(), "127.0.0.1:0".into());
    cluster.insert("http".into(), "127.0.0.1:0".into());
    cluster.insert("keys".into(), folder.display().to_string().into());
    cluster.insert("postgres".into(), servers.postgres()?.into());
    cluster.insert("postgres_connections".into(), 16.into());
    cluster.insert("lanes".into(), 8.into());
    cluster.insert("kafka".into(), texts(servers.addresses("KAFKA")?));
    cluster.insert("redis".into(), texts(servers.addresses("REDIS")?));
    cluster.insert("memcached".into(), texts(servers.addresses("MEMCACHED")?));
    all.insert("cluster".into(), cluster.into());
    Ok(toml::to_string(&all)?)
}
