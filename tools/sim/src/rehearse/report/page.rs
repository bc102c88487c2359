//! One page with everything: no script, nothing fetched from elsewhere, readable on paper. Beside each chart stands a
//! table of the same numbers.

use super::chart::{Chart, Line, count, share, svg};
use super::words::{LocalTime, duration, number, one_in, percent, yuan};
use crate::rehearse::result::{PrizeResult, Rehearsal, RoundResult, VendorResult};
use std::fmt::Write as _;

/// Rounds with charts; the others stand in the table of rounds.
const ROUNDS_DRAWN: usize = 24;
/// Prizes with charts, in all rounds together.
const PRIZES_DRAWN: usize = 120;
/// Rows of the table beside a chart.
const ROWS: usize = 10;
/// Rows of the table of rounds.
const ROUNDS_LISTED: usize = 1_000;
/// Rows of a round's table by the minute.
const MINUTES_LISTED: usize = 240;

const STYLE: &str = ":root{--ink:#1c1c1c;--paper:#fff;--soft:#666;--rule:#d8d8d8;--one:#c22a1f;--two:#1f5fa8;--good:#0a6b2d;--bad:#b00020;--odd:#8a5a00}\
@media(prefers-color-scheme:dark){:root{--ink:#e2e2e2;--paper:#161616;--soft:#9a9a9a;--rule:#3c3c3c;--one:#ff8a76;--two:#7fb6ff;--good:#6fd08c;--bad:#ff7b8a;--odd:#e0b050}}\
@media print{:root{--ink:#000;--paper:#fff;--soft:#444;--rule:#bbb;--one:#c22a1f;--two:#1f5fa8;--good:#000;--bad:#000;--odd:#000}.pair,table{break-inside:avoid}}\
body{font:15px/1.5 system-ui,'Noto Sans CJK SC','PingFang SC',sans-serif;margin:2rem auto;max-width:76rem;padding:0 1rem;color:var(--ink);background:var(--paper)}\
h1{margin-bottom:0}h2{margin-top:2.5rem;border-bottom:2px solid var(--rule)}h3{margin-bottom:.3rem}p.sub{color:var(--soft);margin-top:0}\
table{border-collapse:collapse}th,td{padding:.2rem .6rem;border-bottom:1px solid var(--rule);text-align:right;font-variant-numeric:tabular-nums;vertical-align:top}\
th:first-child,td:first-child,td.t{text-align:left}th{color:var(--soft);font-weight:600}.wide{overflow-x:auto}\
.facts{display:grid;grid-template-columns:repeat(auto-fill,minmax(13rem,1fr));gap:.5rem;margin:1rem 0}.facts div{border:1px solid var(--rule);border-radius:6px;padding:.5rem .8rem}.facts b{display:block;font-size:1.35rem}.facts span{color:var(--soft)}\
.pair{display:flex;flex-wrap:wrap;gap:1rem 2rem;align-items:flex-start;margin-bottom:1.5rem}.pair>svg{flex:1 1 30rem;max-width:40rem;min-width:0}.pair>div{flex:1 1 18rem;min-width:0}svg{display:block;max-width:100%;height:auto}.pair div>svg{width:30rem}.pair table{font-size:.85rem}\
svg text{font-size:11px;fill:var(--soft)}svg .grid{stroke:var(--rule);stroke-width:1}svg polyline{fill:none;stroke-width:2}svg .won,svg .one{stroke:var(--one)}svg .curve{stroke:var(--two);stroke-dasharray:6 4}svg .two{stroke:var(--two)}\
.won-key{color:var(--one)}.curve-key,.two-key{color:var(--two)}.holds{color:var(--good)}.broken{color:var(--bad);font-weight:700}li.w{color:var(--odd)}";

/// Text as it stands in HTML.
pub(super) fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// The page.
pub fn html(r: &Rehearsal) -> String {
    let time = LocalTime::new(&r.days);
    let mut out = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
         <title>Rehearsal: {name}</title><style>{STYLE}</style></head><body>\n<h1>Rehearsal 预演: {name}</h1>\n",
        name = escaped(&r.name)
    );
    head(&mut out, r, &time);
    verdicts(&mut out, r);
    rounds(&mut out, r, &time);
    let mut drawn = 0;
    for round in r.rounds.iter().filter(|round| round.draws > 0).take(ROUNDS_DRAWN) {
        draw_round(&mut out, round, &time, &mut drawn);
    }
    vendors(&mut out, r, &time);
    players(&mut out, r);
    nodes(&mut out, r, &time);
    out + "</body></html>\n"
}

