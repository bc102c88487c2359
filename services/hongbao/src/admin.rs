//! What operators and vendors reach over HTTP beside the players: `/admin/...` with the admin token, and
//! `/callbacks/vendor`, which is signed by the vendor. A process answers for the roles that it has.

use access::{AccessControl, Body, HttpExtra};
use bytes::Bytes;
use campaign::{AwardId, VendorId};
use delivery::Delivery;
use delivery::pace::BreakerState;
use flow::service::handle::FlowHandle;
use http::{HeaderMap, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use lottery::node::Node;
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::{Value, json};
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use tokio::runtime::Handle;

/// Largest body of a request: a thousand award ids.
const BODY_MAX: usize = 64 * 1024;

/// Awards that one redo may name.
const REDO_MAX: usize = 500;

/// The operators' and vendors' side of the HTTP port.
pub struct Admin {
    shared: Arc<Shared>,
    on: Handle,
}

/// How a node of lottery or chat stands, asked at any time.
pub trait NodeView: Send + Sync {
    /// As JSON; null while there is none.
    fn status(&self) -> Value;
}

impl NodeView for Node {
    fn status(&self) -> Value {
        json!(Node::status(self))
    }
}

/// The roles that a process has.
#[derive(Default)]
pub struct AdminParts {
    /// The lottery node.
    pub node: Option<Arc<dyn NodeView>>,
    /// Flow.
    pub flow: Option<FlowHandle>,
    /// Delivery.
    pub delivery: Option<Delivery>,
    /// There may be other nodes that deliver: limits are set at the desk, which reaches all of them.
    pub others_deliver: bool,
    /// The chat node.
    pub chat: Option<Arc<dyn NodeView>>,
    /// The front door's ways to chat nodes in other processes.
    pub ways: Option<Arc<dyn NodeView>>,
}

struct Shared {
    token: String,
    parts: AdminParts,
    access: Mutex<Option<AccessControl>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Hold {
    hold: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Limit {
    vendor: u32,
    per_second: u32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Redo {
    awards: Vec<String>,
}

/// An answer: a status and what it says.
type Answer = (StatusCode, Value);

impl Admin {
    /// Answers on these threads.
    pub fn new(token: String, parts: AdminParts, on: Handle) -> Admin {
        Admin { shared: Arc::new(Shared { token, parts, access: Mutex::new(None) }), on }
    }

    /// Answers a request whose body has been read; the caller serves it on a port of its own.
    pub async fn answer(
        &self,
        method: &Method,
        path: &str,
        headers: &HeaderMap,
        body: Bytes,
    ) -> (StatusCode, Value) {
        self.shared.answer(method, path, headers, body).await
    }

    /// Tells it of the front door, once that is bound.
    pub fn set_access(&self, control: AccessControl) {
        *self.shared.access.lock() = Some(control);
    }
}

impl HttpExtra for Admin {
    fn wants(&self, _method: &Method, path: &str) -> bool {
        path.starts_with("/admin/") || path == "/callbacks/vendor"
    }

    fn handle(
        &self,
        request: Request<Incoming>,
        _peer: IpAddr,
    ) -> Pin<Box<dyn Future<Output = Response<Body>> + Send>> {
        let (shared, on) = (Arc::clone(&self.shared), self.on.clone());
        Box::pin(async move {
            let (head, body) = request.into_parts();
            // Read here, where the connection lives; answered on the platform's own threads.
            let answer = match Limited::new(body, BODY_MAX).collect().await {
                Ok(body) => {
                    let body = body.to_bytes();
                    on.spawn(async move {
                        shared.answer(&head.method, head.uri.path(), &head.headers, body).await
                    })
                    .await
                    .unwrap_or_else(|_| problem(StatusCode::SERVICE_UNAVAILABLE, "the platform is stopping"))
                }
                Err(error) => problem(
                    StatusCode::PAYLOAD_TOO_LARGE,
                    &format!("the body can't be read: {error}; {BODY_MAX} bytes at most"),
                ),
            };
            respond(answer)
        })
    }
}

fn problem(status: StatusCode, what: &str) -> Answer {
    (status, json!({ "error": what }))
}

fn respond((status, value): Answer) -> Response<Body> {
    let body = if value.is_null() { Bytes::new() } else { Bytes::from(value.to_string()) };
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    let json = header::HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}

impl Shared {
    async fn answer(&self, method: &Method, path: &str, headers: &HeaderMap, body: Bytes) -> Answer {
        if path == "/callbacks/vendor" {
            return match (method, &self.parts.delivery) {
                (&Method::POST, Some(delivery)) => {
                    (delivery.handle_callback(headers, &body).await, Value::Null)
                }
                (&Method::POST, None) => {
                    problem(StatusCode::NOT_FOUND, "callbacks go to a process with the role delivery")
                }
                _ => problem(StatusCode::METHOD_NOT_ALLOWED, "callbacks are posted"),
            };
        }
        if !self.may(headers) {
            return problem(
                StatusCode::UNAUTHORIZED,
                "send the admin token: `Authorization: Bearer $(hongbao token admin)`",
            );
        }
        match (method.as_str(), path, &self.parts.delivery) {
            ("GET", "/admin/status", _) => self.status().await,
            ("POST", "/admin/hold", Some(delivery)) => with(&body, |Hold { hold }| {
                delivery.set_hold(hold);
                (StatusCode::OK, json!({ "hold": hold }))
            }),
            ("POST", "/admin/limit", Some(_)) if self.parts.others_deliver => problem(
                StatusCode::CONFLICT,
                "this would change one node of several: set it at the desk, `quotactl vendor-limit VENDOR PER_SECOND`",
            ),
            ("POST", "/admin/limit", Some(delivery)) => with(&body, |l: Limit| {
                if delivery.set_limit(VendorId(l.vendor), l.per_second) {
                    (StatusCode::OK, json!({ "vendor": l.vendor, "per_second": l.per_second }))
                } else {
                    problem(StatusCode::NOT_FOUND, &format!("vendor {} is not configured", l.vendor))
                }
            }),
            ("POST", "/admin/redo", Some(delivery)) => redo(delivery, &body).await,
            (_, "/admin/hold" | "/admin/limit" | "/admin/redo", None) => {
                problem(StatusCode::NOT_FOUND, "this process has no delivery; ask one that has the role")
            }
            _ => problem(
                StatusCode::NOT_FOUND,
                "there are GET /admin/status, POST /admin/hold, POST /admin/limit, POST /admin/redo",
            ),
        }
    }

    fn may(&self, headers: &HeaderMap) -> bool {
        let Some(given) =
            headers.get(header::AUTHORIZATION).and_then(|v| v.as_bytes().strip_prefix(b"Bearer "))
        else {
            return false;
        };
        let wanted = self.token.as_bytes();
        // Constant time in the bytes: fold the differences, look once.
        given.len() == wanted.len() && given.iter().zip(wanted).fold(0u8, |d, (a, b)| d | (a ^ b)) == 0
    }

    async fn status(&self) -> Answer {
        let delivery = match &self.parts.delivery {
            None => Value::Null,
            Some(delivery) => match delivery.status().await {
                Ok(status) => delivery_status(&status),
                Err(error) => return problem(StatusCode::SERVICE_UNAVAILABLE, &error.to_string()),
            },
        };
        let access = self.access.lock().as_ref().map(AccessControl::status);
        let flow = self.parts.flow.as_ref();
        let status = match flow {
            Some(flow) => flow.status().await.ok(),
            None => None,
        };
        (
            StatusCode::OK,
            json!({
                "node": self.parts.node.as_ref().map(|node| node.status()),
                "access": access,
                "chat": self.parts.chat.as_ref().map(|node| node.status()),
                "chat_nodes": self.parts.ways.as_ref().map(|ways| ways.status()),
                "flow": status,
                "statistics": flow.map(|flow| json!(*flow.statistics())),
                "delivery": delivery,
            }),
        )
    }
}

fn delivery_status(status: &delivery::Status) -> Value {
    let vendors: Vec<Value> = status
        .vendors
        .iter()
        .map(|v| {
            let states: serde_json::Map<String, Value> = v
                .counts
                .iter()
                .map(|c| {
                    let name = records::DeliveryState::from_u8(c.state)
                        .map_or("unknown", records::DeliveryState::name);
                    (name.to_owned(), json!(c.orders))
                })
                .collect();
            json!({
                "vendor": v.vendor.0, "name": v.name, "backlog": v.backlog, "oldest_ms": v.oldest_ms,
                "limit_per_second": v.limit_per_second, "rate_per_second": v.rate_per_second,
                "cut_off": v.breaker.is_some_and(|b| b != BreakerState::Closed), "calling": v.calling,
                "delivered": v.delivered, "failed": v.failed, "states": states,
            })
        })
        .collect();
    json!({ "hold": status.hold, "published": status.published, "vendors": vendors })
}

async fn redo(delivery: &Delivery, body: &[u8]) -> Answer {
    let redo: Redo = match serde_json::from_slice(body) {
        Ok(redo) => redo,
        Err(error) => return problem(StatusCode::BAD_REQUEST, &error.to_string()),
    };
    if redo.awards.len() > REDO_MAX {
        return problem(StatusCode::BAD_REQUEST, &format!("at most {REDO_MAX} awards in a call"));
    }
    let mut awards = Vec::with_capacity(redo.awards.len());
    for text in &redo.awards {
        match text.parse::<AwardId>() {
            Ok(award) => awards.push(award),
            Err(error) => return problem(StatusCode::BAD_REQUEST, &format!("'{text}': {error}")),
        }
    }
    match delivery.redo(&awards).await {
        Ok(done) => {
            let done: serde_json::Map<String, Value> =
                done.iter().map(|(award, what)| (award.to_string(), json!(format!("{what:?}")))).collect();
            (StatusCode::OK, json!({ "awards": done }))
        }
        Err(error) => problem(StatusCode::SERVICE_UNAVAILABLE, &error.to_string()),
    }
}

fn with<T: for<'a> Deserialize<'a>>(body: &[u8], act: impl FnOnce(T) -> Answer) -> Answer {
    match serde_json::from_slice(body) {
        Ok(asked) => act(asked),
        Err(error) => problem(StatusCode::BAD_REQUEST, &error.to_string()),
    }
}
