//! Walks two plans side by side and notes what differs.

use super::text::count;
use super::{Diff, LimitRaised, WeightChange, at, money, vendor_path};
use crate::calendar;
use crate::file::value::show_duration;
use campaign::{Curve, Delivery, DistrictRange, Limits, Plan, Prize, Region, Round, Tranche, Vendor};
use std::collections::BTreeMap;

/// How the instants of a plan read: in its own zone.
pub(super) fn show_time(plan: &Plan, ms: u64) -> String {
    calendar::zone(&plan.time_zone).unwrap_or_else(|_| calendar::Zone::utc()).show(ms)
}

pub(super) fn first(plan: &Plan, diff: &mut Diff) {
    let what = format!("campaign {} is published for the first time", plan.campaign);
    diff.note_fixed("campaign".to_string(), None, Some(plan.name.clone()), what);
    for vendor in &plan.vendors {
        diff.note_fixed(format!("vendor:{}", vendor.id), None, Some(vendor.name.clone()), String::new());
    }
    for round in &plan.rounds {
        round_added(plan, round, diff);
    }
}

pub(super) fn plans(before: &Plan, after: &Plan, diff: &mut Diff) {
    if before.name != after.name {
        fixed(diff, "name", &before.name, &after.name);
    }
    if before.time_zone != after.time_zone {
        fixed(diff, "time_zone", &before.time_zone, &after.time_zone);
    }
    limits(&before.limits, &after.limits, diff);
    let stagger = |plan: &Plan| match plan.stagger.groups {
        0 | 1 => "all at once".to_string(),
        groups => format!("{groups} groups, {} apart", show_duration(u64::from(plan.stagger.step_ms))),
    };
    differ(diff, "stagger", stagger(before), stagger(after), "when groups of players begin");
    let pacing = |plan: &Plan| {
        let show = |ms: u32| show_duration(u64::from(ms));
        format!("{} to {}", show(plan.pacing.submit_min_ms), show(plan.pacing.submit_max_ms))
    };
    differ(diff, "client", pacing(before), pacing(after), "how often apps submit");
    vendors(&before.vendors, &after.vendors, diff);
    regions(&before.regions, &after.regions, diff);
    rounds(before, after, diff);
}

fn differ(diff: &mut Diff, path: &str, before: String, after: String, effect: &str) {
    if before != after {
        diff.note(path.to_string(), Some(before), Some(after), effect.to_string());
    }
}

fn fixed(diff: &mut Diff, path: &str, before: &str, after: &str) {
    diff.note_fixed(path.to_string(), Some(before.to_string()), Some(after.to_string()), String::new());
}

/// 0 is 'no limit' in a plan.
fn limit_text(n: u64, unit: &str) -> String {
    if n == 0 { "no limit".to_string() } else { format!("{}{unit}", count(u128::from(n))) }
}

fn limits(before: &Limits, after: &Limits, diff: &mut Diff) {
    let wins = [
        ("wins_per_round", before.wins_round, after.wins_round),
        ("wins_per_day", before.wins_day, after.wins_day),
        ("wins_per_campaign", before.wins_campaign, after.wins_campaign),
    ];
    for (key, old, new) in wins.into_iter().filter(|w| w.1 != w.2) {
        let raised = old != 0 && (new == 0 || new > old);
        if raised {
            diff.limits_raised.push(LimitRaised { limit: key, before: old, after: new });
        }
        let effect = if raised { "players may win more" } else { "players may win less" };
        let show = |n| Some(limit_text(u64::from(n), ""));
        diff.note(format!("limits.{key}"), show(old), show(new), effect.to_string());
    }
    let participation = |ms: u32| match ms {
        0 => "whole_round".to_string(),
        ms => show_duration(u64::from(ms)),
    };
    let (old, new) = (participation(before.participation_ms), participation(after.participation_ms));
    differ(diff, "limits.participation", old, new, "how long a player takes part in a round");
    let interval = |l: &Limits| show_duration(u64::from(l.interval_ms));
    differ(diff, "limits.interval", interval(before), interval(after), "how soon a player may try again");
    let shakes = |l: &Limits| l.shakes_per_second.to_string();
    differ(diff, "limits.shakes_per_second", shakes(before), shakes(after), "tries that shaking makes");
}

