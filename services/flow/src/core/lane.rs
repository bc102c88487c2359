//! What must be remembered of a lane: how far it was read, and where epochs were ended.

use campaign::{NodeEpoch, NodeId};

/// An end mark: what an epoch of the node, this one or an earlier one, has behind it never was.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Mark {
    /// Position of the group that holds the mark.
    pub position: u64,
    /// Index of the mark's record in the group.
    pub index: u32,
    /// The epoch that it ends.
    pub epoch: NodeEpoch,
}

/// A lane as far as it was read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LaneState {
    /// The node.
    pub node: NodeId,
    /// The next group.
    pub next: u64,
    /// The highest epoch of what was taken in; only a higher one may leave positions out before its first group.
    pub epoch: NodeEpoch,
    /// End marks, by position and so by epoch too: a mark that ends nothing new is not kept.
    pub marks: Vec<Mark>,
}

impl LaneState {
    /// A lane of which nothing was read.
    pub fn new(node: NodeId) -> LaneState {
        LaneState { node, next: 0, epoch: NodeEpoch(0), marks: Vec::new() }
    }

    /// Takes in how far a batch goes.
    pub fn pass(&mut self, next: u64, epoch: NodeEpoch) {
        self.next = self.next.max(next);
        self.epoch = self.epoch.max(epoch);
    }

    /// Takes in a mark; false when an earlier one ended that epoch already (the first counts), or it is known.
    pub fn end(&mut self, mark: Mark) -> bool {
        if self.marks.iter().any(|m| m.epoch >= mark.epoch && m <= &mark) {
            return false;
        }
        // Lanes are read in order, so this is the end, but for a caller that builds a state from rows.
        self.marks.push(mark);
        self.marks.sort_unstable();
        true
    }

    /// Whether a record of an epoch at this place is behind the end of that epoch.
    pub fn is_ended(&self, epoch: NodeEpoch, position: u64, index: u32) -> bool {
        self.marks.iter().any(|m| m.epoch >= epoch && (m.position, m.index) < (position, index))
    }
}

#[cfg(test)]
mod tests {
    use super::{LaneState, Mark};
    use campaign::{NodeEpoch, NodeId};

    #[test]
    fn a_mark_ends_its_epoch_and_every_earlier_one_from_its_place_on() {
        let mut lane = LaneState::new(NodeId(1));
        let mark = |position, index, epoch| Mark { position, index, epoch: NodeEpoch(epoch) };
        assert!(lane.end(mark(10, 2, 5)));
        assert!(!lane.end(mark(10, 2, 5)), "the same again");
        assert!(!lane.end(mark(12, 0, 5)), "the first counts");
        assert!(!lane.end(mark(12, 0, 4)), "ended by a later epoch's mark");
        assert!(lane.end(mark(20, 0, 7)));
        for (epoch, position, index, ended) in [
            (5, 9, 9, false),
            (5, 10, 1, false),
            (5, 10, 3, true),
            (4, 11, 0, true),
            (6, 11, 0, false),
            (6, 20, 1, true),
            (8, 99, 0, false),
        ] {
            assert_eq!(
                lane.is_ended(NodeEpoch(epoch), position, index),
                ended,
                "{epoch} at {position}.{index}"
            );
        }
    }
}
