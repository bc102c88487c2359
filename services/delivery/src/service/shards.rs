//! Which shards of the book this node works on, as its assignment of the order topic says.
//!
//! The loop that consumes orders holds the membership of the group, and confirms many times a second what it has. From that
//! follow the shards that are published, the rows that come due here, and the node's part of each vendor's pace. When
//! nothing was confirmed for a while (a process that was stopped, a queue that does not answer) nothing is sent.
//!
//! A book with one shard has one node: its right does not go stale.

use super::Shared;
use crate::pace::{Holdings, Part};
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// How often the assignment is confirmed.
pub(crate) const CONFIRM_EVERY: Duration = Duration::from_millis(40);

/// See the module.
pub(crate) struct Shards {
    count: u16,
    holdings: Mutex<Holdings>,
    /// Nothing is sent from this moment on, monotonic ns.
    right_until_ns: AtomicU64,
}

impl Shards {
    pub fn new(count: u16) -> Shards {
        let holdings = Mutex::new(Holdings::new(count));
        Shards { count: count.max(1), holdings, right_until_ns: AtomicU64::new(0) }
    }

    /// All shards there are.
    pub fn count(&self) -> u16 {
        self.count
    }

    /// The shards whose journal is published here, and whose unclaimed awards lapse here.
    pub fn held(&self) -> Vec<u16> {
        self.holdings.lock().held()
    }

    /// Whether a call may begin now.
    pub fn may_send(&self, now_ns: u64) -> bool {
        now_ns < self.right_until_ns.load(Relaxed)
    }
}

impl Shared {
    /// Takes a new limit of a vendor into this node's part.
    pub fn divide(&self, room: &super::VendorRoom, now_ns: u64) {
        let usable = self.shards.holdings.lock().usable(now_ns);
        room.divide(&usable, now_ns);
    }

    /// Takes in the partitions that this node has, at this moment.
    pub fn confirm(&self, partitions: &[u16]) {
        let mine: Vec<u16> = partitions.iter().copied().filter(|p| *p < self.shards.count()).collect();
        let now_ns = self.clock.mono_ns();
        let (usable, right_until_ns) = {
            let mut holdings = self.shards.holdings.lock();
            holdings.assign(&mine, now_ns);
            (holdings.usable(now_ns), holdings.right_until_ns())
        };
        for room in self.vendors.values() {
            room.divide(&usable, now_ns);
        }
        self.shards.right_until_ns.store(right_until_ns, Relaxed);
    }
}

impl super::VendorRoom {
    /// Takes this node's part of the vendor's limit.
    fn divide(&self, usable: &[u16], now_ns: u64) {
        let part = self.allotment.lock().part(usable, now_ns);
        let mut known = self.part.lock();
        if **known != part {
            let (was, limit) = (known.serves.len(), part.limit_per_second);
            if was != part.serves.len() {
                tracing::info!(
                    vendor = self.config.id,
                    limit,
                    shards = part.serves.len(),
                    "part of a vendor"
                );
            }
            self.pacer.lock().set_limit(limit);
            *known = Arc::new(part);
            drop(known);
            self.kick.notify_one();
        }
    }

    /// This node's part of the vendor.
    pub fn part(&self) -> Arc<Part> {
        Arc::clone(&self.part.lock())
    }
}
