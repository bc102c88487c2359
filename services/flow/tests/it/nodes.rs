//! Several flow nodes on one store: lanes that go back and forth between them.

use crate::make::{bytes, event, keys, plans, sign, won};
use crate::store::{pg, pg_again};
use campaign::{AwardId, CampaignId, NodeEpoch, NodeId, UserId};
use flow::core::{EtaLimits, RepeatConfig, StatValue};
use flow::service::events::EventsWorker;
use flow::service::handle::FlowHandle;
use flow::service::lane::LaneWorker;
use flow::service::live::LiveStatistics;
use flow::service::progress::FlowProgress;
use flow::service::repeat::RepeatWorker;
use flow::service::{FlowParts, GROUP};
use flow::store::{AwardStore, MemoryAwardStore};
use protocol::calls::Histories;
use queue::memory::MemoryQueue;
use queue::{JOURNAL, LANE, ORDERS, Queue, TopicOptions};
use records::{DeliveryState, Ended, Order, Record, Won};
use runtime::{ManualClock, Shutdown, Tasks};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;
use testkit::SimRng;

fn queue() -> MemoryQueue {
    let topic = |name, partitions| TopicOptions::new(name).with_partitions(partitions);
    MemoryQueue::new([topic(ORDERS, 3), topic(JOURNAL, 2), topic(LANE, 4)]).unwrap()
}

/// A flow node.
struct Node {
    parts: FlowParts,
    progress: Arc<FlowProgress>,
    live: Arc<LiveStatistics>,
}

impl Node {
    fn new(queue: &MemoryQueue, store: Arc<dyn AwardStore>) -> Node {
        let parts = FlowParts {
            queue: Arc::new(queue.clone()),
            store,
            plans: Arc::new(plans()),
            keys: keys(),
            clock: ManualClock::new(5_000),
            repeat: RepeatConfig { interval_ms: 1_000, grace_ms: 100 },
            eta: EtaLimits::default(),
        };
        Node { parts, progress: Arc::default(), live: Arc::new(LiveStatistics::shared(Vec::new(), 0)) }
    }
    async fn lanes(&self) -> LaneWorker {
        LaneWorker::new(&self.parts, self.progress.clone(), self.live.clone()).await.unwrap()
    }
    async fn events(&self) -> EventsWorker {
        EventsWorker::new(&self.parts, self.progress.clone(), self.live.clone()).await.unwrap()
    }
}

/// An award of a lane's node.
fn won_by(node: u16, epoch: u32, sequence: u64) -> Won {
    let user = sequence % 40 + u64::from(node);
    let mut won = won(epoch, sequence, user, 1 + (sequence % 2) as u32, 1_000 * u64::from(node) + sequence);
    won.award = AwardId::new(won.time_ms, NodeId(node), NodeEpoch(epoch), sequence);
    sign(&mut won);
    won
}

/// Groups for lanes 1 to 3: awards, an end of each first epoch, awards behind it that never were, and the next epoch.
/// A node, its epoch, and the records of its lane.
type Lane = (u16, u32, Vec<Vec<u8>>);

fn lanes() -> (Vec<Lane>, Vec<Won>) {
    let (mut groups, mut good) = (Vec::new(), Vec::new());
    for step in 0..12u64 {
        for node in 1..=3u16 {
            let epoch = if step < 8 { 1 } else { 2 };
            let wins: Vec<Won> = (0..4).map(|i| won_by(node, epoch, 10 * step + i)).collect();
            let mut records: Vec<Vec<u8>> = wins.iter().map(bytes).collect();
            if step == 7 {
                // The mark stands in front: none of this group's wins is an award.
                records.insert(0, bytes(&Ended { node: NodeId(node), epoch: NodeEpoch(1) }));
            } else {
                good.extend(wins);
            }
            groups.push((node, epoch, records));
        }
    }
    (groups, good)
}

fn ship(queue: &MemoryQueue, (node, epoch, records): &(u16, u32, Vec<Vec<u8>>)) {
    let records: Vec<&[u8]> = records.iter().map(Vec::as_slice).collect();
    queue.ship(LANE, *node, *epoch, &records).unwrap();
}

