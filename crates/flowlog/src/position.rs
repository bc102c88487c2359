//! Where a group stands in its log.

use std::fmt;

/// The ordinal of a group: the number of groups before it in the log, over all epochs, without a gap.
///
/// Used as an end ("durable position `p`", "known position `p`") it is exclusive: the groups below `p`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Position(pub u64);

impl Position {
    /// The first group of a log.
    pub const ZERO: Position = Position(0);
    /// No limit, where a limit is asked for.
    pub const MAX: Position = Position(u64::MAX);

    /// The position behind this group. As an end it includes the group.
    #[must_use]
    pub fn next(self) -> Position {
        Position(self.0.saturating_add(1))
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
