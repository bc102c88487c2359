//! The loops, stepped by hand and killed between any two steps; the handle; the whole started.

use crate::make::{TERM_MS, bytes, event, keys, plans, won};
use campaign::{AwardId, NodeEpoch, NodeId, UserId};
use flow::core::{EtaLimits, RepeatConfig};
use flow::service::events::EventsWorker;
use flow::service::handle::FlowHandle;
use flow::service::lane::LaneWorker;
use flow::service::live::LiveStatistics;
use flow::service::progress::FlowProgress;
use flow::service::repeat::RepeatWorker;
use flow::service::{DELIVERY_GROUP, FlowParts, GROUP};
use flow::store::{AwardStore, MemoryAwardStore};
use flowlog::{Class, FlowLog, Hooks, LogKind, LogOptions, LogWriter, RealDisk};
use protocol::calls::{Awards, CallError};
use protocol::v1::AwardState;
use queue::embedded::EmbeddedQueue;
use queue::memory::MemoryQueue;
use queue::{JOURNAL, LANE, ORDERS, Queue, TopicOptions};
use records::{DeliveryState, Ended, Order, OrderKind, Record, Won};
use runtime::{ManualClock, Shutdown, SystemClock, Tasks};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

fn topics() -> Vec<TopicOptions> {
    vec![TopicOptions::new(ORDERS).with_partitions(3), TopicOptions::new(JOURNAL).with_partitions(2)]
}

fn memory_queue() -> MemoryQueue {
    let lane = TopicOptions::new(LANE).with_partitions(2);
    MemoryQueue::new(topics().into_iter().chain([lane])).unwrap()
}

fn parts(queue: Arc<dyn Queue>, store: Arc<dyn AwardStore>, clock: Arc<ManualClock>) -> FlowParts {
    FlowParts {
        queue,
        store,
        plans: Arc::new(plans()),
        keys: keys(),
        clock,
        repeat: RepeatConfig { interval_ms: 1_000, grace_ms: 100 },
        eta: EtaLimits { behind_ms: 1_000, far_behind_ms: 10_000 },
    }
}

struct Rig {
    parts: FlowParts,
    progress: Arc<FlowProgress>,
    live: Arc<LiveStatistics>,
}

impl Rig {
    async fn new(parts: FlowParts) -> Rig {
        let lines = parts.store.statistics().await.unwrap();
        Rig { parts, progress: Arc::default(), live: Arc::new(LiveStatistics::new(lines, 0)) }
    }
    async fn lane(&self) -> LaneWorker {
        LaneWorker::new(&self.parts, self.progress.clone(), self.live.clone()).await.unwrap()
    }
    async fn events(&self) -> EventsWorker {
        EventsWorker::new(&self.parts, self.progress.clone(), self.live.clone()).await.unwrap()
    }
    fn handle(&self) -> FlowHandle {
        FlowHandle::new(&self.parts, self.progress.clone(), self.live.clone()).unwrap()
    }
}

/// All orders that were ever produced, by award, with how often.
async fn orders(queue: &dyn Queue, group: &str) -> BTreeMap<AwardId, Vec<Order>> {
    let mut consumer = queue.consumer(ORDERS, group).await.unwrap();
    let mut orders: BTreeMap<AwardId, Vec<Order>> = BTreeMap::new();
    loop {
        let batches = consumer.poll(100, 1 << 20).await.unwrap();
        if batches.is_empty() {
            return orders;
        }
        for record in batches.iter().flat_map(queue::Batch::records) {
            let order = Order::decode(record).unwrap();
            orders.entry(order.award).or_default().push(order);
        }
    }
}

/// Epoch and records.
type RawGroup = (u32, Vec<Vec<u8>>);

/// Twelve groups in lane 1: awards, one of them with a unit that was given before, an end mark, and awards behind it.
fn lane_groups() -> (Vec<RawGroup>, Vec<Won>, Won) {
    let good: Vec<Won> = (0..20).map(|i| won(1, i, i, 1 + (i % 2) as u32, i)).collect();
    let twice = won(1, 20, 50, 1, 4);
    let late = won(1, 21, 51, 1, 60);
    let next = won(2, 30, 52, 1, 61);
    let mut groups: Vec<RawGroup> = good.chunks(2).map(|c| (1, c.iter().map(bytes).collect())).collect();
    groups[5].1.push(bytes(&twice));
    groups.push((1, vec![bytes(&Ended { node: NodeId(1), epoch: NodeEpoch(1) }), bytes(&late)]));
    groups.push((2, vec![bytes(&next)]));
    (groups, good.into_iter().chain([next]).collect(), twice)
}

