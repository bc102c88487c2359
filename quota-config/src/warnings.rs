//! What is legal and looks wrong, seen over the whole plan: odds, limits that can't be reached, vendors that fall
//! behind, rounds while people sleep, districts that can win nothing. What one value shows by itself is noted where it is read, and what speeds
//! leave unreleased in [`crate::capacity`].

use crate::bounds::{CATCH_UP_LONG_MS, DISTRICT_WINNERS, DURATION_MS_MAX, SMALL_HOURS};
use crate::calendar::Moment;
use crate::diff::count;
use crate::file::spec::CampaignSpec;
use crate::file::spec_prize::PrizeList;
use crate::file::spec_round::RoundSpec;
use crate::file::value::show_duration;
use crate::problem::{Path, Sink};
use campaign::{Delivery, DistrictRange, Places, Plan, Regions, Round};
use std::collections::{BTreeMap, BTreeSet};

/// Notes all of them.
pub(crate) fn note(spec: &CampaignSpec, plan: &Plan, sink: &mut Sink) {
    small_hours(spec, sink);
    unreachable_limits(spec, plan, sink);
    slow_vendors(spec, plan, sink);
    unused_regions(spec, sink);
    let places = plan.places();
    let mut told = BTreeSet::new();
    for list in spec.rounds.iter().filter_map(|r| r.prizes).filter(|list| told.insert(*list)) {
        left_out(&spec.lists[list], plan, &places, sink);
        small_regions(&spec.lists[list], plan, &places, sink);
    }
    // Rounds of the same list and length are alike: one of each is looked at.
    let rounds: BTreeMap<_, _> = plan.rounds.iter().map(|r| (r.id, r)).collect();
    let mut seen = BTreeSet::new();
    for round_spec in &spec.rounds {
        let Some(list) = round_spec.prizes else { continue };
        let Some(round) = rounds.get(&round_spec.id) else { continue };
        if seen.insert((list, round_spec.duration.value)) {
            odds(round, &spec.lists[list], sink);
            late_prizes(spec, round, &spec.lists[list], sink);
        }
    }
}

/// Rounds that open from one to six in the morning, where the file says so itself; a time relative to the
/// publishing is for trying things out.
fn small_hours(spec: &CampaignSpec, sink: &mut Sink) {
    for round in &spec.rounds {
        let times = || round.opens.iter().filter_map(|(moment, _)| fixed(*moment));
        let Some(ms) = times().find(|ms| spec.zone.hour(*ms).is_some_and(|h| SMALL_HOURS.contains(&h)))
        else {
            continue;
        };
        let all = times().filter(|ms| spec.zone.hour(*ms).is_some_and(|h| SMALL_HOURS.contains(&h))).count();
        let more = if all > 1 { format!(", and {} more of its openings", all - 1) } else { String::new() };
        let what = format!("round {} opens at {}{more}: in the small hours", round.id, spec.zone.show(ms));
        let cure = format!("few people play then: check the time and the zone, {}", spec.zone.name);
        sink.warning(round.opens_mark, &round.path, what, cure);
    }
}

fn fixed(moment: Moment) -> Option<u64> {
    match moment {
        Moment::At(ms) => Some(ms),
        Moment::Relative(_) => None,
    }
}

/// Win limits above what the interval between entries lets a player win: each entry wins once at most.
fn unreachable_limits(spec: &CampaignSpec, plan: &Plan, sink: &mut Sink) {
    let limits = plan.limits;
    let entries = |r: &Round| {
        let length = r.close_ms - r.open_ms;
        let time = match u64::from(limits.participation_ms) {
            0 => length,
            ms => ms.min(length),
        };
        time.div_ceil(u64::from(limits.interval_ms.max(1)))
    };
    let in_round = |r: &Round| match u64::from(limits.wins_round) {
        0 => entries(r),
        most => entries(r).min(most),
    };
    let Some(longest) = plan.rounds.iter().map(entries).max() else { return };
    let mut days: BTreeMap<u32, u64> = BTreeMap::new();
    for round in &plan.rounds {
        *days.entry(plan.day_at(round.open_ms)).or_default() += in_round(round);
    }
    // A round over midnight counts into two days: then a day has more room than reckoned here, and none is noted.
    let over_midnight = plan.rounds.iter().any(|r| plan.day_at(r.open_ms) != plan.day_at(r.close_ms - 1));
    let day = days.values().copied().max().unwrap_or(0);
    let all: u64 = plan.rounds.iter().map(in_round).sum();
    let most = [
        ("wins_per_round", limits.wins_round, longest, "entries of one player fit into a round"),
        (
            "wins_per_day",
            limits.wins_day,
            if over_midnight { u64::MAX } else { day },
            "wins of one player fit into a day",
        ),
        ("wins_per_campaign", limits.wins_campaign, all, "wins of one player fit into the campaign"),
    ];
    for (key, limit, room, what) in most {
        if limit != 0 && u64::from(limit) > room {
            let what = format!("no player can win {limit} times: only {room} {what}");
            let cure = "shorten `interval`, lengthen the rounds, or write what you mean";
            sink.warning(spec.limits_mark, &Path::ROOT.key("limits").key(key), what, cure);
        }
    }
}

