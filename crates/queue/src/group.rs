//! What a poll brings: groups of records, each with its place in the partition.

use crate::Position;

const PREFIX_LEN: usize = 4;

/// Records that became durable together, at one position. The smallest thing that is delivered and committed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Group {
    /// Its place in the partition: rising by one from group to group; a lane may leave positions out where a new
    /// epoch begins.
    pub position: Position,
    /// The writer's epoch: in a lane the node's, elsewhere of no meaning.
    pub epoch: u32,
    count: u32,
    body: Vec<u8>,
}

impl Group {
    /// A group of the given records.
    pub fn new<R: AsRef<[u8]>>(
        position: Position,
        epoch: u32,
        records: impl IntoIterator<Item = R>,
    ) -> Group {
        let mut group = Group { position, epoch, count: 0, body: Vec::new() };
        for record in records {
            let record = record.as_ref();
            // Producers refuse what is longer than a group may be, far below 4 GiB.
            group.body.extend_from_slice(&(record.len() as u32).to_le_bytes());
            group.body.extend_from_slice(record);
            group.count += 1;
        }
        group
    }

    /// A group whose body (each record behind its length) was checked before.
    pub(crate) fn of_body(position: Position, epoch: u32, body: &[u8]) -> Group {
        let count = GroupRecords::of_body(body).count() as u32;
        Group { position, epoch, count, body: body.to_vec() }
    }

    /// The body: each record behind its length.
    pub(crate) fn body(&self) -> &[u8] {
        &self.body
    }

    /// How many records it holds.
    pub fn len(&self) -> usize {
        self.count as usize
    }

    /// True without records, which no queue delivers.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Bytes of its records with their prefixes.
    pub fn bytes(&self) -> usize {
        self.body.len()
    }

    /// Its records in order.
    pub fn records(&self) -> GroupRecords<'_> {
        GroupRecords { rest: &self.body }
    }
}

/// The records of a group, in order.
#[derive(Clone, Debug)]
pub struct GroupRecords<'a> {
    rest: &'a [u8],
}

impl<'a> GroupRecords<'a> {
    /// The records of a body. One that is cut short ends them.
    pub(crate) fn of_body(body: &'a [u8]) -> GroupRecords<'a> {
        GroupRecords { rest: body }
    }
}

impl<'a> Iterator for GroupRecords<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let (prefix, rest) = self.rest.split_first_chunk::<PREFIX_LEN>()?;
        // Built by `Group` or checked before, so the prefix fits.
        let (record, rest) = rest.split_at_checked(u32::from_le_bytes(*prefix) as usize)?;
        self.rest = rest;
        Some(record)
    }
}

/// Groups of one partition, in order, none left out.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Batch {
    /// The partition.
    pub partition: u16,
    /// At least one group.
    pub groups: Vec<Group>,
}

impl Batch {
    /// The position behind the last group: commit it when all of the batch is done.
    pub fn next(&self) -> Position {
        self.groups.last().map_or(Position::ZERO, |g| g.position.next())
    }

    /// All records in order.
    pub fn records(&self) -> impl Iterator<Item = &[u8]> {
        self.groups.iter().flat_map(Group::records)
    }
}
