//! What all workers of one server hold together.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use parking_lot::Mutex;
use protocol::calls::{Accounts, Awards, Chat};
use runtime::{Metrics, SharedClock};

use crate::campaigns::PlanSource;
use crate::counters::{Count, Counters};
use crate::floods::Floods;
use crate::gates::{AddressRates, GovernorRates, RateBook};
use crate::gateways::Gateways;
use crate::http::HttpExtra;
use crate::limits::{Limits, LiveLimits};
use crate::moves::Moves;
use crate::nodes::{AccessNodes, Scheduler};
use crate::pushes::Mailbox;
use crate::requests::Desks;
use crate::routes::RouteTable;
use crate::server::{AccessConfig, PublicConfig};
use crate::tls::Tls;
use crate::token::KeyCell;

/// What the front door stands on; handed in by whoever composes the process.
#[derive(Clone)]
pub struct AccessDeps {
    /// Number of this node: part of the addresses that chat gets.
    pub node: u16,
    /// Time.
    pub clock: SharedClock,
    /// Keys of user tokens and gateway credentials.
    pub keys: Arc<KeyCell>,
    /// Plans.
    pub plans: Arc<dyn PlanSource>,
    /// Ways to the lottery nodes.
    pub routes: Arc<RouteTable>,
    /// Flow.
    pub awards: Arc<dyn Awards>,
    /// Delivery.
    pub accounts: Arc<dyn Accounts>,
    /// Chat; without it connections do without.
    pub chat: Option<Arc<dyn Chat>>,
    /// The front doors that clients can be sent to; without it there is this one alone.
    pub nodes: Option<Arc<dyn AccessNodes>>,
    /// The process's metrics, shown at `/metrics` before the front door's own.
    pub metrics: Metrics,
    /// Further HTTP routes.
    pub extra: Option<Arc<dyn HttpExtra>>,
}

/// What a worker shows to others.
#[derive(Default)]
pub(crate) struct Face {
    pub counters: Counters,
    /// Connections of all kinds that it has, those on their way included.
    pub connections: AtomicU32,
    /// Its load, 0 to 1000.
    pub load: AtomicU32,
    /// What comes for its connections from other threads.
    pub mail: Arc<Mailbox>,
}

pub(crate) struct Shared {
    pub node: u16,
    /// Chooses among the front doors that there are.
    pub nodes: Arc<Scheduler>,
    /// Clients that have to go elsewhere.
    pub moves: Moves,
    /// Where clients reach this node, and which clients it is for.
    pub public: PublicConfig,
    pub scheduler_ttl_ms: u32,
    /// Origins whose pages may open WebSockets; none: all.
    pub origins: Vec<String>,
    pub tls: Tls,
    pub clock: SharedClock,
    pub keys: Arc<KeyCell>,
    pub audience: Option<String>,
    pub plans: Arc<dyn PlanSource>,
    pub routes: Arc<RouteTable>,
    pub desks: Desks,
    pub metrics: Metrics,
    pub extra: Option<Arc<dyn HttpExtra>>,
    pub limits: Limits,
    pub live: LiveLimits,
    /// Limits of logins and HTTP by address.
    pub rates: Arc<dyn RateBook>,
    pub gateways: Arc<Gateways>,
    pub floods: Mutex<Floods>,
    /// One for each worker, and the acceptor's at the end.
    pub faces: Vec<Face>,
}

impl Shared {
    /// Without a book of rates that is shared with other doors, this one keeps its own.
    pub fn new(
        deps: AccessDeps,
        config: AccessConfig,
        workers: usize,
        rates: Option<Arc<dyn RateBook>>,
        tls: Tls,
    ) -> Self {
        let AccessConfig { audience, limits, websocket, public, scheduler, .. } = config;
        let rates = rates.unwrap_or_else(|| Arc::new(GovernorRates::new(AddressRates::from(&limits))));
        let nodes = Arc::new(Scheduler::new(deps.nodes, scheduler.distances));
        Self {
            node: deps.node,
            moves: Moves::new(deps.node, public.region.clone(), Arc::clone(&nodes)),
            nodes,
            public,
            scheduler_ttl_ms: scheduler.ttl_ms,
            origins: websocket.origins,
            tls,
            clock: deps.clock,
            keys: deps.keys,
            audience,
            plans: deps.plans,
            routes: deps.routes,
            desks: Desks { awards: deps.awards, accounts: deps.accounts, chat: deps.chat },
            metrics: deps.metrics,
            extra: deps.extra,
            live: LiveLimits::new(&limits),
            rates,
            limits,
            gateways: Arc::default(),
            floods: Mutex::default(),
            faces: (0..=workers).map(|_| Face::default()).collect(),
        }
    }

    pub fn mono_ms(&self) -> u64 {
        self.clock.mono_ns() / 1_000_000
    }

    /// Connections of all kinds.
    pub fn connections(&self) -> u32 {
        self.faces.iter().map(|face| face.connections.load(Ordering::Relaxed)).sum()
    }

    pub fn sum(&self, count: Count) -> u64 {
        self.faces.iter().map(|face| face.counters.get(count)).sum()
    }

    /// Whether limits by address spare this one.
    pub fn is_exempt(&self, address: std::net::IpAddr) -> bool {
        self.limits.loopback_exempt && address.to_canonical().is_loopback()
    }
}
