//! A group under construction, and a group that was read.

use crate::format::{self, GROUP_HEADER_LEN, GroupHeader, Hash, RECORD_PREFIX_LEN};
use crate::position::Position;

/// Records of the next group, laid out as they will be written, with room for the header before them.
#[derive(Debug)]
pub struct GroupBuf {
    bytes: Vec<u8>,
    records: u32,
}

impl Default for GroupBuf {
    fn default() -> Self {
        GroupBuf { bytes: vec![0; GROUP_HEADER_LEN], records: 0 }
    }
}

impl GroupBuf {
    /// An empty group.
    pub fn new() -> GroupBuf {
        GroupBuf::default()
    }

    /// Adds a record. Its length must fit the u32 prefix; the writer's limit for groups is far below.
    pub fn push(&mut self, record: &[u8]) {
        self.bytes.extend_from_slice(&(record.len() as u32).to_le_bytes());
        self.bytes.extend_from_slice(record);
        self.records += 1;
    }

    /// Takes everything out; the memory is kept.
    pub fn clear(&mut self) {
        self.bytes.truncate(GROUP_HEADER_LEN);
        self.records = 0;
    }

    /// Bytes of the body so far.
    pub fn body_len(&self) -> usize {
        self.bytes.len() - GROUP_HEADER_LEN
    }

    /// Bytes of the whole group so far.
    pub fn group_len(&self) -> usize {
        self.bytes.len()
    }

    /// Records so far.
    pub fn records(&self) -> u32 {
        self.records
    }

    /// True without records.
    pub fn is_empty(&self) -> bool {
        self.records == 0
    }

    pub(crate) fn body(&self) -> &[u8] {
        &self.bytes[GROUP_HEADER_LEN..]
    }

    /// Puts the header in; the whole group's bytes.
    pub(crate) fn seal(&mut self, header: &GroupHeader) -> &[u8] {
        self.bytes[..GROUP_HEADER_LEN].copy_from_slice(&header.encode());
        &self.bytes
    }
}

/// Bytes that a record takes in a group's body.
pub fn record_len(record: &[u8]) -> usize {
    RECORD_PREFIX_LEN + record.len()
}

/// A group that was read and checked; it borrows the reader's buffer.
#[derive(Clone, Debug)]
pub struct Group<'a> {
    pub(crate) header: GroupHeader,
    pub(crate) bytes: &'a [u8],
    pub(crate) hash: Hash,
}

impl<'a> Group<'a> {
    /// Its place in the log.
    pub fn position(&self) -> Position {
        self.header.position
    }
    /// The node (or partition) that wrote it.
    pub fn node(&self) -> u16 {
        self.header.node
    }
    /// The epoch in which it was written.
    pub fn epoch(&self) -> u32 {
        self.header.epoch
    }
    /// Its number within the epoch.
    pub fn epoch_seq(&self) -> u64 {
        self.header.epoch_seq
    }
    /// When it was closed, in ms UTC.
    pub fn time_ms(&self) -> u64 {
        self.header.time_ms
    }
    /// Its hash in the chain.
    pub fn hash(&self) -> Hash {
        self.hash
    }
    /// All of its header.
    pub fn header(&self) -> &GroupHeader {
        &self.header
    }
    /// The group as it stands in the file, header and body.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }
    /// How many records it holds.
    pub fn record_count(&self) -> u32 {
        self.header.record_count
    }
    /// Its records in order.
    pub fn records(&self) -> Records<'a> {
        Records { rest: &self.bytes[GROUP_HEADER_LEN..] }
    }
}

/// The records of a group, in order.
#[derive(Clone, Debug)]
pub struct Records<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Records<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        // The framing was checked when the group was read, so the slices fit.
        if self.rest.len() < RECORD_PREFIX_LEN {
            return None;
        }
        let (prefix, rest) = self.rest.split_at(RECORD_PREFIX_LEN);
        let len = format::u32_at(prefix, 0) as usize;
        let (record, rest) = rest.split_at_checked(len)?;
        self.rest = rest;
        Some(record)
    }
}
