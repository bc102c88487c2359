//! Every refusal is a problem document that says what is wrong.

use crate::support::{Fake, SMALL, World, config};
use console::ConsoleConfig;
use http::Method;
use quota_config::MemoryRepository;
use runtime::ManualClock;
use serde_json::json;
use std::sync::Arc;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// A console whose clock stands, so that nobody earns another request by being slow.
async fn standing(config: ConsoleConfig) -> World {
    let dir = Arc::new(tempfile::tempdir().unwrap());
    let clock = ManualClock::new(1_771_243_200_000);
    World::timed(dir, config, Arc::new(MemoryRepository::new()), Fake::with_prizes(), clock).await
}

#[tokio::test]
async fn strangers_hear_401_and_then_429() {
    let config = ConsoleConfig { strangers_burst: 5, strangers_per_minute: 1, ..config() };
    let world = standing(config).await;
    let none = world.ask(Method::GET, "/v1/whoami").send().await;
    assert!(none.problem(401, "no-token").contains("Authorization: Bearer"));
    assert!(none.header("www-authenticate").starts_with("Bearer"));
    for wrong in ["Basic abc", "Bearer ", "Bearer", "hbo_x"] {
        let ask = world.ask(Method::GET, "/v1/whoami").header("authorization", wrong);
        ask.send().await.problem(401, "no-token");
    }
    let slow = world.ask(Method::GET, "/v1/whoami").by("hbo_0").send().await;
    slow.problem(429, "too-many");
    assert!(slow.header("retry-after").parse::<u64>().unwrap() > 0);
    assert_eq!(world.get("vic", "/v1/whoami").send().await.status, 200, "whoever has a token gets through");
    world.end().await;
}

#[tokio::test]
async fn a_token_has_a_rate_and_brakes_are_not_counted() {
    let config = ConsoleConfig { token_burst: 3, token_per_second: 1, ..config() };
    let world = standing(config).await;
    world.begin().await;
    let mut statuses = Vec::new();
    for _ in 0..4 {
        statuses.push(world.get("olga", "/v1/whoami").send().await.status);
    }
    assert_eq!(statuses.last(), Some(&429), "{statuses:?}");
    let body = json!({"target": "campaign", "reason": "stop it"});
    assert_eq!(world.post("olga", "/v1/campaigns/4/stop", body).send().await.status, 201);
    world.end().await;
}

#[tokio::test]
async fn routes_methods_and_kinds_of_bodies_are_named() {
    let world = World::new().await;
    world.begin().await;
    let token = world.tokens["olga"].clone();
    let missing = world.get("olga", "/v1/nothing").send().await;
    assert!(missing.problem(404, "not-found").contains("/openapi.json"));
    let method = world.ask(Method::DELETE, "/v1/campaigns").by(&token).send().await;
    assert!(method.problem(405, "method").contains("GET,HEAD,POST"), "{}", method.text());
    assert_eq!(method.header("allow"), "GET,HEAD,POST");
    let path = "/v1/campaigns/4/pause";
    let text = world.ask(Method::POST, path).by(&token).header("content-type", "text/plain");
    assert!(text.body(b"{}".to_vec()).send().await.problem(415, "media-type").contains("application/json"));
    world.ask(Method::POST, path).by(&token).send().await.problem(415, "media-type");
    let file = world.ask(Method::POST, "/v1/validate").by(&token).json(json!({}));
    file.send().await.problem(415, "media-type");
    let long = world.ask(Method::POST, path).by(&token).header("content-type", "application/json");
    long.body(vec![b' '; 65_537]).send().await.problem(413, "too-long");
    let exact = world.ask(Method::POST, path).by(&token).header("content-type", "application/json");
    exact.body(vec![b' '; 65_536]).send().await.problem(400, "malformed");
    world.end().await;
}

#[tokio::test]
async fn bodies_and_queries_that_can_not_be_are_explained() {
    let world = World::new().await;
    world.begin().await;
    let path = "/v1/campaigns/4/pause";
    let raw = |body: &str| {
        let ask = world.ask(Method::POST, path).by(&world.tokens["olga"]);
        ask.header("content-type", "application/json").body(body.as_bytes().to_vec())
    };
    let broken = raw("{\"target\": \"campaign\",\n  oops}").send().await;
    broken.problem(400, "malformed");
    assert_eq!(broken.json()["errors"][0]["line"], 2);
    let unknown = raw(r#"{"target": "campaign", "reason": "r", "dry_run": true}"#).send().await;
    assert!(unknown.problem(422, "refused").contains("dry_run"), "a slip does not become a change");
    for (body, says) in [
        (r#"{"target": "campaign"}"#, "reason"),
        (r#"{"target": "campaign", "reason": " "}"#, "say why"),
        (r#"{"target": "campaign", "reason": "a\u0000b"}"#, "control characters"),
        (r#"{"target": "prize:2", "reason": "r"}"#, "prize:2"),
        (r#"{"target": 7, "reason": "r"}"#, "string"),
        ("[]", "Switch"),
    ] {
        let answer = raw(body).send().await;
        let detail = answer.problem(422, "refused");
        assert!(detail.contains(says), "{body}: {detail}");
    }
    world
        .post("olga", "/v1/campaigns/4/pause?dryrun=true", json!({"target": "campaign", "reason": "r"}))
        .send()
        .await
        .problem(400, "malformed");
    world
        .post("olga", "/v1/campaigns/x/pause", json!({"target": "campaign", "reason": "r"}))
        .send()
        .await
        .problem(400, "malformed");
    world
        .post("olga", path, json!({"target": "round:9", "reason": "r"}))
        .send()
        .await
        .problem(404, "not-found");
    world
        .post("olga", "/v1/campaigns/4/resume", json!({"target": "round:1", "reason": "r"}))
        .send()
        .await
        .problem(409, "conflict");
    world.file("olga", "/v1/campaigns", SMALL).send().await.problem(400, "malformed");
    world.file("olga", "/v1/campaigns?reason=", SMALL).send().await.problem(400, "malformed");
    world.file("olga", "/v1/campaigns?reason=r", "").send().await.problem(422, "invalid-file");
    assert_eq!(world.get("vic", "/v1/campaigns/4").send().await.json()["seq_no"], "1");
    world.end().await;
}

#[tokio::test]
async fn a_head_that_never_ends_is_cut_off() {
    let config = ConsoleConfig { head_ms: 200, ..config() };
    let world = World::with(config, Arc::new(MemoryRepository::new())).await;
    let address = world.url.strip_prefix("http://").unwrap();
    let mut socket = tokio::net::TcpStream::connect(address).await.unwrap();
    socket.write_all(b"GET /healthz HTTP/1.1\r\nhost: a\r\n").await.unwrap();
    let mut rest = Vec::new();
    let ended = tokio::time::timeout(std::time::Duration::from_secs(60), socket.read_to_end(&mut rest)).await;
    assert!(ended.is_ok(), "the connection stays open");
    world.end().await;
}

#[tokio::test]
async fn a_revoked_token_is_worth_nothing() {
    let world = World::new().await;
    let file = std::fs::read_dir(world.dir.path()).unwrap().map(|f| f.unwrap().path());
    let file = file.into_iter().find(|path| path.extension().is_some_and(|e| e == "toml")).unwrap();
    console::Operators::revoke(&file, "otto").unwrap();
    let gone = async {
        while world.get("otto", "/v1/whoami").send().await.status != 401 {
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(60), gone).await.unwrap();
    assert_eq!(world.get("olga", "/v1/whoami").send().await.status, 200);
    world.end().await;
}
