//! Chat over the wire, both ways: what crosses, and what becomes of it when the wire breaks.

use crate::world::{Mode, NODE, SOON, Wire, cluster, eventually, patient, tasks};
use async_trait::async_trait;
use parking_lot::Mutex;
use proptest::prelude::*;
use protocol::calls::client::{CallOptions, Dialer, RemoteChat, Target};
use protocol::calls::limits::{PUSHES_WAITING_MAX, SENDS_MAX};
use protocol::calls::server::{CallCounts, CallServer};
use protocol::calls::{
    CallError, Chat, ChatHost, ConnectionAt, DeviceAt, Inbox, Part, PartKind, PushBatch, Pushes, SendCall,
    SendReply, Served, Target as PushTarget,
};
use protocol::v1::chat_answer::Answer;
use protocol::v1::chat_request::Ask;
use protocol::v1::{
    ChatAnswer, ChatRequest, Done, MarkRead, PresenceAnswer, PresenceOf, PresenceRequest, Recall, Send,
    SendAnswer, SendOutcome, SyncRequest,
};
use runtime::{SystemClock, Tasks};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

const ACCESS: u16 = 31;

/// Messages to it are never answered.
const SILENT: u64 = 404;

fn device(n: u64) -> DeviceAt {
    DeviceAt { user: n, device: n + 1, at: ConnectionAt { access: ACCESS, connection: n + 2 } }
}

#[derive(Clone, PartialEq, Debug)]
enum Heard {
    Arrived(DeviceAt),
    Again(DeviceAt),
    Watches(DeviceAt, Vec<u64>),
    Left(DeviceAt),
    Beat(DeviceAt),
    Confirmed(DeviceAt, u64),
    Send(SendCall),
}

/// A chat node that writes down what it hears. Odd counters are stored at once, even ones late.
#[derive(Default)]
struct Host {
    heard: Mutex<Vec<Heard>>,
    doors: Mutex<BTreeMap<u16, Arc<dyn Pushes>>>,
}

impl Host {
    fn here(&self) -> BTreeSet<u64> {
        let mut here = BTreeSet::new();
        for heard in &*self.heard.lock() {
            match heard {
                Heard::Arrived(device) | Heard::Again(device) => drop(here.insert(device.user)),
                Heard::Left(device) => drop(here.remove(&device.user)),
                _ => {}
            }
        }
        here
    }

    fn count(&self, what: impl Fn(&Heard) -> bool) -> usize {
        self.heard.lock().iter().filter(|heard| what(heard)).count()
    }
}

fn stored(call: &SendCall) -> SendReply {
    let answer = SendAnswer {
        outcome: SendOutcome::Stored.into(),
        conversation: call.send.conversation,
        counter: call.send.counter,
        seq: call.send.counter * 10,
        ..SendAnswer::default()
    };
    SendReply { tag: call.tag, answer }
}

#[async_trait]
impl Chat for Host {
    fn arrive(&self, device: DeviceAt) {
        self.heard.lock().push(Heard::Arrived(device));
    }

    fn arrive_again(&self, device: DeviceAt) {
        self.heard.lock().push(Heard::Again(device));
    }

    fn watch_again(&self, device: DeviceAt, users: &[u64]) {
        self.heard.lock().push(Heard::Watches(device, users.to_vec()));
    }

    fn leave(&self, device: DeviceAt) {
        self.heard.lock().push(Heard::Left(device));
    }

    fn beat(&self, devices: &[DeviceAt]) {
        self.heard.lock().extend(devices.iter().map(|device| Heard::Beat(*device)));
    }

    fn send(&self, calls: &mut Vec<SendCall>, inbox: &Arc<Inbox<SendReply>>, out: &mut Vec<SendReply>) {
        let mut late = Vec::new();
        for call in calls.drain(..) {
            match call.send.counter % 2 {
                _ if call.send.conversation == SILENT => {}
                1 => out.push(stored(&call)),
                _ => late.push(stored(&call)),
            }
            self.heard.lock().push(Heard::Send(call));
        }
        let inbox = Arc::clone(inbox);
        std::thread::spawn(move || inbox.put_all(late));
    }

