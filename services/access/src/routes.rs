//! From a user to the lottery node that draws for him.
//!
//! The ring says which node; the table holds a way to each. A new member list makes a new [`Routes`] beside the old
//! one, then swaps; workers notice by one atomic load a batch. A request under an old ring is refused by the node
//! that no longer owns the bucket, so a stale route is slow and never wrong.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use hashring::{BUCKET_COUNT, Bucket, Member, Ring, RingError, bucket_of};
use parking_lot::Mutex;
use protocol::calls::{Draws, Inbox, SubmitCall, SubmitReply};
use protocol::v1::Outcome;

/// The way to each node under one ring.
pub struct Routes {
    ring_epoch: u64,
    nodes: Vec<(u16, Arc<dyn Draws>)>,
    /// For each bucket the position in `nodes`.
    by_bucket: Box<[u16; BUCKET_COUNT]>,
}

/// Why there is no such table.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum RouteError {
    /// The ring can't be made.
    #[error(transparent)]
    Ring(#[from] RingError),
    /// The ring names a node that there is no way to.
    #[error("the member list gives buckets to node {0}, and there is no way to it")]
    NoWay(u16),
}

/// What the players of a node hear that there is no way to, in ms; by user up to half as much again.
const NOWHERE_MS: u64 = 1_000;

/// The way to a node that nobody knows: 'pending, ask again'. The draw may have been decided there, and the same
/// counter finds out once the list says who draws for the user now.
pub(crate) struct Nowhere;

impl Draws for Nowhere {
    fn submit(&self, calls: &[SubmitCall], _: &Arc<Inbox>, out: &mut Vec<SubmitReply>) {
        out.extend(calls.iter().map(|call| SubmitReply {
            tag: call.tag,
            user: call.user,
            counter: call.counter,
            next_counter: call.counter,
            outcome: Outcome::Pending,
            next_submit_ms: (NOWHERE_MS + call.user % (NOWHERE_MS / 2)) as u32,
            until_ms: 0,
            award: None,
        }));
    }
}

impl Routes {
    /// No node is known yet: everybody is told to ask again. The first member list takes its place.
    pub fn nowhere() -> Self {
        Self::single(0, Arc::new(Nowhere))
    }

    /// Everything goes to one node.
    pub fn single(node: u16, draws: Arc<dyn Draws>) -> Self {
        Self { ring_epoch: 0, nodes: vec![(node, draws)], by_bucket: Box::new([0; BUCKET_COUNT]) }
    }

    /// Routes by the ring.
    ///
    /// # Errors
    /// When the ring gives a bucket to a node that is not in `nodes`.
    pub fn new(ring: &Ring, nodes: Vec<(u16, Arc<dyn Draws>)>) -> Result<Self, RouteError> {
        let mut by_bucket = Box::new([0; BUCKET_COUNT]);
        for bucket in Bucket::all() {
            let owner = ring.owner(bucket);
            let place = nodes.iter().position(|(node, _)| *node == owner).ok_or(RouteError::NoWay(owner))?;
            by_bucket[bucket.index()] = place as u16;
        }
        Ok(Self { ring_epoch: ring.epoch(), nodes, by_bucket })
    }

    /// Routes by a member list under its epoch.
    ///
    /// # Errors
    /// When the list makes no ring, or names a node that is not in `nodes`.
    pub fn of_members(
        members: &[Member],
        epoch: u64,
        nodes: Vec<(u16, Arc<dyn Draws>)>,
    ) -> Result<Self, RouteError> {
        Self::new(&Ring::new(members, epoch)?, nodes)
    }

    /// Version of the member list.
    pub fn ring_epoch(&self) -> u64 {
        self.ring_epoch
    }

    /// How many nodes there are ways to.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Never: a table has at least one node.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// The place of the user's node.
    #[inline]
    pub fn place(&self, user: u64) -> usize {
        if self.nodes.len() == 1 { 0 } else { usize::from(self.by_bucket[bucket_of(user).index()]) }
    }

    /// The node at a place that [`Routes::place`] gave.
    #[inline]
    pub fn draws(&self, place: usize) -> &dyn Draws {
        &*self.nodes[place].1
    }

    /// The ways there are.
    pub fn nodes(&self) -> impl Iterator<Item = (u16, &Arc<dyn Draws>)> {
        self.nodes.iter().map(|(node, draws)| (*node, draws))
    }

    /// Number of the user's node.
    pub fn node_of(&self, user: u64) -> u16 {
        self.nodes[self.place(user)].0
    }
}

/// The routes as they are now: swapped whole.
pub struct RouteTable {
    version: AtomicU64,
    routes: Mutex<Arc<Routes>>,
}

impl RouteTable {
    /// A table with its first routes.
    pub fn new(routes: Routes) -> Arc<Self> {
        Arc::new(Self { version: AtomicU64::new(1), routes: Mutex::new(Arc::new(routes)) })
    }

    /// Rises with every swap.
    #[inline]
    pub fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// The routes now.
    pub fn get(&self) -> Arc<Routes> {
        Arc::clone(&self.routes.lock())
    }

    /// Swaps in newer routes; an older ring than the present one is not taken, and false is returned.
    pub fn swap(&self, routes: Routes) -> bool {
        let mut now = self.routes.lock();
        if routes.ring_epoch < now.ring_epoch {
            return false;
        }
        *now = Arc::new(routes);
        self.version.fetch_add(1, Ordering::Release);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::{Nowhere, RouteError, RouteTable, Routes};
    use hashring::{Member, Ring, bucket_of};
    use protocol::calls::{Draws, Inbox, SubmitCall};
    use protocol::v1::Outcome;
    use std::sync::Arc;

    fn ways(nodes: &[u16]) -> Vec<(u16, Arc<dyn Draws>)> {
        nodes.iter().map(|node| (*node, Arc::new(Nowhere) as Arc<dyn Draws>)).collect()
    }

    #[test]
    fn users_go_where_the_ring_says() {
        let members = [1, 2, 3].map(|node| Member { node, weight: 1 });
        let ring = Ring::new(&members, 4).unwrap();
        let routes = Routes::new(&ring, ways(&[3, 1, 2])).unwrap();
        for user in 1..2_000 {
            assert_eq!(routes.node_of(user), ring.owner(bucket_of(user)));
        }
        assert_eq!(Routes::new(&ring, ways(&[1, 2])).err(), Some(RouteError::NoWay(3)));
    }

    #[test]
    fn before_the_first_list_everybody_is_told_to_ask_again() {
        let routes = Routes::nowhere();
        let call = SubmitCall { tag: 9, user: 7, counter: 3, ..SubmitCall::default() };
        let mut out = Vec::new();
        routes.draws(routes.place(7)).submit(&[call], &Arc::new(Inbox::new()), &mut out);
        let said = (out[0].tag, out[0].outcome, out[0].next_counter, out[0].next_submit_ms);
        assert_eq!(said, (9, Outcome::Pending, 3, 1_007));
        assert!(RouteTable::new(routes).swap(Routes::single(1, Arc::new(Nowhere))));
    }

    #[test]
    fn an_older_ring_is_not_taken() {
        let members = [Member { node: 9, weight: 1 }];
        let table = RouteTable::new(Routes::of_members(&members, 5, ways(&[9])).unwrap());
        let before = table.version();
        assert!(!table.swap(Routes::of_members(&members, 4, ways(&[9])).unwrap()));
        assert_eq!(table.version(), before);
        assert!(table.swap(Routes::of_members(&members, 6, ways(&[9])).unwrap()));
        assert!(table.version() > before && table.get().ring_epoch() == 6);
    }
}
