//! The whole service with scripted vendors: many orders, bad vendors, processes that die, callbacks, accounts, redo.

use crate::support::{award, keys, order, vendor};
use ::http::{HeaderMap, StatusCode};
use campaign::{AwardId, UserId, VendorId};
use delivery::account::MemoryAccounts;
use delivery::book::{DeliveryBook, MemoryBook, SqlBook, shard_of};
use delivery::config::{AccountMode, DeliveryConfig, VendorConfig};
use delivery::service::Redone;
use delivery::vendor::Vendor;
use delivery::vendor::script::{Act, ScriptVendor};
use delivery::{Delivery, DeliveryParts};
use queue::memory::MemoryQueue;
use queue::{Queue, TopicOptions};
use records::{DeliveryEvent, DeliveryState as S, OrderKind, Record};
use runtime::{Shutdown, SystemClock, Tasks};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;
use testkit::servers::FreshDatabase;

/// What outlives a process.
#[derive(Clone)]
pub struct World {
    pub queue: MemoryQueue,
    pub book: Arc<dyn DeliveryBook>,
    pub accounts: MemoryAccounts,
    pub vendors: Vec<(VendorConfig, ScriptVendor)>,
}

impl World {
    pub fn new(book: Arc<dyn DeliveryBook>, vendors: Vec<(VendorConfig, ScriptVendor)>) -> World {
        let topics = [TopicOptions::new(queue::ORDERS), TopicOptions::new(queue::JOURNAL)];
        World { queue: MemoryQueue::new(topics).unwrap(), book, accounts: MemoryAccounts::default(), vendors }
    }

    pub fn start(&self, hold: bool) -> (Delivery, Tasks) {
        self.start_with(hold, BTreeMap::new())
    }

    /// With limits in place of the configured ones.
    pub fn start_with(&self, hold: bool, limits: BTreeMap<VendorId, u32>) -> (Delivery, Tasks) {
        let tasks = Tasks::new(Shutdown::new());
        let vendors: BTreeMap<VendorId, Arc<dyn Vendor>> =
            self.vendors.iter().map(|(c, v)| (c.vendor(), Arc::new(v.clone()) as Arc<dyn Vendor>)).collect();
        let config = DeliveryConfig {
            hold,
            idle_poll_ms: 2,
            lapse_grace_ms: 0,
            vendors: self.vendors.iter().map(|(c, _)| c.clone()).collect(),
        };
        let parts = DeliveryParts {
            config,
            book: self.book.clone(),
            accounts: Arc::new(self.accounts.clone()),
            vendors,
            limits,
            mac_keys: keys(),
            queue: Arc::new(self.queue.clone()),
            clock: SystemClock::shared(),
            seed: 5,
        };
        (Delivery::start(parts, &tasks).unwrap(), tasks)
    }

    pub async fn order(&self, orders: &[records::Order]) {
        for order in orders {
            let record = order.encode();
            self.queue.produce(queue::ORDERS, shard_of(order.user, 4), &[&record]).await.unwrap();
        }
    }

