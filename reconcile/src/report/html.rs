//! The report for people, as one self-contained page: no script, nothing fetched from elsewhere.

use crate::breaks::Class;
use crate::laws::Verdict;
use crate::matching::Sum;
use crate::report::text::{cells, word};
use crate::settlement::Settlement;

/// Breaks on the page; the lists have all.
const BREAKS_SHOWN: usize = 500;

const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:80rem;padding:0 1rem;color:#222}\
table{border-collapse:collapse;margin:.5rem 0 2rem;width:100%}th,td{padding:.3rem .6rem;border-bottom:1px solid #ddd;text-align:left;vertical-align:top}\
td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}tr:last-child.t td{font-weight:600}\
.holds{color:#0a6b2d}.broken,.alarm{color:#b00020;font-weight:600}.unchecked{color:#8a5a00}.wide{overflow-x:auto}\
@media(prefers-color-scheme:dark){body{background:#181818;color:#ddd}th,td{border-color:#444}.holds{color:#6fd08c}.broken,.alarm{color:#ff7b8a}.unchecked{color:#e0b050}}";

/// Text as it stands in HTML.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// The report as a page.
pub fn html(settlement: &Settlement) -> String {
    let mut out = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
         <title>Settlement</title><style>{STYLE}</style></head><body>\n<h1>Settlement (对账)</h1>\n"
    );
    let read = &settlement.read;
    out += &format!(
        "<p>{} awards of the flow archive (流水), {} steps of the delivery journal (发货), {} statement rows, {} answers to players; {} awards matched.</p>\n",
        read.awards, read.steps, read.statement_rows, read.told, settlement.matched
    );
    out += "<h2>Laws</h2>\n<table><tr><th></th><th>Law</th><th>Verdict</th><th>Numbers</th></tr>\n";
    for law in &settlement.laws {
        let class = match law.verdict {
            Verdict::Holds => "holds",
            Verdict::Broken => "broken",
            Verdict::NotChecked => "unchecked",
        };
        let verdict = word(law.verdict);
        out += &format!(
            "<tr><td>{}</td><td>{}</td><td class=\"{class}\">{verdict}</td><td>{}</td></tr>\n",
            law.law,
            law.name,
            escaped(&law.detail)
        );
    }
    out += "</table>\n<h2>Units by round (场次) and prize, quota (配额) first</h2>\n";
    out += &table(settlement, |sum| sum.units.to_string());
    out += "<h2>Yuan by round and prize</h2>\n";
    out += &table(settlement, |sum| sum.fen.to_string());
    if settlement.foreign != Sum::default() {
        let (units, fen) = (settlement.foreign.units, settlement.foreign.fen);
        out += &format!(
            "<p class=\"alarm\">Paid for awards that nobody knows: {units} payments, {fen} yuan.</p>\n"
        );
    }
    out += &breaks(settlement);
    for note in &settlement.notes {
        out += &format!("<p>Note: {}</p>\n", escaped(note));
    }
    out + "</body></html>\n"
}

fn table(settlement: &Settlement, cell: impl Fn(Sum) -> String) -> String {
    let rows = cells(settlement, cell);
    let last = rows.len() - 1;
    let mut out = String::from("<div class=\"wide\"><table>\n");
    for (i, row) in rows.iter().enumerate() {
        out += if i == last { "<tr class=\"t\">" } else { "<tr>" };
        for (c, text) in row.iter().enumerate() {
            let tag = if i == 0 { "th" } else { "td" };
            let class = if c == 2 { "" } else { " class=\"n\"" };
            out += &format!("<{tag}{class}>{}</{tag}>", escaped(text));
        }
        out += "</tr>\n";
    }
    out + "</table></div>\n"
}

fn breaks(settlement: &Settlement) -> String {
    if settlement.break_count() == 0 {
        return "<h2>Breaks</h2>\n<p>None.</p>\n".to_string();
    }
    let mut out = format!(
        "<h2>Breaks</h2>\n<p>{}, open cases are with {}.</p>\n<table><tr><th>Class</th><th>Kind</th><th class=\"n\">Count</th><th>What to do</th></tr>\n",
        settlement.break_count(),
        escaped(&settlement.responsible)
    );
    for class in Class::ALL {
        for (kind, count) in settlement.counts.iter().filter(|(kind, _)| kind.class() == class) {
            let class = class.name();
            out += &format!(
                "<tr><td class=\"{class}\">{class}</td><td>{}</td><td class=\"n\">{count}</td><td>{}</td></tr>\n",
                kind.name(),
                kind.action()
            );
        }
    }
    out += "</table>\n<div class=\"wide\"><table><tr><th>Id</th><th>Class</th><th>Kind</th><th>About</th><th class=\"n\">Age, min</th><th class=\"n\">Should be, yuan</th><th class=\"n\">Is, yuan</th><th>Detail</th></tr>\n";
    let mut shown: Vec<_> = settlement.breaks.iter().collect();
    shown.sort_by_key(|b| b.kind.class());
    for b in shown.iter().take(BREAKS_SHOWN) {
        let class = b.kind.class().name();
        out += &format!(
            "<tr><td>{}</td><td class=\"{class}\">{class}</td><td>{}</td><td>{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td>{}</td></tr>\n",
            b.id(),
            b.kind.name(),
            escaped(&b.subject),
            b.age_ms(settlement.now_ms) / 60_000,
            b.expected,
            b.found,
            escaped(&b.detail)
        );
    }
    out += "</table></div>\n";
    if settlement.break_count() > BREAKS_SHOWN as u64 {
        out += "<p>The page shows the gravest; all of them are in breaks.csv.</p>\n";
    }
    out
}
