//! The calls: which path does what, in which order a call is checked, and where its faults strike.
//!
//! A payout call is counted by its stamp first, then meets the outage of the moment; then body, signature, shape and
//! capacity are checked; then its own fault strikes, before or after the books. Nothing is taken before all checks.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::body::{Frame, Incoming, SizeHint};
use hyper::header::{self, HeaderValue};
use hyper::{HeaderMap, Method, Request, Response, StatusCode};

use crate::config::OutageMode;
use crate::faults::{AttemptFault, outage};
use crate::payout::Id;
use crate::statement::{Question, Statement};
use crate::vendor::{LateAccept, Sim, Vendor};
use crate::wire::{self, BODY_MAX, Refusal};

/// The sender's monotonic clock at sending, ns.
pub const STAMP: &str = "x-hb-send-ns";
/// Time for a body to come in.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// The connection is closed without an answer.
#[derive(Debug, thiserror::Error)]
#[error("closed without an answer, as configured")]
pub struct Close;

/// Why a call ends early.
enum Stop {
    Refuse(Refusal),
    Close,
}

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Self {
        Self::Refuse(refusal)
    }
}

/// What goes back: bytes at hand, or a statement.
pub enum Body {
    /// Taken when sent.
    Full(Option<Bytes>),
    /// Made as it is sent.
    Statement(Box<Statement>),
}

impl hyper::body::Body for Body {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let next = match &mut *self {
            Self::Full(bytes) => bytes.take(),
            Self::Statement(statement) => statement.next_chunk(),
        };
        Poll::Ready(next.map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Full(None))
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Full(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |b| b.len() as u64)),
            Self::Statement(_) => SizeHint::default(),
        }
    }
}

type Reply = Result<Response<Body>, Stop>;

/// Answers one call, or closes its connection.
pub async fn handle(
    sim: Arc<Sim>,
    peer: SocketAddr,
    request: Request<Incoming>,
) -> Result<Response<Body>, Close> {
    match route(&sim, peer, request).await {
        Ok(response) => Ok(response),
        Err(Stop::Refuse(refusal)) => Ok(refusal_response(&refusal)),
        Err(Stop::Close) => Err(Close),
    }
}

async fn route(sim: &Arc<Sim>, peer: SocketAddr, request: Request<Incoming>) -> Reply {
    let uri = request.uri().clone();
    let mut parts = uri.path().trim_start_matches('/').splitn(5, '/');
    let path: [Option<&str>; 5] = std::array::from_fn(|_| parts.next());
    let (get, post) = (request.method() == Method::GET, request.method() == Method::POST);
    match path {
        [Some("v"), Some(id), Some(what), number, None] => {
            let (place, vendor) = sim.find(id.parse().map_err(|_| Refusal::NoVendor)?)?;
            match (what, number) {
                ("payouts", None) if post => pay(sim, place, vendor, request).await,
                ("payouts", Some(number)) if get => ask(sim, vendor, number, request).await,
                ("accounts", None) if post => register(sim, vendor, request).await,
                ("statement", None) if get => {
                    statement(sim, vendor, uri.query().unwrap_or(""), request).await
                }
                ("payouts", _) | ("accounts" | "statement", None) => Err(Refusal::BadMethod.into()),
                _ => Err(Refusal::NoPath.into()),
            }
        }
        [Some("health"), None, ..] if get => {
            Ok(json(format!("{{\"status\":\"ok\",\"uptime_ms\":{}}}", sim.uptime_ms()).into_bytes()))
        }
        [Some("stats"), None, ..] if get => {
            loopback_only(peer)?;
            let sim = sim.clone();
            let body = tokio::task::spawn_blocking(move || crate::stats::body(&sim)).await;
            Ok(json(body.map_err(|_| Refusal::Internal)?))
        }
        [Some("admin"), Some("vendors"), Some(id), Some("faults"), None] if get || post => {
            loopback_only(peer)?;
            let (_, vendor) = sim.find(id.parse().map_err(|_| Refusal::NoVendor)?)?;
            admin(vendor, post, request).await
        }
        [Some("health" | "stats"), None, ..]
        | [Some("admin"), Some("vendors"), Some(_), Some("faults"), None] => Err(Refusal::BadMethod.into()),
        _ => Err(Refusal::NoPath.into()),
    }
}

