//! What a submit was about, so that its reply can be understood when it comes late.
//!
//! A reply names user and counter, not campaign and round; from another process every reply comes late. The high half of a
//! submit's tag says which campaign and round it was, and under which plans it was asked. A reply from before a change of
//! plans is answered like any other, and nothing is learnt from it.

/// Changes of plans that a tag tells apart; a submit is answered long before so many have come.
const TURNS: u32 = 1 << 16;

/// Campaigns and rounds under the plans in force; a worker has one.
pub(crate) struct Asked {
    /// How often plans have changed.
    turn: u32,
    /// Since when these are in force (monotonic ms).
    since_ms: u64,
    rounds: Vec<(u32, u32)>,
}

impl Asked {
    pub fn new() -> Self {
        // Nothing has changed: what was in force at start had time enough to be in force everywhere.
        Self { turn: 0, since_ms: 0, rounds: Vec::new() }
    }

    /// Plans have changed.
    pub fn turn(&mut self, mono_ms: u64) {
        self.turn = self.turn.wrapping_add(1);
        self.since_ms = mono_ms;
        self.rounds.clear();
    }

    /// Which plans are in force.
    pub fn plans(&self) -> u32 {
        self.turn
    }

    /// For how long they have been.
    pub fn settled_ms(&self, mono_ms: u64) -> u64 {
        mono_ms.saturating_sub(self.since_ms)
    }

    /// The high half of a tag.
    #[inline]
    pub fn mark(&mut self, campaign: u32, round: u32) -> u32 {
        let place = match self.rounds.iter().position(|known| *known == (campaign, round)) {
            Some(place) => place,
            None => {
                self.rounds.push((campaign, round));
                self.rounds.len() - 1
            }
        };
        // Only rounds of plans get here; beyond 65,535 of them their late replies teach nothing.
        (self.turn % TURNS) << 16 | place.min(usize::from(u16::MAX)) as u32
    }

    /// Campaign and round of a mark, if it was made under the plans in force.
    #[inline]
    pub fn of(&self, mark: u32) -> Option<(u32, u32)> {
        let place = mark as u16;
        if mark >> 16 != self.turn % TURNS || place == u16::MAX {
            return None;
        }
        self.rounds.get(usize::from(place)).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::Asked;

    #[test]
    fn a_mark_is_good_until_plans_change() {
        let mut asked = Asked::new();
        let (a, b) = (asked.mark(1, 2), asked.mark(7, 2));
        assert_eq!((asked.mark(1, 2), asked.of(a), asked.of(b)), (a, Some((1, 2)), Some((7, 2))));
        assert_eq!(asked.of(b + 1), None);
        asked.turn(5_000);
        assert_eq!((asked.of(a), asked.settled_ms(7_000), asked.plans()), (None, 2_000, 1));
        assert_ne!(asked.mark(1, 2), a);
        assert_eq!(asked.of(a), None);
    }

    #[test]
    fn more_rounds_than_marks_are_not_mixed_up() {
        let mut asked = Asked::new();
        for round in 0..70_000 {
            let mark = asked.mark(1, round);
            assert_eq!(asked.of(mark), (round < 65_535).then_some((1, round)));
            if round > 65_535 {
                // As many as are ever looked through.
                break;
            }
        }
    }
}
