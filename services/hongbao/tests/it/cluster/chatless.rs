//! A front door without a chat node says so to everybody who comes to chat, with a time to come again, and serves them as
//! soon as there is one.

use super::Cluster;
use super::member::{Member, wait_until};
use crate::http::Client;
use crate::platform::CROWD;
use serde_json::{Value, json};
use std::time::Duration;

const SLOW: Duration = Duration::from_secs(120);

fn send(counter: u64) -> Value {
    json!({
        "toUser": "8", "counter": counter.to_string(), "kind": "MESSAGE_KIND_TEXT", "body": "aGVsbG8=", "device": "1",
    })
}

#[test]
fn a_front_door_without_chat_says_so_until_there_is_some() {
    let Some(cluster) = Cluster::new(CROWD, "[chat]\nstore = \"postgresql\"\nfriends_only = false\n") else {
        return;
    };
    let access = Member::start(&cluster, "access", 1);
    let mut client = Client::new(access.port("http"), &cluster.print(&["token", "user", "--user", "7"]));
    let answer = client.post("/v1/chat/send", &send(1)).unwrap();
    assert_eq!((answer.status, &answer.body["outcome"]), (200, &json!("SEND_OUTCOME_BUSY")), "{answer:?}");
    assert!(answer.body["retryAfterMs"].as_u64() >= Some(1_000), "{answer:?}");
    let answer = client.post("/v1/chat/conversations", &json!({})).unwrap();
    assert_eq!((answer.status, &answer.body["code"]), (503, &json!("unavailable")), "{answer:?}");
    assert!(answer.body["retryAfterMs"].as_u64() > Some(0), "{answer:?}");
    let _chat = Member::start(&cluster, "chat", 2);
    wait_until("the message is stored", SLOW, || {
        let stored = client.post("/v1/chat/send", &send(1));
        stored.is_ok_and(|answer| answer.body["outcome"] == "SEND_OUTCOME_STORED")
    });
    wait_until("he sees it in his list", SLOW, || {
        let list = client.post("/v1/chat/conversations", &json!({}));
        list.is_ok_and(|answer| answer.body["conversations"].as_array().is_some_and(|all| all.len() == 1))
    });
}