/// Prizes that their weight gives to nobody.
///
/// An entry picks a prize by weight and takes the next one that is winnable, so a round has as many wins as units,
/// and a prize is picked first in share-of-weight of them. Where that expectation is below one, what the weight
/// promises happens to nobody: the units go out by falling through only, when the prizes before it are out.
fn odds(round: &Round, list: &PrizeList, sink: &mut Sink) {
    let weights = u128::from(round.total_weight());
    let units: u128 = round.prizes.iter().map(|p| u128::from(p.units())).sum();
    for prize in round.prizes.iter().filter(|p| p.weight > 0) {
        if u128::from(prize.weight) * units >= weights {
            continue;
        }
        let Some(spec) = list.prizes.iter().find(|s| s.id == prize.id) else { continue };
        let least = weights.div_ceil(units.max(1));
        let what = format!(
            "weight {} of {} in all: with {} units to win in the round, less than one win is expected to pick it",
            prize.weight,
            count(weights),
            count(units)
        );
        let cure = format!(
            "it would go out by falling through only: write weight 0 if that is meant, or at least {least}"
        );
        sink.warning(spec.mark, &format!("{}.weight", spec.path), what, cure);
    }
}

/// Prizes whose first unit comes when those who began with the round take part no more.
fn late_prizes(spec: &CampaignSpec, round: &Round, list: &PrizeList, sink: &mut Sink) {
    let participation = u64::from(spec.limits.participation_ms);
    if participation == 0 {
        return;
    }
    let stagger = spec.stagger.value;
    let last_group = u64::from(stagger.groups.saturating_sub(1)) * u64::from(stagger.step_ms);
    for prize in &round.prizes {
        // A curve may begin with a flat line.
        let points = prize.curve.points();
        let begin = points.windows(2).find(|p| p[1].share > 0).map_or(0, |p| p[0].at_ms);
        if begin < last_group + participation {
            continue;
        }
        let Some(prize_spec) = list.prizes.iter().find(|s| s.id == prize.id) else { continue };
        let what = format!(
            "its first unit comes {} after the opening, when those who began with the round take part no more",
            show_duration(begin)
        );
        let cure = format!(
            "release it earlier, or lengthen `limits.participation` ({} now)",
            show_duration(participation)
        );
        sink.warning(prize_spec.curve.mark, &format!("{}.curve", prize_spec.path), what, cure);
    }
}

/// Vendors that, at the speed they state, deliver for long after a round. Only prizes that go out at once count:
/// claims come when players like.
fn slow_vendors(spec: &CampaignSpec, plan: &Plan, sink: &mut Sink) {
    for vendor in &spec.vendors {
        let Some(speed) = vendor.deliver_per_second else { continue };
        let mut backlog = 0u128;
        let (mut free_at, mut worst) = (0u64, None::<(u128, &Round)>);
        for round in &plan.rounds {
            let at_once =
                |p: &&campaign::Prize| p.vendor == vendor.vendor.id && p.delivery == Delivery::AtOnce;
            let units: u128 = round.prizes.iter().filter(at_once).map(|p| u128::from(p.units())).sum();
            let delivered = |ms: u64| u128::from(ms) * u128::from(speed.value) / 1000;
            backlog = backlog.saturating_sub(delivered(round.open_ms.saturating_sub(free_at)));
            // During the round it delivers what there was, and what comes.
            backlog = (backlog + units).saturating_sub(delivered(round.close_ms - round.open_ms));
            free_at = round.close_ms;
            if worst.is_none_or(|(most, _)| backlog > most) {
                worst = Some((backlog, round));
            }
        }
        let Some((backlog, round)) = worst else { continue };
        let ms = (backlog * 1000 / u128::from(speed.value)).min(u128::from(DURATION_MS_MAX)) as u64;
        if ms < CATCH_UP_LONG_MS {
            continue;
        }
        let what = format!(
            "vendor {} delivers {} a second: {} units are still to deliver when round {} closes, {} of work",
            vendor.vendor.id,
            speed.value,
            count(backlog),
            round.id,
            rough(ms)
        );
        let cure = "agree on a higher speed, release more slowly, or tell players that they will wait";
        let path = format!("vendors[{}].deliver_per_second", vendor.index);
        sink.warning(speed.mark, &path, what, cure);
    }
}

