//! `grow.users` and `grow.prizes`: what a submit costs when the campaign is ten times as large.

use super::speed::singles;
use super::world::World;
use crate::Plan;
use crate::measure::{Duel, now_ns};
use crate::report::{Figure, Report, short};
use anyhow::Result;

/// What this file measures.
pub const FIGURES: &[&str] = &["grow.users", "grow.prizes"];

const MANY: u64 = 10_000_000;
const FEW: u64 = 1_000_000;
const ENTRIES: u64 = 2_000_000;

/// Measures what is asked for.
pub fn run(plan: &Plan, report: &mut Report) -> Result<()> {
    let (many, few) = (plan.sized(MANY), plan.sized(FEW));
    if plan.wants("grow.users") {
        let duel = compare(plan, (many, 5), (few, 5));
        let note =
            format!("one submit at a time with {} users, beside {}", short(many as f64), short(few as f64));
        let peer = "the same with a tenth of the users";
        let goal = "does not grow, but for the cache misses of the larger table";
        report.add(Figure::beside("grow.users", &duel, "ns/submit", peer, goal, note));
    }
    if plan.wants("grow.prizes") {
        let duel = compare(plan, (few, 50), (few, 5));
        let note = format!("one submit at a time, {} users, 50 prizes beside 5, 1 % wins", short(few as f64));
        report.add(Figure::beside(
            "grow.prizes",
            &duel,
            "ns/submit",
            "the same with 5 prizes",
            "ratio <= 2",
            note,
        ));
    }
    Ok(())
}

fn compare(plan: &Plan, large: (u64, u32), small: (u64, u32)) -> Duel {
    let (mut large, mut small) = (world(large), world(small));
    let n = plan.sized(ENTRIES);
    Duel::run(plan.runs, || cost(&mut large, n), || cost(&mut small, n))
}

fn world((users, prizes): (u64, u32)) -> World {
    let mut world = World::new(users, prizes);
    world.grow_to(users);
    world
}

/// Nanoseconds a submit.
fn cost(world: &mut World, n: u64) -> f64 {
    let start = now_ns();
    let done = singles(world, n);
    (now_ns() - start) as f64 / done as f64
}
