//! A flow log as a node has it, and the bare file beside it.

use anyhow::{Context, Result};
use flowlog::{Disk, DiskFile, FlowLog, Hooks, LogKind, LogOptions, LogWriter, RealDisk, RealFile};
use runtime::SystemClock;
use std::path::Path;
use std::sync::Arc;
use tempfile::TempDir;

/// Bytes of a record.
pub const RECORD: usize = 128;

/// A log in a folder that goes with it.
pub struct Log {
    /// The log.
    pub log: FlowLog,
    _folder: TempDir,
}

/// A fresh log with the shipped sizes.
pub fn open(scratch: &Path, hooks: Hooks) -> Result<Log> {
    let folder = settled(scratch, "log-")?;
    let options = LogOptions::new(LogKind::FLOW, 1);
    let (mut writer, _) =
        LogWriter::open(RealDisk, folder.path(), options, None, None).context("open the log")?;
    writer.begin_epoch(1).context("begin an epoch")?;
    let log =
        FlowLog::start(writer, RealDisk, Arc::new(SystemClock::shared()), hooks).context("start the log")?;
    Ok(Log { log, _folder: folder })
}

/// A new folder, when the removal of the one before is over: neither of the two measured in turn is to pay for what
/// the other has left to the file system.
fn settled(scratch: &Path, prefix: &str) -> Result<TempDir> {
    let folder = tempfile::Builder::new().prefix(prefix).tempdir_in(scratch)?;
    RealDisk.sync_dir(scratch)?;
    Ok(folder)
}

/// The bare thing: bytes at the end of a file, and a sync for each piece.
pub struct Bare {
    file: RealFile,
    offset: u64,
    bytes: Vec<u8>,
    _folder: TempDir,
}

impl Bare {
    /// An empty file with `room` bytes taken from the disk, and pieces of up to `largest` bytes.
    pub fn new(scratch: &Path, room: u64, largest: usize) -> Result<Bare> {
        let folder = settled(scratch, "bare-")?;
        let file = RealDisk.create(&folder.path().join("bare"))?;
        file.preallocate(0, room)?;
        file.sync_data()?;
        let bytes = (0..largest).map(|i| (i * 31 % 251) as u8).collect();
        Ok(Bare { file, offset: 0, bytes, _folder: folder })
    }

    /// Writes `len` bytes behind the last ones and makes them durable.
    pub fn write(&mut self, len: usize) -> Result<()> {
        let len = len.min(self.bytes.len());
        self.file.write_at(&self.bytes[..len], self.offset)?;
        self.offset += len as u64;
        Ok(self.file.sync_data()?)
    }
}