fn vendors(before: &[Vendor], after: &[Vendor], diff: &mut Diff) {
    for old in before.iter().filter(|old| after.iter().all(|new| new.id != old.id)) {
        diff.note_fixed(format!("vendor:{}", old.id), Some(old.name.clone()), None, "removed".to_string());
    }
    for new in after {
        let Some(old) = before.iter().find(|old| old.id == new.id) else {
            diff.note_fixed(format!("vendor:{}", new.id), None, Some(new.name.clone()), "added".to_string());
            continue;
        };
        if old.name != new.name {
            fixed(diff, &vendor_path(new.id, "name"), &old.name, &new.name);
        }
        let path = vendor_path(new.id, "release_per_second");
        speed(diff, path, old.release_per_second, new.release_per_second);
    }
}

fn regions(before: &[Region], after: &[Region], diff: &mut Diff) {
    let path = |region: &Region| format!("region:{}", region.name);
    for old in before.iter().filter(|old| after.iter().all(|new| new.name != old.name)) {
        diff.note(path(old), Some(districts(&old.districts)), None, "removed".to_string());
    }
    for new in after {
        let now = Some(districts(&new.districts));
        match before.iter().find(|old| old.name == new.name) {
            None => diff.note(path(new), None, now, "added".to_string()),
            Some(old) if old.districts == new.districts => {}
            Some(old) => {
                let effect = moved(&old.districts, &new.districts);
                diff.note(format!("{}.districts", path(new)), Some(districts(&old.districts)), now, effect);
            }
        }
    }
}

fn districts(ranges: &[DistrictRange]) -> String {
    let some: Vec<String> = ranges.iter().take(8).map(ToString::to_string).collect();
    let more = if ranges.len() > 8 { format!(" and {} more", ranges.len() - 8) } else { String::new() };
    some.join(", ") + &more
}

/// Which districts something can be won in now and could not before, and the other way round: both lists rise without
/// overlap.
fn moved(before: &[DistrictRange], after: &[DistrictRange]) -> String {
    let all = |ranges: &[DistrictRange]| ranges.iter().map(|r| u128::from(r.count())).sum::<u128>();
    let shared = |r: &DistrictRange| {
        let first = before.partition_point(|o| o.last < r.first);
        let meet = before[first..].iter().take_while(|o| o.first <= r.last);
        let part =
            |o: &DistrictRange| DistrictRange { first: o.first.max(r.first), last: o.last.min(r.last) };
        meet.map(|o| u128::from(part(o).count())).sum::<u128>()
    };
    let both: u128 = after.iter().map(shared).sum();
    match (all(after) - both, all(before) - both) {
        (0, 0) => "the same districts".to_string(),
        (more, 0) => format!("{} districts more", count(more)),
        (0, less) => format!("{} districts less", count(less)),
        (more, less) => format!("{} districts more, {} less", count(more), count(less)),
    }
}

/// Where a prize can be won.
fn where_won(plan: &Plan, prize: &Prize) -> String {
    let names: Vec<&str> = plan.regions_of(prize).map(|r| r.name.as_str()).collect();
    if names.is_empty() { "everywhere".to_string() } else { names.join(", ") }
}

fn prize_regions(
    (before, old): (&Plan, &Prize),
    (after, new): (&Plan, &Prize),
    path: String,
    diff: &mut Diff,
) {
    let (was, is) = (where_won(before, old), where_won(after, new));
    if was == is {
        return;
    }
    let effect = match (old.regions.is_everywhere(), new.regions.is_everywhere()) {
        (true, _) => "cannot be won elsewhere any more, nor where the district is not known".to_string(),
        (_, true) => "can be won in every district, and where it is not known".to_string(),
        _ => moved(&before.places().districts_of(old.regions), &after.places().districts_of(new.regions)),
    };
    diff.note(path, Some(was), Some(is), effect);
}

fn speed(diff: &mut Diff, path: String, before: u64, after: u64) {
    if before == after {
        return;
    }
    let faster = before != 0 && (after == 0 || after > before);
    diff.note_speed(&path, before, after);
    let effect = if faster { "may be released faster" } else { "is released more slowly" };
    let show = |n| Some(limit_text(n, "/s"));
    diff.note(path, show(before), show(after), effect.to_string());
}

