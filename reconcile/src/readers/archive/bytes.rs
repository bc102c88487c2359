//! The flow archive's bytes (`docs/formats.md`): segment header, group header, records. Written from the published
//! format alone and sharing no code with the writer, so that a mistake of the writer is seen here.

use campaign::{
    AwardFacts, AwardId, CampaignId, Fen, LeaseId, Mac, NodeEpoch, NodeId, PrizeId, RoundId, SeqNo,
    UnitRange, UserId,
};
use sha2::{Digest as _, Sha256};

/// Bytes of a segment header.
pub const SEGMENT_HEADER: usize = 80;
/// Bytes of a group header.
pub const GROUP_HEADER: usize = 88;
/// Longest body of a group.
pub const BODY_MAX: usize = 64 << 20;
/// Magic of a group.
pub const GROUP_MAGIC: &[u8; 4] = b"HBGR";
/// Most ranges of a lease.
const RANGES_MAX: u16 = 1024;

/// What is wrong with bytes, and what would be right.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Fault {
    /// The file ends inside something.
    #[error(
        "the file ends {missing} bytes before the end of the {what}: the group is torn; let the platform recover its log, or restore the file"
    )]
    Torn {
        /// What it ends in.
        what: &'static str,
        /// Bytes missing.
        missing: u64,
    },
    /// Something that is no header stands where one should.
    #[error("no {0} begins here: the bytes are damaged; restore the file")]
    Magic(&'static str),
    /// A checksum is wrong.
    #[error(
        "the CRC of the {what} is {found:#010x}, computed {computed:#010x}: the bytes are damaged; restore the file"
    )]
    Crc {
        /// Of what.
        what: &'static str,
        /// The stored one.
        found: u32,
        /// The one of the bytes.
        computed: u32,
    },
    /// Written by a newer program.
    #[error("version {version} of the {what} is unknown (1 is known): use a newer reconcile")]
    Version {
        /// Of what.
        what: &'static str,
        /// Which.
        version: u16,
    },
    /// A field that does not follow on.
    #[error("{field} is {found}, expected {expected}: a group is missing or stands in the wrong place")]
    Gap {
        /// The field.
        field: &'static str,
        /// What stands there.
        found: u64,
        /// What follows on.
        expected: u64,
    },
    /// The hash chain is broken.
    #[error(
        "the hash chain is broken: prev_hash is not the hash of the group before; a group was changed or replaced"
    )]
    Chain,
    /// A record that can't be read.
    #[error("record {index} of the group: {what}")]
    Record {
        /// Its number in the group, from 0.
        index: u32,
        /// What is wrong.
        what: String,
    },
    /// Something stands behind the zeros that end a segment.
    #[error("bytes stand behind the end of the log: the group before them is damaged; restore the file")]
    BehindEnd,
    /// Zeros before the end of an epoch's file that others follow.
    #[error("{0}")]
    Order(String),
    /// The file can't be read.
    #[error("can't be read: {0}")]
    Io(String),
}

fn u16_at(b: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([b[at], b[at + 1]])
}

fn u32_at(b: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([b[at], b[at + 1], b[at + 2], b[at + 3]])
}

fn u64_at(b: &[u8], at: usize) -> u64 {
    u64::from(u32_at(b, at)) | u64::from(u32_at(b, at + 4)) << 32
}

fn hash_at(b: &[u8], at: usize) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(&b[at..at + 32]);
    hash
}

/// The header of a segment file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SegmentHead {
    /// 1: a node's flow log or lane.
    pub kind: u16,
    /// The node.
    pub node: NodeId,
    /// Epoch of all its groups.
    pub epoch: NodeEpoch,
    /// Position of its first group.
    pub first: u64,
    /// That group's number in the epoch.
    pub first_epoch_seq: u64,
    /// That group's `prev_hash`.
    pub prev_hash: [u8; 32],
}

