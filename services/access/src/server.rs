//! The server from configuration to drain.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use runtime::{TaskKind, Tasks};
use serde::Deserialize;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::sync::mpsc;

use crate::accept::Doors;
use crate::gates::RateBook;
use crate::limits::{HANDOVER_MAX, Limits, LimitsError, WORKERS_MAX};
use crate::nodes::{Distances, EVERYBODY_PERMILLE};
use crate::pushes::PushDoor;
use crate::shared::{AccessDeps, Shared};
use crate::status::AccessControl;
use crate::tls::{Tls, TlsConfig, TlsError};
use crate::websocket::handshake;
use crate::worker::Worker;

/// Connections that may wait in the kernel's queue.
const BACKLOG: i32 = 4096;

/// Between two looks whether certificate or key have changed.
const TLS_LOOK: Duration = Duration::from_secs(5);

/// Configuration of the front door.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AccessConfig {
    /// Where frames are spoken; port 0 takes a free one.
    pub tcp: Option<SocketAddr>,
    /// Where HTTP is spoken.
    pub http: Option<SocketAddr>,
    /// Worker threads; 0: one for each core.
    pub workers: usize,
    /// This platform's name in the `aud` of tokens; without one, tokens with an `aud` are refused.
    pub audience: Option<String>,
    /// TLS; without it connections are plain.
    pub tls: Option<TlsConfig>,
    /// WebSockets.
    pub websocket: WebSocketConfig,
    /// How clients reach this node, for other nodes and the scheduler.
    pub public: PublicConfig,
    /// The scheduler.
    pub scheduler: SchedulerConfig,
    /// Bounds.
    pub limits: Limits,
}

/// Configuration of WebSockets.
#[derive(Clone, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WebSocketConfig {
    /// Origins whose pages may open one, as browsers write them (`https://app.example`); none: all. It holds nobody off who
    /// is not a browser.
    pub origins: Vec<String>,
}

/// How clients reach a node, and for whom it is.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PublicConfig {
    /// `host:port` for frames; empty: the address that it listens on.
    pub tcp: String,
    /// URL for WebSockets; empty: made of the address that it listens on.
    pub websocket: String,
    /// Where it stands; clients of the same region are sent here first.
    pub region: String,
    /// Its release group: a name for people.
    pub group: String,
    /// Share of users, in thousandths, who may be sent here: 1,000 for a node like all others, less for a grey one.
    pub share_permille: u16,
}

impl Default for PublicConfig {
    fn default() -> Self {
        Self {
            tcp: String::new(),
            websocket: String::new(),
            region: String::new(),
            group: "stable".to_owned(),
            share_permille: EVERYBODY_PERMILLE,
        }
    }
}

/// Configuration of the scheduler.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SchedulerConfig {
    /// For how long a client may use an answer for further connections, in ms.
    pub ttl_ms: u32,
    /// How far it is between regions, in a unit of one's own: `distances.north.south = 30`. What is not named is far.
    pub distances: Distances,
}

impl Default for SchedulerConfig {
    fn default() -> Self {
        Self { ttl_ms: 60_000, distances: Distances::default() }
    }
}

impl Default for AccessConfig {
    fn default() -> Self {
        Self {
            tcp: Some(SocketAddr::from(([127, 0, 0, 1], 7600))),
            http: Some(SocketAddr::from(([127, 0, 0, 1], 7601))),
            workers: 0,
            audience: None,
            tls: None,
            websocket: WebSocketConfig::default(),
            public: PublicConfig::default(),
            scheduler: SchedulerConfig::default(),
            limits: Limits::default(),
        }
    }
}

/// Why the front door can't open.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Bounds that make no sense.
    #[error(transparent)]
    Limits(#[from] LimitsError),
    /// Neither frames nor HTTP.
    #[error("access has no address to listen on: set access.tcp, access.http or both")]
    NoAddress,
    /// The address is taken, or not ours.
    #[error("access can't listen on {address} for {what}: {error}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Frames or HTTP.
        what: &'static str,
        /// What the system says.
        error: std::io::Error,
    },
    /// More workers than addresses have room for.
    #[error("access.workers is {0}: at most {WORKERS_MAX}")]
    Workers(usize),
    /// A share above everybody.
    #[error("access.public.share_permille is {0}: at most 1000, everybody")]
    Share(u16),
    /// Certificate or key.
    #[error("access.tls: {0}")]
    Tls(#[from] TlsError),
    /// No randomness for the key of the token cache.
    #[error("the system gives no random numbers: {0}")]
    Random(getrandom::Error),
    /// The system has no more threads.
    #[error("a worker thread could not be started: {0}")]
    Thread(std::io::Error),
}

/// The front door.
pub struct AccessServer;

/// A front door whose addresses are bound, and that serves nobody yet.
pub struct BoundAccess {
    tcp: Option<TcpListener>,
    http: Option<TcpListener>,
    workers: usize,
    shared: Arc<Shared>,
}

