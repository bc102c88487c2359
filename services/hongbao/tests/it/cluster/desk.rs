//! Operators of a cluster: two consoles on the same servers, brakes that hold on every node, and the books at the end.

use super::{Cluster, PATIENCE, port};
use crate::http::Client;
use crate::platform::CROWD;
use crate::players::{number, outcome};
use crate::quotactl::Desk;
use crate::vendor::Vendor;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

fn prize<'a>(status: &'a Value, at: &str) -> &'a Value {
    let prizes = status["prizes"].as_array().unwrap();
    prizes.iter().find(|p| p["at"] == at).unwrap_or(&Value::Null)
}

/// Shakes until `enough`, and hands every answer over.
fn play(player: &mut Client, counter: &mut u32, enough: &mut dyn FnMut(&Value) -> bool) {
    let since = Instant::now();
    loop {
        assert!(since.elapsed() < PATIENCE, "it goes on for ever");
        let body = json!({"campaign": 7, "round": 1, "counter": *counter, "shakes": 3});
        let Ok(answer) = player.post("/v1/submit", &body) else { continue };
        if answer.status == 200 && outcome(&answer) != "PENDING" {
            *counter = number(&answer.body["nextCounter"]) as u32;
            if enough(&answer.body) {
                return;
            }
        }
        std::thread::sleep(Duration::from_millis(15));
    }
}

/// The limits of vendor 1 that nodes keep to.
fn limits(nodes: &mut [Client]) -> Vec<u64> {
    let limit = |node: &mut Client| {
        let answer = node.get("/admin/status").unwrap();
        number(&answer.body["delivery"]["vendors"][0]["limit_per_second"])
    };
    nodes.iter_mut().map(limit).collect()
}

