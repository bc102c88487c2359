//! What kind of log it is, and its sizes.

use std::time::Duration;

use crate::error::LogError;
use crate::format::{BODY_BYTES_MAX, GROUP_HEADER_LEN, SEGMENT_HEADER_LEN};

/// The kind of a log; stands in every header, so that one log can't be mistaken for another, nor a group that is
/// stored as a record of another log for one of its own.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct LogKind(pub u16);

impl LogKind {
    /// A node's flow log, and the lane that carries it.
    pub const FLOW: LogKind = LogKind(1);
    /// A partition of the embedded queue.
    pub const QUEUE: LogKind = LogKind(2);
    /// A partition of chat's message log.
    pub const CHAT: LogKind = LogKind(3);
}

/// Which room a record may take when the disk runs full.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Class {
    /// Everything new: refused when only the reserve is left.
    #[default]
    Normal,
    /// What ends something that the log already holds (a lease closed, an epoch ended): may use the reserve.
    Ending,
}

/// Identity and sizes of a log. All sizes in bytes.
#[derive(Clone, Debug)]
pub struct LogOptions {
    /// The kind of log.
    pub kind: LogKind,
    /// The node, or the number of the partition.
    pub node: u16,
    /// A segment that has reached this size is followed by a new one, if there is room for one.
    pub segment_bytes: u64,
    /// Room is taken from the disk in pieces of this size.
    pub preallocate_bytes: u64,
    /// Room that is always taken already and that only records of class `Ending` may use.
    pub reserve_bytes: u64,
    /// No new room is taken when less than this would be left on the disk (for the databases beside the log).
    pub disk_free_bytes_min: u64,
    /// While groups are small, zeros are written this far ahead of them; 0 turns that off. Room that was only taken has
    /// to be entered into the file system's tables when it is first written to, and the sync waits for its journal; on ext4
    /// groups of some KiB sync in half the time where zeros were written before, and without the long waits for what
    /// others do to the same file system. Large groups carry that cost easily,
    /// and writing everything twice would cost them more.
    pub zero_ahead_bytes: u64,
    /// A running log has a second thread that makes the next segment beside it, removes old ones and gives room back. It
    /// takes the room of one more segment (none when the disk is short of it).
    pub spare_segment: bool,
    /// The log's thread asks for prompt wake-ups (see [`runtime::sched::run_promptly`]).
    pub prompt: bool,
    /// While records come in crowds (a group had 16 or more), the next group is taken no sooner than so long after the one
    /// before. Each group costs a sync and wakes everybody who waits for it, on processors that the records' makers want
    /// too. Zero: every group as soon as the one before is durable.
    pub gather: Duration,
    /// The largest body of a group; also the size of each of the two buffers of a `FlowLog`.
    pub group_bytes_max: usize,
}

impl LogOptions {
    /// The sizes for a node's flow log: segments of 64 MiB, taken 16 MiB at a time, 4 MiB of reserve.
    pub fn new(kind: LogKind, node: u16) -> LogOptions {
        LogOptions {
            kind,
            node,
            segment_bytes: 64 << 20,
            preallocate_bytes: 16 << 20,
            reserve_bytes: 4 << 20,
            disk_free_bytes_min: 32 << 20,
            zero_ahead_bytes: 256 << 10,
            spare_segment: true,
            prompt: true,
            gather: Duration::ZERO,
            group_bytes_max: 4 << 20,
        }
    }

    /// Small sizes, for logs of which there are many (partitions), and for tests: segments of 8 MiB, taken 256 KiB at a
    /// time, no reserve, nothing made ahead.
    pub fn small(kind: LogKind, node: u16) -> LogOptions {
        LogOptions {
            segment_bytes: 8 << 20,
            preallocate_bytes: 256 << 10,
            reserve_bytes: 0,
            zero_ahead_bytes: 0,
            spare_segment: false,
            prompt: false,
            ..LogOptions::new(kind, node)
        }
    }

    pub(crate) fn check(&self) -> Result<(), LogError> {
        let wrong = |text: String| Err(LogError::Options(text));
        if self.group_bytes_max < 64 || self.group_bytes_max > BODY_BYTES_MAX {
            return wrong(format!(
                "group_bytes_max is {}, allowed is 64 to {BODY_BYTES_MAX}",
                self.group_bytes_max
            ));
        }
        if self.segment_bytes < (SEGMENT_HEADER_LEN + GROUP_HEADER_LEN) as u64 {
            return wrong(format!("segment_bytes is {}, too small for one group", self.segment_bytes));
        }
        if self.zero_ahead_bytes > 16 << 20 {
            return wrong(format!(
                "zero_ahead_bytes is {}, at most 16 MiB are useful",
                self.zero_ahead_bytes
            ));
        }
        if self.segment_bytes > 1 << 40 || self.reserve_bytes > 1 << 40 || self.preallocate_bytes > 1 << 40 {
            return wrong("segment_bytes, reserve_bytes and preallocate_bytes are at most 1 TiB".to_owned());
        }
        Ok(())
    }
}
