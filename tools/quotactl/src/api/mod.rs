//! The admin API over HTTP: one caller, with a time-out for every try and a bounded number of tries.

pub mod address;
pub mod problem;
mod retry;

use std::io::Write;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;

use crate::failure::Failure;
use address::Address;
use retry::{Ending, wait_ms};

/// Longest answer that is kept in memory. Exports are written as they come and have no such bound.
const ANSWER_BYTES_MAX: usize = 64 << 20;
/// Longest problem document that is read behind the head of an export.
const PROBLEM_BYTES_MAX: usize = 1 << 20;
/// The header of RFC draft "The Idempotency-Key HTTP Header Field".
const IDEMPOTENCY_KEY: &str = "idempotency-key";

/// What a request carries.
#[derive(Clone)]
pub enum Body {
    /// Nothing.
    Empty,
    /// JSON.
    Json(Value),
    /// A campaign file.
    Yaml(Bytes),
}

/// One thing to ask. Asking it again must be harmless: it changes nothing, or it has a key.
#[derive(Clone)]
pub struct Ask {
    /// Method.
    pub method: Method,
    /// Path with query.
    pub path: String,
    /// Body.
    pub body: Body,
    /// The key of a change.
    pub key: Option<String>,
    /// How long an answer may take, where that is longer than usual.
    pub patience: Option<Duration>,
    /// Asked once and not again: somebody asks for a newer answer anyway.
    pub once: bool,
}

impl Ask {
    /// Reads.
    pub fn get(path: impl Into<String>) -> Ask {
        Ask {
            method: Method::GET,
            path: path.into(),
            body: Body::Empty,
            key: None,
            patience: None,
            once: false,
        }
    }

    /// Sends something that changes nothing, unless a key is added.
    pub fn post(path: impl Into<String>, body: Body) -> Ask {
        Ask { method: Method::POST, path: path.into(), body, key: None, patience: None, once: false }
    }

    /// `POST /v1/campaigns`, for messages: the query may be long.
    fn what(&self) -> String {
        format!("{} {}", self.method, self.path.split('?').next().unwrap_or_default())
    }
}

/// An answer of success.
pub struct Answer {
    /// Its body as it came.
    pub body: Bytes,
    what: String,
}

impl Answer {
    /// Its JSON.
    ///
    /// # Errors
    /// When it is none.
    pub fn json(&self) -> Result<Value, Failure> {
        self.read()
    }

    /// Its JSON, as a type.
    ///
    /// # Errors
    /// When it is none, or of another shape.
    pub fn read<T: serde::de::DeserializeOwned>(&self) -> Result<T, Failure> {
        serde_json::from_slice(&self.body).map_err(|error| {
            Failure::Refused(format!(
                "{}: the answer is not what this version of quotactl knows ({error}); `--json` shows it as it is",
                self.what
            ))
        })
    }

    /// Its text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// A caller.
pub struct Api {
    address: Address,
    token: Option<HeaderValue>,
    client: Client<HttpConnector, Full<Bytes>>,
    patience: Duration,
}

impl Api {
    /// A caller of one server. `patience`: how long one try may take.
    ///
    /// # Errors
    /// When the token has bytes that no token has.
    pub fn new(address: Address, token: Option<&str>, patience: Duration) -> Result<Api, Failure> {
        let token = token.map(|token| HeaderValue::try_from(format!("Bearer {token}"))).transpose();
        let mut token = token.map_err(|_| {
            Failure::Usage(
                "the token has characters that no token has; give it again: `quotactl login`".into(),
            )
        })?;
        if let Some(token) = &mut token {
            token.set_sensitive(true);
        }
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(patience));
        let client = Client::builder(TokioExecutor::new()).build(connector);
        Ok(Api { address, token, client, patience })
    }

    /// The server's address.
    pub fn server(&self) -> String {
        self.address.to_string()
    }

    /// Asks until there is an answer that stands. `file`: what to call the campaign file in its errors.
    ///
    /// # Errors
    /// When nobody answers, or the answer is none of success.
    pub async fn ask(&self, ask: &Ask, file: Option<&str>) -> Result<Answer, Failure> {
        let mut tries = 1;
        loop {
            let patience = ask.patience.map_or(self.patience, |longer| longer.max(self.patience));
            let tried = tokio::time::timeout(patience, self.once(ask)).await;
            let tried = tried.unwrap_or_else(|_| Err(format!("no answer in {} s", patience.as_secs())));
            let ending = match &tried {
                Ok((head, _)) => Ending::Answered(head.status, head.retry_after_s),
                Err(_) => Ending::Broken,
            };
            if let Some(wait_ms) = wait_ms(ending, tries, random()?).filter(|_| !ask.once) {
                tokio::time::sleep(Duration::from_millis(wait_ms)).await;
                tries += 1;
                continue;
            }
            return match tried {
                Ok((head, body)) if head.status.is_success() => Ok(Answer { body, what: ask.what() }),
                Ok((head, body)) => Err(problem::failure(head.status, body, &ask.what(), file)),
                Err(why) => Err(self.unreachable(ask, &why, tries)),
            };
        }
    }

