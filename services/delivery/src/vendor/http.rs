//! The signed HTTP adapter: the vendor protocol of `docs/vendor-protocol.md` over HTTP/1.1 with kept connections.
//!
//! Each vendor has a client and connections of its own, at most as many as it may have calls at once, so that one
//! vendor's slow answers take nothing from another. A call that is dropped closes its connection.

use super::sign::{ID, SIGNATURE, Secret, TIMESTAMP};
use super::wire::{self, Reply};
use super::{Believed, Call, CallbackError, Payout, ProtocolError, Question, Vendor};
use crate::core::{Answer, AskAnswer};
use async_trait::async_trait;
use bytes::Bytes;
use campaign::VendorId;
use http::{HeaderMap, Method, Request, Uri, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use std::time::Duration;

/// Header with the stamp of a send, monotonic ns.
pub const SEND_NS: &str = "x-hb-send-ns";
/// Longest answer that is read.
const ANSWER_MAX: usize = 64 * 1024;

pub use super::wire::vendor_named_by;

/// Why an adapter can't be made.
#[derive(Debug, thiserror::Error)]
pub enum HttpVendorError {
    /// The base address is no `http://host:port`.
    #[error("base_url `{0}` is not of the form http://host:port; TLS is ended by a proxy before the vendor")]
    BaseUrl(String),
}

/// See the module.
#[derive(Debug)]
pub struct HttpVendor {
    client: Client<HttpConnector, Full<Bytes>>,
    payouts: String,
    secret: Secret,
}

struct Heard {
    status: u16,
    retry_after_ms: u64,
    body: Bytes,
}

impl HttpVendor {
    /// An adapter for vendor `id` at `base_url`, which keeps at most `connections` open.
    ///
    /// # Errors
    /// When the address is not one.
    pub fn new(
        id: VendorId,
        base_url: &str,
        secret: Secret,
        connections: usize,
    ) -> Result<HttpVendor, HttpVendorError> {
        let wrong = || HttpVendorError::BaseUrl(base_url.to_owned());
        let base = base_url.trim_end_matches('/');
        let uri: Uri = base.parse().map_err(|_| wrong())?;
        if uri.scheme_str() != Some("http") || uri.host().is_none() || uri.query().is_some() {
            return Err(wrong());
        }
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(Duration::from_secs(5)));
        let client = Client::builder(TokioExecutor::new())
            .pool_max_idle_per_host(connections.max(1))
            .pool_idle_timeout(Duration::from_secs(30))
            .pool_timer(TokioTimer::new())
            .build(connector);
        Ok(HttpVendor { client, payouts: format!("{base}/v/{id}/payouts"), secret })
    }

    async fn call(
        &self,
        method: Method,
        url: String,
        id: String,
        now_ms: u64,
        send_ns: Option<u64>,
        body: Bytes,
    ) -> Result<Heard, String> {
        let now_s = now_ms / 1_000;
        let mut request = Request::builder()
            .method(method)
            .uri(url)
            .header(ID, id.as_str())
            .header(TIMESTAMP, now_s)
            .header(SIGNATURE, self.secret.sign(&id, now_s, &body));
        if let Some(send_ns) = send_ns {
            request = request.header(header::CONTENT_TYPE, "application/json").header(SEND_NS, send_ns);
        }
        let request = request.body(Full::new(body)).map_err(|error| error.to_string())?;
        let answer = self.client.request(request).await.map_err(|error| format!("no answer: {error}"))?;
        let (head, body) = answer.into_parts();
        let body = Limited::new(body, ANSWER_MAX).collect().await;
        let body = body.map_err(|error| format!("the answer broke off: {error}"))?.to_bytes();
        Ok(Heard { status: head.status.as_u16(), retry_after_ms: retry_after_ms(&head.headers), body })
    }
}

/// `Retry-After` in whole seconds; a date, or none, is 0.
fn retry_after_ms(headers: &HeaderMap) -> u64 {
    let seconds = headers.get(header::RETRY_AFTER).and_then(|v| v.to_str().ok()?.parse::<u64>().ok());
    seconds.unwrap_or(0).saturating_mul(1_000)
}

impl Heard {
    fn reply(&self) -> Reply<'_> {
        Reply { status: self.status, retry_after_ms: self.retry_after_ms, body: &self.body }
    }
}

#[async_trait]
impl Vendor for HttpVendor {
    fn body(&self, payout: &Payout) -> Result<Vec<u8>, ProtocolError> {
        wire::pay_body(payout)
    }

    async fn submit(&self, call: Call) -> Answer {
        let id = format!("{}_{}", call.number, call.attempt);
        let url = self.payouts.clone();
        let heard = self.call(Method::POST, url, id, call.now_ms, Some(call.send_ns), call.body.into()).await;
        match heard {
            Ok(heard) => wire::answer(&heard.reply(), &call.number, call.fen),
            // Refused connections too: something between us may have taken the call and lost its answer.
            Err(note) => Answer::Unknown { note },
        }
    }

    async fn query(&self, question: Question) -> AskAnswer {
        let id = format!("{}_{}", question.number, question.ask);
        let url = format!("{}/{}", self.payouts, question.number);
        match self.call(Method::GET, url, id, question.now_ms, None, Bytes::new()).await {
            Ok(heard) => wire::ask_answer(&heard.reply(), &question.number, question.fen),
            Err(note) => AskAnswer::NoAnswer { note, retry_after_ms: 0 },
        }
    }

    fn callback(&self, headers: &HeaderMap, body: &[u8], now_ms: u64) -> Result<Believed, CallbackError> {
        self.secret.verify(headers, body, now_ms)?;
        Ok(wire::callback(body)?)
    }
}
