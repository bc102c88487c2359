//! The doors: one thread that accepts for all workers.
//!
//! It counts new connections by address before a byte is read, hands each one to the worker that has the fewest, and
//! stops accepting while the server is full, so that newcomers wait in the kernel's queue instead of taking a file
//! descriptor. Out of file descriptors it waits a moment and tries again.

use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use runtime::Shutdown;
use tokio::sync::mpsc;

use crate::counters::{Count, Counters};
use crate::floods::Admission;
use crate::shared::Shared;

/// Between two looks whether there is room again.
const FULL_PAUSE: Duration = Duration::from_millis(10);

/// A connection on its way to a worker.
pub(crate) enum Incoming {
    /// Speaks frames.
    Frames(TcpStream, IpAddr),
    /// Speaks HTTP.
    Http(TcpStream, IpAddr),
}

#[derive(Clone, Copy)]
enum Speaks {
    Frames,
    Http,
}

/// The acceptor.
pub(crate) struct Doors {
    pub shared: Arc<Shared>,
    pub frames: Option<TcpListener>,
    pub http: Option<TcpListener>,
    pub workers: Vec<mpsc::Sender<Incoming>>,
}

impl Doors {
    /// Runs on the calling thread until shutdown; closes the listening sockets then.
    pub fn run(mut self, shutdown: &Shutdown) -> anyhow::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .on_thread_park(runtime::spare::rest)
            .build()?;
        let (frames, http) = (self.frames.take(), self.http.take());
        runtime.block_on(async {
            tokio::select! {
                ended = self.accept(frames, Speaks::Frames) => ended,
                ended = self.accept(http, Speaks::Http) => ended,
                () = shutdown.wait() => Ok(()),
            }
        })
    }

    async fn accept(&self, listener: Option<TcpListener>, speaks: Speaks) -> anyhow::Result<()> {
        let Some(listener) = listener else { return std::future::pending().await };
        let listener = tokio::net::TcpListener::from_std(listener)?;
        loop {
            while self.shared.connections() >= self.shared.limits.connections_max {
                tokio::time::sleep(FULL_PAUSE).await;
            }
            match listener.accept().await {
                Ok((stream, peer)) => self.admit(stream, peer, speaks).await,
                Err(error) if is_momentary(&error) => {}
                Err(error) => {
                    tracing::warn!(%error, "accepting a connection failed; trying again");
                    tokio::time::sleep(FULL_PAUSE).await;
                }
            }
        }
    }

    async fn admit(&self, stream: tokio::net::TcpStream, peer: SocketAddr, speaks: Speaks) {
        let address = peer.ip();
        if !self.may_enter(address) {
            return;
        }
        // Without this an answer could wait for the acknowledgement of the one before.
        // The worker's own runtime takes the socket; this one lets go of it.
        let Ok(stream) = stream.set_nodelay(true).and_then(|()| stream.into_std()) else { return };
        let incoming = match speaks {
            Speaks::Frames => Incoming::Frames(stream, address),
            Speaks::Http => Incoming::Http(stream, address),
        };
        let fewest = |i: &usize| self.shared.faces[*i].connections.load(Ordering::Relaxed);
        let Some(worker) = (0..self.workers.len()).min_by_key(fewest) else { return };
        self.shared.faces[worker].connections.fetch_add(1, Ordering::Relaxed);
        if self.workers[worker].send(incoming).await.is_err() {
            self.shared.faces[worker].connections.fetch_sub(1, Ordering::Relaxed);
        }
    }

    fn may_enter(&self, address: IpAddr) -> bool {
        if self.shared.is_exempt(address) {
            return true;
        }
        let live = &self.shared.live;
        let per_second = live.connections_per_second_address.load(Ordering::Relaxed);
        let ban_ms = live.ban_ms.load(Ordering::Relaxed);
        let now_ms = self.shared.mono_ms();
        match self.shared.floods.lock().admit(address, now_ms, per_second, ban_ms) {
            Admission::Welcome => true,
            Admission::Banned(just_now) => {
                self.counters().add(Count::BannedConnections, 1);
                if just_now {
                    self.counters().add(Count::Bans, 1);
                    tracing::info!(%address, ban_ms, "address banned: too many new connections in a second");
                }
                false
            }
        }
    }

    /// The acceptor's own, behind those of the workers.
    fn counters(&self) -> &Counters {
        &self.shared.faces[self.workers.len()].counters
    }
}

/// The peer was gone before it was accepted.
fn is_momentary(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionReset | Interrupted)
}