/// Whatever happened in between: every award once, each with its order, and sums that fit.
async fn check(queue: &MemoryQueue, store: &dyn AwardStore, good: &[Won]) {
    let mut stored: Vec<Won> = store.scan(None, 10_000).await.unwrap().iter().map(|r| r.row.won).collect();
    stored.sort_unstable_by_key(|w| w.award);
    let mut want = good.to_vec();
    want.sort_unstable_by_key(|w| w.award);
    assert_eq!(stored, want);
    let sums = store.statistics().await.unwrap().iter().fold(StatValue::default(), |mut sum, (_, v)| {
        sum.add(v);
        sum
    });
    assert_eq!(sums.awarded_units, good.len() as i64);
    assert_eq!(sums.awarded_fen.0, good.iter().map(|w| w.fen.0).sum::<i64>());
    let mut consumer = queue.consumer(ORDERS, "audit").await.unwrap();
    let mut orders: BTreeMap<AwardId, Order> = BTreeMap::new();
    loop {
        let batches = consumer.poll(1_000, 1 << 20).await.unwrap();
        if batches.is_empty() {
            break;
        }
        for record in batches.iter().flat_map(queue::Batch::records) {
            let order = Order::decode(record).unwrap();
            assert!(orders.insert(order.award, order).is_none_or(|before| before == order));
        }
    }
    assert!(orders.keys().copied().eq(want.iter().map(|w| w.award)));
    assert!(store.lanes().await.unwrap().iter().all(|lane| lane.next == 12 && lane.epoch == NodeEpoch(2)));
    assert!(store.alarms(0, 10).await.unwrap().is_empty());
}

/// Nodes come and go by chance and do their stages in turns: one often still holds a batch of a lane that is another's by now.
async fn back_and_forth(stores: [Arc<dyn AwardStore>; 2], seed: u64) {
    let (queue, mut rng) = (queue(), SimRng::new(seed));
    let (groups, good) = lanes();
    let nodes = stores.map(|store| Node::new(&queue, store));
    let mut workers: [Option<LaneWorker>; 2] = [None, None];
    for group in &groups {
        ship(&queue, group);
        for _ in 0..3 {
            let at = rng.below(2) as usize;
            match &mut workers[at] {
                None => workers[at] = Some(nodes[at].lanes().await),
                Some(_) if rng.below(12) == 0 => workers[at] = None,
                Some(worker) => drop(worker.step().await.unwrap()),
            }
            if rng.below(20) == 0 {
                queue.redeliver(LANE, GROUP).unwrap();
            }
        }
    }
    workers[0] = None;
    let mut last = nodes[1].lanes().await;
    drop(workers);
    while last.step().await.unwrap() {}
    check(&queue, &*nodes[0].parts.store, &good).await;
}

#[tokio::test]
async fn lanes_go_back_and_forth_in_memory() {
    for seed in 0..60 {
        let store: Arc<dyn AwardStore> = Arc::new(MemoryAwardStore::new());
        back_and_forth([Arc::clone(&store), store], seed).await;
    }
}

#[tokio::test]
async fn lanes_go_back_and_forth_on_postgresql() {
    for seed in 0..4 {
        let Some((database, one)) = pg().await else { return };
        let other = pg_again(&database).await;
        back_and_forth([Arc::new(one), Arc::new(other)], seed).await;
    }
}

/// Whether delivery tells of an award.
fn is_told(won: &Won) -> bool {
    (won.award.sequence() / 10).is_multiple_of(2)
}

/// Awards of which the store knows that they were delivered.
async fn told(store: &dyn AwardStore) -> usize {
    let all = store.scan(None, 10_000).await.unwrap();
    all.iter().filter(|r| r.progress.is_some_and(|p| p.state == DeliveryState::Delivered)).count()
}

