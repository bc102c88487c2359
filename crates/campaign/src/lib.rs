//! The vocabulary of a campaign, and the arithmetic of its money: ids, fen, the compiled [`Plan`], unit
//! numbers and their amounts, release curves, round seeds, award ids and their MACs.
//!
//! Everything here is pure: the same input gives the same output on every machine, for ever, because
//! auditors recompute it years later. There is no clock, no randomness and no I/O in this crate.

pub mod amounts;
pub mod award;
pub mod curve;
pub mod ids;
pub mod money;
pub mod pace;
pub mod plan;
pub mod ranges;
pub mod region;
pub mod seed;
pub mod time;

pub use amounts::UnitAmounts;
pub use award::{AwardFacts, AwardId, Mac, MacKey, MacKeys};
pub use curve::Curve;
pub use ids::{CampaignId, LeaseId, NodeEpoch, NodeId, PrizeId, RoundId, SeqNo, UserId, VendorId};
pub use money::Fen;
pub use pace::{SlotPace, SlotRate};
pub use plan::{Delivery, Limits, Plan, Prize, PrizeKind, Round, Tranche, Vendor};
pub use ranges::{Ranges, UnitRange};
pub use region::{DistrictRange, Places, Region, Regions};
pub use seed::{RoundKeys, RoundSeed, SeedKey};
pub use time::{SLOT_MS, Slot};
