//! `swap.p999` and `swap.apply`: what a new plan costs those who draw while it is put into force.
//!
//! Two threads draw in batches, as the front door hands them over; a third, at a lower priority, compiles a campaign file
//! and applies the plan every second. Open loop: batch i is due at an instant that was fixed before, and its
//! latency counts from there until its answers are there, so a batch that waits because one before it was held up is
//! late, too. Between batches the drawing threads sleep, as they do in the front door while nothing comes.

use super::world::{MemoryLog, below, mix};
use crate::Plan as Bench;
use crate::measure::{Duel, Samples, now_ns};
use crate::report::{Figure, Report, short};
use anyhow::{Context, Result, anyhow};
use campaign::{
    CampaignId, LeaseId, MacKey, MacKeys, NodeEpoch, NodeId, Plan, PrizeId, RoundId, SeedKey, SeqNo, Slot,
    UnitRange,
};
use hdrhistogram::Histogram;
use lottery::core::{BUCKETS, Core, CoreConfig, Now};
use protocol::calls::{Inbox, SubmitCall, SubmitReply};
use quota_config::{CompileOptions, compile};
use records::{LeaseGot, LeaseRange};
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Waker;
use std::time::Duration;

/// What this file measures.
pub const FIGURES: &[&str] = &["swap.p999", "swap.apply"];

const ROUNDS: u32 = 1_000;
const PRIZES: u32 = 20;
const PRIZES_MANY: u32 = 50;
const THREADS: u64 = 2;
/// Entries of a batch.
const BATCH: u64 = 32;
/// From batch to batch of a thread.
const GAP_NS: u64 = 250_000;
/// Batches of a thread in a run: eight seconds of them.
const BATCHES: u64 = 32_000;
/// A thread sleeps until so long before a batch is due, and then looks at the clock.
const NEAR_NS: u64 = 120_000;
const CHANGE_EVERY: Duration = Duration::from_secs(1);
/// A power of two, so that an odd step visits all of them in turn.
const USERS: u64 = 1 << 20;
const OPEN_MS: u64 = 1_767_196_800_000;
const HOUR_MS: u64 = 3_600_000;

/// Measures what is asked for.
pub fn run(bench: &Bench, report: &mut Report) -> Result<()> {
    if bench.wants("swap.p999") {
        report.add(p999(bench)?);
    }
    if bench.wants("swap.apply") {
        report.add(apply(bench)?);
    }
    Ok(())
}

fn p999(bench: &Bench) -> Result<Figure> {
    let mut world = World::new(PRIZES)?;
    let (mut duel, mut swaps) = (Duel::default(), Swaps::default());
    let (mut with, mut without) = (histogram()?, histogram()?);
    for turn in 0..=bench.runs {
        // Who goes first alternates.
        let mut seen = [None, None];
        for side in [turn % 2, 1 - turn % 2] {
            let changes = (side == 0).then_some(&mut swaps);
            seen[side] = Some(world.draws(bench.sized(BATCHES), changes)?);
        }
        let [Some(changing), Some(calm)] = seen else { continue };
        if turn > 0 {
            let at = |h: &Histogram<u64>| h.value_at_quantile(0.999) as f64 / 1e3;
            duel.push(at(&changing), at(&calm));
            with.add(&changing)?;
            without.add(&calm)?;
        }
    }
    let us = |h: &Histogram<u64>, q: f64| short(h.value_at_quantile(q) as f64 / 1e3);
    let note = format!(
        "open loop, {THREADS} threads, a batch of {BATCH} every {} us each; {ROUNDS} rounds x {PRIZES} prizes compiled and \
         applied every second, 10 nice levels below the draws, whose time slices are short ({} times; compiling {} ms, applying {} ms in the median, {} at most); all runs \
         together, us: with changes p50 {}, p99 {}, max {}; without p50 {}, p99 {}, max {}",
        GAP_NS / 1_000,
        swaps.compile_ms.len(),
        short(swaps.compile_ms.median()),
        short(swaps.apply_ms.median()),
        short(swaps.apply_max_ms),
        us(&with, 0.5),
        us(&with, 0.99),
        us(&with, 1.0),
        us(&without, 0.5),
        us(&without, 0.99),
        us(&without, 1.0),
    );
    let peer = "the same without changes";
    Ok(Figure::beside("swap.p999", &duel, "us/batch", peer, "ratio <= 1.1", note))
}

fn apply(bench: &Bench) -> Result<Figure> {
    let mut world = World::new(PRIZES_MANY)?;
    let mut swaps = Swaps::default();
    for _ in 0..=bench.runs {
        world.change(&mut swaps)?;
    }
    let note = format!(
        "a plan of {ROUNDS} rounds x {PRIZES_MANY} prizes replaces another in the core, the old one's drop with it; \
         compiling its file takes {} ms; the first one, with nothing before it, {} ms",
        short(swaps.compile_ms.median()),
        short(world.first_ms),
    );
    Ok(Figure::alone("swap.apply", &swaps.apply_ms, "ms", "< 50 ms, beside the draws", note))
}

