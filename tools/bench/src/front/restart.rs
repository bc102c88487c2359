//! `restart.10m`: from the start of a process that was killed, with ten million awards in its log and the next snapshot
//! just about due, to the first answer to a draw.
//!
//! The awards are made through the front door by the platform itself, on a campaign in which nearly everyone wins.
//! Snapshots come by the bytes of log (`lottery.snapshot_mib`, shipped 256), so the filling goes on until the log is
//! nearly as long as the next one's mark. Before the last part of it flow gets the time to store what has been won, as it
//! has at the rate of a real campaign. Every run is a start, a draw and a `kill -9`; the last one lives on, to see
//! what those find who ask for what they won before.

use super::campaign::Campaign;
use super::load::full_speed;
use super::platform::{Counts, Platform, Setup};
use crate::Plan;
use crate::measure::{Samples, now_ns};
use crate::report::{Figure, Report, short};
use anyhow::{Context, Result, bail};
use loadgen::bench::{BenchConfig, Kind, run as generate};
use runtime::{Shutdown, SystemClock};
use serde_json::Value;
use std::time::Duration;

/// What this file measures.
pub const FIGURES: &[&str] = &["restart.10m"];

const AWARDS: u64 = 10_000_000;

/// Bytes of log from snapshot to snapshot, as shipped.
const SNAPSHOT_BYTES: u64 = 256 << 20;

/// So much before the next snapshot's mark the platform is killed: what is won between two looks, and some.
const SHORT_OF_BYTES: u64 = 3 << 20;

/// A user id that the filling does not reach.
const FRESH: u64 = 100_000_000;

/// How often the filling is looked at.
const LOOK: Duration = Duration::from_millis(20);

/// Between two tries to reach a platform that starts.
const TRY: Duration = Duration::from_millis(2);

/// How long a start, and what comes behind it, is watched, and how long flow gets.
const PATIENCE_S: f64 = 300.0;

/// How often flow is looked at: a look counts all orders.
const LOOK_AT_FLOW: Duration = Duration::from_secs(5);

/// Users of the filling who are asked for again, one by one, until their bucket is loaded. Each is in a random bucket.
const PROBES: u64 = 500;

/// The award that was won last before the kill.
struct Last {
    user: u64,
    award: String,
}

/// What a start that was watched to its end showed, in s since the process was started.
#[derive(Default)]
struct Watched {
    first_draw: f64,
    first_win: Option<f64>,
    all_users: Option<f64>,
    prizes_answered: Option<f64>,
    prizes_whole: Option<f64>,
    first_prizes: usize,
}

impl Watched {
    /// Asks for the prizes of the last winner.
    fn look_at_prizes(&mut self, platform: &Platform, last: &Last, start_ns: u64) -> Result<()> {
        let (status, answer) = platform.prizes(last.user)?;
        if status != 200 {
            return Ok(());
        }
        let listed = answer["awards"].as_array().cloned().unwrap_or_default();
        if self.prizes_answered.is_none() {
            self.prizes_answered = Some(since(start_ns));
            self.first_prizes = listed.len();
        }
        let whole = listed.iter().any(|a| a["award"] == last.award.as_str());
        self.prizes_whole = whole.then(|| since(start_ns));
        Ok(())
    }
}

/// Measures it.
pub fn run(plan: &Plan, report: &mut Report) -> Result<()> {
    // Twenty prizes: a node holds two leases of a prize, and their size bounds how fast it is given out.
    let campaign = Campaign { wins_per_second: 1_000_000, interval_ms: 1_000, times: 4 };
    let mut platform = Platform::start(&plan.scratch, Setup::held_back(campaign))?;
    let counts = fill(plan, &mut platform)?;
    let stored = flow_has(&platform)?;
    let last = win(&platform)?;
    platform.kill();
    let snapshots = platform.said("wrote a snapshot")?.len() as u64;
    let (mut samples, runs) = (Samples::default(), plan.runs.min(3));
    let mut fresh = FRESH + 1_000_000;
    for _ in 1..runs {
        samples.push(start(&mut platform, &mut fresh)?);
        platform.kill();
    }
    let watched = watch(&mut platform, &mut fresh, &last)?;
    samples.push(watched.first_draw);
    let recovered = platform.said("the lottery node has recovered")?;
    let recovered = recovered.last().and_then(|l| l["fields"]["recovered"].as_str()).unwrap_or_default();
    let s = |at: Option<f64>| at.map_or("not".to_owned(), |at| format!("after {at:.2} s"));
    let note = format!(
        "{} awards, {:.1} MiB of log ({snapshots} snapshots written, the next due at {} MiB), flow had stored {} of them when the process was killed; {recovered}; files in the page cache; first draw that won {}, {PROBES} winners of random buckets can draw again {}; the winner of the last moment asks for his prizes: answered {} with {} awards, his award in the list {}",
        counts.wins,
        counts.log_bytes as f64 / f64::from(1 << 20),
        ((snapshots + 1) * SNAPSHOT_BYTES) >> 20,
        short(stored as f64),
        s(watched.first_win),
        s(watched.all_users),
        s(watched.prizes_answered),
        watched.first_prizes,
        s(watched.prizes_whole),
    );
    report.add(Figure::alone("restart.10m", &samples, "s", "< 5 s to the first draw", note));
    Ok(())
}

