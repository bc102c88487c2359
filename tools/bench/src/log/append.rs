//! `log.append`: records a second that the flow log makes durable.

use super::world::{Bare, RECORD, open};
use crate::Plan;
use crate::measure::{Duel, rate};
use crate::report::{Figure, Report, short};
use anyhow::{Result, bail};
use flowlog::{AppendError, Class, FlowLog, Hooks, Position};

/// What this file measures.
pub const FIGURES: &[&str] = &["log.append"];

const RECORDS: u64 = 3_000_000;

/// Measures it.
pub fn run(plan: &Plan, report: &mut Report) -> Result<()> {
    let (mut duel, mut groups, mut group_bytes) = (Duel::default(), 0, 0);
    for turn in 0..=plan.runs {
        let (mut failure, mut sizes) = (None, Vec::new());
        let log = open(&plan.scratch, Hooks::default())?;
        let ours = rate(|| {
            let done = append(&log.log, plan.sized(RECORDS), &mut sizes);
            done.unwrap_or_else(|e| {
                failure = Some(e);
                0
            })
        });
        drop(log);
        if let Some(error) = failure {
            return Err(error);
        }
        // The same pieces, bare; the log goes first because only then their sizes are known.
        let bytes: usize = sizes.iter().map(|n| n * RECORD).sum();
        let largest = sizes.iter().max().copied().unwrap_or(0) * RECORD;
        let mut bare = Bare::new(&plan.scratch, bytes as u64, largest)?;
        let mut result = Ok(());
        let peer = rate(|| {
            result = sizes.iter().try_for_each(|n| bare.write(n * RECORD));
            sizes.iter().sum::<usize>() as u64
        });
        result?;
        if turn > 0 {
            duel.push(ours, peer);
            groups += sizes.len();
            group_bytes += bytes;
        }
    }
    let note = format!(
        "records of {RECORD} bytes from one thread, one call each, groups of {} bytes on average; the log also frames, checks (CRC) and chains (SHA-256) them",
        short(group_bytes as f64 / groups.max(1) as f64),
    );
    let peer = "bare write + fdatasync of the same pieces, one after the other";
    report.add(Figure::beside("log.append", &duel, "records/s", peer, "1 M/s", note));
    Ok(())
}

/// Appends and waits until all is durable; the records of each group go to `sizes`.
fn append(log: &FlowLog, records: u64, sizes: &mut Vec<usize>) -> Result<u64> {
    let record = [0x5a; RECORD];
    let mut last = None;
    for _ in 0..records {
        let position = loop {
            match log.append(&record, Class::Normal) {
                Ok(position) => break position,
                // Both buffers are full: go on when the older one is safe.
                Err(AppendError::Busy | AppendError::Full { .. }) => match last {
                    Some(Position(p)) => log.wait_durable_blocking(Position(u64::saturating_sub(p, 1)))?,
                    None => bail!("the log takes nothing at all"),
                },
                Err(error) => return Err(error.into()),
            }
        };
        if last == Some(position) {
            *sizes.last_mut().unwrap_or(&mut 0) += 1;
        } else {
            sizes.push(1);
            last = Some(position);
        }
    }
    if let Some(position) = last {
        log.wait_durable_blocking(position)?;
    }
    Ok(records)
}
