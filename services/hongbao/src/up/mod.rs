//! `hongbao up`: every role in one process.
//!
//! Put together from behind: what a role stands on is there before it serves. Taken apart from the front: the door
//! closes first, then the node gives its leases back, then what lies behind it ends. A kill at any moment is
//! recovered from at the next start.

mod apart;
mod chat;
pub(crate) mod plans;
mod store;

use crate::admin::{Admin, AdminParts, NodeView};
use crate::cli::UpArgs;
use crate::config::{self, Config};
use crate::desk::{self, DeskParts, Desks, Embedded, PlatformOperations};
use crate::keys::{Keys, operators_file};
use crate::play::{Mounts, Play};
use ::chat::ChatNode;
use access::token::KeyCell;
use access::{AccessDeps, AccessServer, HttpExtra, RouteTable, Routes};
use anyhow::Context as _;
pub(crate) use apart::{AccountsApart, AwardsApart};
use campaign::NodeId;
use delivery::{Delivery, DeliveryParts};
use flow::core::{EtaLimits, PlanSet, RepeatConfig};
use flow::service::FlowParts;
use flow::service::handle::FlowHandle;
use flowlog::{DirLock, Position, check_format_version};
use lottery::node::{Node, NodeConfig, Recovered};
use plans::{AccessPlans, Follower, PlanTarget, PlanTargets};
use protocol::calls::Chat;
use queue::embedded::EmbeddedQueue;
use queue::{JOURNAL, LANE, ORDERS, Queue, TopicOptions};
use quota_config::{PlanCell, PlanRepository};
use runtime::{Metrics, SharedClock, Shutdown, SystemClock, TaskKind, Tasks, exit, telemetry};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use store::Stores;
use tokio::runtime::Handle;

/// Format of the data folder.
const DATA_FORMAT: u32 = 1;

/// How long each part may take to end.
const DRAIN: Duration = Duration::from_secs(8);

/// Checks a campaign file.
pub fn check(file: &Path) -> anyhow::Result<u8> {
    plans::check(file)
}

/// Runs until it is asked to stop.
pub fn run(args: &UpArgs) -> anyhow::Result<u8> {
    let config = config::load(args.config.as_deref(), &args.set)?;
    telemetry::init(&config.log, std::env::var("RUST_LOG").ok().as_deref())?;
    std::fs::create_dir_all(&args.data).with_context(|| format!("making {}", args.data.display()))?;
    let _lock = DirLock::acquire(&args.data)?;
    check_format_version(&args.data, DATA_FORMAT)?;
    let keys = Keys::open(&args.data)?;
    let threads = config.node.threads.max(1);
    crate::memory::tend();
    let tokio = threads_named("hongbao", threads).build()?;
    let nice = config.node.nice_behind;
    let behind = threads_named("hongbao-behind", threads)
        .on_thread_start(move || {
            runtime::Priority::Nice(nice).set();
        })
        .build()?;
    let code = tokio.block_on(serve(args, config, keys, behind.handle().clone()));
    behind.shutdown_timeout(DRAIN);
    code
}

pub(crate) fn threads_named(name: &str, threads: usize) -> tokio::runtime::Builder {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(threads).thread_name(name).enable_all().on_thread_park(runtime::spare::rest);
    builder
}

async fn serve(args: &UpArgs, config: Config, keys: Keys, behind: Handle) -> anyhow::Result<u8> {
    let clock = SystemClock::shared();
    let tasks = Tasks::new(Shutdown::new());
    tasks.stop_on_signals()?;
    let up = Up::start(args, &config, keys, clock, &tasks, behind).await?;
    if let Some(path) = &args.port_file {
        write_port_file(path, &up)?;
    }
    tracing::info!(tcp = ?up.tcp, http = ?up.http, console = ?up.console, "serving");
    tasks.shutdown().wait().await;
    up.stop(&tasks).await
}

/// A running platform.
struct Up {
    tcp: Option<SocketAddr>,
    http: Option<SocketAddr>,
    console: Option<SocketAddr>,
    queue: EmbeddedQueue,
    desk: Tasks,
    front: Tasks,
    chat: Tasks,
    node: Tasks,
    back: Tasks,
}

