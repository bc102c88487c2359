//! A node's way to the store and to the owners' book: it fails now and then, before or after what was asked for was done,
//! and is cut for good when the node is killed.

use async_trait::async_trait;
use chat::core::{Entry, Head, Person, SentKey, StoredConversation, StoredLink, StoredUser};
use chat::store::owned::{Fence, Listed, Name, Outcomes, OwnedShelf, Step};
use chat::store::owners::{BeginError, Begun, EndEpochError, OwnerAnswer, OwnerBook, OwnerTick, TickError};
use chat::store::{MessageStore, StoreError, Timeline};
use ownership::{BucketRow, EndReason, NodeRow};
use parking_lot::Mutex;
use records::ChatMessage;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Splits numbers from one seed (splitmix64), for whoever needs dice on several threads.
#[derive(Default)]
pub struct Dice(AtomicU64);

impl Dice {
    pub fn new(seed: u64) -> Dice {
        Dice(AtomicU64::new(seed))
    }

    pub fn below(&self, below: u64) -> u64 {
        let mut x = self.0.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (x ^ (x >> 31)) % below.max(1)
    }
}

/// Conversations and users with whom the store has its trouble; a call that has one of them fails as a whole.
#[derive(Default)]
pub struct Wrong {
    /// Their steps are refused.
    pub conversations: BTreeSet<u64>,
    pub timelines: BTreeSet<u64>,
    /// ... or never end.
    pub stuck: BTreeSet<u64>,
    /// They can't be understood.
    pub unreadable: BTreeSet<u64>,
}

impl Wrong {
    fn check_step(&self, step: &Step) -> Result<(), StoreError> {
        let ids = || step.conversations.iter().map(|c| c.rows.id);
        if ids().any(|id| self.stuck.contains(&id)) {
            return Err(StoreError::Unavailable("stuck".to_owned()));
        }
        let mut users = step.timelines.iter().map(|t| t.user);
        if ids().any(|id| self.conversations.contains(&id)) || users.any(|u| self.timelines.contains(&u)) {
            return Err(StoreError::Damaged("something in it".to_owned()));
        }
        Ok(())
    }

    fn check_read(&self, ids: &[u64]) -> Result<(), StoreError> {
        match ids.iter().any(|id| self.unreadable.contains(id)) {
            true => Err(StoreError::Damaged("something among them".to_owned())),
            false => Ok(()),
        }
    }
}

/// What becomes of calls.
#[derive(Default)]
pub struct Line {
    /// Nothing gets through any more.
    pub dead: AtomicBool,
    /// The book does not answer.
    pub bookless: AtomicBool,
    /// So many of 1,000 calls fail.
    pub trouble: AtomicU64,
    /// What is wrong in the store, and stays so.
    pub wrong: Mutex<Wrong>,
    dice: Dice,
}

impl Line {
    pub fn new(seed: u64) -> Arc<Line> {
        Arc::new(Line { dice: Dice::new(seed), ..Line::default() })
    }

    fn check(&self) -> Result<(), StoreError> {
        let fails = self.dice.below(1_000) < self.trouble.load(Ordering::Relaxed);
        if fails || self.dead.load(Ordering::SeqCst) {
            return Err(StoreError::Unavailable("cut".to_owned()));
        }
        Ok(())
    }

    fn check_book(&self) -> Result<(), StoreError> {
        match self.bookless.load(Ordering::SeqCst) {
            true => Err(StoreError::Unavailable("the book is cut".to_owned())),
            false => self.check(),
        }
    }
}

/// A store behind such a way.
pub struct CutShelf {
    pub inner: Arc<dyn OwnedShelf>,
    pub line: Arc<Line>,
}

/// A book behind such a way.
pub struct CutBook {
    pub inner: Arc<dyn OwnerBook>,
    pub line: Arc<Line>,
}

#[async_trait]
impl MessageStore for CutShelf {
    async fn conversations(&self, ids: &[u64]) -> Result<Vec<StoredConversation>, StoreError> {
        self.line.check()?;
        self.line.wrong.lock().check_read(ids)?;
        self.inner.conversations(ids).await
    }

