//! `GET /v1/scheduler`: which front door a client should use. No token is needed; addresses are limited like all of HTTP.

use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use protocol::error::Code;
use protocol::v1;
use serde::Serialize;

use super::body::{Body, text};
use super::service::{Answered, HttpService};
use crate::shared::Shared;

/// Longest name of a region.
const REGION_MAX: usize = 64;

/// The answer.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Scheduled {
    /// Number of the node.
    node: u16,
    /// `host:port` for frames.
    #[serde(skip_serializing_if = "String::is_empty")]
    tcp: String,
    /// URL for WebSockets.
    #[serde(skip_serializing_if = "String::is_empty")]
    websocket: String,
    /// Where the node stands.
    region: String,
    /// For how long the answer may be used.
    ttl_ms: u32,
}

impl HttpService {
    pub(super) fn scheduler(&self, request: &Request<Incoming>) -> Answered {
        let (user, region) = query(request.uri().query().unwrap_or_default())?;
        let scheduled = schedule(&self.worker.shared, user, &region).ok_or_else(|| {
            let mut error = Code::Unavailable.message("no access node takes clients just now");
            error.retry_after_ms = 1_000;
            error
        })?;
        let body = serde_json::to_string(&scheduled).unwrap_or_default();
        let mut response: Response<Body> = text(StatusCode::OK, body, "application/json");
        let no_store = http::HeaderValue::from_static("no-store");
        response.headers_mut().insert(http::header::CACHE_CONTROL, no_store);
        Ok(response)
    }
}

/// The node from the list; without a list, this one.
fn schedule(shared: &Shared, user: u64, region: &str) -> Option<Scheduled> {
    let ttl_ms = shared.scheduler_ttl_ms;
    if !shared.nodes.has_list() {
        let public = &shared.public;
        let (tcp, websocket) = (public.tcp.clone(), public.websocket.clone());
        return Some(Scheduled { node: shared.node, tcp, websocket, region: public.region.clone(), ttl_ms });
    }
    let node = shared.nodes.choose(user, region, None)?;
    Some(Scheduled { node: node.node, tcp: node.tcp, websocket: node.websocket, region: node.region, ttl_ms })
}

fn query(query: &str) -> Result<(u64, String), v1::Error> {
    let (mut user, mut region) = (0, String::new());
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let shown: String = value.chars().take(40).collect();
        match name {
            "user" => {
                user = value
                    .parse()
                    .map_err(|_| Code::Invalid.message(format!("user is {shown:?}; it must be a user id")))?;
            }
            "region" => {
                let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
                if value.len() > REGION_MAX || !value.chars().all(plain) {
                    let text = format!(
                        "region is {shown:?}; it must be up to {REGION_MAX} letters, digits, '-', '_' and '.'"
                    );
                    return Err(Code::Invalid.message(text));
                }
                value.clone_into(&mut region);
            }
            _ => {
                let name: String = name.chars().take(40).collect();
                let text = format!("query parameter {name:?} is unknown; there are user and region");
                return Err(Code::Invalid.message(text));
            }
        }
    }
    Ok((user, region))
}

#[cfg(test)]
mod tests {
    use super::query;

    #[test]
    fn queries_are_read_and_mistakes_named() {
        assert_eq!(query("user=7&region=cn-north"), Ok((7, "cn-north".to_owned())));
        assert_eq!(query(""), Ok((0, String::new())));
        assert!(query("user=x").unwrap_err().message.contains("user id"));
        assert!(query("region=a%20b").unwrap_err().message.contains("letters"));
        assert!(query("zone=1").unwrap_err().message.contains("user and region"));
    }
}
