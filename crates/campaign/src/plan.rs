//! The compiled plan of a campaign: what a node draws from, what access checks, what reconcile compares with.
//!
//! A plan is made whole (by quota-config) and never edited; a change is a new plan with a higher [`SeqNo`].

use crate::curve::Curve;
use crate::ids::{CampaignId, PrizeId, RoundId, SeqNo, UserId, VendorId};
use crate::money::Fen;
use crate::region::{Places, Region, Regions};
use crate::seed::below;

/// Most prizes a round may have: the held-back prizes of a draw are one bit each in a 64-bit word.
pub const PRIZES_MAX: usize = 64;

/// Release curves end this long before their round does.
pub const CURVE_TAIL_MS: u64 = 3_000;

/// A campaign as it runs under one SeqNo.
#[derive(Clone, PartialEq, Debug)]
pub struct Plan {
    /// The campaign.
    pub campaign: CampaignId,
    /// Version of the plan.
    pub seq_no: SeqNo,
    /// Name for people.
    pub name: String,
    /// SHA-256 of the file it was compiled from.
    pub source_sha256: [u8; 32],
    /// Name of the campaign's time zone, for people; `days` is what counts.
    pub time_zone: String,
    /// Local days of the campaign's span, rising: (first ms UTC of the day, days since 1970-01-01).
    pub days: Vec<(u64, u32)>,
    /// Limits per user.
    pub limits: Limits,
    /// Start times of user groups within a round's first minutes: group of a user = user id mod `groups`.
    pub stagger: Stagger,
    /// How clients behave.
    pub pacing: ClientPacing,
    /// Rounds, by opening time; they do not overlap.
    pub rounds: Vec<Round>,
    /// Vendors that the prizes name, by id.
    pub vendors: Vec<Vendor>,
    /// Regions that prizes are limited to, by name; at most [`crate::region::REGIONS_MAX`].
    pub regions: Vec<Region>,
}

/// What one user may win, and how often he may try. 0 means 'no such limit'.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Limits {
    /// Wins in a round.
    pub wins_round: u16,
    /// Wins in a day of the campaign's time zone.
    pub wins_day: u16,
    /// Wins in the campaign.
    pub wins_campaign: u16,
    /// How long a user takes part in a round from his first entry; 0: the whole round.
    pub participation_ms: u32,
    /// Least time from entry to entry.
    pub interval_ms: u32,
    /// Shakes that one second of shaking can make; bounds the tries of an entry.
    pub shakes_per_second: u16,
}

/// Staggered start: group g of `groups` may begin `g * step_ms` after the round opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Stagger {
    /// Number of groups; 0 or 1: everyone at once.
    pub groups: u32,
    /// Time between the starts of neighbouring groups.
    pub step_ms: u32,
}

impl Stagger {
    /// How long after the opening the user may begin.
    #[inline]
    pub fn delay_ms(&self, user: UserId) -> u64 {
        if self.groups <= 1 { 0 } else { (user.0 % u64::from(self.groups)) * u64::from(self.step_ms) }
    }
}

/// The submit interval that clients are told, before load stretches it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ClientPacing {
    /// Shortest interval named.
    pub submit_min_ms: u32,
    /// Longest interval named under load.
    pub submit_max_ms: u32,
}

/// A round: a time, its prizes, the commitment to its seed.
#[derive(Clone, PartialEq, Debug)]
pub struct Round {
    /// The round.
    pub id: RoundId,
    /// Name for people.
    pub name: String,
    /// First ms at which an entry counts.
    pub open_ms: u64,
    /// First ms at which no entry counts any more.
    pub close_ms: u64,
    /// Key that makes the seed.
    pub seed_key_id: u32,
    /// SHA-256 of the seed.
    pub seed_commitment: [u8; 32],
    /// Prizes in the order of the file; at most [`PRIZES_MAX`].
    pub prizes: Vec<Prize>,
}

impl Round {
    /// Sum of the prizes' weights.
    pub fn total_weight(&self) -> u64 {
        self.prizes.iter().map(|p| u64::from(p.weight)).sum()
    }

    /// Position of the prize that the random number picks by weight; 0 where no prize has weight.
    pub fn pick(&self, random: u64) -> usize {
        pick_by_weight(self.prizes.iter().map(|p| u64::from(p.weight)), random)
    }

