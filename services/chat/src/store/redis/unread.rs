//! Unread counts: a hash for each user. `t`: term, `g`: tag, `s`: total, `c` and a conversation's number: version and
//! count.

use super::{RedisBooks, for_each, number};
use crate::store::books::{BookError, Tag, Unread, UnreadAt, UnreadBook};
use async_trait::async_trait;
use storage::redis::{RedisArg, Script};

/// ARGV: term, tag, expiry, 1 to fill or 0 to change; then conversation, version, count of each. Answers the total, or -1.
const PUT: &str = r"
local key = KEYS[1]
if ARGV[4] == '1' then
  local term = redis.call('HGET', key, 't')
  if term and tonumber(term) > tonumber(ARGV[1]) then return -1 end
  if redis.call('HGET', key, 'g') ~= ARGV[2] then redis.call('DEL', key) end
elseif redis.call('HGET', key, 'g') ~= ARGV[2] then
  return -1
end
local total = tonumber(redis.call('HGET', key, 's') or '0')
for i = 5, #ARGV, 3 do
  local field = 'c' .. ARGV[i]
  local old = redis.call('HGET', key, field)
  local version, count = -1, 0
  if old then
    local v, c = string.match(old, '^(%d+) (%d+)$')
    version, count = tonumber(v), tonumber(c)
  end
  if tonumber(ARGV[i + 1]) > version then
    total = total + tonumber(ARGV[i + 2]) - count
    redis.call('HSET', key, field, ARGV[i + 1] .. ' ' .. ARGV[i + 2])
  end
end
redis.call('HSET', key, 't', ARGV[1], 'g', ARGV[2], 's', string.format('%.0f', total))
redis.call('PEXPIRE', key, ARGV[3])
return total
";

/// ARGV: tag. Answers fields and values, none under another tag.
const READ: &str = r"
if redis.call('HGET', KEYS[1], 'g') ~= ARGV[1] then return {} end
return redis.call('HGETALL', KEYS[1])
";

const TOTAL: &str = "return redis.call('HGET', KEYS[1], 's')";
const FORGET: &str = "return redis.call('DEL', KEYS[1])";

pub(super) struct Scripts {
    put: Script,
    read: Script,
    total: Script,
    forget: Script,
}

impl Scripts {
    pub(super) fn new() -> Scripts {
        Scripts {
            put: Script::new(PUT),
            read: Script::new(READ),
            total: Script::new(TOTAL),
            forget: Script::new(FORGET),
        }
    }
}

fn text(tag: Tag) -> String {
    format!("{}.{}.{}.{}", tag.term, tag.node, tag.epoch, tag.turn)
}

impl RedisBooks {
    async fn put_unread(
        &self,
        user: u64,
        tag: Tag,
        some: &[UnreadAt],
        fill: bool,
    ) -> Result<Option<u64>, BookError> {
        let name = text(tag);
        let mut args = vec![
            RedisArg::Int(tag.term.into()),
            RedisArg::Bytes(name.as_bytes()),
            number(self.options.unread_ms),
            RedisArg::Int(fill.into()),
        ];
        for UnreadAt { conversation, count, version } in some {
            args.extend([RedisArg::Id(*conversation), number(*version), number(*count)]);
        }
        let total: i64 = self.call(&self.scripts.unread.put, &self.key("u", user), &args).await?;
        Ok(u64::try_from(total).ok())
    }
}

#[async_trait]
impl UnreadBook for RedisBooks {
    async fn fill(&self, user: u64, tag: Tag, all: &[UnreadAt]) -> Result<Option<u64>, BookError> {
        self.put_unread(user, tag, all, true).await
    }

    async fn set(&self, user: u64, tag: Tag, some: &[UnreadAt]) -> Result<Option<u64>, BookError> {
        self.put_unread(user, tag, some, false).await
    }

    async fn read(&self, user: u64, tag: Tag) -> Result<Option<Unread>, BookError> {
        let name = text(tag);
        let args = [RedisArg::Bytes(name.as_bytes())];
        let all: Vec<String> = self.call(&self.scripts.unread.read, &self.key("u", user), &args).await?;
        if all.is_empty() {
            return Ok(None);
        }
        let mut unread = Unread::default();
        for pair in all.chunks_exact(2) {
            let strange = || BookError(format!("unread counts of a user hold {:?} = {:?}", pair[0], pair[1]));
            if pair[0] == "s" {
                unread.total = pair[1].parse().map_err(|_| strange())?;
            } else if let Some(conversation) = pair[0].strip_prefix('c') {
                let (version, count) = pair[1].split_once(' ').ok_or_else(strange)?;
                let at = UnreadAt {
                    conversation: conversation.parse().map_err(|_| strange())?,
                    count: count.parse().map_err(|_| strange())?,
                    version: version.parse().map_err(|_| strange())?,
                };
                if at.count > 0 {
                    unread.conversations.push(at);
                }
            }
        }
        unread.conversations.sort_unstable();
        Ok(Some(unread))
    }

    async fn totals(&self, users: &[u64]) -> Result<Vec<Option<u64>>, BookError> {
        let one = |user: &u64| {
            let key = self.key("u", *user);
            async move { self.call(&self.scripts.unread.total, &key, &[]).await }
        };
        for_each(users, one).await
    }

    async fn forget(&self, user: u64) -> Result<(), BookError> {
        let _gone: i64 = self.call(&self.scripts.unread.forget, &self.key("u", user), &[]).await?;
        Ok(())
    }
}
