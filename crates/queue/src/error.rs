//! What can go wrong, by operation.

use crate::Position;

/// A topic, partition or group that isn't there, or a name that can't be.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum TopicError {
    /// No topic of that name was configured.
    #[error("there is no topic {topic:?}; there are: {known}")]
    UnknownTopic {
        /// The name asked for.
        topic: String,
        /// The names that there are.
        known: String,
    },
    /// The topic has no such partition.
    #[error("topic {topic} has no partition {partition}; it has: {known}")]
    UnknownPartition {
        /// The topic.
        topic: String,
        /// The partition asked for.
        partition: u16,
        /// The partitions that there are.
        known: String,
    },
    /// A name that is not allowed.
    #[error("{what} {name:?}: a name has 1 to 40 lower-case letters, digits and `-`")]
    Name {
        /// Topic or group.
        what: &'static str,
        /// The name.
        name: String,
    },
    /// The servers did not answer. A later call may succeed.
    #[error("topic {topic}: {why}")]
    Unavailable {
        /// The topic.
        topic: String,
        /// Who did not answer, and what was tried.
        why: String,
    },
    /// What is stored about the group can't be read.
    #[error("positions of group {group} in topic {topic}: {why}")]
    Group {
        /// The topic.
        topic: String,
        /// The group.
        group: String,
        /// What is wrong.
        why: String,
    },
}

/// Checks a topic's or group's name: it becomes part of a file name.
pub(crate) fn check_name(what: &'static str, name: &str) -> Result<(), TopicError> {
    let good = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
    if name.is_empty() || name.len() > 40 || !name.bytes().all(good) {
        return Err(TopicError::Name { what, name: name.to_owned() });
    }
    Ok(())
}

/// The numbers as people read them.
pub(crate) fn numbers(partitions: &[u16]) -> String {
    let texts: Vec<String> = partitions.iter().map(u16::to_string).collect();
    if texts.is_empty() { "none".to_owned() } else { texts.join(", ") }
}

/// Records were not taken.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ProduceError {
    /// See there.
    #[error(transparent)]
    Topic(#[from] TopicError),
    /// The topic is written by somebody else (a lane: by its node).
    #[error("topic {0} is only read here")]
    ReadOnly(String),
    /// No record was given.
    #[error("nothing to produce")]
    Empty,
    /// More than one group may hold; divide it.
    #[error("{len} bytes of records, a group holds at most {max}")]
    TooLarge {
        /// Bytes with their prefixes.
        len: usize,
        /// Most that a group may have.
        max: usize,
    },
    /// The buffer before the disk is full. Nothing was written; try again at once.
    #[error("queue busy: the buffer is full until the sync under way has returned")]
    Busy,
    /// The disk is full. Nothing was written; try again later.
    #[error("queue full: {0}")]
    Full(String),
    /// The partition was closed. Nothing was written.
    #[error("the queue is closed")]
    Closed,
    /// Nobody answered in time: the records may be there or not. Producing them again is safe for consumers that know
    /// what they have seen.
    #[error("it is not known whether the queue has the records: {0}; produce them again")]
    Unsure(String),
    /// The disk failed. Whether the records are there is known after the next start; the process must end.
    #[error("the queue failed: {0}")]
    Failed(String),
}

impl ProduceError {
    /// A later try may succeed. Unless [`ProduceError::is_unsure`], nothing was written by this one.
    pub fn is_retryable(&self) -> bool {
        matches!(
            self,
            ProduceError::Busy
                | ProduceError::Full(_)
                | ProduceError::Unsure(_)
                | ProduceError::Topic(TopicError::Unavailable { .. })
        )
    }

    /// Whether the records are there is not known.
    pub fn is_unsure(&self) -> bool {
        matches!(self, ProduceError::Failed(_) | ProduceError::Unsure(_))
    }
}

/// Reading failed. Nothing was skipped: the next poll reads from the same place.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("topic {topic}, partition {partition}, at group {position}: {why}")]
pub struct PollError {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: u16,
    /// The position that was to be read.
    pub position: Position,
    /// What is wrong.
    pub why: String,
}

/// A position was not committed.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum CommitError {
    /// The partition is another member's by now.
    #[error("partition {partition} of topic {topic} belongs to another member of group {group} now")]
    Lost {
        /// The topic.
        topic: String,
        /// The group.
        group: String,
        /// The partition.
        partition: u16,
    },
    /// A position that does not exist yet.
    #[error("position {position} of partition {partition} lies behind its end, {head}")]
    Ahead {
        /// The partition.
        partition: u16,
        /// The position asked for.
        position: Position,
        /// The end.
        head: Position,
    },
    /// Nobody answered in time: the position may count or not. Committing it again, or being given the groups again, is
    /// safe.
    #[error("it is not known whether the position counts: {0}; commit it again")]
    Unsure(String),
    /// The disk refused. Whether the position counts is known after the next start; the process must end.
    #[error("committing failed: {0}")]
    Failed(String),
}