/// Regions that no prize names.
fn unused_regions(spec: &CampaignSpec, sink: &mut Sink) {
    let used = spec.lists.iter().flat_map(|l| &l.prizes).fold(0, |bits, p| bits | p.regions.value.0);
    for (i, region) in spec.regions.iter().enumerate().filter(|(i, _)| used >> i & 1 == 0) {
        let what = format!("no prize is limited to region {}", spec.regions[i].region.name);
        let cure = "name it under `regions` of a prize, or take it out";
        let (regions, name) = (Path::ROOT.key("regions"), &region.region.name);
        sink.warning(region.mark, &regions.key(name), what, cure);
    }
}

/// Rounds in which a district can win nothing while others can: each prize is limited to regions.
fn left_out(list: &PrizeList, plan: &Plan, places: &Places, sink: &mut Sink) {
    if list.prizes.is_empty() || list.prizes.iter().any(|p| p.regions.value.is_everywhere()) {
        return;
    }
    let all = list.prizes.iter().fold(0, |bits, p| bits | p.regions.value.0);
    let what = match places.stretches().find(|(_, here)| here & all == 0) {
        Some((districts, here)) => {
            let names: Vec<&str> = Regions(here).positions().map(|i| plan.regions[i].name.as_str()).collect();
            let word = if districts.count() == 1 { "district" } else { "districts" };
            format!(
                "every prize is limited to regions, and {word} {districts} ({}) can win nothing, as whoever is in no \
                 region",
                names.join(", ")
            )
        }
        None => "every prize is limited to regions: whoever is in none of them, or in a district that is not known, \
                 can win nothing"
            .to_string(),
    };
    sink.warning(list.mark, &list.path, what, "add a prize without `regions`, or tell players who can win");
}

/// Prizes that need very many winners from each of few districts: what stays there goes to nobody else.
fn small_regions(list: &PrizeList, plan: &Plan, places: &Places, sink: &mut Sink) {
    for prize in list.prizes.iter().filter(|p| !p.regions.value.is_everywhere()) {
        let districts: u64 = places.districts_of(prize.regions.value).iter().map(DistrictRange::count).sum();
        let units: u64 = prize.tranches.iter().map(|t| t.units).sum();
        let winners = units.div_ceil(u64::from(plan.limits.wins_round.max(1)));
        if districts == 0 || winners <= districts.saturating_mul(DISTRICT_WINNERS) {
            continue;
        }
        let what = format!(
            "{} units for {} {} may not all be given out: at up to {} of them to one player in a round, {} players of \
             its regions have to win",
            count(units.into()),
            count(districts.into()),
            if districts == 1 { "district" } else { "districts" },
            plan.limits.wins_round.max(1),
            count(winners.into())
        );
        let cure = "what is left there goes to nobody else: plan fewer units, or widen its regions";
        sink.warning(prize.regions.mark, &format!("{}.regions", prize.path), what, cure);
    }
}

/// To a tenth of an hour, rounded up.
fn rough(ms: u64) -> String {
    let tenths = ms.div_ceil(360_000);
    format!("{}.{} hours", tenths / 10, tenths % 10)
}

/// The prizes of a round, if it has any.
pub(crate) fn list_of<'s>(spec: &'s CampaignSpec, round: &RoundSpec) -> Option<&'s PrizeList> {
    round.prizes.map(|list| &spec.lists[list])
}
