//! The file that holds what one group of consumers has committed in one partition. `docs/formats.md` has the bytes.
//!
//! Two slots, each in a page of its own, written in turn: a crash can tear the slot being written, never the one
//! before it. One write and one fdatasync for a commit; the file never grows.

use std::path::{Path, PathBuf};

use flowlog::{Disk, DiskFile, Position};

const MAGIC: [u8; 8] = *b"HBQPOS\0\0";
const VERSION: u16 = 1;
const SLOT_LEN: usize = 40;
/// Slots lie so far apart that no device writes both at once.
const SLOT_STRIDE: u64 = 4096;
const NAME_END: &str = ".pos";

/// One group's position in one partition.
pub(crate) struct PositionFile<D: Disk> {
    file: D::File,
    path: PathBuf,
    partition: u16,
    sequence: u64,
    position: Position,
    failed: Option<String>,
}

/// The file's name: `GROUP.PARTITION.pos`.
pub(crate) fn name(group: &str, partition: u16) -> String {
    format!("{group}.{partition:05}{NAME_END}")
}

/// Group and partition of a file's name.
pub(crate) fn parse_name(name: &str) -> Option<(&str, u16)> {
    let (group, partition) = name.strip_suffix(NAME_END)?.rsplit_once('.')?;
    Some((group, partition.parse().ok()?))
}

impl<D: Disk> PositionFile<D> {
    /// Opens the file, or makes it with `first` in it.
    pub fn open(disk: &D, dir: &Path, group: &str, partition: u16, first: Position) -> Result<Self, String> {
        let name = name(group, partition);
        let path = dir.join(&name);
        let told = |op: &str, e: std::io::Error| format!("{op} {}: {e}", path.display());
        if !disk.list(dir).map_err(|e| told("list the folder of", e))?.contains(&name) {
            let new = dir.join(format!("{name}.new"));
            let file = disk.create(&new).map_err(|e| told("make", e))?;
            let slot = encode(partition, 1, first);
            file.write_at(&slot, SLOT_STRIDE).map_err(|e| told("write", e))?;
            file.sync_data().map_err(|e| told("sync", e))?;
            disk.rename(&new, &path).map_err(|e| told("rename", e))?;
            disk.sync_dir(dir).map_err(|e| told("sync the folder of", e))?;
        }
        let file = disk.open(&path, true).map_err(|e| told("open", e))?;
        let mut best: Option<(u64, Position)> = None;
        for slot in 0..2 {
            let mut bytes = [0u8; SLOT_LEN];
            let n = file.read_at(&mut bytes, slot * SLOT_STRIDE).map_err(|e| told("read", e))?;
            let Some(found) =
                decode(&bytes[..n], partition).map_err(|why| format!("{}: {why}", path.display()))?
            else {
                continue;
            };
            best = best.max(Some(found));
        }
        let Some((sequence, position)) = best else {
            return Err(format!(
                "{}: neither slot is whole, which no crash can have done. Remove the file to have everything that \
                 is kept delivered again (consumers recognise what they have seen), or put it back from a backup",
                path.display()
            ));
        };
        // What was read may never have been synced; what is told from now on must be durable.
        file.sync_data().map_err(|e| told("sync", e))?;
        Ok(PositionFile { file, path, partition, sequence, position, failed: None })
    }

    /// What is committed.
    pub fn position(&self) -> Position {
        self.position
    }

    /// Commits a position; one that is not higher changes nothing. After an error that left the disk's content unknown
    /// every later call fails.
    pub fn commit(&mut self, position: Position) -> Result<(), String> {
        if let Some(why) = &self.failed {
            return Err(why.clone());
        }
        if position <= self.position {
            return Ok(());
        }
        let sequence = self.sequence + 1;
        let slot = encode(self.partition, sequence, position);
        let done =
            self.file.write_at(&slot, (sequence % 2) * SLOT_STRIDE).and_then(|()| self.file.sync_data());
        match done {
            Ok(()) => {
                (self.sequence, self.position) = (sequence, position);
                Ok(())
            }
            Err(error) => {
                let why = format!("{}: {error}", self.path.display());
                self.failed = Some(why.clone());
                Err(why)
            }
        }
    }
}

