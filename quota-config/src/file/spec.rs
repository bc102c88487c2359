//! A campaign file as checked values: everything that can be said about a value by itself has been said here;
//! what needs times, vendors' capacity or the plan before is left to the compiler.

use super::reader::{At, Keys, Wrong, at, list, name, scalar};
use super::spec_prize::{PrizeList, read_prizes};
use super::spec_region::{RegionNames, RegionSpec, read_regions};
use super::spec_round::{RoundSpec, read_rounds};
use super::value::{duration_within, show_duration, whole, whole32};
use super::yaml::{Data, Node};
use crate::bounds::{INTERVAL_MS_MAX, SPEED_MAX, VENDORS_MAX};
use crate::calendar::{Moment, Zone, moment, zone};
use crate::problem::{Mark, Path, Sink};
use campaign::plan::{ClientPacing, Stagger};
use campaign::{CampaignId, Limits, Vendor, VendorId};
use std::collections::{BTreeMap, BTreeSet};

/// A campaign file.
pub(crate) struct CampaignSpec {
    pub campaign: At<CampaignId>,
    pub name: String,
    pub zone: Zone,
    pub zone_mark: Mark,
    /// What `+20s` counts from; `None`: the moment of publishing.
    pub start: Option<Moment>,
    pub vendors: Vec<VendorSpec>,
    /// By name, as in the plan.
    pub regions: Vec<RegionSpec>,
    pub limits: Limits,
    /// Where the limits stand, or the campaign itself.
    pub limits_mark: Mark,
    pub stagger: At<Stagger>,
    pub pacing: ClientPacing,
    /// Prize lists: the sets by name, then those written inside rounds.
    pub lists: Vec<PrizeList>,
    pub rounds: Vec<RoundSpec>,
    pub rounds_mark: Mark,
}

/// A vendor.
pub(crate) struct VendorSpec {
    pub vendor: Vendor,
    /// Where its release speed stands, or the vendor itself.
    pub speed_mark: Mark,
    pub index: usize,
    /// How fast it delivers by its own word, units a second. No limit of the platform: it is only reckoned with.
    pub deliver_per_second: Option<At<u64>>,
}

/// What prizes may refer to: the vendors' ids, those of vendors with mistakes too.
pub(crate) type VendorIds = BTreeSet<u32>;

/// What prizes may refer to.
#[derive(Clone, Copy)]
pub(crate) struct Known<'a> {
    pub vendors: &'a VendorIds,
    pub regions: &'a RegionNames,
}

const KEYS: [&str; 12] = [
    "campaign",
    "name",
    "time_zone",
    "start",
    "vendors",
    "limits",
    "stagger",
    "client",
    "regions",
    "prize_sets",
    "rounds",
    "description",
];

/// Reads the tree. `None` after an error that leaves nothing to go on with; other errors are in the sink.
pub(crate) fn read(root: &Node<'_>, sink: &mut Sink) -> Option<CampaignSpec> {
    let path = Path::ROOT;
    let keys = Keys::open(root, &path, &KEYS, sink)?;
    let campaign =
        keys.need("campaign", "give the campaign's number: `campaign: 1`", sink, at(scalar(whole32(1))));
    let title = keys.need("name", "give the campaign a name for people", sink, scalar(name));
    keys.opt("description", sink, scalar(|_| Ok(())));
    let zone_name = keys.need("time_zone", "name it: `time_zone: Asia/Shanghai`", sink, at(scalar(zone)));
    // Times can't be judged without the zone; UTC stands in so that everything else still is.
    let (zone, zone_mark) = zone_name.map_or_else(|| (Zone::utc(), keys.mark), |z| (z.value, z.mark));
    let start = keys.opt("start", sink, scalar(|text| start(text, &zone))).flatten();
    let limits = keys.opt("limits", sink, read_limits).unwrap_or_else(default_limits);
    let limits_mark = keys.get("limits").map_or(keys.mark, |n| n.mark);
    let stagger = keys.opt("stagger", sink, at(read_stagger));
    let stagger = stagger.unwrap_or(At { value: Stagger::default(), mark: keys.mark });
    let pacing = keys.opt("client", sink, |node, path, sink| read_pacing(node, path, limits, sink));
    let pacing = pacing.unwrap_or_else(|| default_pacing(limits));
    let (vendors, vendor_ids) =
        keys.need("vendors", "list who delivers the prizes", sink, read_vendors).unwrap_or_default();
    let (regions, region_names) = keys.opt("regions", sink, read_regions).unwrap_or_default();
    let known = Known { vendors: &vendor_ids, regions: &region_names };
    let mut lists = Vec::new();
    let mut sets = BTreeMap::new();
    keys.opt("prize_sets", sink, |node, path, sink| {
        read_sets(node, path, known, (&mut lists, &mut sets), sink)
    });
    let rounds_mark = keys.get("rounds").map_or(keys.mark, |n| n.mark);
    let rounds = keys.need("rounds", "list the rounds of the campaign", sink, |node, path, sink| {
        read_rounds(node, path, &zone, known, (&mut lists, &sets), sink)
    })?;
    let campaign = campaign?;
    let campaign = At { value: CampaignId(campaign.value), mark: campaign.mark };
    let name = title?;
    Some(CampaignSpec {
        campaign,
        name,
        zone,
        zone_mark,
        start,
        vendors,
        regions,
        limits,
        limits_mark,
        stagger,
        pacing,
        lists,
        rounds,
        rounds_mark,
    })
}