impl SegmentHead {
    /// Reads a header.
    pub fn parse(b: &[u8; SEGMENT_HEADER]) -> Result<SegmentHead, Fault> {
        if &b[..8] != b"HBLOGSEG" {
            return Err(Fault::Magic("segment"));
        }
        check_crc(b, "segment header")?;
        check_version(b, 8, SEGMENT_HEADER, "segment header")?;
        if u32_at(b, 20) != 0 || u32_at(b, 72) != 0 {
            return Err(Fault::Magic("segment"));
        }
        Ok(SegmentHead {
            kind: u16_at(b, 12),
            node: NodeId(u16_at(b, 14)),
            epoch: NodeEpoch(u32_at(b, 16)),
            first: u64_at(b, 24),
            first_epoch_seq: u64_at(b, 32),
            prev_hash: hash_at(b, 40),
        })
    }
}

fn check_crc(header: &[u8], what: &'static str) -> Result<(), Fault> {
    let end = header.len() - 4;
    let (found, computed) = (u32_at(header, end), crc32c::crc32c(&header[..end]));
    if found == computed { Ok(()) } else { Err(Fault::Crc { what, found, computed }) }
}

fn check_version(b: &[u8], at: usize, len: usize, what: &'static str) -> Result<(), Fault> {
    match (u16_at(b, at), usize::from(u16_at(b, at + 2))) {
        (1, l) if l == len => Ok(()),
        (1, l) => Err(Fault::Gap { field: "header_len", found: l as u64, expected: len as u64 }),
        (version, _) => Err(Fault::Version { what, version }),
    }
}

/// The header of a group.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GroupHead {
    /// As in the segment.
    pub kind: u16,
    /// As in the segment.
    pub node: NodeId,
    /// As in the segment.
    pub epoch: NodeEpoch,
    /// Number of groups before it in the log.
    pub position: u64,
    /// Number of groups before it in the epoch.
    pub epoch_seq: u64,
    /// Records in it.
    pub record_count: u32,
    /// Bytes of the body.
    pub body_len: usize,
    /// When it was closed, ms UTC.
    pub time_ms: u64,
    /// Hash of the group before it in the epoch.
    pub prev_hash: [u8; 32],
    body_crc: u32,
}

impl GroupHead {
    /// Reads a header.
    pub fn parse(b: &[u8; GROUP_HEADER]) -> Result<GroupHead, Fault> {
        if &b[..4] != GROUP_MAGIC {
            return Err(Fault::Magic("group"));
        }
        check_crc(b, "group header")?;
        check_version(b, 4, GROUP_HEADER, "group header")?;
        let body_len = u32_at(b, 36) as usize;
        if body_len > BODY_MAX {
            return Err(Fault::Gap { field: "body_len", found: body_len as u64, expected: BODY_MAX as u64 });
        }
        Ok(GroupHead {
            kind: u16_at(b, 8),
            node: NodeId(u16_at(b, 10)),
            epoch: NodeEpoch(u32_at(b, 12)),
            position: u64_at(b, 16),
            epoch_seq: u64_at(b, 24),
            record_count: u32_at(b, 32),
            body_len,
            time_ms: u64_at(b, 40),
            prev_hash: hash_at(b, 48),
            body_crc: u32_at(b, 80),
        })
    }

    /// An end mark that another node wrote: it has no position and no number of its own.
    pub fn is_mark(&self) -> bool {
        (self.position, self.epoch_seq) == (u64::MAX, u64::MAX)
    }

    /// Checks the body's CRC and computes the group's hash.
    pub fn check_body(&self, header: &[u8; GROUP_HEADER], body: &[u8]) -> Result<[u8; 32], Fault> {
        let computed = crc32c::crc32c(body);
        if computed != self.body_crc {
            return Err(Fault::Crc { what: "group body", found: self.body_crc, computed });
        }
        let mut hash = Sha256::new();
        hash.update(&header[..80]);
        hash.update(body);
        Ok(hash.finalize().into())
    }
}

