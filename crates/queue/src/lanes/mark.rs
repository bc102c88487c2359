//! The one record that acceptance has to understand, and the one group that is not from a node's own log.
//!
//! Whoever finds that a node's epoch was ended in the ledger writes a *foreign mark* into the node's lane: a group that
//! bears node and epoch of the ended one, holds the record `Ended` alone, and has neither place nor chain: its position and
//! `epoch_seq` are `u64::MAX`, its `prev_hash` is zeros. A node that ends its own epoch writes `Ended` into an
//! ordinary group. Both end the epoch for every reader, so both are recognised here (`docs/formats.md` has the bytes).

use flowlog::LogKind;
use flowlog::format::{GROUP_HEADER_LEN, GroupHeader};

use super::LaneError;
use crate::Position;

/// The record `Ended`: tag, version, length of the payload, then node and epoch.
const ENDED_FRAME: [u8; 4] = [0x05, 1, 6, 0];

/// Node and epoch of a record `Ended`; none if it is another record.
pub fn ended_of(record: &[u8]) -> Option<(u16, u32)> {
    let payload = record.strip_prefix(&ENDED_FRAME)?;
    let (node, epoch) = payload.split_first_chunk::<2>()?;
    Some((u16::from_le_bytes(*node), u32::from_le_bytes(epoch.try_into().ok()?)))
}

/// Whether a header is a foreign mark's.
pub fn is_mark(header: &GroupHeader) -> bool {
    header.position == Position::MAX && header.epoch_seq == u64::MAX
}

/// The bytes of a foreign mark that ends an epoch of a node. `record` is its `Ended`; `time_ms` dates it, no more.
///
/// # Errors
/// `Refused` when the record is not `Ended` of this node and epoch.
pub fn foreign_mark(node: u16, epoch: u32, record: &[u8], time_ms: u64) -> Result<Vec<u8>, LaneError> {
    if ended_of(record) != Some((node, epoch)) || epoch == 0 {
        return Err(LaneError::Refused(format!(
            "a mark that ends epoch {epoch} of node {node} must hold the record Ended of that node and epoch (from 1 on)"
        )));
    }
    let mut body = (record.len() as u32).to_le_bytes().to_vec();
    body.extend_from_slice(record);
    let header = GroupHeader {
        kind: LogKind::FLOW.0,
        node,
        epoch,
        position: Position::MAX,
        epoch_seq: u64::MAX,
        record_count: 1,
        body_len: body.len() as u32,
        time_ms,
        prev_hash: [0; 32],
        body_crc: crc32c::crc32c(&body),
    };
    let mut bytes = Vec::with_capacity(GROUP_HEADER_LEN + body.len());
    bytes.extend_from_slice(&header.encode());
    bytes.extend_from_slice(&body);
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::{ended_of, foreign_mark, is_mark};
    use flowlog::format::{GROUP_HEADER_LEN, GroupHeader, check_body};

    const ENDED: [u8; 10] = [5, 1, 6, 0, 7, 0, 3, 0, 0, 0];

    #[test]
    fn a_mark_is_a_whole_group_without_a_place() {
        let bytes = foreign_mark(7, 3, &ENDED, 9).unwrap();
        let header = GroupHeader::decode(&bytes).unwrap();
        assert!(is_mark(&header));
        assert_eq!((header.node, header.epoch, header.prev_hash, header.time_ms), (7, 3, [0; 32], 9));
        assert_eq!(check_body(&header, &bytes[GROUP_HEADER_LEN..]), Ok(()));
        assert_eq!(bytes.len(), GROUP_HEADER_LEN + 14);
    }

    #[test]
    fn a_mark_of_something_else_is_refused() {
        for (node, epoch, record) in
            [(8, 3, &ENDED[..]), (7, 4, &ENDED), (7, 3, &ENDED[..9]), (7, 3, &[]), (7, 3, b"x")]
        {
            assert!(foreign_mark(node, epoch, record, 0).is_err(), "{node} {epoch} {record:?}");
        }
        assert!(foreign_mark(7, 0, &[5, 1, 6, 0, 7, 0, 0, 0, 0, 0], 0).is_err());
        assert_eq!(ended_of(&ENDED), Some((7, 3)));
        assert_eq!(ended_of(&[4, 1, 6, 0, 7, 0, 3, 0, 0, 0]), None);
        assert_eq!(ended_of(&[5, 1, 6, 0, 7, 0, 3, 0, 0, 0, 0]), None);
    }
}
