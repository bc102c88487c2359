//! An official account in a cluster: delivery's journal comes from Kafka, and whoever won is told so once, and once that it
//! arrived, in his own language, although chat is killed in between: one node with its log, or any of two that share.

use super::Cluster;
use super::chats::{Database, shared_by};
use super::member::{Member, wait_until};
use crate::http::Client;
use crate::platform::CROWD;
use crate::players::{Won, entry, number, outcome};
use crate::vendor::Vendor;
use base64::Engine as _;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

const USERS: u64 = 24;
const SLOW: Duration = Duration::from_secs(300);

/// The prize of the campaign that is paid at once.
const CASH: u64 = 1;

/// Players, and what each was told to have won in cash.
struct Players {
    client: Client,
    next: BTreeMap<u64, u32>,
    won: BTreeMap<u64, BTreeSet<String>>,
}

impl Players {
    /// Everybody shakes until so many cash prizes have been won.
    fn win(&mut self, count: usize) {
        wait_until("enough is won", SLOW, || {
            for user in 1..=USERS {
                let counter = *self.next.entry(user).or_insert(1);
                let answer = self.client.post("/v1/submit", &entry(user, counter)).unwrap();
                let won = outcome(&answer) == "WON";
                if won {
                    let won = Won::of(&answer.body["award"]);
                    if won.prize == CASH {
                        self.won.entry(user).or_default().insert(won.award);
                    }
                }
                if won || outcome(&answer) == "LOST" {
                    self.next.insert(user, counter + 1);
                }
            }
            self.won.values().map(BTreeSet::len).sum::<usize>() >= count
        });
    }

    /// How often a user was told that he won, and that it arrived; nothing when chat did not say, or not all of it agrees
    /// yet.
    fn told(&mut self, user: u64) -> Option<(usize, usize)> {
        let path = |of: &str| format!("/v1/chat/{of}?user={user}");
        let list = self.client.post(&path("conversations"), &json!({})).ok().filter(|a| a.status == 200)?;
        let Some(official) = list.body["conversations"].as_array().and_then(|all| all.first().cloned())
        else {
            return Some((0, 0));
        };
        let ask = json!({ "conversation": official["conversation"], "limit": 200 });
        let range = self.client.post(&path("range"), &ask).ok().filter(|a| a.status == 200)?;
        assert!(range.body["more"] != Value::Bool(true), "one page has all");
        let text = |message: &Value| {
            let body = message["body"].as_str().unwrap_or_default();
            String::from_utf8(base64::engine::general_purpose::STANDARD.decode(body).unwrap()).unwrap()
        };
        let texts: Vec<String> =
            range.body["messages"].as_array().map(|all| all.iter().map(text).collect()).unwrap_or_default();
        let unread = number(&official["unread"]);
        // Nothing was read, so all of them are unread; but one may have come between both answers.
        if unread as usize != texts.len() {
            return None;
        }
        let (won, arrived) = words(user);
        let count = |word: &str| texts.iter().filter(|text| text.contains(word)).count();
        let is_his = |text: &String| text.starts_with("You") == reads_english(user);
        assert!(texts.iter().all(is_his), "user {user}, in his language: {texts:?}");
        Some((count(won), count(arrived)))
    }

    /// Some read English; what was said to them before is in the language of the platform.
    fn choose_languages(&mut self) {
        for user in (1..=USERS).filter(|user| reads_english(*user)) {
            let path = format!("/v1/chat/profile?user={user}");
            wait_until("he says his language", SLOW, || {
                let profile = json!({ "name": format!("User {user}"), "language": "en-GB" });
                self.client.post(&path, &profile).is_ok_and(|answer| answer.status == 200)
            });
        }
    }

    /// The official conversation of a user.
    fn official(&mut self, user: u64) -> u64 {
        let path = format!("/v1/chat/conversations?user={user}");
        let mut official = 0;
        wait_until("his list is there", SLOW, || {
            let Some(list) = self.client.post(&path, &json!({})).ok().filter(|a| a.status == 200) else {
                return false;
            };
            official = list.body["conversations"].as_array().map_or(0, |all| number(&all[0]["conversation"]));
            official != 0
        });
        official
    }

    /// Everybody has been told of each of his prizes, and of nothing twice.
    fn hear(&mut self) {
        for (user, won) in self.won.clone() {
            wait_until("everybody is told", SLOW, || {
                let Some((first, second)) = self.told(user) else { return false };
                assert!(first <= won.len() && second <= won.len(), "user {user}: {first}, {second}: {won:?}");
                (first, second) == (won.len(), won.len())
            });
        }
    }
}

