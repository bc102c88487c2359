//! One topic of the embedded queue: its partitions' logs, and where its groups of consumers are.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use flowlog::{Disk, FlowLog, LogReader, Position};
use futures_util::future::{pending, select_all};
use parking_lot::{Mutex, RwLock};

use super::positions::{PositionFile, parse_name};
use crate::Group;
use crate::consumer::Store;
use crate::error::{TopicError, check_name, numbers};
use crate::members::GroupState;
use crate::port::Retain;

/// Segments are looked at for removal after so many newly committed groups.
const FORGET_EVERY: u64 = 64;

pub(super) struct Topic<D: Disk> {
    pub name: String,
    pub retain: Retain,
    /// Written by somebody else.
    pub is_lane: bool,
    pub disk: D,
    pub dir: PathBuf,
    pub partitions: RwLock<BTreeMap<u16, Partition<D>>>,
    pub groups: Mutex<BTreeMap<String, Consumers<D>>>,
}

pub(super) struct Partition<D: Disk> {
    pub log: FlowLog<D>,
    /// The first group that was kept when the log was opened.
    pub first: Position,
    /// Everything below may be removed and was asked to be.
    pub forgotten: Mutex<Position>,
}

/// A group of consumers with its files.
pub(super) struct Consumers<D: Disk> {
    pub state: Arc<GroupState>,
    files: BTreeMap<u16, Arc<Mutex<PositionFile<D>>>>,
}

/// The folder of a partition's log.
pub(super) fn partition_dir(topic: &Path, partition: u16) -> PathBuf {
    topic.join(format!("{partition:05}"))
}

impl<D: Disk> Topic<D> {
    /// The log of a partition.
    pub fn log(&self, partition: u16) -> Result<FlowLog<D>, TopicError> {
        let partitions = self.partitions.read();
        let found = partitions.get(&partition).map(|p| p.log.clone());
        found.ok_or_else(|| TopicError::UnknownPartition {
            topic: self.name.clone(),
            partition,
            known: numbers(&partitions.keys().copied().collect::<Vec<_>>()),
        })
    }

    /// Takes in the groups whose files are there already. Blocks.
    pub fn load_groups(&self) -> Result<(), TopicError> {
        let list = self.disk.list(&self.dir);
        let names = list.map_err(|e| self.group_error("*", format!("list {}: {e}", self.dir.display())))?;
        for (group, _) in names.iter().filter_map(|n| parse_name(n)) {
            self.group(group)?;
        }
        Ok(())
    }

    /// The group of that name, with a file for each partition. Blocks when files are missing.
    pub fn group(&self, name: &str) -> Result<Arc<GroupState>, TopicError> {
        check_name("group", name)?;
        let partitions = self.partitions.read();
        let mut groups = self.groups.lock();
        let known = groups.get(name).map(|g| g.files.len());
        if known.is_some_and(|files| files == partitions.len())
            && let Some(group) = groups.get(name)
        {
            return Ok(Arc::clone(&group.state));
        }
        let others: Vec<_> =
            groups.iter().filter(|(n, _)| *n != name).map(|(_, g)| g.state.clone()).collect();
        let mut opened = Vec::new();
        for (number, partition) in partitions.iter() {
            if groups.get(name).is_some_and(|g| g.files.contains_key(number)) {
                continue;
            }
            // Below what all others have committed nothing may be left.
            let first = match others.iter().map(|g| g.committed(*number)).min() {
                Some(first) if self.retain == Retain::Uncommitted => first.max(partition.first),
                _ => partition.first,
            };
            let file = PositionFile::open(&self.disk, &self.dir, name, *number, first)
                .map_err(|why| self.group_error(name, why))?;
            opened.push((*number, file));
        }
        let group = groups.entry(name.to_owned()).or_insert_with(|| Consumers {
            state: Arc::new(GroupState::new(&self.name, name, BTreeMap::new())),
            files: BTreeMap::new(),
        });
        for (number, file) in opened {
            group.state.add_partition(number, file.position());
            group.files.insert(number, Arc::new(Mutex::new(file)));
        }
        Ok(Arc::clone(&group.state))
    }

