//! A process with some of the roles.
//!
//! Start: servers, then flow and delivery, then the lottery node and chat, then the calls that others make, then the front
//! door and the desk. Stop, in the order that loses nothing: the roles are announced as draining, so that nobody sends new
//! work; the front door ends its connections; the lottery node gives its buckets and leases back and ends its epoch, and a
//! chat node among others gives its buckets back; then the calls end, then what stood behind them, and last chat, for which
//! official accounts write until then. Giving things back goes on for as long as it gets anywhere ([`super::ending`]).

use super::base::Base;
use super::chat::{ChatRole, Stages};
use super::desk;
use super::ending::{self, Left};
use super::front;
use super::health::{Condition, Health};
use super::lottery::LotterySlot;
use crate::admin::{Admin, AdminParts, NodeView};
use crate::cli::RunArgs;
use crate::config::{Config, Mistake};
use crate::keys::Keys;
use crate::up::plans::{AccessPlans, Follower, PlanTarget, PlanTargets};
use access::ChatWays;
use anyhow::Context as _;
use campaign::NodeId;
use delivery::{Delivery, DeliveryParts, limits};
use flow::core::PlanSet;
use flow::service::handle::FlowHandle;
use lottery::node::NodeConfig;
use lottery::node::cluster::cache::{Memcached, MemcachedOptions};
use lottery::node::cluster::{ClusterParts, HistoryCache, NoCache};
use ownership::members::Role;
use protocol::calls::client::ChatHealth;
use protocol::calls::server::CallServer;
use protocol::calls::{Draws, Served};
use quota_config::{PlanCell, PlanRepository};
use runtime::{Metrics, SharedClock, TaskKind, Tasks, exit};
use serde_json::{Value, json};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;

/// How long each stage may take to end, and how long one that gives things back may get nowhere.
const DRAIN: Duration = Duration::from_secs(20);

/// Where a process can be reached.
#[derive(Clone, Debug, Default, serde::Serialize)]
struct Ports {
    calls: Option<SocketAddr>,
    health: Option<SocketAddr>,
    tcp: Option<SocketAddr>,
    http: Option<SocketAddr>,
    console: Option<SocketAddr>,
}

