//! What a process apart refuses to start with, or waits for: each with the exit code that a supervisor goes by, and a message
//! that says what is wrong, where, and what would be right.

use super::{Cluster, PATIENCE, port};
use crate::http::Client;
use crate::platform::CROWD;
use crate::players::outcome;
use serde_json::json;
use std::net::TcpListener;
use std::process::Command;
use std::time::{Duration, Instant};

const USAGE: i32 = 2;
const BAD_CONFIG: i32 = 64;
const DATA_IN_USE: i32 = 67;
const CANNOT_LISTEN: i32 = 68;

/// Addresses of this machine where nobody listens: a port that was free a moment ago may be somebody's by now.
fn closed(n: u8) -> String {
    format!("127.0.0.{n}:1")
}

fn run(args: &[&str]) -> (i32, String) {
    let out = Command::new(super::BINARY).arg("run").args(args).env_remove("RUST_LOG").output().unwrap();
    (out.status.code().unwrap(), String::from_utf8_lossy(&out.stderr).into_owned())
}

#[test]
fn without_servers_it_says_what_is_missing() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let data = data.to_str().unwrap();
    let (code, said) = run(&["--role", "flow", "--data", data]);
    assert!(code == BAD_CONFIG && said.contains("cluster.name is not set"), "{code} {said}");
    let (code, said) = run(&["--role", "flow", "--data", data, "--config", "/nowhere/c.toml"]);
    assert!(code == BAD_CONFIG && said.contains("/nowhere/c.toml"), "{code} {said}");
    let (code, said) = run(&["--role", "floe", "--data", data]);
    assert!(
        code == USAGE && said.contains("roles are access, lottery, flow, delivery, console"),
        "{code} {said}"
    );
    let (code, said) = run(&["--data", data]);
    assert!(code == USAGE && said.contains("--role"), "{code} {said}");
    for (key, value) in
        [("name", "x"), ("postgres", "postgres://u@h/d"), ("kafka", "['h:1']"), ("keys", "/k")]
    {
        let all = [("name", "x"), ("postgres", "postgres://u@h/d"), ("kafka", "['h:1']"), ("keys", "/k")];
        let mut args = vec!["--role".to_owned(), "flow".into(), "--data".into(), data.into()];
        for (name, value) in all.iter().filter(|(name, _)| *name != key) {
            args.extend(["--set".to_owned(), format!("cluster.{name}={value}")]);
        }
        let (code, said) = run(&args.iter().map(String::as_str).collect::<Vec<_>>());
        let missing = format!("cluster.{key} is not set");
        assert!(code == BAD_CONFIG && said.contains(&missing), "{key} = {value}: {code} {said}");
    }
}

#[test]
fn settings_that_do_not_fit_are_refused() {
    let Some(cluster) = Cluster::new(CROWD, "") else { return };
    let refused = |role: &str, set: &str, code: i32, said: &[&str]| {
        cluster.spawn(role, "data", &["--set", set]).ended().expect(code, said);
    };
    refused("lottery", "node.id=4", BAD_CONFIG, &["node.id is 4", "cluster.lanes = 4 allows 0 to 3"]);
    refused("flow", "cluster.lanes=2000", BAD_CONFIG, &["cluster.lanes: 1 to 1024"]);
    refused("flow", "cluster.weight=0", BAD_CONFIG, &["cluster.weight: 1 to 1000"]);
    refused("flow", "cluster.keys=/nowhere", BAD_CONFIG, &["/nowhere", "hongbao keys"]);
    refused(
        "lottery",
        "cluster.memcached=['nonsense']",
        BAD_CONFIG,
        &["cluster.memcached", "nonsense", "host:port"],
    );
    refused(
        "access",
        "cluster.redis=['nonsense']",
        BAD_CONFIG,
        &["cluster.redis", "redis://user:password@host:port"],
    );
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = taken.local_addr().unwrap().to_string();
    refused("flow", &format!("cluster.calls={at}"), CANNOT_LISTEN, &[&at, "cluster.calls"]);
    refused("flow", &format!("cluster.http={at}"), CANNOT_LISTEN, &[&at, "cluster.http"]);
    refused("console", &format!("console.http={at}"), CANNOT_LISTEN, &[&at, "console.http"]);
}

