//! Nodes, prizes and vendors as tables: for `status` and for `watch`.

use super::alarms::duration;
use super::board::Board;
use super::status::{Platform, Prize, Running};
use crate::text::paint::Style;
use crate::text::table::{Side, Table};
use crate::text::value::grouped;

/// Cells of a burn-down bar.
const BAR: usize = 24;

fn plain(text: impl Into<String>) -> (String, Style) {
    (text.into(), Style::Plain)
}

fn count(number: Option<u64>) -> (String, Style) {
    plain(number.map_or_else(|| "-".to_owned(), grouped))
}

/// Each node with what it runs.
pub fn nodes(platform: &Platform) -> Table {
    let mut table = Table::new(&[
        ("NODE", Side::Right),
        ("EPOCH", Side::Right),
        ("SESSION", Side::Left),
        ("CAMPAIGN:SEQNO", Side::Left),
    ]);
    for node in &platform.nodes {
        let plans: Vec<String> = node.plans.iter().map(told).collect();
        let style = if node.is_out { Style::Bad } else { Style::Plain };
        table.row(vec![
            plain(node.id.as_str()),
            plain(node.epoch.as_str()),
            (node.session.clone(), style),
            plain(plans.join(", ")),
        ]);
    }
    table
}

/// `7:12`, and `7:12 grey 13` where a share has another version.
fn told(plan: &Running) -> String {
    let seq_no = if plan.seq_no.is_empty() { "none" } else { &plan.seq_no };
    let grey = if plan.grey.is_empty() { String::new() } else { format!(" grey {}", plan.grey) };
    format!("{}:{seq_no}{grey}", plan.campaign)
}

/// Each prize with its units.
pub fn prizes(platform: &Platform, board: Option<&Board>) -> Table {
    let mut heads = vec![
        ("CAMPAIGN", Side::Right),
        ("PRIZE", Side::Left),
        ("NAME", Side::Left),
        ("BUDGET", Side::Right),
        ("GRANTED", Side::Right),
        ("AWARDED", Side::Right),
        ("LOCKED", Side::Right),
        ("LEASES", Side::Right),
        ("UNITS/S", Side::Right),
    ];
    match board {
        Some(_) => heads.extend([("WON, HANDED OUT, LEFT", Side::Left), ("LASTS", Side::Right)]),
        None => heads.push(("STATE", Side::Left)),
    }
    let mut table = Table::new(&heads);
    for prize in &platform.prizes {
        let mut row = vec![
            plain(prize.campaign.as_str()),
            plain(prize.at.as_str()),
            plain(prize.name.as_str()),
            count(prize.budget),
            count(prize.granted),
            count(prize.awarded),
            count(prize.locked),
            count(prize.leases),
            count(board.map_or(prize.rate, |board| board.rate(prize))),
        ];
        match board {
            Some(board) => row.extend([
                (bar(prize), if prize.paused { Style::Warn } else { Style::Good }),
                plain(board.lasts_s(prize).map_or_else(|| state(prize).0, duration)),
            ]),
            None => row.push(state(prize)),
        }
        table.row(row);
    }
    table
}

fn state(prize: &Prize) -> (String, Style) {
    let exhausted = prize.left() == Some(0) && prize.budget.is_some_and(|budget| budget > 0);
    match (prize.paused, exhausted) {
        (true, _) => ("paused".to_owned(), Style::Warn),
        (false, true) => ("exhausted".to_owned(), Style::Dim),
        (false, false) => (String::new(), Style::Plain),
    }
}

/// A prize's units: `█` won, `▒` handed to nodes and not won yet, `·` left. Anything that is not nothing shows.
fn bar(prize: &Prize) -> String {
    let Some(budget) = prize.budget.filter(|budget| *budget > 0) else { return String::new() };
    let cells = |units: u64| {
        let exact = u128::from(units.min(budget)) * BAR as u128;
        usize::try_from(exact.div_ceil(u128::from(budget))).unwrap_or(BAR)
    };
    let awarded = prize.awarded.unwrap_or(0);
    let won = cells(awarded);
    // What is not exhausted does not look so.
    let won = if awarded < budget { won.min(BAR - 1) } else { won };
    let out = cells(prize.granted.unwrap_or(0)).max(won);
    format!("{}{}{}", "█".repeat(won), "▒".repeat(out - won), "·".repeat(BAR - out))
}

/// Each vendor with what waits for it.
pub fn vendors(platform: &Platform) -> Table {
    let mut table = Table::new(&[
        ("VENDOR", Side::Right),
        ("NAME", Side::Left),
        ("LIMIT/S", Side::Right),
        ("BACKLOG", Side::Right),
        ("STATE", Side::Left),
    ]);
    for vendor in &platform.vendors {
        let state = if vendor.cut_off { ("cut off".to_owned(), Style::Bad) } else { plain("") };
        table.row(vec![
            plain(vendor.id.as_str()),
            plain(vendor.name.as_str()),
            count(vendor.limit),
            count(vendor.backlog),
            state,
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(budget: u64, granted: u64, awarded: u64) -> String {
        bar(&Prize {
            budget: Some(budget),
            granted: Some(granted),
            awarded: Some(awarded),
            ..Prize::default()
        })
    }

    #[test]
    fn bars_tell_the_edges_apart() {
        assert_eq!(drawn(1000, 0, 0), "·".repeat(24));
        assert_eq!(drawn(1000, 1, 1), format!("█{}", "·".repeat(23)));
        assert_eq!(drawn(1000, 500, 250), format!("{}{}{}", "█".repeat(6), "▒".repeat(6), "·".repeat(12)));
        assert_eq!(drawn(1000, 999, 999), format!("{}▒", "█".repeat(23)));
        assert_eq!(drawn(1000, 1000, 1000), "█".repeat(24));
        assert_eq!(drawn(u64::MAX, u64::MAX, u64::MAX), "█".repeat(24));
        assert_eq!(drawn(0, 0, 0), "");
    }
}
