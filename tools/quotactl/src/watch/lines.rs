//! `watch` where standard output is no terminal: a line a second, and each alarm when it begins and ends.

use std::collections::BTreeSet;

use super::board::Board;
use crate::text::value::grouped;

/// Turns looks into lines.
#[derive(Default)]
pub struct Lines {
    alarms: BTreeSet<String>,
}

impl Lines {
    /// The lines of the newest look.
    pub fn of(&mut self, board: &Board, clock: &str) -> Vec<String> {
        let mut out = Vec::new();
        if let Some(platform) = board.platform().filter(|_| board.stale(0).is_none()) {
            let rate: u64 = platform.prizes.iter().filter_map(|prize| board.rate(prize)).sum();
            out.push(format!(
                "{clock} nodes {}, awarded {} of {}, {} units/s, leases {}, backlog {}",
                platform.nodes.len(),
                grouped(platform.sum(|prize| prize.awarded)),
                grouped(platform.sum(|prize| prize.budget)),
                grouped(rate),
                grouped(platform.sum(|prize| prize.leases)),
                grouped(platform.backlog()),
            ));
        }
        let alarms: BTreeSet<String> = board.alarms().into_iter().collect();
        out.extend(alarms.difference(&self.alarms).map(|alarm| format!("{clock} ALARM {alarm}")));
        out.extend(self.alarms.difference(&alarms).map(|alarm| format!("{clock} over: {alarm}")));
        self.alarms = alarms;
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::watch::status::Platform;
    use serde_json::json;

    #[test]
    fn alarms_are_told_when_they_begin_and_end() {
        let (mut board, mut lines) = (Board::default(), Lines::default());
        let cut_off =
            |cut_off: bool| Platform::read(&json!({"vendors": [{"vendor": 3, "cut_off": cut_off}]}));
        board.answered(1, cut_off(true));
        assert_eq!(
            lines.of(&board, "t1"),
            [
                "t1 nodes 0, awarded 0 of 0, 0 units/s, leases 0, backlog 0",
                "t1 ALARM vendor 3 is cut off, 0 awards wait"
            ]
        );
        board.answered(2, cut_off(true));
        assert_eq!(lines.of(&board, "t2").len(), 1);
        board.failed("refused".into());
        assert_eq!(lines.of(&board, "t3"), ["t3 ALARM no answer: refused"]);
        board.answered(4, cut_off(false));
        let told = lines.of(&board, "t4");
        assert_eq!(told[1..], ["t4 over: no answer: refused", "t4 over: vendor 3 is cut off, 0 awards wait"]);
    }
}
