//! A quick look at speed on this machine; asserts nothing. `cargo test --release -p flowlog -- --ignored --nocapture`
#![allow(clippy::disallowed_methods, clippy::print_stdout)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use flowlog::{AppendError, Class, FlowLog, Hooks, LogKind, LogOptions, LogWriter, Position, RealDisk};

fn start(dir: &std::path::Path, hooks: Hooks) -> FlowLog {
    let options = LogOptions::new(LogKind::FLOW, 1);
    let (mut writer, _) = LogWriter::open(RealDisk, dir, options, None, None).unwrap();
    writer.begin_epoch(1).unwrap();
    FlowLog::start(writer, RealDisk, Arc::new(runtime::SystemClock::shared()), hooks).unwrap()
}

/// Appends at a rate (0: as fast as it goes); prints records a second, syncs, and latencies from the intended start.
fn run(rate: u64, seconds: u64) {
    let temporary = tempfile::tempdir().unwrap();
    let log = start(temporary.path(), Hooks::default());
    let record = [7u8; 128];
    let begin = Instant::now();
    let total = if rate == 0 { 3_000_000 } else { rate * seconds };
    let step = if rate == 0 { 1 } else { (rate / 5_000).max(1) };
    let waiter = log.clone();
    let (send, receive) = std::sync::mpsc::sync_channel::<(Instant, Position)>(100_000);
    let latencies = std::thread::spawn(move || {
        let mut us = Vec::new();
        while let Ok((intended, position)) = receive.recv() {
            waiter.wait_durable_blocking(position).unwrap();
            us.push(intended.elapsed().as_micros() as u64);
        }
        us.sort_unstable();
        us
    });
    let mut busy = 0u64;
    let mut done = 0;
    while done < total {
        let due = (done * 1_000_000_000).checked_div(rate).map(|ns| begin + Duration::from_nanos(ns));
        let intended = due.unwrap_or_else(Instant::now);
        if let Some(wait) = intended.checked_duration_since(Instant::now()) {
            std::thread::sleep(wait);
        }
        let mut last = Position::ZERO;
        for _ in 0..step.min(total - done) {
            last = loop {
                match log.append(&record, Class::Normal) {
                    Ok(p) => break p,
                    Err(AppendError::Busy) => busy += 1,
                    Err(e) => panic!("{e}"),
                }
                std::thread::yield_now();
            };
            done += 1;
        }
        if rate > 0 {
            send.send((intended, last)).unwrap();
        }
    }
    drop(send);
    let end = log.close().unwrap();
    let elapsed = begin.elapsed();
    let us = latencies.join().unwrap();
    let at = |q: usize| us.get(us.len() * q / 1000).copied().unwrap_or(0);
    let stats = log.stats();
    println!(
        "rate {rate}: {:.0} records/s, {} groups, sync avg {} us, max {} us, busy {busy}; latency p50 {} p99 {} p99.9 {} us",
        total as f64 / elapsed.as_secs_f64(),
        stats.groups,
        stats.sync_ns_avg() / 1000,
        stats.sync_ns_max / 1000,
        at(500),
        at(990),
        at(999),
    );
    println!("  sync buckets {:?}", stats.sync_buckets);
    let begin = Instant::now();
    let mut reader = log.reader(Position::ZERO);
    let mut records = 0u64;
    while let Some(group) = reader.next_group(end).unwrap() {
        records += group.records().map(|r| u64::from(r[0] == 7)).sum::<u64>();
    }
    println!("  read and verified {records} records in {:?}", begin.elapsed());
}

#[test]
#[ignore = "measures"]
fn speed() {
    run(0, 0);
    run(100_000, 4);
    run(8_000, 3);
    run(1_000_000, 3);
}