    /// Waits until every award is in one of the states.
    pub async fn until(&self, awards: &[AwardId], states: &[S]) {
        for _ in 0..24_000 {
            let rows = self.book.rows(awards).await.unwrap();
            if rows.len() == awards.len() && rows.iter().all(|row| states.contains(&row.state)) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let rows = self.book.rows(awards).await.unwrap();
        let bad: Vec<_> = rows.iter().filter(|row| !states.contains(&row.state)).take(3).collect();
        panic!("{} of {} orders are there; not in {states:?}: {bad:?}", rows.len(), awards.len());
    }

    /// Journal and topic say the same, without a hole.
    pub async fn journal_is_whole(&self) {
        let mut steps: HashMap<AwardId, u32> = HashMap::new();
        let mut events = Vec::new();
        for shard in 0..self.book.shards() {
            let mut after = 0;
            loop {
                let lines = self.book.journal(shard, after, 1_000).await.unwrap();
                if lines.is_empty() {
                    break;
                }
                for line in lines {
                    after += 1;
                    assert_eq!(
                        (line.position, shard_of(line.event.user, self.book.shards())),
                        (after, shard)
                    );
                    let step = steps.entry(line.event.award).or_default();
                    *step += 1;
                    assert_eq!(line.event.step, *step);
                    events.push(line.event);
                }
            }
        }
        let mut consumer = self.queue.consumer(queue::JOURNAL, "test").await.unwrap();
        let mut published = std::collections::HashSet::new();
        loop {
            let batches = consumer.poll(10_000, 1 << 24).await.unwrap();
            if batches.is_empty() {
                break;
            }
            for batch in &batches {
                published.extend(batch.records().map(|r| {
                    let event = DeliveryEvent::decode(r).unwrap();
                    (event.award, event.step)
                }));
            }
        }
        assert_eq!(published.len(), events.len());
        assert!(events.iter().all(|e| published.contains(&(e.award, e.step))));
    }
}

/// Waits until something is so.
pub async fn until(what: &str, is: impl AsyncFn() -> bool) {
    for _ in 0..6_000 {
        if is().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("not in two minutes: {what}");
}

pub async fn stop(tasks: Tasks) {
    let drained = tasks.drain(Duration::from_secs(60)).await;
    assert!(drained.unfinished.is_empty() && drained.failure.is_none(), "{drained:?}");
}

/// A vendor whose answers look random: by number and attempt, and good after the fifth.
pub fn moody() -> ScriptVendor {
    ScriptVendor::new(|number, attempt| {
        let hash =
            number.bytes().fold(u64::from(attempt), |h, b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3));
        match (hash >> 20) % 12 {
            _ if attempt > 5 => Act::Pay,
            0 => Act::PaySilently,
            1 => Act::Lose,
            2 => Act::PayAndFault,
            3 => Act::Fault,
            4 => Act::OverLimit,
            5 => Act::PayLater,
            6 => Act::FailLater,
            _ => Act::Pay,
        }
    })
}

pub fn eager(id: u32) -> VendorConfig {
    // Never cut off and hardly slowed down: the test is about money, not about pace.
    VendorConfig { breaker_failures: 0, ..vendor(id, 100_000) }
}

/// With a database on a server, each process has connections of its own, which die with it.
async fn survives_kills(book: Arc<dyn DeliveryBook>, database: Option<Arc<FreshDatabase>>) {
    let world = World::new(book, vec![(eager(1), moody()), (eager(2), moody())]);
    let orders: Vec<_> = (1..=300).map(|n| order(n, OrderKind::AtOnce, 1 + (n % 2) as u32)).collect();
    let awards: Vec<AwardId> = orders.iter().map(|o| o.award).collect();
    world.order(&orders).await;
    for life_ms in [15, 40, 80, 120] {
        // A runtime of its own, thrown away in the middle of whatever it does: as good as a kill.
        let (mut dying, database) = (world.clone(), database.clone());
        std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
            let _service = runtime.block_on(async move {
                if let Some(database) = database {
                    dying.book = Arc::new(crate::book::pg_again(&database, 1).await);
                }
                let service = dying.start(false);
                tokio::time::sleep(Duration::from_millis(life_ms)).await;
                service
            });
            runtime.shutdown_background();
        })
        .join()
        .unwrap();
    }
    // The queue repeats what it has delivered before.
    world.order(&orders[..50]).await;
    let (_delivery, tasks) = world.start(false);
    world.until(&awards, &[S::Delivered, S::Rejected]).await;
    stop(tasks).await;
    for (_, vendor) in &world.vendors {
        assert_eq!((vendor.double_payments(), vendor.mismatches()), (0, 0));
    }
    let paid: usize = world.vendors.iter().map(|(_, v)| v.paid().len()).sum();
    let rows = world.book.rows(&awards).await.unwrap();
    assert_eq!(paid, rows.iter().filter(|row| row.state == S::Delivered).count());
    assert!(paid > 280, "{paid}");
    assert!(world.vendors[0].1.seen().len() > 150, "nothing was ever repeated");
    world.journal_is_whole().await;
}

