//! Roles apart, in real processes on the real servers: a lottery node that is stopped for longer than its session lives.

use crate::http::Client;
use crate::platform::CROWD;
use crate::players::{Draw, Won, entry, number, outcome, prizes};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs::File;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use testkit::servers::{FreshDatabase, kafka, unique};

const BINARY: &str = env!("CARGO_BIN_EXE_hongbao");
const PATIENCE: Duration = Duration::from_secs(90);
const BUCKETS: u64 = 4_096;
const USERS: u64 = 120;

/// A process; killed when the test lets go of it.
struct Member {
    child: Child,
    ports: Value,
}

impl Member {
    fn start(folder: &Path, role: &str, node: u16, more: &[&str]) -> Member {
        let name = format!("{role}-{node}");
        let (port_file, log) = (folder.join(format!("{name}.port")), folder.join(format!("{name}.log")));
        let mut command = Command::new(BINARY);
        command.args(["run", "--role", role, "--set", &format!("node.id={node}"), "--config"]);
        command.arg(folder.join("cluster.toml")).arg("--data").arg(folder.join(&name));
        command.arg("--port-file").arg(&port_file).args(more);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create(&log).unwrap());
        let child = command.spawn().unwrap();
        let mut member = Member { child, ports: Value::Null };
        wait_until(&format!("{name} is ready"), || {
            let ended = member.child.try_wait().unwrap();
            assert!(ended.is_none(), "{}", std::fs::read_to_string(&log).unwrap_or_default());
            let text = std::fs::read_to_string(&port_file).ok();
            member.ports = text.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
            !member.ports.is_null()
        });
        member
    }

    fn at(&self, port: &str) -> SocketAddr {
        self.ports[port].as_str().unwrap().parse().unwrap()
    }

    /// What a lottery node says of itself; nothing while it does not answer.
    fn status(&self, admin: &str) -> Value {
        let answer = Client::new(self.at("health"), admin).get("/admin/status");
        answer.map_or(Value::Null, |answer| answer.body["node"].clone())
    }

    fn signal(&self, signal: &str) {
        let done = Command::new("kill").args([signal, &self.child.id().to_string()]).status().unwrap();
        assert!(done.success());
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[track_caller]
fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < end, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn hongbao(args: &[&str]) -> String {
    let output = Command::new(BINARY).args(args).output().unwrap();
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

fn open(status: &Value) -> u64 {
    number(&status["buckets"]["open"])
}

/// Players who ask for one draw after the other, and for one that is pending again.
struct Players {
    client: Client,
    next: BTreeMap<u64, u32>,
    told: BTreeMap<Draw, Won>,
}

impl Players {
    /// Everybody asks once: how many were told something final.
    fn ask(&mut self) -> usize {
        let mut settled = 0;
        for user in 1..=USERS {
            let counter = *self.next.entry(user).or_insert(1);
            let answer = self.client.post("/v1/submit", &entry(user, counter)).unwrap();
            let heard = outcome(&answer).to_owned();
            if heard == "WON" {
                self.heard((user, counter), Won::of(&answer.body["award"]));
            }
            if heard == "WON" || heard == "LOST" {
                self.next.insert(user, counter + 1);
                settled += 1;
            }
        }
        settled
    }

    fn heard(&mut self, draw: Draw, won: Won) {
        let before = self.told.entry(draw).or_insert_with(|| won.clone());
        assert_eq!(*before, won, "two answers to {draw:?}");
    }

    /// Everything that was won is asked for again.
    fn ask_again(&mut self) {
        for (user, counter) in self.told.keys().copied().collect::<Vec<_>>() {
            let mut answer = None;
            wait_until("a stored win is told", || {
                let heard = self.client.post("/v1/submit", &entry(user, counter)).unwrap();
                let is_won = outcome(&heard) == "WON";
                answer = Some(heard);
                is_won
            });
            self.heard((user, counter), Won::of(&answer.unwrap().body["award"]));
        }
    }
}

#[test]
fn a_node_that_slept_through_its_end_answers_nothing_and_begins_anew() {
    let Some((database, kafka)) = FreshDatabase::new().zip(kafka()) else { return };
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let keys = at.to_str().unwrap();
    hongbao(&["keys", keys]);
    let local = "\"127.0.0.1:0\"";
    let config = format!(
        "[access]\ntcp = {local}\nhttp = {local}\n[console]\nhttp = {local}\n[cluster]\nname = \"t{}\"\ncalls = {local}\n\
         http = {local}\nkeys = \"{keys}\"\npostgres = \"{}\"\nlanes = 4\nkafka = [\"{kafka}\"]\ndevelopment = true\n",
        unique(),
        database.url()
    );
    std::fs::write(at.join("cluster.toml"), config).unwrap();
    std::fs::write(at.join("campaign.yaml"), CROWD).unwrap();
    let _flow = Member::start(at, "flow", 11, &[]);
    let sleeper = Member::start(at, "lottery", 1, &[]);
    let other = Member::start(at, "lottery", 2, &[]);
    let access = Member::start(at, "access", 31, &[]);
    let campaign = at.join("campaign.yaml");
    let _console = Member::start(at, "console", 41, &["--campaign", campaign.to_str().unwrap()]);
    let admin = hongbao(&["token", "admin", "--data", keys]);
    let gateway = hongbao(&["token", "gateway", "--name", "test", "--data", keys]);
    wait_until("both nodes draw", || {
        let (a, b) = (open(&sleeper.status(&admin)), open(&other.status(&admin)));
        a > 0 && b > 0 && a + b == BUCKETS
    });
    let epoch = number(&sleeper.status(&admin)["epoch"]);
    let client = Client::new(access.at("http"), &gateway);
    let mut players = Players { client, next: BTreeMap::new(), told: BTreeMap::new() };
    wait_until("some have won", || {
        players.ask();
        players.told.len() >= 60
    });

    sleeper.signal("-STOP");
    // Draws of its users are under way now and in its sockets, and are asked again elsewhere.
    wait_until("the other node draws for everybody", || {
        players.ask();
        open(&other.status(&admin)) == BUCKETS
    });
    wait_until("everybody is told something", || players.ask() as u64 == USERS);
    players.ask_again();

    sleeper.signal("-CONT");
    wait_until("it has begun anew and has users again", || {
        players.ask();
        let status = sleeper.status(&admin);
        number(&status["epoch"]) > epoch && status["session"] == true && open(&status) > 0
    });
    wait_until("every bucket is drawn for", || {
        open(&sleeper.status(&admin)) + open(&other.status(&admin)) == BUCKETS
    });
    wait_until("everybody is told something", || players.ask() as u64 == USERS);
    players.ask_again();

    // What was told is in the award store, and nothing but that: an answer of the old epoch would be neither.
    for user in 1..=USERS {
        let told: BTreeMap<String, Won> = players
            .told
            .iter()
            .filter(|((of, _), _)| *of == user)
            .map(|(_, won)| (won.award.clone(), won.clone()))
            .collect();
        let mut stored = BTreeMap::new();
        wait_until("the award store has all", || {
            let all = prizes(&mut players.client, user);
            stored = all.iter().map(|award| (Won::of(award).award, Won::of(award))).collect();
            stored.len() >= told.len()
        });
        assert_eq!(stored, told, "user {user}");
    }
}
