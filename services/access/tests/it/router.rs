//! The front door between lottery nodes that come, die and go: real calls on loopback, a member list by hand.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use access::{Nodes, Router, Routes};
use campaign::{NodeEpoch, NodeId};
use hashring::{Bucket, Member, Ring, bucket_of};
use ownership::{MemberList, Members};
use parking_lot::{Mutex, RwLock};
use proptest::prelude::*;
use protocol::calls::client::{CallOptions, Dialer};
use protocol::calls::server::CallServer;
use protocol::calls::{CallKey, Cluster, Draws, Inbox, Served, SubmitCall, SubmitReply};
use protocol::v1::{Award, Outcome};
use runtime::{Shutdown, SystemClock, Tasks};

/// A member list that a test writes.
#[derive(Default)]
pub struct List {
    list: RwLock<(u64, Vec<Member>)>,
    pub addresses: RwLock<HashMap<u16, String>>,
}

impl Members for List {
    fn current(&self) -> Arc<MemberList> {
        let list = self.list.read();
        Arc::new(MemberList { epoch: list.0, members: list.1.clone() })
    }
}

impl List {
    pub fn set(&self, members: &[(u16, u32)]) {
        let mut list = self.list.write();
        let members = members.iter().map(|&(node, weight)| Member { node, weight }).collect();
        *list = (list.0 + 1, members);
    }

    pub fn nodes(self: &Arc<Self>) -> Nodes {
        let of = Arc::clone(self);
        Nodes::new(self.clone(), move |node| of.addresses.read().get(&node).map(|a| a.as_str().into()))
    }
}

/// What all nodes agree on: who owns a bucket, and which draws have won. In the platform that is the ledger and the lane.
#[derive(Default)]
struct Truth {
    owners: RwLock<HashMap<u16, u16>>,
    won: Mutex<HashMap<(u64, u32), String>>,
}

/// A lottery node that draws for the users of its own buckets only. Every third counter wins.
struct Node {
    number: u16,
    truth: Arc<Truth>,
}

impl Draws for Node {
    fn submit(&self, calls: &[SubmitCall], inbox: &Arc<Inbox>, out: &mut Vec<SubmitReply>) {
        for call in calls {
            let mut reply = SubmitReply {
                tag: call.tag,
                user: call.user,
                counter: call.counter,
                next_counter: call.counter,
                outcome: Outcome::Pending,
                next_submit_ms: 10,
                until_ms: 0,
                award: None,
            };
            let owner = self.truth.owners.read().get(&bucket_of(call.user).get()).copied();
            if owner != Some(self.number) {
                out.push(reply);
                continue;
            }
            reply.next_counter += 1;
            reply.outcome = Outcome::Lost;
            if call.counter.is_multiple_of(3) {
                reply.outcome = Outcome::Won;
                let mut won = self.truth.won.lock();
                let next = campaign::AwardId::new(1, NodeId(self.number), NodeEpoch(1), won.len() as u64);
                let award = won.entry((call.user, call.counter)).or_insert_with(|| next.to_string()).clone();
                reply.award = Some(Box::new(Award { award, ..Award::default() }));
                inbox.put(reply);
            } else {
                out.push(reply);
            }
        }
    }
}

struct World {
    tasks: Tasks,
    list: Arc<List>,
    truth: Arc<Truth>,
    servers: HashMap<u16, Tasks>,
}

pub fn cluster() -> Cluster {
    Cluster::new("test", vec![CallKey::new("k", &[1; 32]).unwrap()]).unwrap()
}

impl World {
    fn new() -> World {
        let (list, truth) = (Arc::new(List::default()), Arc::new(Truth::default()));
        World { tasks: Tasks::new(Shutdown::new()), list, truth, servers: HashMap::new() }
    }

    fn router(&self, options: CallOptions) -> Router {
        let dialer = Dialer::new(cluster(), "access/1", options, SystemClock::shared(), self.tasks.stage());
        let nobody = Arc::new(List::default()).nodes();
        Router::new(dialer, self.list.nodes(), nobody.clone(), nobody)
    }

    /// A process of this number, at a new address.
    fn start(&mut self, number: u16) {
        let node = Arc::new(Node { number, truth: self.truth.clone() });
        let served = Served { draws: Some(node), ..Served::default() };
        let at = SocketAddr::from(([127, 0, 0, 1], 0));
        let server = CallServer::bind(at, cluster(), number, served, SystemClock::shared()).unwrap();
        self.list.addresses.write().insert(number, server.address().to_string());
        let tasks = self.tasks.stage();
        server.run(&tasks);
        self.servers.insert(number, tasks);
    }

