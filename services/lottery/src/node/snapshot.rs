//! Snapshots of the wins in memory, so that a restart reads the log only from there on.
//!
//! Written bucket by bucket while draws go on (`docs/formats.md`, Lottery snapshot): a file is complete, synced
//! and durable in the log up to its `to` before it gets its name, and a damaged one is passed over for the one
//! before it. The log stays the truth: without any snapshot a restart only takes longer.

use crate::core::{BUCKETS, Core};
use campaign::{NodeEpoch, NodeId};
use records::{DecodeError, HEADER_LEN, Record, SNAPSHOT_WIN_LEN, SnapshotHeader, SnapshotWin};
use std::fs::File;
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Snapshots kept.
const KEEP: usize = 2;

/// Bytes of a bucket's head: bucket u16, count u32, CRC-32C u32.
const BUCKET_HEAD: usize = 10;

/// Bytes of the file's head: the header record and its CRC-32C.
const FILE_HEAD: usize = HEADER_LEN + 38 + 4;

/// Why a snapshot can't be used or written.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The file system.
    #[error("{path}: {error}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What it said.
        error: io::Error,
    },
    /// Not a snapshot, or a damaged one.
    #[error("{path}, byte {offset}: {why}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where.
        offset: u64,
        /// What is wrong.
        why: String,
    },
}

/// A snapshot that can be read.
pub struct Snapshot {
    /// Its head.
    pub header: SnapshotHeader,
    file: File,
    path: PathBuf,
    sections: Vec<Option<(u64, u32, u32)>>,
}

/// The newest snapshot in the folder that is whole as far as its heads tell; those that are not are named in the
/// log and passed over.
pub fn newest(dir: &Path) -> Result<Option<Snapshot>, SnapshotError> {
    let mut files = list(dir)?;
    while let Some((_, path)) = files.pop() {
        match Snapshot::open(&path) {
            Ok(snapshot) => return Ok(Some(snapshot)),
            Err(error) => tracing::warn!(%error, "passing over a damaged snapshot"),
        }
    }
    Ok(None)
}

/// Snapshot files by position, rising.
fn list(dir: &Path) -> Result<Vec<(u64, PathBuf)>, SnapshotError> {
    let io = |error| SnapshotError::Io { path: dir.to_owned(), error };
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(io)? {
        let path = entry.map_err(io)?.path();
        let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
        if let Some(at) = name.strip_suffix(".snap").and_then(|n| n.parse().ok()) {
            files.push((at, path));
        }
    }
    files.sort();
    Ok(files)
}

impl Snapshot {
    fn open(path: &Path) -> Result<Snapshot, SnapshotError> {
        let io = |error| SnapshotError::Io { path: path.to_owned(), error };
        let damaged = |offset, why: String| SnapshotError::Damaged { path: path.to_owned(), offset, why };
        let file = File::open(path).map_err(io)?;
        let len = file.metadata().map_err(io)?.len();
        let mut head = [0u8; FILE_HEAD];
        file.read_exact_at(&mut head, 0).map_err(|e| damaged(0, e.to_string()))?;
        let (record, crc) = head.split_at(FILE_HEAD - 4);
        if crc32c::crc32c(record).to_le_bytes() != crc {
            return Err(damaged(0, "the head's checksum does not match".into()));
        }
        let header = SnapshotHeader::decode(record).map_err(|e: DecodeError| damaged(0, e.to_string()))?;
        let mut sections = vec![None; BUCKETS];
        let (mut at, mut wins) = (FILE_HEAD as u64, 0);
        while at < len {
            let mut head = [0u8; BUCKET_HEAD];
            file.read_exact_at(&mut head, at).map_err(|e| damaged(at, e.to_string()))?;
            let bucket = usize::from(u16::from_le_bytes([head[0], head[1]]));
            let count = u32::from_le_bytes([head[2], head[3], head[4], head[5]]);
            let crc = u32::from_le_bytes([head[6], head[7], head[8], head[9]]);
            let Some(section) = sections.get_mut(bucket) else {
                return Err(damaged(at, format!("there is no bucket {bucket}")));
            };
            *section = Some((at + BUCKET_HEAD as u64, count, crc));
            at += (BUCKET_HEAD + count as usize * SNAPSHOT_WIN_LEN) as u64;
            wins += u64::from(count);
        }
        if at != len || wins != header.wins {
            return Err(damaged(at, format!("{wins} wins in {len} bytes, the head says {}", header.wins)));
        }
        Ok(Snapshot { header, file, path: path.to_owned(), sections })
    }