fn rounds(before: &Plan, after: &Plan, diff: &mut Diff) {
    let old: BTreeMap<_, _> = before.rounds.iter().map(|r| (r.id, r)).collect();
    let new: BTreeMap<_, _> = after.rounds.iter().map(|r| (r.id, r)).collect();
    for round in before.rounds.iter().filter(|r| !new.contains_key(&r.id)) {
        diff.rounds_removed.push(round.id);
        let effect = format!("removed, with its {} prizes", round.prizes.len());
        let times = format!("{}, opens {}", round.name, show_time(before, round.open_ms));
        diff.note_fixed(format!("round:{}", round.id), Some(times), None, effect);
        for prize in &round.prizes {
            diff.note_budget(round.id, Some(prize), None);
        }
    }
    for round in &after.rounds {
        match old.get(&round.id) {
            Some(old) => round_changed((before, after), old, round, diff),
            None => round_added(after, round, diff),
        }
    }
}

fn round_added(plan: &Plan, round: &Round, diff: &mut Diff) {
    diff.rounds_added.push(round.id);
    let length = show_duration(round.close_ms - round.open_ms);
    let times = format!("{}, opens {} for {length}", round.name, show_time(plan, round.open_ms));
    diff.note_fixed(format!("round:{}", round.id), None, Some(times), String::new());
    for prize in &round.prizes {
        prize_added((plan, round), prize, diff);
    }
}

fn prize_added((plan, round): (&Plan, &Round), prize: &Prize, diff: &mut Diff) {
    diff.note_budget(round.id, None, Some(prize));
    let path = format!("prize:{}", at(round.id, prize.id));
    let mut what = format!("{}: {}, weight {}", prize.name, tranches(&prize.tranches), prize.weight);
    if !prize.regions.is_everywhere() {
        what += &format!(", only in {}", where_won(plan, prize));
    }
    diff.note_fixed(path, None, Some(what), String::new());
}

fn round_changed((was, plan): (&Plan, &Plan), old: &Round, new: &Round, diff: &mut Diff) {
    // Prizes name regions by their places in the plan's list.
    let same_names = || was.regions.iter().map(|r| &r.name).eq(plan.regions.iter().map(|r| &r.name));
    let path = |key: &str| format!("round:{}.{key}", new.id);
    if old.name != new.name {
        fixed(diff, &path("name"), &old.name, &new.name);
    }
    for (key, before, after) in [("open", old.open_ms, new.open_ms), ("close", old.close_ms, new.close_ms)] {
        if before != after {
            fixed(diff, &path(key), &show_time(plan, before), &show_time(plan, after));
        }
    }
    if (old.seed_key_id, old.seed_commitment) != (new.seed_key_id, new.seed_commitment) {
        fixed(diff, &path("seed"), "one commitment", "another");
    }
    for prize in old.prizes.iter().filter(|p| new.position(p.id).is_none()) {
        diff.note_budget(new.id, Some(prize), None);
        let path = format!("prize:{}", at(new.id, prize.id));
        diff.note_fixed(path, Some(prize.name.clone()), None, "removed".to_string());
    }
    for (position, prize) in new.prizes.iter().enumerate() {
        // Most rounds keep their prizes where they are; looking there first keeps large plans linear.
        let same = old.prizes.get(position).filter(|p| p.id == prize.id);
        match same.or_else(|| old.prizes.iter().find(|p| p.id == prize.id)) {
            Some(before) if before == prize && (prize.regions.is_everywhere() || same_names()) => {}
            Some(before) => {
                prize_changed((old, new), before, prize, diff);
                let path = format!("prize:{}.regions", at(new.id, prize.id));
                prize_regions((was, before), (plan, prize), path, diff);
            }
            None => prize_added((plan, new), prize, diff),
        }
    }
    let order = |r: &Round| r.prizes.iter().map(|p| p.id.0).collect::<Vec<_>>();
    let (mut before, mut after) = (order(old), order(new));
    if before != after {
        let text = (format!("{before:?}"), format!("{after:?}"));
        before.sort_unstable();
        after.sort_unstable();
        if before == after {
            fixed(diff, &path("order"), &text.0, &text.1);
        }
    }
}

