//! The append-only log under everything that must not be lost.
//!
//! Records are opaque byte strings here. They are written in groups, one write and one sync for all that came meanwhile;
//! each group has CRCs, its position in the log, and a hash that chains it to the group before. `docs/formats.md`
//! describes every byte.
//!
//! - [`LogWriter`]: recovery, groups, segments, retention. No thread, no clock.
//! - [`FlowLog`]: the same behind a thread, for many callers at once; a second thread does what no group must wait for.
//! - [`LogReader`]: reads in order up to a limit, beside the writer or without one; as [`RawGroup`]s for who ships them.
//! - [`Disk`]: what the log needs of a disk. [`RealDisk`] here; a simulated one that crashes stands in `testkit`.
//! - [`DirLock`], [`check_format_version`]: one process per data directory, and none that is too old for it.
//! - [`fault`]: points where crash tests kill the process.

mod aside;
mod chain;
mod dirlock;
mod disk;
mod error;
pub mod fault;
mod flow;
pub mod format;
mod group;
mod options;
mod position;
mod raw;
mod reader;
mod recover;
mod roll;
mod segment;
mod stats;
mod trace;
mod version;
mod worker;
mod writer;

pub use aside::{Chore, ChoreDone};
pub use dirlock::{DirLock, DirLockError};
pub use disk::{Disk, DiskFile, RealDisk, RealFile, is_full};
pub use error::{AppendError, Corrupt, LogError, NotDurable, WriteError};
pub use flow::{FlowLog, Hooks, LogClock, OnDurable, OnFatal};
pub use format::Hash;
pub use group::{Group, GroupBuf, Records, record_len};
pub use options::{Class, LogKind, LogOptions};
pub use position::Position;
pub use raw::RawGroup;
pub use reader::{Batch, LogReader};
pub use recover::{Cut, Recovery};
pub use stats::{LogStats, SYNC_BUCKETS_US};
pub use trace::GroupTrace;
pub use version::{FormatVersionError, check_format_version};
pub use writer::LogWriter;