/// `prev_hash` of an epoch's first group.
pub fn chain_start(node: NodeId, epoch: NodeEpoch) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(b"hongbao flow log epoch v1");
    hash.update(node.0.to_le_bytes());
    hash.update(epoch.0.to_le_bytes());
    hash.finalize().into()
}

/// The body's records: each a u32 length and its bytes.
pub fn records(body: &[u8], count: u32) -> impl Iterator<Item = Result<&[u8], Fault>> {
    let mut rest = body;
    let mut index = 0;
    std::iter::from_fn(move || {
        let wrong = |what: &str| Some(Err(Fault::Record { index, what: what.to_string() }));
        if index == count {
            if rest.is_empty() {
                return None;
            }
            rest = &[];
            return wrong("bytes stand behind the last record of the body");
        }
        let Some((len, behind)) = rest.split_first_chunk::<4>() else {
            return wrong("the body ends before it");
        };
        let Some((record, behind)) = behind.split_at_checked(u32::from_le_bytes(*len) as usize) else {
            return wrong("the body ends inside it");
        };
        rest = behind;
        index += 1;
        Some(Ok(record))
    })
}

/// An award's record.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Won {
    /// What it says of money, and what the MAC covers.
    pub facts: AwardFacts,
    /// Local day.
    pub day: u32,
    /// Counter of the draw.
    pub counter: u32,
    /// The lease.
    pub lease: LeaseId,
    /// Plan of the decision.
    pub seq_no: SeqNo,
    /// Instant of the decision, ms UTC.
    pub time_ms: u64,
    /// Key of the MAC.
    pub mac_key: u32,
    /// The MAC.
    pub mac: Mac,
}

/// A lease's record, when it came or when it ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Lease {
    /// The lease.
    pub lease: LeaseId,
    /// Campaign, round, prize.
    pub key: crate::rows::PrizeKey,
    /// Its units, or those that go back.
    pub units: Vec<UnitRange>,
}

/// A record of the flow log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Record {
    /// A node serves under a new epoch.
    EpochBegan {
        /// The node.
        node: NodeId,
        /// The epoch.
        epoch: NodeEpoch,
    },
    /// An award.
    Won(Won),
    /// A lease came.
    LeaseGot(Lease),
    /// A lease ended, with so many units used.
    LeaseClosed {
        /// The lease, with the units that go back.
        lease: Lease,
        /// Units used.
        used: u64,
    },
    /// A node's epoch is over.
    Ended {
        /// The node.
        node: NodeId,
        /// The epoch.
        epoch: NodeEpoch,
    },
}

impl Record {
    /// Reads a record; the error says what is wrong with it.
    pub fn parse(bytes: &[u8]) -> Result<Record, String> {
        let Some((head, payload)) = bytes.split_first_chunk::<4>() else {
            return Err(format!("it has {} bytes; its frame alone has 4", bytes.len()));
        };
        let len = usize::from(u16_at(head, 2));
        if payload.len() != len {
            return Err(format!("its frame says {len} bytes of payload, {} are there", payload.len()));
        }
        if !(1..=5).contains(&head[0]) {
            return Err(format!(
                "tag {:#04x} does not belong into a flow log, or is of a newer version",
                head[0]
            ));
        }
        if head[1] != 1 {
            return Err(format!(
                "version {} of record {:#04x} is unknown: use a newer reconcile",
                head[1], head[0]
            ));
        }
        let mut input = Input { rest: payload };
        let record = match head[0] {
            1 => {
                let (node, epoch) = (NodeId(input.u16()?), NodeEpoch(input.u32()?));
                input.u64()?;
                Record::EpochBegan { node, epoch }
            }
            2 => Record::Won(input.won()?),
            3 => Record::LeaseGot(input.lease_got()?),
            4 => input.lease_closed()?,
            _ => Record::Ended { node: NodeId(input.u16()?), epoch: NodeEpoch(input.u32()?) },
        };
        match input.rest.len() {
            0 => Ok(record),
            extra => Err(format!("{extra} bytes stand behind its last field")),
        }
    }
}

