//! People who chat while several chat nodes share the conversations, and nodes are killed, stopped for longer than their
//! session lives, added and taken away, Redis forgets everything, and PostgreSQL's connections end, in the middle of commits
//! too: every acknowledged message is at every device of every member once, in order, without holes, and every unread count
//! equals a recount.

use super::Cluster;
use super::member::{Member, wait_until};
use super::talkers::{SLOW, Talking, judge};
use crate::platform::CROWD;
use crate::players::number;
use rustix::process::Signal;
use serde_json::Value;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;
use storage::pg::{Pg, PgOptions};
use testkit::between::{Between, Cut};
use testkit::servers;

/// As with one node: groups that are written to timelines, and one above the bound.
const CHAT: &str = "[chat]\nstore = \"postgresql\"\nwrite_members_max = 50\n";

const BUCKETS: u64 = 4_096;

/// Longer than a session lives without a word, and than others need to take over.
const ASLEEP: Duration = Duration::from_secs(5);

/// The installation's database, as a person at a console sees it.
pub(super) struct Database {
    runtime: tokio::runtime::Runtime,
    pg: Pg,
}

impl Database {
    pub fn of(cluster: &Cluster) -> Database {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let pg = runtime.block_on(Pg::open(PgOptions::patient(cluster.database.url()))).unwrap();
        Database { runtime, pg }
    }

    fn number(&self, statement: &str) -> u64 {
        let ask = async || {
            let mut connection = self.pg.connection().await.ok()?;
            let asked = storage::sqlx::query_scalar::<_, i64>(statement);
            asked.fetch_one(&mut *connection).await.ok()
        };
        // A connection that lay idle while all others were ended was ended too.
        let mut number = None;
        wait_until("the database answers", SLOW, || {
            number = self.runtime.block_on(ask());
            number.is_some()
        });
        number.unwrap().unsigned_abs()
    }

    /// Messages that are stored.
    fn messages(&self) -> u64 {
        self.number("SELECT count(*) FROM chat.message")
    }

    /// The chat node that has the bucket of a user or a conversation; 0: none.
    pub fn owner(&self, id: u64) -> u64 {
        let bucket = hashring::bucket_of(id).get();
        let text = format!(
            "SELECT coalesce(max(node), 0)::bigint FROM chat.user_bucket \
             WHERE bucket = {bucket} AND released_lane IS NULL"
        );
        self.number(&text)
    }

    /// Messages in the conversations of the official account, and those of them in its users' timelines.
    pub fn official(&self) -> (u64, u64) {
        let account = chat::accounts::Application::awards().account;
        let of = |what: &str| {
            self.number(&format!(
                "SELECT count(*) FROM {what} AND EXISTS \
                 (SELECT 1 FROM chat.member m WHERE m.conversation = x.conversation AND m.user_id = {account})"
            ))
        };
        (of("chat.message x WHERE TRUE"), of(&format!("chat.entry x WHERE user_id <> {account}")))
    }

    /// Ends every connection but this one: how many.
    fn hang_up(&self) -> u64 {
        self.number(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
             WHERE datname = current_database() AND pid <> pg_backend_pid()",
        )
    }
}

/// Has Redis forget what the installation's chat nodes told it: how many keys. The server is other tests' too.
fn forget(cluster: &Cluster) -> u64 {
    let Some(redis) = servers::redis() else { return 0 };
    let mut stream = TcpStream::connect(redis.trim_start_matches("redis://").trim_end_matches('/')).unwrap();
    let script = "local all = redis.call('keys', ARGV[1]) for _, key in ipairs(all) do redis.call('del', key) end return #all";
    write!(stream, "EVAL \"{script}\" 0 {}:chat:*\r\n", cluster.name).unwrap();
    let mut answer = [0; 64];
    let bytes = stream.read(&mut answer).unwrap();
    let answer = String::from_utf8_lossy(&answer[..bytes]).into_owned();
    answer.strip_prefix(':').and_then(|n| n.trim().parse().ok()).unwrap_or_else(|| panic!("{answer:?}"))
}

/// Chat nodes as the installation's servers have them: number, session, buckets.
fn owners(cluster: &Cluster) -> Vec<(u64, String, u64)> {
    let (_, said, error) = cluster.command(&["admin", "nodes", "--json"]);
    let nodes: Value = serde_json::from_str(&said).unwrap_or_else(|_| panic!("{said:?} {error}"));
    let line = |line: &Value| {
        (number(&line["node"]), line["session"].as_str().unwrap().to_owned(), number(&line["buckets"]))
    };
    nodes["chat"].as_array().unwrap().iter().map(line).collect()
}

/// Waits until these nodes and nobody else have every bucket, each of them some.
#[track_caller]
pub(super) fn shared_by(cluster: &Cluster, nodes: &[u64]) {
    let mut seen = Vec::new();
    wait_until("the buckets are shared", SLOW, || {
        seen = owners(cluster);
        seen.iter().map(|(node, ..)| *node).eq(nodes.iter().copied())
            && seen.iter().all(|(_, session, buckets)| session == "alive" && *buckets > 0)
            && seen.iter().map(|(.., buckets)| buckets).sum::<u64>() == BUCKETS
    });
}

