//! The wins of a bucket's users: appended, never changed, linked from newest to oldest per user and campaign.

use super::line::Line;
use campaign::RoundId;
#[cfg(test)]
use campaign::{AwardId, CampaignId, Fen, PrizeId, UserId};
use records::{SnapshotWin, Won};

/// A win in memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Win {
    /// What snapshots keep of it.
    pub kept: SnapshotWin,
    /// Log position before which it is not durable; 0 for one that was read back.
    pub position: u64,
    older: u32,
}

/// The wins of a bucket.
#[derive(Default)]
pub struct Wins(Vec<Win>);

/// What a `Won` leaves in memory.
pub fn kept(won: &Won) -> SnapshotWin {
    SnapshotWin {
        award: won.award,
        user: won.user,
        campaign: won.campaign,
        round: won.round,
        day: won.day,
        counter: won.counter,
        prize: won.prize,
        unit: won.unit,
        fen: won.fen,
    }
}

impl Wins {
    /// Adds a win to its user's line: the list and the three counts.
    pub fn add(&mut self, line: &mut Line, kept: SnapshotWin, position: u64) {
        let older = line.wins_head;
        self.0.push(Win { kept, position, older });
        line.wins_head = self.0.len() as u32;
        line.wins_campaign = line.wins_campaign.saturating_add(1);
        if line.round == kept.round.0 {
            line.wins_round = line.wins_round.saturating_add(1);
        }
        if line.day == kept.day {
            line.wins_day = line.wins_day.saturating_add(1);
        }
    }

    /// Adds a win that was read back from snapshot or log: the line is moved to the newest round and day that
    /// it knows of, and a win that stands there already changes nothing.
    pub fn restore(&mut self, line: &mut Line, kept: SnapshotWin) {
        if self.find(line, kept.round.0, kept.counter).is_some() {
            return;
        }
        if kept.round.0 != line.round && kept.award.time_ms() >= self.newest_ms(line) {
            line.round = kept.round.0;
            line.wins_round = 0;
            line.counter = 0;
        }
        if kept.day > line.day {
            line.day = kept.day;
            line.wins_day = 0;
        }
        if kept.round.0 == line.round {
            line.counter = line.counter.max(kept.counter);
        }
        line.last_ms = line.last_ms.max(kept.award.time_ms());
        self.add(line, kept, 0);
    }

    fn newest_ms(&self, line: &Line) -> u64 {
        self.of(line).map(|w| w.kept.award.time_ms()).max().unwrap_or(0)
    }

    /// The user's wins, newest first.
    pub fn of<'a>(&'a self, line: &Line) -> impl Iterator<Item = &'a Win> + use<'a> {
        let at = |head: u32| (head as usize).checked_sub(1).and_then(|i| self.0.get(i));
        std::iter::successors(at(line.wins_head), move |win| at(win.older))
    }

    /// The user's win under a draw id.
    pub fn find(&self, line: &Line, round: u32, counter: u32) -> Option<&Win> {
        self.of(line).find(|w| w.kept.round == RoundId(round) && w.kept.counter == counter)
    }

    /// Moves a user's wins to another list, and his line with them.
    pub fn move_to(&self, line: &mut Line, to: &mut Wins) {
        let mut own: Vec<Win> = self.of(line).copied().collect();
        line.wins_head = 0;
        while let Some(win) = own.pop() {
            to.0.push(Win { older: line.wins_head, ..win });
            line.wins_head = to.0.len() as u32;
        }
    }

    /// Count of wins.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// No win.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All, in the order they came.
    pub fn iter(&self) -> impl Iterator<Item = &Win> {
        self.0.iter()
    }
}

/// A win for tests.
#[cfg(test)]
pub(crate) fn win(user: u64, round: u32, day: u32, counter: u32, time_ms: u64) -> SnapshotWin {
    use campaign::{NodeEpoch, NodeId};
    SnapshotWin {
        award: AwardId::new(time_ms, NodeId(1), NodeEpoch(1), u64::from(counter)),
        user: UserId(user),
        campaign: CampaignId(1),
        round: RoundId(round),
        day,
        counter,
        prize: PrizeId(1),
        unit: u64::from(counter),
        fen: Fen(100),
    }
}

#[cfg(test)]
mod tests {
    use super::{Wins, win};
    use crate::core::line::Line;

    #[test]
    fn what_was_read_back_counts_like_what_was_decided() {
        let (mut wins, mut line) = (Wins::default(), Line::new(5, 1));
        for w in [win(5, 1, 3, 2, 100), win(5, 1, 3, 9, 200), win(5, 2, 3, 1, 300), win(5, 2, 4, 4, 400)] {
            wins.restore(&mut line, w);
            wins.restore(&mut line, w);
        }
        assert_eq!((line.wins_campaign, line.wins_round, line.wins_day), (4, 2, 1));
        assert_eq!((line.round, line.counter, line.day, line.last_ms), (2, 4, 4, 400));
        assert_eq!(wins.find(&line, 1, 9).map(|w| w.kept.award.time_ms()), Some(200));
        assert_eq!(wins.find(&line, 2, 2), None);
        assert_eq!(wins.len(), 4);
    }
}
