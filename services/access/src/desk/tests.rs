use super::*;
use crate::campaigns::{PlanSource, tests::plan};
use crate::shared::AccessDeps;
use crate::token::{KeyCell, TokenKey, TokenKeys};
use crate::{RouteTable, Routes};
use campaign::plan::Plan;
use campaign::{AwardId, SeqNo, UserId, VendorId};
use hashring::Member;
use parking_lot::Mutex;
use protocol::calls::{Accounts, Awards, CallError, Draws};
use runtime::{ManualClock, Metrics};
use std::sync::atomic::{AtomicU64, Ordering};

struct Node {
    outcome: Outcome,
    users: Mutex<Vec<u64>>,
}

impl Node {
    fn new(outcome: Outcome) -> Arc<Self> {
        Arc::new(Self { outcome, users: Mutex::default() })
    }
}

impl Draws for Node {
    fn submit(&self, calls: &[SubmitCall], _: &Arc<Inbox>, out: &mut Vec<SubmitReply>) {
        self.users.lock().extend(calls.iter().map(|call| call.user));
        out.extend(calls.iter().map(|call| SubmitReply {
            tag: call.tag,
            user: call.user,
            counter: call.counter,
            next_counter: call.counter,
            outcome: self.outcome,
            next_submit_ms: 100,
            until_ms: 0,
            award: None,
        }));
    }
}

struct Nobody;

#[async_trait::async_trait]
impl Awards for Nobody {
    async fn prizes(
        &self,
        _: UserId,
        _: Option<AwardId>,
        _: usize,
    ) -> Result<(Vec<v1::Award>, bool), CallError> {
        Err(CallError::Unavailable("nobody".into()))
    }

    async fn claim(&self, _: UserId, _: AwardId) -> Result<v1::Award, CallError> {
        Err(CallError::Unavailable("nobody".into()))
    }
}

#[async_trait::async_trait]
impl Accounts for Nobody {
    async fn set_account(&self, _: UserId, _: VendorId, _: &str) -> Result<u64, CallError> {
        Err(CallError::Unavailable("nobody".into()))
    }
}

struct Swapped(AtomicU64, Mutex<Plan>);

impl PlanSource for Swapped {
    fn version(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }

    fn plans(&self) -> Arc<Vec<Arc<Plan>>> {
        Arc::new(vec![Arc::new(self.1.lock().clone())])
    }
}

fn desk(routes: Arc<RouteTable>, plans: Arc<Swapped>) -> Desk {
    desk_at(ManualClock::new(1_100_000), routes, plans)
}

fn desk_at(clock: Arc<ManualClock>, routes: Arc<RouteTable>, plans: Arc<Swapped>) -> Desk {
    let keys = TokenKeys::new(vec![TokenKey::new("k", &[1; 32]).unwrap()]).unwrap();
    let deps = AccessDeps {
        clock,
        keys: KeyCell::new(keys),
        plans,
        routes,
        awards: Arc::new(Nobody),
        accounts: Arc::new(Nobody),
        metrics: Metrics::new(),
        extra: None,
        node: 1,
        chat: None,
        nodes: None,
    };
    Desk::new(
        Arc::new(Shared::new(
            deps,
            crate::AccessConfig::default(),
            1,
            None,
            crate::tls::Tls::open(None).unwrap(),
        )),
        0,
        (1, 2),
    )
}

fn submit(desk: &mut Desk, id: u32, user: u64) -> Option<SubmitReply> {
    let entry = Submit { campaign: 1, round: 1, counter: 1, shakes: 1, ..Submit::default() };
    match desk.enter(id, user, &entry) {
        Entered::Answered(reply) => Some(reply),
        Entered::Queued => None,
        Entered::Refused(error) => panic!("{error:?}"),
    }
}

fn decide(desk: &mut Desk) -> Vec<SubmitReply> {
    let mut said = Vec::new();
    desk.decide(&Arc::new(Inbox::new()), |_, reply| said.push(reply));
    said
}

#[test]
fn each_user_goes_to_his_node_and_new_routes_count_from_the_next_turn() {
    let nodes = [Node::new(Outcome::Lost), Node::new(Outcome::Lost)];
    let ways =
        || nodes.iter().enumerate().map(|(i, node)| (i as u16, node.clone() as Arc<dyn Draws>)).collect();
    let members = [0, 1].map(|node| Member { node, weight: 1 });
    let table = RouteTable::new(Routes::of_members(&members, 1, ways()).unwrap());
    let mut desk = desk(table.clone(), Arc::new(Swapped(1.into(), Mutex::new(plan()))));
    desk.begin();
    for user in 1..=100 {
        assert!(submit(&mut desk, user as u32, 2 * user).is_none());
    }
    let said = decide(&mut desk);
    assert_eq!(said.len(), 100);
    assert!(said.iter().all(|reply| u64::from(tag_id(reply.tag)) * 2 == reply.user));
    let routes = table.get();
    for (number, node) in nodes.iter().enumerate() {
        let users = std::mem::take(&mut *node.users.lock());
        assert!(users.len() > 10 && users.iter().all(|user| routes.node_of(*user) == number as u16));
    }
    let members = [Member { node: 0, weight: 0 }, Member { node: 1, weight: 1 }];
    assert!(table.swap(Routes::of_members(&members, 2, ways()).unwrap()));
    desk.begin();
    for user in 1..=10 {
        submit(&mut desk, 0, 2 * user);
    }
    assert_eq!(decide(&mut desk).len(), 10);
    assert!(nodes[0].users.lock().is_empty() && nodes[1].users.lock().len() == 10);
}

