//! How fast awards are stored. Not asserted: run it by hand, in release.

use std::sync::Arc;
use std::time::Duration;

use crate::make::{batch, bytes, event, keys, plans, row, sign, won};
use crate::service::process;
use flow::core::{EtaLimits, RepeatConfig};
use flow::service::FlowParts;
use flow::store::AwardStore;
use flowlog::Class;
use queue::{JOURNAL, Queue};
use records::DeliveryState;
use runtime::{Clock, Shutdown, SystemClock, Tasks};

/// `cargo test --release -p flow --test it -- --ignored --nocapture speed`
#[tokio::test]
#[ignore = "a measurement"]
async fn apply() {
    let dir = tempfile::tempdir().unwrap();
    let store = crate::store::sql(dir.path()).await;
    const EACH: u64 = 4_000;
    let batches: Vec<_> = (0..250u64)
        .map(|b| {
            let awards = (b * EACH..(b + 1) * EACH)
                .map(|i| {
                    row(won(1, i, i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20, 1 + (i % 2) as u32, i / 2))
                })
                .collect();
            batch(b, b + 1, awards)
        })
        .collect();
    let clock = SystemClock;
    let cpu_before = cpu_ms();
    let (start, mut applying) = (clock.mono_ns(), 0);
    let mut cpu_applying = 0;
    for (i, b) in batches.iter().enumerate() {
        let (before, cpu) = (clock.mono_ns(), cpu_ms());
        assert_eq!(store.apply(b).await.unwrap().new_awards, EACH);
        applying += clock.mono_ns() - before;
        cpu_applying += cpu_ms() - cpu;
        if i % 12 == 11 {
            store.index_users(flow::limits::INDEX_ROWS_MAX).await.unwrap();
        }
    }
    let all = clock.mono_ns() - start;
    let rate = |ns: u64| 250 * EACH * 1_000_000 / (ns / 1_000).max(1);
    println_rate("apply alone", rate(applying));
    println_rate("with users moved", rate(all));
    // What a machine of its own would come to: the process's own time on the processor, both cores of it.
    println_rate("apply alone, by time on the processor", rate(cpu_applying * 1_000_000));
    println_rate("with users moved, by time on the processor", rate((cpu_ms() - cpu_before) * 1_000_000));
}

/// Awards as nodes at 10,000 a second write them (a group commit each 10 ms), through the whole of flow, with and without
/// the first steps that delivery tells of. What feeding alone takes is measured before and taken off.
///
/// `cargo test --release -p flow --test it -- --ignored --nocapture pipeline`
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
#[allow(clippy::print_stdout)]
async fn pipeline() {
    for per_group in [10, 100, 300] {
        let alone = run(per_group, false, false).await;
        let lane = run(per_group, true, false).await;
        let all = run(per_group, true, true).await;
        println!(
            "{} awards/s: {:.1} us of processor each for awards and orders, {:.1} us more for a step; feeding {alone:.1} us",
            per_group * 100,
            lane - alone,
            all - lane
        );
    }
}

/// Time on the processor for each award, us.
async fn run(per_group: u64, with_flow: bool, with_steps: bool) -> f64 {
    const GROUPS: u64 = 400;
    let dir = tempfile::tempdir().unwrap();
    let (queue, log, store) = process(dir.path(), 1).await;
    let queue: Arc<dyn Queue> = Arc::new(queue);
    let tasks = Tasks::new(Shutdown::new());
    let groups: Vec<Vec<_>> = (0..GROUPS)
        .map(|g| {
            let awards = (g * per_group..(g + 1) * per_group).map(|i| {
                let user = i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20;
                let mut won = won(1, i, user, 1 + (i % 2) as u32, i / 2);
                won.district = (user % 300) as u32;
                sign(&mut won);
                won
            });
            awards.collect()
        })
        .collect();
    let encoded: Vec<Vec<Vec<u8>>> = groups.iter().map(|g| g.iter().map(bytes).collect()).collect();
    let handle = if with_flow {
        let parts = FlowParts {
            queue: Arc::clone(&queue),
            store: Arc::new(store),
            plans: Arc::new(plans()),
            keys: keys(),
            clock: SystemClock::shared(),
            repeat: RepeatConfig { interval_ms: 60_000, grace_ms: 60_000 },
            eta: EtaLimits::default(),
        };
        Some(flow::service::start(parts, &tasks).await.unwrap())
    } else {
        None
    };
    let before = cpu_ms();
    let mut tick = tokio::time::interval(Duration::from_millis(10));
    for (at, records) in encoded.iter().enumerate() {
        tick.tick().await;
        log.append_many(records, Class::Normal).unwrap();
        if let (true, Some(told)) = (with_steps, at.checked_sub(50).and_then(|g| groups.get(g))) {
            let events: Vec<_> =
                told.iter().map(|w| bytes(&event(w, 1, DeliveryState::Ready, 2_000))).collect();
            let events: Vec<&[u8]> = events.iter().map(Vec::as_slice).collect();
            queue.produce(JOURNAL, (at % 2) as u16, &events).await.unwrap();
        }
    }
    let all = GROUPS * per_group;
    while let Some(handle) = &handle {
        let status = handle.status().await.unwrap();
        if status.orders == all && status.journal_lag == 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let spent = cpu_ms() - before;
    tasks.shutdown().request();
    let drained = tasks.drain(Duration::from_secs(5)).await;
    assert!(drained.failure.is_none(), "{drained:?}");
    spent as f64 * 1_000.0 / all as f64
}

#[allow(clippy::print_stdout)] // a measurement is for whoever runs it
fn println_rate(what: &str, rate: u64) {
    println!("{what}: {rate} awards/s, {:.1} us each", 1e6 / rate as f64);
}

/// Time that this process has had on the processor, ms.
fn cpu_ms() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    // Behind the name in brackets; user and system time are the 14th and 15th field, in ticks of 10 ms.
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    10 * (fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap())
}
