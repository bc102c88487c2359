//! What of a vendor's limit belongs to a node, when several nodes deliver.
//!
//! Orders lie in shards, and each shard is one node's at a time. A vendor with room for at least one send a shard in each
//! 100 ms is divided **apart**: every shard has its own whole number of sends of the window, the numbers together are the
//! window, and a node has those of its shards. A slower vendor can't be divided like that without some shards getting
//! nothing, or two nodes sending at the same moment where only one send has room; it is kept **together**: the node that
//! holds one certain shard of its serves all of them, alone, at the whole limit.
//!
//! Shards move. Who loses one uses it no more from the moment he knows; who gets one waits until the other must have known,
//! and one window more ([`TAKEOVER_NS`]), so that no window holds the sends of both. A node that has not heard for
//! [`STALE_NS`] that its shards are still its own takes it that they are not.

use std::collections::BTreeMap;

/// How long a node may use its shards after it was last told that they are its own, ns.
pub const STALE_NS: u64 = 500_000_000;
/// How long a shard that has come is left alone, ns: until its former node's right is stale, one window, and a margin.
pub const TAKEOVER_NS: u64 = 650_000_000;
/// How long a vendor rests when a new limit divides it in the other way, ns. All nodes are to be told within that time.
pub const REDIVIDE_NS: u64 = 600_000_000;

const WINDOW_NS: u64 = 100_000_000;
const _: () = assert!(TAKEOVER_NS >= STALE_NS + WINDOW_NS + 50_000_000);

/// Windows of 100 ms in a second.
const WINDOWS: u64 = 10;

/// How a vendor's limit is divided among shards.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Division {
    /// Each shard has sends of its own.
    Apart,
    /// One node serves all shards.
    Together,
}

/// How a limit is divided.
pub fn division(limit_per_second: u32, shards: u16) -> Division {
    if shards > 1 && u64::from(limit_per_second) / WINDOWS >= u64::from(shards) {
        Division::Apart
    } else {
        Division::Together
    }
}

/// What a node may do for a vendor.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Part {
    /// Calls a second.
    pub limit_per_second: u32,
    /// The shards whose orders it serves.
    pub serves: Vec<u16>,
}

/// A vendor's limit among shards.
#[derive(Clone, Debug)]
pub struct Allotment {
    vendor: u32,
    shards: u16,
    limit: u32,
    rests_until_ns: u64,
}

impl Allotment {
    /// A vendor's limit (calls a second) among so many shards.
    pub fn new(vendor: u32, shards: u16, limit: u32) -> Allotment {
        Allotment { vendor, shards: shards.max(1), limit, rests_until_ns: 0 }
    }

    /// The whole limit.
    pub fn limit(&self) -> u32 {
        self.limit
    }

    /// Changes it. When that divides it in the other way, the vendor rests until all nodes have been told.
    pub fn set_limit(&mut self, limit: u32, now_ns: u64) {
        if self.shards > 1 && division(limit, self.shards) != division(self.limit, self.shards) {
            self.rests_until_ns = now_ns + REDIVIDE_NS;
        }
        self.limit = limit;
    }

    /// The part of a node that may use these shards.
    pub fn part(&self, usable: &[u16], now_ns: u64) -> Part {
        if now_ns < self.rests_until_ns {
            return Part::default();
        }
        let shards = u64::from(self.shards);
        if usable.len() == usize::from(self.shards) {
            return Part { limit_per_second: self.limit, serves: usable.to_vec() };
        }
        match division(self.limit, self.shards) {
            Division::Together => {
                let first = (u64::from(self.vendor) % shards) as u16;
                if usable.contains(&first) {
                    Part { limit_per_second: self.limit, serves: (0..self.shards).collect() }
                } else {
                    Part::default()
                }
            }
            Division::Apart => {
                let window = u64::from(self.limit) / WINDOWS;
                let sends = |shard: u16| {
                    let shard = u64::from(shard);
                    (shard + 1) * window / shards - shard * window / shards
                };
                let sends: u64 = usable.iter().map(|shard| sends(*shard)).sum();
                Part { limit_per_second: (sends * WINDOWS) as u32, serves: usable.to_vec() }
            }
        }
    }
}

/// The shards that a node holds, and since when it may use each.
#[derive(Clone, Debug)]
pub struct Holdings {
    /// By shard: from when on it may be used.
    held: BTreeMap<u16, u64>,
    /// There are other nodes, or may be.
    is_shared: bool,
    told_ns: u64,
}

impl Holdings {
    /// Nothing held, of so many shards. Who has the only one has no others to wait for.
    pub fn new(shards: u16) -> Holdings {
        Holdings { held: BTreeMap::new(), is_shared: shards > 1, told_ns: 0 }
    }

    /// Takes in what the node is told to have now.
    pub fn assign(&mut self, assignment: &[u16], now_ns: u64) {
        if self.is_shared && now_ns >= self.told_ns + TAKEOVER_NS {
            // Not told for so long that another node may have come, waited, and used what is back here now.
            self.held.clear();
        }
        self.told_ns = now_ns;
        let from_ns = if self.is_shared { now_ns + TAKEOVER_NS } else { now_ns };
        self.held.retain(|shard, _| assignment.contains(shard));
        for shard in assignment {
            self.held.entry(*shard).or_insert(from_ns);
        }
    }