struct Input<'a> {
    rest: &'a [u8],
}

impl Input<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], String> {
        let (head, rest) = self.rest.split_first_chunk().ok_or("its payload ends inside a field")?;
        self.rest = rest;
        Ok(*head)
    }
    fn u16(&mut self) -> Result<u16, String> {
        self.take().map(u16::from_le_bytes)
    }
    fn u32(&mut self) -> Result<u32, String> {
        self.take().map(u32::from_le_bytes)
    }
    fn u64(&mut self) -> Result<u64, String> {
        self.take().map(u64::from_le_bytes)
    }

    fn won(&mut self) -> Result<Won, String> {
        let award = AwardId(u128::from_be_bytes(self.take()?));
        let (campaign, round, day) = (CampaignId(self.u32()?), RoundId(self.u32()?), self.u32()?);
        let (user, counter) = (UserId(self.u64()?), self.u32()?);
        let [_try_no, pad @ ..] = self.take::<4>()?;
        if pad != [0; 3] {
            return Err("its padding is not zero".to_string());
        }
        let _district = self.u32()?;
        let (prize, unit) = (PrizeId(self.u32()?), self.u64()?);
        let fen = Fen(i64::from_le_bytes(self.take()?));
        if fen < Fen::ZERO {
            return Err(format!("award {award} has the amount {fen} yuan, below zero"));
        }
        let (lease, seq_no, _held) = (LeaseId(self.u64()?), SeqNo(self.u64()?), self.u64()?);
        let (time_ms, _shakes) = (self.u64()?, self.u32()?);
        let (mac_key, mac) = (self.u32()?, self.take()?);
        let facts = AwardFacts { id: award, campaign, round, user, prize, unit, fen };
        Ok(Won { facts, day, counter, lease, seq_no, time_ms, mac_key, mac })
    }

    fn lease_of(&mut self) -> Result<Lease, String> {
        let (lease, campaign) = (LeaseId(self.u64()?), CampaignId(self.u32()?));
        let (round, prize) = (RoundId(self.u32()?), PrizeId(self.u32()?));
        Ok(Lease { lease, key: crate::rows::PrizeKey { campaign, round, prize }, units: Vec::new() })
    }

    fn units(&mut self) -> Result<UnitRange, String> {
        let (first, count) = (self.u64()?, self.u64()?);
        if count == 0 || first.checked_add(count).is_none() {
            return Err(format!("a range begins at unit {first} and has {count} units"));
        }
        Ok(UnitRange { first, count })
    }

    fn lease_got(&mut self) -> Result<Lease, String> {
        let mut lease = self.lease_of()?;
        let _seq_no = self.u64()?;
        let count = self.u16()?;
        if count == 0 || count > RANGES_MAX {
            return Err(format!("lease {} has {count} ranges; 1 to {RANGES_MAX} are possible", lease.lease));
        }
        for _ in 0..count {
            let range = self.units()?;
            let (_first_slot, per_slot, every) = (self.u64()?, self.u32()?, self.u32()?);
            if per_slot == 0 || every == 0 {
                return Err(format!("lease {} has a range without a pace", lease.lease));
            }
            lease.units.push(range);
        }
        Ok(lease)
    }

    fn lease_closed(&mut self) -> Result<Record, String> {
        let mut lease = self.lease_of()?;
        let used = self.u64()?;
        let count = self.u16()?;
        if count > RANGES_MAX {
            return Err(format!(
                "lease {} gives {count} ranges back; at most {RANGES_MAX} are possible",
                lease.lease
            ));
        }
        for _ in 0..count {
            lease.units.push(self.units()?);
        }
        Ok(Record::LeaseClosed { lease, used })
    }
}
