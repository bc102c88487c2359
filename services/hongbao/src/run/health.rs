//! The HTTP port that every process apart has: `/health` for whoever restarts processes, `/metrics`, and what
//! operators and vendors reach (`/admin/...`, `/callbacks/vendor`), as far as the process has the role for it.
//!
//! Not for players, and to be reached from the installation's own network only. Bounds: connections, bodies, and the
//! time a request's head may take.

use crate::admin::Admin;
use anyhow::Context as _;
use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use parking_lot::RwLock;
use runtime::{Metrics, TaskKind, Tasks};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

/// Connections at once; further ones wait.
const CONNECTIONS_MAX: usize = 128;
/// Largest body: a vendor's callback, a thousand award ids.
const BODY_MAX: usize = 64 * 1024;
/// How long a request's head may take.
const HEAD: Duration = Duration::from_secs(10);
/// After an accept that failed: no more file descriptors, most likely.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What `/health` says: nothing is wrong, or what is.
pub type Condition = Arc<RwLock<Option<String>>>;

/// The port's answers.
pub struct Health {
    admin: Admin,
    metrics: Metrics,
    condition: Condition,
}

impl Health {
    /// Answers for these roles.
    pub fn new(admin: Admin, metrics: Metrics, condition: Condition) -> Arc<Health> {
        Arc::new(Health { admin, metrics, condition })
    }

    /// Binds the port and serves it until the tasks end; the address.
    ///
    /// # Errors
    /// When the address can't be had.
    pub async fn open(self: Arc<Self>, at: SocketAddr, tasks: &Tasks) -> anyhow::Result<SocketAddr> {
        let listener =
            TcpListener::bind(at).await.with_context(|| format!("listening on {at} (cluster.http)"))?;
        let address = listener.local_addr()?;
        let (stop, set) = (tasks.shutdown().clone(), tasks.clone());
        tasks.spawn("health", TaskKind::Service, async move {
            let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
            loop {
                let Ok(place) = Arc::clone(&room).acquire_owned().await else { return Ok(()) };
                let accepted = tokio::select! {
                    accepted = listener.accept() => accepted,
                    () = stop.wait() => return Ok(()),
                };
                let Ok((stream, _)) = accepted else {
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                };
                let (health, stop) = (Arc::clone(&self), stop.clone());
                set.spawn("health connection", TaskKind::BestEffort, async move {
                    tokio::select! { () = health.connection(stream) => {}, () = stop.wait() => {} }
                    drop(place);
                    Ok(())
                });
            }
        });
        Ok(address)
    }

    async fn connection(self: Arc<Self>, stream: TcpStream) {
        let service = service_fn(|request| {
            let health = Arc::clone(&self);
            async move { Ok::<_, Infallible>(health.answer(request).await) }
        });
        let mut http = hyper::server::conn::http1::Builder::new();
        http.timer(TokioTimer::new()).header_read_timeout(HEAD);
        if let Err(error) = http.serve_connection(TokioIo::new(stream), service).await {
            tracing::debug!(%error, "a connection to the health port ended");
        }
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let (head, body) = request.into_parts();
        match (&head.method, head.uri.path()) {
            (&Method::GET, "/health") => match self.condition.read().clone() {
                None => respond(StatusCode::OK, "text/plain", "well\n".into()),
                Some(what) => respond(StatusCode::SERVICE_UNAVAILABLE, "text/plain", what + "\n"),
            },
            (&Method::GET, "/metrics") => {
                respond(StatusCode::OK, "text/plain; version=0.0.4", self.metrics.render())
            }
            (method, path) => {
                let Ok(body) = Limited::new(body, BODY_MAX).collect().await else {
                    let text = format!(
                        "{{\"error\":\"the body can't be read, or has more than {BODY_MAX} bytes\"}}"
                    );
                    return respond(StatusCode::PAYLOAD_TOO_LARGE, "application/json", text);
                };
                let (status, value) = self.admin.answer(method, path, &head.headers, body.to_bytes()).await;
                let text = if value.is_null() { String::new() } else { value.to_string() };
                respond(status, "application/json", text)
            }
        }
    }
}

fn respond(status: StatusCode, kind: &'static str, text: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}
