//! The disclosure in English.

use super::{Facts, Section, share, term, uneven};
use crate::diff::{count, yuan};
use crate::file::value::show_duration;
use campaign::{Prize, PrizeKind, Round};
use std::fmt::Write as _;

pub(super) fn text(facts: &Facts<'_>) -> String {
    let mut out = format!("{}: prizes and rules of the draw\n\n", facts.plan.name);
    let _ = writeln!(out, "Times are those of {}. Amounts are in yuan.", facts.plan.time_zone);
    limits(facts, &mut out);
    for section in &facts.sections {
        out.push('\n');
        times(facts, section, &mut out);
        for prize in &section.rounds[0].prizes {
            line(facts, section.rounds[0], prize, &mut out);
        }
    }
    out.push_str(
        "\nHow prizes are drawn: each entry picks one prize at random, by the weights above. If no unit of that \
         prize is winnable at that instant, the next prize in the list that has one is given; if none has, the \
         entry wins nothing. The weights are therefore not the chance to win, which depends on how many take \
         part and when.\nUnits are released little by little while a round is open, not all at its opening. When \
         all units of a prize are given out, it can't be won any more.\n",
    );
    regions(facts, &mut out);
    out
}

fn regions(facts: &Facts<'_>, out: &mut String) {
    let used = facts.regions_used();
    if used.is_empty() {
        return;
    }
    out.push_str(
        "\nA prize that is limited to regions can be won only by entries from their districts; for an entry from \
         elsewhere, or from a district that is not known, it counts as a prize without a winnable unit.\n",
    );
    for region in used {
        let districts: Vec<String> = region.districts.iter().map(ToString::to_string).collect();
        let _ = writeln!(out, "- {}: districts {}", region.name, districts.join(", "));
    }
}

fn limits(facts: &Facts<'_>, out: &mut String) {
    let limits = facts.limits();
    let each = [(limits.wins_round, "round"), (limits.wins_day, "day"), (limits.wins_campaign, "campaign")];
    let each: Vec<String> =
        each.iter().filter(|l| l.0 > 0).map(|(n, per)| format!("{n} times in a {per}")).collect();
    if !each.is_empty() {
        let _ = writeln!(out, "One player wins at most {}.", each.join(", "));
    }
    if facts.plan.stagger.groups > 1 {
        let step = show_duration(u64::from(facts.plan.stagger.step_ms));
        let _ = writeln!(out, "Players begin in {} groups, {step} apart.", facts.plan.stagger.groups);
    }
}

fn times(facts: &Facts<'_>, section: &Section<'_>, out: &mut String) {
    let (times, more) = facts.times(section);
    for (id, name, open, close) in times {
        let _ = writeln!(out, "Round {id}, {name}: {open} to {close}");
    }
    if more > 0 {
        let last = section.rounds[section.rounds.len() - 1];
        let _ = writeln!(
            out,
            "and {} rounds more, the last at {}",
            count(more as u128),
            facts.zone.show(last.open_ms)
        );
    }
    if section.rounds.len() > 1 {
        out.push_str("In each of these rounds:\n");
    }
}

fn line(facts: &Facts<'_>, round: &Round, prize: &Prize, out: &mut String) {
    let units = count(u128::from(prize.units()));
    let (min, max) = facts.range(round, prize);
    let (min, max, sum) = (yuan(min.0.into()), yuan(max.0.into()), yuan(prize.fen().0.into()));
    let _ = write!(out, "- {}: ", prize.name);
    let _ = match prize.kind {
        PrizeKind::Cash if min == max => write!(out, "cash, {units} times {max} yuan, {sum} yuan in all"),
        PrizeKind::Cash => write!(out, "cash, {units} amounts of {min} to {max} yuan, {sum} yuan in all"),
        _ if max == "0.00" => write!(out, "{}, {units} of them", prize.kind.name()),
        _ => write!(out, "{}, {units} of them, each worth {max} yuan", prize.kind.name()),
    };
    let _ = match prize.weight {
        0 => write!(out, "; weight 0: given only in place of others"),
        w => write!(
            out,
            "; weight {w} of {}: picked first by {}",
            count(round.total_weight().into()),
            share(round, prize)
        ),
    };
    if let Some(points) = uneven(prize) {
        let points: Vec<String> = points.iter().map(|(s, share)| format!("{share} by {s} s")).collect();
        let _ = write!(out, "; released unevenly: {}", points.join(", "));
    }
    if let Some(regions) = facts.regions(prize, ", ") {
        let _ = write!(out, "; can be won in {regions} only");
    }
    if let Some(ms) = term(prize) {
        let _ = write!(out, "; lapses if it is not claimed within {}", show_duration(ms));
    }
    out.push('\n');
}