fn head(out: &mut String, r: &Rehearsal, time: &LocalTime<'_>) {
    let t = &r.totals;
    let (first, last) = (r.rounds.first(), r.rounds.last());
    let span = match (first, last) {
        (Some(a), Some(b)) => {
            format!("{} – {}", time.show_with_date(a.open_ms), time.show_with_date(b.close_ms))
        }
        _ => String::new(),
    };
    let stay = r.setup.stay_ms.map_or("to the end (到结束)".to_owned(), duration);
    let _ = writeln!(
        out,
        "<p class=\"sub\">Campaign 活动 {}, SeqNo {}, {} ({}). Virtual nodes 虚拟节点 {}, seed 种子 {}, {} shakes a submit 每次提交摇动次数, stay 停留 {stay}.</p>",
        r.campaign,
        r.seq_no,
        span,
        escaped(&r.time_zone),
        r.setup.parts,
        r.setup.seed,
        r.setup.shakes
    );
    let facts = [
        ("Players 玩家", number(t.players)),
        ("Draws 抽奖次数", number(t.draws)),
        ("Wins 中奖次数", number(t.wins)),
        ("Odds 中奖率", one_in(t.wins as f64 / t.draws.max(1) as f64)),
        ("Players who win 中奖玩家", format!("{} ({})", number(t.winners), percent(t.winners, t.players))),
        ("Yuan won 发放金额（元）", format!("{} / {}", yuan(t.fen_won), yuan(t.fen))),
        ("Units left 未发数量", format!("{} / {}", number(t.units.saturating_sub(t.wins)), number(t.units))),
        ("Busiest second 峰值每秒提交", format!("{} ({})", number(t.peak_per_second), time.show(t.peak_ms))),
    ];
    out.push_str("<div class=\"facts\">");
    for (label, value) in facts {
        let _ = write!(out, "<div><span>{label}</span><b>{value}</b></div>");
    }
    out.push_str("</div>\n");
}

fn verdicts(out: &mut String, r: &Rehearsal) {
    out.push_str("<h2>Warnings 警告</h2>\n");
    if r.warnings.is_empty() {
        out.push_str("<p>None 无.</p>\n");
    } else {
        out.push_str("<ul>\n");
        for w in &r.warnings {
            let _ = writeln!(out, "<li class=\"w\">{}<br>{}</li>", escaped(&w.text), escaped(&w.text_zh));
        }
        out.push_str("</ul>\n");
    }
    out.push_str("<h2>Laws 资金守则</h2>\n<table><tr><th>Law 守则</th><th>Verdict 结论</th></tr>\n");
    for law in &r.laws {
        let (class, word) =
            if law.holds { ("holds", "holds 成立") } else { ("broken", "BROKEN 被违反") };
        let detail = if law.holds { String::new() } else { format!("<br>{}", escaped(&law.detail)) };
        let _ =
            writeln!(out, "<tr><td>{}{detail}</td><td class=\"{class}\">{word}</td></tr>", escaped(&law.law));
    }
    out.push_str("</table>\n");
}

/// A table: the head, then the rows.
fn table(out: &mut String, head: &[&str], rows: impl IntoIterator<Item = Vec<String>>) {
    out.push_str("<div class=\"wide\"><table><tr>");
    head.iter().for_each(|cell| {
        let _ = write!(out, "<th>{cell}</th>");
    });
    out.push_str("</tr>\n");
    for row in rows {
        out.push_str("<tr>");
        row.iter().for_each(|cell| {
            let _ = write!(out, "<td>{}</td>", escaped(cell));
        });
        out.push_str("</tr>\n");
    }
    out.push_str("</table></div>\n");
}

fn rounds(out: &mut String, r: &Rehearsal, time: &LocalTime<'_>) {
    out.push_str("<h2>Rounds 场次</h2>\n");
    let head = [
        "Round 场次",
        "Opens 开始",
        "Closes 结束",
        "Draws 抽奖",
        "Wins 中奖",
        "Odds 中奖率",
        "Units 份数",
        "Left 未发",
        "Yuan won 金额",
        "Left at −3 s 最后3秒剩余",
        "Draws per unit left 每份剩余抽奖次数",
    ];
    let row = |round: &RoundResult| {
        vec![
            format!("{} {}", round.round, round.name),
            time.show(round.open_ms),
            time.show(round.close_ms),
            number(round.draws),
            number(round.wins),
            one_in(round.wins as f64 / round.draws.max(1) as f64),
            number(round.units),
            number(round.unissued),
            yuan(round.fen_won),
            number(round.tail_units),
            round.entries_per_unit.map_or("–".to_owned(), |n| format!("{n:.1}")),
        ]
    };
    table(out, &head, r.rounds.iter().take(ROUNDS_LISTED).map(row));
    if r.rounds.len() > ROUNDS_LISTED {
        let _ = writeln!(
            out,
            "<p>{} more rounds stand in the JSON 其余场次见 JSON.</p>",
            r.rounds.len() - ROUNDS_LISTED
        );
    }
}

