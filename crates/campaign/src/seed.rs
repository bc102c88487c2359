//! Round seeds: every random choice of a round follows from one seed, committed before the round and
//! published after it, so that anyone can recompute the choices.
//!
//! seed = HMAC-SHA256(seed key, campaign u32 LE || round u32 LE). Three subkeys, one a purpose, are the first
//! 16 bytes of HMAC-SHA256(seed, purpose) with the purposes `pick`, `amount`, `instant`; a single choice is
//! SipHash-2-4 (Aumasson and Bernstein, 2012) under the subkey.

use crate::ids::{CampaignId, RoundId, UserId};
use hmac::{Hmac, Mac as _};
use sha2::{Digest as _, Sha256};
use siphasher::sip::SipHasher24;
use std::hash::Hasher as _;

/// The secret that makes round seeds, with the id under which it is kept.
#[derive(Clone)]
pub struct SeedKey {
    /// Which key it is; stands in the plan beside the commitment.
    pub id: u32,
    /// The secret.
    pub key: [u8; 32],
}

impl SeedKey {
    /// The seed of a round.
    pub fn round_seed(&self, campaign: CampaignId, round: RoundId) -> RoundSeed {
        let mut message = [0u8; 8];
        message[..4].copy_from_slice(&campaign.0.to_le_bytes());
        message[4..].copy_from_slice(&round.0.to_le_bytes());
        RoundSeed(hmac_sha256(&self.key, &message))
    }
}

/// A round's seed. Secret until the round has closed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct RoundSeed(pub [u8; 32]);

impl RoundSeed {
    /// What the first plan that has the round publishes: SHA-256 of the seed.
    pub fn commitment(&self) -> [u8; 32] {
        Sha256::digest(self.0).into()
    }

    /// The subkeys.
    pub fn keys(&self) -> RoundKeys {
        let sub = |purpose: &str| {
            let full = hmac_sha256(&self.0, purpose.as_bytes());
            let mut key = [0u8; 16];
            key.copy_from_slice(&full[..16]);
            key
        };
        RoundKeys { pick: sub("pick"), amount: sub("amount"), instant: sub("instant") }
    }
}

/// Subkeys of a round: one for each kind of choice.
#[derive(Clone, Copy)]
pub struct RoundKeys {
    pick: [u8; 16],
    amount: [u8; 16],
    instant: [u8; 16],
}

impl RoundKeys {
    /// The random number of one try: of user `user`, draw counter `counter`, try `try_no` (from 1).
    #[inline]
    pub fn pick(&self, user: UserId, counter: u32, try_no: u32) -> u64 {
        let mut message = [0u8; 16];
        message[..8].copy_from_slice(&user.0.to_le_bytes());
        message[8..12].copy_from_slice(&counter.to_le_bytes());
        message[12..].copy_from_slice(&try_no.to_le_bytes());
        SipHasher24::new_with_key(&self.pick).hash(&message)
    }

    /// The random number of unit `unit` of prize `prize`, for its share of the tranche's sum. `salt` tells
    /// the uses within a block apart.
    #[inline]
    pub fn amount(&self, prize: u32, unit: u64, salt: u32) -> u64 {
        unit_hash(&self.amount, prize, unit, salt)
    }

    /// The random number of unit `unit` of prize `prize`, for its instant within its slot.
    #[inline]
    pub fn instant(&self, prize: u32, unit: u64) -> u64 {
        unit_hash(&self.instant, prize, unit, 0)
    }
}

fn unit_hash(key: &[u8; 16], prize: u32, unit: u64, salt: u32) -> u64 {
    let mut hasher = SipHasher24::new_with_key(key);
    let mut message = [0u8; 16];
    message[..8].copy_from_slice(&unit.to_le_bytes());
    message[8..12].copy_from_slice(&prize.to_le_bytes());
    message[12..].copy_from_slice(&salt.to_le_bytes());
    hasher.write(&message);
    hasher.finish()
}

/// Maps a random 64-bit number onto `0..bound` without a division (Lemire, 2016); 0 for `bound` 0.
#[inline]
pub fn below(random: u64, bound: u64) -> u64 {
    ((u128::from(random) * u128::from(bound)) >> 64) as u64
}

pub(crate) fn hmac_sha256(key: &[u8], message: &[u8]) -> [u8; 32] {
    // HMAC takes keys of any length, so this never fails.
    let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap_or_else(|_| unreachable!());
    mac.update(message);
    mac.finalize().into_bytes().into()
}

#[cfg(test)]
mod tests {
    use super::{RoundSeed, SeedKey, below};
    use crate::ids::{CampaignId, RoundId, UserId};

    /// Frozen: a change here would make every published round unverifiable.
    #[test]
    fn choices_are_frozen() {
        let key = SeedKey { id: 1, key: [7; 32] };
        let seed = key.round_seed(CampaignId(1), RoundId(2));
        assert!(seed != key.round_seed(CampaignId(2), RoundId(1)));
        assert!(seed.commitment() != seed.0);
        let keys = RoundSeed([1; 32]).keys();
        assert_eq!(keys.pick(UserId(42), 1, 1), keys.pick(UserId(42), 1, 1));
        let all = [
            keys.pick(UserId(42), 1, 1),
            keys.pick(UserId(42), 2, 1),
            keys.pick(UserId(42), 1, 2),
            keys.amount(1, 42, 0),
            keys.instant(1, 42),
        ];
        assert_eq!(all, FROZEN);
    }

    const FROZEN: [u64; 5] = [
        1031936518563972078,
        2196482957440247552,
        11392820678935572309,
        15162288678129324820,
        9876207635607375687,
    ];

    #[test]
    fn below_stays_below() {
        assert_eq!(below(u64::MAX, 10), 9);
        assert_eq!(below(0, 10), 0);
        assert_eq!(below(u64::MAX, 0), 0);
    }
}
