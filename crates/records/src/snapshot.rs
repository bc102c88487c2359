//! The lottery's snapshot: the wins that a node holds in memory, bucket by bucket, so that a restart reads
//! the log only from the snapshot's position on.
//!
//! A file is a `SnapshotHeader` record and its CRC-32C (u32), then for each bucket with wins, rising: bucket u16,
//! count u32, CRC-32C (u32) of the bucket's number and the entries, and `count` entries of 64 bytes. The snapshot
//! is fuzzy: an entry may come from a group behind `from`, never from one at or behind `to`; replay from `from`
//! is idempotent by (user, round, counter).

use crate::codec::{Decode, DecodeError, Record, RecordKind, Writer};
use campaign::{AwardId, CampaignId, Fen, NodeEpoch, NodeId, PrizeId, RoundId, UserId};

/// Bytes of a win in a snapshot.
pub const SNAPSHOT_WIN_LEN: usize = 64;

/// Head of a snapshot file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SnapshotHeader {
    /// Node that wrote it.
    pub node: NodeId,
    /// Its epoch then.
    pub epoch: NodeEpoch,
    /// Position in the log from which replay starts.
    pub from: u64,
    /// Position before which everything in the snapshot is durable.
    pub to: u64,
    /// When, ms UTC.
    pub time_ms: u64,
    /// Wins in the file.
    pub wins: u64,
}

impl Record for SnapshotHeader {
    const KIND: RecordKind = RecordKind::SnapshotHeader;
    const VERSION: u8 = 1;

    fn write(&self, out: &mut Writer<'_>) {
        out.u16(self.node.0).u32(self.epoch.0).u64(self.from).u64(self.to).u64(self.time_ms).u64(self.wins);
    }

    fn read(version: u8, input: &mut Decode<'_>) -> Result<SnapshotHeader, DecodeError> {
        input.version(version, Self::VERSION)?;
        let (node, epoch) = (NodeId(input.u16()?), NodeEpoch(input.u32()?));
        let (from, to, time_ms, wins) = (input.u64()?, input.u64()?, input.u64()?, input.u64()?);
        if to < from {
            return Err(input.impossible("to", to));
        }
        Ok(SnapshotHeader { node, epoch, from, to, time_ms, wins })
    }
}

/// A win, as memory and snapshots keep it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SnapshotWin {
    /// The award.
    pub award: AwardId,
    /// Who won.
    pub user: UserId,
    /// The campaign.
    pub campaign: CampaignId,
    /// The round.
    pub round: RoundId,
    /// Local day of the campaign.
    pub day: u32,
    /// Counter of the draw.
    pub counter: u32,
    /// The prize.
    pub prize: PrizeId,
    /// Number of the unit.
    pub unit: u64,
    /// Amount.
    pub fen: Fen,
}

impl SnapshotWin {
    /// The 64 bytes: the fields in order, the last four bytes 0.
    pub fn to_bytes(&self) -> [u8; SNAPSHOT_WIN_LEN] {
        let mut out = [0u8; SNAPSHOT_WIN_LEN];
        out[..16].copy_from_slice(&self.award.to_bytes());
        out[16..24].copy_from_slice(&self.user.0.to_le_bytes());
        let words = [self.campaign.0, self.round.0, self.day, self.counter, self.prize.0];
        for (i, word) in words.into_iter().enumerate() {
            out[24 + 4 * i..28 + 4 * i].copy_from_slice(&word.to_le_bytes());
        }
        out[44..52].copy_from_slice(&self.unit.to_le_bytes());
        out[52..60].copy_from_slice(&self.fen.0.to_le_bytes());
        out
    }

    /// Reads [`SnapshotWin::to_bytes`].
    pub fn from_bytes(bytes: &[u8; SNAPSHOT_WIN_LEN]) -> SnapshotWin {
        let word = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let long = |at: usize| u64::from(word(at)) | u64::from(word(at + 4)) << 32;
        let mut award = [0u8; 16];
        award.copy_from_slice(&bytes[..16]);
        SnapshotWin {
            award: AwardId::from_bytes(award),
            user: UserId(long(16)),
            campaign: CampaignId(word(24)),
            round: RoundId(word(28)),
            day: word(32),
            counter: word(36),
            prize: PrizeId(word(40)),
            unit: long(44),
            fen: Fen(long(52) as i64),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{SnapshotHeader, SnapshotWin};
    use crate::codec::Record;
    use campaign::{AwardId, CampaignId, Fen, NodeEpoch, NodeId, PrizeId, RoundId, UserId};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn round_trips(a in any::<u128>(), n in any::<[u64; 3]>(), m in any::<[u32; 5]>(), fen in any::<i64>()) {
            let win = SnapshotWin { award: AwardId(a), user: UserId(n[0]), campaign: CampaignId(m[0]), round: RoundId(m[1]), day: m[2],
                counter: m[3], prize: PrizeId(m[4]), unit: n[1], fen: Fen(fen) };
            prop_assert_eq!(SnapshotWin::from_bytes(&win.to_bytes()), win);
            let head = SnapshotHeader { node: NodeId(1), epoch: NodeEpoch(m[0]), from: n[0].min(n[1]), to: n[0].max(n[1]), time_ms: n[2], wins: 3 };
            prop_assert_eq!(SnapshotHeader::decode(&head.encode()), Ok(head));
        }
    }
}
