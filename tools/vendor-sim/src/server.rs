//! Puts a [`Sim`] on a listener, and takes it off again.
//!
//! Bounds: connections as configured (the next ones wait in the listen queue), heads of 16 KiB, bodies of 4 KiB, 10 s for a body, 120 s for
//! the head of the next request on a connection, after which it is closed.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;

use crate::callbacks;
use crate::handlers;
use crate::vendor::Sim;
use crate::wire;

/// Most bytes of a request's head, and of what a connection buffers.
const HEAD_MAX: usize = 16 * 1024;
/// Longest wait for the head of a request, idle time included.
const IDLE: Duration = Duration::from_secs(120);
/// Time for answers under way after the order to stop.
const DRAIN: Duration = Duration::from_secs(5);
/// Rest after a failed accept (out of descriptors, most likely).
const ACCEPT_REST: Duration = Duration::from_millis(50);

/// Serves until `shutdown` resolves and what is under way is done, [`DRAIN`] at most.
pub async fn serve(sim: Arc<Sim>, listener: TcpListener, shutdown: impl Future<Output = ()>) {
    let (stop, stopped) = watch::channel(false);
    let slots = Arc::new(Semaphore::new(sim.limits.connections_max));
    let mut background = JoinSet::new();
    background.spawn(callbacks::run(sim.clone()));
    background.spawn(take_late(sim.clone()));
    let mut connections = JoinSet::new();
    tokio::pin!(shutdown);
    loop {
        while connections.try_join_next().is_some() {}
        let accepted = tokio::select! {
            () = &mut shutdown => break,
            accepted = accept(&listener, &slots) => accepted,
        };
        match accepted {
            Ok((stream, slot)) => {
                drop(connections.spawn(connection(sim.clone(), stream, slot, stopped.clone())))
            }
            Err(error) => {
                tracing::warn!(%error, "can't accept a connection");
                tokio::time::sleep(ACCEPT_REST).await;
            }
        }
    }
    drop(listener);
    background.abort_all();
    let _ = stop.send(true);
    let drained = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(DRAIN, drained).await.is_err() {
        tracing::info!(connections = connections.len(), "closed connections that had no answer yet");
    }
}

async fn accept(
    listener: &TcpListener,
    slots: &Arc<Semaphore>,
) -> std::io::Result<(TcpStream, OwnedSemaphorePermit)> {
    let slot = slots.clone().acquire_owned().await.map_err(std::io::Error::other)?;
    let (stream, _) = listener.accept().await?;
    stream.set_nodelay(true)?;
    Ok((stream, slot))
}

async fn connection(
    sim: Arc<Sim>,
    stream: TcpStream,
    _slot: OwnedSemaphorePermit,
    mut stopped: watch::Receiver<bool>,
) {
    let Ok(peer) = stream.peer_addr() else { return };
    let _counted = Counted::new(&sim.connections_open);
    let service = service_fn(|request| handlers::handle(sim.clone(), peer, request));
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(IDLE)
        .max_buf_size(HEAD_MAX)
        .pipeline_flush(true)
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(serving);
    // An error here is a sender that went away, or a connection closed on purpose: both are counted where they matter.
    tokio::select! {
        _ = &mut serving => {}
        () = async { drop(stopped.wait_for(|stop| *stop).await) } => {
            serving.as_mut().graceful_shutdown();
            let _ = serving.await;
        }
    }
}

/// Counts a connection as open for as long as it lives, however it ends.
struct Counted<'a>(&'a AtomicU64);

impl<'a> Counted<'a> {
    fn new(count: &'a AtomicU64) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Takes payouts whose requests were lost on the way and arrive after all.
async fn take_late(sim: Arc<Sim>) {
    loop {
        let late = sim.late_accepts.pop(&sim.clock).await;
        let live = sim.vendors[late.vendor].live();
        // Refusals are what the sender would have heard; nobody is there to hear them.
        let _ = wire::parse_order(&late.body).and_then(|order| sim.take(late.vendor, order, &live));
    }
}