    async fn kill(&mut self, number: u16) {
        if let Some(tasks) = self.servers.remove(&number) {
            let _ = tasks.drain(Duration::ZERO).await;
        }
    }

    /// The list, and with it the owners: as if buckets changed hands at once.
    fn members(&self, members: &[(u16, u32)]) {
        self.list.set(members);
        let ring = self.list.current().ring().unwrap();
        *self.truth.owners.write() = Bucket::all().map(|b| (b.get(), ring.owner(b))).collect();
    }
}

/// Asks until something else than 'pending' comes; gives how often it was pending.
async fn ask(routes: &Routes, user: u64, counter: u32) -> (SubmitReply, u32) {
    let call = SubmitCall { tag: 5, user, counter, ..SubmitCall::default() };
    let (inbox, mut out, mut pending) = (Arc::new(Inbox::new()), Vec::new(), 0);
    for _ in 0..8_000 {
        routes.draws(routes.place(user)).submit(&[call], &inbox, &mut out);
        while out.is_empty() {
            std::future::poll_fn(|cx| match inbox.take(&mut out, cx.waker()) {
                true => std::task::Poll::Ready(()),
                false => std::task::Poll::Pending,
            })
            .await;
        }
        assert_eq!(out.len(), 1, "one answer for one call");
        match out.pop().unwrap() {
            reply if reply.outcome == Outcome::Pending => pending += 1,
            reply => return (reply, pending),
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("user {user} hears nothing but 'pending'");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn users_follow_the_list_and_who_stays_keeps_his_connections() {
    let mut world = World::new();
    let mut router = world.router(CallOptions::default());
    let table = router.routes();
    assert!(!router.step(), "an empty list makes no routes");
    let call = SubmitCall { user: 9, counter: 4, ..SubmitCall::default() };
    let mut out = Vec::new();
    table.get().draws(0).submit(&[call], &Arc::new(Inbox::new()), &mut out);
    assert_eq!((out[0].outcome, out[0].next_counter), (Outcome::Pending, 4));
    (1..=3).for_each(|number| world.start(number));
    world.members(&[(1, 1), (2, 1), (3, 2)]);
    assert!(router.step() && !router.step());
    let before = router.peers()[0].get();
    let routes = table.get();
    let ring = world.list.current().ring().unwrap();
    for user in 1..200 {
        assert_eq!(routes.node_of(user), ring.owner(bucket_of(user)));
        let (reply, _) = ask(&routes, user, 3).await;
        assert!(reply.award.is_some());
    }
    // Node 2 dies: its users hear 'pending' for as long as the list has it, the others notice nothing.
    world.kill(2).await;
    let of = |node: u16| (1..).find(|user| ring.owner(bucket_of(*user)) == node).unwrap();
    let mut out = Vec::new();
    let inbox = Arc::new(Inbox::new());
    let call = SubmitCall { user: of(2), counter: 7, ..SubmitCall::default() };
    routes.draws(routes.place(of(2))).submit(&[call], &inbox, &mut out);
    while out.is_empty() {
        inbox.take(&mut out, std::task::Waker::noop());
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!((out[0].outcome, out[0].next_counter), (Outcome::Pending, 7));
    assert!(out[0].next_submit_ms >= 100);
    assert_eq!(ask(&routes, of(1), 7).await.0.outcome, Outcome::Lost);
    // It leaves the list, node 3 drains, node 4 comes.
    world.start(4);
    world.members(&[(1, 1), (3, 0), (4, 1)]);
    assert!(router.step());
    let (routes, after) = (table.get(), router.peers()[0].get());
    assert_eq!(after.iter().map(|peer| peer.target().node).collect::<Vec<_>>(), [1, 4]);
    assert!(Arc::ptr_eq(&before[0], &after[0]), "node 1 has kept its connections");
    for user in 1..200 {
        assert!([1, 4].contains(&routes.node_of(user)));
        // The win of before is the win of now, whoever is asked.
        let award = ask(&routes, user, 3).await.0.award.unwrap().award;
        assert_eq!(world.truth.won.lock()[&(user, 3)], award);
    }
    // A list without anybody changes nothing.
    world.list.set(&[]);
    assert!(!router.step());
    assert_eq!(table.get().ring_epoch(), routes.ring_epoch());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_of_this_process_is_called_directly_and_one_without_an_address_is_pending() {
    let world = World::new();
    let node = Arc::new(Node { number: 1, truth: world.truth.clone() });
    let mut router = world.router(CallOptions::default()).with_local(1, node);
    world.members(&[(1, 1), (2, 1)]);
    assert!(router.step());
    let (routes, ring) = (router.routes().get(), world.list.current().ring().unwrap());
    for user in 1..50 {
        let mut out = Vec::new();
        let call = SubmitCall { user, counter: 1, ..SubmitCall::default() };
        routes.draws(routes.place(user)).submit(&[call], &Arc::new(Inbox::new()), &mut out);
        let local = ring.owner(bucket_of(user)) == 1;
        assert_eq!(out[0].outcome, if local { Outcome::Lost } else { Outcome::Pending });
    }
}

#[derive(Clone, Debug)]
enum Step {
    Ask {
        users: std::ops::Range<u64>,
        counter: u32,
    },
    Kill(u16),
    Start(u16),
    /// The list has whoever is alive.
    Notice,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        5 => (0u64..40, 1u64..10, 1u32..7)
            .prop_map(|(first, n, counter)| Step::Ask { users: 1 + first..1 + first + n, counter }),
        1 => (1u16..4).prop_map(Step::Kill),
        1 => (1u16..4).prop_map(Step::Start),
        2 => Just(Step::Notice),
    ]
}

/// Whatever nodes die and come back, each call has one answer, and no draw id has two prizes.
async fn no_draw_has_two_prizes(steps: Vec<Step>) {
    let mut world = World::new();
    let options = CallOptions { submit_ms: 200, ..CallOptions::default() };
    let mut router = world.router(options);
    (1..4).for_each(|number| world.start(number));
    world.members(&[(1, 1), (2, 1), (3, 1)]);
    router.step();
    let table = router.routes();
    let (inbox, mut told, mut asked, mut answered) = (Arc::new(Inbox::new()), HashMap::new(), 0u64, 0u64);
    let mut hear = |out: &mut Vec<SubmitReply>| {
        while inbox.take(out, std::task::Waker::noop()) {}
        for reply in out.drain(..) {
            answered += 1;
            if let Some(award) = reply.award {
                let before = told.insert((reply.user, reply.counter), award.award.clone());
                assert!(before.is_none() || before == Some(award.award), "two prizes for one draw");
            }
        }
        answered
    };
    let mut out = Vec::new();
    for step in steps {
        match step {
            Step::Ask { users, counter } => {
                let routes = table.get();
                for user in users {
                    let call = SubmitCall { tag: asked, user, counter, ..SubmitCall::default() };
                    routes.draws(routes.place(user)).submit(&[call], &inbox, &mut out);
                    asked += 1;
                }
                tokio::time::sleep(Duration::from_millis(3)).await;
            }
            Step::Kill(number) => world.kill(number).await,
            Step::Start(number) if !world.servers.contains_key(&number) => world.start(number),
            Step::Start(_) => {}
            Step::Notice => {
                let mut alive: Vec<_> = world.servers.keys().map(|number| (*number, 1)).collect();
                alive.sort_unstable();
                if !alive.is_empty() {
                    world.members(&alive);
                    router.step();
                }
            }
        }
        hear(&mut out);
    }
    for _ in 0..8_000 {
        if hear(&mut out) == asked {
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    tokio::time::sleep(Duration::from_millis(10)).await;
    assert_eq!(hear(&mut out), asked, "one answer for each call");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    #[test]
    fn no_draw_is_answered_with_two_prizes(steps in prop::collection::vec(step(), 1..25)) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(no_draw_has_two_prizes(steps));
        runtime.shutdown_background();
    }
}

/// The ring that routes rests on: what moves, moves to or from those who came or went, or was above the bound.
#[test]
fn only_what_must_move_moves() {
    let ring = |members: &[(u16, u32)]| {
        let members: Vec<_> = members.iter().map(|&(node, weight)| Member { node, weight }).collect();
        Ring::new(&members, 1).unwrap()
    };
    let before = ring(&[(1, 1), (2, 1), (3, 1), (4, 1)]);
    let after = ring(&[(1, 1), (2, 1), (3, 1)]);
    let moves = hashring::diff(&before, &after);
    let of_gone = moves.iter().filter(|moved| moved.from == 4).count();
    assert_eq!(of_gone, before.buckets_of(4).count());
    assert!(
        moves.len() - of_gone <= hashring::BUCKET_COUNT / 33,
        "{} of others moved",
        moves.len() - of_gone
    );
}
