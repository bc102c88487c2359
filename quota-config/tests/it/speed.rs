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

/// The same plan from a file whose rounds share one prize set.
fn shared(full: &str, rounds: usize) -> String {
    let begin = full.find("rounds:\n").unwrap();
    let list = full.find("    prizes:\n").unwrap() + "    prizes:\n".len();
    let end = full.find("  - id: 2\n    name: Round 2\n").unwrap();
    let mut text = format!("{}prize_sets:\n  all:\n{}rounds:\n", &full[..begin], &full[list..end]);
    for round in 1..=rounds {
        let open = round * 15;
        let _ = writeln!(
            text,
            "  - {{id: {round}, name: Round {round}, open: +{open}m, duration: 10m, prizes: all}}"
        );
    }
    text
}

#[test]
#[ignore = "says how long a file of 1,000 rounds x 50 prizes takes"]
fn a_large_file() {
    let options = CompileOptions { seq_no: SeqNo(1), base_ms: EVENING_MS, seeds: &KEY, after: None };
    let full = written_out(1_000, 50);
    for (how, text) in [("one prize set", shared(&full, 1_000)), ("written out", full)] {
        println!("{how}: {} bytes of at most {FILE_BYTES_MAX}, {} lines", text.len(), text.lines().count());
        for _ in 0..5 {
            #[allow(clippy::disallowed_methods)] // Nothing but a stopwatch.
            let begin = std::time::Instant::now();
            match compile(text.as_bytes(), &options) {
                Ok(c) => println!("  {:?}: {} rounds", begin.elapsed(), c.plan.rounds.len()),
                Err(problems) => println!("  {:?}: {problems}", begin.elapsed()),
            }
        }
    }
}
