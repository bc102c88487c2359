//! One picture of the full screen, as lines. Free of I/O.

use super::board::Board;
use super::tables;
use crate::text::paint::Style;
use crate::text::table::{Line, cut};
use crate::text::value::grouped;

/// Alarms that are shown above the prizes.
const ALARMS_MAX: usize = 8;

/// What the picture is of, and how large it is.
pub struct View<'a> {
    /// The last looks.
    pub board: &'a Board,
    /// Now, on the clock that the looks were stamped with.
    pub mono_ns: u64,
    /// Time of day, for the head.
    pub clock: String,
    /// Server, for the head.
    pub server: String,
    /// Columns.
    pub width: usize,
    /// Lines.
    pub height: usize,
    /// Lines of the body to leave out at the top.
    pub scrolled: usize,
}

/// The picture, and how far it can be scrolled.
pub fn draw(view: &View<'_>) -> (Vec<Line>, usize) {
    let head = head(view);
    let body = body(view.board);
    let room = view.height.saturating_sub(head.len() + 1);
    let most = body.len().saturating_sub(room);
    let scrolled = view.scrolled.min(most);
    let hidden = most - scrolled;
    let mut lines = head;
    lines.extend(body.into_iter().skip(scrolled).take(room));
    lines.resize(view.height.saturating_sub(1), Line::new());
    let more = if hidden > 0 { format!("   {hidden} more lines below") } else { String::new() };
    lines.push(vec![(format!("q ends, arrows and page keys scroll{more}"), Style::Dim)]);
    (lines.iter().map(|line| cut(line, view.width)).take(view.height).collect(), most)
}

fn head(view: &View<'_>) -> Vec<Line> {
    let mut title = vec![
        ("hongbao".to_owned(), Style::Bold),
        (format!("  {}  {}", view.server, view.clock), Style::Plain),
    ];
    if let Some((age_s, why)) = view.board.stale(view.mono_ns) {
        title.push((format!("  NO ANSWER, shown is {age_s} s old: {why}"), Style::Bad));
    }
    let mut lines = vec![title];
    if let Some(platform) = view.board.platform() {
        let total = |of: fn(&super::status::Prize) -> Option<u64>| grouped(platform.sum(of));
        let rate: u64 = platform.prizes.iter().filter_map(|prize| view.board.rate(prize)).sum();
        let text = format!(
            "{} nodes   {} of {} units won, {} a second   {} leases open   {} awards wait for vendors",
            platform.nodes.len(),
            total(|prize| prize.awarded),
            total(|prize| prize.budget),
            grouped(rate),
            total(|prize| prize.leases),
            grouped(platform.backlog()),
        );
        lines.push(vec![(text, Style::Plain)]);
    }
    lines.push(Line::new());
    lines
}

fn body(board: &Board) -> Vec<Line> {
    let mut lines = Vec::new();
    let alarms = board.alarms();
    for alarm in alarms.iter().take(ALARMS_MAX) {
        lines.push(vec![(format!("! {alarm}"), Style::Bad)]);
    }
    if alarms.len() > ALARMS_MAX {
        let more = alarms.len() - ALARMS_MAX;
        lines.push(vec![(format!("! and {more} more; `quotactl status` lists them"), Style::Bad)]);
    }
    let Some(platform) = board.platform() else { return lines };
    let sections = [
        (!platform.prizes.is_empty(), tables::prizes(platform, Some(board))),
        (!platform.vendors.is_empty(), tables::vendors(platform)),
        (!platform.nodes.is_empty(), tables::nodes(platform)),
    ];
    for (shown, table) in sections {
        if shown {
            if !lines.is_empty() {
                lines.push(Line::new());
            }
            lines.extend(table.pieces());
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::paint::Paint;
    use crate::text::table::painted;
    use crate::watch::status::Platform;
    use serde_json::json;

    fn board(prizes: usize) -> Board {
        let prizes: Vec<_> = (1..=prizes)
            .map(|n| json!({"campaign": 7, "prize": format!("1/{n}"), "name": "红包", "budget": "100", "granted": 50,
                "awarded": 25, "open_leases": 2, "rate": 5}))
            .collect();
        let answer = json!({"prizes": prizes, "nodes": [{"id": 1, "epoch": 3, "session": true, "plans": {"7": "12"}}],
            "vendors": [{"vendor": 3, "cut_off": true, "backlog": 4}]});
        let mut board = Board::default();
        board.answered(1, Platform::read(&answer));
        board
    }

    fn text(board: &Board, width: usize, height: usize, scrolled: usize) -> (Vec<String>, usize) {
        let (clock, server) = ("21:03:00".to_owned(), "http://a:1".to_owned());
        let view = View { board, mono_ns: 1, clock, server, width, height, scrolled };
        let (lines, most) = draw(&view);
        (lines.iter().map(|line| painted(line, Paint::new(false))).collect(), most)
    }

    #[test]
    fn everything_is_on_one_screen() {
        let (lines, most) = text(&board(1), 200, 14, 0);
        assert_eq!(most, 0);
        assert_eq!(lines.len(), 14);
        assert_eq!(lines[0], "hongbao  http://a:1  21:03:00");
        assert_eq!(
            lines[1],
            "1 nodes   25 of 100 units won, 5 a second   2 leases open   4 awards wait for vendors"
        );
        assert_eq!(lines[3], "! vendor 3 is cut off, 4 awards wait");
        let prize = &lines[6];
        assert!(
            prize.contains("1/1") && prize.contains("██████▒▒▒▒▒▒····") && prize.ends_with("15 s"),
            "{prize}"
        );
        assert!(lines[9].contains("cut off") && lines[12].ends_with("7:12"), "{lines:#?}");
    }

    #[test]
    fn a_small_terminal_is_never_overrun() {
        let board = board(40);
        for (width, height) in [(80, 24), (10, 5), (1, 1), (0, 0), (300, 100)] {
            let (lines, most) = text(&board, width, height, 7);
            assert!(lines.len() <= height.max(1), "{width} x {height}");
            let (end, _) = text(&board, width, height, usize::MAX);
            if height == 24 {
                assert!(most > 0 && end[22].contains("7:12"), "{end:#?}");
            }
        }
        let wide = |line: &String| unicode_width::UnicodeWidthStr::width(line.as_str());
        assert!(text(&board, 37, 24, 0).0.iter().all(|line| wide(line) <= 37));
    }
}