fn reads_english(user: u64) -> bool {
    user.is_multiple_of(3)
}

/// What a user is told when he has won, and when it has arrived.
fn words(user: u64) -> (&'static str, &'static str) {
    match reads_english(user) {
        true => ("won a red envelope", "yuan has arrived"),
        false => ("\u{4e2d}\u{4e86}", "\u{5df2}\u{5230}\u{8d26}"),
    }
}

/// Nodes that share: whoever owns an official conversation, or a winner's timeline, is killed while people win, and at last
/// all of them.
#[test]
fn whoever_won_is_told_once_although_any_of_several_chat_nodes_is_killed() {
    let vendor = Vendor::start();
    let more = format!("{}[chat]\nstore = \"postgresql\"\n", vendor.config());
    let Some(cluster) = Cluster::new(CROWD, &more) else { return };
    let database = Database::of(&cluster);
    let mut chats = [1, 2].map(|n| Member::start(&cluster, "chat", n));
    let _behind = Member::start(&cluster, "flow,delivery", 3);
    let access = Member::start(&cluster, "access", 4);
    let (_lottery, _) = cluster.start("lottery", "lottery-2", &["--set", "node.id=2"]);
    let client = Client::new(access.port("http"), &cluster.print(&["token", "gateway", "--name", "test"]));
    let mut players = Players { client, next: BTreeMap::new(), won: BTreeMap::new() };
    shared_by(&cluster, &[1, 2]);
    players.choose_languages();
    wait_until("people are drawn for", SLOW, || {
        players.client.post("/v1/submit", &entry(USERS + 1, 1)).is_ok_and(|answer| answer.status == 200)
    });
    players.win(20);
    players.hear();
    let won: Vec<u64> = players.won.keys().copied().collect();
    let official: Vec<u64> = won.iter().map(|user| players.official(*user)).collect();
    // One after the other is killed: each owns some of these conversations and timelines, and they are all in play.
    for (n, count) in [(0, 40), (1, 60)] {
        let owned = |ids: &[u64]| ids.iter().filter(|id| database.owner(**id) == n as u64 + 1).count();
        let (conversations, timelines) = (owned(&official), owned(&won));
        assert!(conversations + timelines > 0, "node {}: {conversations}, {timelines}", n + 1);
        chats[n].kill();
        players.win(count);
        chats[n].again(&cluster);
        shared_by(&cluster, &[1, 2]);
    }
    players.hear();
    // What was committed to the queue before the kill and what was not: both are there once.
    players.win(70);
    chats.iter_mut().for_each(Member::kill);
    players.win(80);
    chats.iter_mut().for_each(|chat| chat.again(&cluster));
    players.hear();
    // The same by what is stored: what stands in the conversations stands in the timelines.
    let told: usize = players.won.values().map(|won| 2 * won.len()).sum();
    wait_until("each message is in its timeline", SLOW, || {
        let (messages, entries) = database.official();
        messages >= told as u64 && messages == entries
    });
    chats.into_iter().for_each(Member::stop);
}

#[test]
fn whoever_won_is_told_once_although_chat_is_killed() {
    let vendor = Vendor::start();
    let Some(cluster) = Cluster::new(CROWD, &vendor.config()) else { return };
    let mut chat = Member::start(&cluster, "chat", 1);
    let _behind = Member::start(&cluster, "flow,delivery", 3);
    let access = Member::start(&cluster, "access", 4);
    let (_lottery, _) = cluster.start("lottery", "lottery-2", &["--set", "node.id=2"]);
    let client = Client::new(access.port("http"), &cluster.print(&["token", "gateway", "--name", "test"]));
    let mut players = Players { client, next: BTreeMap::new(), won: BTreeMap::new() };
    players.choose_languages();
    wait_until("people are drawn for", SLOW, || {
        players.client.post("/v1/submit", &entry(USERS + 1, 1)).is_ok_and(|answer| answer.status == 200)
    });
    players.win(20);
    chat.kill();
    players.win(40);
    chat.again(&cluster);
    players.win(60);
    chat.kill();
    chat.again(&cluster);
    players.hear();
    // What was committed to the queue before the last kill and what was not: both are there once.
    chat.kill();
    chat.again(&cluster);
    players.win(70);
    players.hear();
    chat.stop();
}
