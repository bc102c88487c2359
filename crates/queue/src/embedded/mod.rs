//! The queue of a process without servers: each partition is a flow log with group commit.
//!
//! ```text
//! DIR/TOPIC/topic              what the topic is: its number of partitions
//! DIR/TOPIC/00003/*.seg        the log of partition 3 (see crate flowlog)
//! DIR/TOPIC/delivery.00003.pos what group `delivery` has committed in partition 3
//! ```
//!
//! The topic [`crate::LANE`] has no logs of its own: [`EmbeddedQueue::attach_lane`] hands in a node's flow log, which
//! is lane and archive at once; consumers read its segments in place, up to its durable end. Only their positions
//! stand here.
//!
//! Start: every partition is recovered with the highest committed position as a known end, so a log that lost what a
//! consumer has seen is refused as corrupt. One process may have a directory open; who opens the data directory holds
//! its lock ([`flowlog::DirLock`]).

mod positions;
mod topic;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use flowlog::{
    AppendError, Class, Disk, DiskFile, FlowLog, Hooks, LogClock, LogError, LogKind, LogOptions, LogWriter,
    RealDisk, WriteError,
};
use parking_lot::{Mutex, RwLock};
use runtime::SharedClock;

use crate::consumer::{Member, Store};
use crate::error::{ProduceError, TopicError, check_name};
use crate::port::{Consumer, Queue, Retain, TopicOptions};
use crate::{LANE, Position};
use topic::{Partition, Topic, partition_dir};

/// Most bytes of a group, and so of the records of one `produce`.
pub const GROUP_BYTES_MAX: usize = 1 << 20;
/// The epoch of all groups in a topic's partitions: they have one writer, the process that holds the directory.
const EPOCH: u32 = 1;

/// Opening a queue failed.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A name, or what is stored about a group.
    #[error(transparent)]
    Topic(#[from] TopicError),
    /// Another number of partitions than the topic was made with.
    #[error(
        "topic {topic} was made with {found} partitions and the configuration says {wanted}: records would change \
         their partition. Write {found}, or start with an empty directory"
    )]
    Partitions {
        /// The topic.
        topic: String,
        /// What stands in its file.
        found: String,
        /// What was asked for.
        wanted: u16,
    },
    /// A partition's log can't be read.
    #[error("topic {topic}, partition {partition}: {source}")]
    Log {
        /// The topic.
        topic: String,
        /// The partition.
        partition: u16,
        /// What the log says.
        source: LogError,
    },
    /// A partition's log can't be written.
    #[error("topic {topic}, partition {partition}: {source}")]
    Write {
        /// The topic.
        topic: String,
        /// The partition.
        partition: u16,
        /// What the log says.
        source: WriteError,
    },
    /// The disk refused.
    #[error("{path}: {source}", path = path.display())]
    Io {
        /// File or folder.
        path: PathBuf,
        /// The operating system's answer.
        source: std::io::Error,
    },
}

/// What a queue tells its owner when a disk fails: once for each partition, on the log's thread. In production it ends
/// the process.
pub type OnFatal = Arc<dyn Fn(&WriteError) + Send + Sync>;

/// Topics on disk. Cloning gives another handle; the last one to go closes the logs.
pub struct EmbeddedQueue<D: Disk = RealDisk> {
    topics: Arc<BTreeMap<String, Arc<Topic<D>>>>,
}

impl<D: Disk> Clone for EmbeddedQueue<D> {
    fn clone(&self) -> Self {
        EmbeddedQueue { topics: Arc::clone(&self.topics) }
    }
}

impl EmbeddedQueue<RealDisk> {
    /// Opens the topics under `dir`, making what is missing. The lane is there always. Blocks.
    ///
    /// # Errors
    /// See [`OpenError`]; nothing that was there is changed then, but for what recovery cuts.
    pub fn open(
        dir: &Path,
        topics: &[TopicOptions],
        clock: SharedClock,
        on_fatal: OnFatal,
    ) -> Result<EmbeddedQueue, OpenError> {
        Self::open_on(RealDisk, dir, topics, clock, on_fatal)
    }
}