    /// The wins of a bucket.
    pub fn bucket(&self, bucket: usize) -> Result<Vec<SnapshotWin>, SnapshotError> {
        let Some(Some((at, count, crc))) = self.sections.get(bucket).copied() else { return Ok(vec![]) };
        let mut bytes = vec![0u8; count as usize * SNAPSHOT_WIN_LEN];
        let io = |error| SnapshotError::Io { path: self.path.clone(), error };
        self.file.read_exact_at(&mut bytes, at).map_err(io)?;
        if section_crc(bucket as u16, &bytes) != crc {
            let why = format!("the checksum of bucket {bucket} does not match");
            return Err(SnapshotError::Damaged { path: self.path.clone(), offset: at, why });
        }
        let (wins, _) = bytes.as_chunks::<SNAPSHOT_WIN_LEN>();
        Ok(wins.iter().map(SnapshotWin::from_bytes).collect())
    }

    /// Takes the file out of the way, so that the next start uses the snapshot before it.
    pub fn set_aside(&self) -> Result<(), SnapshotError> {
        let io = |error| SnapshotError::Io { path: self.path.clone(), error };
        std::fs::rename(&self.path, self.path.with_extension("damaged")).map_err(io)
    }

    /// Reads every bucket once, to know that the file is whole.
    pub fn verify(&self) -> Result<(), SnapshotError> {
        (0..BUCKETS).try_for_each(|b| self.bucket(b).map(drop))
    }
}

/// Writes a snapshot of the core: `from` is a position that was durable before the call. `wait` returns when the
/// log is durable before the position it is given. `None`: not every bucket is loaded.
pub fn write(
    dir: &Path,
    core: &Core,
    (node, epoch): (NodeId, NodeEpoch),
    from: u64,
    time_ms: u64,
    wait: impl FnOnce(u64) -> bool,
) -> Result<Option<SnapshotHeader>, SnapshotError> {
    let temporary = dir.join("snapshot.tmp");
    let io = |error| SnapshotError::Io { path: temporary.clone(), error };
    let mut out = BufWriter::with_capacity(1 << 20, File::create(&temporary).map_err(io)?);
    out.write_all(&[0; FILE_HEAD]).map_err(io)?;
    let (mut wins, mut to) = (0u64, from);
    for bucket in 0..BUCKETS {
        let Some((kept, newest)) = core.wins(bucket) else { return Ok(None) };
        if kept.is_empty() {
            continue;
        }
        let bytes: Vec<u8> = kept.iter().flat_map(SnapshotWin::to_bytes).collect();
        out.write_all(&(bucket as u16).to_le_bytes()).map_err(io)?;
        out.write_all(&(kept.len() as u32).to_le_bytes()).map_err(io)?;
        out.write_all(&section_crc(bucket as u16, &bytes).to_le_bytes()).map_err(io)?;
        out.write_all(&bytes).map_err(io)?;
        wins += kept.len() as u64;
        to = to.max(newest + 1);
    }
    let header = SnapshotHeader { node, epoch, from, to, time_ms, wins };
    let mut head = header.encode();
    head.extend_from_slice(&crc32c::crc32c(&head).to_le_bytes());
    out.seek(SeekFrom::Start(0)).map_err(io)?;
    out.write_all(&head).map_err(io)?;
    let file = out.into_inner().map_err(|e| io(e.into_error()))?;
    file.sync_all().map_err(io)?;
    // A win of the snapshot that the log loses would live on in memory alone: so the log first.
    if !wait(to) {
        return Ok(None);
    }
    let name = dir.join(format!("{from:020}.snap"));
    std::fs::rename(&temporary, &name).map_err(io)?;
    File::open(dir).and_then(|d| d.sync_all()).map_err(io)?;
    let files = list(dir)?;
    for (_, old) in files.iter().rev().skip(KEEP) {
        std::fs::remove_file(old).map_err(io)?;
    }
    Ok(Some(header))
}