fn histogram() -> Result<Histogram<u64>> {
    Histogram::new_with_bounds(100, 60_000_000_000, 3).context("make a histogram")
}

/// How the kernel deals with the calling thread.
mod schedule {
    #![allow(unsafe_code)] // a system call that no wrapper at hand has

    /// Length of a drawing thread's time slice. A thread that wakes up with a shorter slice than the running one's gets
    /// the core at once (Linux 6.12 and later); otherwise it may wait for the rest of 3 ms.
    const SLICE_NS: u64 = 100_000;

    /// Short time slices at the priority as it is. Older kernels take no notice.
    pub fn short_slices() -> std::io::Result<()> {
        let attr = libc::sched_attr {
            size: size_of::<libc::sched_attr>() as u32,
            sched_policy: libc::SCHED_OTHER.cast_unsigned(),
            sched_flags: 0,
            sched_nice: rustix::process::getpriority_process(None)?,
            sched_priority: 0,
            sched_runtime: SLICE_NS,
            sched_deadline: 0,
            sched_period: 0,
        };
        // SAFETY: the kernel reads `size` bytes behind a pointer to a value that lives over the call.
        match unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attr, 0) } {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        }
    }
}

/// How long changes took.
#[derive(Default)]
struct Swaps {
    compile_ms: Samples,
    apply_ms: Samples,
    apply_max_ms: f64,
}

struct World {
    core: Core,
    source: String,
    seed_key: SeedKey,
    seq_no: u64,
    /// Milliseconds of the campaign that have been played.
    played_ms: u64,
    first_ms: f64,
}

impl World {
    /// A core that runs the first plan, with its users and with leases that let one entry in a hundred win.
    fn new(prizes: u32) -> Result<World> {
        let seed_key = SeedKey { id: 1, key: [1; 32] };
        let config = CoreConfig {
            node: NodeId(1),
            epoch: NodeEpoch(1),
            shards: 16,
            users_max: USERS as usize * 5 / 4,
            mac_keys: MacKeys::new(vec![MacKey { id: 1, key: [2; 32] }]).context("there is a key")?,
            seed_keys: vec![seed_key.clone()],
        };
        let core = Core::new(config, Arc::new(MemoryLog::default()));
        (0..BUCKETS).for_each(|b| core.load(b, []));
        let mut world =
            World { core, source: source(prizes), seed_key, seq_no: 0, played_ms: 0, first_ms: 0.0 };
        let mut first = Swaps::default();
        world.change(&mut first)?;
        world.first_ms = first.apply_max_ms;
        world.lease(prizes)?;
        Ok(world)
    }

    fn lease(&self, prizes: u32) -> Result<()> {
        let campaigns = self.core.campaigns();
        let round = campaigns.get(1).and_then(|c| c.round(RoundId(1))).context("the plan has the round")?;
        let per_second = THREADS * BATCH * 1_000_000_000 / GAP_NS / 100;
        let per_slot = (per_second / 10 / u64::from(prizes)).max(1);
        for p in 1..=prizes {
            let units = UnitRange { first: 0, count: HOUR_MS / 100 * per_slot };
            let range =
                LeaseRange { units, first_slot: Slot::at(OPEN_MS), per_slot: per_slot as u32, every: 1 };
            let got = LeaseGot {
                lease: LeaseId(u64::from(p)),
                campaign: CampaignId(1),
                round: RoundId(1),
                prize: PrizeId(p),
                seq_no: SeqNo(1),
                ranges: vec![range],
            };
            anyhow::ensure!(round.pool.install(&got, 0), "prize {p} is in the round");
        }
        Ok(())
    }

    fn compile(&self, seq_no: u64) -> Result<Plan> {
        let options =
            CompileOptions { seq_no: SeqNo(seq_no), base_ms: OPEN_MS, seeds: &self.seed_key, after: None };
        let compiled = compile(self.source.as_bytes(), &options).map_err(|e| anyhow!("{e}"))?;
        Ok(compiled.plan)
    }

    /// Compiles and applies the next version.
    fn change(&mut self, swaps: &mut Swaps) -> Result<()> {
        self.seq_no += 1;
        self.change_to(self.seq_no, swaps)
    }

    fn change_to(&self, seq_no: u64, swaps: &mut Swaps) -> Result<()> {
        let start = now_ns();
        let mut plan = self.compile(seq_no)?;
        // Other odds each time, as an operator's change.
        plan.rounds[0].prizes[0].weight += (seq_no % 7) as u32;
        let plan = Arc::new(plan);
        let compiled = now_ns();
        anyhow::ensure!(self.core.apply(plan)?, "SeqNo {seq_no} is newer");
        let ms = |ns: u64| ns as f64 / 1e6;
        let applied = ms(now_ns() - compiled);
        swaps.compile_ms.push(ms(compiled - start));
        swaps.apply_ms.push(applied);
        swaps.apply_max_ms = swaps.apply_max_ms.max(applied);
        Ok(())
    }

