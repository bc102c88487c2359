//! What people outside the platform have written down, and what the auditor reads.

use campaign::{AwardId, Fen, PrizeId, RoundId, UserId};

/// What a player heard as the outcome of a draw.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Told {
    pub at_ms: u64,
    pub user: UserId,
    pub round: RoundId,
    pub counter: u32,
    /// The award with its prize and amount; `None`: lost.
    pub won: Option<(AwardId, PrizeId, Fen)>,
}