/// Places of at most `rows` rows, evenly over `count` steps, the last among them.
fn picks(count: usize, rows: usize) -> Vec<usize> {
    let rows = rows.min(count);
    (1..=rows).map(|i| i * count / rows - 1).collect()
}

fn draw_round(out: &mut String, round: &RoundResult, time: &LocalTime<'_>, drawn: &mut usize) {
    let _ = writeln!(out, "<h2>Round 场次 {} {}</h2>", round.round, escaped(&round.name));
    draw_odds(out, round, time);
    let row = |p: &PrizeResult| {
        vec![
            format!("{} {}", p.prize, p.name),
            p.kind.to_owned(),
            number(p.units),
            number(p.won),
            number(p.unissued),
            p.exhausted_ms.map_or("–".to_owned(), |ms| time.show(ms)),
            number(p.behind_max),
            one_in(p.odds),
            yuan(p.fen_won),
            yuan(p.fen),
        ]
    };
    let head = [
        "Prize 奖品",
        "Kind 类型",
        "Units 份数",
        "Won 已发",
        "Left 未发",
        "Gone at 发完时间",
        "Most behind curve 最大落后",
        "Odds 中奖率",
        "Yuan won 金额",
        "Budget 预算",
    ];
    table(out, &head, round.prizes.iter().map(row));
    for prize in &round.prizes {
        if *drawn < PRIZES_DRAWN {
            *drawn += 1;
            draw_prize(out, round, prize, time);
        }
    }
}

fn draw_odds(out: &mut String, round: &RoundResult, time: &LocalTime<'_>) {
    let per_second = |n: &u64| *n as f64 * 1_000.0 / round.step_ms as f64;
    let line = |class, values: &[u64], label| Line {
        class,
        start: None,
        values: values.iter().map(per_second).collect(),
        label,
    };
    let chart = Chart {
        title: "Draws and wins a second",
        from_ms: round.open_ms,
        step_ms: round.step_ms,
        lines: vec![
            line("two", &round.draws_by_step, "draws 抽奖"),
            line("one", &round.wins_by_step, "wins 中奖"),
        ],
        show: count,
    };
    let _ = writeln!(
        out,
        "<h3><span class=\"two-key\">Draws 抽奖</span> and <span class=\"won-key\">wins 中奖</span> a second 每秒, odds by minute 每分钟中奖率</h3>\n<div class=\"pair\">{}<div>{}",
        svg(&chart, time),
        odds_chart(round, time)
    );
    let row = |s: &crate::rehearse::result::Stretch| {
        vec![time.show(s.from_ms), number(s.draws), number(s.wins), one_in(s.odds)]
    };
    let active = round.minutes.iter().filter(|s| s.draws > 0).take(MINUTES_LISTED);
    table(out, &["From 起", "Draws 抽奖", "Wins 中奖", "Odds 中奖率"], active.map(row));
    out.push_str("</div></div>\n");
}

/// The odds over time; only where there are several minutes to compare.
fn odds_chart(round: &RoundResult, time: &LocalTime<'_>) -> String {
    let [first, second, ..] = round.minutes.as_slice() else { return String::new() };
    let lines = vec![Line {
        class: "one",
        start: None,
        values: round.minutes.iter().map(|s| s.odds).collect(),
        label: "odds 中奖率",
    }];
    let step_ms = second.from_ms - first.from_ms;
    svg(&Chart { title: "Odds by minute", from_ms: first.from_ms, step_ms, lines, show: share }, time)
}