async fn pay(sim: &Arc<Sim>, place: usize, vendor: &Vendor, request: Request<Incoming>) -> Reply {
    let live = vendor.live();
    let uptime_ns = u64::try_from(sim.clock.uptime().as_nanos()).unwrap_or(u64::MAX);
    vendor.counters.payout_calls.up();
    {
        let stamp = request.headers().get(STAMP).and_then(|v| v.to_str().ok()).and_then(|v| v.parse().ok());
        let mut meters = vendor.meters.lock();
        meters.stamps.record(stamp);
        meters.arrivals.record(uptime_ns, live.limit_per_second);
    }
    meet_outage(sim, vendor).await?;
    let (headers, body) = signed_body(sim, vendor, request).await?;
    let order = wire::parse_order(&body).map_err(|e| bad_request(vendor, e))?;
    let (named, attempt) = message_id(vendor, &headers)?;
    if named != order.number.as_str() {
        return Err(bad_request(vendor, other_id()));
    }
    let taken = vendor.meters.lock().payouts.take(uptime_ns, live.capacity_per_second, live.burst_ms);
    over_capacity(vendor, taken)?;
    let number = order.number;
    let fault = vendor.dice.attempt(&live, number.as_str(), attempt);
    match fault {
        AttemptFault::TimeoutBefore => {
            vendor.counters.timeouts_before.up();
            return hang(live.hang_ms).await;
        }
        AttemptFault::ErrorBefore => {
            vendor.counters.errors_before.up();
            return Err(Refusal::Internal.into());
        }
        AttemptFault::TimeoutAfter { accept_delay_ms } if accept_delay_ms > 0 => {
            vendor.counters.timeouts_after.up();
            let due_ms = sim.clock.now_ms() + accept_delay_ms;
            if sim.late_accepts.push(due_ms, LateAccept { vendor: place, body }).is_err() {
                let _ = sim.take(place, order, &live); // its own refusals change nothing: no answer comes
            }
            return hang(live.hang_ms).await;
        }
        _ => {}
    }
    let result = sim.take(place, order, &live);
    match fault {
        AttemptFault::TimeoutAfter { .. } => {
            vendor.counters.timeouts_after.up();
            return hang(live.hang_ms).await;
        }
        AttemptFault::ErrorAfter => {
            vendor.counters.errors_after.up();
            return Err(Refusal::Internal.into());
        }
        _ => {}
    }
    wait(vendor.dice.latency_ms(&live, number.as_str(), attempt)).await;
    match result {
        Ok((_, answer)) => Ok(json(answer)),
        Err(refusal) => {
            match refusal {
                Refusal::Mismatch => vendor.counters.mismatches.up(),
                Refusal::NoAccount => vendor.counters.no_account.up(),
                Refusal::Refused => vendor.counters.refused.up(),
                _ => {}
            }
            Err(refusal.into())
        }
    }
}

async fn ask(sim: &Sim, vendor: &Vendor, number: &str, request: Request<Incoming>) -> Reply {
    let live = vendor.live();
    let uptime_ns = u64::try_from(sim.clock.uptime().as_nanos()).unwrap_or(u64::MAX);
    vendor.counters.queries.up();
    meet_outage(sim, vendor).await?;
    let (headers, _) = signed_body(sim, vendor, request).await?;
    let (named, attempt) = message_id(vendor, &headers)?;
    if named != number {
        return Err(bad_request(vendor, other_id()));
    }
    let taken = vendor.meters.lock().queries.take(uptime_ns, live.query_capacity_per_second, live.burst_ms);
    over_capacity(vendor, taken)?;
    let wrong = || Refusal::BadRequest("a number is 1-32 ASCII letters and digits".into());
    let id = Id::parse(number).ok_or_else(|| bad_request(vendor, wrong()))?;
    match vendor.dice.query(&live, number, attempt) {
        AttemptFault::None => {}
        fault => {
            vendor.counters.query_faults.up();
            if fault == AttemptFault::TimeoutBefore {
                return hang(live.hang_ms).await;
            }
            return Err(Refusal::Internal.into());
        }
    }
    let answer = {
        let book = vendor.book.lock();
        let now_ms = sim.clock.now_ms();
        book.find(&id).map(|index| {
            let payout = book.payout(index);
            wire::payout_answer(vendor.id, index, payout, now_ms, &live.unfamiliar_status, false)
        })
    };
    wait(vendor.dice.latency_ms(&live, number, attempt)).await;
    if answer.is_none() {
        vendor.counters.queries_not_found.up();
    }
    Ok(json(answer.ok_or(Refusal::NotFound)?))
}

async fn register(sim: &Sim, vendor: &Vendor, request: Request<Incoming>) -> Reply {
    let (headers, body) = signed_body(sim, vendor, request).await?;
    begins_with(vendor, &headers, "account_")?;
    let payee = wire::parse_account(&body).map_err(|e| bad_request(vendor, e))?;
    vendor.book.lock().register(&payee)?;
    Ok(json(wire::json(&serde_json::json!({ "payee": payee, "registered": true }))))
}

