//! The disclosure in Chinese.

use super::{Facts, Section, share, term, uneven};
use crate::diff::{count, yuan};
use campaign::{Prize, PrizeKind, Round};
use std::fmt::Write as _;

pub(super) fn text(facts: &Facts<'_>) -> String {
    let mut out = format!("《{}》奖品及抽奖规则公示\n\n", facts.plan.name);
    let _ = writeln!(out, "时间均为 {} 当地时间,金额单位为人民币元。", facts.plan.time_zone);
    limits(facts, &mut out);
    for section in &facts.sections {
        out.push('\n');
        times(facts, section, &mut out);
        for prize in &section.rounds[0].prizes {
            line(facts, section.rounds[0], prize, &mut out);
        }
    }
    out.push_str(
        "\n抽奖方式:每次参与按上列权重随机选定一种奖品;该奖品当时没有可中的份数时,顺延至列表中下一种有可中份数的奖品;\
         各奖品当时均无可中份数时,该次参与不中奖。因此权重不等于中奖概率,中奖概率取决于参与人数和参与时间。\n\
         奖品在场次开放期间随时间陆续投放,并非开场时一次性投放;某种奖品全部发完后不再产生该奖品。\n",
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
        "\n限定地区的奖品仅可由该地区所辖区域的参与者抽中;其他区域或区域未知的参与,视为该奖品当时没有可中的份数。\n",
    );
    for region in used {
        let show = |d: &campaign::DistrictRange| match d.first == d.last {
            true => d.first.to_string(),
            false => format!("{} 至 {}", d.first, d.last),
        };
        let districts: Vec<String> = region.districts.iter().map(show).collect();
        let _ = writeln!(out, "- {}:区域编号 {}", region.name, districts.join("、"));
    }
}

fn limits(facts: &Facts<'_>, out: &mut String) {
    let limits = facts.limits();
    let each =
        [(limits.wins_round, "每场"), (limits.wins_day, "每天"), (limits.wins_campaign, "整个活动期间")];
    let each: Vec<String> =
        each.iter().filter(|l| l.0 > 0).map(|(n, per)| format!("{per}最多中奖 {n} 次")).collect();
    if !each.is_empty() {
        let _ = writeln!(out, "每位用户{}。", each.join(","));
    }
    if facts.plan.stagger.groups > 1 {
        let step = seconds(u64::from(facts.plan.stagger.step_ms));
        let _ = writeln!(out, "用户分 {} 组依次开始,相邻两组间隔 {step}。", facts.plan.stagger.groups);
    }
}

fn times(facts: &Facts<'_>, section: &Section<'_>, out: &mut String) {
    let (times, more) = facts.times(section);
    for (id, name, open, close) in times {
        let _ = writeln!(out, "第 {id} 场「{name}」:{open} 至 {close}");
    }
    if more > 0 {
        let last = section.rounds[section.rounds.len() - 1];
        let _ =
            writeln!(out, "另有 {} 场,最后一场 {} 开始", count(more as u128), facts.zone.show(last.open_ms));
    }
    if section.rounds.len() > 1 {
        out.push_str("以上每场:\n");
    }
}

fn line(facts: &Facts<'_>, round: &Round, prize: &Prize, out: &mut String) {
    let units = count(u128::from(prize.units()));
    let (min, max) = facts.range(round, prize);
    let (min, max, sum) = (yuan(min.0.into()), yuan(max.0.into()), yuan(prize.fen().0.into()));
    let _ = write!(out, "- 「{}」:{},共 {units} 份", prize.name, kind(prize.kind));
    let _ = match prize.kind {
        PrizeKind::Cash if min == max => write!(out, ",每份 {max} 元,合计 {sum} 元"),
        PrizeKind::Cash => write!(out, ",每份 {min} 至 {max} 元随机,合计 {sum} 元"),
        _ if max == "0.00" => Ok(()),
        _ => write!(out, ",每份价值 {max} 元"),
    };
    let _ = match prize.weight {
        0 => write!(out, ";权重 0,仅在其他奖品顺延时发放"),
        w => {
            write!(out, ";权重 {w}/{}(首选比例 {})", count(round.total_weight().into()), share(round, prize))
        }
    };
    if let Some(points) = uneven(prize) {
        let points: Vec<String> =
            points.iter().map(|(s, share)| format!("开场后 {s} 秒累计 {share}")).collect();
        let _ = write!(out, ";非匀速投放:{}", points.join("、"));
    }
    if let Some(regions) = facts.regions(prize, "、") {
        let _ = write!(out, ";仅限以下地区:{regions}");
    }
    if let Some(ms) = term(prize) {
        let _ = write!(out, ";中奖后 {} 内未领取视为放弃", seconds(ms));
    }
    out.push('\n');
}

fn kind(kind: PrizeKind) -> &'static str {
    match kind {
        PrizeKind::Cash => "现金红包",
        PrizeKind::Voucher => "卡券",
        PrizeKind::Goods => "虚拟商品",
        PrizeKind::Cover => "红包封面",
    }
}

fn seconds(ms: u64) -> String {
    match ms {
        _ if ms.is_multiple_of(86_400_000) => format!("{} 天", ms / 86_400_000),
        _ if ms.is_multiple_of(3_600_000) => format!("{} 小时", ms / 3_600_000),
        _ if ms.is_multiple_of(60_000) => format!("{} 分钟", ms / 60_000),
        _ if ms.is_multiple_of(1_000) => format!("{} 秒", ms / 1_000),
        _ => format!("{ms} 毫秒"),
    }
}