impl Up {
    async fn start(
        args: &UpArgs,
        config: &Config,
        keys: Keys,
        clock: SharedClock,
        tasks: &Tasks,
        behind: Handle,
    ) -> anyhow::Result<Up> {
        let (at_desk, front, talk) = (tasks.stage(), tasks.stage(), tasks.stage());
        let (middle, back) = (tasks.stage(), tasks.stage_on(behind));
        let queue = open_queue(&args.data.join("queue"), config, &clock).await?;
        let stores = Stores::open(&args.data, config.node.nice_behind, &clock).await?;
        let (node, recovered) = start_node(args, config, &keys, &queue, &stores, &clock).await?;
        tracing::info!(?recovered, "the lottery node has recovered");
        let log = node.journal().log().clone();
        queue.attach_lane(config.node.id, log, Position(recovered.first))?;
        let queue_port: Arc<dyn Queue> = Arc::new(queue.clone());

        let running = Arc::clone(&node).run(middle.shutdown().clone());
        middle.spawn("lottery", TaskKind::Service, running);
        let plan_set = Arc::new(PlanSet::new());
        let access_plans = AccessPlans::new();
        let (repository, cell) = (Arc::new(stores.plans), PlanCell::new());
        let follower = Follower::new(
            args.campaigns.clone(),
            Arc::clone(&repository) as Arc<dyn PlanRepository>,
            keys.newest_seed().clone(),
            config.node.id,
            PlanTargets {
                lottery: Some(Arc::clone(&node) as Arc<dyn PlanTarget>),
                flow: Some(Arc::clone(&plan_set)),
                access: Some(Arc::clone(&access_plans)),
            },
            Arc::clone(&cell),
            clock.clone(),
        );
        let follower = follower.first().await?;
        middle.spawn("plans", TaskKind::Service, follower.run(middle.shutdown().clone()));

        let awards = Arc::clone(&stores.awards);
        let flow = start_flow(config, &keys, &queue_port, stores.awards, plan_set, &clock, &back).await?;
        let delivery = Delivery::start(
            DeliveryParts {
                config: config.delivery.clone(),
                book: stores.book,
                accounts: stores.accounts,
                vendors: Default::default(),
                limits: Default::default(),
                mac_keys: keys.mac.clone(),
                queue: Arc::clone(&queue_port),
                clock: clock.clone(),
                seed: clock.now_ms(),
            },
            &back,
        )?;
        let ledger = Arc::clone(&stores.ledger);
        let numbered = (config.node.id, Arc::clone(&node));
        let around =
            Embedded::new(stores.ledger, numbered, Arc::clone(&cell), flow.clone(), delivery.clone());
        let parts = DeskParts {
            config,
            operators: operators_file(&args.data),
            seed: keys.newest_seed().clone(),
            plans: repository,
            operations: PlatformOperations::new(ledger, Arc::new(around), cell, clock.clone()),
            awards,
            clock: clock.clone(),
            desks: Desks::One,
        };
        let console = desk::open(parts, &at_desk).await?;
        let chat = chat::open(&config.chat, &args.data, &clock, &queue_port, (&talk, &back)).await?;
        let door = AccessDoor { config, keys, node, flow, delivery, chat, plans: access_plans, clock };
        let (tcp, http) = door.open(&front)?;
        Ok(Up { tcp, http, console, queue, desk: at_desk, front, chat: talk, node: middle, back })
    }

    /// Ends everything, the front door first.
    async fn stop(self, tasks: &Tasks) -> anyhow::Result<u8> {
        let mut code = exit::OK;
        for (name, stage) in [
            ("console", self.desk),
            ("access", self.front),
            ("lottery", self.node),
            ("flow and delivery", self.back),
            ("chat", self.chat),
        ] {
            let drained = stage.drain(DRAIN).await;
            if !drained.unfinished.is_empty() {
                tracing::error!(part = name, unfinished = ?drained.unfinished, "did not end in time");
                code = exit::FAILURE;
            }
            if let Some(failure) = drained.failure {
                tracing::error!(part = name, %failure, "failed");
                code = exit::FAILURE;
            }
        }
        let queue = self.queue;
        tokio::task::spawn_blocking(move || queue.close()).await?;
        if tasks.drain(DRAIN).await.failure.is_some() {
            code = exit::FAILURE;
        }
        tracing::info!("stopped");
        Ok(code)
    }
}

async fn open_queue(dir: &Path, config: &Config, clock: &SharedClock) -> anyhow::Result<EmbeddedQueue> {
    let partitions = config.queue.partitions;
    let topics = [
        TopicOptions::new(ORDERS).with_partitions(partitions).forgetting(&[flow::service::DELIVERY_GROUP]),
        TopicOptions::new(JOURNAL).with_partitions(partitions),
    ];
    let (dir, clock) = (dir.to_owned(), clock.clone());
    let fatal = Arc::new(|error: &flowlog::WriteError| die(&format!("a queue's log failed: {error}")));
    tokio::task::spawn_blocking(move || {
        std::fs::create_dir_all(&dir).with_context(|| format!("making {}", dir.display()))?;
        EmbeddedQueue::open(&dir, &topics, clock, fatal).context("opening the queue")
    })
    .await?
}

