//! The newest messages of conversations, for nodes that don't own them.

use super::BookError;
use async_trait::async_trait;
use records::ChatMessage;
use std::sync::Arc;

/// Most messages of a conversation that are kept.
pub const RECENT_MAX: usize = 128;

/// Port: recent messages. Only what is durable may be put; a message never changes, so what is found is right however
/// old it is, and what is missing is in the store.
///
/// **Order.** What is kept of a conversation has no hole and ends with the newest that was put. A message that does
/// not follow makes the book begin anew with it; one that is older than what is kept, and not next to it, is passed over.
/// **Expiry.** A conversation to which nobody puts anything for the book's time is forgotten.
#[async_trait]
pub trait RecentBook: Send + Sync {
    /// Puts durable messages of one conversation that follow each other, rising; at most the newest [`RECENT_MAX`] are
    /// kept.
    async fn keep(&self, conversation: u64, messages: &[Arc<ChatMessage>]) -> Result<(), BookError>;

    /// Those with a seq from `from` to `to`, both inclusive, that are kept: rising, without a hole between them.
    async fn recent(&self, conversation: u64, from: u64, to: u64) -> Result<Vec<ChatMessage>, BookError>;
}