fn start(text: &str, zone: &Zone) -> Result<Option<Moment>, Wrong> {
    if text == "now" {
        return Ok(None);
    }
    match moment(text, zone)? {
        Moment::Relative(_) => Err(Wrong::new(
            format!("`{text}` counts from the start itself"),
            "write `now` (the moment of publishing) or a time as in 2026-02-16 20:00",
        )),
        fixed => Ok(Some(fixed)),
    }
}

fn default_limits() -> Limits {
    Limits { interval_ms: 2_000, shakes_per_second: 5, ..Limits::default() }
}

fn read_limits(node: &Node<'_>, path: &Path<'_>, sink: &mut Sink) -> Option<Limits> {
    const WINS: [&str; 3] = ["wins_per_round", "wins_per_day", "wins_per_campaign"];
    let known = [WINS[0], WINS[1], WINS[2], "participation", "interval", "shakes_per_second"];
    let keys = Keys::open(node, path, &known, sink)?;
    let default = default_limits();
    let wins = WINS.map(|key| keys.opt(key, sink, at(scalar(wins))));
    let participation = keys.opt("participation", sink, at(scalar(participation)));
    let interval = keys.opt("interval", sink, scalar(duration_within(1, INTERVAL_MS_MAX)));
    let shakes = keys.opt("shakes_per_second", sink, scalar(whole(1, 100)));
    for (short, long) in [(0, 1), (1, 2), (0, 2)] {
        if let (Some(a), Some(b)) = (wins[short], wins[long])
            && a.value > b.value
        {
            let what =
                format!("{} allows {} wins, but {} only {}", WINS[short], a.value, WINS[long], b.value);
            sink.warning(
                a.mark,
                &path.key(WINS[short]),
                what,
                "the lower one holds: write the same number in both",
            );
        }
    }
    let interval_ms = interval.map_or(default.interval_ms, |ms| ms as u32);
    if let Some(p) = participation
        && p.value > 0
        && p.value < u64::from(interval_ms)
    {
        let interval = show_duration(u64::from(interval_ms));
        let what =
            format!("participation of {} is shorter than the interval of {interval}", show_duration(p.value));
        sink.warning(
            p.mark,
            &path.key("participation"),
            what,
            "each player has one entry a round: lengthen it",
        );
    }
    let [round, day, campaign] = wins.map(|w| w.map_or(0, |w| w.value as u16));
    Some(Limits {
        wins_round: round,
        wins_day: day,
        wins_campaign: campaign,
        participation_ms: participation.map_or(0, |p| p.value as u32),
        interval_ms,
        shakes_per_second: shakes.map_or(default.shakes_per_second, |n| n as u16),
    })
}

fn wins(text: &str) -> Result<u64, Wrong> {
    whole(1, u64::from(u16::MAX))(text).map_err(|mut wrong| {
        wrong.cure += "; leave the key out for no such limit";
        wrong
    })
}

fn participation(text: &str) -> Result<u64, Wrong> {
    const LONGEST_MS: u64 = 30 * 86_400_000;
    if text == "whole_round" {
        return Ok(0);
    }
    duration_within(1_000, LONGEST_MS)(text).map_err(|mut wrong| {
        wrong.cure += ", or `whole_round`";
        wrong
    })
}

fn read_stagger(node: &Node<'_>, path: &Path<'_>, sink: &mut Sink) -> Option<Stagger> {
    let keys = Keys::open(node, path, &["groups", "step"], sink)?;
    let groups = keys.need("groups", "give the number of groups", sink, scalar(whole(1, 10_000)));
    let step =
        keys.need("step", "give the time between groups", sink, scalar(duration_within(1, INTERVAL_MS_MAX)));
    Some(Stagger { groups: groups? as u32, step_ms: step? as u32 })
}

