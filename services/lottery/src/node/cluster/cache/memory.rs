//! The cache in memory, for tests and for the simulation. It holds the bytes that a real one would, so that stale and
//! foreign ones can be put in.

use super::{CacheKey, HistoryCache};
use async_trait::async_trait;
use parking_lot::Mutex;
use records::SnapshotWin;
use std::collections::{HashMap, VecDeque};

/// The cache. What came first goes first when it is full.
pub struct MemoryCache {
    max: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    values: HashMap<String, Vec<u8>>,
    order: VecDeque<String>,
}

impl MemoryCache {
    /// An empty cache for at most `max` entries.
    pub fn new(max: usize) -> MemoryCache {
        MemoryCache { max, state: Mutex::default() }
    }

    /// Forgets everything.
    pub fn clear(&self) {
        *self.state.lock() = State::default();
    }

    /// Entries.
    pub fn len(&self) -> usize {
        self.state.lock().values.len()
    }

    /// No entry.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The entries of these keys, without waiting.
    pub fn get_now(&self, keys: &[CacheKey]) -> Vec<Option<Vec<SnapshotWin>>> {
        let state = self.state.lock();
        keys.iter().map(|key| key.decode(0, state.values.get(&key.text(0))?)).collect()
    }
}

#[async_trait]
impl HistoryCache for MemoryCache {
    async fn get(&self, keys: &[CacheKey]) -> Vec<Option<Vec<SnapshotWin>>> {
        self.get_now(keys)
    }

    fn put(&self, entries: Vec<(CacheKey, Vec<SnapshotWin>)>) {
        let mut state = self.state.lock();
        for (key, wins) in entries {
            let Some(bytes) = key.encode(0, &wins) else { continue };
            if state.values.insert(key.text(0), bytes).is_none() {
                state.order.push_back(key.text(0));
            }
            while state.values.len() > self.max {
                let Some(first) = state.order.pop_front() else { break };
                state.values.remove(&first);
            }
        }
    }
}
