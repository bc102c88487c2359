//! People who chat while front doors and the chat node are processes of their own and each is killed: every acknowledged
//! message is at every device of every member once, in order, without holes, and every unread count equals a recount. The
//! crowd and its oracle are `loadgen`'s.

use super::Cluster;
use super::member::{Member, wait_until};
use crate::platform::CROWD;
use crate::players::number;
use crate::talkers::crowd;
use loadgen::chat::crowd::{self as talk, CrowdConfig, CrowdReport};
use loadgen::token::TokenKey;
use runtime::{Shutdown, SystemClock};
use serde_json::Value;
use std::net::SocketAddr;
use std::thread::JoinHandle;
use std::time::Duration;

/// Messages that chat must have applied between two kills: so each kill comes while people talk, however slow the machine.
const BETWEEN: u64 = 250;

/// Longest wait for so many, and for whatever else has to come while people talk.
pub const SLOW: Duration = Duration::from_secs(300);

/// Two groups in one: those that are written to timelines, and one above the bound.
const CHAT: &str = "[chat]\nwrite_members_max = 50\n";

/// The crowd, on a thread of its own, until it is told to come to an end.
pub struct Talking {
    thread: JoinHandle<Result<CrowdReport, String>>,
    end: Shutdown,
}

impl Talking {
    pub fn begin(cluster: &Cluster, frames: Vec<SocketAddr>) -> Talking {
        let path = cluster.path("token-key");
        std::fs::write(&path, cluster.print(&["token", "key"])).unwrap();
        // As long as it takes; the kills say when it is over.
        let config = CrowdConfig {
            run_ms: 3_600_000,
            rate: 120.0,
            ..crowd(frames, TokenKey::from_file(&path).unwrap())
        };
        let end = Shutdown::new();
        let stop = end.clone();
        let run = move || talk::run(config, SystemClock::shared(), &stop).map_err(|error| error.to_string());
        Talking { thread: std::thread::spawn(run), end }
    }

    /// Waits until there are some more messages, as `count` counts them.
    #[track_caller]
    pub fn goes_on(&self, mut count: impl FnMut() -> u64) {
        let mut first = None;
        wait_until("people talk", SLOW, || {
            assert!(!self.thread.is_finished(), "the crowd has ended");
            let now = count();
            now >= *first.get_or_insert(now) + BETWEEN
        });
    }

    pub fn end(self) -> CrowdReport {
        self.end.request();
        self.thread.join().unwrap().unwrap()
    }
}

pub fn judge(report: &CrowdReport) {
    assert!(report.is_good(), "{report:#?}");
    let v = &report.verdict;
    assert!(v.acknowledged > BETWEEN && v.unread_compared > 300, "{report:#?}");
    assert!(report.drops > 100 && report.absences > 0, "{report:#?}");
}

#[test]
fn nothing_is_lost_doubled_or_out_of_order_when_doors_and_chat_are_killed() {
    let Some(cluster) = Cluster::new(CROWD, CHAT) else { return };
    let admin = cluster.print(&["token", "admin"]);
    let mut chat = Member::start(&cluster, "chat", 1);
    let mut doors = [1, 2].map(|n| Member::start(&cluster, "access", n));
    let talking = Talking::begin(&cluster, doors.iter().map(|door| door.port("tcp")).collect());
    let goes_on = |chat: &Member| talking.goes_on(|| number(&chat.status(&admin)["chat"]["messages"]));
    goes_on(&chat);
    for _ in 0..2 {
        chat.kill();
        chat.again(&cluster);
        goes_on(&chat);
        for door in &mut doors {
            door.kill();
            door.again(&cluster);
            goes_on(&chat);
        }
    }
    // Once more, all of it at the same time.
    chat.kill();
    doors.iter_mut().for_each(Member::kill);
    doors.iter_mut().for_each(|door| door.again(&cluster));
    chat.again(&cluster);
    goes_on(&chat);
    judge(&talking.end());
    for door in &doors {
        wait_until("chat is reached", SLOW, || {
            let ways = door.status(&admin)["chat_nodes"].clone();
            (&ways[0]["node"], &ways[0]["up"]) == (&Value::from(1), &Value::from(true))
        });
    }
    let nodes = cluster.command(&["admin", "nodes", "--json"]);
    let nodes: Value = serde_json::from_str(&nodes.1).unwrap_or_else(|_| panic!("{nodes:?}"));
    let roles = nodes["members"].as_array().unwrap().iter().filter(|member| member["role"] == "chat");
    assert_eq!(roles.map(|member| number(&member["node"])).collect::<Vec<_>>(), [1], "{nodes}");
    doors.into_iter().for_each(Member::stop);
    chat.stop();
}

/// Another folder would begin conversations anew beside the old ones; two at once would answer the same people.
#[test]
fn a_second_chat_folder_is_refused_with_where_the_first_is() {
    let Some(cluster) = Cluster::new(CROWD, "") else { return };
    let chat = Member::start(&cluster, "chat", 7);
    let refused = |number: &str, data: &str, code: u8, what: &[&str]| {
        let mut other = cluster.spawn("chat", data, &["--set", number]);
        other.ended().expect(i32::from(code), what);
    };
    let bad = runtime::exit::BAD_CONFIG;
    refused("node.id=8", "another", bad, &["another data folder", "chat node 7", "--data"]);
    refused("node.id=1024", "another", bad, &["node.id is 1024", "0 to 1023"]);
    chat.stop();
    // Its number is in its log.
    refused("node.id=9", "chat-7", runtime::exit::FAILURE, &["the node is 7, expected 9"]);
}
