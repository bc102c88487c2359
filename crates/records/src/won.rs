//! `Won`: an award. The one record that money follows from.

use crate::codec::{Decode, DecodeError, Record, RecordKind, Writer};
use campaign::{AwardFacts, AwardId, CampaignId, Fen, LeaseId, Mac, PrizeId, RoundId, SeqNo, UserId};

/// Bytes of a `Won`, header included.
pub const WON_LEN: usize = 128;

/// An award as the node decided it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Won {
    /// Its id.
    pub award: AwardId,
    /// The campaign.
    pub campaign: CampaignId,
    /// The round, fixed at the decision.
    pub round: RoundId,
    /// The campaign's local day, days since 1970-01-01, fixed at the decision.
    pub day: u32,
    /// Who won.
    pub user: UserId,
    /// Counter of the draw.
    pub counter: u32,
    /// Which try of the entry won, from 1.
    pub try_no: u8,
    /// Where the player was, or 0.
    pub district: u32,
    /// The prize.
    pub prize: PrizeId,
    /// Number of the unit.
    pub unit: u64,
    /// Amount of the unit.
    pub fen: Fen,
    /// Lease that the unit came from, of the group's node and epoch.
    pub lease: LeaseId,
    /// Plan under which it was decided.
    pub seq_no: SeqNo,
    /// One bit for each prize position that was held back when the winning try passed it.
    pub held: u64,
    /// Instant of the decision, ms UTC.
    pub time_ms: u64,
    /// Shakes of the entry.
    pub shakes: u32,
    /// Key of the MAC.
    pub mac_key: u32,
    /// MAC over the award's facts.
    pub mac: Mac,
}

impl Won {
    /// What the MAC covers.
    pub fn facts(&self) -> AwardFacts {
        AwardFacts {
            id: self.award,
            campaign: self.campaign,
            round: self.round,
            user: self.user,
            prize: self.prize,
            unit: self.unit,
            fen: self.fen,
        }
    }
}

impl Record for Won {
    const KIND: RecordKind = RecordKind::Won;
    const VERSION: u8 = 1;

    fn write(&self, out: &mut Writer<'_>) {
        out.bytes(&self.award.to_bytes()).u32(self.campaign.0).u32(self.round.0).u32(self.day);
        out.u64(self.user.0).u32(self.counter).u8(self.try_no).bytes(&[0; 3]).u32(self.district);
        out.u32(self.prize.0).u64(self.unit).i64(self.fen.0).u64(self.lease.0).u64(self.seq_no.0);
        out.u64(self.held).u64(self.time_ms).u32(self.shakes).u32(self.mac_key).bytes(&self.mac);
    }

    fn read(version: u8, input: &mut Decode<'_>) -> Result<Won, DecodeError> {
        input.version(version, Self::VERSION)?;
        let award = AwardId::from_bytes(input.array()?);
        let (campaign, round, day) = (input.u32()?, input.u32()?, input.u32()?);
        let (user, counter, try_no) = (input.u64()?, input.u32()?, input.u8()?);
        if input.array::<3>()? != [0; 3] {
            return Err(input.impossible("padding", 1));
        }
        Ok(Won {
            award,
            campaign: CampaignId(campaign),
            round: RoundId(round),
            day,
            user: UserId(user),
            counter,
            try_no,
            district: input.u32()?,
            prize: PrizeId(input.u32()?),
            unit: input.u64()?,
            fen: Fen(input.i64()?),
            lease: LeaseId(input.u64()?),
            seq_no: SeqNo(input.u64()?),
            held: input.u64()?,
            time_ms: input.u64()?,
            shakes: input.u32()?,
            mac_key: input.u32()?,
            mac: input.array()?,
        })
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::{WON_LEN, Won};
    use crate::codec::Record;
    use campaign::{AwardId, CampaignId, Fen, LeaseId, PrizeId, RoundId, SeqNo, UserId};
    use proptest::prelude::*;

    fn any_won() -> impl Strategy<Value = Won> {
        let a = (
            any::<u128>(),
            any::<u32>(),
            any::<u32>(),
            any::<u32>(),
            any::<u64>(),
            any::<u32>(),
            any::<u8>(),
        );
        let b = (any::<u32>(), any::<u32>(), any::<u64>(), any::<i64>(), any::<u64>(), any::<u64>());
        let c = (any::<u64>(), any::<u64>(), any::<u32>(), any::<u32>(), any::<[u8; 16]>());
        (a, b, c).prop_map(|(a, b, c)| Won {
            award: AwardId(a.0),
            campaign: CampaignId(a.1),
            round: RoundId(a.2),
            day: a.3,
            user: UserId(a.4),
            counter: a.5,
            try_no: a.6,
            district: b.0,
            prize: PrizeId(b.1),
            unit: b.2,
            fen: Fen(b.3),
            lease: LeaseId(b.4),
            seq_no: SeqNo(b.5),
            held: c.0,
            time_ms: c.1,
            shakes: c.2,
            mac_key: c.3,
            mac: c.4,
        })
    }

    proptest! {
        #[test]
        fn round_trips(won in any_won(), flip in 4usize..WON_LEN, bit in 0u8..8) {
            let mut bytes = won.encode();
            prop_assert_eq!(bytes.len(), WON_LEN);
            prop_assert_eq!(Won::decode(&bytes), Ok(won));
            // every bit is a field's or refused: nothing is ignored
            bytes[flip] ^= 1 << bit;
            prop_assert!(Won::decode(&bytes) != Ok(won));
        }
    }
}