/// What must be true in the end, however often flow was killed.
async fn check(queue: &dyn Queue, store: &dyn AwardStore, good: &[Won], twice: &Won, what: &str) {
    let stored = store.scan(None, 1000).await.unwrap();
    let mut want: Vec<AwardId> = good.iter().chain([twice]).map(|w| w.award).collect();
    want.sort_unstable();
    assert_eq!(stored.iter().map(|r| r.row.won.award).collect::<Vec<_>>(), want, "{what}");
    let sent = orders(queue, "audit").await;
    let mut with_order: Vec<AwardId> = good.iter().map(|w| w.award).collect();
    with_order.sort_unstable();
    assert_eq!(sent.keys().copied().collect::<Vec<_>>(), with_order, "{what}");
    for won in good {
        for order in &sent[&won.award] {
            assert_eq!((order.facts(), order.mac), (won.facts(), won.mac));
        }
    }
    let units: i64 = store.statistics().await.unwrap().iter().map(|(_, v)| v.awarded_units).sum();
    assert_eq!(units, good.len() as i64, "{what}");
    assert_eq!(queue.lag(LANE, GROUP).await.unwrap(), 0, "{what}");
}

#[tokio::test]
async fn killed_after_every_prefix_of_steps_nothing_is_lost() {
    let (groups, good, twice) = lane_groups();
    for kill_after in 0..12 {
        let (queue, store) = (memory_queue(), MemoryAwardStore::new());
        let rig =
            Rig::new(parts(Arc::new(queue.clone()), Arc::new(store.clone()), ManualClock::new(5_000))).await;
        // The lane grows while flow is killed again and again; each life has a few steps more or less.
        for (i, (epoch, records)) in groups.iter().enumerate() {
            let records: Vec<&[u8]> = records.iter().map(Vec::as_slice).collect();
            queue.ship(LANE, 1, *epoch, &records).unwrap();
            if i % 3 == 2 {
                let mut worker = rig.lane().await;
                for _ in 0..kill_after {
                    worker.step().await.unwrap();
                }
            }
        }
        let mut worker = rig.lane().await;
        while worker.step().await.unwrap() {}
        check(&queue, &store, &good, &twice, &format!("killed after {kill_after} steps")).await;
    }
}

/// Opens what a restarted process opens: queue, node log, store.
pub async fn process(dir: &Path, epoch: u32) -> (EmbeddedQueue, FlowLog, flow::store::SqlAwardStore) {
    struct Still;
    impl flowlog::LogClock for Still {
        fn unix_ms(&self) -> u64 {
            1
        }
        fn mono_ns(&self) -> u64 {
            1
        }
    }
    let data = dir.join("queue");
    let queue = EmbeddedQueue::open(&data, &topics(), SystemClock::shared(), Arc::new(|_| {})).unwrap();
    let known = queue.known(LANE, 1).unwrap();
    let options = LogOptions::small(LogKind::FLOW, 1);
    let (mut writer, recovery) =
        LogWriter::open(RealDisk, &dir.join("lane"), options, Some(known), None).unwrap();
    writer.begin_epoch(epoch).unwrap();
    let log = FlowLog::start(writer, RealDisk, Arc::new(Still), Hooks::default()).unwrap();
    queue.attach_lane(1, log.clone(), recovery.first).unwrap();
    (queue, log, crate::store::sql(dir).await)
}

#[tokio::test]
async fn the_embedded_queue_and_sqlite_survive_the_same() {
    let (groups, good, twice) = lane_groups();
    for kill_after in [1, 2, 3, 6] {
        let dir = tempfile::tempdir().unwrap();
        for (i, chunk) in groups.chunks(4).enumerate() {
            for (epoch, records) in chunk {
                let (_queue, log, _store) = process(dir.path(), *epoch).await;
                let at = log.append_many(records, Class::Normal).unwrap();
                log.wait_durable(at).await.unwrap();
            }
            let (queue, log, store) = process(dir.path(), if i < 2 { 1 } else { 2 }).await;
            let rig = Rig::new(parts(Arc::new(queue), Arc::new(store), ManualClock::new(5_000))).await;
            let mut worker = rig.lane().await;
            for _ in 0..kill_after {
                worker.step().await.unwrap();
            }
            drop((worker, rig, log));
        }
        let (queue, _log, store) = process(dir.path(), 2).await;
        let rig =
            Rig::new(parts(Arc::new(queue.clone()), Arc::new(store.clone()), ManualClock::new(5_000))).await;
        let mut worker = rig.lane().await;
        while worker.step().await.unwrap() {}
        check(&queue, &store, &good, &twice, &format!("killed after {kill_after} steps")).await;
    }
}

