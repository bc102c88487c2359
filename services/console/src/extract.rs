//! What requests carry, read with bounds and refused with a reason: who asks, path, query, body.

use crate::config::{
    JSON_BYTES_MAX, KEY_BYTES_MAX, PAGE_DEFAULT, PAGE_MAX, REASON_BYTES_MAX, REHEARSAL_BYTES_MAX,
};
use crate::problem::{Place, Problem};
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{FromRequest, FromRequestParts, Request};
use bytes::Bytes;
use campaign::{CampaignId, SeqNo};
use http::request::Parts;
use http::{HeaderMap, header};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use quota_config::{By, FILE_BYTES_MAX, Role};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use sha2::{Digest as _, Sha256};
use utoipa::IntoParams;

/// The header of the HTTP working group's draft "The Idempotency-Key HTTP Header Field".
pub(crate) const IDEMPOTENCY_KEY: &str = "idempotency-key";

macro_rules! caller {
    ($(#[$doc:meta])* $name:ident, $role:expr) => {
        $(#[$doc])*
        pub(crate) struct $name(pub By);

        impl<S: Send + Sync> FromRequestParts<S> for $name {
            type Rejection = Problem;

            async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
                at_least(parts, $role).map($name)
            }
        }
    };
}

caller!(
    /// Somebody who may look.
    Viewer,
    Role::Viewer
);
caller!(
    /// Somebody who may change.
    Operator,
    Role::Operator
);
caller!(
    /// Somebody who may be the second person.
    Approver,
    Role::Approver
);

fn at_least(parts: &Parts, least: Role) -> Result<By, Problem> {
    // Put there by the guard in front of all routes.
    let by = parts.extensions.get::<By>().ok_or_else(|| Problem::stranger("the request has no token"))?;
    if by.role >= least {
        return Ok(by.clone());
    }
    Err(Problem::forbidden(format!("{} is {}; this takes {least} or more", by.name, by.role)))
}

/// A part of the path.
pub(crate) struct Path<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for Path<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let read = axum::extract::Path::<T>::from_request_parts(parts, state).await;
        let wrong =
            |rejection: PathRejection| Problem::malformed(format!("the path: {}", rejection.body_text()));
        read.map(|path| Path(path.0)).map_err(wrong)
    }
}

/// The query; a key that is not known is refused, because a slip in `dry_run` would be a change.
pub(crate) struct Query<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let read = axum::extract::Query::<T>::from_request_parts(parts, state).await;
        let wrong = |rejection: QueryRejection| {
            let text = rejection.body_text();
            let text = text.strip_prefix("Failed to deserialize query string: ").unwrap_or(&text);
            Problem::malformed(format!("the query: {text}"))
        };
        read.map(|query| Query(query.0)).map_err(wrong)
    }
}

/// Where a page begins and how long it is.
#[derive(Deserialize, IntoParams, Default)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub(crate) struct Page {
    /// Items at most.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    pub limit: Option<usize>,
    /// Where the page before ended: its `next`.
    pub after: Option<String>,
}

impl Page {
    pub fn limit(&self) -> Result<usize, Problem> {
        limit(self.limit)
    }

    /// The number behind which the page begins; 0: from the first.
    pub fn after_number(&self) -> Result<u64, Problem> {
        let Some(text) = &self.after else { return Ok(0) };
        text.parse()
            .map_err(|_| Problem::malformed(format!("after: {} is not the `next` of a page", quoted(text))))
    }
}

pub(crate) fn limit(limit: Option<usize>) -> Result<usize, Problem> {
    match limit.unwrap_or(PAGE_DEFAULT) {
        limit @ 1..=PAGE_MAX => Ok(limit),
        other => Err(Problem::malformed(format!("limit: {other} is not from 1 to {PAGE_MAX}"))),
    }
}

/// Whether to change or only to say what would be.
#[derive(Deserialize, IntoParams, Default)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub(crate) struct Dry {
    /// Nothing is done: the answer says what would be.
    pub dry_run: bool,
}

