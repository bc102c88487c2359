//! Who is online, as far as heartbeats say.

use super::BookError;
use async_trait::async_trait;

/// A device was heard of.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Beat {
    /// Whose.
    pub user: u64,
    /// Which.
    pub device: u64,
    /// When, ms UTC.
    pub at_ms: u64,
    /// It counts as online until then, ms UTC, unless it is heard of again.
    pub until_ms: u64,
}

/// A user's presence.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Seen {
    /// Who.
    pub user: u64,
    /// One of his devices at least is online.
    pub online: bool,
    /// When one of those that are online was last heard of, ms UTC; 0 when none is.
    pub seen_ms: u64,
}

/// Port: the presence book. Times are the callers'; their clocks differ by less than matters to presence.
///
/// **Order and idempotency.** A device's newest beat counts, in whatever order they come.
/// **Expiry.** A device that is not heard of again is offline from the time that its last beat named.
#[async_trait]
pub trait PresenceBook: Send + Sync {
    /// Devices were heard of. Of a user who has [`super::DEVICES_MAX`] devices online a further one is passed over.
    async fn beat(&self, beats: &[Beat], now_ms: u64) -> Result<(), BookError>;

    /// A device has gone, as of a time: a beat after it stands.
    async fn gone(&self, user: u64, device: u64, at_ms: u64) -> Result<(), BookError>;

    /// The presence of users, in their order.
    async fn seen(&self, users: &[u64], now_ms: u64) -> Result<Vec<Seen>, BookError>;
}
