//! The page `/play`: people talk, shake, win and see the prize arrive, in a browser, without anything installed.
//!
//! Its files are in the binary. It speaks the same frames as an app, over a WebSocket of the front door. So that it can
//! be tried at once it may mint the token of any user number (`POST /play/token`); that is for trying things out on one's
//! own machine and refused for everybody else: it is off unless the front door listens on loopback only, and even then
//! it answers only requests that come from this machine and name it (a page of another site that was made to resolve
//! to loopback names itself).

use access::token::TokenKeys;
use access::{Body, HttpExtra};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use runtime::SharedClock;
use serde::Deserialize;
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;

/// Most bytes of a request for a token.
const BODY_MAX: usize = 1_024;

/// How long a token is good, s.
const TOKEN_S: u64 = 24 * 3_600;

/// What the page may load, and where it may connect: itself.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self' ws: wss:; img-src data:; \
                      form-action 'none'; base-uri 'none'; frame-ancestors 'none'";

/// Path, media type, content.
const FILES: [(&str, &str, &str); 8] = [
    ("/play", "text/html; charset=utf-8", include_str!("../assets/play/index.html")),
    ("/play/play.css", "text/css; charset=utf-8", include_str!("../assets/play/play.css")),
    ("/play/app.js", JAVASCRIPT, include_str!("../assets/play/app.js")),
    ("/play/wire.js", JAVASCRIPT, include_str!("../assets/play/wire.js")),
    ("/play/schema.js", JAVASCRIPT, include_str!("../assets/play/schema.js")),
    ("/play/chat.js", JAVASCRIPT, include_str!("../assets/play/chat.js")),
    ("/play/shake.js", JAVASCRIPT, include_str!("../assets/play/shake.js")),
    ("/play/text.js", JAVASCRIPT, include_str!("../assets/play/text.js")),
];

const JAVASCRIPT: &str = "text/javascript; charset=utf-8";

/// See the module.
pub struct Play {
    minter: Option<Arc<Minter>>,
}

struct Minter {
    keys: TokenKeys,
    audience: Option<String>,
    clock: SharedClock,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    user: String,
}

impl Play {
    /// The page alone: who wants in pastes a token.
    pub fn new() -> Self {
        Self { minter: None }
    }

    /// With test tokens for whoever asks from this machine. `listening`: where the front door is bound; anything but
    /// loopback makes it the page alone.
    #[must_use]
    pub fn minting(
        listening: &[SocketAddr],
        keys: TokenKeys,
        audience: Option<String>,
        clock: SharedClock,
    ) -> Self {
        let alone = !listening.is_empty() && listening.iter().all(|address| address.ip().is_loopback());
        Self { minter: alone.then(|| Arc::new(Minter { keys, audience, clock })) }
    }

    fn file(method: &Method, path: &str) -> Response<Body> {
        if !matches!(*method, Method::GET | Method::HEAD) {
            return problem(StatusCode::METHOD_NOT_ALLOWED, "the page is read with GET");
        }
        // The page's own addresses are absolute, so both forms of its name serve.
        let path = if path == "/play/" { "/play" } else { path };
        let Some((_, kind, text)) = FILES.iter().find(|(name, ..)| *name == path) else {
            return problem(StatusCode::NOT_FOUND, "the page is /play");
        };
        let body = if method == Method::HEAD { Bytes::new() } else { Bytes::from_static(text.as_bytes()) };
        respond(StatusCode::OK, kind, body)
    }
}