    /// Position of a prize in the round.
    pub fn position(&self, prize: PrizeId) -> Option<usize> {
        self.prizes.iter().position(|p| p.id == prize)
    }
}

/// Position that a random number picks by weight: the number is mapped onto 0 .. sum of the weights, and falls
/// into one of them. 0 where nothing has weight.
#[inline]
pub fn pick_by_weight(weights: impl Iterator<Item = u64> + Clone, random: u64) -> usize {
    let mut at = below(random, weights.clone().sum());
    for (i, weight) in weights.enumerate() {
        if at < weight {
            return i;
        }
        at -= weight;
    }
    0
}

/// What kind of thing is won.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum PrizeKind {
    /// Money into a wallet.
    Cash = 1,
    /// A voucher code or coupon.
    Voucher = 2,
    /// Virtual goods.
    Goods = 3,
    /// A cover for red envelopes.
    Cover = 4,
}

impl PrizeKind {
    /// The kind of a stored number.
    pub fn from_u8(value: u8) -> Option<PrizeKind> {
        [PrizeKind::Cash, PrizeKind::Voucher, PrizeKind::Goods, PrizeKind::Cover]
            .into_iter()
            .find(|k| *k as u8 == value)
    }

    /// Word for files and reports.
    pub fn name(self) -> &'static str {
        match self {
            PrizeKind::Cash => "cash",
            PrizeKind::Voucher => "voucher",
            PrizeKind::Goods => "goods",
            PrizeKind::Cover => "cover",
        }
    }
}

/// When a prize goes out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Delivery {
    /// As soon as it is won.
    AtOnce,
    /// When the player claims it; it lapses when he has not by then.
    OnClaim {
        /// Time to claim, from the win.
        term_ms: u64,
    },
}

/// A prize of a round.
#[derive(Clone, PartialEq, Debug)]
pub struct Prize {
    /// The prize.
    pub id: PrizeId,
    /// Name for people.
    pub name: String,
    /// What it is.
    pub kind: PrizeKind,
    /// Weight of the pick; 0: reached by fall-through only.
    pub weight: u32,
    /// Where it can be won, by the plan's list of regions.
    pub regions: Regions,
    /// Who delivers it.
    pub vendor: VendorId,
    /// When it is delivered.
    pub delivery: Delivery,
    /// Release curve, relative to the round's opening; ends [`CURVE_TAIL_MS`] before the round does.
    pub curve: Curve,
    /// Highest release speed, units a second; 0: the curve alone.
    pub speed_max: u64,
    /// Speed at which units behind the curve are caught up, in percent of the mean speed of the curve.
    pub catch_up_percent: u32,
    /// An operator has paused or stopped it: nothing of it is given out until a plan says otherwise.
    pub paused: bool,
    /// Tranches of units, rising; never edited, only added to.
    pub tranches: Vec<Tranche>,
}

impl Prize {
    /// Units ever planned: the sum of the tranches.
    pub fn units(&self) -> u64 {
        self.tranches.iter().map(|t| t.units).sum()
    }

    /// Money ever planned.
    pub fn fen(&self) -> Fen {
        self.tranches.iter().map(|t| t.fen).sum()
    }
}

/// Numbered units `first .. first + units` with the sum that is split among them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Tranche {
    /// Number of the first unit.
    pub first: u64,
    /// Units.
    pub units: u64,
    /// Sum of all amounts.
    pub fen: Fen,
    /// Smallest amount.
    pub min: Fen,
    /// Largest amount.
    pub max: Fen,
}

/// Why a tranche can't be split.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum TrancheError {
    /// No units.
    #[error("a tranche has at least one unit")]
    Empty,
    /// A bound below zero, or the largest below the smallest.
    #[error("amounts go from {min} to {max} yuan: the first must be at least 0 and not above the second")]
    Bounds {
        /// Smallest amount.
        min: Fen,
        /// Largest amount.
        max: Fen,
    },
    /// The sum is outside what so many units of that range can have.
    #[error("{units} units of {min} to {max} yuan are {least} to {most} yuan in all, not {fen}")]
    Sum {
        /// Units.
        units: u64,
        /// Smallest amount.
        min: Fen,
        /// Largest amount.
        max: Fen,
        /// Smallest sum.
        least: Fen,
        /// Largest sum.
        most: Fen,
        /// The sum asked for.
        fen: Fen,
    },
    /// More money than an `i64` of fen holds.
    #[error("{0} units at up to {1} yuan are more than can be counted")]
    TooLarge(u64, Fen),
}

