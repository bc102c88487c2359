//! `LeaseGot`: a lease has arrived at the node; in the log before its first unit is drawn.

use crate::codec::{Decode, DecodeError, Record, RecordKind, Writer};
use campaign::{CampaignId, LeaseId, PrizeId, RoundId, SeqNo, Slot, UnitRange};

/// Most ranges a lease may have, so that the record fits its 16-bit length.
pub const LEASE_RANGES_MAX: usize = 1024;

/// Units of a lease that share a pace: from slot `first_slot` on, `per_slot` of them in every `every`-th slot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LeaseRange {
    /// The units.
    pub units: UnitRange,
    /// Slot of the first of them.
    pub first_slot: Slot,
    /// Units in a slot that has any; at least 1.
    pub per_slot: u32,
    /// Distance of such slots; at least 1.
    pub every: u32,
}

impl LeaseRange {
    /// The slot in which a unit of the range becomes winnable.
    pub fn slot_of(&self, unit: u64) -> Slot {
        self.first_slot.plus((unit - self.units.first) / u64::from(self.per_slot) * u64::from(self.every))
    }

    /// The slot of the last unit.
    pub fn last_slot(&self) -> Slot {
        self.slot_of(self.units.end() - 1)
    }
}

/// A lease, as the ledger granted it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LeaseGot {
    /// The lease, of the group's node and epoch.
    pub lease: LeaseId,
    /// Campaign of the prize.
    pub campaign: CampaignId,
    /// Round of the prize.
    pub round: RoundId,
    /// The prize.
    pub prize: PrizeId,
    /// Plan under which it was granted.
    pub seq_no: SeqNo,
    /// The units, with their slots; 1 to [`LEASE_RANGES_MAX`].
    pub ranges: Vec<LeaseRange>,
}

impl Record for LeaseGot {
    const KIND: RecordKind = RecordKind::LeaseGot;
    const VERSION: u8 = 1;

    fn write(&self, out: &mut Writer<'_>) {
        debug_assert!((1..=LEASE_RANGES_MAX).contains(&self.ranges.len()));
        out.u64(self.lease.0).u32(self.campaign.0).u32(self.round.0).u32(self.prize.0).u64(self.seq_no.0);
        out.u16(self.ranges.len() as u16);
        for r in &self.ranges {
            out.u64(r.units.first).u64(r.units.count).u64(r.first_slot.0).u32(r.per_slot).u32(r.every);
        }
    }

    fn read(version: u8, input: &mut Decode<'_>) -> Result<LeaseGot, DecodeError> {
        input.version(version, Self::VERSION)?;
        let (lease, campaign, round) = (input.u64()?, input.u32()?, input.u32()?);
        let (prize, seq_no, count) = (input.u32()?, input.u64()?, input.u16()?);
        if count == 0 || usize::from(count) > LEASE_RANGES_MAX {
            return Err(input.impossible("range count", u64::from(count)));
        }
        let mut ranges = Vec::with_capacity(usize::from(count));
        for _ in 0..count {
            let (first, units, slot) = (input.u64()?, input.u64()?, input.u64()?);
            let (per_slot, every) = (input.u32()?, input.u32()?);
            if units == 0 || first.checked_add(units).is_none() {
                return Err(input.impossible("units of a range", units));
            }
            if per_slot == 0 || every == 0 {
                return Err(input.impossible("pace of a range", 0));
            }
            let units = UnitRange { first, count: units };
            ranges.push(LeaseRange { units, first_slot: Slot(slot), per_slot, every });
        }
        Ok(LeaseGot {
            lease: LeaseId(lease),
            campaign: CampaignId(campaign),
            round: RoundId(round),
            prize: PrizeId(prize),
            seq_no: SeqNo(seq_no),
            ranges,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{LeaseGot, LeaseRange};
    use crate::codec::Record;
    use campaign::{CampaignId, LeaseId, PrizeId, RoundId, SeqNo, Slot, UnitRange};
    use proptest::prelude::*;

    #[test]
    fn slots_follow_the_pace() {
        let r = LeaseRange {
            units: UnitRange { first: 10, count: 5 },
            first_slot: Slot(100),
            per_slot: 2,
            every: 3,
        };
        let slots: Vec<u64> = (10..15).map(|u| r.slot_of(u).0).collect();
        assert_eq!(slots, [100, 100, 103, 103, 106]);
        assert_eq!(r.last_slot(), Slot(106));
    }

    proptest! {
        #[test]
        fn round_trips(ranges in prop::collection::vec((any::<u32>(), 1u64..1 << 40, any::<u64>(), 1u32.., 1u32..), 1..40)) {
            let ranges = ranges.into_iter().map(|(f, count, s, per_slot, every)| LeaseRange {
                units: UnitRange { first: u64::from(f), count }, first_slot: Slot(s), per_slot, every }).collect();
            let got = LeaseGot { lease: LeaseId(7), campaign: CampaignId(1), round: RoundId(2), prize: PrizeId(3), seq_no: SeqNo(4), ranges };
            prop_assert_eq!(LeaseGot::decode(&got.encode()), Ok(got));
        }
    }
}