async fn start_node(
    args: &UpArgs,
    config: &Config,
    keys: &Keys,
    queue: &EmbeddedQueue,
    stores: &Stores,
    clock: &SharedClock,
) -> anyhow::Result<(Arc<Node>, Recovered)> {
    let node = NodeId(config.node.id);
    let applied = stores.awards.lanes().await?.iter().find(|l| l.node == node).map_or(0, |l| l.next);
    let known = applied.max(queue.known(LANE, node.0)?.0);
    let node_config = NodeConfig {
        node,
        dir: args.data.join("lottery"),
        log: None,
        shards: config.lottery.shards,
        users_max: config.lottery.users_max,
        snapshot_bytes: config.lottery.snapshot_mib << 20,
        mac_keys: keys.mac.clone(),
        seed_keys: keys.seeds.clone(),
        known: Some(known),
    };
    let ledger = Arc::clone(&stores.ledger);
    let fatal = |error: String| die(&format!("the flow log failed: {error}"));
    Ok(lottery::node::start(node_config, ledger, clock.clone(), fatal).await?)
}

pub(crate) async fn start_flow(
    config: &Config,
    keys: &Keys,
    queue: &Arc<dyn Queue>,
    store: Arc<dyn flow::store::AwardStore>,
    plans: Arc<PlanSet>,
    clock: &SharedClock,
    tasks: &Tasks,
) -> anyhow::Result<FlowHandle> {
    let f = &config.flow;
    let parts = FlowParts {
        queue: Arc::clone(queue),
        store,
        plans,
        keys: keys.mac.clone(),
        clock: clock.clone(),
        repeat: RepeatConfig { interval_ms: f.repeat_interval_ms, grace_ms: f.repeat_grace_ms },
        eta: EtaLimits { behind_ms: f.eta_24h_ms, far_behind_ms: f.eta_48h_ms },
    };
    Ok(flow::service::start(parts, tasks).await?)
}

/// What the front door is put together from.
struct AccessDoor<'a> {
    config: &'a Config,
    keys: Keys,
    node: Arc<Node>,
    flow: FlowHandle,
    delivery: Delivery,
    chat: Option<Arc<ChatNode>>,
    plans: Arc<AccessPlans>,
    clock: SharedClock,
}

impl AccessDoor<'_> {
    /// Opens the door: its addresses.
    fn open(self, tasks: &Tasks) -> anyhow::Result<(Option<SocketAddr>, Option<SocketAddr>)> {
        let handle = Handle::current();
        let parts = AdminParts {
            node: Some(Arc::clone(&self.node) as Arc<dyn NodeView>),
            flow: Some(self.flow.clone()),
            delivery: Some(self.delivery.clone()),
            others_deliver: false,
            chat: self.chat.clone().map(|node| node as Arc<dyn NodeView>),
            ways: None,
        };
        let admin = Arc::new(Admin::new(self.keys.admin_token, parts, handle.clone()));
        let mut mounts: Vec<Arc<dyn HttpExtra>> = vec![admin.clone() as Arc<dyn HttpExtra>];
        if self.config.play.page {
            let access = &self.config.access;
            let listening: Vec<SocketAddr> = access.tcp.into_iter().chain(access.http).collect();
            mounts.push(Arc::new(if self.config.play.tokens {
                let (keys, audience) = (self.keys.token.clone(), access.audience.clone());
                Play::minting(&listening, keys, audience, Arc::clone(&self.clock))
            } else {
                Play::new()
            }));
        }
        let deps = AccessDeps {
            node: self.config.node.id,
            chat: self.chat.clone().map(|node| node as Arc<dyn Chat>),
            nodes: None,
            clock: self.clock,
            keys: KeyCell::new(self.keys.token),
            plans: self.plans,
            routes: RouteTable::new(Routes::single(self.config.node.id, self.node)),
            awards: Arc::new(AwardsApart::new(self.flow, handle.clone())),
            accounts: Arc::new(AccountsApart::new(self.delivery, handle)),
            metrics: Metrics::new(),
            extra: Some(Arc::new(Mounts(mounts))),
        };
        let bound = AccessServer::bind(self.config.access.clone(), deps)?;
        let addresses = (bound.tcp_address(), bound.http_address());
        admin.set_access(bound.control());
        if let Some(chat) = self.chat {
            chat.attach(self.config.node.id, Arc::new(bound.pushes()));
        }
        bound.run(tasks)?;
        Ok(addresses)
    }
}

/// A disk that does not keep what it took: nothing may be answered any more, so the process ends here.
pub(crate) fn die(what: &str) {
    tracing::error!(what, "ending the process");
    std::process::abort();
}

fn write_port_file(path: &Path, up: &Up) -> anyhow::Result<()> {
    let text = serde_json::json!({ "tcp": up.tcp, "http": up.http, "console": up.console }).to_string();
    let temporary = path.with_extension("tmp");
    std::fs::write(&temporary, text)
        .and_then(|()| std::fs::rename(&temporary, path))
        .with_context(|| format!("writing {}", path.display()))
}
