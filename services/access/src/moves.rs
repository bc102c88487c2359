//! Clients that have to go elsewhere: at a drain all of them, on scale-out some.
//!
//! A client is told once where to go, and goes at an instant of its own choice; until then it is served as before, so
//! nothing is missed. The pace is one for the whole node: each worker takes its part of it with every tick. Who comes
//! while the node drains is told too. Where no other node is known, nobody is told anything.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

use crate::nodes::{NodeAddress, Scheduler};
use crate::rate::Bucket;

/// Where a client is sent, and why.
pub(crate) struct Destination {
    pub tcp: String,
    pub websocket: String,
    pub reason: String,
}

/// What is under way.
pub(crate) struct Moves {
    node: u16,
    region: String,
    scheduler: Arc<Scheduler>,
    /// Whether the lock below has to be looked at.
    active: AtomicBool,
    plan: Mutex<Plan>,
}

#[derive(Default)]
struct Plan {
    to: Option<NodeAddress>,
    per_second: u32,
    bucket: Bucket,
    /// Connections that are still to be told.
    left: u64,
    reason: &'static str,
    /// Rises with each plan, so that who was told once is told again.
    number: u64,
}

/// A worker's part of the pace.
pub(crate) struct Allotted {
    pub count: usize,
    /// Of the plan.
    pub number: u64,
}

impl Moves {
    pub fn new(node: u16, region: String, scheduler: Arc<Scheduler>) -> Self {
        Self { node, region, scheduler, active: AtomicBool::new(false), plan: Mutex::default() }
    }

    /// Everybody is to go, the present and the coming; to `to`, or to where the scheduler says. False, and nothing
    /// happens, where no other node is known.
    pub fn drain(&self, to: Option<NodeAddress>, per_second: u32, mono_ms: u64) -> bool {
        self.begin(to, per_second, u64::MAX, "this node shuts down", mono_ms)
    }

    /// So many are to go.
    pub fn ask(&self, count: u64, to: Option<NodeAddress>, per_second: u32, mono_ms: u64) -> bool {
        self.begin(to, per_second, count, "another node has room", mono_ms)
    }

    fn begin(
        &self,
        to: Option<NodeAddress>,
        per_second: u32,
        left: u64,
        reason: &'static str,
        mono_ms: u64,
    ) -> bool {
        if to.is_none() && self.scheduler.choose(0, &self.region, Some(self.node)).is_none() {
            return false;
        }
        let mut bucket = Bucket::default();
        bucket.refill(0, mono_ms);
        let mut plan = self.plan.lock();
        let number = plan.number + 1;
        *plan = Plan { to, per_second: per_second.max(1), bucket, left, reason, number };
        self.active.store(true, Ordering::Relaxed);
        true
    }

    /// Whether everybody is to go.
    pub fn is_draining(&self) -> bool {
        self.active.load(Ordering::Relaxed) && self.plan.lock().left == u64::MAX
    }

    /// How many connections a worker may tell now.
    pub fn allot(&self, most: usize, mono_ms: u64) -> Option<Allotted> {
        if !self.active.load(Ordering::Relaxed) {
            return None;
        }
        let mut plan = self.plan.lock();
        let per_second = plan.per_second;
        plan.bucket.refill(per_second, mono_ms);
        let mut count = 0;
        while count < most && (count as u64) < plan.left && plan.bucket.take() {
            count += 1;
        }
        Some(Allotted { count, number: plan.number })
    }

    /// Of those that were allotted so many were told.
    pub fn told(&self, count: usize) {
        let mut plan = self.plan.lock();
        if plan.left != u64::MAX {
            plan.left = plan.left.saturating_sub(count as u64);
            if plan.left == 0 {
                self.active.store(false, Ordering::Relaxed);
            }
        }
    }

    /// Where a user is to go.
    pub fn next(&self, user: u64) -> Option<Destination> {
        let (to, reason) = {
            let plan = self.plan.lock();
            (plan.to.clone(), plan.reason)
        };
        let to = match to {
            Some(to) => to,
            None => {
                let node = self.scheduler.choose(user, &self.region, Some(self.node))?;
                NodeAddress { tcp: node.tcp, websocket: node.websocket }
            }
        };
        Some(Destination { tcp: to.tcp, websocket: to.websocket, reason: reason.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::Moves;
    use crate::nodes::{Distances, NodeAddress, Scheduler};
    use std::sync::Arc;

    fn moves() -> Moves {
        Moves::new(1, String::new(), Arc::new(Scheduler::new(None, Distances::default())))
    }

    fn there() -> Option<NodeAddress> {
        Some(NodeAddress { tcp: "b:1".into(), websocket: String::new() })
    }

    #[test]
    fn the_pace_is_kept_over_all_workers() {
        let moves = moves();
        assert!(!moves.drain(None, 100, 0), "nowhere to go");
        assert!(moves.allot(10, 0).is_none());
        assert!(moves.drain(there(), 100, 0) && moves.is_draining());
        assert_eq!(moves.allot(100, 0).unwrap().count, 0);
        assert_eq!(moves.allot(7, 100).unwrap().count, 7);
        assert_eq!(moves.allot(7, 100).unwrap().count, 3);
        assert_eq!(moves.allot(1_000, 200).unwrap().count, 10);
        assert_eq!(moves.next(5).unwrap().tcp, "b:1");
    }

    #[test]
    fn no_more_than_were_asked_for() {
        let moves = moves();
        assert!(moves.ask(15, there(), 1_000, 0) && !moves.is_draining());
        assert_eq!(moves.allot(10, 1_000).unwrap().count, 10);
        moves.told(10);
        assert_eq!(moves.allot(10, 2_000).unwrap().count, 5);
        moves.told(5);
        assert!(moves.allot(10, 3_000).is_none());
    }
}
