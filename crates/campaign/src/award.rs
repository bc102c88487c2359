//! Award ids and the MAC that an award carries.

use crate::ids::{CampaignId, NodeEpoch, NodeId, PrizeId, RoundId, UserId};
use crate::money::Fen;
use crate::seed::hmac_sha256;
use std::fmt;
use std::str::FromStr;

/// An award's id: time in ms (42 bits), node (12), node epoch (22), sequence (52), from the highest bit down.
///
/// Unique because the epoch is durable before the node serves and the sequence rises within it; the time only
/// orders. Written as 26 characters of Crockford's base32, capitals.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct AwardId(pub u128);

const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/// Text that is no award id.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum AwardIdError {
    /// Not 26 characters.
    #[error("an award id has 26 characters, not {0}")]
    Length(usize),
    /// A character outside Crockford's alphabet.
    #[error(
        "'{found}' at position {at} is not in an award id; it has digits and capitals without I, L, O, U"
    )]
    Character {
        /// The character.
        found: char,
        /// Its position, from 0.
        at: usize,
    },
    /// More than 128 bits.
    #[error("an award id begins with 0 to 7")]
    TooLarge,
}

impl AwardId {
    /// An id from its parts; each must fit its bits.
    pub fn new(time_ms: u64, node: NodeId, epoch: NodeEpoch, sequence: u64) -> AwardId {
        debug_assert!(
            time_ms < 1 << 42 && node <= NodeId::MAX && epoch <= NodeEpoch::MAX && sequence < 1 << 52
        );
        AwardId(
            u128::from(time_ms & ((1 << 42) - 1)) << 86
                | u128::from(node.0 & 0xfff) << 74
                | u128::from(epoch.0 & 0x3f_ffff) << 52
                | u128::from(sequence & ((1 << 52) - 1)),
        )
    }

    /// Milliseconds UTC at which the award was decided; never runs back within (node, epoch).
    pub fn time_ms(self) -> u64 {
        (self.0 >> 86) as u64
    }

    /// The node that decided it.
    pub fn node(self) -> NodeId {
        NodeId((self.0 >> 74) as u16 & 0xfff)
    }

    /// The node's epoch then.
    pub fn epoch(self) -> NodeEpoch {
        NodeEpoch((self.0 >> 52) as u32 & 0x3f_ffff)
    }

    /// Sequence within (node, epoch).
    pub fn sequence(self) -> u64 {
        self.0 as u64 & ((1 << 52) - 1)
    }

    /// Big-endian bytes, so that byte order is id order.
    pub fn to_bytes(self) -> [u8; 16] {
        self.0.to_be_bytes()
    }

    /// Reads [`AwardId::to_bytes`].
    pub fn from_bytes(bytes: [u8; 16]) -> AwardId {
        AwardId(u128::from_be_bytes(bytes))
    }
}

impl fmt::Display for AwardId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = [0u8; 26];
        for (i, c) in text.iter_mut().enumerate() {
            *c = ALPHABET[(self.0 >> (125 - 5 * i)) as usize & 31];
        }
        f.pad(std::str::from_utf8(&text).unwrap_or_default())
    }
}

impl fmt::Debug for AwardId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for AwardId {
    type Err = AwardIdError;

    fn from_str(text: &str) -> Result<AwardId, AwardIdError> {
        if text.len() != 26 {
            return Err(AwardIdError::Length(text.chars().count()));
        }
        let mut id = 0u128;
        for (at, found) in text.chars().enumerate() {
            let digit = ALPHABET
                .iter()
                .position(|&a| char::from(a) == found)
                .ok_or(AwardIdError::Character { found, at })?;
            if at == 0 && digit > 7 {
                return Err(AwardIdError::TooLarge);
            }
            id = id << 5 | digit as u128;
        }
        Ok(AwardId(id))
    }
}

/// What the MAC of an award protects.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AwardFacts {
    /// The award.
    pub id: AwardId,
    /// Its campaign.
    pub campaign: CampaignId,
    /// Its round.
    pub round: RoundId,
    /// Who won.
    pub user: UserId,
    /// The prize.
    pub prize: PrizeId,
    /// Number of the unit.
    pub unit: u64,
    /// Its amount.
    pub fen: Fen,
}

/// First 16 bytes of HMAC-SHA256 over an award's facts.
pub type Mac = [u8; 16];

/// A MAC key with its id.
#[derive(Clone)]
pub struct MacKey {
    /// Which key it is.
    pub id: u32,
    /// The secret.
    pub key: [u8; 32],
}

