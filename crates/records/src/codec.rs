//! The frame around every record, and the small reader and writer that the layouts use.

/// Bytes before the payload: tag, version, payload length.
pub const HEADER_LEN: usize = 4;

/// Why bytes are not the record that was expected.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum DecodeError {
    /// Fewer bytes than the record says or needs.
    #[error("the record ends after {have} bytes; it needs {need}")]
    Short {
        /// Bytes needed.
        need: usize,
        /// Bytes there.
        have: usize,
    },
    /// A tag that no record has.
    #[error("record tag {0:#04x} is unknown: it was written by a newer version, or these are not records")]
    UnknownTag(u8),
    /// Another record than the one asked for.
    #[error("record tag {found:#04x} stands where {wanted:#04x} is expected")]
    OtherTag {
        /// Tag that was expected.
        wanted: u8,
        /// Tag that stands there.
        found: u8,
    },
    /// A version this program does not know.
    #[error("version {version} of record {tag:#04x} is unknown: it was written by a newer version")]
    UnknownVersion {
        /// The record.
        tag: u8,
        /// Its version.
        version: u8,
    },
    /// Bytes behind the payload's last field.
    #[error("record {tag:#04x} has {extra} bytes more than its layout")]
    Long {
        /// The record.
        tag: u8,
        /// Bytes too many.
        extra: usize,
    },
    /// A field with a value that it can't have.
    #[error("field `{field}` of record {tag:#04x} has the impossible value {value}")]
    Value {
        /// The record.
        tag: u8,
        /// The field.
        field: &'static str,
        /// What stands there.
        value: u64,
    },
}

/// Defines the kinds with their frozen tags.
macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident = $tag:literal),* $(,)?) => {
        /// Which record it is. The number is the stored tag, frozen for ever.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        #[repr(u8)]
        pub enum RecordKind { $($(#[$doc])* $name = $tag),* }

        impl RecordKind {
            fn of_tag(tag: u8) -> Option<RecordKind> {
                match tag { $($tag => Some(RecordKind::$name),)* _ => None }
            }
        }
    };
}

kinds! {
    /// A node began an epoch.
    EpochBegan = 0x01,
    /// An award.
    Won = 0x02,
    /// A lease was received.
    LeaseGot = 0x03,
    /// A lease was closed.
    LeaseClosed = 0x04,
    /// A node's epoch was ended.
    Ended = 0x05,
    /// A delivery order, or a claim of one.
    Order = 0x20,
    /// A step of a delivery.
    DeliveryEvent = 0x30,
    /// Head of a lottery snapshot.
    SnapshotHeader = 0x40,
    /// A message of a conversation.
    ChatMessage = 0x50,
    /// Anything else that chat remembers.
    ChatFact = 0x51,
}

/// The kind of the record at the beginning of the bytes.
pub fn kind_of(bytes: &[u8]) -> Result<RecordKind, DecodeError> {
    let tag = *bytes.first().ok_or(DecodeError::Short { need: HEADER_LEN, have: 0 })?;
    RecordKind::of_tag(tag).ok_or(DecodeError::UnknownTag(tag))
}

/// Splits the first record off: (its bytes with the header, the rest).
pub fn split(bytes: &[u8]) -> Result<(&[u8], &[u8]), DecodeError> {
    if bytes.len() < HEADER_LEN {
        return Err(DecodeError::Short { need: HEADER_LEN, have: bytes.len() });
    }
    let need = HEADER_LEN + usize::from(u16::from_le_bytes([bytes[2], bytes[3]]));
    if bytes.len() < need {
        return Err(DecodeError::Short { need, have: bytes.len() });
    }
    Ok(bytes.split_at(need))
}

/// A stored record.
pub trait Record: Sized {
    /// Which one.
    const KIND: RecordKind;
    /// Layout that is written.
    const VERSION: u8;

    /// Appends the payload.
    fn write(&self, out: &mut Writer<'_>);

    /// Reads the payload of the given version.
    fn read(version: u8, input: &mut Decode<'_>) -> Result<Self, DecodeError>;

    /// Appends the whole record.
    fn encode_into(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&[Self::KIND as u8, Self::VERSION, 0, 0]);
        self.write(&mut Writer(out));
        // Layouts are bounded (LEASE_RANGES_MAX, CHAT_BODY_MAX and such), so the length fits 16 bits.
        let len = (out.len() - start - HEADER_LEN) as u16;
        out[start + 2..start + 4].copy_from_slice(&len.to_le_bytes());
    }

    /// The whole record.
    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(128);
        self.encode_into(&mut out);
        out
    }

    /// Reads a whole record that fills the bytes exactly.
    fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let (record, rest) = split(bytes)?;
        let (wanted, found) = (Self::KIND as u8, record[0]);
        if found != wanted {
            return Err(DecodeError::OtherTag { wanted, found });
        }
        if !rest.is_empty() {
            return Err(DecodeError::Long { tag: wanted, extra: rest.len() });
        }
        let mut input = Decode { tag: wanted, bytes: &record[HEADER_LEN..], all: record.len() - HEADER_LEN };
        let value = Self::read(record[1], &mut input)?;
        match input.bytes.len() {
            0 => Ok(value),
            extra => Err(DecodeError::Long { tag: wanted, extra }),
        }
    }
}

/// Writes fields in order.
pub struct Writer<'a>(&'a mut Vec<u8>);

