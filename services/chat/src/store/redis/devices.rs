//! Presence and routes: for each user a hash by device, each value with the time until which it holds.
//!
//! Presence: `AT UNTIL`, heard of and online until; routes: `ACCESS:CONNECTION UNTIL`. Times are the callers', in ms
//! UTC; the key's own expiry is a minute later, only so that it goes.

use super::{RedisBooks, for_each, number};
use crate::store::books::{Beat, BookError, DEVICES_MAX, PresenceBook, Route, RouteBook, Seen};
use async_trait::async_trait;
use storage::redis::{RedisArg, Script};

/// Looks through the devices: lets go of those that are over, keeps count, the latest end and the own value.
/// ARGV: now, device, most devices.
const LOOK: &str = r"
local key, now, devices, last, mine = KEYS[1], tonumber(ARGV[1]), 0, 0, nil
local all = redis.call('HGETALL', key)
for i = 1, #all, 2 do
  local value, ends = string.match(all[i + 1], '^(%S+) (%d+)$')
  ends = tonumber(ends)
  if not ends or ends <= now then
    redis.call('HDEL', key, all[i])
  else
    devices = devices + 1
    if ends > last then last = ends end
    if all[i] == ARGV[2] then mine = value end
  end
end
if not mine and devices >= tonumber(ARGV[3]) then return 0 end
";

/// Puts the own value. ARGV besides: value, until.
const KEEP: &str = r"
redis.call('HSET', key, ARGV[2], ARGV[4] .. ' ' .. ARGV[5])
if tonumber(ARGV[5]) > last then last = tonumber(ARGV[5]) end
redis.call('PEXPIRE', key, string.format('%.0f', math.max(last - now, 0) + 60000))
return 1
";

/// Between the two: an older beat changes nothing.
const NEWER: &str = "if mine and tonumber(mine) >= tonumber(ARGV[4]) then return 0 end\n";

/// ARGV: device, heard of at.
const GONE: &str = r"
local value = redis.call('HGET', KEYS[1], ARGV[1])
if not value then return 0 end
local at = tonumber(string.match(value, '^(%d+) '))
if at and at > tonumber(ARGV[2]) then return 0 end
return redis.call('HDEL', KEYS[1], ARGV[1])
";

/// ARGV: device, route.
const DROP: &str = r"
local value = redis.call('HGET', KEYS[1], ARGV[1])
if not value or string.match(value, '^(%S+) ') ~= ARGV[2] then return 0 end
return redis.call('HDEL', KEYS[1], ARGV[1])
";

/// ARGV: now. Answers devices and values that hold.
const HOLDING: &str = r"
local now, holding = tonumber(ARGV[1]), {}
local all = redis.call('HGETALL', KEYS[1])
for i = 1, #all, 2 do
  local value, ends = string.match(all[i + 1], '^(%S+) (%d+)$')
  if ends and tonumber(ends) > now then
    holding[#holding + 1] = all[i]
    holding[#holding + 1] = value
  end
end
return holding
";

pub(super) struct Scripts {
    beat: Script,
    gone: Script,
    put: Script,
    drop: Script,
    holding: Script,
}

impl Scripts {
    pub(super) fn new() -> Scripts {
        Scripts {
            beat: Script::new(&[LOOK, NEWER, KEEP].concat()),
            gone: Script::new(GONE),
            put: Script::new(&[LOOK, KEEP].concat()),
            drop: Script::new(DROP),
            holding: Script::new(HOLDING),
        }
    }
}

fn way(route: &Route) -> String {
    format!("{}:{}", route.access, route.connection)
}

fn route_of(device: &str, way: &str) -> Option<Route> {
    let (access, connection) = way.split_once(':')?;
    Some(Route {
        device: device.parse().ok()?,
        access: access.parse().ok()?,
        connection: connection.parse().ok()?,
    })
}

impl RedisBooks {
    /// Devices and values of a user that hold.
    async fn holding(&self, kind: &str, user: u64, now_ms: u64) -> Result<Vec<String>, BookError> {
        self.call(&self.scripts.devices.holding, &self.key(kind, user), &[number(now_ms)]).await
    }

    /// Puts a device's value.
    async fn keep_device(
        &self,
        script: &Script,
        key: String,
        device: u64,
        value: RedisArg<'_>,
        (until_ms, now_ms): (u64, u64),
    ) -> Result<(), BookError> {
        let most = number(DEVICES_MAX as u64);
        let args = [number(now_ms), RedisArg::Id(device), most, value, number(until_ms)];
        let _put: i64 = self.call(script, &key, &args).await?;
        Ok(())
    }
}

#[async_trait]
impl PresenceBook for RedisBooks {
    async fn beat(&self, beats: &[Beat], now_ms: u64) -> Result<(), BookError> {
        let one = |beat: &Beat| {
            let (script, key) = (&self.scripts.devices.beat, self.key("p", beat.user));
            self.keep_device(script, key, beat.device, number(beat.at_ms), (beat.until_ms, now_ms))
        };
        for_each(beats, one).await.map(|_| ())
    }

    async fn gone(&self, user: u64, device: u64, at_ms: u64) -> Result<(), BookError> {
        let args = [RedisArg::Id(device), number(at_ms)];
        let _gone: i64 = self.call(&self.scripts.devices.gone, &self.key("p", user), &args).await?;
        Ok(())
    }

    async fn seen(&self, users: &[u64], now_ms: u64) -> Result<Vec<Seen>, BookError> {
        let all = for_each(users, |user| self.holding("p", *user, now_ms)).await?;
        let seen = |(user, holding): (&u64, Vec<String>)| {
            let last = holding.chunks_exact(2).filter_map(|pair| pair[1].parse::<u64>().ok()).max();
            Seen { user: *user, online: last.is_some(), seen_ms: last.unwrap_or(0) }
        };
        Ok(users.iter().zip(all).map(seen).collect())
    }
}

#[async_trait]
impl RouteBook for RedisBooks {
    async fn route(&self, routes: &[(u64, Route)], until_ms: u64, now_ms: u64) -> Result<(), BookError> {
        let one = |(user, route): &(u64, Route)| {
            let (key, device, way) = (self.key("r", *user), route.device, way(route));
            async move {
                let value = RedisArg::Bytes(way.as_bytes());
                self.keep_device(&self.scripts.devices.put, key, device, value, (until_ms, now_ms)).await
            }
        };
        for_each(routes, one).await.map(|_| ())
    }

    async fn unroute(&self, user: u64, route: Route) -> Result<(), BookError> {
        let way = way(&route);
        let args = [RedisArg::Id(route.device), RedisArg::Bytes(way.as_bytes())];
        let _gone: i64 = self.call(&self.scripts.devices.drop, &self.key("r", user), &args).await?;
        Ok(())
    }

    async fn routes(&self, users: &[u64], now_ms: u64) -> Result<Vec<Vec<Route>>, BookError> {
        let all = for_each(users, |user| self.holding("r", *user, now_ms)).await?;
        let of = |holding: Vec<String>| {
            // What no program of ours wrote leads nowhere.
            let mut routes: Vec<Route> =
                holding.chunks_exact(2).filter_map(|pair| route_of(&pair[0], &pair[1])).collect();
            routes.sort_unstable();
            routes
        };
        Ok(all.into_iter().map(of).collect())
    }
}
