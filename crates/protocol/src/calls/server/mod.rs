//! The serving side: whatever of the traits of [`calls`](super) a process has, on a TCP listener.
//!
//! Each connection is one task: it reads what has come, has all entries of that read decided with one call, and writes
//! all answers with one write; wins and other late decisions follow as they come. Other calls run beside it and are
//! answered in whatever order they end. A connection to chat carries nothing else, and pushes come back on it (see
//! `chat.rs`).
//!
//! It refuses whoever does not prove the cluster's key, and closes what is no frame, silent, or not read. Bounds: frames
//! of 4 MiB, 262,144 unanswered submits a connection ('busy' above), 512 other calls, 2,048 connections. A crash loses
//! connections only: what was decided is in the log, and the same counter asked again finds it.

mod chat;
mod connection;
mod line;
mod slow;

use super::limits::{ACCESS_AWAY_MS, CONNECTIONS_MAX, STRANGERS_MAX};
use super::{Cluster, Served};
use runtime::{SharedClock, Shutdown, TaskKind, Tasks};
use socket2::{Domain, Protocol, Socket, Type};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::Semaphore;

/// Connections that may wait in the kernel's queue.
const BACKLOG: i32 = 1024;

/// After an accept that failed (no more file descriptors), in ms.
const ACCEPT_PAUSE_MS: u64 = 100;

/// Why calls can't be served.
#[derive(Debug, thiserror::Error)]
#[error("calls can't be served at {address}: {error}")]
pub struct BindError {
    /// The address.
    pub address: SocketAddr,
    /// What the system says.
    pub error: std::io::Error,
}

/// What the server has counted since it began.
#[derive(Debug, Default)]
pub struct CallCounts {
    connections: AtomicU64,
    refused: AtomicU64,
    submits: AtomicU64,
    busy: AtomicU64,
    others: AtomicU64,
    sends: AtomicU64,
    pushes: AtomicU64,
    pushes_dropped: AtomicU64,
    heard: AtomicU64,
}

macro_rules! counts {
    ($($(#[$doc:meta])* $name:ident),*) => {
        impl CallCounts {
            $($(#[$doc])*
            pub fn $name(&self) -> u64 {
                self.$name.load(Ordering::Relaxed)
            })*
        }
    };
}

counts! {
    /// Connections whose greeting went well.
    connections,
    /// Connections refused: strangers, mistaken addresses, nonsense.
    refused,
    /// Submits handed to the node.
    submits,
    /// Submits and calls over a bound.
    busy,
    /// Other calls.
    others,
    /// Messages handed to chat.
    sends,
    /// Targets of pushes that went out to access nodes.
    pushes,
    /// Targets of pushes that were left out, because an access node did not take them in time.
    pushes_dropped,
    /// Messages of other chat nodes.
    heard
}

/// A server whose address is bound, and that serves nobody yet.
pub struct CallServer {
    listener: TcpListener,
    address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    cluster: Cluster,
    node: u16,
    served: Served,
    clock: SharedClock,
    counts: Arc<CallCounts>,
    front_doors: chat::FrontDoors,
    access_away_ms: AtomicU64,
}

impl Shared {
    fn new(cluster: Cluster, node: u16, served: Served, clock: SharedClock) -> Arc<Shared> {
        let (counts, front_doors) = (Arc::default(), chat::FrontDoors::default());
        let access_away_ms = AtomicU64::new(ACCESS_AWAY_MS);
        Arc::new(Shared { cluster, node, served, clock, counts, front_doors, access_away_ms })
    }

    fn mono_ms(&self) -> u64 {
        self.clock.mono_ns() / 1_000_000
    }
}

impl CallServer {
    /// Binds the address; port 0 takes a free one. `node` is this process's node number: whoever looks for another
    /// one here is refused.
    ///
    /// # Errors
    /// When the address can't be had.
    pub fn bind(
        address: SocketAddr,
        cluster: Cluster,
        node: u16,
        served: Served,
        clock: SharedClock,
    ) -> Result<CallServer, BindError> {
        let open = || -> std::io::Result<TcpListener> {
            let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
            // A restart must not wait for connections of the process before to time out.
            socket.set_reuse_address(true)?;
            socket.bind(&address.into())?;
            socket.listen(BACKLOG)?;
            socket.set_nonblocking(true)?;
            Ok(socket.into())
        };
        let bound = open().and_then(|listener| Ok((listener.local_addr()?, listener)));
        let (address, listener) = bound.map_err(|error| BindError { address, error })?;
        Ok(CallServer { listener, address, shared: Shared::new(cluster, node, served, clock) })
    }

    /// The same on a listener that is bound already, because its address had to be known before there was anything to
    /// serve.
    ///
    /// # Errors
    /// When the system does not say where it listens.
    pub fn on(
        listener: TcpListener,
        cluster: Cluster,
        node: u16,
        served: Served,
        clock: SharedClock,
    ) -> std::io::Result<CallServer> {
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        Ok(CallServer { listener, address, shared: Shared::new(cluster, node, served, clock) })
    }

    /// How long the devices of an access node that is out of reach are kept; 10 s if nothing is said.
    pub fn keep_devices_for(&self, away: Duration) {
        let ms = u64::try_from(away.as_millis()).unwrap_or(u64::MAX);
        self.shared.access_away_ms.store(ms, Ordering::Relaxed);
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it counts.
    pub fn counts(&self) -> Arc<CallCounts> {
        Arc::clone(&self.shared.counts)
    }

    /// Serves until the shutdown of `tasks` is requested; then connections answer what they have taken, and end.
    pub fn run(self, tasks: &Tasks) {
        let of_tasks = tasks.clone();
        tasks.spawn("calls", TaskKind::Service, async move {
            let listener = tokio::net::TcpListener::from_std(self.listener)?;
            accept(&listener, &self.shared, &of_tasks).await;
            Ok(())
        });
    }
}

async fn accept(listener: &tokio::net::TcpListener, shared: &Arc<Shared>, tasks: &Tasks) {
    let shutdown: Shutdown = tasks.shutdown().clone();
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let strangers = Arc::new(Semaphore::new(STRANGERS_MAX));
    loop {
        let next = async {
            // Both close only with this function.
            let stranger = Arc::clone(&strangers).acquire_owned().await.ok()?;
            let place = Arc::clone(&places).acquire_owned().await.ok()?;
            Some((listener.accept().await, stranger, place))
        };
        let accepted = tokio::select! {
            accepted = next => accepted,
            () = shutdown.wait() => return,
        };
        let Some((accepted, stranger, place)) = accepted else { return };
        match accepted {
            Ok((stream, peer)) => {
                let (shared, shutdown) = (Arc::clone(shared), shutdown.clone());
                tasks.spawn(format!("calls of {peer}"), TaskKind::BestEffort, async move {
                    connection::serve(&shared, stream, peer, stranger, &shutdown).await;
                    drop(place);
                    Ok(())
                });
            }
            Err(error) => {
                tracing::warn!(%error, "a call connection could not be taken");
                tokio::time::sleep(Duration::from_millis(ACCEPT_PAUSE_MS)).await;
            }
        }
    }
}