    /// Until when the node may use its shards without being told again, ns.
    pub fn right_until_ns(&self) -> u64 {
        if self.is_shared { self.told_ns + STALE_NS } else { u64::MAX }
    }

    /// The shards that it holds, used yet or not.
    pub fn held(&self) -> Vec<u16> {
        self.held.keys().copied().collect()
    }

    /// The shards that it may use.
    pub fn usable(&self, now_ns: u64) -> Vec<u16> {
        self.held.iter().filter(|(_, from)| **from <= now_ns).map(|(shard, _)| *shard).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::{Allotment, Division, Holdings, REDIVIDE_NS, STALE_NS, TAKEOVER_NS, division};
    use proptest::prelude::*;

    proptest! {
        /// However shards lie among nodes: the parts together are the window, each order has one node that serves it, and
        /// whoever serves one can send.
        #[test]
        fn parts_are_the_whole(limit in 1u32..3_000, owners in prop::collection::vec(0usize..4, 1..40), vendor in 0u32..100) {
            let shards = owners.len() as u16;
            let allotment = Allotment::new(vendor, shards, limit);
            let mut served = vec![0; owners.len()];
            let mut windows = 0;
            for node in 0..4 {
                let mine: Vec<u16> = (0..shards).filter(|s| owners[usize::from(*s)] == node).collect();
                let part = allotment.part(&mine, 0);
                prop_assert!(part.serves.is_empty() || part.limit_per_second > 0);
                windows += if part.serves.is_empty() { 0 } else { part.limit_per_second / 10 };
                part.serves.iter().for_each(|s| served[usize::from(*s)] += 1);
                if division(limit, shards) == Division::Together {
                    prop_assert!(part.serves.is_empty() || part.limit_per_second == limit);
                }
            }
            prop_assert_eq!(windows, limit / 10);
            prop_assert!(served.iter().all(|n| *n == 1), "{:?}", served);
        }
    }

    #[test]
    fn what_comes_waits_and_what_goes_is_gone() {
        const MS: u64 = 1_000_000;
        const BEGIN: u64 = 9_000 * MS;
        let mut holdings = Holdings::new(4);
        let mut now = BEGIN;
        let told = |holdings: &mut Holdings, now: &mut u64, to: u64, shards: &[u16]| {
            while *now < to {
                *now += 10 * MS;
                holdings.assign(shards, *now);
            }
        };
        holdings.assign(&[1, 2], now);
        told(&mut holdings, &mut now, BEGIN + TAKEOVER_NS - 10 * MS, &[1, 2]);
        assert!(holdings.usable(now).is_empty());
        told(&mut holdings, &mut now, BEGIN + TAKEOVER_NS, &[1, 2]);
        assert_eq!(holdings.usable(now), [1, 2]);
        told(&mut holdings, &mut now, BEGIN + TAKEOVER_NS + 10 * MS, &[2, 3]);
        assert_eq!((holdings.usable(now), holdings.held()), (vec![2], vec![2, 3]));
        // Gone and back: as if it had never been here.
        told(&mut holdings, &mut now, BEGIN + TAKEOVER_NS + 20 * MS, &[3]);
        told(&mut holdings, &mut now, BEGIN + TAKEOVER_NS + 30 * MS, &[2, 3]);
        assert_eq!(holdings.usable(BEGIN + 2 * TAKEOVER_NS + 20 * MS), [3]);
        // Stopped for a while, and told the same behind it: the right ended early, and begins as a new one.
        assert_eq!(holdings.right_until_ns(), now + STALE_NS);
        holdings.assign(&[2, 3], now + TAKEOVER_NS);
        assert!(holdings.usable(now + 2 * TAKEOVER_NS - 1).is_empty());
        // Alone there is nobody to wait for.
        let mut alone = Holdings::new(1);
        alone.assign(&[0], 5);
        assert_eq!((alone.usable(5), alone.right_until_ns()), (vec![0], u64::MAX));
    }

    #[test]
    fn a_limit_that_divides_otherwise_rests_first() {
        let mut allotment = Allotment::new(5, 4, 30);
        assert_eq!(allotment.part(&[0], 0).limit_per_second, 0);
        assert_eq!((allotment.part(&[1], 0).limit_per_second, allotment.part(&[1], 0).serves.len()), (30, 4));
        allotment.set_limit(80, 7);
        assert!(allotment.part(&[1], 6 + REDIVIDE_NS).serves.is_empty());
        assert_eq!(allotment.part(&[1], 7 + REDIVIDE_NS).limit_per_second, 20);
        allotment.set_limit(120, 9 + REDIVIDE_NS);
        assert_eq!(allotment.part(&[0, 1], 9 + REDIVIDE_NS).limit_per_second, 60);
    }
}
