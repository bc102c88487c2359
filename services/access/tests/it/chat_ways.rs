//! The ways to several chat nodes that come, go and change their address: real calls on loopback, a member list by hand.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use access::{ChatWays, Router};
use hashring::bucket_of;
use ownership::Members;
use parking_lot::Mutex;
use protocol::calls::client::{CallOptions, Dialer};
use protocol::calls::server::CallServer;
use protocol::calls::{
    CallError, Chat, ConnectionAt, DeviceAt, Inbox, Part, PartKind, PushBatch, Pushes, SendCall, Served,
    Target,
};
use protocol::v1::chat_request::Ask;
use protocol::v1::{ChatRequest, DevicesRequest, PresenceRequest, Send, SendOutcome};
use runtime::{Shutdown, SystemClock, Tasks};

use crate::fake_chat::FakeChat;
use crate::router::{List, cluster};

const ACCESS: u16 = 40;

#[derive(Default)]
struct Door(Mutex<Vec<PushBatch>>);

impl Pushes for Door {
    fn push(&self, batch: PushBatch) {
        self.0.lock().push(batch);
    }
}

struct World {
    tasks: Tasks,
    list: Arc<List>,
    nodes: HashMap<u16, (Arc<FakeChat>, Tasks)>,
    ways: Arc<ChatWays>,
    door: Arc<Door>,
    router: Router,
}

impl World {
    fn new() -> World {
        let (tasks, list) = (Tasks::new(Shutdown::new()), Arc::new(List::default()));
        let options = CallOptions { dead_ms: 9_000, submit_ms: 30_000, ..CallOptions::default() };
        let dialer = Dialer::new(cluster(), "access/40", options, SystemClock::shared(), tasks.stage());
        let nobody = Arc::new(List::default()).nodes();
        let (ways, door) = (ChatWays::new(ACCESS), Arc::new(Door::default()));
        ways.attach(door.clone());
        let router = Router::new(dialer, nobody.clone(), nobody.clone(), nobody)
            .with_chat(list.nodes(), Arc::clone(&ways));
        World { tasks, list, nodes: HashMap::new(), ways, door, router }
    }

    /// A process of this number, at a new address.
    fn start(&mut self, number: u16) {
        let chat = Arc::new(FakeChat::default());
        let served = Served { chat: Some(chat.clone()), ..Served::default() };
        let at = SocketAddr::from(([127, 0, 0, 1], 0));
        let server = CallServer::bind(at, cluster(), number, served, SystemClock::shared()).unwrap();
        self.list.addresses.write().insert(number, server.address().to_string());
        let tasks = self.tasks.stage();
        server.run(&tasks);
        self.nodes.insert(number, (chat, tasks));
    }

    fn members(&mut self, members: &[(u16, u32)]) {
        self.list.set(members);
        self.router.step();
    }

    fn chat(&self, number: u16) -> &FakeChat {
        &self.nodes[&number].0
    }

    async fn reached(&self) {
        eventually("all nodes are reached", || {
            let health = self.ways.health();
            !health.is_empty() && health.iter().all(|(_, health)| health.up && health.untold == 0)
        })
        .await;
    }

    /// Whose user or conversation it is by the list.
    fn owner(&self, id: u64) -> u16 {
        self.list.current().ring().unwrap().owner(bucket_of(id))
    }
}

async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..6_000 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("{what}: not within 30 seconds");
}

