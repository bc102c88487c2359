//! Limits that hold over several front doors: Redis keeps the count, governor stands in front.
//!
//! Whoever is over the limit at this door alone is refused here. Everybody else needs a permit of the shared book; a door
//! takes as many at a time as an address has been using (at most a sixteenth of a second's worth), and they are good for a
//! tenth of a second, so that a busy address does not cost a round trip for each request. What it does not use is
//! lost: the limit is never exceeded, and an address that is near it may get a little less.
//!
//! The book is GCRA in a script on one key, by the server's clock, so that doors need not agree on the time. While Redis is
//! away, or slower than the time-out, governor decides alone; that is logged once when it begins and once when it ends.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt};
use parking_lot::Mutex;
use runtime::{SharedClock, TaskKind, Tasks};
use storage::redis::{Redis, Script};
use tokio::sync::{mpsc, oneshot};

use super::{AddressRates, GovernorRates, Limited, Pass, RateBook};
use crate::floods::address_key;
use crate::limits::GATE_KEYS_MAX;

/// How long permits that were taken ahead are good, in ms.
const AHEAD_MS: u64 = 100;

/// At most this part of a second's worth is taken ahead.
const AHEAD_PART: u32 = 16;

/// Questions that may wait; beyond them governor decides alone.
const QUESTIONS_MAX: usize = 4096;

/// Questions that Redis is asked at the same time, on one connection.
const UNDER_WAY_MAX: usize = 256;

/// GCRA: the key holds the instant (in microseconds) at which all permits given so far are paid for. ARGV: rate a second,
/// permits wanted. Answers permits given and, if none, the wait in ms.
const TAKE: &str = r"
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
local rate, wanted = tonumber(ARGV[1]), tonumber(ARGV[2])
local each = 1000000 / rate
local paid = tonumber(redis.call('GET', KEYS[1]) or now)
if paid < now then paid = now end
local room = math.floor((now + 1000000 - paid) / each + 0.000001)
local given = math.min(room, wanted)
if given < 1 then
  return {0, math.ceil((paid + each - 1000000 - now) / 1000)}
end
paid = paid + given * each
redis.call('SET', KEYS[1], string.format('%.3f', paid), 'PX', math.ceil((paid - now) / 1000) + 1)
return {given, 0}
";

/// How the book is kept.
#[derive(Clone, Debug)]
pub struct RedisRatesOptions {
    /// In front of all keys: the name of the cluster, so that two may share a server.
    pub prefix: String,
    /// How long an answer may take before governor's word counts, in ms.
    pub within_ms: u64,
}

/// What is known of an address.
#[derive(Clone, Copy, Default)]
struct Known {
    /// Permits taken and not used, and until when they are good (monotonic ms).
    left: u32,
    good_until_ms: u64,
    /// Nothing passes before (monotonic ms).
    closed_until_ms: u64,
    /// How many were taken last.
    taken: u32,
}

struct Question {
    key: (Limited, IpAddr),
    rate: u32,
    wanted: u32,
    answer: oneshot::Sender<Result<(), u32>>,
}

/// The book.
pub struct RedisRates {
    front: GovernorRates,
    rates: [AtomicU32; 2],
    known: Arc<Mutex<HashMap<(Limited, IpAddr), Known>>>,
    questions: mpsc::Sender<Question>,
    clock: SharedClock,
    within: Duration,
}

impl RedisRates {
    /// A book in this Redis, which may be away. Its questions are asked by a task of `tasks`.
    pub fn start(
        redis: Redis,
        options: RedisRatesOptions,
        rates: AddressRates,
        clock: SharedClock,
        tasks: &Tasks,
    ) -> Arc<RedisRates> {
        let (questions, asked) = mpsc::channel(QUESTIONS_MAX);
        let known = Arc::default();
        let book = Arc::new(RedisRates {
            front: GovernorRates::new(rates),
            rates: Limited::ALL.map(|limited| AtomicU32::new(rates.of(limited))),
            known: Arc::clone(&known),
            questions,
            clock: clock.clone(),
            within: Duration::from_millis(options.within_ms),
        });
        let asker = Asker { redis, script: Script::new(TAKE), prefix: options.prefix, known, clock };
        let shutdown = tasks.shutdown().clone();
        tasks.spawn("rate-book", TaskKind::BestEffort, async move {
            tokio::select! {
                () = asker.run(asked) => {}
                () = shutdown.wait() => {}
            }
            Ok(())
        });
        book
    }

    fn mono_ms(&self) -> u64 {
        self.clock.mono_ns() / 1_000_000
    }
}

impl RateBook for RedisRates {
    fn pass(&self, limited: Limited, address: IpAddr) -> Pass {
        if let Pass::Wait(ms) = self.front.pass(limited, address) {
            return Pass::Wait(ms);
        }
        let key = (limited, address_key(address));
        let now_ms = self.mono_ms();
        let rate = self.rates[limited as usize].load(Ordering::Relaxed);
        let wanted = {
            let mut known = self.known.lock();
            if known.len() >= GATE_KEYS_MAX && !known.contains_key(&key) {
                // Too many to tell apart until the next sweep: governor has its own answer to that.
                return Pass::Yes;
            }
            let known = known.entry(key).or_default();
            if now_ms < known.closed_until_ms {
                return Pass::Wait((known.closed_until_ms - now_ms) as u32);
            }
            if known.left > 0 && now_ms < known.good_until_ms {
                known.left -= 1;
                return Pass::Yes;
            }
            // Used up in time: take more. Lost: begin small.
            let used_up = known.left == 0 && now_ms < known.good_until_ms;
            if used_up { (known.taken * 2).clamp(1, (rate / AHEAD_PART).max(1)) } else { 1 }
        };
        let (answer, word) = oneshot::channel();
        if self.questions.try_send(Question { key, rate, wanted, answer }).is_err() {
            return Pass::Yes;
        }
        let within = self.within;
        Pass::Ask(Box::pin(async move {
            // No answer, or none in time: governor has said yes.
            tokio::time::timeout(within, word).await.map_or(Ok(()), |word| word.unwrap_or(Ok(())))
        }))
    }

