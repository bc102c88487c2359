//! Where a plan's commitments to round seeds come from.
//!
//! The first SeqNo that has a round takes the commitment from the seed key of the day; it is stored with that
//! version, and every later plan takes it from there. So a plan is compiled again without any secret, and a new
//! seed key changes no round that was announced under the old one.

use campaign::{CampaignId, Plan, RoundId, SeedKey};

/// Bytes of one stored commitment: round u32, key id u32, SHA-256.
const STORED_BYTES: usize = 40;

/// What is published about a round's seed before the round.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SeedCommitment {
    /// Key that makes the seed.
    pub key_id: u32,
    /// SHA-256 of the seed.
    pub sha256: [u8; 32],
}

/// Gives the commitment of a round.
pub trait SeedCommitments: Send + Sync {
    /// The commitment, or `None` where this source has none for the round.
    fn commitment(&self, campaign: CampaignId, round: RoundId) -> Option<SeedCommitment>;
}

/// A seed key can commit to every round.
impl SeedCommitments for SeedKey {
    fn commitment(&self, campaign: CampaignId, round: RoundId) -> Option<SeedCommitment> {
        let sha256 = self.round_seed(campaign, round).commitment();
        Some(SeedCommitment { key_id: self.id, sha256 })
    }
}

/// The commitments of all rounds up to one plan, as they are stored beside its source.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct StoredCommitments {
    rounds: Vec<(RoundId, SeedCommitment)>,
}

impl StoredCommitments {
    /// Those of a plan.
    pub fn of(plan: &Plan) -> StoredCommitments {
        let commitment =
            |r: &campaign::Round| SeedCommitment { key_id: r.seed_key_id, sha256: r.seed_commitment };
        let mut rounds: Vec<_> = plan.rounds.iter().map(|r| (r.id, commitment(r))).collect();
        rounds.sort_by_key(|r| r.0);
        StoredCommitments { rounds }
    }

    /// These, and those of `older` for rounds that these lack: a round that was taken out keeps its commitment,
    /// should it come back.
    pub fn with(mut self, older: &StoredCommitments) -> StoredCommitments {
        let known = |round: &RoundId| self.rounds.binary_search_by_key(round, |r| r.0).is_ok();
        let gone: Vec<_> = older.rounds.iter().filter(|(round, _)| !known(round)).copied().collect();
        self.rounds.extend(gone);
        self.rounds.sort_by_key(|r| r.0);
        self
    }

    /// Bytes to store: for each round, by id, round u32, key id u32 and SHA-256, little-endian.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.rounds.len() * STORED_BYTES);
        for (round, commitment) in &self.rounds {
            bytes.extend_from_slice(&round.0.to_le_bytes());
            bytes.extend_from_slice(&commitment.key_id.to_le_bytes());
            bytes.extend_from_slice(&commitment.sha256);
        }
        bytes
    }

    /// Reads what [`StoredCommitments::to_bytes`] wrote; `None` if it is not that.
    pub fn from_bytes(bytes: &[u8]) -> Option<StoredCommitments> {
        let (rows, rest) = bytes.as_chunks::<STORED_BYTES>();
        if !rest.is_empty() {
            return None;
        }
        let number =
            |row: &[u8], at: usize| u32::from_le_bytes([row[at], row[at + 1], row[at + 2], row[at + 3]]);
        let mut rounds: Vec<(RoundId, SeedCommitment)> = Vec::with_capacity(rows.len());
        for row in rows {
            let mut sha256 = [0; 32];
            sha256.copy_from_slice(&row[8..]);
            let round = RoundId(number(row, 0));
            if rounds.last().is_some_and(|last| last.0 >= round) {
                return None;
            }
            rounds.push((round, SeedCommitment { key_id: number(row, 4), sha256 }));
        }
        Some(StoredCommitments { rounds })
    }
}

impl SeedCommitments for StoredCommitments {
    fn commitment(&self, _campaign: CampaignId, round: RoundId) -> Option<SeedCommitment> {
        let i = self.rounds.binary_search_by_key(&round, |r| r.0).ok()?;
        Some(self.rounds[i].1)
    }
}
