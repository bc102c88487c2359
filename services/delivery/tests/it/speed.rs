//! How many deliveries a second the book can keep, alone: order, sending, delivered. Measured by hand, asserted nowhere.

use crate::support::{NOW_MS, keys, order, policy, vendor};
use delivery::account::MemoryAccounts;
use delivery::book::{DeliveryBook, SqlBook, Transition};
use delivery::core::{Answer, Input, Lane, OrderRow, first_step, step};
use delivery::{Delivery, DeliveryConfig, DeliveryParts};
use queue::embedded::EmbeddedQueue;
use queue::{JOURNAL, ORDERS, Queue, TopicOptions};
use records::{OrderKind, Record};
use runtime::{Shutdown, SystemClock, Tasks};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

fn moved(row: &OrderRow, input: &Input) -> Transition {
    let step = step(row, input, NOW_MS + 5, Some(&policy()), 0).unwrap();
    Transition { from_step: row.step, from_state: row.state, step }
}

#[tokio::test]
#[ignore = "a measurement: cargo test --release -p delivery -- --ignored book_keeping --nocapture"]
#[allow(clippy::print_stdout, clippy::disallowed_methods)]
async fn book_keeping() {
    let (_folder, sql) = crate::book::sql().await;
    let book = SqlBook::open(sql, NOW_MS).await.unwrap();
    let (batches, size) = (100u64, 1_000u64);
    let (started, cpu) = (std::time::Instant::now(), cpu_ms());
    for batch in 0..batches {
        let range = batch * size + 1..=(batch + 1) * size;
        let steps: Vec<_> =
            range.map(|n| first_step(&order(n, OrderKind::AtOnce, 7), NOW_MS, true)).collect();
        book.take_orders(&steps).await.unwrap();
        let due = book.due(&[0], campaign::VendorId(7), Lane::Send, NOW_MS, size as usize).await.unwrap();
        let input =
            Input::Permit { payee: "openid-4711".into(), merchant: "m-1".into(), body_sha256: [9; 32] };
        let sends: Vec<Transition> = due.iter().map(|row| moved(row, &input)).collect();
        book.transition(&sends).await.unwrap();
        let answer = Answer::Accepted { is_final: true, vendor_ref: "R1000000000042".into() };
        let input = Input::Answered { attempt: 1, generation: 0, answer };
        let ends: Vec<Transition> = sends.iter().map(|t| moved(&t.step.row, &input)).collect();
        assert!(book.transition(&ends).await.unwrap().iter().all(|won| *won));
    }
    let rate = (batches * size) as f64 / started.elapsed().as_secs_f64();
    let each = (cpu_ms() - cpu) as f64 * 1_000.0 / (batches * size) as f64;
    println!("{rate:.0} deliveries/s of book-keeping in batches of {size}, {each:.1} us of processor each");
}

/// Orders at 10,000 a second into the book of a delivery that is held back, and their journal's copy, with what feeding
/// alone takes measured before and taken off.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement: cargo test --release -p delivery -- --ignored taking_orders --nocapture"]
#[allow(clippy::print_stdout)]
async fn taking_orders() {
    for (per_second, every_ms) in [(1_000, 10), (10_000, 10), (10_000, 200), (30_000, 200)] {
        let alone = held_back(per_second, every_ms, false).await;
        let all = held_back(per_second, every_ms, true).await;
        println!(
            "{per_second} orders/s, in groups each {every_ms} ms: {:.1} us of processor each for book and journal; feeding {alone:.1} us",
            all - alone
        );
    }
}

/// Time on the processor for each order, us.
async fn held_back(per_second: u64, every_ms: u64, with_delivery: bool) -> f64 {
    let (folder, sql) = crate::book::sql().await;
    let book = Arc::new(SqlBook::open(sql, NOW_MS).await.unwrap());
    let topics = [TopicOptions::new(ORDERS), TopicOptions::new(JOURNAL)];
    let queue =
        EmbeddedQueue::open(&folder.path().join("queue"), &topics, SystemClock::shared(), Arc::new(|_| {}));
    let queue: Arc<dyn Queue> = Arc::new(queue.unwrap());
    let (per_group, groups) = (per_second * every_ms / 1_000, 4_000 / every_ms);
    let orders: Vec<Vec<Vec<u8>>> = (0..groups)
        .map(|g| {
            let range = g * per_group + 1..=(g + 1) * per_group;
            range.map(|n| order(n, OrderKind::AtOnce, 7).encode()).collect()
        })
        .collect();
    let tasks = Tasks::new(Shutdown::new());
    if with_delivery {
        let parts = DeliveryParts {
            config: DeliveryConfig {
                hold: true,
                vendors: vec![vendor(7, 1_000)],
                ..DeliveryConfig::default()
            },
            book: book.clone(),
            accounts: Arc::new(MemoryAccounts::default()),
            vendors: BTreeMap::new(),
            limits: Default::default(),
            mac_keys: keys(),
            queue: Arc::clone(&queue),
            clock: SystemClock::shared(),
            seed: 1,
        };
        Delivery::start(parts, &tasks).unwrap();
    }
    let cpu = cpu_ms();
    let mut tick = tokio::time::interval(Duration::from_millis(every_ms));
    for group in &orders {
        tick.tick().await;
        let quarter = group.len().div_ceil(4);
        let shares: Vec<Vec<&[u8]>> =
            group.chunks(quarter).map(|share| share.iter().map(Vec::as_slice).collect()).collect();
        let sent = (0u16..).zip(&shares).map(|(at, share)| queue.produce(ORDERS, at, share));
        futures_util::future::try_join_all(sent).await.unwrap();
    }
    while with_delivery && book.published(0).await.unwrap() < groups * per_group {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let spent = cpu_ms() - cpu;
    tasks.shutdown().request();
    let drained = tasks.drain(Duration::from_secs(5)).await;
    assert!(drained.failure.is_none(), "{drained:?}");
    spent as f64 * 1_000.0 / (groups * per_group) as f64
}

/// Time that this process has had on the processor, ms.
fn cpu_ms() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    // Behind the name in brackets; user and system time are the 14th and 15th field, in ticks of 10 ms.
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    10 * (fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap())
}
