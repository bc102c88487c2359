//! What stands behind memory, and what it promises.
//!
//! Embedded, the truth is the message log, and what is here is filled behind it: a checkpoint is everything that has
//! changed, up to one place of the log, in one transaction with that place. So the ports speak of reading what is not
//! in memory ([`MessageStore`], [`Timeline`]) and of committing checkpoints ([`Shelf`]). Where the lines run:
//!
//! - A message store and a timeline that are written one message at a time would be a fiction here: the log does that,
//!   for both together. In a cluster they are two stores with a writer each, and [`owned`] takes the log's place: steps
//!   under an owner's terms, and the conversation's durable fan-out position. What a step writes of a conversation is a
//!   [`ConversationRows`](crate::core::ConversationRows) there too.
//! - The unread book is no store here. A count follows from positions that are stored with each member
//!   ([`crate::core::Counted`]), totals are sums of them that are made when a user is loaded. An adapter that keeps
//!   totals elsewhere (Redis) may forget them at any time.
//! - Presence is what connections say of themselves, and lives in [`State`](crate::core::State) with its expiry; nothing
//!   of it survives a process, as it must not.

pub mod books;
mod memory;
mod memory_owned;
pub mod owned;
pub mod owners;
mod pg;
mod redis;
mod sql;
pub mod tables;

use crate::core::{At, Checkpoint, Entry, SentKey, StoredConversation, StoredUser};
use crate::limits;
use async_trait::async_trait;
use records::ChatMessage;

pub use memory::MemoryShelf;
pub use memory_owned::MemoryOwned;
pub use owned::OwnedShelf;
pub use pg::{OpenPgShelfError, PARTS, PgShelf, SCHEMA};
pub use redis::{RedisBooks, RedisBooksOptions};
pub use sql::{OpenShelfError, SqlShelf};

/// Why the store did not answer.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// It can't just now; nothing was changed, or all of it was: the same again is safe.
    #[error("chat's store can't answer: {0}")]
    Unavailable(String),
    /// Something stands in it that no program of ours wrote.
    #[error("chat's store is damaged: {0}")]
    Damaged(String),
}

impl StoreError {
    /// The same again gives the same, until somebody has put something right.
    pub fn is_lasting(&self) -> bool {
        matches!(self, StoreError::Damaged(_))
    }
}

/// Where reading the log begins.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Mark {
    /// The next record to apply.
    pub at: At,
    /// Messages applied before it.
    pub cursor: u64,
    /// Ids were reserved up to here, ms UTC.
    pub ids_reserved_ms: u64,
}

/// Conversations and their messages.
///
/// **Durability.** Everything of a committed checkpoint is found, after a crash too.
/// **Order.** Messages come by seq, without a hole between the first and the last that is stored.
/// **Idempotency.** A message is named by (conversation, seq); committing it again changes nothing.
/// A read sees whole checkpoints only.
#[async_trait]
pub trait MessageStore: Send + Sync {
    /// Those of the conversations that are there, each with its last messages.
    async fn conversations(&self, ids: &[u64]) -> Result<Vec<StoredConversation>, StoreError>;

    /// The conversations of those pairs (smaller user first) that have one.
    async fn pairs(&self, pairs: &[(u64, u64)]) -> Result<Vec<(u64, u64, u64)>, StoreError>;

    /// Messages with a seq from `from` to `to`, both inclusive, rising. The caller keeps the distance small.
    async fn messages(&self, conversation: u64, from: u64, to: u64) -> Result<Vec<ChatMessage>, StoreError>;

    /// The message that a client named so, among those of the last day. `Ok(Err(true))`: there is none; `Ok(Err(false))`:
    /// it is not among those that were looked through.
    async fn sent(&self, key: SentKey, now_ms: u64) -> Result<Result<ChatMessage, bool>, StoreError> {
        let Some(found) = self.conversations(&[key.conversation]).await?.pop() else { return Ok(Err(true)) };
        sent_among(self, key, now_ms, found.head.last_seq).await
    }
}

/// What [`MessageStore::sent`] promises, of a conversation whose last message is `last_seq`.
async fn sent_among<S: MessageStore + ?Sized>(
    store: &S,
    key: SentKey,
    now_ms: u64,
    last_seq: u64,
) -> Result<Result<ChatMessage, bool>, StoreError> {
    let mut to = last_seq;
    let end = to.saturating_sub(limits::ANSWER_SEARCH_MAX);
    while to > end {
        let from = to.saturating_sub(499).max(end + 1);
        let page = store.messages(key.conversation, from, to).await?;
        let same =
            |m: &&ChatMessage| (m.sender, m.device, m.counter) == (key.sender, key.device, key.counter);
        if let Some(found) = page.iter().rev().find(same) {
            return Ok(Ok(found.clone()));
        }
        let Some(first) = page.first() else { return Ok(Err(false)) };
        if first.sent_ms + limits::ANSWERS_KEPT_MS < now_ms {
            return Ok(Err(false));
        }
        to = from - 1;
    }
    Ok(Err(end == 0))
}

/// Users and their timelines.
///
/// **Durability and idempotency** as for messages; an entry is named by (user, cursor).
/// **Order.** Entries come by cursor.
#[async_trait]
pub trait Timeline: Send + Sync {
    /// Each of the users, with his places in conversations; one of whom nothing is stored is empty.
    async fn users(&self, ids: &[u64]) -> Result<Vec<StoredUser>, StoreError>;

    /// The first `limit` entries behind a cursor.
    async fn entries(&self, user: u64, after: u64, limit: usize) -> Result<Vec<Entry>, StoreError>;
}

/// What is filled behind the message log.
#[async_trait]
pub trait Shelf: MessageStore + Timeline {
    /// Where reading the log begins; the beginning when nothing was committed.
    async fn mark(&self) -> Result<Mark, StoreError>;

    /// Takes a checkpoint, whole or not at all. After an error the same again is safe, whatever became of it.
    async fn commit(&self, checkpoint: &Checkpoint) -> Result<(), StoreError>;
}
