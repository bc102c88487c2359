//! Keys and values as a cache stores them.

use crate::core::Want;
use campaign::{CampaignId, NodeEpoch, NodeId, UserId};
use records::{SNAPSHOT_WIN_LEN, SnapshotWin};

/// Most wins of an entry; who has more is always asked for at flow.
pub const WINS_MAX: usize = 1_024;

/// Version byte, count u16, CRC-32C u32.
const HEAD: usize = 7;
const VERSION: u8 = 1;

/// What an entry is about: a user in a campaign, as the owner of his bucket knew him when its term began.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct CacheKey {
    /// User, campaign, bucket and term.
    pub want: Want,
    /// Whose term it is.
    pub node: NodeId,
    /// The owner's epoch: numbers of terms begin anew when a ledger was lost, epochs never do.
    pub epoch: NodeEpoch,
}

impl CacheKey {
    /// As text, for a cache that is shared. `life` is the reader's own: what another process wrote, of an installation before
    /// this one perhaps that counted its terms and epochs as this one does, is not to be found.
    pub fn text(&self, life: u64) -> String {
        let Want { bucket, term, user: UserId(user), campaign: CampaignId(campaign) } = self.want;
        format!("hongbao:h2:{life:016x}:{campaign}:{user}:{bucket}:{term}:{}:{}", self.node.0, self.epoch.0)
    }

    /// The value's bytes; `None`: it is too long to be kept. The checksum covers the key, so that a value that came to
    /// stand under another key is not believed.
    pub fn encode(&self, life: u64, wins: &[SnapshotWin]) -> Option<Vec<u8>> {
        if wins.len() > WINS_MAX {
            return None;
        }
        let mut bytes = Vec::with_capacity(HEAD + wins.len() * SNAPSHOT_WIN_LEN);
        bytes.push(VERSION);
        bytes.extend_from_slice(&(wins.len() as u16).to_le_bytes());
        bytes.extend_from_slice(&[0; 4]);
        wins.iter().for_each(|win| bytes.extend_from_slice(&win.to_bytes()));
        let crc = self.crc(life, &bytes);
        bytes[3..HEAD].copy_from_slice(&crc.to_le_bytes());
        Some(bytes)
    }

    /// Reads [`CacheKey::encode`]. `None`: not written by it for this key.
    pub fn decode(&self, life: u64, bytes: &[u8]) -> Option<Vec<SnapshotWin>> {
        let (head, entries) = bytes.split_at_checked(HEAD)?;
        let (wins, rest) = entries.as_chunks::<SNAPSHOT_WIN_LEN>();
        let count = usize::from(u16::from_le_bytes([head[1], head[2]]));
        if head[0] != VERSION || !rest.is_empty() || wins.len() != count {
            return None;
        }
        if self.crc(life, bytes).to_le_bytes() != head[3..HEAD] {
            return None;
        }
        let wins: Vec<SnapshotWin> = wins.iter().map(SnapshotWin::from_bytes).collect();
        let own = |win: &SnapshotWin| win.user == self.want.user && win.campaign == self.want.campaign;
        wins.iter().all(own).then_some(wins)
    }

    /// CRC-32C of the key's text, then of the value without its checksum.
    fn crc(&self, life: u64, bytes: &[u8]) -> u32 {
        let key = crc32c::crc32c(self.text(life).as_bytes());
        crc32c::crc32c_append(crc32c::crc32c_append(key, &bytes[..3]), &bytes[HEAD..])
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::{CacheKey, WINS_MAX};
    use crate::core::Want;
    use campaign::{AwardId, CampaignId, Fen, NodeEpoch, NodeId, PrizeId, RoundId, UserId};
    use records::SnapshotWin;

    pub(in super::super) fn key(user: u64, term: u32) -> CacheKey {
        let bucket = hashring::bucket_of(user).get();
        let want = Want { bucket, term, user: UserId(user), campaign: CampaignId(3) };
        CacheKey { want, node: NodeId(5), epoch: NodeEpoch(6) }
    }

    pub(in super::super) fn win(user: u64, n: u64) -> SnapshotWin {
        SnapshotWin {
            award: AwardId(u128::from(n) << 40),
            user: UserId(user),
            campaign: CampaignId(3),
            round: RoundId(2),
            day: 1,
            counter: n as u32,
            prize: PrizeId(4),
            unit: n,
            fen: Fen(88),
        }
    }

    #[test]
    fn what_was_damaged_or_is_of_another_is_not_believed() {
        let wins = [win(9, 1), win(9, 2)];
        let bytes = key(9, 1).encode(5, &wins).unwrap();
        assert_eq!(key(9, 1).decode(5, &bytes), Some(wins.to_vec()));
        assert_eq!(key(9, 1).decode(5, &key(9, 1).encode(5, &[]).unwrap()), Some(vec![]));
        assert_eq!(key(9, 2).decode(5, &bytes), None, "another term");
        assert_eq!(key(9, 1).decode(6, &bytes), None, "another process");
        assert_eq!(CacheKey { epoch: NodeEpoch(7), ..key(9, 1) }.decode(5, &bytes), None, "another epoch");
        assert_eq!(key(8, 1).decode(5, &key(8, 1).encode(5, &wins).unwrap()), None, "another user's wins");
        for at in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[at] ^= 4;
            assert_eq!(key(9, 1).decode(5, &bad), None, "byte {at}");
            assert_eq!(key(9, 1).decode(5, &bytes[..at]), None, "cut at {at}");
        }
        assert_eq!(key(9, 1).encode(5, &vec![win(9, 1); WINS_MAX + 1]), None);
        assert!(key(u64::MAX, u32::MAX).text(5).len() < 250, "memcached's longest key");
    }
}
