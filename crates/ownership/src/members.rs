//! The member list: who is probably alive, for routing. No law rests on it; a stale list costs a detour.

use std::sync::Arc;

use hashring::{Member, Ring, RingError};

/// The nodes that may serve, as one version of the list.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MemberList {
    /// Rises with each change.
    pub epoch: u64,
    /// The members, rising by node number.
    pub members: Vec<Member>,
}

impl MemberList {
    /// The ring over these members.
    ///
    /// # Errors
    /// When no ring can be made of them.
    pub fn ring(&self) -> Result<Ring, RingError> {
        Ring::new(&self.members, self.epoch)
    }
}

/// Port: the current member list.
///
/// Durability: none; the list is a guess and may be rebuilt at any time. Order: the epoch of the list never falls
/// within a process. Idempotency: reading changes nothing; two reads may answer different lists.
pub trait Members: Send + Sync {
    /// The list as of now. Cheap: callers ask for it once a batch.
    fn current(&self) -> Arc<MemberList>;
}

/// Everything in one process: the only member is the node itself, for ever.
#[derive(Clone, Debug)]
pub struct OneProcess(Arc<MemberList>);

impl OneProcess {
    /// The list of this one node.
    pub fn new(node: u16) -> OneProcess {
        OneProcess(Arc::new(MemberList { epoch: 1, members: vec![Member { node, weight: 1 }] }))
    }
}

impl Members for OneProcess {
    fn current(&self) -> Arc<MemberList> {
        Arc::clone(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hashring::Bucket;

    #[test]
    fn one_process_owns_every_bucket() {
        let members = OneProcess::new(3);
        let ring = members.current().ring().unwrap();
        assert!(Bucket::all().all(|bucket| ring.owner(bucket) == 3));
    }
}
