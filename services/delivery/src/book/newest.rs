//! The journal's newest lines, in memory: who copies the journal to its topic comes right behind the writer, and need
//! not read from the table what was written a moment ago.
//!
//! Lines are taken in after their commit. Those that another process wrote between are not here; so what is kept is always one
//! run of positions without a hole, and whatever lies before or behind it is read from the table.

use super::JournalRow;
use std::collections::VecDeque;

/// Lines kept: some seconds at 10,000 a second, about 150 bytes each.
const LINES_MAX: usize = 16_384;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Newest {
    lines: VecDeque<JournalRow>,
}

impl Newest {
    /// Takes in lines that were committed, in order.
    pub fn extend(&mut self, lines: impl Iterator<Item = JournalRow>) {
        for line in lines {
            if self.lines.back().is_some_and(|last| last.position + 1 != line.position) {
                self.lines.clear();
            }
            self.lines.push_back(line);
        }
        let surplus = self.lines.len().saturating_sub(LINES_MAX);
        self.lines.drain(..surplus);
    }

    /// The lines behind a position, at most `limit`; none when the table has to be asked.
    pub fn behind(&self, after: u64, limit: usize) -> Option<Vec<JournalRow>> {
        let first = self.lines.front()?.position;
        let skip = usize::try_from((after + 1).checked_sub(first)?).ok()?;
        let lines: Vec<_> = self.lines.iter().skip(skip).take(limit).cloned().collect();
        // Behind the last line another process may have written.
        if lines.is_empty() { None } else { Some(lines) }
    }
}

#[cfg(test)]
mod tests {
    use super::{LINES_MAX, Newest};
    use crate::book::JournalRow;
    use crate::core::Reason;
    use campaign::{AwardId, CampaignId, Fen, PrizeId, RoundId, UserId, VendorId};
    use records::{DeliveryEvent, DeliveryState};

    fn line(position: u64) -> JournalRow {
        let event = DeliveryEvent {
            award: AwardId(1),
            step: 1,
            state: DeliveryState::Ready,
            generation: 0,
            attempt: 0,
            at_ms: 1,
            due_ms: 1,
            vendor: VendorId(1),
            user: UserId(1),
            campaign: CampaignId(1),
            round: RoundId(1),
            prize: PrizeId(1),
            fen: Fen(1),
        };
        JournalRow { position, event, reason: Reason::None, note: String::new() }
    }

    fn positions(newest: &Newest, after: u64, limit: usize) -> Option<Vec<u64>> {
        newest.behind(after, limit).map(|lines| lines.iter().map(|line| line.position).collect())
    }

    #[test]
    fn what_is_here_is_one_run_without_a_hole() {
        let mut newest = Newest::default();
        assert_eq!(positions(&newest, 0, 9), None);
        newest.extend((3..=6).map(line));
        assert_eq!(positions(&newest, 1, 9), None, "2 is in the table only");
        assert_eq!(positions(&newest, 2, 3), Some(vec![3, 4, 5]));
        assert_eq!(positions(&newest, 5, 9), Some(vec![6]));
        assert_eq!(positions(&newest, 6, 9), None, "perhaps another process wrote 7");
        newest.extend((8..=9).map(line));
        assert_eq!(positions(&newest, 5, 9), None, "a hole is never skipped");
        assert_eq!(positions(&newest, 6, 9), None);
        assert_eq!(positions(&newest, 7, 9), Some(vec![8, 9]));
        newest.extend((10..).take(LINES_MAX).map(line));
        assert_eq!(newest.lines.len(), LINES_MAX);
        assert_eq!(positions(&newest, 9, 1), Some(vec![10]));
        assert_eq!(positions(&newest, 8, 1), None);
    }
}