impl Minter {
    fn answer(&self, body: &[u8]) -> Response<Body> {
        let user =
            serde_json::from_slice::<Wanted>(body).map_err(|error| error.to_string()).and_then(|wanted| {
                let user = wanted.user.parse::<u64>().ok().filter(|user| *user > 0);
                user.ok_or_else(|| format!("{:?} is no user number: they begin at 1", wanted.user))
            });
        match user {
            Ok(user) => {
                let now_s = self.clock.now_ms() / 1_000;
                let token = self.keys.mint_user(user, now_s, now_s + TOKEN_S, self.audience.as_deref());
                let json = serde_json::json!({ "token": token }).to_string();
                respond(StatusCode::OK, "application/json", Bytes::from(json))
            }
            Err(error) => {
                problem(StatusCode::BAD_REQUEST, &format!("{error}; an example: {{\"user\": \"7\"}}"))
            }
        }
    }
}

impl HttpExtra for Play {
    fn wants(&self, _method: &Method, path: &str) -> bool {
        path == "/play" || path.starts_with("/play/")
    }

    fn handle(
        &self,
        request: Request<Incoming>,
        peer: IpAddr,
    ) -> Pin<Box<dyn Future<Output = Response<Body>> + Send>> {
        let (head, body) = request.into_parts();
        if head.uri.path() != "/play/token" {
            let response = Self::file(&head.method, head.uri.path());
            return Box::pin(async move { response });
        }
        let minter = self.minter.clone();
        Box::pin(async move {
            let Some(minter) = minter else {
                return problem(
                    StatusCode::NOT_FOUND,
                    "no test tokens here: start with `--set play.tokens=true` to try things out, or paste one that `hongbao token user` made",
                );
            };
            if head.method != Method::POST {
                return problem(StatusCode::METHOD_NOT_ALLOWED, "tokens are asked for with POST");
            }
            if !peer.is_loopback() || !names_loopback(&head.headers) {
                return problem(StatusCode::FORBIDDEN, "test tokens are for this machine only");
            }
            match Limited::new(body, BODY_MAX).collect().await {
                Ok(body) => minter.answer(&body.to_bytes()),
                Err(error) => problem(
                    StatusCode::PAYLOAD_TOO_LARGE,
                    &format!("the body can't be read: {error}; {BODY_MAX} bytes at most"),
                ),
            }
        })
    }
}

/// Whether the request was sent to this machine by a name of its own, from a page of its own if from one.
fn names_loopback(headers: &HeaderMap) -> bool {
    let own = |authority: &str| {
        let host = authority.rsplit_once(':').map_or(authority, |(host, port)| {
            // The last colon of a bare IPv6 address is no port's.
            if port.bytes().all(|b| b.is_ascii_digit()) { host } else { authority }
        });
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        bare.eq_ignore_ascii_case("localhost") || bare.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
    };
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let origin = headers.get(header::ORIGIN).map(|origin| {
        let origin = origin.to_str().unwrap_or_default();
        origin.split_once("://").is_some_and(|(_, authority)| own(authority))
    });
    host.is_some_and(own) && origin.unwrap_or(true)
}

fn problem(status: StatusCode, what: &str) -> Response<Body> {
    let json = serde_json::json!({ "error": what }).to_string();
    respond(status, "application/json", Bytes::from(json))
}

fn respond(status: StatusCode, kind: &str, body: Bytes) -> Response<Body> {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    if let Ok(kind) = HeaderValue::from_str(kind) {
        headers.insert(header::CONTENT_TYPE, kind);
    }
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    response
}

/// Several mounts behind the one that the front door knows; the first that wants a path answers.
pub struct Mounts(pub Vec<Arc<dyn HttpExtra>>);

impl HttpExtra for Mounts {
    fn wants(&self, method: &Method, path: &str) -> bool {
        self.0.iter().any(|mount| mount.wants(method, path))
    }

