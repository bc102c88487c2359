//! The summary for the terminal: what the evening comes to, at a glance. The page and the JSON have the rest.

use super::words::{LocalTime, duration, number, one_in, percent, yuan};
use crate::rehearse::result::{Rehearsal, RoundResult};
use std::fmt::Write as _;

/// Rounds that are shown one by one.
const ROUNDS_SHOWN: usize = 24;
/// Minutes of a round whose odds are shown.
const MINUTES_SHOWN: usize = 8;
/// Warnings that are shown.
const WARNINGS_SHOWN: usize = 30;

/// A table whose columns are as wide as their widest cell; the first is flush left, the others right.
struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    fn new(head: &[&str]) -> Table {
        Table { rows: vec![head.iter().map(ToString::to_string).collect()] }
    }

    fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    fn write(&self, out: &mut String) {
        let columns = self.rows.first().map_or(0, Vec::len);
        let width =
            |c: usize| self.rows.iter().filter_map(|r| r.get(c)).map(|t| columns_of(t)).max().unwrap_or(0);
        let widths: Vec<usize> = (0..columns).map(width).collect();
        for row in &self.rows {
            let mut line = String::from("  ");
            for (c, cell) in row.iter().enumerate() {
                let pad = " ".repeat(widths[c].saturating_sub(columns_of(cell)));
                line += &if c == 0 { format!("{cell}{pad}") } else { format!("  {pad}{cell}") };
            }
            let _ = writeln!(out, "{}", line.trim_end());
        }
    }
}

/// Columns that a text takes in a terminal: Chinese characters take two.
fn columns_of(text: &str) -> usize {
    text.chars()
        .map(|c| {
            if (c as u32) >= 0x1100 && c != '–' && !(0x2000..0x2e80).contains(&(c as u32)) { 2 } else { 1 }
        })
        .sum()
}

/// The summary, ending with a line break.
pub fn text(r: &Rehearsal) -> String {
    let time = LocalTime::new(&r.days);
    let mut out = String::new();
    let t = &r.totals;
    let _ = writeln!(
        out,
        "Rehearsal of campaign {} '{}', SeqNo {} ({})",
        r.campaign, r.name, r.seq_no, r.time_zone
    );
    let _ = writeln!(
        out,
        "  {} players made {} submits, {} of them draws; {} won ({}).",
        number(t.players),
        number(t.submits),
        number(t.draws),
        number(t.wins),
        one_in(t.wins as f64 / t.draws.max(1) as f64),
    );
    let _ = writeln!(
        out,
        "  {} players won something ({}). {} of {} yuan went out; {} of {} units stayed.",
        number(t.winners),
        percent(t.winners, t.players),
        yuan(t.fen_won),
        yuan(t.fen),
        number(t.units.saturating_sub(t.wins)),
        number(t.units),
    );
    let _ =
        writeln!(out, "  Busiest second: {} submits at {}.", number(t.peak_per_second), time.show(t.peak_ms));
    rounds(&mut out, r, &time);
    for round in r.rounds.iter().filter(|round| round.draws > 0).take(ROUNDS_SHOWN) {
        prizes(&mut out, round, &time);
    }
    let played = r.rounds.iter().filter(|round| round.draws > 0).count();
    if played > ROUNDS_SHOWN {
        let _ = writeln!(
            out,
            "\n  ... and the prizes of {} more rounds (--json, --html).",
            played - ROUNDS_SHOWN
        );
    }
    vendors(&mut out, r, &time);
    nodes(&mut out, r, &time);
    let _ = writeln!(out, "\nWins of a player");
    let mut table = Table::new(&["wins", "players", "share"]);
    let last = r.wins_per_player.len();
    for line in &r.wins_per_player {
        let more = if line.wins == 20 && line.wins + 1 == last { " or more" } else { "" };
        table.row(vec![
            format!("{}{more}", line.wins),
            number(line.players),
            percent(line.players, t.players),
        ]);
    }
    table.write(&mut out);
    verdict(&mut out, r);
    out
}

