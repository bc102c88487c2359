//! Unread messages of users: each conversation's count, and the total.

use super::BookError;
use async_trait::async_trait;

/// Who keeps a user's counts here. Counts of another tag are none: so nothing is read that somebody else, or the same
/// one before he missed something, has left.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default)]
pub struct Tag {
    /// The term under which the owner has the user's bucket. A lower one never overwrites a higher one.
    pub term: u32,
    /// The owner.
    pub node: u16,
    /// Its epoch.
    pub epoch: u32,
    /// The owner raises it when a write failed: what he wrote before may lack something then.
    pub turn: u32,
}

/// A conversation's count.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct UnreadAt {
    /// Which.
    pub conversation: u64,
    /// Unread messages in it, below 2^40.
    pub count: u64,
    /// As of this version of the conversation, below 2^53.
    pub version: u64,
}

/// A user's counts.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Unread {
    /// The sum.
    pub total: u64,
    /// By conversation.
    pub conversations: Vec<UnreadAt>,
}

/// Port: the unread book.
///
/// **Atomicity.** Counts and total of a user change together; nobody reads one without the other.
/// **Order and idempotency.** Counts are absolute and carry their version; one that is not newer changes nothing, so
/// calls may be repeated and overtake each other.
/// **What is whole.** A user's counts are there only after [`UnreadBook::fill`] has brought all of them; a change of a
/// user who is not there under this tag makes nothing. They go when nobody has written them for the book's time.
#[async_trait]
pub trait UnreadBook: Send + Sync {
    /// Brings all counts of a user, and answers the total. What stands under the same tag and is newer stays. `None`: a
    /// higher term stands there, nothing was done.
    async fn fill(&self, user: u64, tag: Tag, all: &[UnreadAt]) -> Result<Option<u64>, BookError>;

    /// Changes some counts, and answers the total. `None`: the user is not there under this tag, fill first.
    async fn set(&self, user: u64, tag: Tag, some: &[UnreadAt]) -> Result<Option<u64>, BookError>;

    /// A user's counts, those above 0, if they are there under this tag.
    async fn read(&self, user: u64, tag: Tag) -> Result<Option<Unread>, BookError>;

    /// The totals of users, whoever wrote them: good for a number on a screen.
    async fn totals(&self, users: &[u64]) -> Result<Vec<Option<u64>>, BookError>;

    /// Forgets a user.
    async fn forget(&self, user: u64) -> Result<(), BookError>;
}