/// A memory rig with two awards of user 7 in the store: cash at once, and a voucher on claim.
async fn two_awards() -> (MemoryQueue, Arc<ManualClock>, Rig, Won, Won) {
    let (queue, clock) = (memory_queue(), ManualClock::new(2_000));
    let rig =
        Rig::new(parts(Arc::new(queue.clone()), Arc::new(MemoryAwardStore::new()), clock.clone())).await;
    let (cash, voucher) = (won(1, 1, 7, 1, 0), won(1, 2, 7, 2, 0));
    queue.ship(LANE, 1, 1, &[&bytes(&cash), &bytes(&voucher)]).unwrap();
    let mut worker = rig.lane().await;
    while worker.step().await.unwrap() {}
    (queue, clock, rig, cash, voucher)
}

async fn tell(queue: &MemoryQueue, rig: &Rig, events: &[records::DeliveryEvent]) {
    for e in events {
        queue.produce(JOURNAL, 0, &[&bytes(e)]).await.unwrap();
    }
    let mut worker = rig.events().await;
    while worker.step().await.unwrap() {}
}

#[tokio::test]
async fn a_burst_of_claims_makes_one_order() {
    let (queue, clock, rig, cash, voucher) = two_awards().await;
    let handle = rig.handle();
    let user = UserId(7);
    tell(&queue, &rig, &[event(&voucher, 1, DeliveryState::New, 1_500)]).await;
    let (views, more) = handle.prizes(user, None, 10).await.unwrap();
    assert!(!more);
    let states: Vec<_> = views.iter().map(|v| (v.prize_name.as_str(), v.state())).collect();
    assert_eq!(states, [("prize 1", AwardState::Won), ("prize 2", AwardState::Claimable)]);
    let burst = (0..20).map(|_| handle.claim(user, voucher.award));
    for view in futures_util::future::join_all(burst).await {
        assert_eq!(view.unwrap().state(), AwardState::OnTheWay);
    }
    let sent = orders(&queue, "audit").await;
    let kinds: Vec<OrderKind> = sent[&voucher.award].iter().map(|o| o.kind).collect();
    assert_eq!(kinds, [OrderKind::OnClaim, OrderKind::Claim]);
    assert_eq!(rig.progress.claims.get(), 1);
    // Pressing for cash changes nothing; its vendor is behind, which is said.
    clock.advance_ms(1_500);
    let view = handle.claim(user, cash.award).await.unwrap();
    assert_eq!((view.state(), view.eta_hours), (AwardState::Won, 24));
    clock.advance_ms(10_000);
    assert_eq!(handle.claim(user, cash.award).await.unwrap().eta_hours, 48);
    // Long after, without a word from delivery: the claim is passed on once more.
    handle.claim(user, voucher.award).await.unwrap();
    assert_eq!(rig.progress.claims.get(), 2);
    tell(&queue, &rig, &[event(&voucher, 2, DeliveryState::Delivered, 1_600)]).await;
    assert_eq!(handle.claim(user, voucher.award).await.unwrap().state(), AwardState::Delivered);
    assert_eq!(rig.progress.claims.get(), 2);
}

#[tokio::test]
async fn claims_that_cannot_be() {
    let (_queue, clock, rig, _cash, voucher) = two_awards().await;
    let handle = rig.handle();
    assert!(matches!(handle.claim(UserId(8), voucher.award).await, Err(CallError::NotFound(_))));
    // Not stored: it may still be in the lane, unless it is old or says it was won in the future.
    let unknown = |ms| AwardId::new(ms, NodeId(1), NodeEpoch(1), 99);
    assert!(matches!(handle.claim(UserId(7), unknown(1_990)).await, Err(CallError::Busy(_))));
    assert!(matches!(handle.claim(UserId(7), unknown(9_990)).await, Err(CallError::NotFound(_))));
    clock.advance_ms(TERM_MS);
    assert!(matches!(handle.claim(UserId(7), unknown(1_990)).await, Err(CallError::NotFound(_))));
    let lapsed = handle.claim(UserId(7), voucher.award).await;
    assert!(matches!(&lapsed, Err(CallError::Refused(why)) if why.contains("has lapsed")), "{lapsed:?}");
    assert_eq!(rig.progress.claims.get(), 0);
}

