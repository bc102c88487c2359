//! A group of consumers: who has which partition, and what is committed. No I/O.

use std::collections::BTreeMap;

use parking_lot::Mutex;
use tokio::sync::watch;

use crate::Position;
use crate::error::CommitError;

/// A group of consumers as all its members see it.
pub(crate) struct GroupState {
    pub topic: String,
    pub name: String,
    inner: Mutex<Inner>,
    /// Rises when the assignment may have changed or everybody has to rewind.
    changes: watch::Sender<u64>,
}

#[derive(Default)]
struct Inner {
    /// The members, in the order in which they came.
    members: Vec<u64>,
    last_member: u64,
    rewinds: u64,
    committed: BTreeMap<u16, Position>,
    /// Commits on their way to the disk: (partition, member). Such a partition can't go to another member yet, or
    /// that one could deliver what is being committed.
    committing: Vec<(u16, u64)>,
}

impl Inner {
    /// Whose partition it is: the i-th of `partitions` goes to the i-th member, round and round.
    fn owner(&self, partitions: &[u16], partition: u16) -> Option<u64> {
        let i = partitions.iter().position(|p| *p == partition)?;
        (!self.members.is_empty()).then(|| self.members[i % self.members.len()])
    }
}

/// What a member has to know before each poll.
pub(crate) struct Assignment {
    /// Its partitions with what is committed there.
    pub partitions: Vec<(u16, Position)>,
    /// A higher number than last time: go back to what is committed.
    pub rewinds: u64,
}

impl GroupState {
    pub fn new(topic: &str, name: &str, committed: BTreeMap<u16, Position>) -> GroupState {
        GroupState {
            topic: topic.to_owned(),
            name: name.to_owned(),
            inner: Mutex::new(Inner { committed, ..Inner::default() }),
            changes: watch::Sender::new(0),
        }
    }

    pub fn join(&self) -> u64 {
        let mut inner = self.inner.lock();
        inner.last_member += 1;
        let id = inner.last_member;
        inner.members.push(id);
        self.changed();
        id
    }

    pub fn leave(&self, id: u64) {
        self.inner.lock().members.retain(|other| *other != id);
        self.changed();
    }

    /// A partition has come: what is committed there.
    pub fn add_partition(&self, partition: u16, committed: Position) {
        self.inner.lock().committed.entry(partition).or_insert(committed);
        self.changed();
    }

    pub fn rewind_all(&self) {
        self.inner.lock().rewinds += 1;
        self.changed();
    }

    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    fn changed(&self) {
        self.changes.send_modify(|n| *n += 1);
    }

    pub fn assignment(&self, id: u64, partitions: &[u16]) -> Assignment {
        let inner = self.inner.lock();
        let held = |p: u16| inner.committing.iter().any(|(other, member)| *other == p && *member != id);
        let partitions = partitions
            .iter()
            .filter(|p| inner.owner(partitions, **p) == Some(id) && !held(**p))
            .map(|p| (*p, inner.committed.get(p).copied().unwrap_or_default()))
            .collect();
        Assignment { partitions, rewinds: inner.rewinds }
    }

    pub fn committed(&self, partition: u16) -> Position {
        self.inner.lock().committed.get(&partition).copied().unwrap_or_default()
    }

    /// Begins a commit; false when the position is committed already. [`GroupState::end_commit`] must follow a true.
    pub fn begin_commit(
        &self,
        id: u64,
        partitions: &[u16],
        partition: u16,
        position: Position,
    ) -> Result<bool, CommitError> {
        let mut inner = self.inner.lock();
        if inner.owner(partitions, partition) != Some(id) {
            let (topic, group) = (self.topic.clone(), self.name.clone());
            return Err(CommitError::Lost { topic, group, partition });
        }
        if position <= inner.committed.get(&partition).copied().unwrap_or_default() {
            return Ok(false);
        }
        inner.committing.push((partition, id));
        Ok(true)
    }

    /// Ends a commit; with a position if it is durable.
    pub fn end_commit(&self, id: u64, partition: u16, durable: Option<Position>) {
        let mut inner = self.inner.lock();
        if let Some(i) = inner.committing.iter().position(|c| *c == (partition, id)) {
            inner.committing.swap_remove(i);
        }
        if let Some(position) = durable {
            let committed = inner.committed.entry(partition).or_default();
            *committed = position.max(*committed);
        }
        let handed_on = inner.members.iter().all(|m| *m != id) || inner.members.len() > 1;
        drop(inner);
        if handed_on {
            self.changed();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::GroupState;
    use crate::{CommitError, Position};
    use std::collections::BTreeMap;

    const PARTITIONS: [u16; 5] = [3, 7, 8, 20, 21];

    fn all(group: &GroupState, ids: &[u64]) -> Vec<u16> {
        let of = |id: &u64| group.assignment(*id, &PARTITIONS).partitions.into_iter().map(|(p, _)| p);
        let mut all: Vec<u16> = ids.iter().flat_map(of).collect();
        all.sort_unstable();
        all
    }

    #[test]
    fn members_have_disjoint_sets_that_are_everything() {
        let group = GroupState::new("t", "g", BTreeMap::new());
        let ids: Vec<u64> = (0..7).map(|_| group.join()).collect();
        for gone in 0..7 {
            assert_eq!(all(&group, &ids[gone..]), PARTITIONS);
            group.leave(ids[gone]);
            assert!(all(&group, &ids[gone..=gone]).is_empty());
        }
    }

    #[test]
    fn a_partition_stays_until_a_commit_under_way_has_ended() {
        let group = GroupState::new("t", "g", BTreeMap::new());
        let old = group.join();
        assert!(group.begin_commit(old, &PARTITIONS, 3, Position(5)).unwrap());
        let new = group.join();
        group.leave(old);
        assert_eq!(all(&group, &[new]), [7, 8, 20, 21]);
        group.end_commit(old, 3, Some(Position(5)));
        assert_eq!(group.assignment(new, &PARTITIONS).partitions[0], (3, Position(5)));
        let late = group.begin_commit(old, &PARTITIONS, 3, Position(6));
        assert!(matches!(late, Err(CommitError::Lost { partition: 3, .. })));
    }
}
