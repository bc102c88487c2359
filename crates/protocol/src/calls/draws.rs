//! The call of the hot path: access asks lottery to decide a batch of entries.

use super::inbox::Inbox;
use crate::v1::{Award, Outcome};
use std::sync::Arc;

/// One entry to decide. Plain numbers: a batch of them is built without an allocation.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SubmitCall {
    /// The caller's mark; the reply carries it.
    pub tag: u64,
    /// Who plays. Proved by the caller.
    pub user: u64,
    /// The campaign.
    pub campaign: u32,
    /// The round the client means.
    pub round: u32,
    /// Counter of the draw.
    pub counter: u32,
    /// Shakes since the last submit.
    pub shakes: u32,
    /// Where the player is, or 0.
    pub district: u32,
}

/// The decision on an entry.
#[derive(Clone, PartialEq, Debug)]
pub struct SubmitReply {
    /// Mark of the call.
    pub tag: u64,
    /// Who played.
    pub user: u64,
    /// Counter that this answers.
    pub counter: u32,
    /// Counter of the next draw.
    pub next_counter: u32,
    /// What came out.
    pub outcome: Outcome,
    /// Least wait before the next submit; the caller may stretch it, never shorten it.
    pub next_submit_ms: u32,
    /// With `NotOpen` and `LimitReached`: no point in asking before this instant (ms UTC; 0: not in this campaign).
    pub until_ms: u64,
    /// With `Won`.
    pub award: Option<Box<Award>>,
}

/// Lottery, as its callers see it.
///
/// Order: replies come in any order, each exactly once, either in `out` or later through `inbox`. Durability:
/// a reply `Won` is given only when the win survives any single failure. Idempotency: the same (campaign,
/// round, user, counter) has one outcome; a caller that hears nothing asks again with the same counter.
pub trait Draws: Send + Sync {
    /// Decides every call of the batch. Never blocks on I/O: what can be said at once is appended to `out`; a
    /// win is put into `inbox` when its record is durable.
    fn submit(&self, calls: &[SubmitCall], inbox: &Arc<Inbox>, out: &mut Vec<SubmitReply>);
}
