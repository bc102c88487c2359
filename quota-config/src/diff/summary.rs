//! A difference in a few lines: what goes first is what costs money.

use super::compare::percent;
use super::text::{count, signed_count, yuan};
use super::{Diff, SUMMARY_MAX, at};
use campaign::{Plan, RoundId};
use std::collections::{BTreeMap, BTreeSet};

/// Lines such as `round 2, Lucky cash: +200,000.00 yuan, +2,000 units`. Changes that are the same in many rounds
/// share a line.
pub(super) fn lines(before: Option<&Plan>, after: &Plan, diff: &Diff) -> Vec<String> {
    let mut lines = Vec::new();
    if diff.first {
        lines.push(first_line(after, diff));
    }
    budgets(diff, &mut lines);
    if !diff.first && diff.prizes.len() > 1 {
        lines.push(format!("in all: {}", amount(diff.budget.units, diff.budget.fen)));
    }
    for limit in &diff.limits_raised {
        let after = if limit.after == 0 { "no limit".to_string() } else { limit.after.to_string() };
        lines.push(format!("{}: {} to {after}", limit.limit.replace('_', " "), limit.before));
    }
    for raised in diff.speeds_raised.iter() {
        let by = raised.percent.map_or_else(|| "no limit any more".to_string(), |p| format!("+{p}%"));
        lines.push(format!("{}: {by}", raised.path));
    }
    weights(before, after, diff, &mut lines);
    for (word, list) in [("paused", &diff.paused), ("resumed", &diff.resumed)] {
        if !list.is_empty() {
            let some = list.iter().take(10).cloned().collect::<Vec<_>>().join(", ");
            let more = if list.len() > 10 { format!(" and {} more", list.len() - 10) } else { String::new() };
            lines.push(format!("{word}: {some}{more}"));
        }
    }
    if !diff.first {
        for (word, list) in [("added", &diff.rounds_added), ("removed", &diff.rounds_removed)] {
            if !list.is_empty() {
                lines.push(format!("{word}: {}", rounds_text(list)));
            }
        }
    }
    others(diff, &mut lines);
    if lines.len() > SUMMARY_MAX {
        let more = lines.len() - (SUMMARY_MAX - 1);
        lines.truncate(SUMMARY_MAX - 1);
        lines.push(format!("and {more} lines more"));
    }
    lines
}

fn first_line(plan: &Plan, diff: &Diff) -> String {
    format!(
        "{}: {} rounds, {} yuan and {} units in all",
        plan.name,
        count(plan.rounds.len() as u128),
        yuan(diff.budget.fen),
        count(diff.budget.units.unsigned_abs())
    )
}

fn amount(units: i128, fen: i128) -> String {
    let units = format!("{} units", signed_count(units));
    if fen == 0 {
        return units;
    }
    format!("{}{} yuan, {units}", if fen < 0 { "" } else { "+" }, yuan(fen))
}

fn budgets(diff: &Diff, lines: &mut Vec<String>) {
    let mut groups: BTreeMap<(u32, &str, i128, i128), Vec<RoundId>> = BTreeMap::new();
    for change in &diff.prizes {
        let key = (change.prize.0, change.name.as_str(), change.units, change.fen);
        groups.entry(key).or_default().push(change.round);
    }
    // Largest sums first, so that a cut list loses the least.
    let mut groups: Vec<_> = groups.into_iter().collect();
    groups.sort_by_key(|((_, _, units, fen), rounds)| {
        let n = rounds.len() as u128;
        std::cmp::Reverse((fen.unsigned_abs() * n, units.unsigned_abs() * n))
    });
    for ((_, name, units, fen), rounds) in groups {
        let each = if rounds.len() > 1 { " in each" } else { "" };
        lines.push(format!("{}, {name}: {}{each}", rounds_text(&rounds), amount(units, fen)));
    }
}

fn weights(before: Option<&Plan>, after: &Plan, diff: &Diff, lines: &mut Vec<String>) {
    let Some(before) = before else { return };
    let (old_rounds, new_rounds) = (by_id(before), by_id(after));
    let mut groups: BTreeMap<(u32, String), Vec<RoundId>> = BTreeMap::new();
    for change in &diff.weights {
        let (Some(old), Some(new)) = (old_rounds.get(&change.round), new_rounds.get(&change.round)) else {
            continue;
        };
        let name = new.position(change.prize).map_or("", |i| new.prizes[i].name.as_str());
        let text = format!(
            "{name}: weight {} instead of {} ({} of picks instead of {})",
            change.after,
            change.before,
            percent(u64::from(change.after), new.total_weight()),
            percent(u64::from(change.before), old.total_weight())
        );
        groups.entry((change.prize.0, text)).or_default().push(change.round);
    }
    lines.extend(groups.into_iter().map(|((_, text), rounds)| format!("{}, {text}", rounds_text(&rounds))));
}

fn by_id(plan: &Plan) -> BTreeMap<RoundId, &campaign::Round> {
    plan.rounds.iter().map(|r| (r.id, r)).collect()
}

/// Entries that no line above speaks of.
fn others(diff: &Diff, lines: &mut Vec<String>) {
    const TOLD: [&str; 2] = [".weight", ".paused"];
    let mut told: BTreeSet<String> =
        diff.prizes.iter().map(|p| format!("prize:{}.tranches", at(p.round, p.prize))).collect();
    told.extend(diff.speeds_raised.iter().map(|s| s.path.clone()));
    told.extend(diff.limits_raised.iter().map(|l| format!("limits.{}", l.limit)));
    for entry in &diff.entries {
        let (Some(before), Some(after)) = (&entry.before, &entry.after) else {
            let shown = diff.first || entry.path.starts_with("round:") || entry.path.starts_with("prize:");
            if !shown {
                let name = entry.after.as_ref().or(entry.before.as_ref()).cloned().unwrap_or_default();
                lines.push(format!("{}: {} {}", entry.path, name, entry.effect));
            }
            continue;
        };
        if lines.len() > SUMMARY_MAX {
            return;
        }
        if !TOLD.iter().any(|end| entry.path.ends_with(end)) && !told.contains(&entry.path) {
            lines.push(format!("{}: {after} instead of {before}", entry.path));
        }
    }
}

/// `round 2`, `rounds 2 to 9`, `rounds 2, 4 and 5`, `40 rounds from 2 to 99`.
fn rounds_text(rounds: &[RoundId]) -> String {
    let mut ids: Vec<u32> = rounds.iter().map(|r| r.0).collect();
    ids.sort_unstable();
    ids.dedup();
    match ids.as_slice() {
        [] => "no round".to_string(),
        [one] => format!("round {one}"),
        [first, .., last] if (last - first) as usize == ids.len() - 1 && ids.len() > 2 => {
            format!("rounds {first} to {last}")
        }
        [first @ .., last] if ids.len() <= 6 => {
            let first: Vec<String> = first.iter().map(u32::to_string).collect();
            format!("rounds {} and {last}", first.join(", "))
        }
        [first, .., last] => format!("{} rounds from {first} to {last}", count(ids.len() as u128)),
    }
}