#[track_caller]
fn until_limits(nodes: &mut [Client], wanted: u64) {
    let since = Instant::now();
    while limits(nodes).iter().any(|limit| *limit != wanted) {
        assert!(since.elapsed() < PATIENCE, "{:?}, not {wanted}", limits(nodes));
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// A pause at one desk, a lowering at the other: each shows what the other did, and both hold while somebody plays.
fn brakes(first: &Desk, second: &Desk, mut play: impl FnMut(&mut dyn FnMut(&Value) -> bool)) {
    let paused = first.json("ada", &["pause", "7", "prize:1/1", "--reason", "the wallet is down", "--yes"]);
    assert_eq!(paused["effects"][0]["done"], true, "{paused}");
    second.until("ada", "its leases come back", |s| {
        prize(s, "1/1")["paused"] == true && prize(s, "1/1")["open_leases"] == 0
    });
    let before = second.json("ada", &["status"]);
    let mut left = 30;
    play(&mut |answer| {
        assert_ne!(answer["award"]["prize"], 1, "{answer}");
        left -= 1;
        left == 0
    });
    // A lowering at the other, live: exactly what was asked.
    let lowered = second.json("ada", &["lower", "7", "1/2", "5000", "--reason", "fewer cups", "--yes"]);
    assert_eq!(lowered["effects"][0]["taken"], "5000", "{lowered}");
    first.until("ada", "the lowering shows", |s| prize(s, "1/2")["budget"] == "15000");
    let after = first.json("ada", &["status"]);
    assert_eq!(prize(&before, "1/1")["awarded"], prize(&after, "1/1")["awarded"]);
}

/// One command settles what the servers have that the configuration names.
fn books(cluster: &Cluster) {
    let (code, out, err) = cluster.command(&["reconcile", "--json", "settlement.json"]);
    assert_eq!(code, 4, "nobody wrote down what players were told: {out}{err}");
    assert!(out.contains("not replicated"), "{out}");
    let settlement: Value =
        serde_json::from_slice(&std::fs::read(cluster.path("settlement.json")).unwrap()).unwrap();
    let laws = settlement["laws"].as_array().unwrap();
    assert!(laws.len() == 7 && laws.iter().all(|law| law["holds"] != false), "{settlement}");
    assert!(
        cluster.path("reconcile/archive").is_dir() && cluster.path("reconcile/statement-1.csv").is_file()
    );
    // Again it goes on with the copy that it has; an archive that is named is read as it is.
    let again = cluster.command(&["reconcile", "--archive", "reconcile/archive"]);
    assert_eq!(again.0, 4, "{}{}", again.1, again.2);
    let nowhere = ["reconcile", "--set", "cluster.postgres=postgres://ada:se3ret@127.0.0.1:1/x"];
    let (code, _, err) = cluster.command(&nowhere);
    assert!(code == 1 && err.contains("127.0.0.1:1") && !err.contains("se3ret"), "{code} {err}");
}

#[test]
fn two_consoles_brake_a_cluster_and_its_books_are_settled() {
    let vendor = Vendor::start();
    let Some(cluster) = Cluster::new(CROWD, &vendor.config()) else { return };
    let (behind, behind_at) = cluster.start("flow,delivery,access", "behind", &[]);
    let (draws, _) = cluster.start("lottery", "lottery", &["--set", "node.id=1"]);
    let (other, other_at) = cluster.start("delivery", "other", &[]);
    let (one, one_at) = cluster.start("console", "one", &[]);
    let (two, two_at) = cluster.start("console", "two", &[]);
    let first = Desk::at(cluster.keys(), port(&one_at, "console"));
    let second = Desk::at(cluster.keys(), port(&two_at, "console"));
    let token = cluster.print(&["token", "operator", "--name", "ada", "--role", "admin"]);
    first.login("ada", &token);
    second.login("ada", &token);

    // Who runs what, from the servers alone.
    first.until("ada", "the node says what it runs", |s| {
        let node = &s["nodes"][0];
        node["node"] == 1 && node["session"] == true && node["plans"][0]["seq_no"] == "1"
    });
    let mut player =
        Client::new(port(&behind_at, "http"), &cluster.print(&["token", "user", "--user", "41"]));
    let (mut counter, mut cash) = (1, 0);
    play(&mut player, &mut counter, &mut |answer| {
        cash += u32::from(answer["award"]["prize"] == 1);
        cash >= 3
    });
    second.until("ada", "what was won shows", |s| number(&prize(s, "1/1")["awarded"]) >= 3);

    brakes(&first, &second, |enough| play(&mut player, &mut counter, enough));

    // A vendor's limit: on every node that delivers, and on one that starts anew.
    let admin = cluster.print(&["token", "admin"]);
    let node = |ports: &Value| Client::new(port(ports, "health"), &admin);
    let mut nodes = [node(&behind_at), node(&other_at)];
    assert_eq!(limits(&mut nodes), [5_000, 5_000]);
    first.expect("ada", &["vendor-limit", "9", "1", "--reason", "x", "--yes"], 1, "knows no vendor 9");
    first.expect("ada", &["vendor-limit", "1", "0", "--reason", "it is closed", "--yes"], 0, "");
    until_limits(&mut nodes, 0);
    second.until("ada", "the limit shows", |s| s["vendors"][0]["limit_per_second"] == 0);
    let refused = nodes[0].post("/admin/limit", &json!({"vendor": 1, "per_second": 7})).unwrap();
    assert_eq!(
        (refused.status, refused.body.to_string().contains("vendor-limit")),
        (409, true),
        "{refused:?}"
    );
    other.stop();
    let (other, other_at) = cluster.start("delivery", "other", &[]);
    let mut nodes = [node(&behind_at), node(&other_at)];
    assert_eq!(limits(&mut nodes), [0, 0], "before it sends anything");
    // One console is killed; the other goes on.
    drop(one);
    second.expect("ada", &["vendor-limit", "1", "configured", "--reason", "open again", "--yes"], 0, "");
    until_limits(&mut nodes, 5_000);
    second.expect("ada", &["resume", "7", "prize:1/1", "--reason", "it is back", "--yes"], 0, "is active");
    play(&mut player, &mut counter, &mut |answer| answer["award"]["prize"] == 1);
    second.expect("ada", &["verify-audit"], 0, "versions as they were written");
    second.until("ada", "everything is delivered", |s| {
        let won = number(&prize(s, "1/1")["awarded"]);
        won >= 4 && won == vendor.paid().len() as u64 && number(&s["vendors"][0]["backlog"]) == 0
    });

    for process in [two, draws, behind, other] {
        process.stop();
    }
    vendor.check();
    books(&cluster);
}