/// A body of JSON, with what makes its request the same as another.
pub(crate) struct Json<T> {
    pub body: T,
    pub asked: Fingerprint,
}

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Json<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        let (body, asked) = json(request, JSON_BYTES_MAX).await?;
        Ok(Json { body, asked })
    }
}

/// The same, as long as a rehearsal may need.
pub(crate) struct LongJson<T> {
    pub body: T,
    pub asked: Fingerprint,
}

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for LongJson<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        let (body, asked) = json(request, REHEARSAL_BYTES_MAX).await?;
        Ok(LongJson { body, asked })
    }
}

async fn json<T: DeserializeOwned>(request: Request, most: usize) -> Result<(T, Fingerprint), Problem> {
    let kind = media_type(request.headers());
    if kind.as_deref() != Some("application/json") {
        return Err(Problem::media_type(kind.as_deref(), "application/json"));
    }
    let (parts, body) = read(request, most).await?;
    let value = serde_json::from_slice(&body).map_err(|error| wrong_json(&error))?;
    Ok((value, Fingerprint::of(&parts, &body)?))
}

fn wrong_json(error: &serde_json::Error) -> Problem {
    let text = error.to_string();
    // Its line and column stand in the place.
    let what = text.rsplit_once(" at line ").map_or(text.as_str(), |(what, _)| what).to_string();
    let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    let cure =
        if error.is_data() { "see /openapi.json for what this body has" } else { "send one JSON object" };
    let place = Place {
        severity: "error",
        line: number(error.line()).max(1),
        column: number(error.column()).max(1),
        path: String::new(),
        what,
        cure: cure.to_string(),
    };
    let detail = format!("the body: {text}; {cure}");
    let problem = if error.is_data() { Problem::refused(detail) } else { Problem::malformed(detail) };
    problem.at(vec![place])
}

/// A campaign file as it came.
pub(crate) struct Source {
    pub bytes: Bytes,
    pub asked: Fingerprint,
}

impl<S: Send + Sync> FromRequest<S> for Source {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        const KINDS: [&str; 4] = ["text/yaml", "application/yaml", "application/x-yaml", "text/x-yaml"];
        let kind = media_type(request.headers());
        if !kind.as_deref().is_some_and(|kind| KINDS.contains(&kind)) {
            return Err(Problem::media_type(kind.as_deref(), KINDS[0]));
        }
        let (parts, bytes) = read(request, FILE_BYTES_MAX).await?;
        Ok(Source { asked: Fingerprint::of(&parts, &bytes)?, bytes })
    }
}

fn media_type(headers: &HeaderMap) -> Option<String> {
    let text = headers.get(header::CONTENT_TYPE)?.to_str().ok()?;
    let kind = text.split(';').next().unwrap_or_default().trim();
    Some(kind.chars().take(100).collect::<String>().to_ascii_lowercase())
}

async fn read(request: Request, most: usize) -> Result<(Parts, Bytes), Problem> {
    let (parts, body) = request.into_parts();
    // Said before a byte of it is read.
    let length = parts.headers.get(header::CONTENT_LENGTH).and_then(|v| v.to_str().ok());
    if length.and_then(|text| text.parse::<u64>().ok()).is_some_and(|n| n > most as u64) {
        return Err(Problem::too_long(most));
    }
    match Limited::new(body, most).collect().await {
        Ok(whole) => Ok((parts, whole.to_bytes())),
        Err(error) if error.is::<LengthLimitError>() => Err(Problem::too_long(most)),
        Err(error) => Err(Problem::malformed(format!("the body broke off: {error}"))),
    }
}

/// What tells whether a request is the same as one that came before.
pub(crate) struct Fingerprint {
    /// The caller's key, if he gave one.
    pub key: Option<String>,
    /// Method and path: under another one the key is another.
    pub place: String,
    /// SHA-256 of query and body.
    pub sha256: [u8; 32],
}

impl Fingerprint {
    fn of(parts: &Parts, body: &[u8]) -> Result<Fingerprint, Problem> {
        let mut hash = Sha256::new();
        let query = parts.uri.query().unwrap_or_default();
        hash.update((query.len() as u64).to_le_bytes());
        hash.update(query);
        hash.update(body);
        Ok(Fingerprint {
            key: key(&parts.headers)?,
            place: format!("{} {}", parts.method, parts.uri.path()),
            sha256: hash.finalize().into(),
        })
    }
}

