//! Paces that people set: the promise of the book of limits, and nodes that keep to it.

use crate::support::{NOW_MS, vendor};
use crate::worker::{World, stop, until};
use campaign::VendorId;
use delivery::Delivery;
use delivery::book::{DeliveryBook, MemoryBook};
use delivery::limits::{Follower, LimitBook, MemoryLimits, NodeVendor, PgLimits, Setting};
use delivery::vendor::script::{Act, ScriptVendor};
use runtime::{TaskKind, Tasks};
use std::sync::Arc;
use storage::pg::{Pg, PgOptions};
use testkit::servers::FreshDatabase;

const ONE: VendorId = VendorId(1);

fn setting(vendor: u32, number: u64, per_second: Option<u32>) -> Setting {
    Setting { vendor: VendorId(vendor), per_second, number, who: "li".into(), at_ms: NOW_MS + number }
}

async fn conforms(book: &dyn LimitBook) {
    assert_eq!(book.settings().await.unwrap(), []);
    assert!(book.set(&setting(2, 5, Some(u32::MAX))).await.unwrap());
    assert!(book.set(&setting(1, 7, Some(0))).await.unwrap());
    // Late, and twice.
    assert!(!book.set(&setting(1, 6, Some(9))).await.unwrap());
    assert!(!book.set(&setting(1, 7, Some(0))).await.unwrap());
    let stands = [setting(1, 7, Some(0)), setting(2, 5, Some(u32::MAX))];
    assert_eq!(book.settings().await.unwrap(), stands);
    assert!(book.set(&setting(2, 8, None)).await.unwrap());
    assert_eq!(book.settings().await.unwrap()[1], setting(2, 8, None));

    let does = |node, vendor, limit_per_second, cut_off| NodeVendor {
        node,
        vendor: VendorId(vendor),
        limit_per_second,
        cut_off,
    };
    assert_eq!(book.reports().await.unwrap(), []);
    book.report(9, &[does(9, 1, 3, false), does(9, 2, 4, true)]).await.unwrap();
    book.report(4, &[]).await.unwrap();
    book.report(4, &[does(4, 1, 3, true)]).await.unwrap();
    book.report(9, &[does(9, 1, 0, false), does(9, 2, 4, true)]).await.unwrap();
    let all = [does(4, 1, 3, true), does(9, 1, 0, false), does(9, 2, 4, true)];
    assert_eq!(book.reports().await.unwrap(), all);
}

async fn pg() -> Option<(FreshDatabase, PgLimits)> {
    let database = FreshDatabase::new()?;
    let pg = Pg::open(PgOptions::patient(database.url())).await.unwrap();
    Some((database, PgLimits::open(pg, NOW_MS).await.unwrap()))
}

#[tokio::test]
async fn memory_conforms() {
    conforms(&MemoryLimits::default()).await;
}

#[tokio::test]
async fn postgresql_conforms() {
    let Some((_database, book)) = pg().await else { return };
    conforms(&book).await;
}

/// A node that keeps to the book.
async fn follow(world: &World, book: &Arc<dyn LimitBook>, node: u16) -> (Delivery, Tasks) {
    let follower = Follower::open(Arc::clone(book), node).await.unwrap();
    let (delivery, tasks) = world.start_with(false, follower.limits());
    let run = follower.run(delivery.clone(), tasks.shutdown().clone());
    tasks.spawn("limits", TaskKind::Service, run);
    (delivery, tasks)
}

fn limit(delivery: &Delivery) -> u32 {
    delivery.vendors(0)[0].limit_per_second
}

/// Settings reach every node; one that starts anew has them before it sends anything.
async fn every_node_keeps_to_it(book: Arc<dyn LimitBook>) {
    let shards: Arc<dyn DeliveryBook> = Arc::new(MemoryBook::with_shards(4));
    let world = World::new(shards, vec![(vendor(1, 300), ScriptVendor::new(|_, _| Act::Pay))]);
    let (one, two) = (follow(&world, &book, 1).await, follow(&world, &book, 2).await);
    assert_eq!((limit(&one.0), limit(&two.0)), (300, 300));
    book.set(&setting(1, 3, Some(40))).await.unwrap();
    until("both hear of it", async || (limit(&one.0), limit(&two.0)) == (40, 40)).await;
    let told = async || {
        book.reports().await.unwrap().iter().map(|r| (r.node, r.limit_per_second)).collect::<Vec<_>>()
    };
    until("both say so", async || told().await == [(1, 40), (2, 40)]).await;
    // One that comes late says nothing new, nor one for a vendor that nobody has.
    book.set(&setting(1, 2, Some(9))).await.unwrap();
    book.set(&setting(8, 4, Some(9))).await.unwrap();
    stop(one.1).await;
    let again = follow(&world, &book, 1).await;
    assert_eq!(limit(&again.0), 40, "before anything is sent");
    book.set(&setting(1, 5, None)).await.unwrap();
    until("as configured", async || (limit(&again.0), limit(&two.0)) == (300, 300)).await;
    assert_eq!(again.0.configured_limit(ONE), Some(300));
    stop(again.1).await;
    stop(two.1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_node_keeps_to_what_is_set_in_memory() {
    every_node_keeps_to_it(Arc::new(MemoryLimits::default())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_node_keeps_to_what_is_set_in_postgresql() {
    let Some((_database, book)) = pg().await else { return };
    every_node_keeps_to_it(Arc::new(book)).await;
}