    fn confirm(&self, confirms: &[(DeviceAt, u64)]) {
        self.heard.lock().extend(confirms.iter().map(|(device, cursor)| Heard::Confirmed(*device, *cursor)));
    }

    async fn ask(&self, from: ConnectionAt, request: ChatRequest) -> Result<ChatAnswer, CallError> {
        let answer = match request.ask {
            Some(Ask::Recall(recall)) => {
                return Err(CallError::Refused(format!("{} is too old", recall.seq)));
            }
            // Longer than any caller waits.
            Some(Ask::Sync(_)) => {
                tokio::time::sleep(Duration::from_secs(60)).await;
                None
            }
            Some(Ask::Presence(ask)) => {
                let of = |user: &u64| PresenceOf { user: *user, online: true, seen_ms: 1 };
                Some(Answer::Presence(PresenceAnswer { presence: ask.users.iter().map(of).collect() }))
            }
            _ => Some(Answer::Done(Done { conversation: from.connection, seq: u64::from(from.access) })),
        };
        Ok(ChatAnswer { answer, user: request.user })
    }
}

impl ChatHost for Host {
    fn attach(&self, access: u16, door: Arc<dyn Pushes>) {
        self.doors.lock().insert(access, door);
    }

    fn detach(&self, access: u16) {
        self.doors.lock().remove(&access);
    }
}

/// A front door that keeps what is pushed.
#[derive(Default)]
struct Door(Mutex<Vec<PushBatch>>);

impl Pushes for Door {
    fn push(&self, batch: PushBatch) {
        self.0.lock().push(batch);
    }
}

struct Server {
    address: SocketAddr,
    host: Arc<Host>,
    counts: Arc<CallCounts>,
    tasks: Tasks,
}

fn serve(tasks: &Tasks, at: Option<SocketAddr>) -> Server {
    let host = Arc::new(Host::default());
    let served = Served { chat: Some(host.clone()), ..Served::default() };
    let at = at.unwrap_or(SocketAddr::from(([127, 0, 0, 1], 0)));
    let server = CallServer::bind(at, cluster(1), NODE, served, SystemClock::shared()).unwrap();
    server.keep_devices_for(Duration::from_millis(700));
    let (address, counts, tasks) = (server.address(), server.counts(), tasks.stage());
    server.run(&tasks);
    Server { address, host, counts, tasks }
}

impl Server {
    /// Its sockets are closed at once, whatever is under way.
    async fn kill(&self) {
        let _ = self.tasks.drain(Duration::ZERO).await;
        eventually("its address is free", || std::net::TcpListener::bind(self.address).is_ok()).await;
    }
}

fn dial(tasks: &Tasks, address: SocketAddr, options: CallOptions, door: &Arc<Door>) -> RemoteChat {
    let dialer = Dialer::new(cluster(1), "access/31", options, SystemClock::shared(), tasks.stage());
    let target = Target { node: NODE, address: address.to_string() };
    dialer.dial_chat(target, ACCESS, door.clone())
}

async fn up(chat: &RemoteChat) {
    eventually("chat is reached", || chat.health().up).await;
}

fn sends(counters: std::ops::Range<u64>, conversation: u64) -> Vec<SendCall> {
    let send = |counter| Send {
        user: 5,
        device: 6,
        conversation,
        counter,
        body: counter.to_le_bytes().to_vec(),
        ..Send::default()
    };
    counters.map(|n| SendCall { tag: n + 1_000_000, send: send(n), from: device(5).at }).collect()
}

fn hear(inbox: &Inbox<SendReply>, heard: &mut Vec<SendReply>) {
    while inbox.take(heard, Waker::noop()) {}
}

fn request(ask: Ask) -> ChatRequest {
    ChatRequest { user: 5, device: 6, ask: Some(ask) }
}

