//! The cache on memcached servers.
//!
//! The client library blocks, so it works on threads of its own behind a bounded queue; with the queue full a question
//! is a miss and an entry is dropped. A server that does not answer in time is left alone for a while: a cache
//! that is down costs nothing but calls to flow.

use super::{CacheKey, HistoryCache};
use async_trait::async_trait;
use memcache::{Client, MemcacheError};
use parking_lot::Mutex;
use records::SnapshotWin;
use runtime::SharedClock;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::oneshot;

/// Questions and entries that may wait for a thread, each of at most a few hundred keys.
const QUEUE_MAX: usize = 256;

/// How long a server that failed is left alone.
const LEFT_ALONE_NS: u64 = 1_000_000_000;

/// Where the servers are, and how long to wait for them.
#[derive(Clone, Debug)]
pub struct MemcachedOptions {
    /// Servers as `host:port`; a key goes to one of them by its hash.
    pub servers: Vec<String>,
    /// Threads that talk to them.
    pub threads: usize,
    /// Longest wait for an answer, and for a connection.
    pub timeout: Duration,
    /// How long an entry is kept.
    pub keep: Duration,
    /// This process's own number, random: entries are for itself alone.
    pub life: u64,
}

impl MemcachedOptions {
    /// Two threads, 30 ms, two hours.
    pub fn new(servers: Vec<String>, life: u64) -> MemcachedOptions {
        let (timeout, keep) = (Duration::from_millis(30), Duration::from_secs(7_200));
        MemcachedOptions { servers, threads: 2, timeout, keep, life }
    }
}

/// Why there can't be such a cache. (A server that is down is no reason.)
#[derive(Debug, thiserror::Error)]
pub enum MemcachedError {
    /// No server was named.
    #[error("no memcached server is named; name at least one as host:port")]
    NoServer,
    /// Not an address.
    #[error("memcached server {0:?} is not host:port")]
    Address(String),
    /// The system has no more threads.
    #[error("starting a thread for memcached: {0}")]
    Thread(#[from] std::io::Error),
}

enum Work {
    Get(Vec<CacheKey>, oneshot::Sender<Vec<Option<Vec<SnapshotWin>>>>),
    Put(Vec<(CacheKey, Vec<SnapshotWin>)>),
}

/// The cache. Its threads end when it is dropped.
pub struct Memcached {
    work: Option<SyncSender<Work>>,
    timeout: Duration,
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

struct Shared {
    options: MemcachedOptions,
    clock: SharedClock,
    /// By server: nobody asks it before this instant.
    not_before_ns: Vec<AtomicU64>,
    failures: AtomicU64,
}

impl Memcached {
    /// Starts the threads. Servers are connected to when they are first asked.
    ///
    /// # Errors
    /// When an address can't be one, or there are no threads.
    pub fn start(options: MemcachedOptions, clock: SharedClock) -> Result<Memcached, MemcachedError> {
        if options.servers.is_empty() {
            return Err(MemcachedError::NoServer);
        }
        let is_address =
            |s: &String| s.rsplit_once(':').is_some_and(|(h, p)| !h.is_empty() && p.parse::<u16>().is_ok());
        if let Some(bad) = options.servers.iter().find(|s| !is_address(s)) {
            return Err(MemcachedError::Address(bad.clone()));
        }
        let (work, todo) = sync_channel(QUEUE_MAX);
        let todo = Arc::new(Mutex::new(todo));
        let not_before_ns = options.servers.iter().map(|_| AtomicU64::new(0)).collect();
        let (timeout, count) = (options.timeout, options.threads.max(1));
        let shared = Arc::new(Shared { options, clock, not_before_ns, failures: AtomicU64::new(0) });
        let mut threads = Vec::with_capacity(count);
        for n in 0..count {
            let (todo, shared) = (Arc::clone(&todo), Arc::clone(&shared));
            let body = move || {
                Worker { clients: shared.options.servers.iter().map(|_| None).collect(), shared }.run(&todo)
            };
            threads.push(std::thread::Builder::new().name(format!("memcached-{n}")).spawn(body)?);
        }
        Ok(Memcached { work: Some(work), timeout, shared, threads })
    }

    /// Calls that a server did not answer, since the start.
    pub fn failures(&self) -> u64 {
        self.shared.failures.load(Ordering::Relaxed)
    }
}

impl Drop for Memcached {
    fn drop(&mut self) {
        self.work = None;
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a thread of the memcached client panicked");
            }
        }
    }
}

