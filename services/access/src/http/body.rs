//! Bodies, in and out, and the two forms that they come in.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use http::header::{ACCEPT, ALLOW, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use http::{HeaderMap, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};
use prost::Message;
use protocol::error::Code;
use protocol::{json, v1};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::limits::BODY_BYTES_MAX;

/// A response's body: whole, or a stream of somebody else's.
pub enum Body {
    /// All of it.
    Whole(Full<Bytes>),
    /// A stream.
    Stream(UnsyncBoxBody<Bytes, Infallible>),
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        Body::Whole(Full::new(bytes))
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match self.get_mut() {
            Body::Whole(body) => Pin::new(body).poll_frame(cx),
            Body::Stream(body) => Pin::new(body).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Body::Whole(body) => body.is_end_stream(),
            Body::Stream(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Body::Whole(body) => body.size_hint(),
            Body::Stream(body) => body.size_hint(),
        }
    }
}

/// Room for an answer, as large as most of them.
pub(super) const ANSWER_BYTES: usize = 256;

/// How a message is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Form {
    Json,
    Protobuf,
}

const JSON: &str = "application/json";
const PROTOBUF: [&str; 3] =
    ["application/x-protobuf", "application/protobuf", "application/vnd.google.protobuf"];

impl Form {
    fn of(media_type: &str) -> Option<Self> {
        let name = media_type.split(';').next().unwrap_or_default().trim();
        if name.eq_ignore_ascii_case(JSON) {
            Some(Form::Json)
        } else if PROTOBUF.iter().any(|known| name.eq_ignore_ascii_case(known)) {
            Some(Form::Protobuf)
        } else {
            None
        }
    }

    /// The form of the request's body.
    pub fn sent(headers: &HeaderMap) -> Result<Self, v1::Error> {
        let named = headers.get(CONTENT_TYPE).map(|value| value.to_str().unwrap_or("?"));
        named.and_then(Form::of).ok_or_else(|| {
            let named = named.map_or("missing".to_owned(), |named| format!("{named:?}"));
            Code::MediaType.message(format!("Content-Type is {named}; send {JSON} or {}", PROTOBUF[0]))
        })
    }

    /// The form that the client wants its answer in: the first of ours that Accept names, else `otherwise`.
    pub fn wanted(headers: &HeaderMap, otherwise: Form) -> Self {
        let Some(accept) = headers.get(ACCEPT).and_then(|value| value.to_str().ok()) else {
            return otherwise;
        };
        accept.split(',').find_map(Form::of).unwrap_or(otherwise)
    }

    fn content_type(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Form::Json => JSON,
            Form::Protobuf => PROTOBUF[0],
        })
    }

    /// Reads a message.
    pub fn read<M: Message + Default + DeserializeOwned>(self, bytes: &[u8]) -> Result<M, v1::Error> {
        match self {
            Form::Json => json::read(bytes).map_err(|error| {
                Code::Malformed.message(format!("the body is not the JSON expected: {error}"))
            }),
            Form::Protobuf => M::decode(bytes).map_err(|error| {
                Code::Malformed.message(format!("the body is not the Protobuf message expected: {error}"))
            }),
        }
    }

    /// A response with a message.
    pub fn response<M: Message + Serialize>(self, status: StatusCode, message: &M) -> Response<Body> {
        let mut bytes = Vec::with_capacity(ANSWER_BYTES);
        match self {
            Form::Json => json::write(message, &mut bytes),
            Form::Protobuf => message.encode_raw(&mut bytes),
        }
        self.response_of(status, bytes)
    }

    /// A response with a message that is written already.
    pub fn response_of(self, status: StatusCode, bytes: Vec<u8>) -> Response<Body> {
        let mut response = Response::new(Body::from(Bytes::from(bytes)));
        *response.status_mut() = status;
        response.headers_mut().insert(CONTENT_TYPE, self.content_type());
        response
    }

    /// A response with an error, under the status of its code.
    pub fn error(self, error: &v1::Error) -> Response<Body> {
        let mut response = self.response(status_of(&error.code), error);
        if error.retry_after_ms > 0 {
            // Whole seconds, rounded up: the finer number is in the body.
            response.headers_mut().insert(RETRY_AFTER, error.retry_after_ms.div_ceil(1000).into());
        }
        if error.code == Code::Unauthenticated.word() || error.code == Code::TokenExpired.word() {
            response.headers_mut().insert(http::header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

const CODES: [Code; 13] = [
    Code::Malformed,
    Code::Invalid,
    Code::Unauthenticated,
    Code::TokenExpired,
    Code::Forbidden,
    Code::NotFound,
    Code::Refused,
    Code::RateLimited,
    Code::Busy,
    Code::Unavailable,
    Code::TooLarge,
    Code::NoRoute,
    Code::MediaType,
];

fn status_of(word: &str) -> StatusCode {
    let code = CODES.iter().find(|code| code.word() == word);
    code.and_then(|code| StatusCode::from_u16(code.http_status()).ok())
        .unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

/// Plain text.
pub(super) fn text(status: StatusCode, text: String, content_type: &'static str) -> Response<Body> {
    let mut response = Response::new(Body::from(Bytes::from(text)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// Says which methods a path takes.
pub(super) fn allow(response: &mut Response<Body>, methods: &'static str) {
    response.headers_mut().insert(ALLOW, HeaderValue::from_static(methods));
}

/// Reads a whole body within the bound. A body that comes in one piece, as small ones do, is not copied.
pub(super) async fn read_all(mut body: Incoming) -> Result<Bytes, v1::Error> {
    let too_large = || Code::TooLarge.message(format!("a body has at most {BODY_BYTES_MAX} bytes"));
    if body.size_hint().lower() > BODY_BYTES_MAX as u64 {
        return Err(too_large());
    }
    let mut first = Bytes::new();
    let mut all = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| Code::Malformed.message(format!("the body broke off: {error}")))?;
        let Ok(data) = frame.into_data() else { continue };
        if first.len() + all.len() + data.len() > BODY_BYTES_MAX {
            return Err(too_large());
        }
        if all.is_empty() && first.is_empty() {
            if body.is_end_stream() {
                return Ok(data);
            }
            first = data;
        } else {
            if all.is_empty() {
                all.extend_from_slice(&std::mem::take(&mut first));
            }
            all.extend_from_slice(&data);
        }
    }
    Ok(if all.is_empty() { first } else { all.freeze() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_follow_the_headers() {
        let mut headers = HeaderMap::new();
        assert_eq!(Form::sent(&headers).unwrap_err().code, "media_type");
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json; charset=utf-8"));
        assert_eq!(Form::sent(&headers), Ok(Form::Json));
        assert_eq!(Form::wanted(&headers, Form::Json), Form::Json);
        headers.insert(ACCEPT, HeaderValue::from_static("text/html, application/x-protobuf;q=0.9, */*"));
        assert_eq!(Form::wanted(&headers, Form::Json), Form::Protobuf);
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
        assert!(Form::sent(&headers).unwrap_err().message.contains("application/json"));
    }

    #[test]
    fn errors_have_the_status_of_their_code() {
        for code in CODES {
            let mut error = code.message("x");
            error.retry_after_ms = 1_001;
            let response = Form::Json.error(&error);
            assert_eq!(response.status().as_u16(), code.http_status());
            assert_eq!(response.headers()[RETRY_AFTER], "2");
        }
    }
}
