//! A cache of users' past wins, so that a user whom memory had to forget is not asked for at flow again.
//!
//! No law rests on it: a cache that is down or slow is a call to flow more. What makes an entry safe to believe is its
//! key: it names the bucket's term and whose term it is. Within a term only its owner decides wins, and a user who has won
//! under it stays in memory; so what was read once for a user is right as long as it can be asked for at all, and
//! under another term it is a miss.

mod entry;
pub mod memcached;
pub mod memory;

#[cfg(test)]
mod conformance;

pub use entry::{CacheKey, WINS_MAX};
pub use memcached::{Memcached, MemcachedError, MemcachedOptions};
pub use memory::MemoryCache;

use async_trait::async_trait;
use records::SnapshotWin;

/// The cache.
///
/// Durability: none; an entry may be gone at any time. Order: none; a `get` may or may not see a `put` before it.
/// Idempotency: the same key always has the same value, so putting again changes nothing.
///
/// An adapter answers within a few tens of milliseconds, with misses if need be, and never fails.
#[async_trait]
pub trait HistoryCache: Send + Sync {
    /// For each key its wins, oldest first; `None`: not here.
    async fn get(&self, keys: &[CacheKey]) -> Vec<Option<Vec<SnapshotWin>>>;

    /// Keeps entries, if that is possible now. Returns at once.
    fn put(&self, entries: Vec<(CacheKey, Vec<SnapshotWin>)>);
}

/// No cache: flow is always asked.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoCache;

#[async_trait]
impl HistoryCache for NoCache {
    async fn get(&self, keys: &[CacheKey]) -> Vec<Option<Vec<SnapshotWin>>> {
        keys.iter().map(|_| None).collect()
    }

    fn put(&self, _: Vec<(CacheKey, Vec<SnapshotWin>)>) {}
}
