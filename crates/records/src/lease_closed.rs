//! `LeaseClosed`: nothing more is taken from the lease; in the log behind every `Won` of the lease.

use crate::codec::{Decode, DecodeError, Record, RecordKind, Writer};
use crate::lease_got::LEASE_RANGES_MAX;
use campaign::{CampaignId, LeaseId, PrizeId, Ranges, RoundId, UnitRange};

/// The end of a lease: what was used and what goes back.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LeaseClosed {
    /// The lease, of the group's node and epoch.
    pub lease: LeaseId,
    /// Campaign of the prize.
    pub campaign: CampaignId,
    /// Round of the prize.
    pub round: RoundId,
    /// The prize.
    pub prize: PrizeId,
    /// Units that became awards.
    pub used: u64,
    /// Units that go back; at most [`LEASE_RANGES_MAX`] ranges.
    pub returned: Ranges,
}

impl Record for LeaseClosed {
    const KIND: RecordKind = RecordKind::LeaseClosed;
    const VERSION: u8 = 1;

    fn write(&self, out: &mut Writer<'_>) {
        debug_assert!(self.returned.range_count() <= LEASE_RANGES_MAX);
        out.u64(self.lease.0).u32(self.campaign.0).u32(self.round.0).u32(self.prize.0).u64(self.used);
        out.u16(self.returned.range_count() as u16).bytes(&self.returned.to_bytes());
    }

    fn read(version: u8, input: &mut Decode<'_>) -> Result<LeaseClosed, DecodeError> {
        input.version(version, Self::VERSION)?;
        let (lease, campaign, round) = (input.u64()?, input.u32()?, input.u32()?);
        let (prize, used, count) = (input.u32()?, input.u64()?, input.u16()?);
        let mut returned = Ranges::new();
        for _ in 0..count {
            let (first, units) = (input.u64()?, input.u64()?);
            if units == 0 || first.checked_add(units).is_none() {
                return Err(input.impossible("units of a range", units));
            }
            let range = UnitRange { first, count: units };
            returned.add(range).map_err(|e| input.impossible("returned unit", e.number))?;
        }
        Ok(LeaseClosed {
            lease: LeaseId(lease),
            campaign: CampaignId(campaign),
            round: RoundId(round),
            prize: PrizeId(prize),
            used,
            returned,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::LeaseClosed;
    use crate::codec::Record;
    use campaign::{CampaignId, LeaseId, PrizeId, Ranges, RoundId};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn round_trips(numbers in prop::collection::btree_set(0u64..5000, 0..300), used in any::<u64>()) {
            let returned: Ranges = numbers.into_iter().collect();
            let closed = LeaseClosed { lease: LeaseId(1), campaign: CampaignId(2), round: RoundId(3), prize: PrizeId(4), used, returned };
            prop_assert_eq!(LeaseClosed::decode(&closed.encode()), Ok(closed));
        }
    }
}
