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
    let (start, mut applying) = (clock.mono_ns(), 0);
    for (i, b) in batches.iter().enumerate() {
        let before = clock.mono_ns();
        assert_eq!(store.apply(b).await.unwrap().new_awards, EACH);
        applying += clock.mono_ns() - before;
        if i % 12 == 11 {
            store.index_users(flow::limits::INDEX_ROWS_MAX).await.unwrap();
        }
    }
    let all = clock.mono_ns() - start;
    let rate = |ns: u64| 250 * EACH * 1_000_000 / (ns / 1_000).max(1);
    tracing::info!(applying = rate(applying), "awards a second");
    println_rate("apply alone", rate(applying));
    println_rate("with users moved", rate(all));
}

#[allow(clippy::print_stdout)] // a measurement is for whoever runs it
fn println_rate(what: &str, rate: u64) {
    println!("{what}: {rate} awards/s");
}
