//! JSON over HTTP, as a caller: to the admin port, and to the processes of the demonstration.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use http::{Request, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(3);
/// Longest answer that is read.
const ANSWER_MAX: usize = 4 << 20;

/// A caller.
pub struct Http {
    client: Client<HttpConnector, Full<Bytes>>,
}

impl Http {
    /// A caller.
    pub fn new() -> Http {
        let client = Client::builder(TokioExecutor::new()).build(HttpConnector::new());
        Http { client }
    }

    /// GET, or POST with a body; the answer's JSON. `token`: a bearer token.
    ///
    /// # Errors
    /// When nobody answers in time, or answers something else than 200 and JSON.
    pub async fn call(&self, url: &str, token: Option<&str>, body: Option<&Value>) -> anyhow::Result<Value> {
        let mut request = match body {
            Some(_) => Request::post(url),
            None => Request::get(url),
        };
        if let Some(token) = token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        let body = body.map(Value::to_string).unwrap_or_default();
        let request = request.body(Full::from(body)).with_context(|| format!("a call to {url}"))?;
        let answer = async {
            let (head, body) = self.client.request(request).await?.into_parts();
            let body = Limited::new(body, ANSWER_MAX).collect().await;
            let body = body.map_err(|error| anyhow::anyhow!("the answer broke off: {error}"))?.to_bytes();
            Ok::<_, anyhow::Error>((head.status, body))
        };
        let answer = tokio::time::timeout(PATIENCE, answer).await;
        let (status, body) =
            answer.with_context(|| format!("{url}: no answer in time"))?.with_context(|| url.to_owned())?;
        ensure!(status.is_success(), "{url}: {status}: {}", String::from_utf8_lossy(&body));
        serde_json::from_slice(&body).with_context(|| format!("{url}: the answer is no JSON"))
    }
}
