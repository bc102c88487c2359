//! A connection to Redis, Redis Cluster or Valkey: made when it is first needed, shared by all callers, given up when
//! it breaks, and made again after a back-off. No meaning: what a key holds is known by whoever owns it.
//!
//! Nothing of value may rest on it. While it is away each call says so at once, one line in the log says when that began
//! and one when it ended. Scripts keep to one key each, so that they run in a cluster, whichever shard has the key.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::cluster::ClusterClient;
use redis::cluster_async::ClusterConnection;
use redis::{AsyncConnectionConfig, IntoConnectionInfo};
use tokio::sync::{Mutex, RwLock};
use tokio::time::Instant;

/// Scripts and what can be made of their answers, as the library underneath has them.
pub use redis::{FromRedisValue, Script};

/// Between attempts to connect, at first and at most.
const RETRY_MS: (u64, u64) = (100, 2_000);

/// Where Redis is and how long it may take.
#[derive(Clone, Debug)]
pub struct RedisOptions {
    /// `redis://user:password@host:port`; of a cluster, some of its nodes.
    pub urls: Vec<String>,
    /// Whether it is a cluster.
    pub cluster: bool,
    /// To connect, in ms.
    pub connect_ms: u64,
    /// For an answer, in ms.
    pub answer_ms: u64,
}

/// Why there is no answer. Words never hold a password.
#[derive(Debug, thiserror::Error)]
pub enum RedisError {
    /// An address that is none.
    #[error("Redis address {number} is not of the form redis://user:password@host:port")]
    Address {
        /// Which of the addresses, from 1.
        number: usize,
    },
    /// No address at all.
    #[error("no address of a Redis server is given")]
    NoAddress,
    /// It can't be reached.
    #[error("Redis at {servers} can't be reached: {error}")]
    Away {
        /// Hosts and ports.
        servers: String,
        /// What was tried and failed.
        error: String,
    },
    /// It answered with an error.
    #[error("Redis at {servers} refused: {error}")]
    Refused {
        /// Hosts and ports.
        servers: String,
        /// Its words.
        error: String,
    },
}

/// What is handed to a script.
#[derive(Clone, Copy, Debug)]
pub enum RedisArg<'a> {
    /// A number. A script that counts with it has 53 bits.
    Int(i64),
    /// A name of 64 bits, not to be counted with.
    Id(u64),
    /// Bytes.
    Bytes(&'a [u8]),
}

enum Client {
    One(redis::Client),
    Cluster(Box<ClusterClient>),
}

#[derive(Clone)]
enum Connection {
    One(MultiplexedConnection),
    Cluster(ClusterConnection),
}

struct Attempts {
    next: Option<Instant>,
    wait_ms: u64,
}

/// The connection. Cheap to share behind an `Arc`.
pub struct Redis {
    client: Client,
    servers: String,
    options: RedisOptions,
    connection: RwLock<Option<Connection>>,
    attempts: Mutex<Attempts>,
    away: AtomicBool,
}

impl Redis {
    /// Checks the addresses; connects to nobody yet, so that a server that is down at start keeps nothing from starting.
    ///
    /// # Errors
    /// When an address is none.
    pub fn new(options: RedisOptions) -> Result<Redis, RedisError> {
        let mut infos = Vec::new();
        for (i, url) in options.urls.iter().enumerate() {
            let info = url.as_str().into_connection_info();
            infos.push(info.map_err(|_| RedisError::Address { number: i + 1 })?);
        }
        let servers = infos.iter().map(|info| info.addr().to_string()).collect::<Vec<_>>().join(", ");
        let bad = |_| RedisError::Address { number: 1 };
        let client = match (options.cluster, infos.first()) {
            (_, None) => return Err(RedisError::NoAddress),
            (false, Some(info)) => Client::One(redis::Client::open(info.clone()).map_err(bad)?),
            (true, Some(_)) => {
                let client = ClusterClient::builder(infos)
                    .connection_timeout(Duration::from_millis(options.connect_ms))
                    .response_timeout(Duration::from_millis(options.answer_ms))
                    .retries(1)
                    .build();
                Client::Cluster(Box::new(client.map_err(bad)?))
            }
        };
        let attempts = Mutex::new(Attempts { next: None, wait_ms: RETRY_MS.0 });
        let (connection, away) = (RwLock::default(), AtomicBool::new(false));
        Ok(Redis { client, servers, options, connection, attempts, away })
    }

    /// Hosts and ports.
    pub fn servers(&self) -> &str {
        &self.servers
    }

    /// Whether the last call failed for want of a server.
    pub fn is_away(&self) -> bool {
        self.away.load(Ordering::Relaxed)
    }

    /// Runs a script on one key, with numbers.
    ///
    /// # Errors
    /// When there is no connection now, or it breaks, or the server refuses.
    pub async fn run<T: FromRedisValue>(
        &self,
        script: &Script,
        key: &str,
        args: &[i64],
    ) -> Result<T, RedisError> {
        let args: Vec<RedisArg<'_>> = args.iter().map(|arg| RedisArg::Int(*arg)).collect();
        self.call(script, key, &args).await
    }

