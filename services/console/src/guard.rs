//! What stands in front of all routes: who is it, not too often, not too long, and an answer that is a problem
//! document wherever it refuses. One line in the log for each request; never a token.

use crate::problem::{self, Problem};
use crate::shared::{Rooms, Shared};
use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use futures_util::FutureExt as _;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use quota_config::By;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::panic::AssertUnwindSafe;
use std::time::Duration;

/// Longest token that is looked at.
const TOKEN_BYTES_MAX: usize = 200;

/// Where a request comes from.
#[derive(Clone, Copy)]
pub(crate) struct Peer(pub SocketAddr);

/// Headers of every answer: nothing is cached, framed, sniffed or run.
const HEADERS: [(HeaderName, &str); 5] = [
    (header::CACHE_CONTROL, "no-store"),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'"),
];

pub(crate) async fn guard(State(shared): State<Rooms>, mut request: Request, next: Next) -> Response {
    let begun_ns = shared.clock.mono_ns();
    let method = request.method().clone();
    let path: String = request.uri().path().chars().take(300).collect();
    let (who, response) = match enter(&shared, &mut request) {
        Ok(by) => (by.map(|by| by.name), run(&shared, request, next).await),
        Err(problem) => (None, problem.into_response()),
    };
    let response = finish(response, &method, &path);
    let ms = shared.clock.mono_ns().saturating_sub(begun_ns) / 1_000_000;
    let (who, status) = (who.as_deref().unwrap_or("-"), response.status().as_u16());
    tracing::info!(target: "console::requests", who, %method, path, status, ms, "request");
    response
}

/// Lets a request in; says whose it is.
fn enter(shared: &Shared, request: &mut Request) -> Result<Option<By>, Problem> {
    if ["/openapi.json", "/healthz"].contains(&request.uri().path()) {
        return Ok(None);
    }
    let known = token(request.headers()).and_then(|token| {
        let by = shared.operators.find(token);
        by.ok_or_else(|| Problem::stranger("nobody has this token; it may have been revoked"))
    });
    let by = match known {
        Ok(by) => by,
        Err(problem) => {
            let peer = request.extensions().get::<Peer>();
            let address = peer.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |peer| peer.0.ip());
            shared.floods.stranger(address)?;
            return Err(problem);
        }
    };
    let brakes = ["/pause", "/stop", "/lower"];
    let is_brake =
        request.method() == Method::POST && brakes.iter().any(|b| request.uri().path().ends_with(b));
    if !is_brake {
        shared.floods.operator(&by.name)?;
    }
    request.extensions_mut().insert(by.clone());
    Ok(Some(by))
}

fn token(headers: &HeaderMap) -> Result<&str, Problem> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let value = values
        .next()
        .ok_or_else(|| Problem::stranger("the request has no token; send `Authorization: Bearer TOKEN`"))?;
    let text = value.to_str().ok().filter(|text| text.len() <= TOKEN_BYTES_MAX && values.next().is_none());
    let token = text.and_then(|text| {
        let (scheme, token) = text.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
    });
    token.filter(|token| !token.is_empty()).ok_or_else(|| {
        Problem::stranger("the Authorization header is not understood; send `Authorization: Bearer TOKEN`")
    })
}

async fn run(shared: &Shared, request: Request, next: Next) -> Response {
    let running = AssertUnwindSafe(next.run(request)).catch_unwind();
    match tokio::time::timeout(Duration::from_millis(shared.config.request_ms), running).await {
        Ok(Ok(response)) => response,
        // The panic hook has said where.
        Ok(Err(_)) => Problem::internal("a request ran into a mistake of this program; its log says where")
            .into_response(),
        Err(_) => {
            let ms = shared.config.request_ms;
            Problem::unavailable(format!("the request was not done within {ms} ms")).into_response()
        }
    }
}

/// Makes every refusal a problem document with its path, and adds the headers that all answers have.
fn finish(mut response: Response, method: &Method, path: &str) -> Response {
    let status = response.status();
    if let Some(problem) = response.extensions_mut().remove::<Problem>() {
        write(&mut response, problem, path);
    } else if status.is_client_error() || status.is_server_error() {
        let kind = response.headers().get(header::CONTENT_TYPE);
        if kind.is_none_or(|kind| kind != problem::CONTENT_TYPE) {
            let problem = plain(status, method, path, response.headers());
            write(&mut response, problem, path);
        }
    }
    for (name, value) in HEADERS {
        response.headers_mut().entry(name).or_insert(HeaderValue::from_static(value));
    }
    response
}

fn write(response: &mut Response, mut problem: Problem, path: &str) {
    problem.instance = Some(path.to_string());
    *response.body_mut() = Body::from(problem.to_json());
    response.headers_mut().remove(header::CONTENT_LENGTH);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(problem::CONTENT_TYPE));
}

/// What routes refuse by themselves.
fn plain(status: StatusCode, method: &Method, path: &str, headers: &HeaderMap) -> Problem {
    match status {
        StatusCode::METHOD_NOT_ALLOWED => {
            let allowed = headers.get(header::ALLOW).and_then(|v| v.to_str().ok()).unwrap_or("none");
            let detail = format!("{path} knows no {method}; it knows {allowed}");
            Problem::new(status, "method", "Not this method", detail)
        }
        StatusCode::NOT_FOUND => {
            Problem::not_found(format!("there is no {path}; /openapi.json lists what there is"))
        }
        _ => Problem::new(
            status,
            "refused",
            status.canonical_reason().unwrap_or("Refused"),
            "the request is refused",
        ),
    }
}
