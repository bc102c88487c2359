//! What a person should look at before the evening.

use super::ground::Ground;
use super::report::words::{LocalTime, number};
use super::result::{Rehearsal, Warning};

/// Entries for each unit left that make it certain enough that all of them are won; as reconcile has it.
const ENTRIES_PER_UNIT: f64 = 10.0;
/// A vendor that is done so long after its last order is late, ms.
const LATE_MS: u64 = 60_000;
/// Wins may be behind their curve by this part of the units.
const BEHIND_PART: u64 = 10;
/// Submits a second that a machine of two cores was measured to take, its clients on the same machine.
const NODE_PER_SECOND: u64 = 830_000;
/// Most warnings; beyond that their number is told.
const WARNINGS_MAX: usize = 200;

/// All warnings.
pub(super) fn of(ground: &Ground, r: &Rehearsal) -> Vec<Warning> {
    let time = LocalTime::new(&r.days);
    let mut out = Vec::new();
    let mut warn = |code, text, text_zh| out.push(Warning { code, text, text_zh });
    if r.totals.players < r.setup.players {
        let (came, all) = (number(r.totals.players), number(r.setup.players));
        warn(
            "players",
            format!("of {all} players only {came} came"),
            format!("{all} 名玩家中只有 {came} 名到场"),
        );
    }
    for node in r.nodes.iter().filter(|n| n.peak_per_second > NODE_PER_SECOND) {
        let (n, peak, at) = (node.node, number(node.peak_per_second), time.show(node.peak_ms));
        let most = number(NODE_PER_SECOND);
        warn(
            "load",
            format!(
                "node {n} gets {peak} submits in the second of {at}; a node of two cores was measured at {most}: take more nodes, more stagger groups or a longer interval"
            ),
            format!(
                "节点 {n} 在 {at} 一秒内收到 {peak} 次提交，双核节点实测为 {most}：请增加节点、错峰组或提交间隔"
            ),
        );
    }
    regions(ground, &mut warn);
    rounds(ground, r, &mut warn);
    vendors(r, &time, &mut warn);
    if out.len() > WARNINGS_MAX {
        let more = out.len() - WARNINGS_MAX;
        out.truncate(WARNINGS_MAX);
        let (text, text_zh) = (format!("and {more} more warnings"), format!("另有 {more} 条警告"));
        out.push(Warning { code: "more", text, text_zh });
    }
    out
}

