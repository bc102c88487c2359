//! `DeliveryEvent`: a step of an award's delivery, as delivery's journal has it and its topic repeats it.

use crate::codec::{Decode, DecodeError, Record, RecordKind, Writer};
use campaign::{AwardId, CampaignId, Fen, PrizeId, RoundId, UserId, VendorId};

/// Where a delivery stands.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum DeliveryState {
    /// Known; waits for its player's claim.
    New = 1,
    /// To be sent.
    Ready = 2,
    /// A call to the vendor is under way, or was when the process ended.
    Sending = 3,
    /// The vendor has it and has not finished.
    Accepted = 4,
    /// The player has it.
    Delivered = 5,
    /// Delivered once and taken back.
    Reversed = 6,
    /// To be sent again at a time.
    RetryAt = 7,
    /// Nobody knows whether the vendor took it: ask by number first.
    Unknown = 8,
    /// The player has no account at the vendor.
    Held = 9,
    /// Not claimed within the plan's term. Final.
    Lapsed = 10,
    /// Refused for good; a person decides.
    Rejected = 11,
}

impl DeliveryState {
    /// Every state, by its number.
    pub const ALL: [DeliveryState; 11] = [
        DeliveryState::New,
        DeliveryState::Ready,
        DeliveryState::Sending,
        DeliveryState::Accepted,
        DeliveryState::Delivered,
        DeliveryState::Reversed,
        DeliveryState::RetryAt,
        DeliveryState::Unknown,
        DeliveryState::Held,
        DeliveryState::Lapsed,
        DeliveryState::Rejected,
    ];

    /// The state of a stored number.
    pub fn from_u8(value: u8) -> Option<DeliveryState> {
        Self::ALL.into_iter().find(|s| *s as u8 == value)
    }

    /// Word for files and reports.
    pub fn name(self) -> &'static str {
        match self {
            DeliveryState::New => "new",
            DeliveryState::Ready => "ready",
            DeliveryState::Sending => "sending",
            DeliveryState::Accepted => "accepted",
            DeliveryState::Delivered => "delivered",
            DeliveryState::Reversed => "reversed",
            DeliveryState::RetryAt => "retry_at",
            DeliveryState::Unknown => "unknown",
            DeliveryState::Held => "held",
            DeliveryState::Lapsed => "lapsed",
            DeliveryState::Rejected => "rejected",
        }
    }
}

/// A step of a delivery. Steps of an award count 1, 2, 3 without a hole.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DeliveryEvent {
    /// The award.
    pub award: AwardId,
    /// Number of the step.
    pub step: u32,
    /// State that the step led to.
    pub state: DeliveryState,
    /// Generation of the vendor's number: 0 first, one more each time the vendor declared a number dead.
    pub generation: u16,
    /// Calls to the vendor made so far.
    pub attempt: u32,
    /// When, ms UTC.
    pub at_ms: u64,
    /// When something happens next (retry, question, lapse), ms UTC; 0: nothing is planned.
    pub due_ms: u64,
    /// Who delivers.
    pub vendor: VendorId,
    /// Who gets it.
    pub user: UserId,
    /// Campaign of the award.
    pub campaign: CampaignId,
    /// Round of the award.
    pub round: RoundId,
    /// The prize.
    pub prize: PrizeId,
    /// Amount.
    pub fen: Fen,
}

impl Record for DeliveryEvent {
    const KIND: RecordKind = RecordKind::DeliveryEvent;
    const VERSION: u8 = 1;

    fn write(&self, out: &mut Writer<'_>) {
        out.bytes(&self.award.to_bytes()).u32(self.step).u8(self.state as u8).u16(self.generation);
        out.u32(self.attempt).u64(self.at_ms).u64(self.due_ms).u32(self.vendor.0).u64(self.user.0);
        out.u32(self.campaign.0).u32(self.round.0).u32(self.prize.0).i64(self.fen.0);
    }

    fn read(version: u8, input: &mut Decode<'_>) -> Result<DeliveryEvent, DecodeError> {
        input.version(version, Self::VERSION)?;
        let (award, step, state) = (input.array()?, input.u32()?, input.u8()?);
        let state =
            DeliveryState::from_u8(state).ok_or_else(|| input.impossible("state", u64::from(state)))?;
        Ok(DeliveryEvent {
            award: AwardId::from_bytes(award),
            step,
            state,
            generation: input.u16()?,
            attempt: input.u32()?,
            at_ms: input.u64()?,
            due_ms: input.u64()?,
            vendor: VendorId(input.u32()?),
            user: UserId(input.u64()?),
            campaign: CampaignId(input.u32()?),
            round: RoundId(input.u32()?),
            prize: PrizeId(input.u32()?),
            fen: Fen(input.i64()?),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{DeliveryEvent, DeliveryState};
    use crate::codec::Record;
    use campaign::{AwardId, CampaignId, Fen, PrizeId, RoundId, UserId, VendorId};
    use proptest::prelude::*;

    #[test]
    fn states_keep_their_numbers() {
        let numbers: Vec<u8> = DeliveryState::ALL.iter().map(|s| *s as u8).collect();
        assert_eq!(numbers, (1..=11).collect::<Vec<u8>>());
    }

    proptest! {
        #[test]
        fn round_trips(a in any::<u128>(), s in 1u8..=11, n in any::<[u64; 3]>(), m in any::<[u32; 6]>(), g in any::<u16>(), fen in any::<i64>()) {
            let e = DeliveryEvent { award: AwardId(a), step: m[0], state: DeliveryState::from_u8(s).unwrap(), generation: g, attempt: m[1],
                at_ms: n[0], due_ms: n[1], vendor: VendorId(m[2]), user: UserId(n[2]), campaign: CampaignId(m[3]), round: RoundId(m[4]),
                prize: PrizeId(m[5]), fen: Fen(fen) };
            prop_assert_eq!(DeliveryEvent::decode(&e.encode()), Ok(e));
        }
    }
}