impl AccessServer {
    /// Binds the addresses. From here on clients can connect; they are served once it runs.
    ///
    /// # Errors
    /// When the configuration makes no sense or an address can't be had.
    pub fn bind(config: AccessConfig, deps: AccessDeps) -> Result<BoundAccess, BindError> {
        Self::bind_sharing(config, deps, None)
    }

    /// The same, with limits by address that other doors share (`None`: this door's own).
    ///
    /// # Errors
    /// See [`AccessServer::bind`].
    pub fn bind_sharing(
        config: AccessConfig,
        deps: AccessDeps,
        rates: Option<Arc<dyn RateBook>>,
    ) -> Result<BoundAccess, BindError> {
        config.limits.check()?;
        if config.tcp.is_none() && config.http.is_none() {
            return Err(BindError::NoAddress);
        }
        let workers = match config.workers {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            workers => workers,
        };
        if workers > WORKERS_MAX {
            return Err(BindError::Workers(workers));
        }
        if config.public.share_permille > EVERYBODY_PERMILLE {
            return Err(BindError::Share(config.public.share_permille));
        }
        let tls = Tls::open(config.tls.clone())?;
        let tcp = config.tcp.map(|address| listen(address, "frames")).transpose()?;
        let http = config.http.map(|address| listen(address, "HTTP")).transpose()?;
        let mut config = config;
        config.public.name(tcp.as_ref(), http.as_ref(), &tls);
        let shared = Arc::new(Shared::new(deps, config, workers, rates, tls));
        Ok(BoundAccess { tcp, http, workers, shared })
    }
}

impl PublicConfig {
    /// Where nothing is configured, clients reach it where it listens.
    fn name(&mut self, tcp: Option<&TcpListener>, http: Option<&TcpListener>, tls: &Tls) {
        let address =
            |listener: Option<&TcpListener>| listener.and_then(|listener| listener.local_addr().ok());
        if let (true, Some(tcp)) = (self.tcp.is_empty(), address(tcp)) {
            self.tcp = tcp.to_string();
        }
        if let (true, Some(http)) = (self.websocket.is_empty(), address(http)) {
            let scheme = if tls.acceptor(false).is_some() { "wss" } else { "ws" };
            self.websocket = format!("{scheme}://{http}{}", handshake::PATH);
        }
    }
}

fn listen(address: SocketAddr, what: &'static str) -> Result<TcpListener, BindError> {
    let open = || -> std::io::Result<TcpListener> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        // A restart must not wait for connections of the process before to time out.
        socket.set_reuse_address(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        socket.set_nonblocking(true)?;
        Ok(socket.into())
    };
    open().map_err(|error| BindError::Listen { address, what, error })
}

impl BoundAccess {
    /// Where frames are spoken.
    pub fn tcp_address(&self) -> Option<SocketAddr> {
        self.tcp.as_ref().and_then(|listener| listener.local_addr().ok())
    }

    /// Where HTTP is spoken.
    pub fn http_address(&self) -> Option<SocketAddr> {
        self.http.as_ref().and_then(|listener| listener.local_addr().ok())
    }

    /// The way for chat to push to this node's connections.
    pub fn pushes(&self) -> PushDoor {
        PushDoor::new(Arc::clone(&self.shared))
    }

    /// A handle for operators: status and live limits.
    pub fn control(&self) -> AccessControl {
        AccessControl::new(Arc::clone(&self.shared))
    }

    /// Serves until the shutdown of `tasks` is requested; its drain then waits until connections have their last
    /// answers. An acceptor or worker that fails stops the set.
    ///
    /// # Errors
    /// When threads or randomness can't be had; what was started by then ends with the set.
    pub fn run(self, tasks: &Tasks) -> Result<(), BindError> {
        let mut senders = Vec::with_capacity(self.workers);
        for number in 0..self.workers {
            let (sender, incoming) = mpsc::channel(HANDOVER_MAX);
            senders.push(sender);
            let first = getrandom::u32().map_err(BindError::Random)?;
            let worker = Worker::new(Arc::clone(&self.shared), number, random_key()?, first);
            let shutdown = tasks.shutdown().clone();
            tasks
                .spawn_thread(format!("access-{number}"), TaskKind::Essential, move || {
                    worker.run(incoming, &shutdown)
                })
                .map_err(BindError::Thread)?;
        }
        if self.shared.tls.is_on() {
            let (shared, shutdown) = (Arc::clone(&self.shared), tasks.shutdown().clone());
            let watch = move || {
                while !shutdown.sleep_blocking(TLS_LOOK) {
                    shared.tls.look();
                }
                Ok(())
            };
            tasks.spawn_thread("access-tls", TaskKind::Service, watch).map_err(BindError::Thread)?;
        }
        let doors = Doors { shared: self.shared, frames: self.tcp, http: self.http, workers: senders };
        let shutdown = tasks.shutdown().clone();
        tasks
            .spawn_thread("access-accept", TaskKind::Essential, move || doors.run(&shutdown))
            .map_err(BindError::Thread)
    }
}

fn random_key() -> Result<(u64, u64), BindError> {
    let one = || getrandom::u64().map_err(BindError::Random);
    Ok((one()?, one()?))
}
