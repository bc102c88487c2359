//! Small logs, quickly made.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use flowlog::{
    Class, Disk, LogClock, LogError, LogKind, LogOptions, LogReader, LogWriter, Position, Recovery,
};
use testkit::SimDisk;

pub const NODE: u16 = 7;

/// Sizes at which everything happens within a few groups.
pub fn options() -> LogOptions {
    LogOptions {
        segment_bytes: 2048,
        preallocate_bytes: 1024,
        reserve_bytes: 512,
        disk_free_bytes_min: 0,
        zero_ahead_bytes: 600,
        group_bytes_max: 1024,
        ..LogOptions::new(LogKind::FLOW, NODE)
    }
}

/// The same with one segment that never ends.
pub fn one_segment() -> LogOptions {
    LogOptions { segment_bytes: 1 << 30, ..options() }
}

pub fn dir() -> PathBuf {
    PathBuf::from("/log")
}

pub fn open<D: Disk>(
    disk: &D,
    dir: &Path,
    options: LogOptions,
) -> Result<(LogWriter<D>, Recovery), LogError> {
    LogWriter::open(disk.clone(), dir, options, None, None)
}

/// Appends and syncs one group.
pub fn put<D: Disk>(writer: &mut LogWriter<D>, records: &[Vec<u8>]) -> Position {
    let position = writer.append_group(records, 1_000 + writer.end().0, Class::Normal).unwrap();
    assert_eq!(writer.sync().unwrap(), position.next());
    position
}

/// Two records that tell the group they belong to.
pub fn records_of(group: u64) -> Vec<Vec<u8>> {
    vec![format!("group {group} begins").into_bytes(), vec![group as u8; (group as usize * 13) % 90]]
}

/// A log of `count` groups in epoch 1 on a simulated disk.
pub fn log_of(count: u64, options: &LogOptions) -> SimDisk {
    let disk = SimDisk::new(1);
    let (mut writer, _) = open(&disk, &dir(), options.clone()).unwrap();
    writer.begin_epoch(1).unwrap();
    for group in 0..count {
        put(&mut writer, &records_of(group));
    }
    disk
}

/// All records from a position on, group by group.
pub fn read_from<D: Disk>(
    disk: &D,
    dir: &Path,
    from: Position,
    limit: Position,
) -> Result<Vec<Vec<Vec<u8>>>, LogError> {
    let mut reader = LogReader::new(disk.clone(), dir, &options(), from);
    let mut groups = Vec::new();
    while let Some(group) = reader.next_group(limit)? {
        assert_eq!(group.position().0, from.0 + groups.len() as u64);
        groups.push(group.records().map(<[u8]>::to_vec).collect());
    }
    Ok(groups)
}

/// Where each group of a segment's bytes begins, and where the last one ends.
pub fn group_offsets(segment: &[u8]) -> Vec<usize> {
    let mut at = flowlog::format::SEGMENT_HEADER_LEN;
    let mut offsets = vec![at];
    while let Ok(header) = flowlog::format::GroupHeader::decode(&segment[at..]) {
        at += header.group_len();
        offsets.push(at);
    }
    offsets
}

/// A clock that moves by itself a little.
#[derive(Default)]
pub struct TickClock(AtomicU64);

impl LogClock for TickClock {
    fn unix_ms(&self) -> u64 {
        1_767_225_600_000
    }
    fn mono_ns(&self) -> u64 {
        self.0.fetch_add(1_000, Ordering::Relaxed)
    }
}

pub fn clock() -> Arc<dyn LogClock> {
    Arc::new(TickClock::default())
}
