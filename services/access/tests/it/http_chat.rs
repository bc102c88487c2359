//! Chat over HTTP, the scheduler, and the document that describes it all.

use access::token::GatewayGrant;
use access::{AccessConfig, AccessNode, FixedNodes, Limits, PublicConfig};
use prost::Message;
use protocol::json;
use protocol::v1::{self, SendOutcome};
use serde_json::Value;

use crate::harness::*;
use crate::http::Web;

const HELLO: &str =
    r#"{"conversation":"5","counter":"1","kind":"MESSAGE_KIND_TEXT","body":"aGVsbG8=","device":"7"}"#;

#[test]
fn messages_are_sent_with_a_device() {
    // Late answers are waited for here, however slow the machine.
    let (server, chat) = start_chat(Limits { late_ms: 60_000, ..Limits::default() });
    let token = server.user_token(5);
    let mut web = Web::new(&server);
    for (counter, device) in [(1, true), (2, false)] {
        // The fake answers the first at once and the second late.
        let body = HELLO.replace("\"1\"", &format!("\"{counter}\""));
        let body = if device { body } else { body.replace(r#","device":"7""#, "") };
        let bearer = format!("Bearer {token}");
        let headers = [
            ("authorization", bearer.as_str()),
            ("content-type", "application/json"),
            ("hongbao-device", "7"),
        ];
        let page = web.ask("POST /v1/chat/send", &headers, body.as_bytes());
        let answer: v1::SendAnswer = json::read(&page.body).unwrap();
        assert_eq!((answer.outcome(), answer.counter, answer.user), (SendOutcome::Stored, counter, 0));
    }
    let seen = chat.seen.lock();
    assert!(seen.sends.iter().all(|call| (call.send.user, call.send.device) == (5, 7)));
    assert!(seen.sends.iter().all(|call| call.from.connection == 0 && call.send.body == b"hello"));
    drop(seen);
    // And here not.
    let (server, _chat) = start_chat(Limits { late_ms: 100, ..Limits::default() });
    let mut web = Web::new(&server);
    let page = web.json("POST /v1/chat/send", &token, &HELLO.replace("\"5\"", &format!("\"{SILENT}\"")));
    let answer: v1::SendAnswer = json::read(&page.body).unwrap();
    assert!(answer.outcome() == SendOutcome::Pending && answer.retry_after_ms > 0);
}

#[test]
fn other_requests_answer_the_message_itself() {
    let (server, _chat) = start_chat(Limits::default());
    let token = server.user_token(5);
    let mut web = Web::new(&server);
    let page = web.json("POST /v1/chat/sync", &token, r#"{"cursor":"3","limit":2}"#);
    let sync: v1::SyncAnswer = json::read(&page.body).unwrap();
    assert_eq!((sync.cursor, sync.unread_total), (5, 5_000));
    let page = web.json("POST /v1/chat/read", &token, r#"{"conversation":"5","seq":"9"}"#);
    assert_eq!(json::read::<v1::ReadAt>(&page.body).unwrap().seq, 9);
    let page = web.json("POST /v1/chat/groups", &token, r#"{"name":"us","members":["6"]}"#);
    assert_eq!(json::read::<v1::Done>(&page.body).unwrap().conversation, 5);
    let bearer = format!("Bearer {token}");
    let headers = [
        ("authorization", bearer.as_str()),
        ("content-type", "application/x-protobuf"),
        ("hongbao-device", "12"),
    ];
    let page = web.ask("POST /v1/chat/devices", &headers, b"");
    assert_eq!(v1::DevicesAnswer::decode(&page.body[..]).unwrap().devices[0].device, 12);
    let gateway = server.gateway_token(&GatewayGrant { name: "g".into(), ..GatewayGrant::default() });
    let page = web.json("POST /v1/chat/sync?user=9", &gateway, r#"{"limit":1}"#);
    assert_eq!(json::read::<v1::SyncAnswer>(&page.body).unwrap().unread_total, 9_000);
}

#[test]
fn mistakes_are_named() {
    let (server, _chat) = start_chat(Limits::default());
    let token = server.user_token(5);
    let mut web = Web::new(&server);
    let cases: [(&str, &str, u16, &str, &str); 8] = [
        ("POST /v1/chat/sync", "{", 400, "malformed", "line 1"),
        ("POST /v1/chat/sync", r#"{"corsor":"1"}"#, 400, "malformed", "corsor"),
        ("POST /v1/chat/sync?user=6", "{}", 403, "forbidden", "6"),
        ("POST /v1/chat/sync?device=6", "{}", 400, "invalid", "user=ID"),
        ("POST /v1/chat/recall", r#"{"conversation":"404"}"#, 404, "not_found", "404"),
        ("POST /v1/chat/send", r#"{"conversation":"5","counter":"1"}"#, 400, "invalid", "device is missing"),
        ("POST /v1/chat/nothing", "{}", 404, "no_route", "openapi"),
        ("GET /v1/chat/sync", "", 404, "no_route", "takes POST"),
    ];
    for (line, body, status, code, part) in cases {
        let page = web.json(line, &token, body);
        let error = page.error();
        assert!(
            page.status == status && error.code == code && error.message.contains(part),
            "{line}: {error:?}"
        );
    }
    let server = start();
    let page = Web::new(&server).json("POST /v1/chat/send", &server.user_token(5), HELLO);
    assert!(page.status == 409 && page.error().message.contains("no chat"));
}

#[test]
fn the_document_has_every_route() {
    let server = start();
    let mut web = Web::new(&server);
    let page = web.ask("GET /v1/openapi.json", &[], b"");
    assert!(page.status == 200 && page.head.contains("application/json"));
    let document: Value = serde_json::from_slice(&page.body).unwrap();
    let paths = document["paths"].as_object().unwrap();
    assert!(paths.len() > 28);
    for (path, methods) in paths {
        for method in methods.as_object().unwrap().keys() {
            let line = format!("{} {path}", method.to_uppercase());
            let page = web.json(&line, "a.b.c", "{}");
            let expected = if path == "/v1/scheduler" { 200 } else { 401 };
            assert_eq!(page.status, expected, "{line}");
        }
    }
}

#[test]
fn the_scheduler_names_this_node_or_the_best_of_the_list() {
    let public =
        PublicConfig { tcp: "play.example:7600".into(), region: "north".into(), ..PublicConfig::default() };
    let (server, _chat) = start_chat_as(AccessConfig { public, ..AccessConfig::default() });
    let mut web = Web::new(&server);
    let page = web.ask("GET /v1/scheduler?user=5&region=south", &[], b"");
    let said: Value = serde_json::from_slice(&page.body).unwrap();
    assert_eq!((&said["tcp"], &said["region"]), (&"play.example:7600".into(), &"north".into()));
    assert_eq!(said["websocket"], format!("ws://{}/v1/ws", server.http));
    assert!(said["ttlMs"].as_u64().unwrap() > 0);
    let node = |node: u16, region: &str, connections| AccessNode {
        node,
        tcp: format!("host{node}:1"),
        websocket: String::new(),
        region: region.into(),
        group: "stable".into(),
        share_permille: 1_000,
        connections,
        load: 0,
        draining: false,
    };
    let list = FixedNodes::new(vec![node(1, "north", 0), node(2, "south", 9), node(3, "south", 8)]);
    let server = start_as(AccessConfig::default(), None, Around { nodes: Some(list), ..Around::default() });
    let mut web = Web::new(&server);
    let page = web.ask("GET /v1/scheduler?user=5&region=south", &[], b"");
    let said: Value = serde_json::from_slice(&page.body).unwrap();
    assert_eq!((said["node"].as_u64(), said.get("websocket")), (Some(3), None));
    assert_eq!(web.ask("GET /v1/scheduler?zone=1", &[], b"").status, 400);
}
