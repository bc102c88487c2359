//! `Ended`: the end mark of a node's epoch in its lane. What that epoch, or an earlier one of the node, has
//! behind it never was.

use crate::codec::{Decode, DecodeError, Record, RecordKind, Writer};
use campaign::{NodeEpoch, NodeId};

/// The epoch of a node is over.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ended {
    /// The node.
    pub node: NodeId,
    /// The epoch that is over.
    pub epoch: NodeEpoch,
}

impl Record for Ended {
    const KIND: RecordKind = RecordKind::Ended;
    const VERSION: u8 = 1;

    fn write(&self, out: &mut Writer<'_>) {
        out.u16(self.node.0).u32(self.epoch.0);
    }

    fn read(version: u8, input: &mut Decode<'_>) -> Result<Ended, DecodeError> {
        input.version(version, Self::VERSION)?;
        Ok(Ended { node: NodeId(input.u16()?), epoch: NodeEpoch(input.u32()?) })
    }
}