impl MacKey {
    /// The MAC: over id (16 bytes, big-endian), campaign u32, round u32, user u64, prize u32, unit u64,
    /// fen i64, all little-endian.
    pub fn mac(&self, facts: &AwardFacts) -> Mac {
        let mut message = Vec::with_capacity(52);
        message.extend_from_slice(&facts.id.to_bytes());
        message.extend_from_slice(&facts.campaign.0.to_le_bytes());
        message.extend_from_slice(&facts.round.0.to_le_bytes());
        message.extend_from_slice(&facts.user.0.to_le_bytes());
        message.extend_from_slice(&facts.prize.0.to_le_bytes());
        message.extend_from_slice(&facts.unit.to_le_bytes());
        message.extend_from_slice(&facts.fen.0.to_le_bytes());
        let full = hmac_sha256(&self.key, &message);
        let mut mac = [0u8; 16];
        mac.copy_from_slice(&full[..16]);
        mac
    }
}

/// The MAC keys that are known: the newest makes, all check.
#[derive(Clone)]
pub struct MacKeys {
    keys: Vec<MacKey>,
}

impl MacKeys {
    /// Keys, oldest first; the last one makes new MACs. `None` when there is no key.
    pub fn new(keys: Vec<MacKey>) -> Option<MacKeys> {
        (!keys.is_empty()).then_some(MacKeys { keys })
    }

    /// All keys, oldest first.
    pub fn all(&self) -> &[MacKey] {
        &self.keys
    }

    /// The key that makes new MACs.
    pub fn newest(&self) -> &MacKey {
        &self.keys[self.keys.len() - 1]
    }

    /// Is this the MAC of these facts under the key of that id? An unknown key id is 'no'.
    pub fn verify(&self, key_id: u32, facts: &AwardFacts, mac: &Mac) -> bool {
        let Some(key) = self.keys.iter().find(|k| k.id == key_id) else { return false };
        // constant time: fold the differences, look once
        key.mac(facts).iter().zip(mac).fold(0u8, |d, (a, b)| d | (a ^ b)) == 0
    }
}

#[cfg(test)]
mod tests {
    use super::{AwardFacts, AwardId, AwardIdError, MacKey, MacKeys};
    use crate::ids::{CampaignId, NodeEpoch, NodeId, PrizeId, RoundId, UserId};
    use crate::money::Fen;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn parts_and_text_round_trip(t in 0u64..1 << 42, n in 0u16..4096, e in 0u32..1 << 22, s in 0u64..1 << 52) {
            let id = AwardId::new(t, NodeId(n), NodeEpoch(e), s);
            prop_assert_eq!((id.time_ms(), id.node().0, id.epoch().0, id.sequence()), (t, n, e, s));
            let text = id.to_string();
            prop_assert_eq!(text.len(), 26);
            prop_assert_eq!(text.parse::<AwardId>().unwrap(), id);
            prop_assert_eq!(AwardId::from_bytes(id.to_bytes()), id);
        }

        #[test]
        fn text_orders_as_ids(a in any::<u128>(), b in any::<u128>()) {
            prop_assert_eq!(AwardId(a).cmp(&AwardId(b)), AwardId(a).to_string().cmp(&AwardId(b).to_string()));
        }

        #[test]
        fn a_changed_fact_changes_the_mac(field in 0usize..7, by in 1u32..1000) {
            let facts = AwardFacts { id: AwardId(1 << 90), campaign: CampaignId(1), round: RoundId(2), user: UserId(3),
                prize: PrizeId(4), unit: 5, fen: Fen(600) };
            let keys = MacKeys::new(vec![MacKey { id: 1, key: [1; 32] }, MacKey { id: 2, key: [2; 32] }]).unwrap();
            let mac = keys.newest().mac(&facts);
            let mut other = facts;
            match field {
                0 => other.id.0 += u128::from(by),
                1 => other.campaign.0 += by,
                2 => other.round.0 += by,
                3 => other.user.0 += u64::from(by),
                4 => other.prize.0 += by,
                5 => other.unit += u64::from(by),
                _ => other.fen.0 += i64::from(by),
            }
            prop_assert!(keys.verify(2, &facts, &mac));
            prop_assert!(!keys.verify(1, &facts, &mac));
            prop_assert!(!keys.verify(7, &facts, &mac));
            prop_assert!(!keys.verify(2, &other, &mac));
        }
    }

    #[test]
    fn says_what_is_wrong_with_text() {
        assert_eq!("".parse::<AwardId>(), Err(AwardIdError::Length(0)));
        assert_eq!(
            "0000000000000000000000000I".parse::<AwardId>(),
            Err(AwardIdError::Character { found: 'I', at: 25 })
        );
        assert_eq!("80000000000000000000000000".parse::<AwardId>(), Err(AwardIdError::TooLarge));
    }
}