impl Writer<'_> {
    pub(crate) fn u8(&mut self, v: u8) -> &mut Self {
        self.bytes(&[v])
    }
    pub(crate) fn u16(&mut self, v: u16) -> &mut Self {
        self.bytes(&v.to_le_bytes())
    }
    pub(crate) fn u32(&mut self, v: u32) -> &mut Self {
        self.bytes(&v.to_le_bytes())
    }
    pub(crate) fn u64(&mut self, v: u64) -> &mut Self {
        self.bytes(&v.to_le_bytes())
    }
    pub(crate) fn i64(&mut self, v: i64) -> &mut Self {
        self.bytes(&v.to_le_bytes())
    }
    pub(crate) fn bytes(&mut self, v: &[u8]) -> &mut Self {
        self.0.extend_from_slice(v);
        self
    }
    /// Text with its length in 16 bits before it; its owner bounds it.
    pub(crate) fn text(&mut self, v: &str) -> &mut Self {
        debug_assert!(v.len() <= usize::from(u16::MAX));
        self.u16(v.len() as u16).bytes(v.as_bytes())
    }
}

/// Reads fields in order.
pub struct Decode<'a> {
    tag: u8,
    bytes: &'a [u8],
    all: usize,
}

impl Decode<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        match self.bytes.split_first_chunk::<N>() {
            Some((head, rest)) => {
                self.bytes = rest;
                Ok(*head)
            }
            None => {
                let have = self.all;
                Err(DecodeError::Short { need: have - self.bytes.len() + N, have })
            }
        }
    }
    pub(crate) fn u8(&mut self) -> Result<u8, DecodeError> {
        self.take::<1>().map(|b| b[0])
    }
    pub(crate) fn u16(&mut self) -> Result<u16, DecodeError> {
        self.take().map(u16::from_le_bytes)
    }
    pub(crate) fn u32(&mut self) -> Result<u32, DecodeError> {
        self.take().map(u32::from_le_bytes)
    }
    pub(crate) fn u64(&mut self) -> Result<u64, DecodeError> {
        self.take().map(u64::from_le_bytes)
    }
    pub(crate) fn i64(&mut self) -> Result<i64, DecodeError> {
        self.take().map(i64::from_le_bytes)
    }
    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        self.take()
    }
    /// So many bytes.
    pub(crate) fn slice(&mut self, len: usize) -> Result<&[u8], DecodeError> {
        match self.bytes.split_at_checked(len) {
            Some((head, rest)) => {
                self.bytes = rest;
                Ok(head)
            }
            None => {
                let have = self.all;
                Err(DecodeError::Short { need: have - self.bytes.len() + len, have })
            }
        }
    }
    /// Text as [`Writer::text`] wrote it.
    pub(crate) fn text(&mut self) -> Result<String, DecodeError> {
        let (tag, len) = (self.tag, self.u16()?);
        let bytes = self.slice(usize::from(len))?;
        let text = std::str::from_utf8(bytes).map_err(|error| DecodeError::Value {
            tag,
            field: "text that is no UTF-8 from byte",
            value: error.valid_up_to() as u64,
        })?;
        Ok(text.to_owned())
    }
    pub(crate) fn impossible(&self, field: &'static str, value: u64) -> DecodeError {
        DecodeError::Value { tag: self.tag, field, value }
    }
    /// Refuses every version but `known`.
    pub(crate) fn version(&self, version: u8, known: u8) -> Result<(), DecodeError> {
        if version == known { Ok(()) } else { Err(DecodeError::UnknownVersion { tag: self.tag, version }) }
    }
}

#[cfg(test)]
mod tests {
    use super::{DecodeError, Record, kind_of, split};
    use crate::{Ended, RecordKind, Won};
    use campaign::{NodeEpoch, NodeId};

    #[test]
    fn refuses_what_it_does_not_know() {
        let good = Ended { node: NodeId(3), epoch: NodeEpoch(4) }.encode();
        assert_eq!(kind_of(&good), Ok(RecordKind::Ended));
        assert_eq!(kind_of(&[]), Err(DecodeError::Short { need: 4, have: 0 }));
        let with = |at: usize, v: u8| {
            let mut b = good.clone();
            b[at] = v;
            b
        };
        assert_eq!(kind_of(&with(0, 0x7f)), Err(DecodeError::UnknownTag(0x7f)));
        assert_eq!(Ended::decode(&with(1, 9)), Err(DecodeError::UnknownVersion { tag: 5, version: 9 }));
        assert_eq!(Won::decode(&good), Err(DecodeError::OtherTag { wanted: 2, found: 5 }));
        let mut long = good.clone();
        long.push(0);
        assert_eq!(Ended::decode(&long), Err(DecodeError::Long { tag: 5, extra: 1 }));
        for cut in 0..good.len() {
            assert!(Ended::decode(&good[..cut]).is_err(), "cut at {cut}");
        }
        let two = [good.clone(), good.clone()].concat();
        assert_eq!(split(&two).unwrap(), (&good[..], &good[..]));
    }
}
