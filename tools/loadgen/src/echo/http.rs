//! The bare HTTP server: hyper with one answer, a runtime on each of its threads, as in the front door.

use std::convert::Infallible;
use std::net::{SocketAddr, TcpListener};
use std::thread::JoinHandle;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use protocol::json;
use protocol::v1::CampaignsAnswer;
use runtime::{SharedClock, Shutdown};
use tokio::sync::mpsc;

use super::{campaign, loss};
use crate::LoadError;

/// Connections on their way to a thread.
const HANDOVER: usize = 256;

/// A running server. It ends when it is dropped.
pub struct HttpEcho {
    address: SocketAddr,
    shutdown: Shutdown,
    threads: Vec<JoinHandle<()>>,
}

impl HttpEcho {
    /// Starts it on a port of the system's choice at loopback, with so many threads and one that accepts.
    ///
    /// # Errors
    /// When it can't listen.
    pub fn start(threads: usize, clock: SharedClock) -> Result<Self, LoadError> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).and_then(|l| l.set_nonblocking(true).map(|()| l));
        let listener = listener.map_err(LoadError::io("listening for the HTTP echo"))?;
        let address = listener.local_addr().map_err(LoadError::io("asking for an address"))?;
        let mut echo = Self { address, shutdown: Shutdown::new(), threads: Vec::new() };
        let mut doors = Vec::new();
        for number in 0..threads.max(1) {
            let (give, take) = mpsc::channel(HANDOVER);
            doors.push(give);
            let (shutdown, clock) = (echo.shutdown.clone(), clock.clone());
            echo.spawn(format!("echo-http-{number}"), move || work(take, &clock, &shutdown))?;
        }
        let shutdown = echo.shutdown.clone();
        echo.spawn("echo-http-door".to_owned(), move || accept(listener, &doors, &shutdown))?;
        Ok(echo)
    }

    fn spawn(
        &mut self,
        name: String,
        run: impl FnOnce() -> std::io::Result<()> + Send + 'static,
    ) -> Result<(), LoadError> {
        // What breaks it shows at the clients.
        let thread = std::thread::Builder::new().name(name).spawn(move || drop(run()));
        self.threads.push(thread.map_err(LoadError::io("starting a thread"))?);
        Ok(())
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for HttpEcho {
    fn drop(&mut self) {
        self.shutdown.request();
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn local() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}

fn accept(
    listener: TcpListener,
    doors: &[mpsc::Sender<std::net::TcpStream>],
    shutdown: &Shutdown,
) -> std::io::Result<()> {
    local()?.block_on(async {
        let listener = tokio::net::TcpListener::from_std(listener)?;
        for door in doors.iter().cycle() {
            let stream = tokio::select! {
                accepted = listener.accept() => accepted?.0.into_std()?,
                () = shutdown.wait() => return Ok(()),
            };
            stream.set_nodelay(true)?;
            if door.send(stream).await.is_err() {
                break;
            }
        }
        Ok(())
    })
}

fn work(
    mut take: mpsc::Receiver<std::net::TcpStream>,
    clock: &SharedClock,
    shutdown: &Shutdown,
) -> std::io::Result<()> {
    let mut answer = Vec::new();
    json::write(&loss(1 << 23), &mut answer);
    let answer = Bytes::from(answer);
    let runtime = local()?;
    runtime.block_on(async {
        loop {
            let stream = tokio::select! {
                stream = take.recv() => stream,
                () = shutdown.wait() => None,
            };
            let Some(stream) = stream else { return Ok(()) };
            let stream = tokio::net::TcpStream::from_std(stream)?;
            let (answer, clock) = (answer.clone(), clock.clone());
            let service = service_fn(move |request| respond(request, answer.clone(), clock.clone()));
            // Connections end with the runtime; nobody waits for them.
            runtime.spawn(
                http1::Builder::new().pipeline_flush(true).serve_connection(TokioIo::new(stream), service),
            );
        }
    })
}

async fn respond(
    request: Request<Incoming>,
    answer: Bytes,
    clock: SharedClock,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let body = if request.uri().path() == "/v1/campaigns" {
        let server_time_ms = clock.now_ms();
        let mut body = Vec::new();
        json::write(
            &CampaignsAnswer { campaigns: vec![campaign(server_time_ms)], server_time_ms },
            &mut body,
        );
        body.into()
    } else {
        // The body is read, as any server must.
        drop(request.into_body().collect().await);
        answer
    };
    let mut response = Response::new(Full::new(body));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(response)
}