    fn sweep(&self, rates: AddressRates) {
        self.front.sweep(rates);
        for limited in Limited::ALL {
            self.rates[limited as usize].store(rates.of(limited), Ordering::Relaxed);
        }
        let now_ms = self.mono_ms();
        let mut known = self.known.lock();
        known.retain(|_, known| now_ms < known.good_until_ms.max(known.closed_until_ms));
        known.shrink_to_fit();
    }
}

/// The task that asks.
struct Asker {
    redis: Redis,
    script: Script,
    prefix: String,
    known: Arc<Mutex<HashMap<(Limited, IpAddr), Known>>>,
    clock: SharedClock,
}

impl Asker {
    async fn run(&self, mut asked: mpsc::Receiver<Question>) {
        let mut under_way = FuturesUnordered::new();
        loop {
            tokio::select! {
                question = asked.recv(), if under_way.len() < UNDER_WAY_MAX => match question {
                    Some(question) => under_way.push(self.ask(question)),
                    None => return,
                },
                Some(()) = under_way.next(), if !under_way.is_empty() => {}
            }
        }
    }

    async fn ask(&self, question: Question) {
        let (limited, address) = question.key;
        let what = match limited {
            Limited::Login => "login",
            Limited::Http => "http",
        };
        let key = format!("{}:rate:{what}:{address}", self.prefix);
        let args = [i64::from(question.rate), i64::from(question.wanted)];
        let said: Result<(u32, u32), _> = self.redis.run(&self.script, &key, &args).await;
        let word = match said {
            Ok((given, wait_ms)) => {
                let now_ms = self.clock.mono_ns() / 1_000_000;
                let mut known = self.known.lock();
                let known = known.entry(question.key).or_default();
                if given == 0 {
                    let wait_ms = wait_ms.max(1);
                    known.closed_until_ms = now_ms + u64::from(wait_ms);
                    Err(wait_ms)
                } else {
                    // Whatever another question left is good with this one's.
                    let before = if now_ms < known.good_until_ms { known.left } else { 0 };
                    known.left = before + given - 1;
                    known.taken = given;
                    known.good_until_ms = now_ms + AHEAD_MS;
                    Ok(())
                }
            }
            Err(storage::redis::RedisError::Away { .. }) => Ok(()),
            Err(error) => {
                tracing::warn!(%error, "the rate book can't be kept; governor decides alone");
                Ok(())
            }
        };
        // Whoever stopped waiting has his yes; the permits stay for the next.
        let _ = question.answer.send(word);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gates::conformance;
    use runtime::{Shutdown, SystemClock};
    use storage::redis::RedisOptions;

    /// A cluster, if one is named: `redis://host:port,redis://host:port`. The usual servers for tests have none.
    fn cluster() -> Option<String> {
        std::env::var("HONGBAO_TEST_REDIS_CLUSTER").ok().filter(|urls| !urls.is_empty())
    }

    /// Address of the Redis server for tests; a missing one is a failure where every server must be there.
    fn server() -> Option<String> {
        let url = std::env::var("HONGBAO_TEST_REDIS").ok().filter(|url| !url.is_empty());
        if url.is_none() {
            assert!(
                std::env::var("HONGBAO_TEST_SERVERS").as_deref() != Ok("1"),
                "HONGBAO_TEST_REDIS is not set"
            );
            eprintln!("skipped: HONGBAO_TEST_REDIS is not set");
        }
        url
    }

    /// Several addresses are those of a cluster.
    fn door(urls: &str, prefix: &str, rates: AddressRates, tasks: &Tasks) -> Arc<RedisRates> {
        let urls: Vec<_> = urls.split(',').map(str::to_owned).collect();
        let options = RedisOptions { cluster: urls.len() > 1, urls, connect_ms: 2_000, answer_ms: 2_000 };
        let redis = Redis::new(options).unwrap();
        let options = RedisRatesOptions { prefix: prefix.to_owned(), within_ms: 5_000 };
        RedisRates::start(redis, options, rates, SystemClock::shared(), tasks)
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn conforms_with_several_doors() {
        let tasks = Tasks::new(Shutdown::new());
        for (urls, doors) in [(server(), 1), (server(), 3), (cluster(), 3)] {
            let Some(urls) = urls else { continue };
            let prefix = format!("test-{:016x}", getrandom::u64().unwrap());
            conformance::holds(|rates| {
                let doors = (0..doors).map(|_| door(&urls, &prefix, rates, &tasks) as Arc<dyn RateBook>);
                let doors = doors.collect();
                async move { doors }
            })
            .await;
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn without_redis_governor_decides_alone() {
        let tasks = Tasks::new(Shutdown::new());
        conformance::holds(|rates| {
            // Nobody listens there.
            let book = door("redis://127.0.0.1:1", "test", rates, &tasks);
            async move { vec![book as Arc<dyn RateBook>] }
        })
        .await;
    }
}