/// The roles of this process, running.
pub struct Process {
    base: Base,
    ports: Ports,
    stages: Vec<(&'static str, Tasks, Option<Left>)>,
}

/// What the roles have put together so far.
#[derive(Default)]
struct Roles {
    lottery: Option<Arc<LotterySlot>>,
    flow: Option<FlowHandle>,
    delivery: Option<Delivery>,
    access: Option<Arc<AccessPlans>>,
    chat: Option<ChatRole>,
}

impl Roles {
    /// Returns when those that begin an epoch have done so.
    async fn have_begun(&self) {
        if let Some(slot) = &self.lottery {
            slot.has_begun().await;
        }
        if let Some(chat) = &self.chat {
            chat.has_begun().await;
        }
    }
}

impl Roles {
    /// What is left of what must be given back.
    fn left(&self) -> Left {
        let lottery = self.lottery.clone();
        let chat = match &self.chat {
            Some(ChatRole::Owner(owner)) => Some(Arc::clone(owner)),
            _ => None,
        };
        Box::new(move || {
            let lottery = lottery.as_ref().map(|slot| NodeView::status(&**slot));
            let lottery = lottery.map(|status| json!([status["buckets"], status["unshipped"]]));
            json!({ "lottery": lottery, "chat": chat.as_ref().map(|owner| owner.left()) })
        })
    }
}

impl Process {
    /// Starts the roles.
    ///
    /// # Errors
    /// When a server refuses, a port can't be had, or what is on this machine's disk can't be used.
    pub async fn start(
        args: &RunArgs,
        config: Config,
        keys: Keys,
        clock: SharedClock,
        tasks: &Tasks,
    ) -> anyhow::Result<Process> {
        let has = |role: Role| args.roles.contains(&role);
        let [at_desk, front, middle, calls, back, talk] = [(); 6].map(|()| tasks.stage());
        let listening = TcpListener::bind(config.cluster.calls)
            .with_context(|| format!("listening on {} (cluster.calls)", config.cluster.calls))?;
        let address = listening.local_addr()?;
        let base = Base::open(config, keys, clock, (&args.roles, address), &back).await?;
        let condition = Condition::default();
        let plans = Plans::open(&base).await?;
        let mut roles = Roles::default();
        if has(Role::Flow) {
            let store = base.award_store().await?;
            let set = Arc::clone(&plans.flow);
            let queue = base.queue()?;
            let flow =
                crate::up::start_flow(&base.config, &base.keys, &queue, store, set, &base.clock, &back);
            roles.flow = Some(flow.await?);
        }
        if has(Role::Delivery) {
            roles.delivery = Some(start_delivery(&base, &back).await?);
        }
        if has(Role::Lottery) {
            roles.lottery = Some(start_lottery(args, &base, &middle).await?);
        }
        if has(Role::Chat) {
            let stages = Stages { hand_over: &middle, behind: &back, node: &talk };
            roles.chat = Some(ChatRole::open(&base, &args.data, stages).await?);
        }
        if has(Role::Access) {
            roles.access = Some(AccessPlans::new());
        }
        let mut ports = Ports::default();
        let served = served(&roles);
        let (cluster, node) = (base.cluster.clone(), base.config.node.id);
        let server = CallServer::on(listening, cluster, node, served, base.clock.clone())?;
        ports.calls = Some(address);
        server.run(&calls);
        // At first as one that is given no work: a lottery or chat node that is asked for before it can answer would keep
        // its share of the users waiting.
        base.members.drain().await.context("announcing this process in the table of members")?;
        let members = Arc::clone(&base.members);
        let stop = back.shutdown().clone();
        back.spawn("members", TaskKind::Service, async move {
            members.run(stop.wait()).await;
            Ok(())
        });
        tokio::select! {
            () = roles.have_begun() => {}
            () = tasks.shutdown().wait() => {}
        }
        plans.follow(args, &base, &roles, &middle).await?;
        if has(Role::Console) {
            ports.console = desk::open(&base, (&plans.repository, &plans.cell), &at_desk).await?;
        }
        base.members.serve().await.context("announcing this process in the table of members")?;
        let mut open = None;
        if let Some(plans) = roles.access.clone() {
            let door = front::open(&base, plans, &front).await?;
            (ports.tcp, ports.http) = (door.tcp, door.http);
            open = Some(door);
        }
        let parts = AdminParts {
            node: roles.lottery.clone().map(|slot| slot as Arc<dyn NodeView>),
            flow: roles.flow.clone(),
            delivery: roles.delivery.clone(),
            others_deliver: true,
            chat: roles.chat.as_ref().map(ChatRole::view),
            ways: open.as_ref().and_then(|door| door.chat.clone()).map(|ways| ways as Arc<dyn NodeView>),
        };
        let admin = Admin::new(base.keys.admin_token.clone(), parts, Handle::current());
        if let Some(door) = open {
            admin.set_access(door.control);
        }
        let health = Health::new(admin, Metrics::new(), condition);
        ports.health = Some(health.open(base.config.cluster.http, &calls).await?);
        tracing::info!(roles = ?args.roles, ?ports, "serving");
        let stages = vec![
            ("console", at_desk, None),
            ("access", front, None),
            ("lottery and chat's buckets", middle, Some(roles.left())),
            ("calls", calls, None),
            ("flow and delivery", back, None),
            ("chat", talk, None),
        ];
        Ok(Process { base, ports, stages })
    }

    /// Writes where the process can be reached, as JSON.
    ///
    /// # Errors
    /// When the file can't be written.
    pub fn write_ports(&self, path: &Path) -> anyhow::Result<()> {
        let text = serde_json::to_string(&self.ports)?;
        let temporary = path.with_extension("tmp");
        std::fs::write(&temporary, text)
            .and_then(|()| std::fs::rename(&temporary, path))
            .with_context(|| format!("writing {}", path.display()))
    }

    /// Runs until it is asked to stop, and stops in order.
    ///
    /// # Errors
    /// When the system refuses.
    pub async fn serve(self, tasks: &Tasks) -> anyhow::Result<u8> {
        tasks.shutdown().wait().await;
        if let Err(error) = self.base.members.drain().await {
            tracing::warn!(%error, "could not announce that this process drains");
        }
        let mut code = exit::OK;
        for (name, stage, left) in self.stages {
            if name == "flow and delivery"
                && let Err(error) = self.base.members.leave().await
            {
                tracing::warn!(%error, "could not leave the table of members; the others notice in three seconds");
            }
            let drained = ending::end(name, &stage, left.as_ref(), DRAIN).await;
            if !drained.unfinished.is_empty() {
                tracing::error!(part = name, unfinished = ?drained.unfinished, "did not end in time");
                code = exit::FAILURE;
            }
            if let Some(failure) = drained.failure {
                tracing::error!(part = name, %failure, "failed");
                code = exit::FAILURE;
            }
        }
        if tasks.drain(Duration::from_secs(2)).await.failure.is_some() {
            code = exit::FAILURE;
        }
        tracing::info!("stopped");
        Ok(code)
    }
}

/// Plans as this process knows them.
struct Plans {
    repository: Arc<dyn PlanRepository>,
    cell: Arc<PlanCell>,
    flow: Arc<PlanSet>,
}

impl Plans {
    async fn open(base: &Base) -> anyhow::Result<Plans> {
        let (cell, flow) = (PlanCell::new(), Arc::new(PlanSet::new()));
        Ok(Plans { repository: base.repository().await?, cell, flow })
    }

