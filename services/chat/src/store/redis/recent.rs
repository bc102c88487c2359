//! Recent messages: for each conversation a hash by seq, with the first (`lo`) and the last (`hi`) that are there.

use super::{RedisBooks, number};
use crate::store::books::{BookError, RECENT_MAX, RecentBook};
use async_trait::async_trait;
use records::{ChatMessage, Record as _};
use std::sync::Arc;
use storage::redis::{RedisArg, Script};

/// ARGV: expiry, most messages, seq of the first; then the messages.
const PUT: &str = r"
local key, keep, first = KEYS[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local last = first + #ARGV - 4
local low, high = redis.call('HGET', key, 'lo'), redis.call('HGET', key, 'hi')
if low and high then
  low, high = tonumber(low), tonumber(high)
  if last + 1 < low then return 0 end
  if first > high + 1 then
    redis.call('DEL', key)
    low, high = first, last
  end
else
  low, high = first, last
end
low, high = math.min(low, first), math.max(high, last)
for i = 4, #ARGV do
  redis.call('HSET', key, string.format('%.0f', first + i - 4), ARGV[i])
end
while high - low + 1 > keep do
  redis.call('HDEL', key, string.format('%.0f', low))
  low = low + 1
end
redis.call('HSET', key, 'lo', string.format('%.0f', low), 'hi', string.format('%.0f', high))
redis.call('PEXPIRE', key, ARGV[1])
return 1
";

/// ARGV: from, to.
const RECENT: &str = r"
local low, high = redis.call('HGET', KEYS[1], 'lo'), redis.call('HGET', KEYS[1], 'hi')
if not low or not high then return {} end
low, high = math.max(tonumber(low), tonumber(ARGV[1])), math.min(tonumber(high), tonumber(ARGV[2]))
local found = {}
for seq = low, high do
  found[#found + 1] = redis.call('HGET', KEYS[1], string.format('%.0f', seq))
end
return found
";

pub(super) struct Scripts {
    put: Script,
    recent: Script,
}

impl Scripts {
    pub(super) fn new() -> Scripts {
        Scripts { put: Script::new(PUT), recent: Script::new(RECENT) }
    }
}

#[async_trait]
impl RecentBook for RedisBooks {
    async fn keep(&self, conversation: u64, messages: &[Arc<ChatMessage>]) -> Result<(), BookError> {
        let messages = &messages[messages.len().saturating_sub(RECENT_MAX)..];
        let Some(first) = messages.first() else { return Ok(()) };
        let bytes: Vec<Vec<u8>> = messages.iter().map(|m| m.encode()).collect();
        let mut args = vec![number(self.options.recent_ms), number(RECENT_MAX as u64), number(first.seq)];
        args.extend(bytes.iter().map(|b| RedisArg::Bytes(b)));
        let _put: i64 = self.call(&self.scripts.recent.put, &self.key("m", conversation), &args).await?;
        Ok(())
    }

    async fn recent(&self, conversation: u64, from: u64, to: u64) -> Result<Vec<ChatMessage>, BookError> {
        let args = [number(from), number(to)];
        let found: Vec<Vec<u8>> =
            self.call(&self.scripts.recent.recent, &self.key("m", conversation), &args).await?;
        let mut messages: Vec<ChatMessage> = Vec::with_capacity(found.len());
        for bytes in &found {
            let strange = |why: String| BookError(format!("recent messages of {conversation}: {why}"));
            let message = ChatMessage::decode(bytes).map_err(|error| strange(error.to_string()))?;
            let follows = messages.last().is_none_or(|before| before.seq + 1 == message.seq);
            if message.conversation != conversation || !follows {
                return Err(strange(format!("there is message {} of {}", message.seq, message.conversation)));
            }
            messages.push(message);
        }
        Ok(messages)
    }
}