    /// Both threads draw so many batches; with `changes`, a new plan comes every second meanwhile.
    fn draws(&mut self, batches: u64, changes: Option<&mut Swaps>) -> Result<Histogram<u64>> {
        let begin_ms = OPEN_MS + self.played_ms;
        let (start, done) = (now_ns() + 20_000_000, AtomicBool::new(false));
        let mut seq_no = self.seq_no;
        let world = &*self;
        let latencies = std::thread::scope(|scope| {
            let draws = |t| scope.spawn(move || world.thread(t, batches, start, begin_ms));
            let drawing: Vec<_> = (0..THREADS).map(draws).collect();
            let changing = changes.map(|swaps| {
                let (done, seq_no) = (&done, &mut seq_no);
                scope.spawn(move || world.changes(seq_no, swaps, done))
            });
            let mut all = histogram()?;
            for thread in drawing {
                all.add(thread.join().map_err(|_| anyhow!("a drawing thread panicked"))??)?;
            }
            done.store(true, Ordering::Release);
            if let Some(changing) = changing {
                changing.join().map_err(|_| anyhow!("the changing thread panicked"))??;
            }
            Ok::<_, anyhow::Error>(all)
        })?;
        self.seq_no = seq_no;
        self.played_ms += batches * GAP_NS / 1_000_000 + 1_000;
        Ok(latencies)
    }

    fn changes(&self, seq_no: &mut u64, swaps: &mut Swaps, done: &AtomicBool) -> Result<()> {
        // On Linux a thread's priority is its own. Below those who draw, and no further: a thread that hardly ever runs
        // and holds a lock of the allocator or of the address space then stops the whole process.
        let nice = rustix::process::getpriority_process(None)?;
        rustix::process::setpriority_process(None, nice + 10).context("lower the thread's priority")?;
        while !done.load(Ordering::Acquire) {
            let next = now_ns() + CHANGE_EVERY.as_nanos() as u64;
            *seq_no += 1;
            self.change_to(*seq_no, swaps)?;
            while now_ns() < next && !done.load(Ordering::Acquire) {
                std::thread::sleep(Duration::from_millis(10));
            }
        }
        Ok(())
    }

    fn thread(&self, t: u64, batches: u64, start: u64, begin_ms: u64) -> Result<Histogram<u64>> {
        schedule::short_slices().context("ask for short time slices")?;
        let (mut latencies, inbox) = (histogram()?, Arc::new(Inbox::new()));
        let (mut calls, mut out) =
            (Vec::with_capacity(BATCH as usize), Vec::<SubmitReply>::with_capacity(64));
        for i in 0..batches {
            let due = start + i * GAP_NS + t * GAP_NS / THREADS;
            let ms = begin_ms + (due - start) / 1_000_000;
            calls.clear();
            calls.extend(
                (0..BATCH).map(|k| call(ms, ((i * BATCH + k) * THREADS + t).wrapping_mul(0x9e37_79b1))),
            );
            wait_until(due);
            self.core.submit(Now { ms, may_win: true }, &calls, &inbox, &mut out);
            latencies.record(now_ns().saturating_sub(due))?;
            out.clear();
            inbox.take(&mut out, Waker::noop());
            out.clear();
        }
        Ok(latencies)
    }
}

fn call(ms: u64, step: u64) -> SubmitCall {
    SubmitCall {
        tag: 0,
        user: step % USERS + 1,
        campaign: 1,
        round: 1,
        counter: ((ms - OPEN_MS) / 1_000 + 1) as u32,
        shakes: 3,
        district: 1,
    }
}

/// Sleeps until shortly before the instant, and looks at the clock from then on.
fn wait_until(due: u64) {
    loop {
        let now = now_ns();
        match due.saturating_sub(now) {
            0 => return,
            left if left > NEAR_NS => std::thread::sleep(Duration::from_nanos(left - NEAR_NS)),
            _ => std::hint::spin_loop(),
        }
    }
}

/// A campaign file: a round an hour, each with the same so many prizes.
fn source(prizes: u32) -> String {
    let mut text = String::from(
        "campaign: 1\nname: Many rounds\ntime_zone: Asia/Shanghai\nstart: now\n\
         vendors:\n  - {id: 1, name: Wallet}\n\
         limits: {wins_per_round: 100, wins_per_day: 200, wins_per_campaign: 300, interval: 1s, shakes_per_second: 5}\n\
         client: {submit_min: 1s, submit_max: 3s}\nprize_sets:\n  all:\n",
    );
    // Writing to a string does not fail.
    for prize in 1..=prizes {
        let weight = 1 + below(mix(u64::from(prize)), 50);
        let _ = writeln!(
            text,
            "    - {{id: {prize}, name: Prize {prize}, kind: cash, weight: {weight}, vendor: 1, units: 9000000, \
             sum: 18000000, min: 0.50, max: 200}}"
        );
    }
    text.push_str("rounds:\n");
    for round in 1..=ROUNDS {
        let open_s = u64::from(round - 1) * 3_600;
        let _ = writeln!(
            text,
            "  - {{id: {round}, name: Round {round}, open: +{open_s}s, duration: 3590s, prizes: all}}"
        );
    }
    text
}
