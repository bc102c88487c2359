//! A message of a topic that isn't a lane: the records of one `produce`. `docs/formats.md` has the bytes. Pure.

use crate::{Group, GroupRecords, Position};

const MAGIC: [u8; 4] = *b"HBQM";
const VERSION: u16 = 1;
const HEADER_LEN: usize = 16;

/// The message that holds the records.
pub(crate) fn encode(records: &[&[u8]]) -> Vec<u8> {
    let group = Group::new(Position::ZERO, 0, records);
    let mut bytes = Vec::with_capacity(HEADER_LEN + group.bytes());
    bytes.extend_from_slice(&MAGIC);
    bytes.extend_from_slice(&VERSION.to_le_bytes());
    bytes.extend_from_slice(&(HEADER_LEN as u16).to_le_bytes());
    bytes.extend_from_slice(&(group.len() as u32).to_le_bytes());
    let crc = crc32c::crc32c_append(crc32c::crc32c(&bytes), group.body());
    bytes.extend_from_slice(&crc.to_le_bytes());
    bytes.extend_from_slice(group.body());
    bytes
}

/// The group that a message holds, at its place.
pub(crate) fn decode(position: Position, message: &[u8]) -> Result<Group, String> {
    let Some((header, body)) =
        message.split_first_chunk::<HEADER_LEN>().filter(|(h, _)| h.starts_with(&MAGIC))
    else {
        return Err("the message is none of hongbao's: it does not begin with HBQM".to_owned());
    };
    let field = |at: usize| u16::from_le_bytes([header[at], header[at + 1]]);
    let word = |at: usize| u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
    if field(4) != VERSION || usize::from(field(6)) != HEADER_LEN {
        return Err(format!("the message has version {}, this program knows {VERSION}: update it", field(4)));
    }
    if crc32c::crc32c_append(crc32c::crc32c(&header[..12]), body) != word(12) {
        return Err("the CRC of the message is wrong: it is damaged".to_owned());
    }
    let group = Group::of_body(position, 0, body);
    let filled: usize = GroupRecords::of_body(body).map(|r| r.len() + 4).sum();
    if group.len() as u64 != u64::from(word(8)) || group.is_empty() || body.len() != filled {
        return Err(format!("the message says {} records and holds {}", word(8), group.len()));
    }
    Ok(group)
}

#[cfg(test)]
mod tests {
    use super::{decode, encode};
    use crate::{Group, Position};

    #[test]
    fn round_trip_and_every_flipped_bit_is_seen() {
        let records: [&[u8]; 3] = [b"one", b"", b"three"];
        let bytes = encode(&records);
        assert_eq!(decode(Position(9), &bytes), Ok(Group::new(Position(9), 0, records)));
        for bit in 0..bytes.len() * 8 {
            let mut wrong = bytes.clone();
            wrong[bit / 8] ^= 1 << (bit % 8);
            assert!(decode(Position(9), &wrong).is_err(), "bit {bit}");
        }
        for len in 0..bytes.len() {
            assert!(decode(Position(9), &bytes[..len]).is_err(), "{len} bytes");
        }
        assert!(decode(Position(9), &encode(&[])).is_err(), "a message holds something");
    }

    #[test]
    fn the_bytes_never_change() {
        let bytes = encode(&[b"a"]);
        assert_eq!(&bytes[..12], b"HBQM\x01\0\x10\0\x01\0\0\0");
        assert_eq!(&bytes[16..], b"\x01\0\0\0a");
    }
}
