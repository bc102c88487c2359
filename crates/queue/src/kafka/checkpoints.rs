//! Places of a lane at which its state is known. Pure.
//!
//! Whether a message counts depends on all that came before it, so a reader can begin only where somebody wrote the state
//! down. Readers of whole lanes write some with each commit: the newest, and older ones whose distances grow, so
//! that from any position back a state stands not much further away. 24 of them fit well into the 4,096 bytes that
//! a broker takes beside an offset by default.

use crate::Position;
use crate::lanes::LaneState;

/// Most that are kept.
const KEPT_MAX: usize = 24;
/// Messages between two, at the least.
const APART_MIN: i64 = 1024;
const VERSION: &str = "1";

/// A lane's state before the message at an offset of its partition.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Checkpoint {
    /// The offset.
    pub offset: i64,
    /// The state.
    pub state: LaneState,
}

impl Checkpoint {
    /// Before the first message.
    pub const ORIGIN: Checkpoint = Checkpoint { offset: 0, state: LaneState::ORIGIN };
}

/// Some of a lane's, rising.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Checkpoints(Vec<Checkpoint>);

impl Checkpoints {
    /// The newest.
    pub fn newest(&self) -> Option<Checkpoint> {
        self.0.last().copied()
    }

    /// The newest from which everything from a position on is read.
    pub fn before(&self, from: Position) -> Option<Checkpoint> {
        self.0.iter().rev().find(|c| c.state.next <= from).copied()
    }

    /// Takes in a place that was reached, if it lies far enough from the others; they thin out with the distance.
    pub fn reached(&mut self, checkpoint: Checkpoint) {
        if self.newest().is_some_and(|newest| checkpoint.offset < newest.offset + APART_MIN) {
            return;
        }
        self.0.push(checkpoint);
        while self.0.len() > KEPT_MAX {
            // The one whose absence costs the least: the gap that it would leave, seen from the end.
            let end = checkpoint.offset;
            let cost = |i: usize| {
                let (before, behind) = (self.0[i - 1].offset, self.0[i + 1].offset);
                (behind - before) as f64 / (end - before) as f64
            };
            let Some(least) = (1..self.0.len() - 1).min_by(|a, b| cost(*a).total_cmp(&cost(*b))) else {
                return;
            };
            self.0.remove(least);
        }
    }

    /// Each of them, rising.
    pub fn each(&self, f: impl FnMut(Checkpoint)) {
        self.0.iter().copied().for_each(f);
    }

    /// The text that goes with a commit at the newest place.
    pub fn to_text(&self, at: Checkpoint) -> String {
        let one = |c: &Checkpoint| format!("{},{}", c.offset, c.state.to_text());
        let older = self.0.iter().filter(|c| c.offset < at.offset);
        let all: Vec<String> =
            [VERSION.to_owned()].into_iter().chain(older.map(one)).chain([one(&at)]).collect();
        all.join(";")
    }

    /// Reads such a text; the last one is the place of the commit.
    pub fn from_text(text: &str) -> Option<Checkpoints> {
        let mut parts = text.split(';');
        if parts.next() != Some(VERSION) {
            return None;
        }
        let one = |part: &str| {
            let (offset, state) = part.split_once(',')?;
            Some(Checkpoint { offset: offset.parse().ok()?, state: LaneState::from_text(state)? })
        };
        let all = parts.map(one).collect::<Option<Vec<Checkpoint>>>()?;
        let rising = all.windows(2).all(|w| w[0].offset < w[1].offset && w[0].state.next <= w[1].state.next);
        (rising && !all.is_empty() && all.len() <= KEPT_MAX + 1).then_some(Checkpoints(all))
    }
}

#[cfg(test)]
mod tests {
    use super::{APART_MIN, Checkpoint, Checkpoints, KEPT_MAX};
    use crate::Position;
    use crate::lanes::LaneState;

    fn at(offset: i64) -> Checkpoint {
        let next = Position(offset as u64);
        Checkpoint {
            offset,
            state: LaneState { next, epoch: 4_000_000_000, hash: [255; 32], ..LaneState::ORIGIN },
        }
    }

    #[test]
    fn they_thin_out_with_the_distance_and_fit_beside_an_offset() {
        let mut kept = Checkpoints::default();
        let end = 50_000_000_000_i64;
        // A reader that commits now and then, for years.
        let mut offset = 0;
        while offset < end {
            kept.reached(at(offset));
            offset += APART_MIN + offset / 500;
        }
        assert_eq!(kept.0.len(), KEPT_MAX);
        let end = kept.newest().unwrap().offset;
        for back in [0, 5_000, 1_000_000, 1_000_000_000, 20_000_000_000] {
            let from = Position((end - back) as u64);
            let found = kept.before(from).unwrap();
            assert!(end - found.offset <= 4 * back + 200_000_000, "{back} back: {}", end - found.offset);
        }
        let text = kept.to_text(at(end + 5));
        assert!(text.len() < 4_000, "{}", text.len());
        let again = Checkpoints::from_text(&text).unwrap();
        assert_eq!(again.newest(), Some(at(end + 5)));
        assert_eq!(again.0[..KEPT_MAX], kept.0[..]);
    }

    #[test]
    fn rubbish_is_no_checkpoint() {
        let good = Checkpoints::default().to_text(at(7));
        assert_eq!(Checkpoints::from_text(&good).unwrap().newest(), Some(at(7)));
        for wrong in
            ["", "1", "2;7", &good[..good.len() - 12], &format!("{good};3"), &good.replace("1;", "2;")]
        {
            assert_eq!(Checkpoints::from_text(wrong), None, "{wrong}");
        }
        assert_eq!(Checkpoints::default().before(Position(5)), None);
    }
}
