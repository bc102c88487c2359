//! Groups as they stand in the files, for those who copy them elsewhere byte for byte: into a lane, into an archive.

use bytes::Bytes;

use crate::disk::Disk;
use crate::error::LogError;
use crate::position::Position;
use crate::reader::LogReader;

/// A group, checked and whole, with the place that it has in its log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RawGroup {
    /// Its position.
    pub position: Position,
    /// Its epoch.
    pub epoch: u32,
    /// Header and body.
    pub bytes: Bytes,
}

impl<D: Disk> LogReader<D> {
    /// The next groups below `limit`, as many as fit into `max_bytes`, but at least one if there is one. They share one
    /// buffer.
    ///
    /// # Errors
    /// As [`LogReader::next_group`].
    pub fn read_raw(&mut self, limit: Position, max_bytes: usize) -> Result<Vec<RawGroup>, LogError> {
        let batch = self.read_batch(limit, max_bytes)?;
        let places: Vec<(Position, u32, usize)> =
            batch.groups().map(|g| (g.position(), g.epoch(), g.bytes().len())).collect();
        let mut rest = Bytes::from(batch.into_bytes());
        let group = |(position, epoch, len)| RawGroup { position, epoch, bytes: rest.split_to(len) };
        Ok(places.into_iter().map(group).collect())
    }
}