    fn handle(
        &self,
        request: Request<Incoming>,
        peer: IpAddr,
    ) -> Pin<Box<dyn Future<Output = Response<Body>> + Send>> {
        match self.0.iter().find(|mount| mount.wants(request.method(), request.uri().path())) {
            Some(mount) => mount.handle(request, peer),
            None => Box::pin(async { problem(StatusCode::NOT_FOUND, "nothing is here") }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_this_machine_are_its_own() {
        let headers = |host: &str, origin: Option<&str>| {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, HeaderValue::from_str(host).unwrap());
            if let Some(origin) = origin {
                headers.insert(header::ORIGIN, HeaderValue::from_str(origin).unwrap());
            }
            names_loopback(&headers)
        };
        for host in ["localhost", "LOCALHOST:7602", "127.0.0.1:80", "127.9.9.9", "[::1]:7602", "[::1]"] {
            assert!(headers(host, None) && headers(host, Some("http://localhost:7602")), "{host}");
            assert!(!headers(host, Some("https://elsewhere.example")), "{host}");
            assert!(!headers(host, Some("null")), "{host}");
        }
        for host in ["elsewhere.example", "10.0.0.1:80", "127.0.0.1.elsewhere.example", ""] {
            assert!(!headers(host, None), "{host}");
        }
        assert!(!names_loopback(&HeaderMap::new()));
    }

    #[test]
    fn every_file_that_the_page_names_is_there() {
        let all: String = FILES.iter().map(|(.., text)| *text).collect();
        for (name, ..) in &FILES[1..] {
            let file = name.trim_start_matches("/play/");
            assert!(all.contains(name) || all.contains(&format!("'./{file}'")), "{name} is never used");
        }
        for part in all.split("'./").skip(1) {
            let name = format!("/play/{}", part.split('\'').next().unwrap());
            assert!(FILES.iter().any(|(known, ..)| *known == name), "{name} is missing");
        }
        assert!(!all.contains("://") || !all.contains("src=\"http"), "nothing comes from elsewhere");
    }

    /// The page's table of fields says what the .proto files say.
    #[test]
    fn the_pages_fields_are_those_of_the_protocol() {
        let chat = include_str!("../../../crates/protocol/proto/hongbao/v1/chat.proto");
        let play = include_str!("../../../crates/protocol/proto/hongbao/v1/play.proto");
        // Without comments, so that words in them are not taken for fields.
        let proto: String = chat.lines().chain(play.lines()).fold(String::new(), |mut all, line| {
            all.push_str(line.split("//").next().unwrap_or(""));
            all.push('\n');
            all
        });
        let schema = FILES.iter().find(|(name, ..)| *name == "/play/schema.js").unwrap().2;
        let mut checked = 0;
        for line in schema.lines().filter(|line| line.starts_with("  ") && line.contains(": {")) {
            let (name, fields) = line.trim().split_once(": {").unwrap();
            let body = proto.split_once(&format!("message {name} {{")).unwrap_or_else(|| panic!("{name}")).1;
            let end = body.find("\nmessage ").unwrap_or(body.len());
            for field in fields.split("], ").map(|field| field.trim_matches([' ', '}', ',', ']'])) {
                let (field, rest) = field.split_once(": [").unwrap_or_else(|| panic!("{name}: {field}"));
                let (number, kind) = rest.split_once(", ").unwrap();
                let kind = kind.trim_matches(['\'', ' ', ']']);
                let declared = format!(" {field} = {number};");
                let at =
                    body[..end].find(&declared).unwrap_or_else(|| panic!("{name}.{field} is not {number}"));
                let before = body[..at].trim_end().rsplit([';', '{', '}']).next().unwrap().trim();
                let (repeated, proto_kind) =
                    before.strip_prefix("repeated ").map_or((false, before), |kind| (true, kind));
                assert_eq!(repeated, kind.ends_with('*'), "{name}.{field}");
                let kind = kind.trim_end_matches('*');
                let wanted = match proto_kind {
                    "uint64" => "u64",
                    "uint32" => "u32",
                    "int64" => "i64",
                    "bool" | "string" | "bytes" => proto_kind,
                    other if proto.contains(&format!("enum {other} {{")) => "enum",
                    other => other,
                };
                assert_eq!(kind, wanted, "{name}.{field}");
                checked += 1;
            }
        }
        assert!(checked > 150, "{checked}");
    }
}