fn rounds(out: &mut String, r: &Rehearsal, time: &LocalTime<'_>) {
    let _ = writeln!(out, "\nRounds");
    let mut table = Table::new(&[
        "round",
        "opens",
        "draws",
        "wins",
        "odds",
        "units",
        "left",
        "yuan won",
        "draws per unit left in the last 3 s",
    ]);
    for round in r.rounds.iter().take(ROUNDS_SHOWN) {
        table.row(vec![
            format!("{} {}", round.round, round.name),
            time.show(round.open_ms),
            number(round.draws),
            number(round.wins),
            one_in(round.wins as f64 / round.draws.max(1) as f64),
            number(round.units),
            number(round.unissued),
            yuan(round.fen_won),
            round.entries_per_unit.map_or("–".to_owned(), |n| format!("{n:.1}")),
        ]);
    }
    table.write(out);
    if r.rounds.len() > ROUNDS_SHOWN {
        let _ = writeln!(out, "  ... and {} more rounds.", r.rounds.len() - ROUNDS_SHOWN);
    }
}

fn prizes(out: &mut String, round: &RoundResult, time: &LocalTime<'_>) {
    let _ = writeln!(out, "\nPrizes of round {} {}", round.round, round.name);
    let mut table =
        Table::new(&["prize", "units", "won", "left", "gone at", "behind curve", "odds", "yuan won"]);
    for prize in &round.prizes {
        table.row(vec![
            format!("{} {}", prize.prize, prize.name),
            number(prize.units),
            number(prize.won),
            number(prize.unissued),
            prize.exhausted_ms.map_or("–".to_owned(), |ms| time.show(ms)),
            number(prize.behind_max),
            one_in(prize.odds),
            yuan(prize.fen_won),
        ]);
    }
    table.write(out);
    if round.minutes.len() > 1 {
        let step = round.minutes.len().div_ceil(MINUTES_SHOWN).max(1);
        let shown = round.minutes.iter().step_by(step);
        let shown: Vec<String> =
            shown.map(|m| format!("{} {}", time.show(m.from_ms), one_in(m.odds))).collect();
        let _ = writeln!(out, "  Odds from minute to minute: {}", shown.join(", "));
    }
}

fn vendors(out: &mut String, r: &Rehearsal, time: &LocalTime<'_>) {
    let _ = writeln!(out, "\nVendors");
    let mut table = Table::new(&[
        "vendor",
        "limit/s",
        "orders",
        "most waiting",
        "at",
        "wait p50",
        "p99",
        "longest",
        "done at",
    ]);
    for vendor in &r.vendors {
        table.row(vec![
            format!("{} {}", vendor.vendor, vendor.name),
            number(vendor.per_second.into()),
            number(vendor.orders),
            number(vendor.backlog_max),
            if vendor.backlog_max > 0 { time.show(vendor.backlog_max_ms) } else { "–".to_owned() },
            duration(vendor.wait_p50_ms),
            duration(vendor.wait_p99_ms),
            duration(vendor.wait_max_ms),
            vendor.done_ms.map_or("–".to_owned(), |ms| time.show(ms)),
        ]);
    }
    table.write(out);
}

fn nodes(out: &mut String, r: &Rehearsal, time: &LocalTime<'_>) {
    let _ = writeln!(out, "\nNodes");
    let mut table = Table::new(&["node", "submits", "draws", "wins", "busiest second", "at"]);
    for node in &r.nodes {
        table.row(vec![
            node.node.to_string(),
            number(node.submits),
            number(node.draws),
            number(node.wins),
            number(node.peak_per_second),
            time.show(node.peak_ms),
        ]);
    }
    table.write(out);
}

fn verdict(out: &mut String, r: &Rehearsal) {
    if !r.warnings.is_empty() {
        let _ = writeln!(out, "\nWarnings");
        for warning in r.warnings.iter().take(WARNINGS_SHOWN) {
            let _ = writeln!(out, "  - {}", warning.text);
        }
        if r.warnings.len() > WARNINGS_SHOWN {
            let _ = writeln!(out, "  ... and {} more (--json, --html).", r.warnings.len() - WARNINGS_SHOWN);
        }
    }
    let broken: Vec<_> = r.laws.iter().filter(|law| !law.holds).collect();
    if broken.is_empty() {
        let _ = writeln!(out, "\nLaws: all {} hold.", r.laws.len());
        return;
    }
    let _ = writeln!(
        out,
        "\nLAWS BROKEN: {} of {}. Do not run this plan; report it.",
        broken.len(),
        r.laws.len()
    );
    for law in broken {
        let _ = writeln!(out, "  !! {}: {}", law.law, law.detail);
    }
}