impl<D: Disk> EmbeddedQueue<D> {
    /// The same on another disk.
    ///
    /// # Errors
    /// As [`EmbeddedQueue::open`].
    pub fn open_on(
        disk: D,
        dir: &Path,
        topics: &[TopicOptions],
        clock: SharedClock,
        on_fatal: OnFatal,
    ) -> Result<EmbeddedQueue<D>, OpenError> {
        let mut all = BTreeMap::new();
        let lane = new_topic(&disk, dir, LANE, Retain::All, true)?;
        all.insert(LANE.to_owned(), Arc::new(lane));
        for options in topics {
            check_name("topic", &options.name)?;
            let topic = new_topic(&disk, dir, &options.name, options.retain, false)?;
            check_partitions(&disk, &topic, options.partitions)?;
            for number in 0..options.partitions {
                let partition = open_partition(&topic, number, &clock, &on_fatal)?;
                topic.partitions.write().insert(number, partition);
            }
            topic.load_groups()?;
            for group in &options.groups {
                topic.group(group)?;
            }
            all.insert(options.name.clone(), Arc::new(topic));
        }
        Ok(EmbeddedQueue { topics: Arc::new(all) })
    }

    /// Makes a node's flow log readable as its partition of the lane. `first` is the first group that it keeps.
    ///
    /// # Errors
    /// When a group's position can't be read.
    pub fn attach_lane(&self, node: u16, log: FlowLog<D>, first: Position) -> Result<(), TopicError> {
        let lane = self.topic(LANE)?;
        let partition = Partition { log, first, forgotten: Mutex::default() };
        lane.partitions.write().insert(node, partition);
        lane.load_groups()?;
        let known: Vec<String> = lane.groups.lock().keys().cloned().collect();
        for group in known {
            lane.group(&group)?;
        }
        Ok(())
    }

    /// The highest position that any group has committed in a partition, whether or not it is attached yet: the end
    /// that the partition's log must reach when it is recovered.
    ///
    /// # Errors
    /// When there is no such topic or a file of positions can't be read.
    pub fn known(&self, topic: &str, partition: u16) -> Result<Position, TopicError> {
        let topic = self.topic(topic)?;
        highest_committed(&topic.disk, topic, partition)
    }

    /// Closes the logs of all topics (lanes are their nodes' to close); what was taken is durable then. Blocks.
    pub fn close(&self) {
        for topic in self.topics.values().filter(|t| !t.is_lane) {
            for partition in topic.partitions.read().values() {
                if let Err(error) = partition.log.close() {
                    tracing::error!(topic = topic.name, %error, "closing a partition");
                }
            }
        }
    }

    fn topic(&self, name: &str) -> Result<&Arc<Topic<D>>, TopicError> {
        self.topics.get(name).ok_or_else(|| TopicError::UnknownTopic {
            topic: name.to_owned(),
            known: self.topics.keys().cloned().collect::<Vec<_>>().join(", "),
        })
    }
}

fn new_topic<D: Disk>(
    disk: &D,
    dir: &Path,
    name: &str,
    retain: Retain,
    is_lane: bool,
) -> Result<Topic<D>, OpenError> {
    let dir = dir.join(name);
    disk.create_dir_all(&dir).map_err(|source| OpenError::Io { path: dir.clone(), source })?;
    Ok(Topic {
        name: name.to_owned(),
        retain,
        is_lane,
        disk: disk.clone(),
        dir,
        partitions: RwLock::default(),
        groups: Mutex::default(),
    })
}

/// Compares the number of partitions with the one that the topic was made with; writes it down for a new topic.
fn check_partitions<D: Disk>(disk: &D, topic: &Topic<D>, wanted: u16) -> Result<(), OpenError> {
    let path = topic.dir.join("topic");
    let text = format!("hongbao-topic 1 partitions {wanted}\n");
    let io = |source| OpenError::Io { path: path.clone(), source };
    if disk.list(&topic.dir).map_err(io)?.iter().any(|n| n == "topic") {
        let file = disk.open(&path, false).map_err(io)?;
        let mut bytes = [0u8; 64];
        let n = file.read_at(&mut bytes, 0).map_err(io)?;
        if bytes[..n] == *text.as_bytes() {
            return Ok(());
        }
        let found = String::from_utf8_lossy(&bytes[..n]);
        let found = found.trim().rsplit(' ').next().unwrap_or_default().to_owned();
        return Err(OpenError::Partitions { topic: topic.name.clone(), found, wanted });
    }
    let new = topic.dir.join("topic.new");
    let file = disk.create(&new).map_err(io)?;
    file.write_at(text.as_bytes(), 0).map_err(io)?;
    file.sync_data().map_err(io)?;
    disk.rename(&new, &path).map_err(io)?;
    disk.sync_dir(&topic.dir).map_err(io)
}

/// The clocks that a log reads, from the process's clock.
struct Clocks(SharedClock);

impl LogClock for Clocks {
    fn unix_ms(&self) -> u64 {
        self.0.now_ms()
    }
    fn mono_ns(&self) -> u64 {
        self.0.mono_ns()
    }
}

