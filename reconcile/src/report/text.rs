//! The report for people, as text: laws first, then a table of units and one of yuan, then what is open.

use crate::breaks::Class;
use crate::laws::Verdict;
use crate::matching::Sum;
use crate::settlement::{COLUMNS, Settlement};

/// Breaks that are printed; the lists have all.
const BREAKS_SHOWN: usize = 30;

/// The word for a verdict.
pub fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Holds => "holds",
        Verdict::Broken => "BROKEN",
        Verdict::NotChecked => "not checked",
    }
}

/// The report as text.
pub fn text(settlement: &Settlement) -> String {
    let read = &settlement.read;
    let mut out = format!(
        "Settlement (对账)\n\nRead: {} awards of the flow archive (流水), {} steps of the delivery journal (发货), {} statement rows, {} answers to players.\n\nLaws\n",
        read.awards, read.steps, read.statement_rows, read.told
    );
    for law in &settlement.laws {
        out += &format!("  {}. {:<40} {:<11} {}\n", law.law, law.name, word(law.verdict), law.detail);
    }
    out += "\nUnits by round (场次) and prize, quota (配额) first\n";
    out += &table(settlement, |sum| sum.units.to_string());
    out += "\nYuan by round and prize\n";
    out += &table(settlement, |sum| sum.fen.to_string());
    if settlement.foreign != Sum::default() {
        out += &format!(
            "\nPaid for awards that nobody knows: {} payments, {} yuan\n",
            settlement.foreign.units, settlement.foreign.fen
        );
    }
    out += &breaks(settlement);
    for note in &settlement.notes {
        out += &format!("\nNote: {note}\n");
    }
    out
}

/// Rows of cells for a table: head, prizes, total. `cell` writes a sum.
pub fn cells(settlement: &Settlement, cell: impl Fn(Sum) -> String) -> Vec<Vec<String>> {
    let mut rows = vec![["round", "prize", "name"].map(String::from).into_iter().collect::<Vec<_>>()];
    rows[0].extend(COLUMNS.iter().map(|(name, _)| (*name).to_string()));
    for line in &settlement.prizes {
        let mut row = vec![line.key.round.to_string(), line.key.prize.to_string(), line.name.clone()];
        row.extend(COLUMNS.iter().map(|(_, column)| cell(column(&line.totals))));
        rows.push(row);
    }
    let mut total = vec![String::new(), String::new(), "total".to_string()];
    total.extend(COLUMNS.iter().map(|(_, column)| cell(settlement.total(column))));
    rows.push(total);
    rows
}

/// Columns that a terminal gives a text: Chinese characters and their like take two.
fn width(text: &str) -> usize {
    text.chars().map(|c| if matches!(c, '\u{1100}'..='\u{115f}' | '\u{2e80}'..='\u{a4cf}' | '\u{ac00}'..='\u{d7a3}' | '\u{f900}'..='\u{faff}' | '\u{fe30}'..='\u{fe6f}' | '\u{ff00}'..='\u{ff60}' | '\u{ffe0}'..='\u{ffe6}' | '\u{1f300}'..='\u{1faff}') { 2 } else { 1 }).sum()
}

fn table(settlement: &Settlement, cell: impl Fn(Sum) -> String) -> String {
    let rows = cells(settlement, cell);
    let columns = rows[0].len();
    let widths: Vec<usize> =
        (0..columns).map(|c| rows.iter().map(|r| width(&r[c])).max().unwrap_or(0)).collect();
    let mut out = String::new();
    for row in &rows {
        out.push(' ');
        for (c, text) in row.iter().enumerate() {
            let pad = " ".repeat(widths[c] - width(text));
            // Names to the left, numbers to the right.
            out += &if c == 2 { format!(" {text}{pad}") } else { format!(" {pad}{text}") };
        }
        out.push('\n');
    }
    out
}

fn breaks(settlement: &Settlement) -> String {
    let total = settlement.break_count();
    if total == 0 {
        return format!("\nNo breaks; {} awards matched.\n", settlement.matched);
    }
    let mut out = format!(
        "\nBreaks: {total}; {} awards matched. Open cases are with {}.\n",
        settlement.matched, settlement.responsible
    );
    for class in Class::ALL {
        for (kind, count) in settlement.counts.iter().filter(|(kind, _)| kind.class() == class) {
            out += &format!("  {:<7} {:<22} {:>8}   {}\n", class.name(), kind.name(), count, kind.action());
        }
    }
    let mut shown: Vec<_> = settlement.breaks.iter().filter(|b| b.kind.class() != Class::Wait).collect();
    shown.sort_by_key(|b| b.kind.class());
    let more = shown.len().saturating_sub(BREAKS_SHOWN);
    for b in shown.into_iter().take(BREAKS_SHOWN) {
        let age_min = b.age_ms(settlement.now_ms) / 60_000;
        out += &format!(
            "  {} {:<7} {:<22} {} ({age_min} min): {}\n",
            b.id(),
            b.kind.class().name(),
            b.kind.name(),
            b.subject,
            b.detail
        );
    }
    if more > 0 {
        out += &format!("  and {more} more: see breaks.csv\n");
    }
    out
}
