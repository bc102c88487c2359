//! The post between nodes.

use super::cut::Dice;
use parking_lot::Mutex;
use protocol::calls::{ChatPeerHost, ChatPeers};
use runtime::{Shutdown, TaskKind, Tasks};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// More than this never waits, unless somebody says things without end.
const WAITING_MAX: usize = 1 << 20;

type Hosts = BTreeMap<u16, Arc<dyn ChatPeerHost>>;

/// It carries what nodes say to each other; some of it twice, late or never.
#[derive(Default)]
pub struct Post {
    pub hosts: Mutex<Hosts>,
    /// So many of 1,000 words are lost, as many doubled, as many come late.
    pub trouble: AtomicU64,
    pub carried: AtomicU64,
    waiting: Mutex<BTreeMap<(tokio::time::Instant, u64), Letter>>,
    number: AtomicU64,
    dice: Dice,
}

struct Letter {
    from: u16,
    to: u16,
    message: Vec<u8>,
}

/// A node's way to it.
pub struct Peer {
    pub post: Arc<Post>,
    pub from: u16,
    pub line: Arc<super::cut::Line>,
}

impl Post {
    pub fn start(seed: u64, tasks: &Tasks) -> Arc<Post> {
        let post = Arc::new(Post { dice: Dice::new(seed), ..Post::default() });
        tasks.spawn("post", TaskKind::Service, Arc::clone(&post).carry(tasks.shutdown().clone()));
        post
    }

    async fn carry(self: Arc<Self>, stop: Shutdown) -> anyhow::Result<()> {
        while !stop.is_requested() {
            let now = tokio::time::Instant::now();
            let due: Vec<Letter> = {
                let mut waiting = self.waiting.lock();
                let later = waiting.split_off(&(now, 0));
                std::mem::replace(&mut *waiting, later).into_values().collect()
            };
            for Letter { from, to, message } in due {
                let host = self.hosts.lock().get(&to).cloned();
                if let Some(host) = host {
                    host.heard(from, &message);
                    self.carried.fetch_add(1, Ordering::Relaxed);
                }
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        Ok(())
    }

    fn put(&self, from: u16, to: u16, message: Vec<u8>) {
        let trouble = self.trouble.load(Ordering::Relaxed);
        let dice = || self.dice.below(1_000) < trouble;
        if dice() {
            return;
        }
        let copies = 1 + usize::from(dice());
        for _ in 0..copies {
            let late_ms = if dice() { 10 + self.dice.below(1_500) } else { self.dice.below(2) };
            let due = tokio::time::Instant::now() + Duration::from_millis(late_ms);
            let number = self.number.fetch_add(1, Ordering::Relaxed) + 1;
            let mut waiting = self.waiting.lock();
            assert!(waiting.len() < WAITING_MAX, "nodes talk without end");
            waiting.insert((due, number), Letter { from, to, message: message.clone() });
        }
    }
}

impl ChatPeers for Peer {
    fn say(&self, to: u16, message: Vec<u8>) {
        assert!(to != self.from, "nobody reaches himself by post");
        assert!(message.len() <= protocol::calls::limits::PEER_MESSAGE_MAX);
        if !self.line.dead.load(Ordering::SeqCst) {
            self.post.put(self.from, to, message);
        }
    }
}
