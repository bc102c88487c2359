//! What a player or a stranger may send wrongly: an answer that says so, and a platform that goes on.

use crate::http::Client;
use crate::platform::{CROWD, Place, Platform};
use crate::players::{entry, number, outcome};
use serde_json::json;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

#[track_caller]
fn expect(answer: &crate::http::Answer, status: u16, code: &str, said: &str) {
    assert_eq!((answer.status, &answer.body["code"]), (status, &json!(code)), "{answer:?}");
    let message = answer.body["message"].as_str().unwrap_or_default();
    assert!(message.contains(said), "{said:?} is missing: {message}");
}

#[test]
fn over_http() {
    let place = Place::new(CROWD);
    let platform = place.start();
    tokens(&place, &platform);
    let mut player = platform.client(&place.user_token(5));
    bodies(&mut player);
    draws(&mut player);
    frames(&platform);
    let stranger = Client::new(platform.http, "guess").get("/admin/status").unwrap();
    assert_eq!(stranger.status, 401);
    assert!(stranger.body["error"].as_str().unwrap().contains("token admin"));
    let won_or_lost = player.post("/v1/submit", &entry(5, 1)).unwrap();
    assert!(matches!(outcome(&won_or_lost), "WON" | "LOST" | "PENDING"), "it goes on: {won_or_lost:?}");
    platform.stop();
}

fn tokens(place: &Place, platform: &Platform) {
    let good = place.user_token(5);
    let mut forged = good.clone().into_bytes();
    let last = forged.len() - 4;
    forged[last] = if forged[last] == b'A' { b'B' } else { b'A' };
    let forged = String::from_utf8(forged).unwrap();
    let other = Place::new(CROWD);
    std::fs::create_dir_all(other.data()).unwrap();
    for token in [forged.as_str(), &other.user_token(5), "", "x"] {
        let answer = platform.client(token).post("/v1/submit", &entry(5, 1)).unwrap();
        expect(&answer, 401, "unauthenticated", "");
    }
    let short = place.print(&["token", "user", "--user", "5", "--ttl", "1s"]);
    std::thread::sleep(Duration::from_millis(2_100));
    let answer = platform.client(&short).post("/v1/submit", &entry(5, 1)).unwrap();
    expect(&answer, 401, "token_expired", "");
    let another = platform.client(&good).post("/v1/submit", &entry(6, 1)).unwrap();
    assert_eq!((another.status, &another.body["code"]), (403, &json!("forbidden")), "{another:?}");
}

fn bodies(player: &mut Client) {
    let mut send = |body: &str| player.call("POST", "/v1/submit", body).unwrap();
    expect(&send("{\"campaign\": 7,\n \"round\": }"), 400, "malformed", "line 2, column 11");
    expect(&send("{\"campaing\": 7}"), 400, "malformed", "campaing");
    expect(&send("[]"), 400, "malformed", "");
    expect(&send(""), 400, "malformed", "");
    expect(&send(&entry(5, 0).to_string()), 400, "invalid", "counter is 0");
    let large = format!("{{\"campaign\": {}7}}", " ".repeat(20_000));
    expect(&send(&large), 413, "too_large", "16384");
    let mut player = Client::new(player.address(), player.token());
    expect(&player.get("/v1/nothing").unwrap(), 404, "no_route", "/v1/submit");
    expect(&player.get("/v1/prizes?size=3").unwrap(), 400, "invalid", "limit");
    let claim = player.post("/v1/claim", &json!({"award": "0000000000000000000000000A"})).unwrap();
    expect(&claim, 404, "not_found", "");
    let claim = player.post("/v1/claim", &json!({"award": "nonsense"})).unwrap();
    expect(&claim, 400, "invalid", "");
}

fn draws(player: &mut Client) {
    let mut send = |campaign, round, counter| {
        let body = json!({"campaign": campaign, "round": round, "counter": counter, "shakes": 1});
        player.post("/v1/submit", &body).unwrap()
    };
    assert_eq!(outcome(&send(99, 1, 1)), "UNKNOWN_CAMPAIGN");
    assert_eq!(outcome(&send(7, 99, 1)), "UNKNOWN_CAMPAIGN");
    let later = send(7, 2, 1);
    assert_eq!(outcome(&later), "NOT_OPEN", "{later:?}");
    let now_ms =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() as u64;
    let until_ms = number(&later.body["untilMs"]);
    let in_ms = until_ms.saturating_sub(now_ms);
    assert!((7_100_000..=7_200_000).contains(&in_ms), "opens in two hours, not in {in_ms} ms");
    let far = send(7, 1, 4_000_000_000u32);
    assert_eq!(outcome(&far), "BAD_COUNTER", "{far:?}");
    assert_eq!(number(&far.body["nextCounter"]), 1);
}

/// Bytes that are no frame end the connection, with a last word; the next connection is served.
fn frames(platform: &Platform) {
    for bytes in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[5, 0, 0, 0, 99, 0, 0, 0, 0], &[255, 255, 255, 255, 1]] {
        let mut stream = TcpStream::connect(platform.tcp).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        stream.write_all(bytes).unwrap();
        let mut said = Vec::new();
        stream.read_to_end(&mut said).unwrap();
        let text = String::from_utf8_lossy(&said);
        assert!(text.contains("malformed"), "{bytes:?} was answered {text:?}");
    }
}
