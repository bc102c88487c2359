//! The queue in memory, for the simulation and for tests.
//!
//! Deterministic: nothing waits, nothing is woken in an order of its own. [`MemoryQueue`] is what survives: clone it,
//! drop every consumer, and a process has been killed and started again. It lasts as long as its last clone.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::consumer::{Member, Store};
use crate::error::{ProduceError, TopicError, check_name, numbers};
use crate::members::GroupState;
use crate::port::{Consumer, Queue, Retain, TopicOptions};
use crate::{Group, Position};

/// Most bytes of a group, as in the embedded queue.
pub const GROUP_BYTES_MAX: usize = crate::embedded::GROUP_BYTES_MAX;

/// Topics in memory. Cloning gives another handle.
#[derive(Clone)]
pub struct MemoryQueue {
    topics: Arc<BTreeMap<String, Arc<Topic>>>,
}

struct Topic {
    options: TopicOptions,
    partitions: Vec<Mutex<Partition>>,
    groups: Mutex<BTreeMap<String, Arc<GroupState>>>,
    version: watch::Sender<u64>,
}

#[derive(Default)]
struct Partition {
    /// The first position that is kept.
    first: Position,
    /// The position that the next group gets.
    head: Position,
    /// Rising by position; where a lane leaves positions out, not by one.
    groups: VecDeque<Group>,
}

impl MemoryQueue {
    /// Empty topics.
    ///
    /// # Errors
    /// When a name is not allowed.
    pub fn new(topics: impl IntoIterator<Item = TopicOptions>) -> Result<MemoryQueue, TopicError> {
        let mut all = BTreeMap::new();
        for options in topics {
            check_name("topic", &options.name)?;
            for group in &options.groups {
                check_name("group", group)?;
            }
            let name = options.name.clone();
            let partitions = (0..options.partitions).map(|_| Mutex::default()).collect();
            let groups = Mutex::default();
            let topic = Topic { options, partitions, groups, version: watch::Sender::new(0) };
            for group in &topic.options.groups {
                topic.group(group);
            }
            all.insert(name, Arc::new(topic));
        }
        Ok(MemoryQueue { topics: Arc::new(all) })
    }

    /// Appends a group under a writer's epoch, as a lane has it. `produce` is this with epoch 0.
    ///
    /// # Errors
    /// As `produce`.
    pub fn ship(
        &self,
        topic: &str,
        partition: u16,
        epoch: u32,
        records: &[&[u8]],
    ) -> Result<Position, ProduceError> {
        let topic = self.topic(topic)?;
        let slot = topic.partition(partition)?;
        if records.is_empty() {
            return Err(ProduceError::Empty);
        }
        let len: usize = records.iter().map(|r| r.len() + 4).sum();
        if len > GROUP_BYTES_MAX {
            return Err(ProduceError::TooLarge { len, max: GROUP_BYTES_MAX });
        }
        let position = {
            let mut slot = slot.lock();
            let position = slot.head;
            slot.groups.push_back(Group::new(position, epoch, records));
            slot.head = position.next();
            position
        };
        topic.version.send_modify(|v| *v += 1);
        Ok(position)
    }

    /// Appends a group of a lane at its own position, at or behind the partition's end.
    pub(crate) fn place(&self, topic: &str, partition: u16, group: Group) -> Result<(), TopicError> {
        let topic = self.topic(topic)?;
        {
            let mut slot = topic.partition(partition)?.lock();
            slot.head = group.position.next();
            slot.groups.push_back(group);
        }
        topic.version.send_modify(|v| *v += 1);
        Ok(())
    }

    /// As [`Queue::head`], for callers that are not async.
    ///
    /// # Errors
    /// When there is no such partition.
    pub fn head(&self, topic: &str, partition: u16) -> Result<Position, TopicError> {
        Ok(self.topic(topic)?.partition(partition)?.lock().head)
    }

    /// As [`Queue::committed`], for callers that are not async.
    ///
    /// # Errors
    /// When there is no such partition.
    pub fn committed(&self, topic: &str, group: &str, partition: u16) -> Result<Position, TopicError> {
        let topic = self.topic(topic)?;
        topic.partition(partition)?;
        let groups = topic.groups.lock();
        Ok(groups.get(group).map_or(Position::ZERO, |g| g.committed(partition)))
    }

    /// As [`Queue::lag`], for callers that are not async.
    ///
    /// # Errors
    /// When there is no such topic.
    pub fn lag(&self, topic: &str, group: &str) -> Result<u64, TopicError> {
        let mut lag = 0u64;
        for partition in self.topic(topic)?.partitions() {
            let behind = self.head(topic, partition)?.0 - self.committed(topic, group, partition)?.0;
            lag = lag.saturating_add(behind);
        }
        Ok(lag)
    }

    /// Lets every member of a group be delivered again what it has not committed, as a rebalance in a cluster may.
    ///
    /// # Errors
    /// When there is no such topic.
    pub fn redeliver(&self, topic: &str, group: &str) -> Result<(), TopicError> {
        check_name("group", group)?;
        self.topic(topic)?.group(group).rewind_all();
        Ok(())
    }