    /// Runs a script on one key.
    ///
    /// # Errors
    /// As [`Redis::run`].
    pub async fn call<T: FromRedisValue>(
        &self,
        script: &Script,
        key: &str,
        args: &[RedisArg<'_>],
    ) -> Result<T, RedisError> {
        let mut connection = self.connected().await?;
        let mut call = script.key(key);
        args.iter().for_each(|arg| {
            match arg {
                RedisArg::Int(number) => call.arg(*number),
                RedisArg::Id(id) => call.arg(*id),
                RedisArg::Bytes(bytes) => call.arg(*bytes),
            };
        });
        let within = Duration::from_millis(self.options.answer_ms);
        let answer = tokio::time::timeout(within, async {
            match &mut connection {
                Connection::One(one) => call.invoke_async(one).await,
                Connection::Cluster(cluster) => call.invoke_async(cluster).await,
            }
        });
        match answer.await {
            Ok(Ok(answer)) => {
                self.there();
                Ok(answer)
            }
            Ok(Err(error)) if error.is_connection_dropped() || error.is_io_error() || error.is_timeout() => {
                Err(self.broke(error.to_string()).await)
            }
            Ok(Err(error)) => {
                Err(RedisError::Refused { servers: self.servers.clone(), error: error.to_string() })
            }
            Err(_) => Err(self.broke(format!("no answer within {} ms", self.options.answer_ms)).await),
        }
    }

    async fn connected(&self) -> Result<Connection, RedisError> {
        if let Some(connection) = &*self.connection.read().await {
            return Ok(connection.clone());
        }
        // One attempt at a time; nobody waits for another's.
        let Ok(mut attempts) = self.attempts.try_lock() else {
            return Err(self.is_gone("being connected to".to_owned()));
        };
        if attempts.next.is_some_and(|next| Instant::now() < next) {
            return Err(self.is_gone("waiting for the next attempt".to_owned()));
        }
        let within = Duration::from_millis(self.options.connect_ms);
        let made = tokio::time::timeout(within, self.connect()).await;
        match made.unwrap_or_else(|_| Err(format!("no connection within {} ms", self.options.connect_ms))) {
            Ok(connection) => {
                *attempts = Attempts { next: None, wait_ms: RETRY_MS.0 };
                *self.connection.write().await = Some(connection.clone());
                Ok(connection)
            }
            Err(error) => {
                let wait = Duration::from_millis(attempts.wait_ms);
                *attempts = Attempts {
                    next: Some(Instant::now() + wait),
                    wait_ms: (attempts.wait_ms * 2).min(RETRY_MS.1),
                };
                Err(self.is_gone(error))
            }
        }
    }

    async fn connect(&self) -> Result<Connection, String> {
        match &self.client {
            Client::One(client) => {
                let config = AsyncConnectionConfig::new()
                    .set_connection_timeout(Some(Duration::from_millis(self.options.connect_ms)))
                    .set_response_timeout(Some(Duration::from_millis(self.options.answer_ms)));
                let made = client.get_multiplexed_async_connection_with_config(&config).await;
                made.map(Connection::One).map_err(|error| error.to_string())
            }
            Client::Cluster(client) => {
                let made = client.get_async_connection().await;
                made.map(Connection::Cluster).map_err(|error| error.to_string())
            }
        }
    }

    async fn broke(&self, error: String) -> RedisError {
        *self.connection.write().await = None;
        self.is_gone(error)
    }

    fn is_gone(&self, error: String) -> RedisError {
        if !self.away.swap(true, Ordering::Relaxed) {
            tracing::warn!(servers = self.servers, error, "Redis does not answer; going on without it");
        }
        RedisError::Away { servers: self.servers.clone(), error }
    }

    fn there(&self) {
        if self.away.swap(false, Ordering::Relaxed) {
            tracing::info!(servers = self.servers, "Redis answers again");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(urls: &[&str]) -> RedisOptions {
        let urls = urls.iter().map(|url| (*url).to_owned()).collect();
        RedisOptions { urls, cluster: false, connect_ms: 500, answer_ms: 500 }
    }

    #[test]
    fn addresses_are_checked_and_passwords_not_said() {
        assert!(matches!(Redis::new(options(&[])), Err(RedisError::NoAddress)));
        let error = Redis::new(options(&["http://u:secret@h"])).err().unwrap();
        assert!(error.to_string().contains("redis://") && !error.to_string().contains("secret"));
        let redis = Redis::new(options(&["redis://u:secret@h:7"])).unwrap();
        assert_eq!(redis.servers(), "h:7");
    }

    #[tokio::test]
    async fn a_server_that_is_away_is_said_at_once_and_not_tried_each_time() {
        // Nobody listens there.
        let redis = Redis::new(options(&["redis://127.0.0.1:1"])).unwrap();
        let script = Script::new("return 1");
        for _ in 0..3 {
            let error = redis.run::<i64>(&script, "k", &[]).await.unwrap_err();
            assert!(matches!(error, RedisError::Away { .. }), "{error}");
        }
        assert!(redis.is_away());
    }
}
