//! A server inside the test: it notes what it is asked, and answers as it is told.

use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::BodyExt as _;
use hyper::body::{Body, Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::sync::oneshot;

/// A request that came.
#[derive(Clone, Debug)]
pub struct Seen {
    pub method: String,
    pub path: String,
    pub query: BTreeMap<String, String>,
    pub token: Option<String>,
    pub key: Option<String>,
    pub content_type: Option<String>,
    pub body: String,
}

impl Seen {
    /// `POST /v1/campaigns`.
    pub fn what(&self) -> String {
        format!("{} {}", self.method, self.path)
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or(Value::Null)
    }

    pub fn is_dry(&self) -> bool {
        self.query.get("dry_run").is_some_and(|value| value == "true")
    }
}

/// How to answer.
#[derive(Clone)]
pub enum Reply {
    Json(u16, Value),
    Text(u16, &'static str, String),
    /// Close the connection after reading the request.
    HangUp,
    /// Send so much of a text, and break off.
    BreakOff(String),
}

/// A problem document.
pub fn problem(status: u16, title: &str, detail: &str) -> Reply {
    let body =
        json!({"type": "about:blank", "title": title, "status": status, "detail": detail, "instance": null});
    Reply::Text(status, "application/problem+json", body.to_string())
}

/// The server; it ends when dropped.
pub struct Fake {
    pub url: String,
    seen: Arc<Mutex<Vec<Seen>>>,
    _end: oneshot::Sender<Infallible>,
}

type Answering = dyn Fn(&Seen, usize) -> Reply + Send + Sync;

impl Fake {
    /// Starts one. `answer` is told the request and how many came before it.
    pub fn start(answer: impl Fn(&Seen, usize) -> Reply + Send + Sync + 'static) -> Fake {
        let (listening, address) = std::sync::mpsc::sync_channel(1);
        let (end, ended) = oneshot::channel();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (noted, answer): (_, Arc<Answering>) = (seen.clone(), Arc::new(answer));
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let listener =
                    tokio::net::TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
                listening.send(listener.local_addr().unwrap()).unwrap();
                tokio::select! {
                    () = serve(listener, noted, answer) => {}
                    _ = ended => {}
                }
            });
        });
        Fake { url: format!("http://{}", address.recv().unwrap()), seen, _end: end }
    }

    /// A server that gives the same answer to everything.
    pub fn always(reply: Reply) -> Fake {
        Fake::start(move |_, _| reply.clone())
    }

    /// What came so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }
}

async fn serve(listener: tokio::net::TcpListener, seen: Arc<Mutex<Vec<Seen>>>, answer: Arc<Answering>) {
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let (socket, _) = listener.accept().await.unwrap();
        let (seen, answer) = (seen.clone(), answer.clone());
        connections.spawn(async move {
            let service = service_fn(|request| one(request, &seen, &answer));
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(socket), service)
                .await;
        });
    }
}

async fn one(
    request: Request<Incoming>,
    all: &Mutex<Vec<Seen>>,
    answer: &Arc<Answering>,
) -> Result<Response<Pieces>, &'static str> {
    let header = |name: &str| request.headers().get(name).and_then(|v| v.to_str().ok()).map(str::to_owned);
    let query = request.uri().query().unwrap_or_default().split('&').filter(|part| !part.is_empty());
    let mut seen = Seen {
        method: request.method().to_string(),
        path: request.uri().path().to_owned(),
        query: query
            .filter_map(|part| part.split_once('='))
            .map(|(k, v)| (k.to_owned(), decoded(v)))
            .collect(),
        token: header("authorization").and_then(|value| value.strip_prefix("Bearer ").map(str::to_owned)),
        key: header("idempotency-key"),
        content_type: header("content-type"),
        body: String::new(),
    };
    let body = request.into_body().collect().await.map_err(|_| "the request broke off")?.to_bytes();
    seen.body = String::from_utf8(body.to_vec()).unwrap();
    let before = {
        let mut all = all.lock().unwrap();
        all.push(seen.clone());
        all.len() - 1
    };
    let (status, kind, pieces) = match answer(&seen, before) {
        Reply::Json(status, value) => (status, "application/json", vec![Ok(value.to_string())]),
        Reply::Text(status, kind, text) => (status, kind, vec![Ok(text)]),
        Reply::BreakOff(text) => (200, "text/csv", vec![Ok(text), Err("broken off")]),
        Reply::HangUp => return Err("hung up"),
    };
    let pieces = pieces.into_iter().map(|piece| piece.map(Bytes::from)).collect();
    Ok(Response::builder().status(status).header("content-type", kind).body(Pieces(pieces)).unwrap())
}

/// A body that comes in pieces and may break off.
struct Pieces(VecDeque<Result<Bytes, &'static str>>);

impl Body for Pieces {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        match self.0.front() {
            // Once more around, so that what came before is flushed.
            Some(Err("broken off")) => {
                self.0[0] = Err("now");
                context.waker().wake_by_ref();
                Poll::Pending
            }
            _ => Poll::Ready(
                self.0.pop_front().map(|piece| piece.map(Frame::data).map_err(std::io::Error::other)),
            ),
        }
    }
}

fn decoded(text: &str) -> String {
    let mut out = Vec::new();
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let hex: Vec<u8> = bytes.by_ref().take(2).collect();
            out.push(u8::from_str_radix(std::str::from_utf8(&hex).unwrap(), 16).unwrap());
        } else {
            out.push(byte);
        }
    }
    String::from_utf8(out).unwrap()
}
