//! What can go wrong, by operation.

use std::io;
use std::path::{Path, PathBuf};

use crate::position::Position;

/// A place in the log that is not what it must be. Nothing was changed.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("log corrupt: {file} at byte {offset}, group {ordinal}: {why}. {advice}", file = file.display())]
pub struct Corrupt {
    /// The segment file.
    pub file: PathBuf,
    /// Where in the file the damage begins.
    pub offset: u64,
    /// The group that should stand there.
    pub ordinal: Position,
    /// What is wrong.
    pub why: String,
    /// What an operator can do.
    pub advice: String,
}

/// Opening or reading a log failed.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The disk refused.
    #[error("{op} {path}: {source}", path = path.display())]
    Io {
        /// What was being done.
        op: &'static str,
        /// To which file or folder.
        path: PathBuf,
        /// The operating system's answer.
        source: io::Error,
    },
    /// The log is damaged where no crash of the writer can have damaged it.
    #[error(transparent)]
    Corrupt(#[from] Box<Corrupt>),
    /// A later version of the program wrote this.
    #[error(
        "{path}: written by a newer version (format {found}, this program knows up to {supported}); start that version \
         or a later one",
        path = path.display()
    )]
    NewerVersion {
        /// The segment file.
        path: PathBuf,
        /// The version that it names.
        found: u16,
        /// The highest that this program reads.
        supported: u16,
    },
    /// The folder holds the log of another node or of another kind.
    #[error(
        "{path}: this is the log of another owner: {what} is {found}, expected {expected}; check the folder in the \
         configuration",
        path = path.display()
    )]
    WrongLog {
        /// The segment file.
        path: PathBuf,
        /// Which field differs.
        what: &'static str,
        /// What the file says.
        found: u32,
        /// What the configuration says.
        expected: u32,
    },
    /// The groups asked for were removed by retention.
    #[error("group {wanted} is no longer kept, the log begins at {first}")]
    Removed {
        /// The position asked for.
        wanted: Position,
        /// The first that is still there.
        first: Position,
    },
    /// The options contradict themselves.
    #[error("log options: {0}")]
    Options(String),
}

impl LogError {
    pub(crate) fn io(op: &'static str, path: &Path) -> impl FnOnce(io::Error) -> LogError {
        let path = path.to_owned();
        move |source| LogError::Io { op, path, source }
    }

    /// The corruption, if that is what this is.
    pub fn corrupt(&self) -> Option<&Corrupt> {
        match self {
            LogError::Corrupt(c) => Some(c),
            _ => None,
        }
    }
}

/// A [`crate::LogWriter`] did not write.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// No room is left for records of this class. Nothing was written; later, or in class `Ending`, it may succeed.
    #[error("log full: {need} bytes needed, {free} free for records of this class")]
    Full {
        /// Bytes that the group takes.
        need: u64,
        /// Bytes that its class may still take.
        free: u64,
    },
    /// The group is larger than the options allow.
    #[error("group of {len} bytes, at most {max} allowed")]
    TooLarge {
        /// Bytes of the group's body.
        len: usize,
        /// Most that a body may have.
        max: usize,
    },
    /// A group without records is not written.
    #[error("a group needs at least one record")]
    Empty,
    /// `begin_epoch` comes first.
    #[error("no epoch has begun")]
    NoEpoch,
    /// Epochs never go back.
    #[error("epoch {asked} is below epoch {last}, which is in the log")]
    EpochBack {
        /// The epoch asked for.
        asked: u32,
        /// The last one in the log.
        last: u32,
    },
    /// Only an empty log can be told where to begin.
    #[error("the log has groups and ends at {end}; it can't begin at {asked}")]
    NotEmpty {
        /// The position asked for.
        asked: Position,
        /// Where it ends.
        end: Position,
    },
    /// The group before must be synced first: a crash may leave one damaged group, not two.
    #[error("group {0} has not been synced yet")]
    NotSynced(Position),
    /// The disk refused a write. What is on the disk is unknown, so the writer takes nothing any more; the process
    /// must end, and recovery looks again.
    #[error("fatal: {op} {path}: {source}", path = path.display())]
    FatalIo {
        /// What was being done.
        op: &'static str,
        /// To which file or folder.
        path: PathBuf,
        /// The operating system's answer.
        source: io::Error,
    },
    /// fdatasync failed. The kernel may have dropped what was written and will not say so again: asking again would
    /// succeed and mean nothing. The process must end.
    #[error("fatal: sync of {path} failed: {source}; the process must end", path = path.display())]
    FatalSync {
        /// The file or folder.
        path: PathBuf,
        /// The operating system's answer.
        source: io::Error,
    },
    /// An earlier fatal error stands.
    #[error("the log failed earlier: {0}")]
    Poisoned(String),
}

impl WriteError {
    /// True when the writer can't be used any more and the process must end.
    pub fn is_fatal(&self) -> bool {
        matches!(self, WriteError::FatalIo { .. } | WriteError::FatalSync { .. } | WriteError::Poisoned(_))
    }
}

/// A [`crate::FlowLog`] did not take a record. Nothing of it will be written.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum AppendError {
    /// The buffer is full while the disk is busy; safe to try again at once.
    #[error("log busy: the buffer is full until the sync under way has returned")]
    Busy,
    /// No room is left on the disk for records of this class; safe to try again later.
    #[error("log full: {need} bytes needed, {free} free for records of this class")]
    Full {
        /// Bytes needed.
        need: u64,
        /// Bytes that the class may still take.
        free: u64,
    },
    /// More than a group may ever hold.
    #[error("{len} bytes of records, a group holds at most {max}")]
    TooLarge {
        /// Bytes with their prefixes.
        len: usize,
        /// Most that a group's body may have.
        max: usize,
    },
    /// No record was given.
    #[error("nothing to append")]
    Empty,
    /// The log was closed.
    #[error("the log is closed")]
    Closed,
    /// The log failed; the process is about to end.
    #[error("the log failed: {0}")]
    Failed(String),
}

/// A position will not become durable in this process any more.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("group {wanted} did not become durable: the log ended at {durable}")]
pub struct NotDurable {
    /// The position waited for.
    pub wanted: Position,
    /// Where the log ended.
    pub durable: Position,
}
