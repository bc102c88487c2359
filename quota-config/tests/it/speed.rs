//! How long a large file takes. Says it, asserts nothing about it:
//! `cargo test --release -p quota-config --test it speed -- --ignored --nocapture`.

use crate::support::{EVENING_MS, KEY};
use campaign::SeqNo;
use quota_config::{CompileOptions, FILE_BYTES_MAX, compile};
use std::fmt::Write as _;

/// A campaign written out in full: each round with a list of its own.
fn written_out(rounds: usize, prizes: usize) -> String {
    let mut text = "campaign: 5\nname: Large\ntime_zone: Asia/Shanghai\nvendors:\n".to_string();
    for vendor in 1..=prizes {
        let _ = writeln!(text, "  - {{id: {vendor}, name: Vendor {vendor}, release_per_second: 2000}}");
    }
    text += "limits: {wins_per_round: 3, interval: 2s}\nrounds:\n";
    for round in 1..=rounds {
        let _ = writeln!(
            text,
            "  - id: {round}\n    name: Round {round}\n    open: +{}m\n    duration: 10m\n    prizes:",
            round * 15
        );
        for prize in 1..=prizes {
            let _ = writeln!(
                text,
                "      - id: {prize}\n        name: Prize number {prize}\n        kind: cash\n        weight: {prize}\n        \
                 vendor: {prize}\n        units: {}\n        sum: {}\n        min: 0.50\n        max: 200\n        \
                 speed_max: 1000\n        curve: front-loaded",
                1_000 + prize,
                4_000 + 7 * prize,
            );
        }
    }
    text
}

#[test]
#[ignore = "says how long a file of 1,000 rounds x 50 prizes takes"]
fn a_large_file() {
    let full = written_out(1_000, 50);
    let set = full.find("    prizes:").unwrap();
    println!("written out: {} bytes, {} lines (first list at {set})", full.len(), full.lines().count());
    let options = CompileOptions { seq_no: SeqNo(1), base_ms: EVENING_MS, seeds: &KEY, after: None };
    for _ in 0..5 {
        #[allow(clippy::disallowed_methods)] // Nothing but a stopwatch.
        let begin = std::time::Instant::now();
        match compile(full.as_bytes(), &options) {
            Ok(c) => println!(
                "{:?}: {} rounds, {} warnings",
                begin.elapsed(),
                c.plan.rounds.len(),
                c.warnings.len()
            ),
            Err(problems) => println!("{:?}: {problems}", begin.elapsed()),
        }
    }
    println!("at most {FILE_BYTES_MAX} bytes are read");
}