fn batch(targets: u64, part: usize) -> PushBatch {
    let kind = PartKind::Message { conversation: 9, seq: 8 };
    let target = |n| PushTarget { connection: n, user: n, device: 1, after: n, cursor: n + 1, message: 0 };
    PushBatch {
        bytes: vec![7; part],
        parts: vec![Part { kind, bytes: 0..part as u32 }],
        targets: (0..targets).map(target).collect(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_crosses_both_ways_in_its_order() {
    let tasks = tasks();
    let (server, door) = (serve(&tasks, None), Arc::new(Door::default()));
    let chat = dial(&tasks, server.address, patient(), &door);
    up(&chat).await;
    let (inbox, mut out) = (Arc::new(Inbox::new()), Vec::new());
    chat.arrive(device(5));
    let mut calls = sends(1..6, 77);
    let sent = calls.clone();
    chat.send(&mut calls, &inbox, &mut out);
    assert!(calls.is_empty() && out.is_empty());
    chat.beat(&[device(5)]);
    chat.confirm(&[(device(5), 30), (device(5), 31)]);
    chat.leave(device(5));
    chat.leave(device(6));
    chat.arrive_again(device(7));
    eventually("all answers come", || {
        hear(&inbox, &mut out);
        out.len() == sent.len()
    })
    .await;
    out.sort_by_key(|reply| reply.tag);
    assert_eq!(out, sent.iter().map(stored).collect::<Vec<_>>());
    let mut expected = vec![Heard::Arrived(device(5))];
    // On the wire a message has a mark instead of the caller's.
    expected.extend((0..).zip(sent).map(|(mark, call)| Heard::Send(SendCall { tag: mark, ..call })));
    expected.extend([
        Heard::Beat(device(5)),
        Heard::Confirmed(device(5), 30),
        Heard::Confirmed(device(5), 31),
        Heard::Left(device(5)),
        Heard::Again(device(7)),
    ]);
    eventually("all is heard", || server.host.heard.lock().len() == expected.len()).await;
    assert_eq!(*server.host.heard.lock(), expected, "who never arrived does not leave");

    let answer = chat.ask(device(5).at, request(Ask::MarkRead(MarkRead::default()))).await.unwrap();
    let done = Answer::Done(Done { conversation: 7, seq: u64::from(ACCESS) });
    assert_eq!((answer.user, answer.answer), (5, Some(done)), "it says from which connection it came");
    let error = chat.ask(device(5).at, request(Ask::Recall(Recall { conversation: 1, seq: 9 }))).await;
    assert_eq!(error, Err(CallError::Refused("9 is too old".into())));

    let pushed = batch(600, 40);
    server.host.doors.lock()[&ACCESS].push(pushed.clone());
    eventually("the push comes", || !door.0.lock().is_empty()).await;
    assert_eq!(*door.0.lock(), [pushed]);
    eventually("it is counted", || server.counts.pushes() == 600).await;
    assert_eq!((server.counts.sends(), server.counts.pushes_dropped()), (5, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_under_way_is_pending_and_what_never_went_is_busy() {
    let tasks = tasks();
    let (server, door) = (serve(&tasks, None), Arc::new(Door::default()));
    let chat = dial(&tasks, server.address, patient(), &door);
    let (inbox, mut out) = (Arc::new(Inbox::new()), Vec::new());
    up(&chat).await;
    chat.send(&mut sends(1..40, SILENT), &inbox, &mut out);
    let asking = chat.ask(device(5).at, request(Ask::Sync(SyncRequest::default())));
    let killing = async {
        eventually("chat has them", || server.counts.sends() == 39 && server.counts.others() == 1).await;
        server.kill().await;
    };
    let (answer, ()) = tokio::join!(asking, killing);
    assert!(matches!(answer, Err(CallError::Unavailable(text)) if text.contains("ended")));
    eventually("everybody is answered", || {
        hear(&inbox, &mut out);
        out.len() == 39
    })
    .await;
    let pending = |reply: &SendReply| {
        let answer = &reply.answer;
        answer.outcome() == SendOutcome::Pending
            && answer.conversation == SILENT
            && answer.retry_after_ms >= 400
    };
    assert!(out.iter().all(pending) && out.iter().map(|r| r.answer.counter).eq(1..40), "{out:?}");
    out.clear();
    chat.send(&mut sends(40..42, 7), &inbox, &mut out);
    assert!(out.iter().all(|reply| reply.answer.outcome() == SendOutcome::Busy) && out.len() == 2);
    let answer = chat.ask(device(5).at, request(Ask::MarkRead(MarkRead::default()))).await;
    assert!(matches!(answer, Err(CallError::Unavailable(_))));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_chat_that_begins_anew_is_told_of_all_who_are_there() {
    let tasks = tasks();
    let (mut server, door) = (serve(&tasks, None), Arc::new(Door::default()));
    let chat = dial(&tasks, server.address, patient(), &door);
    // Before there is a connection, on it, and while it is broken.
    (0..3_000).for_each(|n| chat.arrive(device(n)));
    up(&chat).await;
    eventually("all are told of", || server.host.here().len() == 3_000).await;
    (3_000..5_000).for_each(|n| chat.arrive(device(n)));
    (0..500).for_each(|n| chat.leave(device(n)));
    eventually("all are told of", || server.host.here().len() == 4_500).await;
    server.kill().await;
    eventually("the end is noticed", || !chat.health().up).await;
    chat.arrive(device(9_000));
    chat.leave(device(500));
    server = serve(&tasks, Some(server.address));
    let expected: BTreeSet<u64> = (501..5_000).chain([9_000]).collect();
    eventually("all are told of again", || server.host.here() == expected && chat.health().untold == 0).await;
    assert_eq!(server.host.count(|heard| matches!(heard, Heard::Again(_))), 4_500, "each is to sync");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whom_a_device_watches_is_said_with_it_when_it_is_told_of_again() {
    let tasks = tasks();
    let (mut server, door) = (serve(&tasks, None), Arc::new(Door::default()));
    let chat = dial(&tasks, server.address, patient(), &door);
    up(&chat).await;
    let at = |user| DeviceAt { user, device: 6, at: device(5).at };
    [5, 6, 7].iter().for_each(|user| chat.arrive(at(*user)));
    let looks = |user, users: Vec<u64>, watch| ChatRequest {
        user,
        device: 6,
        ask: Some(Ask::Presence(PresenceRequest { users, watch })),
    };
    for request in [
        looks(5, vec![1, 2], true),
        looks(5, vec![2, 3], true),
        looks(6, vec![9], false),
        looks(7, (1..=100).collect(), true),
        looks(8, vec![9], true),
    ] {
        chat.ask(device(5).at, request).await.unwrap();
    }
    chat.leave(at(7));
    server.kill().await;
    eventually("the end is noticed", || !chat.health().up).await;
    assert_eq!(chat.out_of_reach_ms(5), patient().wait_ms);
    server = serve(&tasks, Some(server.address));
    eventually("all are told of again", || chat.health().up && chat.health().untold == 0).await;
    let watches = |heard: &Heard| matches!(heard, Heard::Watches(..));
    eventually("he goes on watching", || server.host.count(watches) == 1).await;
    assert!(server.host.heard.lock().contains(&Heard::Watches(at(5), vec![1, 2, 3])));
    assert_eq!(chat.out_of_reach_ms(5), 0);
    // He goes to another node, with what he watches.
    let gone = chat.give_up(|device| device.user == 5);
    assert_eq!(gone, [(at(5), vec![1, 2, 3])]);
    chat.watch_again(at(5), &[1]);
    chat.arrive_again(at(5));
    chat.watch_again(at(5), &[4]);
    eventually("he comes back", || server.host.count(watches) == 2).await;
    assert!(server.host.heard.lock().contains(&Heard::Watches(at(5), vec![4])));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broken_wire_makes_nobody_leave_but_those_who_did() {
    let tasks = tasks();
    let (server, door) = (serve(&tasks, None), Arc::new(Door::default()));
    server.host.heard.lock().clear();
    let wire = Wire::new(&tasks, server.address).await;
    let chat = dial(&tasks, wire.address, CallOptions { connect_ms: 200, ..patient() }, &door);
    up(&chat).await;
    (0..50).for_each(|n| chat.arrive(device(n)));
    eventually("all are told of", || server.host.here().len() == 50).await;
    wire.set(Mode::Cut);
    eventually("the end is noticed on both sides", || {
        !chat.health().up && server.host.doors.lock().is_empty()
    })
    .await;
    (0..5).for_each(|n| chat.leave(device(n)));
    wire.set(Mode::Carry);
    eventually("those who left have left", || server.host.here().len() == 45).await;
    assert_eq!(
        server.host.count(|heard| matches!(heard, Heard::Left(_))),
        5,
        "nobody else, not for a moment"
    );
    server.host.doors.lock()[&ACCESS].push(batch(1, 1));
    eventually("pushes have a way again", || door.0.lock().len() == 1).await;
    // An access node that does not come back takes its devices with it.
    wire.set(Mode::Cut);
    eventually("all have left", || server.host.here().is_empty()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_later_connection_of_an_access_node_takes_the_place_of_the_one_before() {
    let tasks = tasks();
    let (server, doors) = (serve(&tasks, None), [Arc::new(Door::default()), Arc::new(Door::default())]);
    let first = dial(&tasks, server.address, patient(), &doors[0]);
    up(&first).await;
    first.arrive(device(1));
    first.arrive(device(2));
    eventually("they are there", || server.host.here().len() == 2).await;
    // As one that was started anew under its old number: its connections are others.
    let second = dial(&tasks, server.address, patient(), &doors[1]);
    second.arrive(device(2));
    eventually("the first one's devices are gone", || server.host.here().iter().eq(&[2])).await;
    first.stop();
    eventually("the second one stays", || {
        let to = server.host.doors.lock().get(&ACCESS).cloned();
        to.into_iter().for_each(|door| door.push(batch(1, 1)));
        second.health().up && !doors[1].0.lock().is_empty()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bounds_hold_both_ways() {
    let tasks = tasks();
    let (server, door) = (serve(&tasks, None), Arc::new(Door::default()));
    let wire = Wire::new(&tasks, server.address).await;
    let chat = dial(&tasks, wire.address, patient(), &door);
    up(&chat).await;
    let (inbox, mut out) = (Arc::new(Inbox::new()), Vec::new());
    chat.send(&mut sends(0..SENDS_MAX as u64, SILENT), &inbox, &mut out);
    assert!(out.is_empty());
    chat.send(&mut sends(1..3, 7), &inbox, &mut out);
    assert!(out.len() == 2 && out.iter().all(|reply| reply.answer.outcome() == SendOutcome::Busy));
    // An access node that does not read: pushes wait up to a bound, and are left out above it.
    eventually("chat has them", || server.counts.sends() == SENDS_MAX as u64).await;
    wire.set(Mode::Hold);
    let to = Arc::clone(&server.host.doors.lock()[&ACCESS]);
    let pushed = 2 * PUSHES_WAITING_MAX / 1_000_000;
    for _ in 0..pushed {
        to.push(batch(3, 1_000_000));
    }
    eventually("some are left out", || server.counts.pushes_dropped() > 0).await;
    assert!(server.counts.pushes_dropped() as usize >= pushed, "half of them, of three targets each, about");
    wire.set(Mode::Carry);
    let all = 3 * pushed as u64;
    eventually("what waited comes", || {
        server.counts.pushes() + server.counts.pushes_dropped() == all
            && door.0.lock().iter().map(|batch| batch.targets.len() as u64).sum::<u64>()
                == server.counts.pushes()
    })
    .await;
    assert!(chat.health().up);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_ends_answers_what_it_took() {
    let tasks = tasks();
    let (server, door) = (serve(&tasks, None), Arc::new(Door::default()));
    let chat = dial(&tasks, server.address, patient(), &door);
    up(&chat).await;
    let (inbox, mut out) = (Arc::new(Inbox::new()), Vec::new());
    chat.send(&mut sends(0..2_000, 7), &inbox, &mut out);
    eventually("chat has them", || server.counts.sends() == 2_000).await;
    let drained = server.tasks.drain(Duration::from_secs(10)).await;
    assert!(drained.unfinished.is_empty(), "{drained:?}");
    eventually("all are answered", || {
        hear(&inbox, &mut out);
        out.len() == 2_000
    })
    .await;
    assert!(out.iter().all(|reply| reply.answer.outcome() == SendOutcome::Stored));
}

#[derive(Clone, Debug)]
enum Step {
    Send(u64),
    Wire(Mode),
    Come(u64),
    Go(u64),
    /// The server's sockets are closed and another one takes its address.
    Restart,
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        5 => (1u64..400).prop_map(Step::Send),
        3 => (0u64..9).prop_map(Step::Come),
        2 => (0u64..9).prop_map(Step::Go),
        1 => Just(Step::Wire(Mode::Hold)),
        1 => Just(Step::Wire(Mode::Cut)),
        2 => Just(Step::Wire(Mode::Carry)),
        1 => Just(Step::Restart),
        3 => (0u64..30).prop_map(Step::Wait),
    ]
}

async fn run(steps: Vec<Step>) {
    let tasks = tasks();
    let mut server = serve(&tasks, None);
    let wire = Wire::new(&tasks, server.address).await;
    let options = CallOptions { submit_ms: 150, connect_ms: 100, ..patient() };
    let chat = dial(&tasks, wire.address, options, &Arc::default());
    up(&chat).await;
    let inbox = Arc::new(Inbox::new());
    let (mut heard, mut sent, mut here) = (Vec::new(), 0, BTreeSet::new());
    for step in steps {
        match step {
            Step::Send(n) => {
                chat.send(&mut sends(sent..sent + n, 3), &inbox, &mut heard);
                sent += n;
            }
            Step::Come(n) => {
                here.insert(n);
                chat.arrive(device(n));
            }
            Step::Go(n) => {
                here.remove(&n);
                chat.leave(device(n));
            }
            Step::Wire(mode) => wire.set(mode),
            Step::Restart => {
                server.kill().await;
                server = serve(&tasks, Some(server.address));
            }
            Step::Wait(ms) => tokio::time::sleep(Duration::from_millis(ms)).await,
        }
        hear(&inbox, &mut heard);
    }
    let all = async {
        while heard.len() < sent as usize {
            tokio::time::sleep(Duration::from_millis(5)).await;
            hear(&inbox, &mut heard);
        }
    };
    tokio::time::timeout(SOON, all).await.expect("everybody is answered");
    wire.set(Mode::Carry);
    eventually("chat knows who is there", || server.host.here() == here).await;
    // And nobody twice, even when what was held comes after all.
    tokio::time::sleep(Duration::from_millis(20)).await;
    hear(&inbox, &mut heard);
    let mut tags: Vec<_> = heard.iter().map(|reply| reply.tag - 1_000_000).collect();
    tags.sort_unstable();
    assert_eq!(tags, (0..sent).collect::<Vec<_>>());
    let _ = tasks.drain(Duration::ZERO).await;
    let _ = server.tasks.drain(Duration::ZERO).await;
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    #[test]
    fn whatever_is_held_or_cut_each_message_is_answered_once_and_devices_are_right(
        steps in prop::collection::vec(step(), 1..25),
    ) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(run(steps));
        runtime.shutdown_background();
    }
}