fn key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let mut values = headers.get_all(IDEMPOTENCY_KEY).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let text = value.to_str().unwrap_or_default();
    let visible = !text.is_empty() && text.bytes().all(|b| (0x20..0x7f).contains(&b));
    if !visible || text.len() > KEY_BYTES_MAX || values.next().is_some() {
        return Err(Problem::malformed(format!(
            "Idempotency-Key: write one key of 1 to {KEY_BYTES_MAX} visible ASCII characters"
        )));
    }
    Ok(Some(text.to_string()))
}

/// A number of 64 bits, as text.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Number(pub u64);

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Number, D::Error> {
        let text = String::deserialize(d)?;
        let plain = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        let number = text.parse().ok().filter(|_| plain);
        number.map(Number).ok_or_else(|| {
            let shown = quoted(&text);
            serde::de::Error::custom(format!("{shown} is not a whole number in text, such as \"12\""))
        })
    }
}

impl Number {
    pub fn seq_no(self) -> SeqNo {
        SeqNo(self.0)
    }
}

/// A number, or a word in its place.
#[derive(Deserialize)]
#[serde(untagged)]
pub(crate) enum NumberOrWord {
    Number(u32),
    Word(String),
}

/// Why somebody does something.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Reason(pub String);

impl Reason {
    /// Text of people: neither empty nor endless, and nothing in it that a terminal or a database obeys.
    pub fn of(text: &str) -> Result<Reason, String> {
        let text = text.trim();
        if text.is_empty() {
            return Err("reason: say why; every change has a reason".to_string());
        }
        if text.len() > REASON_BYTES_MAX {
            return Err(format!("reason: {} bytes; at most {REASON_BYTES_MAX}", text.len()));
        }
        if text.chars().any(|c| c.is_control() && c != '\n' && c != '\t') {
            return Err("reason: it has control characters; write plain text".to_string());
        }
        Ok(Reason(text.to_string()))
    }
}

impl<'de> Deserialize<'de> for Reason {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Reason, D::Error> {
        Reason::of(&String::deserialize(d)?).map_err(serde::de::Error::custom)
    }
}

/// A campaign of the path.
pub(crate) fn campaign(number: u32) -> CampaignId {
    CampaignId(number)
}

/// Text of a caller in a message: short, and without what terminals obey.
pub(crate) fn quoted(text: &str) -> String {
    let short: String = text.chars().take(60).collect();
    format!("{short:?}")
}

#[cfg(test)]
mod tests {
    use super::{Number, Reason, key};
    use http::{HeaderMap, HeaderValue};

    #[test]
    fn numbers_are_digits_in_text() {
        let read = |text: &str| serde_json::from_str::<Number>(text).map(|n| n.0).ok();
        assert_eq!(read("\"18446744073709551615\""), Some(u64::MAX));
        for wrong in ["1", "\"\"", "\"-1\"", "\"+1\"", "\"18446744073709551616\"", "\" 1\"", "null"] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn reasons_are_plain_text() {
        assert_eq!(Reason::of(" more 红包\nfor all "), Ok(Reason("more 红包\nfor all".into())));
        for wrong in ["", " \n", "a\0b", "a\x1b[2J", &"x".repeat(2_001)] {
            assert!(Reason::of(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn there_is_one_visible_key() {
        let headers = |values: &[&[u8]]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append("idempotency-key", HeaderValue::from_bytes(value).unwrap());
            }
            key(&headers).map_err(|_| ())
        };
        assert_eq!(headers(&[]), Ok(None));
        assert_eq!(headers(&[b"a-1"]), Ok(Some("a-1".into())));
        let long = [b'x'; 201];
        for wrong in [&[&b""[..]][..], &[b"a", b"a"], &[b"\xff"], &[&long]] {
            assert_eq!(headers(wrong), Err(()));
        }
    }
}