impl Tranche {
    /// Checks that the sum can be split: min x units <= fen <= max x units.
    pub fn check(&self) -> Result<(), TrancheError> {
        if self.units == 0 {
            return Err(TrancheError::Empty);
        }
        if self.min < Fen::ZERO || self.max < self.min {
            return Err(TrancheError::Bounds { min: self.min, max: self.max });
        }
        let most = self.max.checked_mul(self.units).ok_or(TrancheError::TooLarge(self.units, self.max))?;
        let least = self.min.checked_mul(self.units).ok_or(TrancheError::TooLarge(self.units, self.min))?;
        if self.fen < least || self.fen > most {
            let (units, min, max, fen) = (self.units, self.min, self.max, self.fen);
            return Err(TrancheError::Sum { units, min, max, least, most, fen });
        }
        Ok(())
    }
}

/// A vendor's part of the plan.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Vendor {
    /// The vendor.
    pub id: VendorId,
    /// Name for people.
    pub name: String,
    /// Units of all its prizes that may be released in a second; 0: no limit.
    pub release_per_second: u64,
}

impl Plan {
    /// The round that an instant falls into.
    pub fn round_at(&self, ms: u64) -> Option<&Round> {
        let i = self.rounds.partition_point(|r| r.close_ms <= ms);
        self.rounds.get(i).filter(|r| r.open_ms <= ms)
    }

    /// The first round that opens behind an instant.
    pub fn next_round(&self, ms: u64) -> Option<&Round> {
        let i = self.rounds.partition_point(|r| r.open_ms <= ms);
        self.rounds.get(i)
    }

    /// A round by its id.
    pub fn round(&self, id: RoundId) -> Option<&Round> {
        self.rounds.iter().find(|r| r.id == id)
    }

    /// A vendor by its id.
    pub fn vendor(&self, id: VendorId) -> Option<&Vendor> {
        self.vendors.iter().find(|v| v.id == id)
    }

    /// Where districts lie.
    pub fn places(&self) -> Places {
        Places::new(&self.regions)
    }

    /// The regions that a prize is limited to; none: it can be won everywhere.
    pub fn regions_of(&self, prize: &Prize) -> impl Iterator<Item = &Region> {
        prize.regions.positions().filter_map(|i| self.regions.get(i))
    }

    /// Whether an entry from a district can win the prize. For whoever checks a single win; a draw looks the district
    /// up in [`Plan::places`].
    pub fn can_be_won_in(&self, prize: &Prize, district: u32) -> bool {
        let has = |region: &Region| district != 0 && region.districts.iter().any(|d| d.contains(district));
        prize.regions.is_everywhere() || self.regions_of(prize).any(has)
    }

    /// The campaign's local day at an instant, in days since 1970-01-01. Before the first or behind the last
    /// day of the span it is the first or the last.
    pub fn day_at(&self, ms: u64) -> u32 {
        let i = self.days.partition_point(|d| d.0 <= ms);
        self.days.get(i.saturating_sub(1)).map_or((ms / 86_400_000) as u32, |d| d.1)
    }
}

#[cfg(test)]
mod tests {
    use super::{Tranche, TrancheError};
    use crate::money::Fen;

    #[test]
    fn a_sum_must_fit_its_range() {
        let t =
            |units, fen, min, max| Tranche { first: 0, units, fen: Fen(fen), min: Fen(min), max: Fen(max) };
        assert_eq!(t(10, 1000, 50, 200).check(), Ok(()));
        assert_eq!(t(0, 0, 0, 0).check(), Err(TrancheError::Empty));
        assert!(matches!(t(10, 499, 50, 200).check(), Err(TrancheError::Sum { .. })));
        assert!(matches!(t(10, 2001, 50, 200).check(), Err(TrancheError::Sum { .. })));
        assert!(matches!(t(10, 2000, 200, 50).check(), Err(TrancheError::Bounds { .. })));
        assert!(matches!(t(u64::MAX, 0, 1, 2).check(), Err(TrancheError::TooLarge(..))));
    }
}
