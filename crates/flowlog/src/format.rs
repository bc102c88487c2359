//! The bytes of a segment and of a group, as `docs/formats.md` publishes them.
//!
//! Pure: bytes in, structures out. Both headers begin with magic, version and their own length, and end with a CRC-32C
//! over everything before it. These four things keep their place in every later version, so that a program can tell
//! 'written by a newer version' from 'damaged'.

use sha2::{Digest, Sha256};

use crate::position::Position;

/// The version of both headers that this program writes, and the highest that it reads.
pub const FORMAT_VERSION: u16 = 1;
/// Length of a segment's header in bytes.
pub const SEGMENT_HEADER_LEN: usize = 80;
/// Length of a group's header in bytes.
pub const GROUP_HEADER_LEN: usize = 88;
/// Each record in a body is preceded by its length, a u32.
pub const RECORD_PREFIX_LEN: usize = 4;
/// The largest body of a group, in bytes. A reader refuses more, so its buffer has a bound.
pub const BODY_BYTES_MAX: usize = 64 * 1024 * 1024;

const SEGMENT_MAGIC: [u8; 8] = *b"HBLOGSEG";
const GROUP_MAGIC: [u8; 4] = *b"HBGR";
/// What the hash covers of a group's header: everything but the two CRCs.
const GROUP_HASHED_LEN: usize = 80;
/// No header of any version is longer, so that a damaged length can't send the reader far.
const HEADER_LEN_MAX: usize = 1024;
/// The first group of an epoch chains from SHA-256 of this, the node and the epoch.
const GENESIS_DOMAIN: &[u8] = b"hongbao flow log epoch v1";

/// A SHA-256 in the chain of groups.
pub type Hash = [u8; 32];

/// The hash that the first group of an epoch names as its predecessor's.
pub fn epoch_genesis(node: u16, epoch: u32) -> Hash {
    let mut sha = Sha256::new();
    sha.update(GENESIS_DOMAIN);
    sha.update(node.to_le_bytes());
    sha.update(epoch.to_le_bytes());
    sha.finalize().into()
}

/// Why bytes are not a header or a group.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Defect {
    /// Damaged or incomplete; the text says what was found.
    Damaged(&'static str),
    /// Whole, but of a version that this program doesn't know.
    Newer(u16),
}

/// What stands at the head of a segment file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SegmentHeader {
    /// What kind of log this is (see [`crate::LogKind`]).
    pub kind: u16,
    /// The node, or for logs that aren't a node's the number of the partition.
    pub node: u16,
    /// The epoch of all groups in this segment.
    pub epoch: u32,
    /// The position of the first group in this segment; also the name of the file.
    pub first: Position,
    /// That group's number within its epoch.
    pub first_epoch_seq: u64,
    /// The hash that that group names as its predecessor's.
    pub prev_hash: Hash,
}

impl SegmentHeader {
    /// The header's bytes.
    pub fn encode(&self) -> [u8; SEGMENT_HEADER_LEN] {
        let mut b = [0u8; SEGMENT_HEADER_LEN];
        b[0..8].copy_from_slice(&SEGMENT_MAGIC);
        b[8..10].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
        b[10..12].copy_from_slice(&(SEGMENT_HEADER_LEN as u16).to_le_bytes());
        b[12..14].copy_from_slice(&self.kind.to_le_bytes());
        b[14..16].copy_from_slice(&self.node.to_le_bytes());
        b[16..20].copy_from_slice(&self.epoch.to_le_bytes());
        // 20..24 stays zero.
        b[24..32].copy_from_slice(&self.first.0.to_le_bytes());
        b[32..40].copy_from_slice(&self.first_epoch_seq.to_le_bytes());
        b[40..72].copy_from_slice(&self.prev_hash);
        // 72..76 stays zero.
        let crc = crc32c::crc32c(&b[..76]);
        b[76..80].copy_from_slice(&crc.to_le_bytes());
        b
    }

    /// Reads a header from the first bytes of a segment file.
    pub fn decode(bytes: &[u8]) -> Result<SegmentHeader, Defect> {
        if bytes.len() < 12 || bytes[0..8] != SEGMENT_MAGIC {
            return Err(Defect::Damaged("no segment header"));
        }
        check_header(bytes, u16_at(bytes, 8), u16_at(bytes, 10), SEGMENT_HEADER_LEN)?;
        Ok(SegmentHeader {
            kind: u16_at(bytes, 12),
            node: u16_at(bytes, 14),
            epoch: u32_at(bytes, 16),
            first: Position(u64_at(bytes, 24)),
            first_epoch_seq: u64_at(bytes, 32),
            prev_hash: hash_at(bytes, 40),
        })
    }
}