#[tokio::test]
async fn one_payment_each_through_kills_in_memory() {
    survives_kills(Arc::new(MemoryBook::default()), None).await;
}

#[tokio::test]
async fn one_payment_each_through_kills_in_sql() {
    let (_folder, sql) = crate::book::sql().await;
    survives_kills(Arc::new(SqlBook::open(sql, 1).await.unwrap()), None).await;
}

#[tokio::test]
async fn one_payment_each_through_kills_in_postgresql() {
    let Some((database, book)) = crate::book::pg(1).await else { return };
    survives_kills(Arc::new(book), Some(Arc::new(database))).await;
}

#[tokio::test]
async fn a_dead_vendor_holds_nobody_else_up() {
    let dead = ScriptVendor::new(|_, _| Act::Lose);
    let good = ScriptVendor::new(|_, _| Act::Pay);
    let world =
        World::new(Arc::new(MemoryBook::default()), vec![(vendor(1, 1_000), dead), (vendor(2, 1_000), good)]);
    let orders: Vec<_> = (1..=100).map(|n| order(n, OrderKind::AtOnce, 1 + (n % 2) as u32)).collect();
    world.order(&orders).await;
    let (delivery, tasks) = world.start(false);
    let of_good: Vec<_> = orders.iter().filter(|o| o.vendor == VendorId(2)).map(|o| o.award).collect();
    world.until(&of_good, &[S::Delivered]).await;
    // The count comes behind the book, and the dead vendor's orders behind or before the other's.
    let stands = async || {
        let status = delivery.status().await.unwrap();
        (status.vendors[1].delivered, status.vendors[0].backlog)
    };
    until("both are counted", async || stands().await == (50, 50)).await;
    stop(tasks).await;
}

#[tokio::test]
async fn forged_orders_unknown_vendors_claims_and_redo() {
    let good = ScriptVendor::new(|_, _| Act::Pay);
    let world = World::new(Arc::new(MemoryBook::default()), vec![(vendor(1, 1_000), good.clone())]);
    let mut forged = order(1, OrderKind::AtOnce, 1);
    forged.fen = campaign::Fen(1_000_000);
    let far = |mut o: records::Order| {
        o.lapse_ms = u64::MAX;
        o
    };
    let unclaimed = far(order(3, OrderKind::OnClaim, 1));
    let claimed = far(order(4, OrderKind::OnClaim, 1));
    let claim = records::Order { kind: OrderKind::Claim, ..claimed };
    let lapsing = order(5, OrderKind::OnClaim, 1);
    // The claim comes before its order, and again and again.
    world.order(&[forged, order(2, OrderKind::AtOnce, 9), unclaimed, claim, claimed, claim, lapsing]).await;
    let (delivery, tasks) = world.start(false);
    world.until(&[award(4)], &[S::Delivered]).await;
    world.until(&[award(3)], &[S::New]).await;
    world.until(&[award(2)], &[S::Rejected]).await;
    world.until(&[award(5)], &[S::Lapsed]).await;
    until("the forged one is told of", async || !world.book.alarms(10).await.unwrap().is_empty()).await;
    assert!(delivery.order(award(1)).await.unwrap().is_none());
    let alarms = world.book.alarms(10).await.unwrap();
    assert_eq!(
        (alarms.len(), alarms[0].kind.as_str(), alarms[0].award),
        (1, "order with a forged MAC", award(1))
    );
    assert_eq!(good.paid(), [award(4)]);

    // Redo asks first and pays nothing twice.
    let redone = delivery.redo(&[award(4), award(3), award(77)]).await.unwrap();
    assert_eq!(redone[0], (award(4), Redone::Accepted));
    assert!(matches!(redone[1].1, Redone::Refused(_)));
    assert_eq!(redone[2], (award(77), Redone::NotKnown));
    world.until(&[award(4)], &[S::Delivered]).await;
    assert_eq!(good.seen().len(), 1);
    stop(tasks).await;
    world.journal_is_whole().await;
}