async fn statement(sim: &Sim, vendor: &Vendor, query: &str, request: Request<Incoming>) -> Reply {
    let (headers, _) = signed_body(sim, vendor, request).await?;
    let question = Question::parse(query, sim.clock.now_ms())?;
    begins_with(vendor, &headers, &format!("statement_{}_{}_", question.from_ms, question.to_ms))?;
    let permit = vendor.statements.clone().try_acquire_owned();
    let permit = permit.map_err(|_| Refusal::OverCapacity { wait_ms: 1000 })?;
    vendor.counters.statements.up();
    let (id, book) = (vendor.id, vendor.book.clone());
    let prepared = tokio::task::spawn_blocking(move || Statement::prepare(id, book, question, Some(permit)));
    let statement = prepared.await.map_err(|_| Refusal::Internal)?;
    let mut response = Response::new(Body::Statement(Box::new(statement)));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/csv; charset=utf-8"));
    Ok(response)
}

async fn admin(vendor: &Vendor, change: bool, request: Request<Incoming>) -> Reply {
    let mut live = vendor.live();
    if change {
        let body = read_body(request.into_body()).await?;
        let change = serde_json::from_slice(&body).map_err(|e| Refusal::BadRequest(e.to_string()))?;
        live = vendor.change(&change).map_err(|e| Refusal::BadRequest(e.to_string()))?;
        tracing::info!(vendor = vendor.id, %change, "settings changed");
    }
    Ok(json(wire::json(&*live)))
}

async fn meet_outage(sim: &Sim, vendor: &Vendor) -> Result<(), Stop> {
    let live = vendor.live();
    let uptime_ms = sim.uptime_ms();
    let Some(outage) = outage(&live, uptime_ms) else { return Ok(()) };
    vendor.counters.outage_hits.up();
    match outage.mode {
        OutageMode::Refuse => Err(Stop::Close),
        OutageMode::Error => Err(Refusal::Outage.into()),
        OutageMode::Hang => {
            wait((outage.to_ms - uptime_ms).min(u64::from(live.hang_ms))).await;
            Err(Stop::Close)
        }
    }
}

/// Reads the body and checks who sent it.
async fn signed_body(
    sim: &Sim,
    vendor: &Vendor,
    request: Request<Incoming>,
) -> Result<(HeaderMap, Bytes), Stop> {
    let (parts, body) = request.into_parts();
    let body = read_body(body).await.inspect_err(|_| vendor.counters.bad_requests.up())?;
    if let Err(error) = vendor.signer.verify(&parts.headers, &body, sim.clock.now_ms() / 1000) {
        vendor.counters.bad_signatures.up();
        return Err(Refusal::BadSignature(error).into());
    }
    Ok((parts.headers, body))
}

async fn read_body(body: Incoming) -> Result<Bytes, Stop> {
    let read = Limited::new(body, BODY_MAX).collect();
    match tokio::time::timeout(BODY_TIMEOUT, read).await {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(Refusal::BodyTooLarge.into()),
        _ => Err(Stop::Close),
    }
}

fn id_text(headers: &HeaderMap) -> &str {
    headers.get(crate::sign::ID).and_then(|v| v.to_str().ok()).unwrap_or("")
}

fn message_id<'h>(vendor: &Vendor, headers: &'h HeaderMap) -> Result<(&'h str, u64), Stop> {
    wire::parse_message_id(id_text(headers)).map_err(|e| bad_request(vendor, e))
}

fn begins_with(vendor: &Vendor, headers: &HeaderMap, prefix: &str) -> Result<(), Stop> {
    if id_text(headers).starts_with(prefix) {
        return Ok(());
    }
    Err(bad_request(
        vendor,
        Refusal::BadRequest(format!("webhook-id must begin with {prefix:?} for this call")),
    ))
}

fn other_id() -> Refusal {
    Refusal::BadRequest("webhook-id names another number than the call".into())
}

fn bad_request(vendor: &Vendor, refusal: Refusal) -> Stop {
    vendor.counters.bad_requests.up();
    refusal.into()
}

fn over_capacity(vendor: &Vendor, taken: Result<(), u64>) -> Result<(), Stop> {
    taken.map_err(|wait_ns| {
        vendor.counters.over_capacity.up();
        Refusal::OverCapacity { wait_ms: wait_ns.div_ceil(1_000_000) }.into()
    })
}

fn loopback_only(peer: SocketAddr) -> Result<(), Refusal> {
    if peer.ip().to_canonical().is_loopback() { Ok(()) } else { Err(Refusal::NotLoopback) }
}

async fn wait(ms: u64) {
    if ms > 0 {
        tokio::time::sleep(Duration::from_millis(ms)).await;
    }
}

async fn hang(ms: u32) -> Reply {
    wait(u64::from(ms)).await;
    Err(Stop::Close)
}

fn json(body: Vec<u8>) -> Response<Body> {
    let mut response = Response::new(Body::Full(Some(body.into())));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

fn refusal_response(refusal: &Refusal) -> Response<Body> {
    let mut response = json(refusal.body());
    let (status, _) = refusal.status_and_code();
    *response.status_mut() = status;
    if let Some(ms) = refusal.retry_after_ms() {
        debug_assert_eq!(status, StatusCode::TOO_MANY_REQUESTS);
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(ms.div_ceil(1000)));
    }
    response
}