fn prize_changed((was, round): (&Round, &Round), old: &Prize, new: &Prize, diff: &mut Diff) {
    let which = at(round.id, new.id);
    let path = |key: &str| format!("prize:{which}.{key}");
    diff.note_budget(round.id, Some(old), Some(new));
    let texts = [
        ("name", old.name.clone(), new.name.clone()),
        ("kind", old.kind.name().to_string(), new.kind.name().to_string()),
        ("vendor", old.vendor.to_string(), new.vendor.to_string()),
        ("deliver", delivery(old.delivery), delivery(new.delivery)),
    ];
    for (key, before, after) in texts.iter().filter(|t| t.1 != t.2) {
        fixed(diff, &path(key), before, after);
    }
    if old.tranches != new.tranches {
        let (before, after) = (tranches(&old.tranches), tranches(&new.tranches));
        let grows = new.tranches.starts_with(&old.tranches);
        let effect = if grows { "released along the curve from now on" } else { "" };
        diff.note_fixed(path("tranches"), Some(before), Some(after), effect.to_string());
    }
    if old.curve != new.curve {
        fixed(diff, &path("curve"), &curve(&old.curve), &curve(&new.curve));
    }
    if old.weight != new.weight {
        diff.weights.push(WeightChange {
            round: round.id,
            prize: new.id,
            before: old.weight,
            after: new.weight,
        });
        let share = |prize: &Prize, round: &Round| percent(u64::from(prize.weight), round.total_weight());
        let effect = format!("picked first by {} instead of {}", share(new, round), share(old, was));
        diff.note(path("weight"), Some(old.weight.to_string()), Some(new.weight.to_string()), effect);
    }
    speed(diff, path("speed_max"), old.speed_max, new.speed_max);
    let (before, after) = (old.catch_up_percent, new.catch_up_percent);
    if before != after {
        diff.note_speed(&path("catch_up"), u64::from(before), u64::from(after));
        fixed(diff, &path("catch_up"), &format!("{before}%"), &format!("{after}%"));
    }
    if old.paused != new.paused {
        let word = |paused: bool| Some(if paused { "paused" } else { "runs" }.to_string());
        diff.note_fixed(path("paused"), word(old.paused), word(new.paused), String::new());
        if new.paused { diff.paused.push(which) } else { diff.resumed.push(which) }
    }
}

/// A share with two decimals, rounded to the nearest.
pub(crate) fn percent(part: u64, whole: u64) -> String {
    if whole == 0 {
        return "0%".to_string();
    }
    let parts = (u128::from(part) * 10_000 * 2 + u128::from(whole)) / (u128::from(whole) * 2);
    format!("{}.{:02}%", parts / 100, parts % 100)
}

fn delivery(delivery: Delivery) -> String {
    match delivery {
        Delivery::AtOnce => "at_once".to_string(),
        Delivery::OnClaim { term_ms } => format!("on_claim within {}", show_duration(term_ms)),
    }
}

fn tranches(tranches: &[Tranche]) -> String {
    let each: Vec<String> = tranches.iter().take(8).map(tranche).collect();
    let more = if tranches.len() > 8 { format!(" + {} more", tranches.len() - 8) } else { String::new() };
    each.join(" + ") + &more
}

fn tranche(t: &Tranche) -> String {
    let units = count(u128::from(t.units));
    match (t.max.0, t.min == t.max) {
        (0, _) => format!("{units} units"),
        (_, true) => format!("{units} x {} yuan", money(t.max)),
        (_, false) => {
            format!("{units} of {} to {}, {} yuan in all", money(t.min), money(t.max), money(t.fen))
        }
    }
}

fn curve(curve: &Curve) -> String {
    let points = curve.points();
    if points.len() == 2 && points[0].at_ms == 0 {
        return "even".to_string();
    }
    let show = |p: &campaign::curve::Point| {
        format!("{}:{}", show_duration(p.at_ms), percent(p.share, campaign::curve::WHOLE))
    };
    let some: Vec<String> = points.iter().take(8).map(show).collect();
    let more =
        if points.len() > 8 { format!(" and {} points more", points.len() - 8) } else { String::new() };
    some.join(" ") + &more
}
