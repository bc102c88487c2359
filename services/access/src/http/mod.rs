//! HTTP/1.1 on the workers: the same messages as Protobuf or JSON bodies.
//!
//! Each connection lives on one worker, like a frame connection, and is looked after by the same table. A request is
//! proved (mostly from the worker's cache of tokens), its body becomes the message, and from there on there is one
//! way for all forms. Paths that the front door does not know may belong to others ([`HttpExtra`]): the binary mounts
//! vendor callbacks and admin pages that way.

mod body;
mod chat;
mod fast;
mod openapi;
mod routes;
mod scheduler;
mod service;

use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;

use http::{Method, Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::AsyncWrite as _;

use crate::connection::Connection;
use crate::counters::Count;
use crate::stream::Stream;
use crate::worker::Place;

pub use body::Body;
use service::HttpService;

/// Routes of others, mounted by whoever composes the process. Called on the worker's thread: must not block.
pub trait HttpExtra: Send + Sync {
    /// Whether it answers for this.
    fn wants(&self, method: &Method, path: &str) -> bool;

    /// Answers. Reading the body within a bound is its own matter.
    fn handle(
        &self,
        request: Request<Incoming>,
        peer: IpAddr,
    ) -> Pin<Box<dyn Future<Output = Response<Body>> + Send>>;
}

/// Room for a request's head; bodies are read piece by piece.
const BUFFER_MAX: usize = 32 * 1024;

/// The task of an HTTP connection. When it becomes a WebSocket, a task of its own goes on with it, because what HTTP
/// needs is many times what a frame connection does.
pub(crate) fn serve(place: Place, stream: Stream, peer: IpAddr) -> impl Future<Output = ()> + Send + use<> {
    let worker = Arc::clone(place.worker());
    let upgraded = Arc::new(AtomicBool::new(false));
    let service = HttpService::new(Arc::clone(&worker), peer, place.number(), Arc::clone(&upgraded));
    async move {
        let mut connection = http1::Builder::new()
            .max_buf_size(BUFFER_MAX)
            .pipeline_flush(true)
            .serve_connection(TokioIo::new(stream), service);
        let mut leaving = false;
        std::future::poll_fn(|cx| {
            {
                let mut state = worker.state.lock();
                state.slots.wake_with(place.number(), cx.waker());
                if let Some(why) = state.slots.is_cut(place.number()) {
                    state.desk.counters().add(why, 1);
                    return Poll::Ready(());
                }
            }
            if worker.is_leaving() && !leaving {
                leaving = true;
                Pin::new(&mut connection).graceful_shutdown();
            }
            // What went wrong on a connection is the peer's affair; hyper has answered what could be answered.
            connection.poll_without_shutdown(cx).map(|_| ())
        })
        .await;
        let parts = connection.into_parts();
        let mut stream = parts.io.into_inner();
        if !upgraded.load(Ordering::Relaxed) {
            // TLS wants a last word; whoever does not take it at once goes without.
            std::future::poll_fn(|cx| Poll::Ready(Pin::new(&mut stream).poll_shutdown(cx).is_ready())).await;
            return;
        }
        if !parts.read_buf.is_empty() {
            // RFC 6455 has the client wait for the answer, which is not on its way while there is more to read.
            worker.count(Count::Malformed, 1);
            return;
        }
        let login_by_ms = worker.shared.mono_ms() + u64::from(worker.shared.limits.login_ms);
        worker.state.lock().slots.restart(place.number(), login_by_ms, Count::LoginLate);
        worker.count(Count::WebSockets, 1);
        let connection = Connection::websocket(place, stream, peer);
        // The table of slots tracks it, as it does every connection: a bare spawn is not lost.
        drop(tokio::runtime::Handle::current().spawn(connection));
    }
}