/// Prizes that are limited to regions in which no player is.
fn regions(ground: &Ground, warn: &mut impl FnMut(&'static str, String, String)) {
    let all = ground.plan.rounds.iter().flat_map(|r| r.prizes.iter().map(move |p| (r, p)));
    let limited: Vec<_> = all.filter(|(_, p)| !p.regions.is_everywhere()).collect();
    let Some(districts) = &ground.setup.districts else {
        if !limited.is_empty() {
            let n = number(limited.len() as u64);
            warn(
                "regions",
                format!(
                    "nobody's district is known here, so none of the {n} prizes that are limited to regions is won in \
                     this rehearsal: say where players are with --districts"
                ),
                format!(
                    "预演未给出玩家所在区域，{n} 种限定地区的奖品在本次预演中不会被抽中：请用 --districts 指定玩家分布"
                ),
            );
        }
        return;
    };
    let places = ground.plan.places();
    for (round, prize) in limited {
        if !districts.any(|district| prize.regions.allow(places.regions_of(district))) {
            let (id, p, name) = (round.id, prize.id, &prize.name);
            warn(
                "regions",
                format!("prize {id}/{p} ({name}): no player is in its regions"),
                format!("奖品 {id}/{p}（{name}）：没有玩家在其限定地区内"),
            );
        }
    }
}

fn rounds(ground: &Ground, r: &Rehearsal, warn: &mut impl FnMut(&'static str, String, String)) {
    for (plan, round) in ground.plan.rounds.iter().zip(&r.rounds) {
        let id = round.round;
        if round.draws == 0 {
            let units = number(round.units);
            warn(
                "unissued",
                format!("round {id}: nobody plays; all of its {units} units stay unissued"),
                format!("场次 {id}：无人参与，{units} 份奖品全部未发"),
            );
            continue;
        }
        for (prize, rehearsed) in plan.prizes.iter().zip(&round.prizes) {
            let (p, name) = (prize.id, &prize.name);
            if prize.paused {
                warn(
                    "paused",
                    format!("prize {id}/{p} ({name}) is paused and gives nothing"),
                    format!("奖品 {id}/{p}（{name}）已暂停，不会发放"),
                );
            } else if rehearsed.unissued > 0 {
                let (left, units) = (number(rehearsed.unissued), number(rehearsed.units));
                warn(
                    "unissued",
                    format!("prize {id}/{p} ({name}) ends with {left} of {units} units unissued"),
                    format!("奖品 {id}/{p}（{name}）结束时 {units} 份中有 {left} 份未发"),
                );
            } else if rehearsed.behind_max > rehearsed.units.div_ceil(BEHIND_PART) {
                let behind = number(rehearsed.behind_max);
                warn(
                    "behind",
                    format!("prize {id}/{p} ({name}) is up to {behind} units behind its release curve"),
                    format!("奖品 {id}/{p}（{name}）最多落后发放曲线 {behind} 份"),
                );
            }
        }
        if let Some(entries) = round.entries_per_unit.filter(|e| *e < ENTRIES_PER_UNIT) {
            let left = number(round.tail_units);
            warn(
                "tail",
                format!(
                    "round {id}: in its last 3 s there are {entries:.1} draws for each of the {left} units left; below {ENTRIES_PER_UNIT} some may stay behind"
                ),
                format!(
                    "场次 {id}：最后 3 秒剩余 {left} 份奖品，每份仅 {entries:.1} 次抽奖，低于 {ENTRIES_PER_UNIT} 可能剩余"
                ),
            );
        }
    }
}

fn vendors(r: &Rehearsal, time: &LocalTime<'_>, warn: &mut impl FnMut(&'static str, String, String)) {
    for vendor in &r.vendors {
        let (id, name) = (vendor.vendor, &vendor.name);
        if vendor.delivered < vendor.orders {
            let left = number(vendor.orders - vendor.delivered);
            warn(
                "vendor_off",
                format!(
                    "vendor {id} ({name}) never delivers {left} orders: its limit is {} a second",
                    vendor.per_second
                ),
                format!("供应商 {id}（{name}）有 {left} 单永远无法发放：其限速为每秒 {}", vendor.per_second),
            );
        }
        if let (Some(last_ms), Some(done_ms)) = (vendor.last_order_ms, vendor.done_ms)
            && done_ms > last_ms + LATE_MS
        {
            let (until, last) = (time.show(done_ms), time.show(last_ms));
            let backlog = number(vendor.backlog_max);
            warn(
                "vendor_late",
                format!(
                    "vendor {id} ({name}) needs until {until}; its last order comes at {last}, up to {backlog} wait"
                ),
                format!(
                    "供应商 {id}（{name}）要到 {until} 才能发完；最后一单在 {last}，最多积压 {backlog} 单"
                ),
            );
        }
        let by_calls = u64::from(vendor.concurrency) * 1_000 / u64::from(vendor.latency_ms.max(1));
        if vendor.crowded > 0 && by_calls < u64::from(vendor.per_second) {
            let (calls, ms, limit) = (vendor.concurrency, vendor.latency_ms, vendor.per_second);
            warn(
                "vendor_calls",
                format!(
                    "vendor {id} ({name}): {calls} calls at once of {ms} ms are {by_calls} a second, below its limit of {limit}: allow more at once"
                ),
                format!(
                    "供应商 {id}（{name}）：{calls} 个并发、每次 {ms} 毫秒，每秒 {by_calls} 次，低于限速 {limit}：请提高并发"
                ),
            );
        }
    }
}