/// What stands before the records of a group.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GroupHeader {
    /// What kind of log this is (see [`crate::LogKind`]).
    pub kind: u16,
    /// The node, or for logs that aren't a node's the number of the partition.
    pub node: u16,
    /// The epoch in which the group was written.
    pub epoch: u32,
    /// The group's place in the log, over all epochs.
    pub position: Position,
    /// The group's number within its epoch, from 0.
    pub epoch_seq: u64,
    /// How many records the body holds, at least one.
    pub record_count: u32,
    /// Length of the body in bytes.
    pub body_len: u32,
    /// When the group was closed, in ms UTC, by the writer's clock.
    pub time_ms: u64,
    /// Hash of the group before it, or [`epoch_genesis`].
    pub prev_hash: Hash,
    /// CRC-32C of the body.
    pub body_crc: u32,
}

impl GroupHeader {
    /// The header's bytes.
    pub fn encode(&self) -> [u8; GROUP_HEADER_LEN] {
        let mut b = [0u8; GROUP_HEADER_LEN];
        b[0..4].copy_from_slice(&GROUP_MAGIC);
        b[4..6].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
        b[6..8].copy_from_slice(&(GROUP_HEADER_LEN as u16).to_le_bytes());
        b[8..10].copy_from_slice(&self.kind.to_le_bytes());
        b[10..12].copy_from_slice(&self.node.to_le_bytes());
        b[12..16].copy_from_slice(&self.epoch.to_le_bytes());
        b[16..24].copy_from_slice(&self.position.0.to_le_bytes());
        b[24..32].copy_from_slice(&self.epoch_seq.to_le_bytes());
        b[32..36].copy_from_slice(&self.record_count.to_le_bytes());
        b[36..40].copy_from_slice(&self.body_len.to_le_bytes());
        b[40..48].copy_from_slice(&self.time_ms.to_le_bytes());
        b[48..80].copy_from_slice(&self.prev_hash);
        b[80..84].copy_from_slice(&self.body_crc.to_le_bytes());
        let crc = crc32c::crc32c(&b[..84]);
        b[84..88].copy_from_slice(&crc.to_le_bytes());
        b
    }

    /// Reads a header from the bytes at a group's place. The body is not looked at.
    pub fn decode(bytes: &[u8]) -> Result<GroupHeader, Defect> {
        if bytes.len() < 8 {
            return Err(Defect::Damaged("the group's header is cut short"));
        }
        if bytes[0..4] != GROUP_MAGIC {
            return Err(Defect::Damaged("no group begins here"));
        }
        check_header(bytes, u16_at(bytes, 4), u16_at(bytes, 6), GROUP_HEADER_LEN)?;
        let header = GroupHeader {
            kind: u16_at(bytes, 8),
            node: u16_at(bytes, 10),
            epoch: u32_at(bytes, 12),
            position: Position(u64_at(bytes, 16)),
            epoch_seq: u64_at(bytes, 24),
            record_count: u32_at(bytes, 32),
            body_len: u32_at(bytes, 36),
            time_ms: u64_at(bytes, 40),
            prev_hash: hash_at(bytes, 48),
            body_crc: u32_at(bytes, 80),
        };
        if header.body_len as usize > BODY_BYTES_MAX {
            return Err(Defect::Damaged("the group's body is longer than any group may be"));
        }
        Ok(header)
    }

    /// Bytes of the whole group, header and body.
    pub fn group_len(&self) -> usize {
        GROUP_HEADER_LEN + self.body_len as usize
    }
}

/// The hash of a whole group: SHA-256 of its header without the two CRCs, then its body.
pub fn group_hash(group: &[u8]) -> Hash {
    let mut sha = Sha256::new();
    sha.update(&group[..GROUP_HASHED_LEN]);
    sha.update(&group[GROUP_HEADER_LEN..]);
    sha.finalize().into()
}

/// Checks the body against the header: its CRC, and that its records fill it exactly.
pub fn check_body(header: &GroupHeader, body: &[u8]) -> Result<(), Defect> {
    if crc32c::crc32c(body) != header.body_crc {
        return Err(Defect::Damaged("the CRC of the group's body is wrong"));
    }
    let mut rest = body;
    let mut count = 0u32;
    while !rest.is_empty() {
        if rest.len() < RECORD_PREFIX_LEN || rest.len() - RECORD_PREFIX_LEN < u32_at(rest, 0) as usize {
            return Err(Defect::Damaged("a record reaches over the end of its group"));
        }
        rest = &rest[RECORD_PREFIX_LEN + u32_at(rest, 0) as usize..];
        count += 1;
    }
    if count != header.record_count || count == 0 {
        return Err(Defect::Damaged("the group's number of records is wrong"));
    }
    Ok(())
}

/// Where in `bytes` the magic of a group stands next, at `from` or behind it.
pub(crate) fn find_group_magic(bytes: &[u8], from: usize) -> Option<usize> {
    let mut at = from;
    while at + GROUP_MAGIC.len() <= bytes.len() {
        match bytes[at..].iter().position(|&b| b == GROUP_MAGIC[0]) {
            Some(i) if bytes[at + i..].starts_with(&GROUP_MAGIC) => return Some(at + i),
            Some(i) => at += i + 1,
            None => return None,
        }
    }
    None
}

