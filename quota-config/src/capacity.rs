//! Whether prizes can be released at the speeds that the file allows.
//!
//! A curve says what is due by when; a speed limit is a queue that what is due passes through. A prize's own
//! limit that is too slow leaves units over, which is legal (warning). A vendor's limit that is too slow leaves
//! units that have been released and not granted when the tail begins, and they would be stranded (error).
//!
//! Curves are lines between points, and behind a limit they stay concave between those points, so that looking
//! at the points alone is exact. Slots round a speed down; [`SlotRate`] says by how much.

use crate::file::spec::CampaignSpec;
use crate::file::spec_prize::PrizeSpec;
use crate::file::value::show_duration;
use crate::problem::Sink;
use campaign::curve::WHOLE;
use campaign::pace::SlotRate;
use campaign::{Prize, SLOT_MS, VendorId};
use std::collections::BTreeMap;

/// Units times [`WHOLE`]: what a curve releases, without a rounding.
type Parts = u128;

/// Checks every list of prizes in every length of round it is used in.
pub(crate) fn check(spec: &CampaignSpec, lists: &BTreeMap<(usize, u64), Vec<Prize>>, sink: &mut Sink) {
    let mut worst: BTreeMap<VendorId, Shortage> = BTreeMap::new();
    for ((list, duration_ms), prizes) in lists {
        let specs = &spec.lists[*list].prizes;
        let mut passed: Vec<Passed<'_>> = prizes.iter().map(Passed::new).collect();
        for (place, passed) in passed.iter().enumerate() {
            // Nearly always it stands where its plan stands.
            let id = passed.prize.id;
            let there = specs.get(place).filter(|s| s.id == id);
            if let Some(prize_spec) = there.or_else(|| specs.iter().find(|s| s.id == id)) {
                check_prize(passed, prize_spec, *duration_ms, sink);
            }
        }
        passed.sort_by_key(|p| p.prize.vendor);
        for of_vendor in passed.chunk_by(|a, b| a.prize.vendor == b.prize.vendor) {
            let id = of_vendor[0].prize.vendor;
            let vendor = spec.vendors.iter().find(|v| v.vendor.id == id);
            let Some(rate) = vendor.and_then(|v| SlotRate::per_second(v.vendor.release_per_second)) else {
                continue;
            };
            let Some(mut shortage) = vendor_shortage(of_vendor, rate) else { continue };
            let round =
                spec.rounds.iter().find(|r| r.prizes == Some(*list) && r.duration.value == *duration_ms);
            shortage.round = round.map_or(0, |r| r.id.0);
            let entry = worst.entry(id).or_insert(shortage);
            if shortage.needed_per_second > entry.needed_per_second {
                *entry = shortage;
            }
        }
    }
    for vendor in &spec.vendors {
        let Some(shortage) = worst.get(&vendor.vendor.id) else { continue };
        let what = format!(
            "vendor {} releases at most {} a second, {} units in the {} before the curves of round {} end, \
             but its prizes have {} to release there: the rest would be stranded",
            vendor.vendor.id,
            vendor.vendor.release_per_second,
            shortage.room,
            show_duration(shortage.window_ms),
            shortage.round,
            shortage.due,
        );
        let cure = format!("allow at least {} a second, or plan fewer units", shortage.needed_per_second);
        sink.error(vendor.speed_mark, &format!("vendors[{}].release_per_second", vendor.index), what, cure);
    }
}

/// More units than a vendor can release in the time.
#[derive(Clone, Copy)]
struct Shortage {
    round: u32,
    due: u64,
    room: u64,
    window_ms: u64,
    needed_per_second: u64,
}

/// Units that surely fit into `window_ms`. A window of any alignment has one full slot less than its length.
fn room(window_ms: u64, rate: SlotRate) -> u64 {
    let slots = (window_ms / SLOT_MS).saturating_sub(1);
    (slots / u64::from(rate.every)).saturating_mul(u64::from(rate.per_slot))
}

/// What the rate lets through in `ms`, on average.
fn passes(ms: u64, rate: SlotRate) -> Parts {
    Parts::from(ms) * Parts::from(rate.per_slot) * Parts::from(WHOLE)
        / Parts::from(SLOT_MS * u64::from(rate.every))
}

