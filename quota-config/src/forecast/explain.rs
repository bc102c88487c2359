//! What a change does to the times at which prizes run out, for people.

use super::{Demand, Live, RoundForecast, Standing, forecast_round};
use crate::calendar::{self, Zone};
use crate::diff::{Diff, Exhaustion, SUMMARY_MAX};
use campaign::{Plan, Round, RoundId};
use std::collections::BTreeSet;

/// Most rounds that a difference forecasts, those that come first.
const ROUNDS_EXPLAINED_MAX: usize = 50;

/// Adds to a difference when prizes will be exhausted instead of when they would have been: to its summary, and
/// as [`Diff::exhaustion`]. Rounds that are over, new or removed are left out; of the others the first 50 whose
/// release differs are reckoned. A running round goes on from `live`; the curve goes on from what the old plan has
/// released, as it does in the ledger.
pub fn explain(diff: &mut Diff, before: &Plan, after: &Plan, demand: &Demand, live: Option<&Live>) {
    let now_ms = live.map_or(0, |l| l.now_ms);
    let zone = calendar::zone(&after.time_zone).unwrap_or_else(|_| Zone::utc());
    let all = before.vendors != after.vendors;
    let touched = touched(diff);
    let weighted = *demand != Demand::Unbounded;
    let mut reckoned = 0;
    for new in after.rounds.iter().filter(|r| r.close_ms > now_ms) {
        if !(all || touched.contains(&new.id)) || reckoned >= ROUNDS_EXPLAINED_MAX {
            continue;
        }
        let Some(old) = before.round(new.id) else { continue };
        if !all && !weighted && same_release(old, new) {
            continue;
        }
        reckoned += 1;
        let standing = live
            .filter(|_| old.open_ms <= now_ms)
            .map(|l| (standing(old, l, None), standing(new, l, Some(old))));
        let was = forecast_round(before, old, demand, standing.as_ref().map(|s| &s.0));
        let will = forecast_round(after, new, demand, standing.as_ref().map(|s| &s.1));
        note(diff, (&was, old), (&will, new), &zone);
    }
    diff.summary.truncate(SUMMARY_MAX);
}

fn touched(diff: &Diff) -> BTreeSet<RoundId> {
    let number = |path: &str| {
        let rest = path.strip_prefix("prize:").or_else(|| path.strip_prefix("round:"))?;
        rest.split(['/', '.']).next()?.parse().ok().map(RoundId)
    };
    diff.entries.iter().filter_map(|e| number(&e.path)).collect()
}

/// Whether two versions of a round release alike; weights and names do not matter.
fn same_release(old: &Round, new: &Round) -> bool {
    let alike = |(a, b): (&campaign::Prize, &campaign::Prize)| {
        (a.id, a.vendor, a.speed_max, a.catch_up_percent, a.paused)
            == (b.id, b.vendor, b.speed_max, b.catch_up_percent, b.paused)
            && a.curve == b.curve
            && a.tranches == b.tranches
    };
    (old.open_ms, old.close_ms) == (new.open_ms, new.close_ms)
        && old.prizes.len() == new.prizes.len()
        && old.prizes.iter().zip(&new.prizes).all(alike)
}

/// How a round stands when a plan takes over. `by`: the round as it was released until now.
fn standing(round: &Round, live: &Live, by: Option<&Round>) -> Live {
    let until = by.unwrap_or(round);
    let since_open = live.now_ms.saturating_sub(until.open_ms);
    let of = |prize: &campaign::Prize| {
        let known = live.prizes.iter().find(|s| s.prize == prize.id);
        let was = until.prizes.iter().find(|p| p.id == prize.id);
        // Planned budgets differ by what was lowered; a raise adds to what is left of it.
        let lowered =
            known.zip(was).and_then(|(k, w)| Some(w.units().saturating_sub(k.budget?))).unwrap_or(0);
        let released = known.and_then(|k| k.released).or_else(|| {
            let was = was?;
            Some(was.curve.released(0, 0, was.units().saturating_sub(lowered), since_open))
        });
        Standing {
            prize: prize.id,
            awarded: known.map_or(0, |k| k.awarded),
            budget: Some(prize.units().saturating_sub(lowered)),
            released: Some(released.unwrap_or(0)),
        }
    };
    Live { now_ms: live.now_ms, prizes: round.prizes.iter().map(of).collect() }
}

fn note(
    diff: &mut Diff,
    (was, old): (&RoundForecast, &Round),
    (will, new): (&RoundForecast, &Round),
    zone: &Zone,
) {
    for after in &will.prizes {
        let Some(before) = was.prizes.iter().find(|p| p.prize == after.prize) else { continue };
        let moved = match (before.exhausted_ms, after.exhausted_ms) {
            (Some(a), Some(b)) => a.abs_diff(b) >= 1_000.max(was.step_ms.max(will.step_ms)),
            (None, None) => false,
            _ => true,
        };
        if !moved {
            continue;
        }
        let show = |ms: Option<u64>, round: &Round| match ms {
            Some(ms) => format!("exhausted {}", zone.show_near(ms, round.open_ms)),
            None => "not exhausted".to_string(),
        };
        let text = match (before.exhausted_ms, after.exhausted_ms) {
            (Some(was), Some(_)) => {
                format!("{} instead of {}", show(after.exhausted_ms, new), zone.show_near(was, old.open_ms))
            }
            (was, will) => format!("{} instead of {}", show(will, new), show(was, old)),
        };
        let line = format!("round {}, {}: ", new.id, after.name);
        match diff.summary.iter_mut().find(|l| l.starts_with(&line)) {
            Some(told) => *told = format!("{told}, {text}"),
            None => diff.summary.push(line + &text),
        }
        diff.exhaustion.push(Exhaustion {
            round: new.id,
            prize: after.prize,
            before_ms: before.exhausted_ms,
            after_ms: after.exhausted_ms,
            text,
        });
    }
}
