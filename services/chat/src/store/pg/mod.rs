//! The shelf in PostgreSQL, for chat nodes on many machines.
//!
//! A step is one transaction and **two round trips**, however much it carries: the first message begins the
//! transaction, looks at the fence, locks the conversations and reads where they stand; each conversation and timeline
//! is judged by itself; the second message writes what may be written and commits ([`step`]). A step that wrote entries
//! a second time asks once more which cursors stand there.
//!
//! The fence is the row of the node's epoch, held FOR KEY SHARE until the commit, and the rows of its buckets, read
//! behind that. So ending an epoch waits for its steps, and no step of an ended epoch is committed. Bucket rows are not
//! held (a step touches hundreds, and holding rows that many steps hold is dear): what keeps a sealed bucket clean is
//! the rule of [`super::owners`] that an owner seals only what has its outcome.
//!
//! A read is one statement, so it sees whole steps. While the server is away every call fails within the time limits of
//! its [`PgOptions`]; every call may then be made again. Nothing is recovered here: a transaction is there or not.

mod read;
mod schema;
mod step;
mod write;

use super::owned::{Fence, Listed, Name, Outcomes, OwnedShelf, Step};
use super::{MessageStore, StoreError, Timeline, sent_among};
use crate::core::{Entry, Head, Person, SentKey, StoredConversation, StoredLink, StoredUser};
use async_trait::async_trait;
use ownership::pg as owners;
use records::ChatMessage;
use storage::pg::{Pg, PgOpenError, PgOptions, migrate};
use storage::{MigrationError, SqlError};

pub use schema::SCHEMA;

/// Parts of each table.
pub const PARTS: u32 = 16;

/// The shelf. Cloning gives another handle to the same connections.
#[derive(Clone)]
pub struct PgShelf {
    pg: Pg,
}

/// Why the database can't be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenPgShelfError {
    /// It can't be opened.
    #[error(transparent)]
    Open(#[from] PgOpenError),
    /// Its tables can't be brought up to date.
    #[error(transparent)]
    Migrate(#[from] MigrationError),
}

impl PgShelf {
    /// Opens the database, with [`SCHEMA`] as the schema of chat's tables. `now_ms` goes into the record of migrations.
    ///
    /// # Errors
    /// When it can't be used.
    pub async fn open(options: PgOptions, now_ms: u64) -> Result<PgShelf, OpenPgShelfError> {
        let pg = Pg::open(PgOptions { schema: Some(SCHEMA), ..options }).await?;
        Ok(PgShelf::on(pg, now_ms).await?)
    }

    /// Brings the tables of an open database up to date, the owners' tables too.
    ///
    /// # Errors
    /// When they are of a newer program or can't be made.
    pub async fn on(pg: Pg, now_ms: u64) -> Result<PgShelf, MigrationError> {
        migrate(&pg, owners::SERVICE, owners::MIGRATIONS, now_ms).await?;
        migrate(&pg, schema::SERVICE, schema::MIGRATIONS, now_ms).await?;
        Ok(PgShelf { pg })
    }

    /// The connections: for the owners' book beside it, and for health checks.
    pub fn pg(&self) -> &Pg {
        &self.pg
    }
}

fn told(error: impl Into<SqlError>) -> StoreError {
    StoreError::Unavailable(error.into().to_string())
}

#[async_trait]
impl MessageStore for PgShelf {
    async fn conversations(&self, ids: &[u64]) -> Result<Vec<StoredConversation>, StoreError> {
        read::conversations(&self.pg, ids).await
    }

    async fn pairs(&self, pairs: &[(u64, u64)]) -> Result<Vec<(u64, u64, u64)>, StoreError> {
        read::pairs(&self.pg, pairs).await
    }

    async fn messages(&self, conversation: u64, from: u64, to: u64) -> Result<Vec<ChatMessage>, StoreError> {
        read::messages(&self.pg, conversation, from, to).await
    }

    async fn sent(&self, key: SentKey, now_ms: u64) -> Result<Result<ChatMessage, bool>, StoreError> {
        // Without the members, of whom there may be 100,000.
        let head = read::heads(&self.pg, &[key.conversation]).await?.pop();
        let Some((_, _, head)) = head else { return Ok(Err(true)) };
        sent_among(self, key, now_ms, head.last_seq).await
    }
}

#[async_trait]
impl Timeline for PgShelf {
    async fn users(&self, ids: &[u64]) -> Result<Vec<StoredUser>, StoreError> {
        read::users(&self.pg, ids).await
    }

    async fn entries(&self, user: u64, after: u64, limit: usize) -> Result<Vec<Entry>, StoreError> {
        read::entries(&self.pg, user, after, limit).await
    }
}

#[async_trait]
impl OwnedShelf for PgShelf {
    async fn step(&self, fence: &Fence, step: &Step) -> Result<Outcomes, StoreError> {
        step::step(&self.pg, fence, step).await
    }

    async fn unfanned(&self, buckets: &[u16], after: u64, limit: usize) -> Result<Vec<u64>, StoreError> {
        read::unfanned(&self.pg, buckets, after, limit).await
    }

    async fn links(&self, user: u64, conversations: &[u64]) -> Result<Vec<StoredLink>, StoreError> {
        read::links(&self.pg, user, conversations).await
    }

    async fn listed(&self, user: u64, conversations: &[u64]) -> Result<Vec<Listed>, StoreError> {
        read::listed(&self.pg, user, conversations).await
    }

    async fn persons(&self, users: &[u64]) -> Result<Vec<(u64, Person)>, StoreError> {
        read::persons(&self.pg, users).await
    }

    async fn acquainted(&self, user: u64, others: &[u64]) -> Result<Vec<u64>, StoreError> {
        read::acquainted(&self.pg, user, others).await
    }

    async fn heads(&self, conversations: &[u64]) -> Result<Vec<(u64, u64, Head)>, StoreError> {
        read::heads(&self.pg, conversations).await
    }

    async fn named(&self, name: Name) -> Result<Option<u64>, StoreError> {
        read::named(&self.pg, name).await
    }

    async fn reserve_ids(&self, node: u16, until_ms: u64) -> Result<u64, StoreError> {
        write::reserve_ids(&self.pg, node, until_ms).await
    }
}
