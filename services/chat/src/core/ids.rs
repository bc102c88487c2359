//! Ids of messages and conversations: 63 bits, global, rising with time.
//!
//! Milliseconds since 1970 in 41 bits, the node in 10, a count in 12. A count that runs over borrows from the next
//! millisecond. Ids are given only up to a time that the node has durably reserved, and a start begins above that
//! time: so an id is never given twice, even if nothing that bore it has survived.

/// Bits of the count.
const COUNT_BITS: u32 = 12;
/// Bits of the node.
const NODE_BITS: u32 = 10;
/// Highest number of a node.
pub const NODE_MAX: u16 = (1 << NODE_BITS) - 1;
/// How far ahead time is reserved, in ms.
pub const RESERVE_MS: u64 = 5_000;

/// The time in an id, ms UTC.
pub fn time_ms_of(id: u64) -> u64 {
    id >> (COUNT_BITS + NODE_BITS)
}

/// Gives ids.
#[derive(Clone, Debug)]
pub struct Ids {
    node: u64,
    /// Time and count of the last id, in one number that only rises.
    last: u64,
    /// Ids of this time and later ones may not be given yet.
    reserved_ms: u64,
    /// A reservation up to here has been written and is not durable yet.
    asked_ms: u64,
}

impl Ids {
    /// Ids of a node, above the time up to which it has ever reserved them.
    pub fn new(node: u16, above_ms: u64) -> Ids {
        let last = above_ms << COUNT_BITS;
        Ids { node: u64::from(node.min(NODE_MAX)), last, reserved_ms: above_ms, asked_ms: above_ms }
    }

    /// The next id at a time; nothing when more time must be reserved first.
    pub fn next(&mut self, now_ms: u64) -> Option<u64> {
        let next = (self.last + 1).max(now_ms << COUNT_BITS);
        if next >> COUNT_BITS >= self.reserved_ms {
            return None;
        }
        self.last = next;
        let (time, count) = (next >> COUNT_BITS, next & ((1 << COUNT_BITS) - 1));
        Some(time << (COUNT_BITS + NODE_BITS) | self.node << COUNT_BITS | count)
    }

    /// Up to when to reserve now; nothing while half of the last reservation is still ahead, or one is under way.
    pub fn wants(&self, now_ms: u64) -> Option<u64> {
        let from = now_ms.max(self.last >> COUNT_BITS);
        (from + RESERVE_MS / 2 >= self.asked_ms).then_some(from + RESERVE_MS)
    }

    /// A reservation has been written.
    pub fn asked(&mut self, until_ms: u64) {
        self.asked_ms = self.asked_ms.max(until_ms);
    }

    /// A reservation is durable.
    pub fn reserved(&mut self, until_ms: u64) {
        self.asked(until_ms);
        self.reserved_ms = self.reserved_ms.max(until_ms);
    }

    /// Up to when ids are reserved, ms UTC.
    pub fn reserved_ms(&self) -> u64 {
        self.reserved_ms
    }
}

#[cfg(test)]
mod tests {
    use super::{Ids, time_ms_of};
    use proptest::prelude::*;

    #[test]
    fn a_full_millisecond_borrows_from_the_next() {
        let mut ids = Ids::new(3, 100);
        assert_eq!(ids.next(50), None, "nothing is reserved");
        ids.reserved(110);
        let all: Vec<u64> = (0..5_000).map(|_| ids.next(105).unwrap()).collect();
        assert!(all.is_sorted_by(|a, b| a < b));
        assert_eq!((time_ms_of(all[0]), time_ms_of(all[4_096])), (105, 106));
        assert_eq!(all[7] >> 12 & 1023, 3);
        assert_eq!(ids.next(110), None, "behind the reservation");
    }

    proptest! {
        #[test]
        fn no_id_twice_over_starts_and_clocks_that_jump(steps in prop::collection::vec((0u64..20_000, any::<bool>()), 1..300)) {
            let (mut durable, mut ids, mut last) = (1_000, Ids::new(1, 1_000), 0);
            for (now, restart) in steps {
                if restart {
                    ids = Ids::new(1, durable);
                }
                if let Some(until) = ids.wants(now) {
                    durable = durable.max(until);
                    ids.reserved(until);
                }
                let id = ids.next(now);
                prop_assert!(id.is_some());
                prop_assert!(id > Some(last));
                last = id.unwrap_or_default();
            }
        }
    }
}