    /// The first group that a partition still holds.
    ///
    /// # Errors
    /// When there is no such partition.
    pub fn first(&self, topic: &str, partition: u16) -> Result<Position, TopicError> {
        Ok(self.topic(topic)?.partition(partition)?.lock().first)
    }

    fn topic(&self, name: &str) -> Result<&Arc<Topic>, TopicError> {
        self.topics.get(name).ok_or_else(|| TopicError::UnknownTopic {
            topic: name.to_owned(),
            known: self.topics.keys().cloned().collect::<Vec<_>>().join(", "),
        })
    }
}

impl Topic {
    fn partition(&self, partition: u16) -> Result<&Mutex<Partition>, TopicError> {
        self.partitions.get(usize::from(partition)).ok_or_else(|| TopicError::UnknownPartition {
            topic: self.options.name.clone(),
            partition,
            known: numbers(&self.partitions()),
        })
    }

    /// The group of that name; a new one begins with the first group of records that is kept.
    fn group(&self, name: &str) -> Arc<GroupState> {
        let make = || {
            let firsts = self.partitions().into_iter().zip(self.partitions.iter().map(|p| p.lock().first));
            Arc::new(GroupState::new(&self.options.name, name, firsts.collect()))
        };
        Arc::clone(self.groups.lock().entry(name.to_owned()).or_insert_with(make))
    }

    /// Forgets what every group has committed.
    fn forget(&self, partition: u16) {
        if self.options.retain == Retain::All {
            return;
        }
        let keep = self.groups.lock().values().map(|g| g.committed(partition)).min();
        if let (Some(keep), Some(slot)) = (keep, self.partitions.get(usize::from(partition))) {
            let mut slot = slot.lock();
            let gone = slot.groups.partition_point(|g| g.position < keep);
            slot.groups.drain(..gone);
            slot.first = keep.clamp(slot.first, slot.head);
        }
    }
}

#[async_trait]
impl Store for Topic {
    type Reader = (u16, Position);

    fn topic(&self) -> &str {
        &self.options.name
    }

    fn partitions(&self) -> Vec<u16> {
        (0..self.options.partitions).collect()
    }

    fn head(&self, partition: u16) -> Position {
        self.partitions.get(usize::from(partition)).map_or(Position::ZERO, |p| p.lock().head)
    }

    fn reader(&self, partition: u16, from: Position) -> (u16, Position) {
        (partition, from)
    }

    async fn read(
        &self,
        (partition, from): (u16, Position),
        limit: Position,
        max_bytes: usize,
    ) -> Result<((u16, Position), Vec<Group>), String> {
        let Some(slot) = self.partitions.get(usize::from(partition)) else {
            return Err("no such partition".to_owned());
        };
        let slot = slot.lock();
        if from < slot.first {
            return Err(format!("group {from} is no longer kept, the partition begins at {}", slot.first));
        }
        let skip = slot.groups.partition_point(|g| g.position < from);
        let (mut groups, mut bytes) = (Vec::new(), 0);
        for group in slot.groups.iter().skip(skip).take_while(|g| g.position < limit) {
            bytes += group.bytes();
            if bytes > max_bytes && !groups.is_empty() {
                break;
            }
            groups.push(group.clone());
        }
        let next = groups.last().map_or(from, |g: &Group| g.position.next());
        Ok(((partition, next), groups))
    }

    async fn persist(
        self: Arc<Self>,
        group: Arc<GroupState>,
        member: u64,
        partition: u16,
        position: Position,
    ) -> Result<(), String> {
        group.end_commit(member, partition, Some(position));
        self.forget(partition);
        Ok(())
    }

    async fn moved(&self, seen: &[(u16, Position)]) {
        let mut version = self.version.subscribe();
        // The sender is `self`'s, so the only way out is the value.
        let _ = version.wait_for(|_| seen.iter().any(|(p, at)| self.head(*p) > *at)).await;
    }
}

#[async_trait]
impl Queue for MemoryQueue {
    fn partitions(&self, topic: &str) -> Result<Vec<u16>, TopicError> {
        Ok(self.topic(topic)?.partitions())
    }

    async fn produce(
        &self,
        topic: &str,
        partition: u16,
        records: &[&[u8]],
    ) -> Result<Position, ProduceError> {
        self.ship(topic, partition, 0, records)
    }

    async fn consumer(&self, topic: &str, group: &str) -> Result<Box<dyn Consumer>, TopicError> {
        check_name("group", group)?;
        let topic = self.topic(topic)?;
        Ok(Box::new(Member::join(Arc::clone(topic), topic.group(group))))
    }

    async fn head(&self, topic: &str, partition: u16) -> Result<Position, TopicError> {
        MemoryQueue::head(self, topic, partition)
    }

    async fn committed(&self, topic: &str, group: &str, partition: u16) -> Result<Position, TopicError> {
        MemoryQueue::committed(self, topic, group, partition)
    }

    async fn lag(&self, topic: &str, group: &str) -> Result<u64, TopicError> {
        MemoryQueue::lag(self, topic, group)
    }
}