#[test]
fn a_newer_plan_gives_exhausted_users_a_chance_again() {
    let node = Node::new(Outcome::LimitReached);
    let plans = Arc::new(Swapped(1.into(), Mutex::new(plan())));
    let mut desk = desk(RouteTable::new(Routes::single(0, node.clone())), plans.clone());
    desk.begin();
    assert!(submit(&mut desk, 0, 2).is_none());
    assert_eq!(decide(&mut desk)[0].outcome, Outcome::LimitReached);
    assert_eq!(submit(&mut desk, 0, 2).map(|reply| reply.outcome), Some(Outcome::LimitReached));
    assert!(submit(&mut desk, 0, 4).is_none(), "another user");
    decide(&mut desk);
    plans.1.lock().seq_no = SeqNo(8);
    plans.0.store(2, Ordering::Release);
    desk.begin();
    assert!(submit(&mut desk, 0, 2).is_none());
    decide(&mut desk);
    assert_eq!(*node.users.lock(), [2, 4, 2]);
}

/// A node in another process: every reply comes late.
struct Late(Outcome);

impl Draws for Late {
    fn submit(&self, calls: &[SubmitCall], inbox: &Arc<Inbox>, _: &mut Vec<SubmitReply>) {
        let mut said = Vec::new();
        Node::new(self.0).submit(calls, inbox, &mut said);
        inbox.put_all(said);
    }
}

/// One submit of user 2, decided elsewhere.
fn late(desk: &mut Desk) -> SubmitReply {
    assert!(submit(desk, 0, 2).is_none());
    let (inbox, mut said) = (Arc::new(Inbox::new()), Vec::new());
    assert_eq!(desk.decide(&inbox, |_, _| ()), (1, 0));
    assert!(inbox.take(&mut said, std::task::Waker::noop()));
    desk.late(&mut said[0]);
    said.remove(0)
}

#[test]
fn what_another_process_says_is_learnt_once_its_plans_are_surely_ours() {
    let plans = Arc::new(Swapped(1.into(), Mutex::new(plan())));
    let clock = ManualClock::new(1_100_000);
    let routes = RouteTable::new(Routes::single(0, Arc::new(Late(Outcome::LimitReached))));
    let mut desk = desk_at(clock.clone(), routes, plans.clone());
    plans.0.store(2, Ordering::Release);
    desk.begin();
    late(&mut desk);
    late(&mut desk);
    clock.advance_ms(PLANS_SETTLE_MS);
    desk.begin();
    assert_eq!(late(&mut desk).outcome, Outcome::LimitReached);
    assert_eq!(submit(&mut desk, 0, 2).map(|reply| reply.outcome), Some(Outcome::LimitReached));
    // A grey plan came or went: the version says so, though no plan in force has another SeqNo.
    plans.0.store(3, Ordering::Release);
    desk.begin();
    late(&mut desk);
}

#[test]
fn a_pending_draw_is_never_answered_from_what_is_known() {
    let plans = Arc::new(Swapped(1.into(), Mutex::new(plan())));
    let clock = ManualClock::new(1_100_000);
    let node = RouteTable::new(Routes::single(0, Arc::new(Late(Outcome::Pending))));
    let mut desk = desk_at(clock.clone(), node, plans);
    clock.advance_ms(PLANS_SETTLE_MS);
    desk.begin();
    for _ in 0..3 {
        let reply = late(&mut desk);
        assert_eq!((reply.outcome, reply.next_submit_ms), (Outcome::Pending, 100));
    }
}

#[test]
fn load_stretches_what_comes_late_too() {
    let plans = Arc::new(Swapped(1.into(), Mutex::new(plan())));
    let node = RouteTable::new(Routes::single(0, Arc::new(Late(Outcome::Lost))));
    let mut desk = desk(node, plans);
    desk.gauge.observe(100, 100);
    assert_eq!(late(&mut desk).next_submit_ms, 3_000);
}

#[test]
fn load_stretches_the_interval_of_those_who_will_come_back() {
    for (outcome, calm, loaded) in [(Outcome::Lost, 1_000, 3_000), (Outcome::TooEarly, 100, 100)] {
        let plans = Arc::new(Swapped(1.into(), Mutex::new(plan())));
        let mut desk = desk(RouteTable::new(Routes::single(0, Node::new(outcome))), plans);
        desk.begin();
        submit(&mut desk, 0, 2);
        assert_eq!(decide(&mut desk)[0].next_submit_ms, calm);
        desk.gauge.observe(100, 100);
        submit(&mut desk, 0, 2);
        assert_eq!(decide(&mut desk)[0].next_submit_ms, loaded);
    }
}
