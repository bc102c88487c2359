//! `EpochBegan`: the first record of a node's epoch; the chain of the epoch starts with its group.

use crate::codec::{Decode, DecodeError, Record, RecordKind, Writer};
use campaign::{NodeEpoch, NodeId};

/// A node serves under a new epoch from here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EpochBegan {
    /// The node.
    pub node: NodeId,
    /// The epoch.
    pub epoch: NodeEpoch,
    /// When, ms UTC.
    pub time_ms: u64,
}

impl Record for EpochBegan {
    const KIND: RecordKind = RecordKind::EpochBegan;
    const VERSION: u8 = 1;

    fn write(&self, out: &mut Writer<'_>) {
        out.u16(self.node.0).u32(self.epoch.0).u64(self.time_ms);
    }

    fn read(version: u8, input: &mut Decode<'_>) -> Result<EpochBegan, DecodeError> {
        input.version(version, Self::VERSION)?;
        Ok(EpochBegan { node: NodeId(input.u16()?), epoch: NodeEpoch(input.u32()?), time_ms: input.u64()? })
    }
}