    async fn pairs(&self, pairs: &[(u64, u64)]) -> Result<Vec<(u64, u64, u64)>, StoreError> {
        self.line.check()?;
        self.inner.pairs(pairs).await
    }

    async fn messages(&self, conversation: u64, from: u64, to: u64) -> Result<Vec<ChatMessage>, StoreError> {
        self.line.check()?;
        self.inner.messages(conversation, from, to).await
    }

    async fn sent(&self, key: SentKey, now_ms: u64) -> Result<Result<ChatMessage, bool>, StoreError> {
        self.line.check()?;
        self.inner.sent(key, now_ms).await
    }
}

#[async_trait]
impl Timeline for CutShelf {
    async fn users(&self, ids: &[u64]) -> Result<Vec<StoredUser>, StoreError> {
        self.line.check()?;
        self.line.wrong.lock().check_read(ids)?;
        self.inner.users(ids).await
    }

    async fn entries(&self, user: u64, after: u64, limit: usize) -> Result<Vec<Entry>, StoreError> {
        self.line.check()?;
        self.inner.entries(user, after, limit).await
    }
}

#[async_trait]
impl OwnedShelf for CutShelf {
    async fn step(&self, fence: &Fence, step: &Step) -> Result<Outcomes, StoreError> {
        self.line.check()?;
        self.line.wrong.lock().check_step(step)?;
        let outcomes = self.inner.step(fence, step).await?;
        // It was done, and nobody hears so.
        self.line.check()?;
        Ok(outcomes)
    }

    async fn unfanned(&self, buckets: &[u16], after: u64, limit: usize) -> Result<Vec<u64>, StoreError> {
        self.line.check()?;
        self.inner.unfanned(buckets, after, limit).await
    }

    async fn links(&self, user: u64, conversations: &[u64]) -> Result<Vec<StoredLink>, StoreError> {
        self.line.check()?;
        self.inner.links(user, conversations).await
    }

    async fn listed(&self, user: u64, conversations: &[u64]) -> Result<Vec<Listed>, StoreError> {
        self.line.check()?;
        self.inner.listed(user, conversations).await
    }

    async fn persons(&self, users: &[u64]) -> Result<Vec<(u64, Person)>, StoreError> {
        self.line.check()?;
        self.inner.persons(users).await
    }

    async fn acquainted(&self, user: u64, others: &[u64]) -> Result<Vec<u64>, StoreError> {
        self.line.check()?;
        self.inner.acquainted(user, others).await
    }

    async fn heads(&self, conversations: &[u64]) -> Result<Vec<(u64, u64, Head)>, StoreError> {
        self.line.check()?;
        self.inner.heads(conversations).await
    }

    async fn named(&self, name: Name) -> Result<Option<u64>, StoreError> {
        self.line.check()?;
        self.inner.named(name).await
    }

    async fn reserve_ids(&self, node: u16, until_ms: u64) -> Result<u64, StoreError> {
        self.line.check()?;
        self.inner.reserve_ids(node, until_ms).await
    }
}

#[async_trait]
impl OwnerBook for CutBook {
    async fn begin(&self, node: u16, above: u32) -> Result<Begun, BeginError> {
        self.line.check_book()?;
        self.inner.begin(node, above).await
    }

    async fn tick(&self, tick: &OwnerTick) -> Result<OwnerAnswer, TickError> {
        self.line.check_book()?;
        let answer = self.inner.tick(tick).await?;
        self.line.check_book()?;
        Ok(answer)
    }

    async fn end(&self, node: u16, epoch: u32, reason: EndReason) -> Result<bool, EndEpochError> {
        self.line.check_book()?;
        self.inner.end(node, epoch, reason).await
    }

    async fn buckets(&self) -> Result<Vec<BucketRow>, StoreError> {
        self.line.check_book()?;
        self.inner.buckets().await
    }

    async fn epochs(&self, node: u16) -> Result<Vec<NodeRow>, StoreError> {
        self.line.check_book()?;
        self.inner.epochs(node).await
    }
}