/// Awards that flow has stored.
fn flow_has(platform: &Platform) -> Result<u64> {
    Ok(platform.status()?["flow"]["awards"].as_u64().unwrap_or(0))
}

/// Has ten million awards won, and then as many more as bring the log close to the next snapshot.
fn fill(plan: &Plan, platform: &mut Platform) -> Result<Counts> {
    let awards = plan.sized(AWARDS);
    win_until(plan, platform, awards)?;
    let counts = platform.counts()?;
    if plan.quick {
        return Ok(counts);
    }
    let start_ns = now_ns();
    while flow_has(platform)? < counts.wins && since(start_ns) < PATIENCE_S {
        platform.must_run()?;
        std::thread::sleep(LOOK_AT_FLOW);
    }
    let due = (counts.log_bytes + SHORT_OF_BYTES).next_multiple_of(SNAPSHOT_BYTES);
    let each = counts.log_bytes as f64 / counts.wins as f64;
    let more = (due - SHORT_OF_BYTES).saturating_sub(counts.log_bytes) as f64 / each;
    win_until(plan, platform, counts.wins + more as u64)?;
    platform.counts()
}

fn win_until(plan: &Plan, platform: &mut Platform, wins: u64) -> Result<()> {
    let config = BenchConfig {
        outstanding: 64,
        users: AWARDS,
        warm_ms: 0,
        run_ms: PATIENCE_S as u64 * 4_000,
        ..full_speed(plan, Kind::FramesShared, 64, platform.frames, &platform.key)
    };
    let enough = Shutdown::new();
    std::thread::scope(|scope| {
        let stop = enough.clone();
        let generator = scope.spawn(move || generate(&config, &SystemClock::shared(), &stop));
        let mut looked = Ok(());
        while !generator.is_finished() {
            match platform.wins_told() {
                Ok(told) if told < wins => {}
                Ok(_) => break,
                Err(error) => {
                    looked = Err(error);
                    break;
                }
            }
            std::thread::sleep(LOOK);
        }
        enough.request();
        let done = generator.join().map_err(|_| anyhow::anyhow!("the generator panicked"))?;
        done.context("fill the log")?;
        looked
    })
}

/// A win that its player was told of.
fn win(platform: &Platform) -> Result<Last> {
    for user in FRESH..FRESH + 1_000 {
        let (_, answer) = platform.submit(user, 1)?;
        if let Some(award) = answer["award"]["award"].as_str() {
            return Ok(Last { user, award: award.to_owned() });
        }
    }
    bail!("nobody wins, on a campaign in which nearly everyone should")
}

fn drawn(answer: &Value) -> bool {
    matches!(answer["outcome"].as_str(), Some("OUTCOME_LOST" | "OUTCOME_WON"))
}

/// Starts the platform; the time until it drew for a user who comes for the first time.
fn start(platform: &mut Platform, fresh: &mut u64) -> Result<f64> {
    let start_ns = now_ns();
    platform.start_again()?;
    first_draw(platform, fresh, start_ns)
}

fn first_draw(platform: &mut Platform, fresh: &mut u64, start_ns: u64) -> Result<f64> {
    loop {
        *fresh += 1;
        // Not listening yet, or not letting anyone in: asked again.
        if let Ok((200, answer)) = platform.submit(*fresh, 1)
            && drawn(&answer)
        {
            return Ok(since(start_ns));
        }
        platform.must_run()?;
        if since(start_ns) > PATIENCE_S {
            bail!("no draw within {PATIENCE_S} s of the start");
        }
        std::thread::sleep(TRY);
    }
}

fn since(start_ns: u64) -> f64 {
    (now_ns() - start_ns) as f64 / 1e9
}

/// Starts the platform and watches what comes behind the first draw.
fn watch(platform: &mut Platform, fresh: &mut u64, last: &Last) -> Result<Watched> {
    let start_ns = now_ns();
    platform.start_again()?;
    let mut seen = Watched { first_draw: first_draw(platform, fresh, start_ns)?, ..Watched::default() };
    let mut loading: Vec<u64> = (1..=PROBES).collect();
    while since(start_ns) < PATIENCE_S
        && (seen.first_win.is_none() || seen.all_users.is_none() || seen.prizes_whole.is_none())
    {
        platform.must_run()?;
        if seen.first_win.is_none() {
            *fresh += 1;
            let (_, answer) = platform.submit(*fresh, 1)?;
            seen.first_win = (answer["outcome"] == "OUTCOME_WON").then(|| since(start_ns));
        }
        if seen.all_users.is_none() {
            // His last counter is not known here; any answer but 'pending' shows that his wins are.
            while let Some(user) = loading.last()
                && platform.submit(*user, 1)?.1["outcome"] != "OUTCOME_PENDING"
            {
                loading.pop();
            }
            seen.all_users = loading.is_empty().then(|| since(start_ns));
        }
        if seen.prizes_whole.is_none() {
            seen.look_at_prizes(platform, last, start_ns)?;
        }
        if seen.first_win.is_some() && seen.all_users.is_some() {
            std::thread::sleep(LOOK);
        }
    }
    Ok(seen)
}
