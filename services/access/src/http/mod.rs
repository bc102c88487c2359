//! HTTP/1.1 on the workers: the same messages as Protobuf or JSON bodies.
//!
//! Each connection lives on one worker, like a frame connection, and is looked after by the same table. A request is
//! proved (mostly from the worker's cache of tokens), its body becomes the message, and from there on there is one
//! way for all forms. Paths that the front door does not know may belong to others ([`HttpExtra`]): the binary mounts
//! vendor callbacks and admin pages that way.

mod body;
mod fast;
mod service;

use std::future::Future;
use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;

use http::{Method, Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::counters::Count;
use crate::worker::Worker;

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

/// A connection's place in the worker's table, given back at its end.
struct Place {
    worker: Arc<Worker>,
    place: u32,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.worker.closed(self.place);
    }
}

/// The task of an HTTP connection.
pub(crate) fn serve(
    worker: &Arc<Worker>,
    stream: TcpStream,
    peer: IpAddr,
) -> impl Future<Output = ()> + Send + use<> {
    let deadline_ms = worker.shared.mono_ms() + u64::from(worker.shared.limits.silence_ms);
    let place = worker.state.lock().slots.open(deadline_ms, Count::Silent);
    let place = Place { worker: Arc::clone(worker), place };
    let service = HttpService::new(Arc::clone(worker), peer, place.place);
    async move {
        let connection = http1::Builder::new()
            .max_buf_size(BUFFER_MAX)
            .pipeline_flush(true)
            .serve_connection(TokioIo::new(stream), service);
        let mut connection = pin!(connection);
        let mut leaving = false;
        std::future::poll_fn(|cx| {
            {
                let mut state = place.worker.state.lock();
                state.slots.wake_with(place.place, cx.waker());
                if let Some(why) = state.slots.is_cut(place.place) {
                    state.desk.counters().add(why, 1);
                    return Poll::Ready(());
                }
            }
            if place.worker.is_draining() && !leaving {
                leaving = true;
                connection.as_mut().graceful_shutdown();
            }
            // What went wrong on a connection is the peer's affair; hyper has answered what could be answered.
            connection.as_mut().poll(cx).map(|_| ())
        })
        .await;
    }
}
