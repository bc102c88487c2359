//! Roles apart, in real processes on the real servers: a lottery node that is stopped for longer than its session lives.

use super::{Cluster, Process, port};
use crate::http::Client;
use crate::platform::CROWD;
use crate::players::{Draw, Won, entry, number, outcome, prizes};
use rustix::process::Signal;
use serde_json::Value;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(300);
const BUCKETS: u64 = 4_096;
const USERS: u64 = 120;

/// A process that serves, and where.
struct Member {
    process: Process,
    ports: Value,
}

impl Member {
    fn start(cluster: &Cluster, role: &str, node: u16, more: &[&str]) -> Member {
        let set = format!("node.id={node}");
        let mut args = vec!["--set", &*set];
        args.extend(more);
        let mut process = cluster.spawn(role, &format!("{role}-{node}"), &args);
        let ports = process.serving();
        Member { process, ports }
    }

    /// What a lottery node says of itself; nothing while it does not answer.
    fn status(&self, admin: &str) -> Value {
        let answer = Client::new(port(&self.ports, "health"), admin).get("/admin/status");
        answer.map_or(Value::Null, |answer| answer.body["node"].clone())
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
    let Some(cluster) = Cluster::new(CROWD, "") else { return };
    let _flow = Member::start(&cluster, "flow", 11, &[]);
    let sleeper = Member::start(&cluster, "lottery", 1, &[]);
    let other = Member::start(&cluster, "lottery", 2, &[]);
    let access = Member::start(&cluster, "access", 31, &[]);
    let campaign = cluster.path("campaign.yaml");
    let _console = Member::start(&cluster, "console", 41, &["--campaign", campaign.to_str().unwrap()]);
    let admin = cluster.print(&["token", "admin"]);
    let gateway = cluster.print(&["token", "gateway", "--name", "test"]);
    wait_until("both nodes draw", || {
        let (a, b) = (open(&sleeper.status(&admin)), open(&other.status(&admin)));
        a > 0 && b > 0 && a + b == BUCKETS
    });
    let epoch = number(&sleeper.status(&admin)["epoch"]);
    let client = Client::new(port(&access.ports, "http"), &gateway);
    let mut players = Players { client, next: BTreeMap::new(), told: BTreeMap::new() };
    wait_until("some have won", || {
        players.ask();
        players.told.len() >= 60
    });

    sleeper.process.signal(Signal::STOP);
    // Draws of its users are under way now and in its sockets, and are asked again elsewhere.
    wait_until("the other node draws for everybody", || {
        players.ask();
        open(&other.status(&admin)) == BUCKETS
    });
    wait_until("everybody is told something", || players.ask() as u64 == USERS);
    players.ask_again();

    sleeper.process.signal(Signal::CONT);
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
