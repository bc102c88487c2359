//! Several delivery nodes on one book: shards that move while orders flow, and the pace of each vendor held over all.

use crate::support::{order, vendor};
use crate::worker::{World, eager, moody, stop};
use campaign::{AwardId, VendorId};
use delivery::book::{DeliveryBook, MemoryBook, PgBook};
use delivery::config::VendorConfig;
use delivery::vendor::script::{Act, ScriptVendor};
use delivery::{Delivery, DeliveryConfig, DeliveryParts};
use queue::memory::MemoryQueue;
use queue::{Queue, TopicOptions};
use records::{DeliveryState as S, OrderKind};
use runtime::{Shutdown, SystemClock, Tasks};
use std::sync::Arc;
use std::time::Duration;

/// As the default topics have partitions.
const SHARDS: u16 = 4;

/// Most sends in any 100 ms, by their stamps.
fn fullest(vendor: &ScriptVendor) -> usize {
    let mut stamps: Vec<u64> = vendor.seen().iter().map(|s| s.send_ns).collect();
    stamps.sort_unstable();
    let in_window = |i: usize| stamps[..=i].iter().filter(|s| **s + 100_000_000 > stamps[i]).count();
    (0..stamps.len()).map(in_window).max().unwrap_or(0)
}

/// Never cut off and hardly slowed down: the limit alone decides.
fn steady(id: u32, limit: u32) -> VendorConfig {
    VendorConfig { breaker_failures: 0, ..vendor(id, limit) }
}

/// A node comes, another goes, the first comes back, while orders flow.
async fn shards_move(books: [Arc<dyn DeliveryBook>; 2]) {
    // Divided among the shards; too slow for that; and one whose answers are lost or come late.
    let vendors = vec![
        (steady(1, 400), ScriptVendor::new(|_, _| Act::Pay)),
        (steady(2, 20), ScriptVendor::new(|_, _| Act::Pay)),
        (eager(3), moody()),
    ];
    let one = World::new(Arc::clone(&books[0]), vendors);
    let other = World { book: Arc::clone(&books[1]), ..one.clone() };
    let of = |n: u64| if n.is_multiple_of(20) { 2 } else { 1 + 2 * (n % 4 / 3) as u32 };
    let orders: Vec<_> = (1..=600).map(|n| order(n, OrderKind::AtOnce, of(n))).collect();
    let awards: Vec<AwardId> = orders.iter().map(|o| o.award).collect();
    let mut waves = orders.chunks(100);
    let mut wave = async || {
        one.order(waves.next().unwrap_or_default()).await;
        tokio::time::sleep(Duration::from_millis(500)).await;
    };
    let first = one.start(false);
    wave().await;
    wave().await;
    let second = other.start(false);
    wave().await;
    wave().await;
    stop(first.1).await;
    wave().await;
    let third = one.start(false);
    wave().await;
    one.until(&awards, &[S::Delivered, S::Rejected]).await;
    for (config, vendor) in &one.vendors {
        assert_eq!((vendor.double_payments(), vendor.mismatches()), (0, 0));
        let most = (config.capacity_per_second / 10) as usize;
        assert!(fullest(vendor) <= most, "vendor {}: {} in 100 ms", config.id, fullest(vendor));
    }
    let paid: usize = one.vendors.iter().map(|(_, v)| v.paid().len()).sum();
    let rows = one.book.rows(&awards).await.unwrap();
    assert_eq!(paid, rows.iter().filter(|row| row.state == S::Delivered).count());
    let simple = rows.iter().filter(|row| row.vendor != VendorId(3));
    assert!(simple.clone().all(|row| (row.state, row.generation) == (S::Delivered, 0)));
    // Both did something.
    for (delivery, tasks) in [second, third] {
        let status = delivery.status().await.unwrap();
        assert!(status.vendors.iter().map(|v| v.delivered).sum::<u64>() > 0);
        stop(tasks).await;
    }
    one.journal_is_whole().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shards_move_while_orders_flow_in_memory() {
    let book: Arc<dyn DeliveryBook> = Arc::new(MemoryBook::with_shards(SHARDS));
    shards_move([Arc::clone(&book), book]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shards_move_while_orders_flow_on_postgresql() {
    let Some((database, one)) = crate::book::pg(SHARDS).await else { return };
    let other: PgBook = crate::book::pg_again(&database, SHARDS).await;
    shards_move([Arc::new(one), Arc::new(other)]).await;
}

/// Limits that change while two nodes send: at once, and never more than the higher of the two.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_limit_changes_under_two_nodes() {
    let good = ScriptVendor::new(|_, _| Act::Pay);
    let book: Arc<dyn DeliveryBook> = Arc::new(MemoryBook::with_shards(SHARDS));
    let world = World::new(book, vec![(steady(1, 300), good.clone())]);
    let orders: Vec<_> = (1..=400).map(|n| order(n, OrderKind::AtOnce, 1)).collect();
    let awards: Vec<AwardId> = orders.iter().map(|o| o.award).collect();
    let nodes = [world.start(false), world.start(false)];
    world.order(&orders).await;
    // The second one divides the vendor in the other way: it is kept together then.
    for limit in [200, 30, 300] {
        tokio::time::sleep(Duration::from_millis(600)).await;
        for (delivery, _) in &nodes {
            assert!(delivery.set_limit(VendorId(1), limit));
        }
    }
    world.until(&awards, &[S::Delivered]).await;
    assert!(fullest(&good) <= 30, "{}", fullest(&good));
    let status = nodes[0].0.status().await.unwrap();
    assert_eq!(status.vendors[0].limit_per_second, 300);
    for (_, tasks) in nodes {
        stop(tasks).await;
    }
}

#[tokio::test]
async fn a_book_and_a_topic_that_are_divided_differently_are_refused() {
    let topics = [TopicOptions::new(queue::ORDERS).with_partitions(5), TopicOptions::new(queue::JOURNAL)];
    let queue: Arc<dyn Queue> = Arc::new(MemoryQueue::new(topics).unwrap());
    let parts = DeliveryParts {
        config: DeliveryConfig::default(),
        book: Arc::new(MemoryBook::with_shards(SHARDS)),
        accounts: Arc::new(delivery::account::MemoryAccounts::default()),
        vendors: Default::default(),
        limits: Default::default(),
        mac_keys: crate::support::keys(),
        queue,
        clock: SystemClock::shared(),
        seed: 1,
    };
    let Err(error) = Delivery::start(parts, &Tasks::new(Shutdown::new())) else { panic!("it started") };
    assert!(error.to_string().contains("has 4 shards and topic orders 5 partitions"), "{error}");
}