    async fn once(&self, ask: &Ask) -> Result<(Head, Bytes), String> {
        let answer = self.send(ask).await?;
        let head = Head::of(&answer);
        let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect().await;
        let body = body.map_err(|error| format!("the answer broke off: {error}"))?;
        Ok((head, body.to_bytes()))
    }

    async fn send(&self, ask: &Ask) -> Result<Response<Incoming>, String> {
        let mut request = Request::builder().method(&ask.method).uri(self.address.with(&ask.path));
        if let Some(token) = &self.token {
            request = request.header(header::AUTHORIZATION, token);
        }
        if let Some(key) = &ask.key {
            request = request.header(IDEMPOTENCY_KEY, key);
        }
        let (kind, body) = match &ask.body {
            Body::Empty => (None, Bytes::new()),
            Body::Json(value) => (Some("application/json"), value.to_string().into()),
            Body::Yaml(source) => (Some("text/yaml"), source.clone()),
        };
        if let Some(kind) = kind {
            request = request.header(header::CONTENT_TYPE, kind);
        }
        let request = request.body(Full::from(body)).map_err(|error| error.to_string())?;
        self.client.request(request).await.map_err(|error| innermost(&error))
    }

    /// Writes an answer as it comes; how many bytes it had.
    ///
    /// # Errors
    /// As [`Api::ask`]; when the answer breaks off, or what comes can't be written.
    pub async fn download(&self, ask: &Ask, to: &mut dyn Write) -> Result<u64, Failure> {
        let what = ask.what();
        let answer = self.head(ask).await?;
        let status = answer.status();
        let mut body = answer.into_body();
        if !status.is_success() {
            let body = Limited::new(body, PROBLEM_BYTES_MAX).collect().await;
            let body = body.map(http_body_util::Collected::to_bytes).unwrap_or_default();
            return Err(problem::failure(status, body, &what, None));
        }
        let mut bytes = 0;
        loop {
            let frame = tokio::time::timeout(self.patience, body.frame()).await;
            let frame = frame.map_err(|_| self.broke_off(&what, bytes, "nothing more came in time"))?;
            let Some(frame) = frame else { return Ok(bytes) };
            let frame = frame.map_err(|error| self.broke_off(&what, bytes, &innermost(&error)))?;
            if let Some(data) = frame.data_ref() {
                to.write_all(data)
                    .map_err(|error| Failure::Refused(format!("writing the export: {error}")))?;
                bytes += data.len() as u64;
            }
        }
    }

    /// The head of an answer that stands.
    async fn head(&self, ask: &Ask) -> Result<Response<Incoming>, Failure> {
        let mut tries = 1;
        loop {
            let tried = tokio::time::timeout(self.patience, self.send(ask)).await;
            let tried = tried.unwrap_or_else(|_| Err(format!("no answer in {} s", self.patience.as_secs())));
            let ending = match &tried {
                Ok(answer) => {
                    let head = Head::of(answer);
                    Ending::Answered(head.status, head.retry_after_s)
                }
                Err(_) => Ending::Broken,
            };
            match wait_ms(ending, tries, random()?) {
                Some(wait_ms) => tokio::time::sleep(Duration::from_millis(wait_ms)).await,
                None => return tried.map_err(|why| self.unreachable(ask, &why, tries)),
            }
            tries += 1;
        }
    }

    fn unreachable(&self, ask: &Ask, why: &str, tries: u32) -> Failure {
        let mut text = format!("{} at {}: {why}{}", ask.what(), self.address, times(tries));
        match &ask.key {
            Some(key) => text.push_str(&format!(
                "; the change may have been made. Give the same command with `--idempotency-key {key}` to hear its \
                 answer: it is not made twice"
            )),
            None => text.push_str(
                "; is the platform running, and is this the address of its admin API? (--server, HONGBAO_SERVER, or \
                 the profile's server)",
            ),
        }
        Failure::Unreachable(text)
    }

    fn broke_off(&self, what: &str, bytes: u64, why: &str) -> Failure {
        Failure::Unreachable(format!(
            "{what} at {}: the answer broke off after {bytes} bytes: {why}; ask again",
            self.address
        ))
    }
}

/// What of an answer's head decides.
struct Head {
    status: StatusCode,
    retry_after_s: Option<u64>,
}

impl Head {
    fn of<B>(answer: &Response<B>) -> Head {
        let after = answer.headers().get(header::RETRY_AFTER).and_then(|value| value.to_str().ok());
        Head { status: answer.status(), retry_after_s: after.and_then(|text| text.trim().parse().ok()) }
    }
}

fn times(tries: u32) -> String {
    if tries == 1 { String::new() } else { format!(", {tries} times") }
}

/// What an error comes from: "connection refused" says more than "client error".
fn innermost(error: &dyn std::error::Error) -> String {
    let mut inner = error;
    while let Some(source) = inner.source() {
        inner = source;
    }
    inner.to_string()
}

/// A random number.
fn random() -> Result<u64, Failure> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).map_err(|error| Failure::Refused(format!("no random numbers: {error}")))?;
    Ok(u64::from_le_bytes(bytes))
}

/// A new idempotency key: 128 random bits.
///
/// # Errors
/// When the machine gives no random numbers.
pub fn new_key() -> Result<String, Failure> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|error| Failure::Refused(format!("no random numbers: {error}")))?;
    Ok(hex::encode(bytes))
}
