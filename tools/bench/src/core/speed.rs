//! `core.single` and `core.batch`: decisions a second of one core with ten million users in memory.

use super::redis::Redis;
use super::table::Table;
use super::world::{World, below, mix};
use crate::Plan;
use crate::measure::{Duel, rate};
use crate::report::{Figure, Report, short};
use anyhow::Result;

/// What this file measures.
pub const FIGURES: &[&str] = &["core.single", "core.batch"];

const USERS: u64 = 10_000_000;
const SINGLES: u64 = 3_000_000;
const BATCHED: u64 = 6_000_000;
const BATCH: u64 = 16;
const REDIS_ENTRIES: u64 = 300_000;

/// Measures both.
pub fn run(plan: &Plan, report: &mut Report) -> Result<()> {
    let users = plan.sized(USERS);
    let mut world = World::new(users, 5);
    world.grow_to(users);
    if plan.wants("core.single") {
        report.add(single(plan, &mut world));
    }
    if plan.wants("core.batch") {
        report.add(batch(plan, &mut world)?);
    }
    Ok(())
}

fn single(plan: &Plan, world: &mut World) -> Figure {
    let (bytes, n) = (world.core.bytes(), plan.sized(SINGLES));
    let mut table = Table::new(bytes);
    let before = world.core.tally();
    let duel = Duel::run(plan.runs, || rate(|| singles(world, n)), || rate(|| table.read_modify_write(n)));
    let now = world.core.tally();
    let draws = (now.draws - before.draws) as f64;
    let note = format!(
        "{} users in {:.0} MB, 5 prizes, {:.2} % of the draws won, {:.2} % of the entries were no draw; both tables ask for huge pages",
        short(world.users() as f64),
        bytes as f64 / 1e6,
        (now.wins - before.wins) as f64 * 100.0 / draws,
        ((n * (plan.runs as u64 + 1)) as f64 - draws) * 100.0 / (n * (plan.runs as u64 + 1)) as f64,
    );
    let peer = "dependent read-modify-write of random 64-byte lines in a table of that size";
    Figure::beside("core.single", &duel, "submits/s", peer, "ratio >= 0.65; aim 3 M/s", note)
}

/// One entry at a time; the next user follows from the answer.
pub fn singles(world: &mut World, n: u64) -> u64 {
    let (users, mut x) = (world.users(), n);
    for i in 0..n {
        let user = below(mix(x), users);
        x = x.wrapping_add(world.submit(std::iter::once(user)));
        if i % 4096 == 0 {
            world.collect();
        }
    }
    n
}

/// Batches of independent users.
pub fn batches(world: &mut World, n: u64) -> u64 {
    let (users, mut x) = (world.users(), n);
    for i in 0..n / BATCH {
        let first = x;
        x = x.wrapping_add(world.submit((0..BATCH).map(|k| below(mix(first ^ (k << 56)), users))));
        if i % 256 == 0 {
            world.collect();
        }
    }
    n / BATCH * BATCH
}

fn batch(plan: &Plan, world: &mut World) -> Result<Figure> {
    let n = plan.sized(BATCHED);
    let mut redis = Redis::start(&plan.scratch)?;
    let (users, entries) = (plan.sized(1_000_000), plan.sized(REDIS_ENTRIES).max(3_200));
    let mut failure = None;
    let duel = Duel::run(
        plan.runs,
        || rate(|| batches(world, n)),
        || {
            rate(|| {
                redis
                    .entries(users, entries, 1)
                    .unwrap_or_else(|e| failure.get_or_insert(e).to_string().len() as u64)
            })
        },
    );
    let winning = rate(|| redis.entries(users, entries, 98).unwrap_or(0));
    if let Some(error) = failure {
        return Err(error);
    }
    let note = format!(
        "batches of {BATCH}, {} users; Redis with {} users, {} connections x 16 outstanding, client on the other core, 1 % wins; with 98 % wins it makes {}/s",
        short(world.users() as f64),
        short(users as f64),
        super::redis::CONNECTIONS,
        short(winning),
    );
    let peer = "Redis, one Lua script (limit, stock, record), AOF always, pipelined 16";
    Ok(Figure::beside("core.batch", &duel, "submits/s", peer, "10 M/s", note))
}