fn device(user: u64) -> DeviceAt {
    DeviceAt { user, device: 1, at: ConnectionAt { access: ACCESS, connection: user } }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn devices_go_by_their_user_and_messages_by_their_conversation() {
    let mut world = World::new();
    // Before anybody is known, some arrive, and one of them leaves.
    (1..=20).for_each(|user| world.ways.arrive(device(user)));
    world.ways.leave(device(1));
    let (inbox, mut out) = (Arc::new(Inbox::new()), Vec::new());
    let send = |conversation, to_user| Send {
        user: 5,
        device: 1,
        counter: 1,
        conversation,
        to_user,
        ..Send::default()
    };
    let call = |tag, send| SendCall { tag, send, from: device(5).at };
    world.ways.send(&mut vec![call(9, send(3, 0))], &inbox, &mut out);
    assert_eq!((out[0].tag, out[0].answer.outcome()), (9, SendOutcome::Busy));
    let asked = ChatRequest { user: 5, device: 1, ask: Some(Ask::Devices(DevicesRequest {})) };
    assert!(world.ways.out_of_reach_ms(5) > 0 && out[0].answer.retry_after_ms > 0);
    let error = world.ways.ask(device(5).at, asked.clone()).await;
    assert!(matches!(error, Err(CallError::Unavailable(_))));

    world.start(1);
    world.start(2);
    world.members(&[(1, 1), (2, 1)]);
    world.reached().await;
    assert_eq!(world.ways.out_of_reach_ms(5), 0);
    let arrived = |world: &World, number| {
        let mut users: Vec<u64> = world.chat(number).seen.lock().arrived.iter().map(|at| at.user).collect();
        users.sort_unstable();
        users
    };
    let of = |world: &World, number| (2..=20).filter(|user| world.owner(*user) == number).collect::<Vec<_>>();
    for number in [1, 2] {
        eventually("who waited is told of", || arrived(&world, number) == of(&world, number)).await;
        assert!(!of(&world, number).is_empty(), "both have some");
    }
    world.ways.beat(&(2..=20).map(device).collect::<Vec<_>>());
    world.ways.confirm(&(2..=20).map(|user| (device(user), user)).collect::<Vec<_>>());
    for number in [1, 2] {
        let seen = &world.chat(number).seen;
        eventually("they are heard of", || seen.lock().beats.len() == of(&world, number).len()).await;
        eventually("cursors come", || seen.lock().confirms.len() == of(&world, number).len()).await;
    }
    // One of two who have no conversation yet is the smaller one's to begin, whoever writes.
    let mut calls: Vec<SendCall> = (1..=30).map(|n| call(n, send(n * 77, 0))).collect();
    calls.extend([call(31, send(0, 3)), call(32, send(0, 8))]);
    out.clear();
    world.ways.send(&mut calls, &inbox, &mut out);
    eventually("all are answered", || {
        while inbox.take(&mut out, Waker::noop()) {}
        out.len() == 32
    })
    .await;
    for number in [1, 2] {
        let seen = world.chat(number).seen.lock();
        let owner = |send: &Send| match send.conversation {
            0 => world.owner(send.user.min(send.to_user)),
            id => world.owner(id),
        };
        assert!(!seen.sends.is_empty() && seen.sends.iter().all(|call| owner(&call.send) == number));
    }
    assert!(world.ways.ask(device(5).at, asked).await.is_ok());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_has_another_node_now_leaves_the_old_one_and_is_told_to_the_new() {
    let mut world = World::new();
    world.start(1);
    world.members(&[(1, 1)]);
    world.reached().await;
    (1..=40).for_each(|user| world.ways.arrive(device(user)));
    eventually("all are there", || world.chat(1).seen.lock().arrived.len() == 40).await;
    assert!(world.chat(1).seen.lock().again.is_empty());
    for user in 1..=40 {
        // Each watches the next.
        let ask = Ask::Presence(PresenceRequest { users: vec![user + 1], watch: true });
        let request = ChatRequest { user, device: 1, ask: Some(ask) };
        world.ways.ask(device(user).at, request).await.unwrap();
    }
    world.start(2);
    world.members(&[(1, 1), (2, 1)]);
    let moved: Vec<u64> = (1..=40).filter(|user| world.owner(*user) == 2).collect();
    let watches: Vec<(DeviceAt, Vec<u64>)> = moved.iter().map(|u| (device(*u), vec![u + 1])).collect();
    eventually("they go on watching", || {
        let mut seen = world.chat(2).seen.lock().watches.clone();
        seen.sort_by_key(|(at, _)| at.user);
        seen.dedup();
        seen == watches
    })
    .await;
    let users = |of: &[DeviceAt]| {
        let mut users: Vec<u64> = of.iter().map(|at| at.user).collect();
        users.sort_unstable();
        users
    };
    eventually("they left", || users(&world.chat(1).seen.lock().left) == moved).await;
    eventually("they came, and are to sync", || {
        let mut again = users(&world.chat(2).seen.lock().again);
        again.dedup();
        again == moved
    })
    .await;
    assert!(!moved.is_empty() && moved.len() < 40);
    // Pushes of both come in by the one door.
    for number in [1, 2] {
        let target =
            Target { connection: 1, user: 1, device: 1, after: 0, cursor: number.into(), message: 0 };
        let part = Part { kind: PartKind::Bare, bytes: 0..0 };
        let batch = PushBatch { bytes: vec![], parts: vec![part], targets: vec![target] };
        eventually("there is a way back", || world.chat(number).door.lock().is_some()).await;
        world.chat(number).door.lock().as_ref().unwrap().push(batch);
    }
    eventually("both came", || world.door.0.lock().len() == 2).await;
    // The first one ends and comes back elsewhere: it is told of those it had.
    let (_, tasks) = world.nodes.remove(&1).unwrap();
    let _ = tasks.drain(Duration::ZERO).await;
    world.start(1);
    world.members(&[(1, 1), (2, 1)]);
    // Once for each time that it was reached.
    let own: Vec<u64> = (1..=40).filter(|user| !moved.contains(user)).collect();
    eventually("it knows its own", || {
        let mut again = users(&world.chat(1).seen.lock().again);
        again.dedup();
        again == own
    })
    .await;
    // A list without anybody changes nothing.
    world.members(&[(1, 0), (2, 0)]);
    assert_eq!(world.ways.health().len(), 2);
}