/// CRC-32C of a section: the bucket's number, then its entries. (A wrong count moves the next section's head.)
fn section_crc(bucket: u16, entries: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&bucket.to_le_bytes()), entries)
}

/// Bytes of a file, for tests that damage it.
#[cfg(test)]
fn bytes_of(path: &Path) -> Vec<u8> {
    use std::io::Read;
    let mut bytes = Vec::new();
    let _ = File::open(path).and_then(|mut f| f.read_to_end(&mut bytes));
    bytes
}

#[cfg(test)]
mod tests {
    use super::{Snapshot, bytes_of, list, newest, write};
    use crate::core::tests_support::{core, plan};
    use campaign::{AwardId, CampaignId, Fen, Limits, NodeEpoch, NodeId, PrizeId, RoundId, UserId};
    use records::SnapshotWin;

    fn win(user: u64, n: u64) -> SnapshotWin {
        SnapshotWin {
            award: AwardId::new(1000 + n, NodeId(1), NodeEpoch(1), n),
            user: UserId(user),
            campaign: CampaignId(1),
            round: RoundId(1),
            day: 0,
            counter: n as u32,
            prize: PrizeId(1),
            unit: n,
            fen: Fen(1),
        }
    }

    #[test]
    fn a_damaged_snapshot_gives_way_to_the_one_before() {
        let dir = tempfile::tempdir().unwrap();
        let (core, _log) = core(plan(Limits::default(), &[(1, 1, 1)]));
        let user = 4711;
        let bucket = hashring::bucket_of(user).index();
        core.load(bucket, [win(user, 1)]);
        let who = (NodeId(1), NodeEpoch(1));
        assert!(newest(dir.path()).unwrap().is_none());
        write(dir.path(), &core, who, 10, 5, |to| to == 10).unwrap().unwrap();
        core.load(bucket, [win(user, 1), win(user, 2)]);
        assert!(write(dir.path(), &core, who, 15, 5, |_| false).unwrap().is_none(), "the log did not follow");
        write(dir.path(), &core, who, 20, 5, |_| true).unwrap().unwrap();
        let snapshot = newest(dir.path()).unwrap().unwrap();
        assert_eq!((snapshot.header.from, snapshot.header.wins), (20, 2));
        assert_eq!(snapshot.bucket(bucket).unwrap(), [win(user, 1), win(user, 2)]);
        assert!(snapshot.bucket(bucket ^ 1).unwrap().is_empty());
        let (_, path) = list(dir.path()).unwrap().pop().unwrap();
        let whole = bytes_of(&path);
        for cut in 0..whole.len() {
            std::fs::write(&path, &whole[..cut]).unwrap();
            assert_eq!(newest(dir.path()).unwrap().unwrap().header.from, 10, "cut at {cut}");
        }
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 4;
            std::fs::write(&path, &bytes).unwrap();
            let bad = Snapshot::open(&path).and_then(|s| s.verify());
            assert!(bad.is_err(), "byte {at}");
        }
        core.begin_loading(bucket);
        assert!(write(dir.path(), &core, who, 30, 5, |_| true).unwrap().is_none(), "not all is loaded");
        for from in [40, 50, 60] {
            core.load(bucket, []);
            write(dir.path(), &core, who, from, 5, |_| true).unwrap();
        }
        assert_eq!(list(dir.path()).unwrap().iter().map(|f| f.0).collect::<Vec<_>>(), [50, 60]);
    }
}
