//! The books in Redis, Redis Cluster or Valkey. `docs/formats.md` ('Chat in Redis') has the keys.
//!
//! One key a user or a conversation, so that a script finds everything it changes in one slot, and each key with an
//! expiry, so that nothing stays that nobody needs. Calls for many go out together, some dozens at a time on one
//! connection. While Redis is away every call says so at once.

mod devices;
mod recent;
mod unread;

use super::books::BookError;
use futures_util::future::try_join_all;
use std::future::Future;
use std::sync::Arc;
use storage::redis::{Redis, RedisArg, Script};

/// Calls that are under way at a time, for one caller.
const UNDER_WAY_MAX: usize = 64;

/// How the books are kept.
#[derive(Clone, Debug)]
pub struct RedisBooksOptions {
    /// In front of all keys: the name of the cluster, so that two may share a server.
    pub prefix: String,
    /// Unread counts that nobody has changed for so long are forgotten, in ms.
    pub unread_ms: u64,
    /// Recent messages of a conversation to which nothing came for so long are forgotten, in ms.
    pub recent_ms: u64,
}

impl Default for RedisBooksOptions {
    fn default() -> RedisBooksOptions {
        RedisBooksOptions { prefix: "hongbao".to_owned(), unread_ms: 86_400_000, recent_ms: 3_600_000 }
    }
}

/// The books.
#[derive(Clone)]
pub struct RedisBooks {
    redis: Arc<Redis>,
    options: RedisBooksOptions,
    scripts: Arc<Scripts>,
}

struct Scripts {
    unread: unread::Scripts,
    devices: devices::Scripts,
    recent: recent::Scripts,
}

impl RedisBooks {
    /// Books in this Redis, which may be away.
    pub fn new(redis: Arc<Redis>, options: RedisBooksOptions) -> RedisBooks {
        let scripts = Scripts {
            unread: unread::Scripts::new(),
            devices: devices::Scripts::new(),
            recent: recent::Scripts::new(),
        };
        RedisBooks { redis, options, scripts: Arc::new(scripts) }
    }

    fn key(&self, kind: &str, id: u64) -> String {
        format!("{}:chat:{kind}:{id}", self.options.prefix)
    }

    async fn call<T: storage::redis::FromRedisValue>(
        &self,
        script: &Script,
        key: &str,
        args: &[RedisArg<'_>],
    ) -> Result<T, BookError> {
        self.redis.call(script, key, args).await.map_err(|error| BookError(error.to_string()))
    }
}

/// Makes a call for each item, some at a time; the answers in their order.
async fn for_each<I: Sync, T, F>(items: &[I], call: impl Fn(&I) -> F) -> Result<Vec<T>, BookError>
where
    F: Future<Output = Result<T, BookError>>,
{
    let mut all = Vec::with_capacity(items.len());
    for some in items.chunks(UNDER_WAY_MAX) {
        all.extend(try_join_all(some.iter().map(&call)).await?);
    }
    Ok(all)
}

/// A number for a script that counts with it.
fn number(value: u64) -> RedisArg<'static> {
    RedisArg::Int(value.min((1 << 53) - 1).cast_signed())
}
