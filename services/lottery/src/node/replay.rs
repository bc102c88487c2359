//! What a node learns from its own log at start: the wins since the snapshot, the units that open leases used,
//! and where epochs ended.
//!
//! Pure: groups go in. A `Won` behind the end mark of its epoch, or of a later one, never was.

use campaign::{LeaseId, Ranges};
use hashring::bucket_of;
use records::{DecodeError, Ended, Record, RecordKind, SnapshotWin, Won, kind_of};
use std::collections::BTreeMap;

/// Wins of the log, by bucket, and what settling needs.
#[derive(Default)]
pub struct Replay {
    /// Wins by bucket, in the log's order.
    pub wins: Vec<Vec<SnapshotWin>>,
    /// Records that were replayed.
    pub records: u64,
    used: BTreeMap<(u32, LeaseId), Vec<u64>>,
    ended: BTreeMap<u32, u64>,
}

/// A record that can't be read. The log's checksums were right, so this was written by another version.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("group {position}, record {index}: {error}")]
pub struct BadRecord {
    /// Position of the group.
    pub position: u64,
    /// Which of its records, from 0.
    pub index: usize,
    /// What is wrong.
    pub error: DecodeError,
}

impl Replay {
    /// Nothing replayed yet.
    pub fn new() -> Replay {
        Replay { wins: (0..hashring::BUCKET_COUNT).map(|_| Vec::new()).collect(), ..Replay::default() }
    }

    /// Takes a group in. Groups come in the order of the lane.
    pub fn group<'a>(
        &mut self,
        node: u16,
        epoch: u32,
        position: u64,
        records: impl Iterator<Item = &'a [u8]>,
        keep_wins: bool,
    ) -> Result<(), BadRecord> {
        for (index, bytes) in records.enumerate() {
            self.record(node, epoch, position, bytes, keep_wins).map_err(|error| BadRecord {
                position,
                index,
                error,
            })?;
        }
        Ok(())
    }

    fn record(
        &mut self,
        node: u16,
        epoch: u32,
        position: u64,
        bytes: &[u8],
        keep_wins: bool,
    ) -> Result<(), DecodeError> {
        self.records += 1;
        match kind_of(bytes)? {
            RecordKind::Won => {
                let won = Won::decode(bytes)?;
                if self.ended.range(epoch..).next().is_none() {
                    if keep_wins {
                        self.wins[bucket_of(won.user.0).index()].push(crate::core::kept(&won));
                    }
                    self.used.entry((epoch, won.lease)).or_default().push(won.unit);
                }
            }
            RecordKind::Ended => {
                let ended = Ended::decode(bytes)?;
                if ended.node.0 == node {
                    self.ended.entry(ended.epoch.0).or_insert(position);
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Position of the first end mark of an epoch.
    pub fn ended(&self, epoch: u32) -> Option<u64> {
        self.ended.get(&epoch).copied()
    }

    /// Position of the first end mark of an epoch or of a later one: everything of the epoch that counts stands before it.
    pub fn over(&self, epoch: u32) -> Option<u64> {
        self.ended.range(epoch..).map(|(_, position)| *position).min()
    }

    /// Units of a lease that became awards.
    pub fn used(&self, epoch: u32, lease: LeaseId) -> Ranges {
        self.used.get(&(epoch, lease)).into_iter().flatten().copied().collect()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::Replay;
    use campaign::{AwardId, CampaignId, Fen, LeaseId, NodeEpoch, NodeId, PrizeId, RoundId, SeqNo, UserId};
    use records::{Ended, Record, Won};

    pub(in crate::node) fn won(user: u64, lease: u64, unit: u64) -> Vec<u8> {
        Won {
            award: AwardId(u128::from(unit)),
            campaign: CampaignId(1),
            round: RoundId(1),
            day: 1,
            user: UserId(user),
            counter: 1,
            try_no: 1,
            district: 0,
            prize: PrizeId(1),
            unit,
            fen: Fen(1),
            lease: LeaseId(lease),
            seq_no: SeqNo(1),
            held: 0,
            time_ms: 1,
            shakes: 1,
            mac_key: 1,
            mac: [0; 16],
        }
        .encode()
    }

    #[test]
    fn wins_behind_an_end_mark_never_were() {
        let mut r = Replay::new();
        let ended = Ended { node: NodeId(1), epoch: NodeEpoch(2) }.encode();
        let mut group = |epoch, position, records: &[Vec<u8>]| {
            r.group(1, epoch, position, records.iter().map(Vec::as_slice), true).unwrap();
        };
        group(1, 0, &[won(7, 1, 10)]);
        group(2, 1, &[won(7, 1, 11), won(8, 1, 12)]);
        group(2, 2, &[ended.clone(), won(7, 1, 13)]);
        group(1, 3, &[won(7, 1, 14)]);
        group(2, 4, &[ended]);
        group(3, 5, &[won(7, 1, 15)]);
        let wins: usize = r.wins.iter().map(Vec::len).sum();
        assert_eq!((wins, r.ended(2), r.ended(3)), (4, Some(2), None));
        assert_eq!(
            (r.over(1), r.over(2), r.over(3)),
            (Some(2), Some(2), None),
            "a later mark covers earlier epochs"
        );
        assert_eq!(r.used(2, LeaseId(1)).to_string(), "11-12");
        assert_eq!(r.used(1, LeaseId(1)).to_string(), "10");
        assert!(r.group(1, 3, 6, [&b"\x7f\x01\x00\x00"[..]].into_iter(), true).is_err());
    }
}
