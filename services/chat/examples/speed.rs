//! How fast the node alone is, without sockets: `cargo run --release -p chat --example speed [folder]`.
//!
//! One-to-one messages of 128 bytes acknowledged after fdatasync, with a bounded number outstanding; then deliveries
//! into groups of 500 whose members are all connected. The door only counts.
#![allow(clippy::print_stdout, clippy::disallowed_methods)]

use chat::{ChatNode, ChatOptions};
use protocol::calls::{Chat, ConnectionAt, DeviceAt, Inbox, PushBatch, Pushes, SendCall, SendReply};
use protocol::v1::chat_answer::Answer;
use protocol::v1::chat_request::Ask;
use protocol::v1::{ChatRequest, MakeGroup, Send, SendOutcome};
use runtime::{Shutdown, SystemClock, Tasks};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Waker;
use std::time::{Duration, Instant};

const PAIRS: u64 = 10_000;
const GROUPS: u64 = 8;
const MEMBERS: u64 = 500;
const SECONDS: u64 = 6;

#[derive(Default)]
struct Door {
    targets: AtomicU64,
}

impl Pushes for Door {
    fn push(&self, batch: PushBatch) {
        self.targets.fetch_add(batch.targets.len() as u64, Ordering::Relaxed);
    }
}

/// Someone who sends into places in turn, each place with its own sender and counter.
struct Player {
    node: Arc<ChatNode>,
    inbox: Arc<Inbox<SendReply>>,
    places: Vec<Send>,
    turn: usize,
    outstanding: usize,
    stored: u64,
    other: u64,
    latencies_us: Vec<u64>,
    began: Vec<Instant>,
}

impl Player {
    fn new(node: &Arc<ChatNode>, places: Vec<Send>) -> Player {
        let began = vec![Instant::now(); places.len()];
        let (node, inbox) = (Arc::clone(node), Arc::new(Inbox::new()));
        Player {
            node,
            inbox,
            places,
            turn: 0,
            outstanding: 0,
            stored: 0,
            other: 0,
            latencies_us: Vec::new(),
            began,
        }
    }

    /// Sends up to so many at a time, for a while.
    fn play(&mut self, most: usize, time: Duration) {
        let end = Instant::now() + time;
        let (mut calls, mut out) = (Vec::new(), Vec::new());
        while Instant::now() < end || self.outstanding > 0 {
            while Instant::now() < end && calls.len() < 64 && self.outstanding < most {
                let at = self.turn % self.places.len();
                self.turn += 1;
                let send = &mut self.places[at];
                send.counter += 1;
                self.began[at] = Instant::now();
                let from = ConnectionAt { access: 1, connection: send.user };
                calls.push(SendCall { tag: at as u64, send: send.clone(), from });
                self.outstanding += 1;
            }
            self.node.send(&mut calls, &self.inbox, &mut out);
            self.inbox.take(&mut out, Waker::noop());
            if out.is_empty() {
                std::thread::sleep(Duration::from_micros(100));
            }
            for reply in out.drain(..) {
                self.outstanding -= 1;
                let place = &mut self.places[reply.tag as usize];
                if reply.answer.outcome() == SendOutcome::Stored {
                    self.stored += 1;
                    let us = self.began[reply.tag as usize].elapsed().as_micros() as u64;
                    self.latencies_us.push(us);
                    (place.conversation, place.to_user) = (reply.answer.conversation, 0);
                } else {
                    self.other += 1;
                    place.counter -= 1;
                }
            }
        }
    }

    fn tell(&mut self, what: &str, seconds: f64) {
        self.latencies_us.sort_unstable();
        let of = |share: usize| {
            self.latencies_us.get(self.latencies_us.len() * share / 1_000).copied().unwrap_or(0)
        };
        println!(
            "{what}: {:.0}/s acknowledged, p50 {} us, p99 {} us, p999 {} us, {} other answers",
            self.stored as f64 / seconds,
            of(500),
            of(990),
            of(999),
            self.other
        );
        (self.stored, self.other) = (0, 0);
        self.latencies_us.clear();
    }
}

fn main() -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let given = std::env::args().nth(1).map(PathBuf::from);
    let dir =
        given.unwrap_or_else(|| std::env::temp_dir().join(format!("chat-speed-{}", std::process::id())));
    let (tasks, node) = runtime.block_on(async {
        let tasks = Tasks::new(Shutdown::new());
        let options = ChatOptions { friends_only: false, ..ChatOptions::default() };
        let node = ChatNode::open(options, &dir, SystemClock::shared(), &tasks).await?;
        anyhow::Ok((tasks, node))
    })?;
    let door = Arc::new(Door::default());
    node.attach(1, door.clone());
    let text =
        |user, to_user| Send { user, device: 1, to_user, kind: 1, body: vec![7; 128], ..Send::default() };

    let mut pairs = Player::new(&node, (0..PAIRS).map(|n| text(1 + 2 * n, 2 + 2 * n)).collect());
    pairs.play(512, Duration::from_secs(2));
    pairs.tell("first messages of pairs", 2.0);
    for most in [64, 512, 4_096] {
        let began = Instant::now();
        pairs.play(most, Duration::from_secs(SECONDS));
        pairs.tell(&format!("one-to-one, 128 B, {most} outstanding"), began.elapsed().as_secs_f64());
    }

    let base = 1_000_000;
    let mut groups = Vec::new();
    for group in 0..GROUPS {
        let members: Vec<u64> = (0..MEMBERS).map(|m| base + group * MEMBERS + m).collect();
        for member in &members {
            node.arrive(DeviceAt {
                user: *member,
                device: 1,
                at: ConnectionAt { access: 1, connection: *member },
            });
        }
        let (user, name) = (members[0], "speed".to_owned());
        let ask = Ask::MakeGroup(MakeGroup { name, members, request: 1 });
        let request = ChatRequest { user, device: 1, ask: Some(ask) };
        let answer = runtime.block_on(node.ask(ConnectionAt::default(), request))?.answer;
        let Some(Answer::Done(done)) = answer else { anyhow::bail!("no group: {answer:?}") };
        groups.push(Send { conversation: done.conversation, ..text(user, 0) });
    }
    let mut groups = Player::new(&node, groups);
    groups.play(4, Duration::from_secs(1));
    let (began, before) = (Instant::now(), door.targets.load(Ordering::Relaxed));
    groups.latencies_us.clear();
    groups.stored = 0;
    groups.play(8, Duration::from_secs(SECONDS));
    let seconds = began.elapsed().as_secs_f64();
    let targets = door.targets.load(Ordering::Relaxed) - before;
    groups.tell("into groups of 500", seconds);
    println!("deliveries: {:.0}/s handed to the front door", targets as f64 / seconds);
    let status = node.status();
    println!("{status:?}");
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    println!("load of the machine: {}", load.trim());

    let began = Instant::now();
    let drained = runtime.block_on(tasks.drain(Duration::from_secs(60)));
    println!("stopped in {:?}: {drained:?}", began.elapsed());
    drop((pairs, groups, node));
    let began = Instant::now();
    runtime.block_on(async {
        let tasks = Tasks::new(Shutdown::new());
        ChatNode::open(ChatOptions::default(), &dir, SystemClock::shared(), &tasks).await?;
        println!("started again in {:?}", began.elapsed());
        let _ = tasks.drain(Duration::from_secs(60)).await;
        anyhow::Ok(())
    })?;
    std::fs::remove_dir_all(&dir)?;
    Ok(())
}