#[tokio::test]
async fn an_order_that_delivery_never_journalled_is_repeated() {
    let (queue, clock, rig, cash, voucher) = two_awards().await;
    let mut repeat = RepeatWorker::new(&rig.parts, rig.progress.clone()).unwrap();
    // Delivery has not consumed: repeating would not help it.
    for _ in 0..10 {
        repeat.step().await.unwrap();
        clock.advance_ms(1_000);
    }
    assert_eq!(rig.progress.repeated.get(), 0);
    // It has consumed everything and journalled one.
    let mut delivery = queue.consumer(ORDERS, DELIVERY_GROUP).await.unwrap();
    for batch in delivery.poll(100, 1 << 20).await.unwrap() {
        delivery.commit(batch.partition, batch.next()).await.unwrap();
    }
    tell(&queue, &rig, &[event(&voucher, 1, DeliveryState::New, 1_500)]).await;
    for _ in 0..2 {
        repeat.step().await.unwrap();
        clock.advance_ms(200);
    }
    repeat.step().await.unwrap();
    assert_eq!(rig.progress.repeated.get(), 1);
    let sent = orders(&queue, "audit").await;
    assert_eq!((sent[&cash.award].len(), sent[&voucher.award].len()), (2, 1));
    assert_eq!(sent[&cash.award][0], sent[&cash.award][1]);
}

#[tokio::test]
async fn statistics_are_live_and_text_in_json() {
    let (queue, _clock, rig, cash, _voucher) = two_awards().await;
    let handle = rig.handle();
    let before = handle.statistics();
    rig.live.publish(3_000);
    tell(&queue, &rig, &[event(&cash, 1, DeliveryState::Delivered, 1_500)]).await;
    rig.live.publish(4_000);
    let now = handle.statistics();
    assert!(before.prizes.is_empty(), "a reader keeps the snapshot that it has");
    assert_eq!((now.prizes.len(), now.rounds.len(), now.vendors.len()), (2, 1, 2));
    assert_eq!((now.rounds[0].sums.awarded_units, now.rounds[0].sums.delivered_units), (2, 1));
    assert_eq!((now.vendors[0].vendor, now.vendors[0].sums.open_units), (5, 0));
    assert_eq!(now.districts[0].district, 1);
    let json = serde_json::to_value(&*now).unwrap();
    assert_eq!(json["prizes"][0]["awarded_fen"], "100");
    rig.live.publish(5_000);
    assert_eq!(handle.statistics().at_ms, 4_000, "nothing changed, nothing published");
}

#[tokio::test]
async fn started_it_runs_and_ends_when_asked() {
    let queue = memory_queue();
    let clock = ManualClock::new(2_000);
    let tasks = Tasks::new(Shutdown::new());
    let parts = parts(Arc::new(queue.clone()), Arc::new(MemoryAwardStore::new()), clock);
    let handle = flow::service::start(parts, &tasks).await.unwrap();
    let a = won(1, 1, 7, 1, 0);
    queue.ship(LANE, 1, 1, &[&bytes(&a)]).unwrap();
    queue.produce(JOURNAL, 1, &[&bytes(&event(&a, 1, DeliveryState::Delivered, 1_500))]).await.unwrap();
    let done = async {
        // What is counted and what is published need not show in the same moment.
        loop {
            let status = handle.status().await.unwrap();
            let is_shown = handle.statistics().rounds.first().is_some_and(|l| l.sums.delivered_units == 1);
            if is_shown && (status.awards, status.orders, status.events) == (1, 1, 1) {
                return status;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let status = tokio::time::timeout(Duration::from_secs(60), done).await.unwrap();
    assert_eq!(status.stalled.len(), 0);
    let drained = tasks.drain(Duration::from_secs(60)).await;
    assert!(drained.unfinished.is_empty() && drained.failure.is_none(), "{drained:?}");
}

#[tokio::test]
async fn a_lane_that_cannot_be_read_stops_flow_and_says_where() {
    let queue = memory_queue();
    let tasks = Tasks::new(Shutdown::new());
    let parts = parts(Arc::new(queue.clone()), Arc::new(MemoryAwardStore::new()), ManualClock::new(1));
    flow::service::start(parts, &tasks).await.unwrap();
    queue.ship(LANE, 1, 1, &[b"\x7f\x01\0\0"]).unwrap();
    tokio::time::timeout(Duration::from_secs(60), tasks.shutdown().wait()).await.unwrap();
    let failure = tasks.drain(Duration::from_secs(60)).await.failure.unwrap().to_string();
    assert!(failure.contains("flow-lane") && failure.contains("lane 1, group 0, record 0"), "{failure}");
}