fn open_partition<D: Disk>(
    topic: &Topic<D>,
    number: u16,
    clock: &SharedClock,
    on_fatal: &OnFatal,
) -> Result<Partition<D>, OpenError> {
    let options =
        LogOptions { group_bytes_max: GROUP_BYTES_MAX, ..LogOptions::small(LogKind::QUEUE, number) };
    let dir = partition_dir(&topic.dir, number);
    let known = highest_committed(&topic.disk, topic, number)?;
    let log = |source| OpenError::Log { topic: topic.name.clone(), partition: number, source };
    let write = |source| OpenError::Write { topic: topic.name.clone(), partition: number, source };
    let (mut writer, recovery) =
        LogWriter::open(topic.disk.clone(), &dir, options, Some(known), None).map_err(log)?;
    writer.begin_epoch(EPOCH).map_err(write)?;
    let on_fatal = Arc::clone(on_fatal);
    let hooks = Hooks { on_durable: None, on_fatal: Some(Box::new(move |error| on_fatal(error))) };
    let clock = Arc::new(Clocks(Arc::clone(clock)));
    let log = FlowLog::start(writer, topic.disk.clone(), clock, hooks).map_err(write)?;
    Ok(Partition { log, first: recovery.first, forgotten: Mutex::new(recovery.first) })
}

fn highest_committed<D: Disk>(disk: &D, topic: &Topic<D>, partition: u16) -> Result<Position, TopicError> {
    let wrong = |group: &str, why: String| TopicError::Group {
        topic: topic.name.clone(),
        group: group.to_owned(),
        why,
    };
    let names = disk.list(&topic.dir).map_err(|e| wrong("*", e.to_string()))?;
    let mut highest = Position::ZERO;
    for (group, number) in names.iter().filter_map(|n| positions::parse_name(n)) {
        if number == partition {
            let file = positions::PositionFile::open(disk, &topic.dir, group, number, Position::ZERO);
            highest = highest.max(file.map_err(|why| wrong(group, why))?.position());
        }
    }
    Ok(highest)
}

#[async_trait]
impl<D: Disk> Queue for EmbeddedQueue<D> {
    fn partitions(&self, topic: &str) -> Result<Vec<u16>, TopicError> {
        Ok(self.topic(topic)?.partitions())
    }

    async fn produce(
        &self,
        topic: &str,
        partition: u16,
        records: &[&[u8]],
    ) -> Result<Position, ProduceError> {
        let topic = self.topic(topic)?;
        if topic.is_lane {
            return Err(ProduceError::ReadOnly(topic.name.clone()));
        }
        let log = topic.log(partition)?;
        loop {
            match log.append_many(records, Class::Normal) {
                Ok(position) => {
                    let wait = log.wait_durable(position).await;
                    return match (wait, log.failure()) {
                        (Ok(()), _) => Ok(position),
                        (Err(_), Some(why)) => Err(ProduceError::Failed(why)),
                        (Err(not), None) => Err(ProduceError::Failed(not.to_string())),
                    };
                }
                // Callers are bounded and hold their records: they wait for the sync under way.
                Err(AppendError::Busy) => {
                    log.wait_durable(log.durable()).await.map_err(|_| ProduceError::Closed)?;
                }
                Err(AppendError::TooLarge { len, max }) => return Err(ProduceError::TooLarge { len, max }),
                Err(AppendError::Empty) => return Err(ProduceError::Empty),
                Err(AppendError::Closed) => return Err(ProduceError::Closed),
                Err(full @ AppendError::Full { .. }) => return Err(ProduceError::Full(full.to_string())),
                Err(AppendError::Failed(why)) => return Err(ProduceError::Failed(why)),
            }
        }
    }

    async fn consumer(&self, topic: &str, group: &str) -> Result<Box<dyn Consumer>, TopicError> {
        let topic = Arc::clone(self.topic(topic)?);
        let (store, name) = (Arc::clone(&topic), group.to_owned());
        let wrong =
            |why: String| TopicError::Group { topic: topic.name.clone(), group: group.to_owned(), why };
        let opened = tokio::task::spawn_blocking(move || store.group(&name)).await;
        let state = opened.map_err(|e| wrong(e.to_string()))??;
        Ok(Box::new(Member::join(topic, state)))
    }

    async fn head(&self, topic: &str, partition: u16) -> Result<Position, TopicError> {
        Ok(self.topic(topic)?.log(partition)?.durable())
    }

    async fn committed(&self, topic: &str, group: &str, partition: u16) -> Result<Position, TopicError> {
        let topic = self.topic(topic)?;
        topic.log(partition)?;
        let groups = topic.groups.lock();
        Ok(groups.get(group).map_or(Position::ZERO, |g| g.state.committed(partition)))
    }
}