/// The parts that all versions share: length within bounds, CRC in the last four bytes, then the version.
fn check_header(bytes: &[u8], version: u16, len: u16, own_len: usize) -> Result<(), Defect> {
    let len = usize::from(len);
    if !(16..=HEADER_LEN_MAX).contains(&len) || bytes.len() < len {
        return Err(Defect::Damaged("the header is cut short, or its length is wrong"));
    }
    if crc32c::crc32c(&bytes[..len - 4]) != u32_at(bytes, len - 4) {
        return Err(Defect::Damaged("the CRC of the header is wrong"));
    }
    if version > FORMAT_VERSION {
        return Err(Defect::Newer(version));
    }
    if version == 0 || len != own_len {
        return Err(Defect::Damaged("version and length of the header don't fit"));
    }
    Ok(())
}

pub(crate) fn u16_at(b: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([b[at], b[at + 1]])
}

pub(crate) fn u32_at(b: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([b[at], b[at + 1], b[at + 2], b[at + 3]])
}

fn u64_at(b: &[u8], at: usize) -> u64 {
    u64::from(u32_at(b, at)) | u64::from(u32_at(b, at + 4)) << 32
}

fn hash_at(b: &[u8], at: usize) -> Hash {
    let mut hash = [0u8; 32];
    hash.copy_from_slice(&b[at..at + 32]);
    hash
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> GroupHeader {
        GroupHeader {
            kind: 1,
            node: 7,
            epoch: 3,
            position: Position(0x0102_0304_0506_0708),
            epoch_seq: 9,
            record_count: 1,
            body_len: 4,
            time_ms: 1_767_225_600_000,
            prev_hash: epoch_genesis(7, 3),
            body_crc: crc32c::crc32c(&[0; 4]),
        }
    }

    #[test]
    fn headers_round_trip_and_refuse_every_flipped_bit() {
        let group = header();
        let bytes = group.encode();
        assert_eq!(GroupHeader::decode(&bytes), Ok(group));
        let segment = SegmentHeader {
            kind: 2,
            node: 1,
            epoch: 5,
            first: Position(77),
            first_epoch_seq: 4,
            prev_hash: [9; 32],
        };
        assert_eq!(SegmentHeader::decode(&segment.encode()), Ok(segment.clone()));
        for bit in 0..GROUP_HEADER_LEN * 8 {
            let mut b = bytes;
            b[bit / 8] ^= 1 << (bit % 8);
            assert!(matches!(GroupHeader::decode(&b), Err(Defect::Damaged(_))), "bit {bit}");
        }
        for bit in 0..SEGMENT_HEADER_LEN * 8 {
            let mut b = segment.encode();
            b[bit / 8] ^= 1 << (bit % 8);
            assert!(matches!(SegmentHeader::decode(&b), Err(Defect::Damaged(_))), "bit {bit}");
        }
    }

    #[test]
    fn a_whole_header_of_a_later_version_is_newer_not_damaged() {
        let mut bytes = [0u8; 96];
        bytes[..GROUP_HEADER_LEN].copy_from_slice(&header().encode());
        bytes[4..6].copy_from_slice(&2u16.to_le_bytes());
        bytes[6..8].copy_from_slice(&96u16.to_le_bytes());
        let crc = crc32c::crc32c(&bytes[..92]);
        bytes[92..96].copy_from_slice(&crc.to_le_bytes());
        assert_eq!(GroupHeader::decode(&bytes), Err(Defect::Newer(2)));
    }

    #[test]
    fn the_bytes_of_a_group_never_change() {
        // A frozen example: whoever changes this changes what is already on disks.
        let bytes = header().encode();
        assert_eq!(&bytes[..24], b"HBGR\x01\0\x58\0\x01\0\x07\0\x03\0\0\0\x08\x07\x06\x05\x04\x03\x02\x01");
        let mut group = bytes.to_vec();
        group.extend_from_slice(&[0; 4]);
        let hex: String = group_hash(&group).iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(hex, FROZEN_GROUP_HASH);
    }

    const FROZEN_GROUP_HASH: &str = "a2156cc4883489e88ccc20242a4da905fdc2885ea6c4ddef2ca4b5a874fc4ff1";

    #[test]
    fn a_body_must_be_filled_by_its_records() {
        let mut h = header();
        assert_eq!(check_body(&h, &[0; 4]), Ok(()));
        h.record_count = 2;
        assert!(check_body(&h, &[0; 4]).is_err());
        h.record_count = 1;
        let long = [1, 0, 0, 0];
        h.body_crc = crc32c::crc32c(&long);
        assert!(check_body(&h, &long).is_err());
    }

    #[test]
    fn the_magic_is_found_wherever_it_stands() {
        let bytes = b"HBHBGHBGRHBGR";
        assert_eq!(find_group_magic(bytes, 0), Some(5));
        assert_eq!(find_group_magic(bytes, 6), Some(9));
        assert_eq!(find_group_magic(bytes, 10), None);
    }
}
