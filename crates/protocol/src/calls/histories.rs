//! What a user has won before: lottery asks flow when a bucket of users has come to a node that does not know them.

use super::awards::CallError;
use async_trait::async_trait;
use campaign::{AwardId, CampaignId, Fen, PrizeId, RoundId, UserId};

/// Users that one call of [`Histories::wins`] may ask about: the answer of the largest call, each user with the
/// wins of a usual limit, stays below the largest frame between services.
pub const HISTORY_USERS_MAX: usize = 512;

/// A win as the award store keeps it: what limits and the answer to a draw that is asked again are made of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PastWin {
    /// Its id.
    pub award: AwardId,
    /// Who won.
    pub user: UserId,
    /// The campaign.
    pub campaign: CampaignId,
    /// The round, fixed at the decision.
    pub round: RoundId,
    /// The campaign's local day, days since 1970-01-01, fixed at the decision.
    pub day: u32,
    /// Counter of the draw.
    pub counter: u32,
    /// The prize.
    pub prize: PrizeId,
    /// Number of the unit.
    pub unit: u64,
    /// Amount of the unit.
    pub fen: Fen,
}

/// Flow's memory of wins, as a lottery node sees it.
///
/// Durability: none of its own; it answers from what the award store holds. Order: positions that one call gave are
/// never taken back by a later one to the same store, and `wins` after a `passed` knows every win below the positions
/// named there. Idempotency: reading changes nothing, so both may be repeated, at another flow node too.
#[async_trait]
pub trait Histories: Send + Sync {
    /// The positions that the award store has passed, for these lanes, in the order asked (0: nothing): every group
    /// below the position is in it.
    async fn passed(&self, lanes: &[u16]) -> Result<Vec<(u16, u64)>, CallError>;

    /// The past wins of users in a campaign each, every user's oldest first, in the order asked. At most
    /// [`HISTORY_USERS_MAX`] a call; more is `Invalid`.
    async fn wins(&self, asked: &[(UserId, CampaignId)]) -> Result<Vec<Vec<PastWin>>, CallError>;
}
