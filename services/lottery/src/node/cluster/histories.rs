//! Whose past wins are wanted, who is being asked about, and what an answer is good for. Pure.
//!
//! A user whom memory doesn't know is asked about once at a time, many in a call, few calls at once; whoever comes while
//! there is no room asks again anyway. An answer counts for the term under which it was asked ([`crate::core::Core::restore`]),
//! and a call that failed is forgotten: the players' next tries ask again.

use crate::core::Want;
use protocol::calls::{HISTORY_USERS_MAX, PastWin};
use records::SnapshotWin;
use std::collections::{BTreeMap, HashSet, VecDeque};

/// Calls that may be unanswered at once.
pub const CALLS_MAX: usize = 8;

/// Users who may wait for a call.
pub const WAITING_MAX: usize = 65_536;

/// A call to be made.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Ask {
    /// Names it in the answer.
    pub id: u64,
    /// Whom it is about; at most [`HISTORY_USERS_MAX`].
    pub wants: Vec<Want>,
}

/// An answer that can't be right. Nothing of it is used.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum BadAnswer {
    /// As many lists as users are due.
    #[error("{got} lists of wins for {asked} users")]
    Count {
        /// Users asked about.
        asked: usize,
        /// Lists that came.
        got: usize,
    },
    /// A win of somebody else.
    #[error("award {} is of user {} in campaign {}; user {} in campaign {} was asked about", .0.award, .0.user, .0.campaign, .1.user, .1.campaign)]
    Foreign(PastWin, Want),
}

/// Who is wanted and who is asked about.
#[derive(Default)]
pub struct Wanted {
    waiting: VecDeque<Want>,
    /// Those who wait and those who are in a call.
    known: HashSet<Want>,
    calls: BTreeMap<u64, Vec<Want>>,
    next: u64,
}

impl Wanted {
    /// How many more can wait.
    pub fn room(&self) -> usize {
        WAITING_MAX.saturating_sub(self.waiting.len())
    }

    /// Takes users in; those who wait or are asked about already are left alone.
    pub fn add(&mut self, wants: impl IntoIterator<Item = Want>) {
        for want in wants {
            if self.room() > 0 && self.known.insert(want) {
                self.waiting.push_back(want);
            }
        }
    }

    /// The next call, if there is anybody to ask about and not too many calls are out.
    pub fn ask(&mut self) -> Option<Ask> {
        if self.waiting.is_empty() || self.calls.len() >= CALLS_MAX {
            return None;
        }
        let n = self.waiting.len().min(HISTORY_USERS_MAX);
        let wants: Vec<Want> = self.waiting.drain(..n).collect();
        self.next += 1;
        self.calls.insert(self.next, wants.clone());
        Some(Ask { id: self.next, wants })
    }

    /// A call has ended, well or not.
    pub fn done(&mut self, id: u64) {
        for want in self.calls.remove(&id).into_iter().flatten() {
            self.known.remove(&want);
        }
    }

    /// Users who wait for a call.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Calls that are out.
    pub fn calls(&self) -> usize {
        self.calls.len()
    }
}

/// Checks an answer against what was asked, and gives each user's wins as memory has them.
///
/// # Errors
/// When it can't be the answer to this call.
pub fn checked(wants: &[Want], answer: Vec<Vec<PastWin>>) -> Result<Vec<Vec<SnapshotWin>>, BadAnswer> {
    if wants.len() != answer.len() {
        return Err(BadAnswer::Count { asked: wants.len(), got: answer.len() });
    }
    let foreign = |want: &Want, wins: &[PastWin]| {
        wins.iter().find(|win| (win.user, win.campaign) != (want.user, want.campaign)).copied()
    };
    for (want, wins) in wants.iter().zip(&answer) {
        if let Some(win) = foreign(want, wins) {
            return Err(BadAnswer::Foreign(win, *want));
        }
    }
    Ok(answer.into_iter().map(|wins| wins.into_iter().map(kept).collect()).collect())
}

/// A past win as memory has it.
pub fn kept(win: PastWin) -> SnapshotWin {
    let PastWin { award, user, campaign, round, day, counter, prize, unit, fen } = win;
    SnapshotWin { award, user, campaign, round, day, counter, prize, unit, fen }
}

#[cfg(test)]
mod tests {
    use super::{BadAnswer, CALLS_MAX, WAITING_MAX, Wanted, checked};
    use crate::core::Want;
    use campaign::{AwardId, CampaignId, Fen, PrizeId, RoundId, UserId};
    use protocol::calls::{HISTORY_USERS_MAX, PastWin};

    fn want(user: u64) -> Want {
        Want { bucket: hashring::bucket_of(user).get(), term: 1, user: UserId(user), campaign: CampaignId(1) }
    }

    fn win(user: u64) -> PastWin {
        let (campaign, round) = (CampaignId(1), RoundId(2));
        PastWin {
            award: AwardId(7),
            user: UserId(user),
            campaign,
            round,
            day: 3,
            counter: 4,
            prize: PrizeId(5),
            unit: 6,
            fen: Fen(100),
        }
    }

    #[test]
    fn each_is_asked_about_once_and_few_calls_are_out() {
        let mut w = Wanted::default();
        w.add((1..=10_000).map(want));
        w.add((1..=10_000).map(want));
        assert_eq!(w.waiting(), 10_000);
        let asks: Vec<_> = std::iter::from_fn(|| w.ask()).collect();
        assert_eq!((asks.len(), asks[0].wants.len()), (CALLS_MAX, HISTORY_USERS_MAX));
        w.add(asks[0].wants.clone());
        assert_eq!(w.waiting(), 10_000 - CALLS_MAX * HISTORY_USERS_MAX, "they are being asked about");
        w.done(asks[0].id);
        w.add(asks[0].wants.iter().copied().take(3));
        assert_eq!(w.waiting(), 10_003 - CALLS_MAX * HISTORY_USERS_MAX, "they are asked about again");
        assert_eq!(w.ask().unwrap().wants.len(), HISTORY_USERS_MAX);
        w.add((1..=2 * WAITING_MAX as u64).map(|n| want(1 << 40 | n)));
        assert_eq!((w.waiting(), w.room()), (WAITING_MAX, 0));
    }

    #[test]
    fn an_answer_that_can_not_be_right_is_not_used() {
        let wants = [want(1), want(2)];
        assert_eq!(checked(&wants, vec![vec![]]), Err(BadAnswer::Count { asked: 2, got: 1 }));
        let swapped = checked(&wants, vec![vec![win(2)], vec![]]);
        assert_eq!(swapped, Err(BadAnswer::Foreign(win(2), want(1))));
        assert!(swapped.unwrap_err().to_string().contains("user 2 in campaign 1; user 1 in campaign 1"));
        let good = checked(&wants, vec![vec![], vec![win(2)]]).unwrap();
        assert_eq!((good[0].len(), good[1][0].counter, good[1][0].fen), (0, 4, Fen(100)));
    }
}
