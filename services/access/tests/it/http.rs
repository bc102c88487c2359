//! The same messages over HTTP.

use std::future::Future;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, TcpStream};
use std::pin::Pin;

use access::token::GatewayGrant;
use access::{Body, Count, HttpExtra, Limits};
use bytes::Bytes;
use http::{Method, Request, Response};
use hyper::body::Incoming;
use prost::Message;
use protocol::frame::FrameKind;
use protocol::json;
use protocol::v1::{self, Outcome};

use crate::harness::*;

/// A route of somebody else's.
pub struct Echo;

impl HttpExtra for Echo {
    fn wants(&self, method: &Method, path: &str) -> bool {
        method == Method::GET && path.starts_with("/extra/")
    }

    fn handle(
        &self,
        request: Request<Incoming>,
        _: IpAddr,
    ) -> Pin<Box<dyn Future<Output = Response<Body>> + Send>> {
        let path = request.uri().path().to_owned();
        Box::pin(async move { Response::new(Body::from(Bytes::from(path))) })
    }
}

/// A client that speaks HTTP.
pub struct Web(pub BufReader<TcpStream>);

/// What it is answered.
pub struct Page {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

impl Page {
    pub fn error(&self) -> v1::Error {
        json::read(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&self.body)))
    }
}

impl Web {
    pub fn new(server: &Server) -> Self {
        let stream = TcpStream::connect(server.http).unwrap();
        stream.set_read_timeout(Some(std::time::Duration::from_secs(10))).unwrap();
        stream.set_nodelay(true).unwrap();
        Self(BufReader::new(stream))
    }

    pub fn ask(&mut self, line: &str, headers: &[(&str, &str)], body: &[u8]) -> Page {
        let mut out = format!("{line} HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n", body.len());
        for (name, value) in headers {
            out += &format!("{name}: {value}\r\n");
        }
        out += "\r\n";
        let mut out = out.into_bytes();
        out.extend_from_slice(body);
        self.0.get_mut().write_all(&out).unwrap();
        self.page()
    }

    pub fn page(&mut self) -> Page {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert!(self.0.read_line(&mut head).unwrap() > 0, "closed after {head:?}");
        }
        let head = head.to_ascii_lowercase();
        let length = head.split("content-length: ").nth(1).and_then(|rest| rest.split("\r\n").next());
        let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
        self.0.read_exact(&mut body).unwrap();
        Page { status: head[9..12].parse().unwrap(), head, body }
    }

    pub fn json(&mut self, line: &str, token: &str, body: &str) -> Page {
        let bearer = format!("Bearer {token}");
        self.ask(line, &[("authorization", &bearer), ("content-type", "application/json")], body.as_bytes())
    }
}

const SUBMIT: &str = r#"{"campaign":1,"round":1,"counter":1,"shakes":3}"#;

#[test]
fn json_protobuf_and_frames_give_the_same_answer() {
    for user in [5, WINNER] {
        let server = start();
        let token = server.user_token(user);
        let by_frame = server.user(user).submit(1, &entry(1));
        let mut web = Web::new(&server);
        let page = web.json("POST /v1/submit", &token, SUBMIT);
        assert_eq!(page.status, 200, "{}", page.head);
        assert!(page.head.contains("content-type: application/json"));
        assert_eq!(json::read::<v1::SubmitAnswer>(&page.body).unwrap(), by_frame);
        let bearer = format!("Bearer {token}");
        let headers = [("authorization", bearer.as_str()), ("content-type", "application/x-protobuf")];
        let page = web.ask("POST /v1/submit", &headers, &entry(1).encode_to_vec());
        assert!(page.head.contains("content-type: application/x-protobuf"));
        assert_eq!(v1::SubmitAnswer::decode(&page.body[..]).unwrap(), by_frame);
        let headers = [headers[0], headers[1], ("accept", "application/json")];
        let page = web.ask("POST /v1/submit", &headers, &entry(1).encode_to_vec());
        assert_eq!(json::read::<v1::SubmitAnswer>(&page.body).unwrap(), by_frame);
        assert_eq!(server.draws.calls(), 4);
        assert_eq!(server.control.count(Count::Connections), 2, "one connection for all of it");
    }
}