#[tokio::test]
async fn held_without_account_until_there_is_one_and_hold_holds() {
    let config = VendorConfig { account: AccountMode::Registered, ..vendor(1, 1_000) };
    let good = ScriptVendor::new(|_, _| Act::Pay);
    let world = World::new(Arc::new(MemoryBook::default()), vec![(config, good.clone())]);
    world.order(&[order(1, OrderKind::AtOnce, 1), order(2, OrderKind::AtOnce, 1)]).await;
    let (delivery, tasks) = world.start(true);
    world.until(&[award(1), award(2)], &[S::Ready]).await;
    tokio::time::sleep(Duration::from_millis(30)).await;
    world.until(&[award(1), award(2)], &[S::Ready]).await;
    delivery.set_hold(false);
    world.until(&[award(1), award(2)], &[S::Held]).await;
    assert!(delivery.register_account(UserId(1_001), VendorId(1), "bad\n").await.is_err());
    delivery.register_account(UserId(1_001), VendorId(1), "openid-1").await.unwrap();
    world.until(&[award(1)], &[S::Delivered]).await;
    world.until(&[award(2)], &[S::Held]).await;
    assert!(String::from_utf8(good.seen()[0].body.clone()).unwrap().contains("openid-1"));
    stop(tasks).await;
}

#[tokio::test]
async fn callbacks_move_what_waits_and_may_come_again() {
    // Says 'processing' for ever when asked slowly: the callback is what ends it.
    let slow = ScriptVendor::new(|_, _| Act::PayLater);
    let mut config = vendor(1, 1_000);
    config.ask.delays_ms = vec![600_000];
    // Its answer is never taken for lost, however slow the machine: then it would be asked too late.
    config.timeout_ms = 60_000;
    let world = World::new(Arc::new(MemoryBook::default()), vec![(config, slow)]);
    world.order(&[order(1, OrderKind::AtOnce, 1)]).await;
    let (delivery, tasks) = world.start(false);
    world.until(&[award(1)], &[S::Accepted]).await;
    let body = |n, vendor, fen| {
        let number = delivery::core::number_of(award(n), 0);
        format!(
            r#"{{"type":"payout.finished","vendor":{vendor},"number":"{number}","status":"success","vendor_ref":"R9","fen":"{fen}"}}"#
        )
    };
    let post = async |body: String| delivery.handle_callback(&HeaderMap::new(), body.as_bytes()).await;
    assert_eq!(post(body(1, 1, 1)).await, StatusCode::CONFLICT);
    assert_eq!(post(body(1, 1, 101)).await, StatusCode::OK);
    world.until(&[award(1)], &[S::Delivered]).await;
    assert_eq!(post(body(1, 1, 101)).await, StatusCode::OK);
    assert_eq!(post(body(2, 1, 102)).await, StatusCode::NOT_FOUND);
    assert_eq!(post(body(1, 5, 101)).await, StatusCode::NOT_FOUND);
    assert_eq!(post("{}".to_owned()).await, StatusCode::BAD_REQUEST);
    assert_eq!(world.book.alarms(10).await.unwrap().len(), 1);
    stop(tasks).await;
}

#[tokio::test]
async fn the_limit_holds_by_the_stamps_of_all_sends() {
    let good = ScriptVendor::new(|_, _| Act::Pay);
    let world = World::new(Arc::new(MemoryBook::default()), vec![(vendor(1, 400), good.clone())]);
    let orders: Vec<_> = (1..=200).map(|n| order(n, OrderKind::AtOnce, 1)).collect();
    let awards: Vec<_> = orders.iter().map(|o| o.award).collect();
    world.order(&orders).await;
    let (delivery, tasks) = world.start(false);
    tokio::time::sleep(Duration::from_millis(150)).await;
    assert!(delivery.set_limit(VendorId(1), 300));
    world.until(&awards, &[S::Delivered]).await;
    stop(tasks).await;
    let stamps: Vec<u64> = good.seen().iter().map(|s| s.send_ns).collect();
    for (i, stamp) in stamps.iter().enumerate() {
        let in_window = stamps[..=i].iter().filter(|s| **s + 100_000_000 > *stamp).count();
        assert!(in_window <= 40, "{in_window} in 100 ms");
    }
}
