//! `log.p99_at_100k`: how long a record waits until it is durable, at 100,000 records a second.
//!
//! Open loop: record i is due at a time that was fixed before; a record that is appended late because the
//! appender was held up counts from when it was due. The appender asks for prompt wake-ups as the log's own thread
//! does, and the peer runs on the appender's thread; how late the appender was is told beside the figure, and so is
//! what the slowest groups waited for.

use super::world::{Bare, RECORD, open};
use crate::Plan;
use crate::measure::{Duel, now_ns};
use crate::report::{Figure, Report, short};
use anyhow::{Context, Result};
use flowlog::{Class, FlowLog, GroupTrace, Hooks, Position};
use hdrhistogram::Histogram;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// What this file measures.
pub const FIGURES: &[&str] = &["log.p99_at_100k"];

const RATE: u64 = 100_000;
const SECONDS: u64 = 3;
const GAP_NS: u64 = 1_000_000_000 / RATE;

/// The appender looks this often whether records are due.
const NAP: Duration = Duration::from_micros(50);

/// Measures it.
pub fn run(plan: &Plan, report: &mut Report) -> Result<()> {
    // A thread of its own: the other figures are not to inherit its wish.
    std::thread::scope(|scope| {
        let measured = scope.spawn(|| {
            runtime::sched::run_promptly();
            measure(plan, report)
        });
        measured.join().map_err(|_| anyhow::anyhow!("the appender panicked"))?
    })
}

fn measure(plan: &Plan, report: &mut Report) -> Result<()> {
    let (mut duel, mut all) = (Duel::default(), Paced::new()?);
    let records = plan.sized(RATE * SECONDS);
    for turn in 0..=plan.runs {
        let one = paced(plan, records)?;
        let bare = bare(plan, records)?;
        if turn > 0 {
            let p99 = |h: &Histogram<u64>| h.value_at_quantile(0.99) as f64 / 1e6;
            duel.push(p99(&one.latencies), p99(&bare));
            all.add(one)?;
        }
    }
    let ms = |q: f64| short(all.latencies.value_at_quantile(q) as f64 / 1e6);
    let note = format!(
        "append to durable, open loop, from when a record was due; all runs together: p50 {} ms, p99 {}, p99.9 {}, max {}; {:.0} records a group; the appender itself was late by {} ms at p99; slowest groups: {}; the ratio is a time: below a wait for the sync in progress and one's own it can't be",
        ms(0.5),
        ms(0.99),
        ms(0.999),
        ms(1.0),
        (records * plan.runs as u64) as f64 / all.sizes.len().max(1) as f64,
        short(all.late.value_at_quantile(0.99) as f64 / 1e6),
        all.causes(),
    );
    let peer = "bare write + fdatasync of what is due, on one thread, at the same arrivals";
    report.add(Figure::beside("log.p99_at_100k", &duel, "ms", peer, "< 5 ms", note));
    Ok(())
}

fn histogram() -> Result<Histogram<u64>> {
    Histogram::new_with_bounds(1_000, 60_000_000_000, 3).context("make a histogram")
}

/// What one or more runs gave.
struct Paced {
    /// From when a record was due until it was durable.
    latencies: Histogram<u64>,
    /// From when a record was due until it was appended.
    late: Histogram<u64>,
    /// Records of each group.
    sizes: Vec<usize>,
    /// The slowest groups.
    slowest: Vec<GroupTrace>,
}

impl Paced {
    fn new() -> Result<Paced> {
        Ok(Paced { latencies: histogram()?, late: histogram()?, sizes: Vec::new(), slowest: Vec::new() })
    }

    fn add(&mut self, other: Paced) -> Result<()> {
        self.latencies.add(&other.latencies)?;
        self.late.add(&other.late)?;
        self.sizes.extend(other.sizes);
        self.slowest.extend(other.slowest);
        Ok(())
    }

    /// How many of the slowest groups waited longest for what, and how long they waited in all.
    fn causes(&self) -> String {
        let mut causes = BTreeMap::<&str, (u32, u64)>::new();
        for trace in &self.slowest {
            let (count, ns) = causes.entry(trace.cause()).or_default();
            *count += 1;
            *ns = (*ns).max(trace.total_ns());
        }
        let told = |(cause, (count, ns)): (&&str, &(u32, u64))| {
            format!("{count} {cause} (up to {} ms)", short(*ns as f64 / 1e6))
        };
        causes.iter().map(told).collect::<Vec<_>>().join(", ")
    }
}

/// Appends at the rate.
fn paced(plan: &Plan, records: u64) -> Result<Paced> {
    // (durable end, when) of every sync; the log's thread writes, this one reads at the end.
    let ends: Arc<Mutex<Vec<(u64, u64)>>> = Arc::new(Mutex::new(Vec::with_capacity(1 << 16)));
    let seen = Arc::clone(&ends);
    let on_durable = move |end: Position| seen.lock().push((end.0, now_ns()));
    let log = open(&plan.scratch, Hooks { on_durable: Some(Box::new(on_durable)), on_fatal: None })?;
    let mut paced = Paced::new()?;
    let start = now_ns() + 1_000_000;
    let positions = append(&log.log, records, start, &mut paced.late)?;
    log.log.close()?;
    paced.slowest = log.log.slowest();
    drop(log);
    let ends = ends.lock();
    let (mut at, mut last) = (0, None);
    for (i, position) in positions.into_iter().enumerate() {
        while ends.get(at).is_some_and(|(end, _)| *end <= position) {
            at += 1;
        }
        let (_, when) = ends.get(at).context("a record was never reported durable")?;
        paced.latencies.record(when.saturating_sub(start + i as u64 * GAP_NS))?;
        if last.replace(position) == Some(position) {
            *paced.sizes.last_mut().context("a group has begun")? += 1;
        } else {
            paced.sizes.push(1);
        }
    }
    Ok(paced)
}

/// Appends record i when it is due; the positions.
fn append(log: &FlowLog, records: u64, start: u64, late: &mut Histogram<u64>) -> Result<Vec<u64>> {
    let (record, mut positions) = ([0x5a; RECORD], Vec::with_capacity(records as usize));
    while (positions.len() as u64) < records {
        let now = now_ns();
        let due = (now.saturating_sub(start) / GAP_NS).min(records);
        while (positions.len() as u64) < due {
            late.record(now.saturating_sub(start + positions.len() as u64 * GAP_NS))?;
            positions.push(log.append(&record, Class::Normal)?.0);
        }
        std::thread::sleep(NAP);
    }
    Ok(positions)
}

/// The same arrivals without a log: one thread writes what is due and syncs it, over and over. Counted as ours is, from
/// when a record was due: a sync that takes long holds up all that comes due meanwhile.
fn bare(plan: &Plan, records: u64) -> Result<Histogram<u64>> {
    let all = records as usize * RECORD;
    let (mut bare, mut times) = (Bare::new(&plan.scratch, all as u64, all)?, histogram()?);
    let (start, mut done) = (now_ns() + 1_000_000, 0);
    while done < records {
        let due = (now_ns().saturating_sub(start) / GAP_NS).min(records);
        if due > done {
            bare.write((due - done) as usize * RECORD)?;
            let now = now_ns();
            for i in done..due {
                times.record(now.saturating_sub(start + i * GAP_NS))?;
            }
            done = due;
        } else {
            std::thread::sleep(NAP);
        }
    }
    Ok(times)
}