#[test]
fn the_other_requests() {
    let server = start();
    let token = server.user_token(5);
    let mut web = Web::new(&server);
    let page = web.json("GET /v1/prizes?limit=3", &token, "");
    let prizes: v1::PrizesAnswer = json::read(&page.body).unwrap();
    let id = prizes.awards[0].award.clone();
    let page = web.json(&format!("GET /v1/prizes?after={id}"), &token, "");
    assert!(json::read::<v1::PrizesAnswer>(&page.body).unwrap().awards.is_empty());
    let page = web.json("POST /v1/claim", &token, &format!(r#"{{"award":"{id}"}}"#));
    assert_eq!(json::read::<v1::ClaimAnswer>(&page.body).unwrap().award.unwrap().award, id);
    let page = web.json("POST /v1/account", &token, r#"{"vendor":2,"account":"openid"}"#);
    assert_eq!(json::read::<v1::AccountAnswer>(&page.body).unwrap().version, 1);
    let page = web.json("GET /v1/campaigns", &token, "");
    assert_eq!(json::read::<v1::CampaignsAnswer>(&page.body).unwrap().campaigns[0].rounds.len(), 2);
    assert_eq!(web.ask("GET /healthz", &[], b"").body, b"ok\n");
    let metrics = String::from_utf8(web.ask("GET /metrics", &[], b"").body).unwrap();
    assert!(metrics.contains("hongbao_access_http_requests_total 7\n"), "{metrics}");
    assert_eq!(web.ask("GET /extra/page", &[], b"").body, b"/extra/page");
}

#[test]
fn a_gateway_names_the_user() {
    let server = start();
    let token = server.gateway_token(&GatewayGrant {
        name: "g".into(),
        submits_per_second: 1,
        ..GatewayGrant::default()
    });
    let mut web = Web::new(&server);
    let page =
        web.json("POST /v1/submit", &token, r#"{"user":"77","campaign":1,"round":1,"counter":1,"shakes":3}"#);
    let answer: v1::SubmitAnswer = json::read(&page.body).unwrap();
    assert_eq!((answer.user, answer.outcome()), (77, Outcome::Lost));
    let page = web.json("POST /v1/submit", &token, SUBMIT);
    assert!(page.status == 400 && page.error().message.contains("user is missing"));
    let page =
        web.json("POST /v1/submit", &token, r#"{"user":"78","campaign":1,"round":1,"counter":1,"shakes":3}"#);
    assert!(page.status == 429 && page.head.contains("retry-after: 1"), "{}", page.head);
    assert_eq!(web.json("GET /v1/prizes?user=77", &token, "").status, 200);
}

#[test]
fn every_mistake_is_named_and_the_connection_lives_on() {
    let server = start();
    let token = server.user_token(5);
    let now = server.now_s();
    let expired = server.keys.mint_user(5, now - 60, now, None);
    let mut web = Web::new(&server);
    let cases: [(&str, &str, &str, u16, &str, &str); 14] = [
        ("POST /v1/submit", &token, "{", 400, "malformed", "line 1"),
        ("POST /v1/submit", &token, r#"{"campain":1}"#, 400, "malformed", "campaign"),
        ("POST /v1/submit", &token, r#"{"campaign":"x"}"#, 400, "malformed", "column"),
        ("POST /v1/submit", &token, r#"{"campaign":1,"round":1,"shakes":1}"#, 400, "invalid", "counter"),
        ("POST /v1/submit", &token, r#"{"user":"6","campaign":1}"#, 403, "forbidden", "not 5"),
        ("POST /v1/submit", "a.b.c", SUBMIT, 401, "unauthenticated", "header"),
        ("POST /v1/submit", &expired, SUBMIT, 401, "token_expired", "log in again"),
        ("POST /v1/claim", &token, r#"{"award":"x"}"#, 400, "invalid", "award"),
        ("POST /v1/account", &token, r#"{"vendor":1}"#, 400, "invalid", "account"),
        ("GET /v1/prizes?limit=999", &token, "", 400, "invalid", "200"),
        ("GET /v1/prizes?page=1", &token, "", 400, "invalid", "page"),
        ("GET /v1/nothing", &token, "", 404, "no_route", "/v1/submit"),
        ("GET /v1/submit", &token, "", 404, "no_route", "takes POST"),
        ("DELETE /v1/prizes", &token, "", 404, "no_route", "takes GET"),
    ];
    for (line, token, body, status, code, part) in cases {
        let page = web.json(line, token, body);
        let error = page.error();
        assert!(
            page.status == status && error.code == code && error.message.contains(part),
            "{line}: {} {error:?}",
            page.status
        );
    }
    let page = web.ask("POST /v1/submit", &[("content-type", "application/json")], SUBMIT.as_bytes());
    assert!(page.status == 401 && page.head.contains("www-authenticate: bearer"));
    let bearer = format!("Bearer {token}");
    let form = [("authorization", bearer.as_str()), ("content-type", "application/x-www-form-urlencoded")];
    let page = web.ask("POST /v1/submit", &form, SUBMIT.as_bytes());
    assert!(page.status == 415 && page.error().message.contains("application/json"));
    let protobuf = [("authorization", bearer.as_str()), ("content-type", "application/x-protobuf")];
    let page = web.ask("POST /v1/submit", &protobuf, &[0x08, 0xff]);
    assert_eq!((page.status, v1::Error::decode(&page.body[..]).unwrap().code.as_str()), (400, "malformed"));
    assert_eq!(web.json("POST /v1/submit", &token, SUBMIT).status, 200);
    assert_eq!(server.draws.calls(), 1);
    let page = web.json("POST /v1/submit", &token, &" ".repeat(16 * 1024 + 1));
    assert_eq!((page.status, page.error().code.as_str()), (413, "too_large"));
}

#[test]
fn rotated_keys_are_noticed_though_tokens_are_remembered() {
    let server = start();
    let token = server.user_token(5);
    let mut web = Web::new(&server);
    assert_eq!(web.json("POST /v1/submit", &token, SUBMIT).status, 200);
    assert_eq!(web.json("POST /v1/submit", &token, SUBMIT).status, 200);
    let other = access::token::TokenKey::new("k9", &[1; 32]).unwrap();
    server.cell.replace(access::token::TokenKeys::new(vec![other]).unwrap());
    let page = web.json("POST /v1/submit", &token, SUBMIT);
    assert!(page.status == 401 && page.error().message.contains("kid"));
}

#[test]
fn a_win_that_takes_too_long_is_pending() {
    let server = start_with(Limits { late_ms: 50, ..Limits::default() });
    let mut web = Web::new(&server);
    let page = web.json("POST /v1/submit", &server.user_token(UNANSWERED), SUBMIT);
    let answer: v1::SubmitAnswer = json::read(&page.body).unwrap();
    assert_eq!((answer.outcome(), answer.counter, answer.next_counter), (Outcome::Pending, 1, 1));
    assert!(answer.next_submit_ms > 0);
}

#[test]
fn requests_are_limited_by_address_and_bodies_by_size_before_they_come() {
    let server = start_with(Limits { http_per_second_address: 2, ..Limits::default() });
    let mut web = Web::new(&server);
    assert_eq!(web.ask("GET /healthz", &[], b"").status, 200);
    assert_eq!(web.ask("GET /healthz", &[], b"").status, 200);
    let page = web.ask("GET /healthz", &[], b"");
    assert!(page.status == 429 && page.error().retry_after_ms > 0);
    // Frames have a limit of their own.
    let mut client = server.user(5);
    client.empty(FrameKind::Heartbeat, 3);
    assert!(client.next().is_some());
}

#[test]
fn a_body_in_chunks_is_one_body() {
    let server = start();
    let mut web = Web::new(&server);
    let token = server.user_token(5);
    let (a, b) = SUBMIT.split_at(10);
    let head = format!(
        "POST /v1/submit HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n"
    );
    for part in [head, format!("{:x}\r\n{a}\r\n", a.len()), format!("{:x}\r\n{b}\r\n0\r\n\r\n", b.len())] {
        web.0.get_mut().write_all(part.as_bytes()).unwrap();
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let page = web.page();
    assert_eq!(page.status, 200, "{}", String::from_utf8_lossy(&page.body));
}
