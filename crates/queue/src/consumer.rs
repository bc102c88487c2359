//! The consumer that both adapters share: cursors, turns, bounds. What is read and where positions are kept is the
//! [`Store`]'s.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::watch;

use crate::error::{CommitError, PollError};
use crate::members::GroupState;
use crate::port::Consumer;
use crate::{Batch, Group, Position};

/// One topic's groups of records, as an adapter keeps them.
#[async_trait]
pub(crate) trait Store: Send + Sync + 'static {
    /// What reads a partition in order. It may be dropped and made anew at any position.
    type Reader: Send;

    fn topic(&self) -> &str;
    fn partitions(&self) -> Vec<u16>;
    /// The durable end of a partition.
    fn head(&self, partition: u16) -> Position;
    fn reader(&self, partition: u16, from: Position) -> Self::Reader;
    /// The next groups below `limit`, up to `max_bytes`, at least one; and the reader, behind them.
    async fn read(
        &self,
        reader: Self::Reader,
        limit: Position,
        max_bytes: usize,
    ) -> Result<(Self::Reader, Vec<Group>), String>;
    /// Makes a position durable and calls [`GroupState::end_commit`], even if the caller has gone meanwhile.
    async fn persist(
        self: Arc<Self>,
        group: Arc<GroupState>,
        member: u64,
        partition: u16,
        position: Position,
    ) -> Result<(), String>;
    /// Returns when a partition's head is above the position given with it.
    async fn moved(&self, seen: &[(u16, Position)]);
}

struct Cursor<R> {
    /// The next group to deliver.
    next: Position,
    /// Read already, not delivered yet; begins at `next`.
    ahead: VecDeque<Group>,
    reader: Option<R>,
}

/// A member of a group.
pub(crate) struct Member<S: Store> {
    store: Arc<S>,
    group: Arc<GroupState>,
    id: u64,
    cursors: BTreeMap<u16, Cursor<S::Reader>>,
    /// Which partition is first in the next poll.
    turn: usize,
    rewinds: u64,
    changes: watch::Receiver<u64>,
}

impl<S: Store> Member<S> {
    pub fn join(store: Arc<S>, group: Arc<GroupState>) -> Member<S> {
        let changes = group.changes();
        let id = group.join();
        let rewinds = group.assignment(id, &[]).rewinds;
        Member { store, group, id, cursors: BTreeMap::new(), turn: 0, rewinds, changes }
    }

    /// Takes over what it was given and lets go of what it was not.
    fn follow(&mut self) {
        let assignment = self.group.assignment(self.id, &self.store.partitions());
        if assignment.rewinds != self.rewinds {
            self.rewinds = assignment.rewinds;
            self.cursors.clear();
        }
        self.cursors.retain(|p, _| assignment.partitions.iter().any(|(mine, _)| mine == p));
        for (partition, committed) in assignment.partitions {
            self.cursors.entry(partition).or_insert_with(|| Cursor {
                next: committed,
                ahead: VecDeque::new(),
                reader: None,
            });
        }
    }

    /// Takes from one partition what fits into the bounds; if `any`, one group fits always.
    async fn take(
        &mut self,
        partition: u16,
        records_max: usize,
        bytes_max: usize,
        any: bool,
    ) -> Result<Vec<Group>, PollError> {
        let Some(cursor) = self.cursors.get_mut(&partition) else { return Ok(Vec::new()) };
        let head = self.store.head(partition);
        if cursor.ahead.is_empty() && cursor.next < head {
            let reader = cursor.reader.take().unwrap_or_else(|| self.store.reader(partition, cursor.next));
            match self.store.read(reader, head, bytes_max).await {
                Ok((reader, groups)) => {
                    cursor.reader = Some(reader);
                    cursor.ahead.extend(groups);
                }
                Err(why) => {
                    let (topic, position) = (self.store.topic().to_owned(), cursor.next);
                    return Err(PollError { topic, partition, position, why });
                }
            }
        }
        let (mut taken, mut records, mut bytes) = (Vec::new(), 0, 0);
        while let Some(group) = cursor.ahead.front() {
            records += group.len();
            bytes += group.bytes();
            let first = any && taken.is_empty();
            if !first && (records > records_max || bytes > bytes_max) {
                break;
            }
            cursor.next = group.position.next();
            taken.extend(cursor.ahead.pop_front());
        }
        Ok(taken)
    }
}

#[async_trait]
impl<S: Store> Consumer for Member<S> {
    fn assignment(&mut self) -> Vec<u16> {
        self.follow();
        self.cursors.keys().copied().collect()
    }

    async fn poll(&mut self, max_records: usize, max_bytes: usize) -> Result<Vec<Batch>, PollError> {
        self.follow();
        let partitions: Vec<u16> = self.cursors.keys().copied().collect();
        let mut batches: Vec<Batch> = Vec::new();
        let (mut records, mut bytes) = (max_records, max_bytes);
        for i in 0..partitions.len() {
            let partition = partitions[(self.turn + i) % partitions.len()];
            let groups = match self.take(partition, records, bytes, batches.is_empty()).await {
                Ok(groups) => groups,
                // What was taken before goes out; the error comes again with the next poll.
                Err(_) if !batches.is_empty() => break,
                Err(error) => return Err(error),
            };
            if groups.is_empty() {
                continue;
            }
            records = records.saturating_sub(groups.iter().map(Group::len).sum());
            bytes = bytes.saturating_sub(groups.iter().map(Group::bytes).sum());
            batches.push(Batch { partition, groups });
            if records == 0 || bytes == 0 {
                break;
            }
        }
        self.turn = self.turn.wrapping_add(1);
        Ok(batches)
    }

    async fn ready(&mut self) {
        loop {
            self.changes.mark_unchanged();
            let before: Vec<u16> = self.cursors.keys().copied().collect();
            self.follow();
            let store = &self.store;
            let waits = |(p, c): (&u16, &Cursor<S::Reader>)| c.ahead.is_empty() && c.next >= store.head(*p);
            if before != self.cursors.keys().copied().collect::<Vec<_>>() || !self.cursors.iter().all(waits) {
                return;
            }
            let seen: Vec<(u16, Position)> = self.cursors.iter().map(|(p, c)| (*p, c.next)).collect();
            tokio::select! {
                () = self.store.moved(&seen) => return,
                // The group lives as long as this member, so its sender does.
                _ = self.changes.changed() => {}
            }
        }
    }

    async fn commit(&mut self, partition: u16, position: Position) -> Result<(), CommitError> {
        let partitions = self.store.partitions();
        if !self.group.begin_commit(self.id, &partitions, partition, position)? {
            return Ok(());
        }
        let head = self.store.head(partition);
        if position > head {
            self.group.end_commit(self.id, partition, None);
            return Err(CommitError::Ahead { partition, position, head });
        }
        let (store, group) = (Arc::clone(&self.store), Arc::clone(&self.group));
        store.persist(group, self.id, partition, position).await.map_err(CommitError::Failed)?;
        // A commit in front of what was polled skips the groups between.
        if let Some(cursor) = self.cursors.get_mut(&partition).filter(|c| c.next < position) {
            *cursor = Cursor { next: position, ahead: VecDeque::new(), reader: None };
        }
        Ok(())
    }

    fn rewind(&mut self) {
        self.cursors.clear();
    }
}

impl<S: Store> Drop for Member<S> {
    fn drop(&mut self) {
        self.group.leave(self.id);
    }
}