    /// Brings into force what the repository has, now and whenever it changes.
    async fn follow(&self, args: &RunArgs, base: &Base, roles: &Roles, tasks: &Tasks) -> anyhow::Result<()> {
        let targets = PlanTargets {
            lottery: roles.lottery.clone().map(|slot| slot as Arc<dyn PlanTarget>),
            flow: Some(Arc::clone(&self.flow)),
            access: roles.access.clone(),
        };
        let follower = Follower::new(
            args.campaigns.clone(),
            Arc::clone(&self.repository),
            base.keys.newest_seed().clone(),
            base.config.node.id,
            targets,
            Arc::clone(&self.cell),
            base.clock.clone(),
        );
        let follower = match roles.lottery.is_some() {
            true => follower.saying_what_runs(),
            false => follower,
        };
        let follower = follower.first().await?;
        tasks.spawn("plans", TaskKind::Service, follower.run(tasks.shutdown().clone()));
        Ok(())
    }
}

impl NodeView for ChatWays {
    fn status(&self) -> Value {
        let way = |(node, health): (u16, ChatHealth)| {
            json!({
                "node": node, "up": health.up, "failures": health.failures, "timed_out": health.timed_out,
                "devices": health.devices, "untold": health.untold, "last_error": health.last_error,
            })
        };
        self.health().into_iter().map(way).collect()
    }
}

/// What others may call here.
fn served(roles: &Roles) -> Served {
    Served {
        draws: roles.lottery.clone().map(|slot| slot as Arc<dyn Draws>),
        awards: roles.flow.clone().map(|flow| Arc::new(flow) as _),
        accounts: roles
            .delivery
            .clone()
            .map(|delivery| Arc::new(crate::up::AccountsApart::new(delivery, Handle::current())) as _),
        histories: roles.flow.clone().map(|flow| Arc::new(flow) as _),
        chat: roles.chat.as_ref().map(ChatRole::host),
        chat_peers: roles.chat.as_ref().and_then(ChatRole::peers),
    }
}

async fn start_delivery(base: &Base, tasks: &Tasks) -> anyhow::Result<Delivery> {
    let book = base.delivery_book().await?;
    let limits = limits::Follower::open(base.limits().await?, base.config.node.id).await?;
    let parts = DeliveryParts {
        config: base.config.delivery.clone(),
        book,
        accounts: base.account_book().await?,
        vendors: Default::default(),
        limits: limits.limits(),
        mac_keys: base.keys.mac.clone(),
        queue: base.queue()?,
        clock: base.clock.clone(),
        seed: base.clock.now_ms(),
    };
    let delivery = Delivery::start(parts, tasks)?;
    let following = limits.run(delivery.clone(), tasks.shutdown().clone());
    tasks.spawn("limits of vendors", TaskKind::Service, following);
    Ok(delivery)
}

async fn start_lottery(args: &RunArgs, base: &Base, tasks: &Tasks) -> anyhow::Result<Arc<LotterySlot>> {
    let (config, keys) = (&base.config, &base.keys);
    let cache: Arc<dyn HistoryCache> = match config.cluster.memcached.is_empty() {
        true => Arc::new(NoCache),
        false => {
            let mut life = [0; 8];
            getrandom::fill(&mut life)
                .map_err(|e| anyhow::anyhow!("the system gives no random numbers: {e}"))?;
            let options = MemcachedOptions::new(config.cluster.memcached.clone(), u64::from_le_bytes(life));
            let started = Memcached::start(options, base.clock.clone());
            Arc::new(started.map_err(|error| Mistake(format!("cluster.memcached: {error}")))?)
        }
    };
    let node = NodeConfig {
        node: NodeId(config.node.id),
        dir: args.data.join("lottery"),
        log: None,
        shards: config.lottery.shards,
        users_max: config.lottery.users_max,
        snapshot_bytes: config.lottery.snapshot_mib << 20,
        mac_keys: keys.mac.clone(),
        seed_keys: keys.seeds.clone(),
        known: None,
    };
    let parts = ClusterParts {
        ledger: base.ledger().await?,
        lanes: Arc::new(base.lanes()?),
        histories: base.histories(tasks),
        cache,
        members: base.members.members(Role::Lottery),
        clock: base.clock.clone(),
    };
    let slot = Arc::new(LotterySlot::default());
    let (running, stop) = (Arc::clone(&slot), tasks.shutdown().clone());
    tasks.spawn("lottery", TaskKind::Service, async move { running.run(node, parts, stop).await });
    Ok(slot)
}
