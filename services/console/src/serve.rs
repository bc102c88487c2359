//! Accepting connections: as many at once as configured, each with a bound on how slowly its head may come.

use crate::config::ConsoleConfig;
use crate::guard::Peer;
use axum::Router;
use http::Request;
use hyper::body::Incoming;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use runtime::Shutdown;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// How long to wait where accepting fails: no file descriptors are left, as a rule.
const FAILED_PAUSE: Duration = Duration::from_millis(50);
/// How long requests under way may take once the end is asked for.
const LAST_WORDS: Duration = Duration::from_secs(10);

/// Accepts until shutdown, then lets requests end for a bounded time.
pub(crate) async fn serve(
    listener: TcpListener,
    router: Router,
    config: &ConsoleConfig,
    shutdown: &Shutdown,
) -> anyhow::Result<()> {
    let places = Arc::new(Semaphore::new(config.connections_max));
    let head = Duration::from_millis(config.head_ms);
    let mut connections = JoinSet::new();
    loop {
        let place = tokio::select! {
            place = Arc::clone(&places).acquire_owned() => place?,
            () = shutdown.wait() => break,
        };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next() => continue,
            () = shutdown.wait() => break,
        };
        match accepted {
            Ok((stream, peer)) => {
                let (router, shutdown) = (router.clone(), shutdown.clone());
                connections.spawn(async move {
                    let _place = place;
                    connection(stream, Peer(peer), router, head, &shutdown).await;
                });
            }
            Err(error) => {
                tracing::warn!(%error, "accepting a connection of the admin API failed; trying again");
                tokio::time::sleep(FAILED_PAUSE).await;
            }
        }
    }
    drop(listener);
    let ended = tokio::time::timeout(LAST_WORDS, async { while connections.join_next().await.is_some() {} });
    if ended.await.is_err() {
        tracing::warn!(connections = connections.len(), "connections of the admin API were cut off");
    }
    Ok(())
}

async fn connection(stream: TcpStream, peer: Peer, router: Router, head: Duration, shutdown: &Shutdown) {
    let _ = stream.set_nodelay(true);
    let with_peer = tower(router, peer);
    let mut connection = std::pin::pin!(
        hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(head)
            .max_buf_size(64 << 10)
            .serve_connection(TokioIo::new(stream), with_peer)
    );
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = shutdown.wait() => {
            connection.as_mut().graceful_shutdown();
            connection.as_mut().await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, peer = %peer.0, "a connection of the admin API broke");
    }
}

/// The router, told where its requests come from.
fn tower(
    router: Router,
    peer: Peer,
) -> impl hyper::service::Service<
    Request<Incoming>,
    Response = axum::response::Response,
    Error = std::convert::Infallible,
    Future: Send,
> {
    let router = TowerToHyperService::new(router);
    hyper::service::service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(peer);
        hyper::service::Service::call(&router, request)
    })
}
