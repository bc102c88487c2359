//! Users of the newest awards, in memory until they are in the table.
//!
//! A table keyed by user takes each row into a page of its own, and a transaction that touches so many pages is ten times
//! slower than one that appends. So users wait here and are moved in large sorted batches. After a start the tail is
//! read from the awards behind the last one moved.

use std::collections::{HashMap, VecDeque};

use campaign::{AwardId, UserId};

/// The awards whose users are not in the table yet, in the order in which they were stored.
#[derive(Debug, Default)]
pub(crate) struct Tail {
    rows: VecDeque<(i64, UserId, AwardId)>,
    by_user: HashMap<UserId, Vec<AwardId>>,
}

impl Tail {
    /// Adds an award; `seq` rises.
    pub fn push(&mut self, seq: i64, user: UserId, award: AwardId) {
        self.rows.push_back((seq, user, award));
        self.by_user.entry(user).or_default().push(award);
    }

    /// Awards that wait.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Forgets everything up to and including `seq`.
    pub fn forget(&mut self, seq: i64) {
        while let Some((_, user, _)) = self.rows.pop_front_if(|(s, _, _)| *s <= seq) {
            // A user's awards were added in order, so the first one is the one to go.
            if let Some(awards) = self.by_user.get_mut(&user) {
                awards.remove(0);
                if awards.is_empty() {
                    self.by_user.remove(&user);
                }
            }
        }
    }

    /// The awards that have waited longest, at most so many.
    pub fn front(&self, rows_max: usize) -> impl Iterator<Item = &(i64, UserId, AwardId)> {
        self.rows.iter().take(rows_max)
    }

    /// A user's awards that wait.
    pub fn of(&self, user: UserId) -> &[AwardId] {
        self.by_user.get(&user).map_or(&[], Vec::as_slice)
    }
}