#[test]
fn a_server_that_refuses_us_ends_the_start_and_no_password_is_shown() {
    let Some(cluster) = Cluster::new(CROWD, "") else { return };
    let url = cluster.database.url().to_owned();
    let (head, tail) = url.split_once("://").unwrap();
    let (_, at) = tail.rsplit_once('@').unwrap();
    let (server, database) = at.split_once('/').unwrap();
    let wrong = [
        (format!("{head}://hongbao:se3ret@{at}"), &[server, "hongbao", "refuses"][..]),
        (format!("{head}://nobody:se3ret@{at}"), &[server, "nobody", "refuses"]),
        (url.replace(database, "nodatabase"), &[server, "nodatabase", "refuses"]),
        ("mysql://ada:se3ret@h/d".to_owned(), &["postgres://USER:PASSWORD@HOST:PORT/DATABASE"]),
    ];
    let password = tail.split_once(':').and_then(|(_, t)| t.split_once('@')).map(|(p, _)| p).unwrap();
    for (url, said) in wrong {
        let set = format!("cluster.postgres={url}");
        let ended = cluster.spawn("flow", "data", &["--set", &set]).ended();
        ended.expect(BAD_CONFIG, said);
        ended.expect(BAD_CONFIG, &["cluster.postgres"]);
        assert!(!ended.stderr.contains("se3ret") && !ended.stderr.contains(password), "{}", ended.stderr);
    }
    // One copy only, without the switch that says so.
    let ended = cluster.spawn("flow", "data", &["--set", "cluster.development=false"]).ended();
    ended.expect(BAD_CONFIG, &[server, "keeps one copy only", "development"]);
}

/// Who is away is named and waited for, and whoever waits can be told to stop.
#[test]
fn a_server_that_is_away_is_waited_for() {
    let Some(cluster) = Cluster::new(CROWD, "") else { return };
    let (postgres, kafka, memcached, redis) = (closed(2), closed(3), closed(4), closed(5));
    let set = format!("cluster.postgres=postgres://ada:se3ret@{postgres}/x");
    let mut process = cluster.spawn("flow", "one", &["--set", &set]);
    process.says(&["PostgreSQL can't be used yet", &postgres, "trying again", "cluster.postgres"]);
    process.stop();
    let set = format!("cluster.kafka=['{kafka}']");
    let mut process = cluster.spawn("flow", "two", &["--set", &set]);
    process.says(&["Kafka can't be used yet", &kafka, "trying again"]);
    process.stop();
    // Commands don't wait.
    let set = format!("cluster.postgres=postgres://ada:se3ret@{postgres}/x");
    let since = Instant::now();
    let (code, _, err) = cluster.command(&["admin", "nodes", "--set", &set]);
    assert!(code == 1 && err.contains(&postgres) && !err.contains("se3ret"), "{code} {err}");
    assert!(since.elapsed() < PATIENCE);
    // These two are done without.
    let more = [
        "--set",
        "node.id=2",
        "--set",
        &format!("cluster.memcached=['{memcached}']"),
        "--set",
        &format!("cluster.redis=['redis://{redis}']"),
        "--set",
        "access.limits.loopback_exempt=false",
    ];
    let (mut process, ports) = cluster.start("access,lottery,flow", "three", &more);
    let mut player = Client::new(port(&ports, "http"), &cluster.print(&["token", "user", "--user", "5"]));
    loop {
        let draw = json!({"campaign": 7, "round": 1, "counter": 1, "shakes": 1});
        if let Ok(answer) = player.post("/v1/submit", &draw)
            && answer.status == 200
            && ["WON", "LOST"].contains(&outcome(&answer))
        {
            break;
        }
        assert!(since.elapsed() < 2 * PATIENCE, "nobody draws");
        std::thread::sleep(Duration::from_millis(200));
    }
    process.says(&["Redis does not answer", &redis]);
    process.says(&["memcached does not answer", &memcached]);
    process.stop();
}

#[test]
fn a_topic_of_another_shape_is_refused() {
    let Some(cluster) = Cluster::new(CROWD, "") else { return };
    cluster.start("flow", "data", &[]).0.stop();
    let refused = |set: &str, said: &[&str]| {
        let ended = cluster.spawn("flow", "data", &["--set", set]).ended();
        ended.expect(BAD_CONFIG, said);
        ended.expect(BAD_CONFIG, &["cluster.kafka", "another number of partitions", "What to do"]);
    };
    refused("queue.partitions=3", &[".orders", "found \"2\"", "wanted 3"]);
    refused("cluster.lanes=5", &[".lane", "found \"4\"", "wanted 5"]);
}

#[test]
fn a_node_number_that_is_in_use_is_refused() {
    let Some(cluster) = Cluster::new(CROWD, "") else { return };
    let node = ["--set", "node.id=3"];
    let (mut first, _) = cluster.start("lottery,flow", "data", &node);
    // The same folder, and the same number in another one.
    cluster.spawn("lottery", "data", &node).ended().expect(DATA_IN_USE, &["in use by process"]);
    let second = cluster.spawn("lottery", "elsewhere", &node).ended();
    second.expect(BAD_CONFIG, &["lottery node 3", "another node number, or stop that one"]);
    assert!(!first.has_ended());
    first.stop();
}