    fn group_error(&self, group: &str, why: String) -> TopicError {
        TopicError::Group { topic: self.name.clone(), group: group.to_owned(), why }
    }

    /// Removes what every group has committed, segment by segment.
    fn forget(&self, partition: u16) {
        if self.retain == Retain::All {
            return;
        }
        let keep = self.groups.lock().values().map(|g| g.state.committed(partition)).min();
        let partitions = self.partitions.read();
        let (Some(keep), Some(found)) = (keep, partitions.get(&partition)) else { return };
        let mut forgotten = found.forgotten.lock();
        if keep.0 < forgotten.0 + FORGET_EVERY {
            return;
        }
        *forgotten = keep;
        // The log's thread is asked only when it has something to remove: a segment whose successor begins in time.
        let segments = self.disk.list(&partition_dir(&self.dir, partition)).unwrap_or_default();
        let first = |name: &String| name.strip_suffix(".seg").and_then(|n| n.parse::<u64>().ok());
        if segments.iter().filter_map(first).filter(|first| *first <= keep.0).count() > 1 {
            found.log.remove_before(keep);
        }
    }
}

#[async_trait]
impl<D: Disk> Store for Topic<D> {
    type Reader = Option<LogReader<D>>;

    fn topic(&self) -> &str {
        &self.name
    }

    fn partitions(&self) -> Vec<u16> {
        self.partitions.read().keys().copied().collect()
    }

    fn head(&self, partition: u16) -> Position {
        self.partitions.read().get(&partition).map_or(Position::ZERO, |p| p.log.durable())
    }

    fn reader(&self, partition: u16, from: Position) -> Option<LogReader<D>> {
        self.partitions.read().get(&partition).map(|p| p.log.reader(from))
    }

    async fn read(
        &self,
        reader: Option<LogReader<D>>,
        limit: Position,
        max_bytes: usize,
    ) -> Result<(Option<LogReader<D>>, Vec<Group>), String> {
        let Some(mut reader) = reader else { return Ok((None, Vec::new())) };
        let read = tokio::task::spawn_blocking(move || {
            let batch = reader.read_batch(limit, max_bytes).map_err(|e| e.to_string())?;
            let groups = batch.groups().map(|g| Group::new(g.position(), g.epoch(), g.records())).collect();
            Ok((Some(reader), groups))
        });
        read.await.unwrap_or_else(|e| Err(e.to_string()))
    }

    async fn persist(
        self: Arc<Self>,
        group: Arc<GroupState>,
        member: u64,
        partition: u16,
        position: Position,
    ) -> Result<(), String> {
        let file = self.groups.lock().get(&group.name).and_then(|g| g.files.get(&partition).cloned());
        let Some(file) = file else {
            group.end_commit(member, partition, None);
            return Err(format!("group {} has no file for partition {partition}", group.name));
        };
        let write = tokio::task::spawn_blocking(move || {
            let result = file.lock().commit(position);
            group.end_commit(member, partition, result.is_ok().then_some(position));
            if result.is_ok() {
                self.forget(partition);
            }
            result
        });
        write.await.unwrap_or_else(|e| Err(e.to_string()))
    }

    async fn moved(&self, seen: &[(u16, Position)]) {
        let logs: Vec<_> =
            seen.iter().filter_map(|(p, at)| self.log(*p).ok().map(|log| (log, *at))).collect();
        if logs.is_empty() {
            return pending().await;
        }
        let waits = logs.iter().map(|(log, at)| {
            Box::pin(async move {
                // A log that has ended moves no more.
                if log.wait_durable(*at).await.is_err() {
                    pending::<()>().await;
                }
            })
        });
        select_all(waits).await;
    }
}