fn default_pacing(limits: Limits) -> ClientPacing {
    let submit_min_ms = limits.interval_ms.max(1_000);
    ClientPacing { submit_min_ms, submit_max_ms: submit_min_ms.max(3_000) }
}

fn read_pacing(node: &Node<'_>, path: &Path<'_>, limits: Limits, sink: &mut Sink) -> Option<ClientPacing> {
    let keys = Keys::open(node, path, &["submit_min", "submit_max"], sink)?;
    let default = default_pacing(limits);
    let min = keys.opt("submit_min", sink, at(scalar(duration_within(1, INTERVAL_MS_MAX))));
    let max = keys.opt("submit_max", sink, at(scalar(duration_within(1, INTERVAL_MS_MAX))));
    let min_ms = min.map_or(default.submit_min_ms, |m| m.value as u32);
    if let Some(min) = min
        && min.value < u64::from(limits.interval_ms)
    {
        let interval = show_duration(u64::from(limits.interval_ms));
        let what = format!("submit_min is below the least interval between entries, {interval}");
        sink.warning(
            min.mark,
            &path.key("submit_min"),
            what,
            format!("clients are told {interval}: write that"),
        );
    }
    let max_ms = max.map_or(default.submit_max_ms.max(min_ms), |m| m.value as u32);
    if max_ms < min_ms {
        let mark = max.map_or(keys.mark, |m| m.mark);
        let what = format!("submit_max is below submit_min, {}", show_duration(u64::from(min_ms)));
        sink.error(mark, &path.key("submit_max"), what, "write at least that");
    }
    Some(ClientPacing { submit_min_ms: min_ms, submit_max_ms: max_ms })
}

fn read_vendors(node: &Node<'_>, path: &Path<'_>, sink: &mut Sink) -> Option<(Vec<VendorSpec>, VendorIds)> {
    let nodes = list(node, path, sink)?;
    if nodes.len() > VENDORS_MAX {
        let what = format!("{} vendors", nodes.len());
        sink.error(node.mark, path, what, format!("write at most {VENDORS_MAX}"));
        return None;
    }
    let (mut vendors, mut ids) = (Vec::new(), VendorIds::new());
    for (index, node) in nodes.iter().enumerate() {
        vendors.extend(read_vendor(node, &path.index(index), index, &mut ids, sink));
    }
    Some((vendors, ids))
}

fn read_vendor(
    node: &Node<'_>,
    path: &Path<'_>,
    index: usize,
    ids: &mut VendorIds,
    sink: &mut Sink,
) -> Option<VendorSpec> {
    let keys = Keys::open(node, path, &["id", "name", "release_per_second", "deliver_per_second"], sink)?;
    let id = keys.need("id", "give the vendor's number", sink, at(scalar(whole32(1))));
    if let Some(id) = id
        && !ids.insert(id.value)
    {
        let what = format!("vendor {} stands twice", id.value);
        sink.error(id.mark, &path.key("id"), what, "each vendor has a number of its own");
    }
    let title = keys.need("name", "give the vendor a name for people", sink, scalar(name));
    let speed = keys.opt(
        "release_per_second",
        sink,
        scalar(|text| {
            whole(1, SPEED_MAX)(text).map_err(|mut wrong| {
                wrong.cure += "; leave the key out for no such limit";
                wrong
            })
        }),
    );
    let deliver_per_second = keys.opt("deliver_per_second", sink, at(scalar(whole(1, SPEED_MAX))));
    let speed_mark = keys.get("release_per_second").map_or(keys.mark, |n| n.mark);
    let vendor = Vendor { id: VendorId(id?.value), name: title?, release_per_second: speed.unwrap_or(0) };
    Some(VendorSpec { vendor, speed_mark, index, deliver_per_second })
}

fn read_sets(
    node: &Node<'_>,
    path: &Path<'_>,
    known: Known<'_>,
    (lists, sets): (&mut Vec<PrizeList>, &mut BTreeMap<String, usize>),
    sink: &mut Sink,
) -> Option<()> {
    let Data::Map(entries) = &node.data else {
        let what = format!("{} where a map belongs", node.kind());
        sink.error(node.mark, path, what, "write `name:` and below it a list of prizes");
        return None;
    };
    for entry in entries {
        let path = path.key(&entry.key);
        if sets.insert(entry.key.to_string(), lists.len()).is_some() {
            sink.error(entry.mark, &path, "the prize set stands twice", "keep one of them");
        }
        lists.push(read_prizes(&entry.value, &path, known, sink));
    }
    Some(())
}