#[async_trait]
impl HistoryCache for Memcached {
    async fn get(&self, keys: &[CacheKey]) -> Vec<Option<Vec<SnapshotWin>>> {
        let (answer, answered) = oneshot::channel();
        let sent = self.work.as_ref().is_some_and(|w| w.try_send(Work::Get(keys.to_vec(), answer)).is_ok());
        // Twice: the thread may be at work for another.
        match sent.then(|| tokio::time::timeout(self.timeout * 2, answered)) {
            Some(wait) => match wait.await {
                Ok(Ok(found)) => found,
                _ => vec![None; keys.len()],
            },
            None => vec![None; keys.len()],
        }
    }

    fn put(&self, entries: Vec<(CacheKey, Vec<SnapshotWin>)>) {
        let Some(work) = &self.work else { return };
        if let Err(TrySendError::Full(_)) = work.try_send(Work::Put(entries)) {
            tracing::debug!("the cache is busy; entries were dropped");
        }
    }
}

/// A thread, with a connection to each server that answers.
struct Worker {
    clients: Vec<Option<Client>>,
    shared: Arc<Shared>,
}

impl Worker {
    fn run(mut self, todo: &Mutex<Receiver<Work>>) {
        loop {
            // Held while waiting: the others wait for the lock instead of the queue.
            let work = todo.lock().recv();
            match work {
                Ok(Work::Get(keys, answer)) => {
                    // Whoever asked may have given up.
                    let _ = answer.send(self.get(&keys));
                }
                Ok(Work::Put(entries)) => self.put(&entries),
                Err(_) => return,
            }
        }
    }

    fn server_of(&self, text: &str) -> usize {
        xxhash_rust::xxh3::xxh3_64(text.as_bytes()) as usize % self.clients.len()
    }

    fn get(&mut self, keys: &[CacheKey]) -> Vec<Option<Vec<SnapshotWin>>> {
        let life = self.shared.options.life;
        let texts: Vec<String> = keys.iter().map(|key| key.text(life)).collect();
        let mut found: HashMap<String, Vec<u8>> = HashMap::new();
        for server in 0..self.clients.len() {
            let own: Vec<&str> =
                texts.iter().map(String::as_str).filter(|t| self.server_of(t) == server).collect();
            if !own.is_empty() {
                found.extend(self.ask(server, |client| client.gets(&own)).unwrap_or_default());
            }
        }
        keys.iter().zip(&texts).map(|(key, text)| key.decode(life, found.get(text)?)).collect()
    }

    fn put(&mut self, entries: &[(CacheKey, Vec<SnapshotWin>)]) {
        let MemcachedOptions { keep, life, .. } = self.shared.options;
        let keep_s = keep.as_secs() as u32;
        for (key, wins) in entries {
            let (text, Some(bytes)) = (key.text(life), key.encode(life, wins)) else { continue };
            let server = self.server_of(&text);
            if self.ask(server, |client| client.set(&text, bytes.as_slice(), keep_s)).is_none() {
                // The others of this server would be refused too, and those of other servers are no loss.
                return;
            }
        }
    }

    /// Asks a server, unless it failed just now.
    fn ask<T>(&mut self, server: usize, ask: impl FnOnce(&Client) -> Result<T, MemcacheError>) -> Option<T> {
        let not_before = &self.shared.not_before_ns[server];
        if self.shared.clock.mono_ns() < not_before.load(Ordering::Relaxed) {
            self.clients[server] = None;
            return None;
        }
        let client = match self.clients[server].take() {
            Some(client) => Ok(client),
            None => connect(&self.shared.options, server),
        };
        match client.and_then(|client| ask(&client).map(|answer| (client, answer))) {
            Ok((client, answer)) => {
                self.clients[server] = Some(client);
                Some(answer)
            }
            // The connection goes too: an answer that comes late must not be taken for that of another question.
            Err(error) => {
                let until = self.shared.clock.mono_ns() + LEFT_ALONE_NS;
                self.shared.not_before_ns[server].store(until, Ordering::Relaxed);
                if self.shared.failures.fetch_add(1, Ordering::Relaxed).is_multiple_of(60) {
                    let server = &self.shared.options.servers[server];
                    tracing::warn!(server, %error, "memcached does not answer; flow is asked instead");
                }
                None
            }
        }
    }
}

fn connect(options: &MemcachedOptions, server: usize) -> Result<Client, MemcacheError> {
    let timeout = options.timeout;
    // The protocol's own time-out covers connecting; the pool, of one connection, would wait for 30 s.
    let seconds = timeout.as_secs_f64();
    let url = format!(
        "memcache://{}?protocol=ascii&tcp_nodelay=true&timeout={seconds}&connect_timeout={seconds}",
        options.servers[server]
    );
    Client::builder()
        .add_server(url)?
        .with_connection_timeout(timeout)
        .with_read_timeout(timeout)
        .with_write_timeout(timeout)
        .build()
}
