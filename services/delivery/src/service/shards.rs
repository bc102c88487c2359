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

    /// The shards whose journal is published here.
    pub fn held(&self) -> Vec<u16> {
        self.holdings.lock().held()
    }

    /// The shards that no other node works on any more.
    pub fn usable(&self, now_ns: u64) -> Vec<u16> {
        self.holdings.lock().usable(now_ns)
    }

    /// Whether a call may begin now.
    pub fn may_send(&self, now_ns: u64) -> bool {
        now_ns < self.right_until_ns.load(Relaxed)
    }
}

impl Shared {
    /// Takes this node's part of a vendor's limit, as shards and limit are now.
    pub fn divide(&self, room: &super::VendorRoom, now_ns: u64) {
        // Held first: of two that come here at once the later one has seen what the earlier one has.
        let mut known = room.part.lock();
        let usable = self.shards.holdings.lock().usable(now_ns);
        let part = room.allotment.lock().part(&usable, now_ns);
        if **known == part {
            return;
        }
        if known.serves.len() != part.serves.len() {
            let (vendor, limit) = (room.config.id, part.limit_per_second);
            tracing::info!(vendor, limit, shards = part.serves.len(), "part of a vendor");
        }
        room.pacer.lock().set_limit(part.limit_per_second);
        *known = Arc::new(part);
        drop(known);
        room.kick.notify_one();
    }

    /// Takes in the partitions that this node has, at this moment.
    pub fn confirm(&self, partitions: &[u16]) {
        let mine: Vec<u16> = partitions.iter().copied().filter(|p| *p < self.shards.count()).collect();
        let now_ns = self.clock.mono_ns();
        let right_until_ns = {
            let mut holdings = self.shards.holdings.lock();
            holdings.assign(&mine, now_ns);
            holdings.right_until_ns()
        };
        self.vendors.values().for_each(|room| self.divide(room, now_ns));
        self.shards.right_until_ns.store(right_until_ns, Relaxed);
    }
}

impl super::VendorRoom {
    /// This node's part of the vendor.
    pub fn part(&self) -> Arc<Part> {
        Arc::clone(&self.part.lock())
    }
}