fn encode(partition: u16, sequence: u64, position: Position) -> [u8; SLOT_LEN] {
    let mut slot = [0u8; SLOT_LEN];
    slot[0..8].copy_from_slice(&MAGIC);
    slot[8..10].copy_from_slice(&VERSION.to_le_bytes());
    slot[10..12].copy_from_slice(&partition.to_le_bytes());
    // 12..16 stays zero.
    slot[16..24].copy_from_slice(&sequence.to_le_bytes());
    slot[24..32].copy_from_slice(&position.0.to_le_bytes());
    // 32..36 stays zero.
    let crc = crc32c::crc32c(&slot[..36]);
    slot[36..40].copy_from_slice(&crc.to_le_bytes());
    slot
}

/// Sequence and position of a slot; none if it was never written or torn.
fn decode(slot: &[u8], partition: u16) -> Result<Option<(u64, Position)>, String> {
    let word = |at: usize| slot.get(at..at + 8).and_then(|b| b.try_into().ok()).map_or(0, u64::from_le_bytes);
    let half = |at: usize| u16::from_le_bytes([slot[at], slot[at + 1]]);
    if slot.len() < SLOT_LEN || slot[0..8] != MAGIC {
        return Ok(None);
    }
    if crc32c::crc32c(&slot[..36]).to_le_bytes() != slot[36..40] {
        return Ok(None);
    }
    if half(8) != VERSION {
        return Err(format!(
            "written by a newer version (format {}, this program knows {VERSION}); start that version",
            half(8)
        ));
    }
    if half(10) != partition {
        return Err(format!("holds the position of partition {}, not of {partition}", half(10)));
    }
    Ok(Some((word(16), Position(word(24)))))
}

#[cfg(test)]
mod tests {
    use super::{PositionFile, SLOT_LEN, SLOT_STRIDE, name, parse_name};
    use flowlog::{Disk, DiskFile, Position, RealDisk};

    #[test]
    fn names() {
        assert_eq!(parse_name(&name("flow", 7)), Some(("flow", 7)));
        assert_eq!(parse_name("flow.00007.pos.new"), None);
        assert_eq!(parse_name("topic"), None);
    }

    #[test]
    fn a_torn_slot_gives_the_position_before() {
        let dir = tempfile::tempdir().unwrap();
        let open = || PositionFile::open(&RealDisk, dir.path(), "g", 3, Position(2));
        let mut file = open().unwrap();
        assert_eq!(file.position(), Position(2));
        for n in [5, 9, 9, 4, 12] {
            file.commit(Position(n)).unwrap();
        }
        drop(file);
        assert_eq!(open().unwrap().position(), Position(12));
        // The last commit was the fourth write; cut it at every byte.
        let path = dir.path().join(name("g", 3));
        let raw = RealDisk.open(&path, true).unwrap();
        let mut slot = [0u8; SLOT_LEN];
        raw.read_at(&mut slot, 0).unwrap();
        for cut in 0..SLOT_LEN {
            if slot[cut..].iter().all(|b| *b == 0) {
                continue;
            }
            let mut torn = slot;
            torn[cut..].fill(0xa5);
            raw.write_at(&torn, 0).unwrap();
            assert_eq!(open().unwrap().position(), Position(9), "cut at {cut}");
        }
        raw.write_at(&[7; SLOT_LEN], SLOT_STRIDE).unwrap();
        assert!(open().err().unwrap().contains("neither slot"));
        raw.write_at(&slot, 0).unwrap();
        assert_eq!(open().unwrap().position(), Position(12));
        assert!(PositionFile::open(&RealDisk, dir.path(), "g", 4, Position(0)).is_ok());
        std::fs::rename(&path, dir.path().join(name("g", 9))).unwrap();
        assert!(
            PositionFile::open(&RealDisk, dir.path(), "g", 9, Position(0))
                .err()
                .unwrap()
                .contains("partition 3")
        );
    }
}
