//! The member list: who is probably alive, for routing. No law rests on it; a stale list costs a detour.
//!
//! In a cluster each process announces its roles in the table `member` of the ledger's database every 250 ms and reads it
//! as often ([`Poller`]). Alive is who was seen within 3 s, by the database's clock. While the database is away the last list
//! stays. Without a table there is a fixed list from the configuration ([`StaticMembers`]), or one process ([`OneProcess`]).

mod poller;
mod table;

use std::collections::BTreeMap;
use std::sync::Arc;

use hashring::{Member, Ring, RingError};

pub use poller::{BEAT_MS, Poller, RoleMembers};
pub use table::{
    Announcement, MEMBER_DEAD_MS, MIGRATIONS, MemberError, MemberState, MemberTable, PgMembers, Role,
    SERVICE, SqlMembers,
};

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

    /// Where a member is called, `host:port`; `None` for a node that is not in the list, or that is this process.
    fn address(&self, node: u16) -> Option<Arc<str>> {
        let _ = node;
        None
    }
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

/// A fixed list, from the configuration.
#[derive(Clone, Debug)]
pub struct StaticMembers {
    list: Arc<MemberList>,
    addresses: BTreeMap<u16, Arc<str>>,
}

impl StaticMembers {
    /// The list of these members with their addresses.
    ///
    /// # Errors
    /// When no ring can be made of them: nobody has a weight, or a node stands there twice.
    pub fn new(members: impl IntoIterator<Item = (Member, String)>) -> Result<StaticMembers, RingError> {
        let (mut list, mut addresses) = (Vec::new(), BTreeMap::new());
        for (member, address) in members {
            list.push(member);
            addresses.insert(member.node, Arc::from(address));
        }
        list.sort_by_key(|member: &Member| member.node);
        let list = MemberList { epoch: 1, members: list };
        list.ring()?;
        Ok(StaticMembers { list: Arc::new(list), addresses })
    }
}

impl Members for StaticMembers {
    fn current(&self) -> Arc<MemberList> {
        Arc::clone(&self.list)
    }

    fn address(&self, node: u16) -> Option<Arc<str>> {
        self.addresses.get(&node).cloned()
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

    #[test]
    fn a_fixed_list_is_checked_once() {
        let member = |node, weight| (Member { node, weight }, format!("host{node}:1"));
        let members = StaticMembers::new([member(2, 1), member(1, 1)]).unwrap();
        assert_eq!(members.current().members.iter().map(|m| m.node).collect::<Vec<_>>(), [1, 2]);
        assert_eq!(members.address(2).as_deref(), Some("host2:1"));
        assert_eq!(members.address(3), None);
        assert!(StaticMembers::new([member(1, 1), member(1, 1)]).is_err());
        assert!(StaticMembers::new([member(1, 0)]).is_err());
    }
}
