//! `Order`: flow's word to delivery that an award is to be delivered, or that its player has claimed it.

use crate::codec::{Decode, DecodeError, Record, RecordKind, Writer};
use campaign::{AwardFacts, AwardId, CampaignId, Fen, Mac, PrizeId, PrizeKind, RoundId, UserId, VendorId};

/// What the order asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum OrderKind {
    /// Deliver at once.
    AtOnce = 1,
    /// Keep until the player claims it, or until it lapses.
    OnClaim = 2,
    /// The player claims an award that an `OnClaim` order may or may not have brought yet; it carries the
    /// whole order, so that their sequence does not matter.
    Claim = 3,
}

/// A delivery order. Idempotent by award: a second one changes nothing, but a claim is taken from any.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Order {
    /// What it asks for.
    pub kind: OrderKind,
    /// What is delivered.
    pub prize_kind: PrizeKind,
    /// The award.
    pub award: AwardId,
    /// Its campaign.
    pub campaign: CampaignId,
    /// Its round.
    pub round: RoundId,
    /// Who gets it.
    pub user: UserId,
    /// The prize.
    pub prize: PrizeId,
    /// Number of the unit.
    pub unit: u64,
    /// Amount.
    pub fen: Fen,
    /// Who delivers.
    pub vendor: VendorId,
    /// When it was won, ms UTC.
    pub won_ms: u64,
    /// When it lapses unless claimed, ms UTC; 0: never.
    pub lapse_ms: u64,
    /// Key of the MAC.
    pub mac_key: u32,
    /// MAC of the award.
    pub mac: Mac,
}

impl Order {
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

impl Record for Order {
    const KIND: RecordKind = RecordKind::Order;
    const VERSION: u8 = 1;

    fn write(&self, out: &mut Writer<'_>) {
        out.u8(self.kind as u8).u8(self.prize_kind as u8).bytes(&self.award.to_bytes());
        out.u32(self.campaign.0).u32(self.round.0).u64(self.user.0).u32(self.prize.0).u64(self.unit);
        out.i64(self.fen.0).u32(self.vendor.0).u64(self.won_ms).u64(self.lapse_ms);
        out.u32(self.mac_key).bytes(&self.mac);
    }

    fn read(version: u8, input: &mut Decode<'_>) -> Result<Order, DecodeError> {
        input.version(version, Self::VERSION)?;
        let (kind, prize_kind) = (input.u8()?, input.u8()?);
        let kind = [OrderKind::AtOnce, OrderKind::OnClaim, OrderKind::Claim]
            .into_iter()
            .find(|k| *k as u8 == kind)
            .ok_or_else(|| input.impossible("kind", u64::from(kind)))?;
        let prize_kind = PrizeKind::from_u8(prize_kind)
            .ok_or_else(|| input.impossible("prize kind", u64::from(prize_kind)))?;
        Ok(Order {
            kind,
            prize_kind,
            award: AwardId::from_bytes(input.array()?),
            campaign: CampaignId(input.u32()?),
            round: RoundId(input.u32()?),
            user: UserId(input.u64()?),
            prize: PrizeId(input.u32()?),
            unit: input.u64()?,
            fen: Fen(input.i64()?),
            vendor: VendorId(input.u32()?),
            won_ms: input.u64()?,
            lapse_ms: input.u64()?,
            mac_key: input.u32()?,
            mac: input.array()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{Order, OrderKind};
    use crate::codec::Record;
    use campaign::{AwardId, CampaignId, Fen, PrizeId, PrizeKind, RoundId, UserId, VendorId};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn round_trips(k in 0usize..3, p in 1u8..=4, a in any::<u128>(), n in any::<[u64; 4]>(), m in any::<[u32; 5]>(), fen in any::<i64>(), mac in any::<[u8; 16]>()) {
            let order = Order { kind: [OrderKind::AtOnce, OrderKind::OnClaim, OrderKind::Claim][k], prize_kind: PrizeKind::from_u8(p).unwrap(),
                award: AwardId(a), campaign: CampaignId(m[0]), round: RoundId(m[1]), user: UserId(n[0]), prize: PrizeId(m[2]), unit: n[1],
                fen: Fen(fen), vendor: VendorId(m[3]), won_ms: n[2], lapse_ms: n[3], mac_key: m[4], mac };
            prop_assert_eq!(Order::decode(&order.encode()), Ok(order));
        }
    }
}