fn draw_prize(out: &mut String, round: &RoundResult, prize: &PrizeResult, time: &LocalTime<'_>) {
    let values = |values: &[u64]| values.iter().map(|n| *n as f64).collect::<Vec<_>>();
    let title = format!("{}/{} {}", round.round, prize.prize, prize.name);
    let lines = vec![
        Line {
            class: "curve",
            start: Some(0.0),
            values: values(&prize.released),
            label: "released by the curve 曲线释放",
        },
        Line { class: "won", start: Some(0.0), values: values(&prize.won_by), label: "won 已发" },
    ];
    let chart = Chart { title: &title, from_ms: round.open_ms, step_ms: round.step_ms, lines, show: count };
    let _ = writeln!(
        out,
        "<h3>{}: <span class=\"won-key\">won 已发</span>, <span class=\"curve-key\">released by its curve 曲线释放</span></h3>\n<div class=\"pair\">{}<div>",
        escaped(&title),
        svg(&chart, time)
    );
    let row = |i: usize| {
        let (released, won) = (prize.released[i], prize.won_by[i]);
        let end_ms = (round.open_ms + (i as u64 + 1) * round.step_ms).min(round.close_ms);
        vec![time.show(end_ms), number(released), number(won), number(prize.units.saturating_sub(won))]
    };
    let head = ["Until 至", "Released 释放", "Won 已发", "Left 剩余"];
    table(out, &head, picks(prize.released.len(), ROWS).into_iter().map(row));
    out.push_str("</div></div>\n");
}

fn vendors(out: &mut String, r: &Rehearsal, time: &LocalTime<'_>) {
    out.push_str("<h2>Vendors 供应商</h2>\n");
    let head = [
        "Vendor 供应商",
        "Limit/s 限速",
        "Call 耗时",
        "At once 并发",
        "Orders 订单",
        "Delivered 已发放",
        "Not claimed 未领取",
        "Most waiting 最大积压",
        "At 时间",
        "Wait p50",
        "p99",
        "Longest 最长等待",
        "Done at 发完时间",
    ];
    let row = |v: &VendorResult| {
        vec![
            format!("{} {}", v.vendor, v.name),
            number(v.per_second.into()),
            duration(v.latency_ms.into()),
            number(v.concurrency.into()),
            number(v.orders),
            number(v.delivered),
            number(v.unclaimed),
            number(v.backlog_max),
            if v.backlog_max > 0 { time.show(v.backlog_max_ms) } else { "–".to_owned() },
            duration(v.wait_p50_ms),
            duration(v.wait_p99_ms),
            duration(v.wait_max_ms),
            v.done_ms.map_or("–".to_owned(), |ms| time.show(ms)),
        ]
    };
    table(out, &head, r.vendors.iter().map(row));
    for vendor in r.vendors.iter().filter(|v| v.orders > 0).take(ROUNDS_DRAWN) {
        let values = vendor.backlog.iter().map(|n| *n as f64).collect();
        let lines = vec![Line { class: "one", start: Some(0.0), values, label: "waiting 积压" }];
        let title = format!("{} {}", vendor.vendor, vendor.name);
        let chart =
            Chart { title: &title, from_ms: vendor.from_ms, step_ms: vendor.step_ms, lines, show: count };
        let _ = writeln!(
            out,
            "<h3>{}: orders that wait 积压订单</h3>\n<div class=\"pair\">{}<div>",
            escaped(&title),
            svg(&chart, time)
        );
        let row = |i: usize| {
            vec![time.show(vendor.from_ms + (i as u64 + 1) * vendor.step_ms), number(vendor.backlog[i])]
        };
        table(out, &["At 时间", "Waiting 积压"], picks(vendor.backlog.len(), ROWS).into_iter().map(row));
        out.push_str("</div></div>\n");
    }
}

fn players(out: &mut String, r: &Rehearsal) {
    out.push_str("<h2>Wins of a player 每位玩家中奖次数</h2>\n");
    let last = r.wins_per_player.len();
    let rows = r.wins_per_player.iter().map(|line| {
        let more = if line.wins == 20 && line.wins + 1 == last { "+" } else { "" };
        vec![format!("{}{more}", line.wins), number(line.players), percent(line.players, r.totals.players)]
    });
    table(out, &["Wins 中奖次数", "Players 玩家", "Share 占比"], rows);
}

fn nodes(out: &mut String, r: &Rehearsal, time: &LocalTime<'_>) {
    out.push_str("<h2>Load on nodes 节点负载</h2>\n");
    let rows = r.nodes.iter().map(|n| {
        vec![
            n.node.to_string(),
            number(n.submits),
            number(n.draws),
            number(n.wins),
            number(n.peak_per_second),
            time.show(n.peak_ms),
        ]
    });
    let head = ["Node 节点", "Submits 提交", "Draws 抽奖", "Wins 中奖", "Busiest second 峰值每秒", "At 时间"];
    table(out, &head, rows);
}