/// A prize, and what has come out behind its own limit at each of its curve's points: (ms, parts).
struct Passed<'a> {
    prize: &'a Prize,
    rate: Option<SlotRate>,
    out: Vec<(u64, Parts)>,
}

impl<'a> Passed<'a> {
    fn new(prize: &'a Prize) -> Passed<'a> {
        let rate = SlotRate::per_second(prize.speed_max);
        let limit = rate.unwrap_or(SlotRate::UNLIMITED);
        let units = Parts::from(prize.units());
        let mut out: Vec<(u64, Parts)> = Vec::with_capacity(prize.curve.points().len());
        for point in prize.curve.points() {
            let due = units * Parts::from(point.share);
            let parts =
                out.last().map_or(due, |(at, parts)| due.min(parts + passes(point.at_ms - at, limit)));
            out.push((point.at_ms, parts));
        }
        Passed { prize, rate, out }
    }

    /// What has come out at an instant, between points.
    fn at(&self, ms: u64) -> Parts {
        let i = self.out.partition_point(|o| o.0 <= ms);
        let Some((from, parts)) = i.checked_sub(1).map(|i| self.out[i]) else { return 0 };
        let due = Parts::from(self.prize.units()) * Parts::from(self.prize.curve.share(ms));
        due.min(parts + passes(ms - from, self.rate.unwrap_or(SlotRate::UNLIMITED)))
    }

    /// What comes out in all.
    fn all(&self) -> Parts {
        self.out.last().map_or(0, |o| o.1)
    }
}

fn check_prize(passed: &Passed<'_>, spec: &PrizeSpec, duration_ms: u64, sink: &mut Sink) {
    let (Some(speed), Some(rate)) = (spec.speed_max, passed.rate) else { return };
    let prize = passed.prize;
    let units = prize.units();
    let path = || format!("{}.speed_max", spec.path);
    // One slot's worth of slack: a curve as steep as the limit is no mistake.
    let slack = Parts::from(rate.per_slot) * Parts::from(WHOLE);
    let released = passed.all();
    if released + slack < Parts::from(units) * Parts::from(WHOLE) {
        let what = format!(
            "at {} a second only about {} of {units} units can be released in a round of {}",
            speed.value,
            released / Parts::from(WHOLE),
            show_duration(duration_ms)
        );
        let span_ms = prize.curve.end_ms() - prize.curve.begin_ms();
        let cure = format!("the rest stays unissued: allow at least {}", per_second(units, span_ms));
        sink.warning(speed.mark, &path(), what, cure);
        return;
    }
    let lags = prize
        .curve
        .points()
        .iter()
        .zip(&passed.out)
        .find(|(point, (_, parts))| parts + slack < Parts::from(units) * Parts::from(point.share));
    if let Some((point, _)) = lags {
        let what = format!(
            "at {} a second the prize can't follow its curve: it is behind {} after the opening",
            speed.value,
            show_duration(point.at_ms)
        );
        sink.warning(
            speed.mark,
            &path(),
            what,
            "raise it or flatten the curve; what is behind is caught up later",
        );
    }
}

/// The speed that releases so many units in the time, rounded up to what slots can hold.
fn per_second(units: u64, window_ms: u64) -> u64 {
    let slots = (window_ms / SLOT_MS).saturating_sub(1).max(1);
    units.div_ceil(slots).saturating_mul(1000 / SLOT_MS)
}

/// Looks for the window before the curves' end in which a vendor's prizes have most above its speed.
fn vendor_shortage(prizes: &[Passed<'_>], rate: SlotRate) -> Option<Shortage> {
    let end_ms = prizes.iter().map(|p| p.prize.curve.end_ms()).max()?;
    let mut times: Vec<u64> = prizes.iter().flat_map(|p| p.out.iter().map(|o| o.0)).collect();
    times.sort_unstable();
    times.dedup();
    let total: Parts = prizes.iter().map(Passed::all).sum();
    let mut worst: Option<Shortage> = None;
    for time in times {
        let before: Parts = prizes.iter().map(|p| p.at(time)).sum();
        let due = ((total - before) / Parts::from(WHOLE)) as u64;
        let window_ms = end_ms - time;
        let room = room(window_ms, rate);
        let needed_per_second = per_second(due, window_ms);
        if due > room && worst.is_none_or(|w| needed_per_second > w.needed_per_second) {
            worst = Some(Shortage { round: 0, due, room, window_ms, needed_per_second });
        }
    }
    worst
}