#[test]
fn nothing_is_lost_doubled_or_out_of_order_when_owners_die_sleep_come_and_go() {
    let Some(cluster) = Cluster::new(CROWD, CHAT) else { return };
    let (admin, database) = (cluster.print(&["token", "admin"]), Database::of(&cluster));
    // The way of the third node to the database can be cut in the middle of a commit.
    let between = Between::new(cluster.database.url());
    let through = [format!("cluster.postgres={}", between.url())];
    let mut first = Member::start(&cluster, "chat", 1);
    let second = Member::start(&cluster, "chat", 2);
    let mut third = Member::start_with(&cluster, "chat", 3, &through);
    let mut doors = [1, 2].map(|n| Member::start(&cluster, "access", n));
    shared_by(&cluster, &[1, 2, 3]);
    let talking = Talking::begin(&cluster, doors.iter().map(|door| door.port("tcp")).collect());
    let goes_on = || talking.goes_on(|| database.messages());
    goes_on();
    first.kill();
    goes_on();
    shared_by(&cluster, &[2, 3]);
    first.again(&cluster);
    goes_on();
    for door in &mut doors {
        door.kill();
        door.again(&cluster);
        goes_on();
    }
    let mut fourth = Member::start(&cluster, "chat", 4);
    shared_by(&cluster, &[1, 2, 3, 4]);
    goes_on();
    // It hands over what it has, and ends well.
    second.stop();
    assert!(owners(&cluster).iter().all(|(node, ..)| *node != 2), "{:?}", owners(&cluster));
    goes_on();
    shared_by(&cluster, &[1, 3, 4]);
    forget(&cluster);
    goes_on();
    for cut in [Cut::Before, Cut::Behind, Cut::Behind, Cut::Before] {
        let before = between.cuts();
        between.cut_next(cut);
        wait_until("a commit is cut", SLOW, || between.cuts() > before);
        goes_on();
    }
    assert!(database.hang_up() > 0);
    goes_on();
    // It wakes as one whose buckets are others' by now, with words for them and pushes in its hands.
    fourth.signal(Signal::STOP);
    std::thread::sleep(ASLEEP);
    goes_on();
    fourth.signal(Signal::CONT);
    goes_on();
    shared_by(&cluster, &[1, 3, 4]);
    // Once more, all of it at the same time.
    for member in [&mut first, &mut third, &mut fourth].into_iter().chain(&mut doors) {
        member.kill();
    }
    forget(&cluster);
    for member in [&mut first, &mut third, &mut fourth].into_iter().chain(&mut doors) {
        member.again(&cluster);
    }
    goes_on();
    shared_by(&cluster, &[1, 3, 4]);
    judge(&talking.end());
    for door in &doors {
        wait_until("a door reaches all three", SLOW, || {
            let ways = door.status(&admin)["chat_nodes"].clone();
            let ways = ways.as_array().into_iter().flatten();
            ways.map(|way| (number(&way["node"]), way["up"] == true)).eq([(1, true), (3, true), (4, true)])
        });
    }
    for member in [&first, &third, &fourth] {
        wait_until("a node reaches both others", SLOW, || {
            let status = member.status(&admin)["chat"].clone();
            let others = status["peers"].as_array().cloned().unwrap_or_default();
            others.len() == 2 && others.iter().all(|other| other["up"] == true)
        });
    }
    doors.into_iter().for_each(Member::stop);
    [first, third, fourth].into_iter().for_each(Member::stop);
    assert_eq!(owners(&cluster), [], "whoever ends gives back what he had");
}

/// Conversations stay where they began, and each node has a number of its own.
#[test]
fn a_chat_node_that_would_begin_conversations_anew_is_refused() {
    let Some(cluster) = Cluster::new(CROWD, "") else { return };
    let database = ["--set", "chat.store=postgresql"];
    let refused = |set: &[&str], data: &str, what: &[&str]| {
        let mut node = cluster.spawn("chat", data, set);
        node.ended().expect(i32::from(runtime::exit::BAD_CONFIG), what);
    };
    refused(&["--set", "chat.store=postgres"], "a", &["chat.store", "postgresql"]);
    refused(&["--set", "node.id=1024", database[0], database[1]], "a", &["node.id is 1024", "0 to 1023"]);
    let chat = Member::start_with(&cluster, "chat", 7, &[database[1].to_owned()]);
    shared_by_one(&cluster, 7);
    let log = ["are in PostgreSQL", "chat node 7", "chat.store = \"postgresql\""];
    refused(&["--set", "node.id=8"], "another", &log);
    chat.stop();
    refused(&["--set", "node.id=7"], "chat-7", &log);
}

/// As [`shared_by`]; the configuration file itself does not say that nodes share.
#[track_caller]
fn shared_by_one(cluster: &Cluster, node: u64) {
    wait_until("it has the buckets", SLOW, || {
        let (_, said, _) = cluster.command(&["admin", "nodes", "--json", "--set", "chat.store=postgresql"]);
        let nodes: Value = serde_json::from_str(&said).unwrap_or(Value::Null);
        nodes["chat"][0]["node"] == node && nodes["chat"][0]["buckets"] == BUCKETS
    });
}
