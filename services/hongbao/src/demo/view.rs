//! The live picture: one line a second, or a block that is drawn again in place where the output is a terminal.

use std::io::{IsTerminal as _, Write as _};

use reconcile::Settlement;
use serde_json::Value;

/// Widest bar of a prize, in characters.
const BAR: usize = 24;

/// Has a terminal cut what is wider than it, so that a line of ours stays one line; and has it wrap again.
const NO_WRAP: &str = "\x1b[?7l";
const WRAP: &str = "\x1b[?7h";

/// A prize of the open round.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct PrizeView {
    pub name: String,
    pub awarded: u64,
    pub budget: u64,
}

/// The campaign at an instant.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Picture {
    /// Seconds since the start.
    pub second: u64,
    /// What is going on: `round 2 of 3, 7 s left`.
    pub phase: String,
    /// The platform answers.
    pub up: bool,
    pub players: u64,
    pub draws_per_second: u64,
    /// Awards of all rounds that are in the award store.
    pub wins: u64,
    pub delivered: u64,
    /// Prizes of the round that is open, or was last.
    pub prizes: Vec<PrizeView>,
    /// Orders that wait at each vendor.
    pub backlog: Vec<(String, u64)>,
}

/// A number with its thousands apart.
pub(super) fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() * 4 / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

impl Picture {
    fn head(&self) -> String {
        let platform = if self.up { "" } else { "  PLATFORM DOWN" };
        format!(
            "{:>3} s  {:<28} {:>7} players {:>7} draws/s {:>7} won {:>7} delivered{platform}",
            self.second,
            self.phase,
            thousands(self.players),
            thousands(self.draws_per_second),
            thousands(self.wins),
            thousands(self.delivered),
        )
    }

    /// One line.
    pub fn line(&self) -> String {
        let mut out = self.head();
        for prize in &self.prizes {
            out += &format!("  {} {}/{}", prize.name, prize.awarded, prize.budget);
        }
        let waiting: Vec<String> =
            self.backlog.iter().filter(|(_, n)| *n > 0).map(|(name, n)| format!("{name} {n}")).collect();
        if !waiting.is_empty() {
            out += &format!("  waiting: {}", waiting.join(", "));
        }
        out
    }

    /// Several lines, for a terminal.
    pub fn block(&self) -> Vec<String> {
        let mut lines = vec![self.head()];
        let width = self.prizes.iter().map(|p| p.name.chars().count()).max().unwrap_or(0);
        for PrizeView { name, awarded, budget } in &self.prizes {
            let full = (BAR as u64 * awarded).checked_div(*budget).unwrap_or(0).min(BAR as u64) as usize;
            let bar = "#".repeat(full) + &".".repeat(BAR - full);
            lines.push(format!(
                "       {name:<width$}  {bar}  {:>6} of {:>6}",
                thousands(*awarded),
                thousands(*budget)
            ));
        }
        if !self.backlog.is_empty() {
            let all: Vec<String> =
                self.backlog.iter().map(|(name, n)| format!("{name} {}", thousands(*n))).collect();
            lines.push(format!("       waiting at vendors: {}", all.join("   ")));
        }
        lines
    }
}

/// Where pictures and messages go.
pub(super) struct Screen {
    terminal: bool,
    json: bool,
    /// Lines of the picture that stands on the terminal.
    drawn: usize,
}

impl Screen {
    /// Standard output. `json`: nothing for people is printed.
    pub fn new(json: bool) -> Screen {
        Screen { terminal: std::io::stdout().is_terminal(), json, drawn: 0 }
    }

    /// Shows a picture in place of the one before.
    pub fn show(&mut self, picture: &Picture) {
        if self.json {
            return self.put(&format!("{}\n", json_of(picture)));
        }
        if !self.terminal {
            return self.put(&(picture.line() + "\n"));
        }
        let lines = picture.block();
        let lines_text: String = lines.iter().map(|line| format!("{line}\n")).collect();
        let text = format!("{}{NO_WRAP}{lines_text}{WRAP}", self.erase());
        self.drawn = lines.len();
        self.put(&text);
    }

    /// Says something that stays.
    pub fn say(&mut self, text: &str) {
        if self.json {
            // Empty lines are for people.
            if !text.is_empty() {
                self.put(&format!("{}\n", serde_json::json!({ "event": text })));
            }
            return;
        }
        let text = format!("{}{text}\n", self.erase());
        self.drawn = 0;
        self.put(&text);
    }

    /// The end: laws and tables for people, or the report as one line.
    pub fn settled(&mut self, settlement: &Settlement, report: &Value) {
        if self.json {
            return self.put(&format!("{report}\n"));
        }
        self.say("");
        self.put(&reconcile::report::text(settlement));
    }

    fn erase(&self) -> String {
        if self.drawn == 0 { String::new() } else { format!("\x1b[{}A\x1b[J", self.drawn) }
    }

    /// Whoever reads us may be gone; the campaign goes on all the same.
    fn put(&self, text: &str) {
        let mut out = std::io::stdout().lock();
        let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    }
}

fn json_of(picture: &Picture) -> Value {
    let prizes: Vec<_> = picture
        .prizes
        .iter()
        .map(|p| serde_json::json!({ "name": p.name, "awarded": p.awarded, "budget": p.budget }))
        .collect();
    let backlog: serde_json::Map<_, _> =
        picture.backlog.iter().map(|(name, n)| (name.clone(), (*n).into())).collect();
    serde_json::json!({
        "second": picture.second, "phase": picture.phase, "up": picture.up, "players": picture.players,
        "draws_per_second": picture.draws_per_second, "wins": picture.wins, "delivered": picture.delivered,
        "prizes": prizes, "backlog": backlog,
    })
}

#[cfg(test)]
mod tests {
    use super::{Picture, PrizeView, json_of, thousands};

    fn picture() -> Picture {
        Picture {
            second: 31,
            phase: "round 2 of 3, 7 s left".into(),
            up: true,
            players: 20_000,
            draws_per_second: 15_003,
            wins: 1_234,
            delivered: 999,
            prizes: vec![
                PrizeView { name: "Lucky cash".into(), awarded: 4_500, budget: 9_000 },
                PrizeView { name: "Tea".into(), awarded: 0, budget: 0 },
            ],
            backlog: vec![("Cinema".into(), 12), ("Wallet".into(), 0)],
        }
    }

    #[test]
    fn a_line_has_everything_and_leaves_out_who_waits_for_nothing() {
        let line = picture().line();
        for part in
            ["31 s", "round 2 of 3", "20,000 players", "15,003 draws/s", "1,234 won", "Lucky cash 4500/9000"]
        {
            assert!(line.contains(part), "{part} in {line}");
        }
        assert!(
            line.ends_with("waiting: Cinema 12") && !line.contains("DOWN") && !line.contains('\n'),
            "{line}"
        );
        assert!(Picture { up: false, ..picture() }.line().contains("DOWN"));
    }

    #[test]
    fn a_block_has_bars_of_one_length() {
        let block = picture().block();
        assert_eq!(block.len(), 4);
        assert!(block[1].contains("############............   4,500 of  9,000"), "{}", block[1]);
        assert!(block[2].contains("........................       0 of      0"), "{}", block[2]);
        assert!(block[3].contains("Wallet 0"), "{}", block[3]);
        assert_eq!(json_of(&picture())["prizes"][0]["budget"], 9_000);
    }

    #[test]
    fn thousands_are_apart() {
        for (number, text) in [(0, "0"), (999, "999"), (1_000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(thousands(number), text);
        }
    }
}
