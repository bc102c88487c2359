//! The one place where people change campaigns.

mod operations;
mod types;

use crate::policy::Policy;
use crate::repository::PlanRepository;
use crate::seeds::SeedCommitments;
pub use operations::{
    Lowered, NodeFailure, NodePlan, NodeStatus, OperationError, Operations, PlatformStatus, PrizeStatus,
    VendorStatus,
};
use runtime::SharedClock;
use std::sync::Arc;
pub use types::{
    CampaignInfo, Change, ChangeState, DeskError, Effect, GreyInfo, Phase, Preview, Shown, VendorLimit,
};

/// Where people change campaigns.
pub struct Desk {
    repository: Arc<dyn PlanRepository>,
    policy: Policy,
    seeds: Arc<dyn SeedCommitments>,
    operations: Arc<dyn Operations>,
    clock: SharedClock,
}
