//! How fast awards are stored. Not asserted: run it by hand, in release.

use crate::make::{batch, row, won};
use flow::store::AwardStore;
use runtime::{Clock, SystemClock};

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

#[allow(clippy::print_stdout)] // a measurement is for whoever runs it
fn println_rate(what: &str, rate: u64) {
    println!("{what}: {rate} awards/s");
}

/// Time that this process has had on the processor, ms.
fn cpu_ms() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    // Behind the name in brackets; user and system time are the 14th and 15th field, in ticks of 10 ms.
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    10 * (fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap())
}
