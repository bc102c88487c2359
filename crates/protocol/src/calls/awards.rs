//! Calls about what has been won: to flow (prizes, claims) and to delivery (accounts).

use crate::v1::Award;
use async_trait::async_trait;
use campaign::{AwardId, UserId, VendorId};

/// An award as its player sees it.
pub type AwardView = Award;

/// Why a call failed, and whether the same again can help.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum CallError {
    /// No such award, or not this user's.
    #[error("{0}")]
    NotFound(String),
    /// The request can't be right.
    #[error("{0}")]
    Invalid(String),
    /// It was right and came too late or in the wrong state.
    #[error("{0}")]
    Refused(String),
    /// Over a bound; ask again after so many ms.
    #[error("busy: ask again in {0} ms")]
    Busy(u32),
    /// The other side can't answer now; the same again is safe.
    #[error("{0}")]
    Unavailable(String),
}

/// Flow, as access sees it.
#[async_trait]
pub trait Awards: Send + Sync {
    /// The user's awards behind `after`, oldest first, at most `limit`; true when there are more.
    async fn prizes(
        &self,
        user: UserId,
        after: Option<AwardId>,
        limit: usize,
    ) -> Result<(Vec<AwardView>, bool), CallError>;

    /// Claims an award. Pressing again is harmless: the answer is the award's present state.
    async fn claim(&self, user: UserId, award: AwardId) -> Result<AwardView, CallError>;
}

/// Delivery's book of accounts, as access and integrators see it.
#[async_trait]
pub trait Accounts: Send + Sync {
    /// Says what the user is at the vendor; gives the version, which rises with each change. Awards that were
    /// held for want of an account go on.
    async fn set_account(&self, user: UserId, vendor: VendorId, account: &str) -> Result<u64, CallError>;
}