/// Two nodes at full speed, lanes and journal, in threads of their own; the group is disturbed all the while.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_nodes_at_once_on_postgresql() {
    let Some((database, one)) = pg().await else { return };
    let other = pg_again(&database).await;
    let (queue, (groups, good)) = (queue(), lanes());
    let nodes = [Node::new(&queue, Arc::new(one)), Node::new(&queue, Arc::new(other))];
    let done = AtomicBool::new(false);
    let busy = async |node: &Node| {
        let (mut lanes, mut events) = (node.lanes().await, node.events().await);
        while !done.load(Relaxed) {
            let (a, b) = tokio::join!(lanes.step(), events.step());
            for moved in [a, b] {
                // Two transactions may meet on the same awards: one of them is told to try again.
                if let Err(error) = moved {
                    assert!(error.is_retryable(), "{error}");
                }
            }
            tokio::task::yield_now().await;
        }
    };
    let wanted = good.iter().filter(|w| is_told(w)).count();
    let feed = async {
        for (i, group) in groups.iter().enumerate() {
            // Delivery is quick: some of its news come before their awards.
            for won in good.iter().filter(|w| w.award.sequence() / 10 * 3 == i as u64 && is_told(w)) {
                for (step, state) in [(1, DeliveryState::Ready), (2, DeliveryState::Delivered)] {
                    let event = bytes(&event(won, step, state, 6_000));
                    queue.produce(JOURNAL, (won.user.0 % 2) as u16, &[&event]).await.unwrap();
                }
            }
            ship(&queue, group);
            if i % 5 == 4 {
                queue.redeliver(LANE, GROUP).unwrap();
                queue.redeliver(JOURNAL, GROUP).unwrap();
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let store = &nodes[0].parts.store;
        let caught_up = async {
            while store.lanes().await.unwrap().iter().map(|lane| lane.next).sum::<u64>() < 36
                || told(&**store).await < wanted
            {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let in_time = tokio::time::timeout(Duration::from_secs(180), caught_up).await;
        done.store(true, Relaxed);
        in_time.unwrap();
    };
    tokio::join!(busy(&nodes[0]), busy(&nodes[1]), feed);
    // What was applied and not committed when they were stopped comes again.
    let mut last = nodes[0].lanes().await;
    while last.step().await.unwrap() {}
    let store = &nodes[0].parts.store;
    check(&queue, &**store, &good).await;
    let told = told(&**store).await;
    assert_eq!(told, wanted);
    let units: i64 = store.statistics().await.unwrap().iter().map(|(_, v)| v.delivered_units).sum();
    assert_eq!(units, told as i64, "a step that came before its award, or with it, is counted once");
}

#[tokio::test]
async fn every_node_shows_what_all_have_counted() {
    let Some((database, one)) = pg().await else { return };
    let other = pg_again(&database).await;
    let (queue, (groups, good)) = (queue(), lanes());
    let nodes = [Node::new(&queue, Arc::new(one)), Node::new(&queue, Arc::new(other))];
    let all: Vec<Tasks> = nodes.iter().map(|_| Tasks::new(Shutdown::new())).collect();
    let mut handles = Vec::new();
    for (node, tasks) in nodes.iter().zip(&all) {
        handles.push(flow::service::start(node.parts.clone(), tasks).await.unwrap());
    }
    groups.iter().for_each(|group| ship(&queue, group));
    let counted = |handle: &FlowHandle| {
        handle.statistics().rounds.iter().map(|line| line.sums.awarded_units).sum::<i64>()
    };
    let shown = async {
        while handles.iter().any(|handle| counted(handle) < good.len() as i64) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(180), shown).await.unwrap();
    for (handle, tasks) in handles.iter().zip(all) {
        assert_eq!(counted(handle), good.len() as i64);
        let drained = tasks.drain(Duration::from_secs(60)).await;
        assert!(drained.unfinished.is_empty() && drained.failure.is_none(), "{drained:?}");
    }
    // They may have stopped before the orders of their last batch.
    let mut last = nodes[0].lanes().await;
    while last.step().await.unwrap() {}
    check(&queue, &*nodes[0].parts.store, &good).await;
}

#[tokio::test]
async fn one_node_repeats_and_all_of_them_answer() {
    let store: Arc<dyn AwardStore> = Arc::new(MemoryAwardStore::new());
    let queue = queue();
    let nodes = [Node::new(&queue, Arc::clone(&store)), Node::new(&queue, store)];
    let wins = [won_by(1, 1, 1), won_by(1, 1, 2)];
    ship(&queue, &(1, 1, wins.iter().map(bytes).collect()));
    let mut workers = [nodes[0].lanes().await, nodes[1].lanes().await];
    for worker in &mut workers {
        while worker.step().await.unwrap() {}
    }
    let mut orders = queue.consumer(ORDERS, flow::service::DELIVERY_GROUP).await.unwrap();
    for batch in orders.poll(100, 1 << 20).await.unwrap() {
        orders.commit(batch.partition, batch.next()).await.unwrap();
    }
    // Both look until everything was due; the one without the first lane leaves it to the other.
    let mut repeated = Vec::new();
    for node in &nodes {
        let clock = ManualClock::new(5_000);
        let parts = FlowParts { clock: clock.clone(), ..node.parts.clone() };
        let mut repeat = RepeatWorker::new(&parts, node.progress.clone()).unwrap();
        for _ in 0..4 {
            repeat.step().await.unwrap();
            clock.advance_ms(500);
        }
        repeated.push(node.progress.repeated.get());
    }
    repeated.sort_unstable();
    assert_eq!(repeated, [0, 2]);
    for node in &nodes {
        let handle = FlowHandle::new(&node.parts, node.progress.clone(), node.live.clone()).unwrap();
        assert_eq!(handle.passed(&[2, 1]).await.unwrap(), [(2, 0), (1, 1)]);
        let asked =
            [(wins[1].user, CampaignId(1)), (UserId(999), CampaignId(1)), (wins[1].user, CampaignId(9))];
        let found = handle.wins(&asked).await.unwrap();
        assert_eq!(found.iter().map(Vec::len).collect::<Vec<_>>(), [1, 0, 0]);
        let win = found[0][0];
        assert_eq!(
            (win.award, win.unit, win.day, win.fen),
            (wins[1].award, wins[1].unit, 20_000, wins[1].fen)
        );
        let many = vec![asked[0]; protocol::calls::HISTORY_USERS_MAX + 1];
        let refused = handle.wins(&many).await.unwrap_err().to_string();
        assert!(refused.contains("513 users; at most 512"), "{refused}");
    }
}
