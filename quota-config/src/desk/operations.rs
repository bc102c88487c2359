//! What the platform does for a change at once, and how it stands: the port behind which ledger, nodes and
//! delivery are.

use crate::adjust::PrizeAt;
use crate::wire;
use async_trait::async_trait;
use campaign::{CampaignId, SeqNo, VendorId};
use serde::{Deserialize, Serialize};

/// What the desk asks of the platform.
///
/// **Order.** `pause` and `lower` come between reserving and activating a SeqNo, and name it. The ledger takes a
/// change only under a SeqNo above all that it heard of for the prize; otherwise nothing is done and the answer is
/// [`OperationError::Newer`], upon which the desk comes again with a newer number.
///
/// **Repeats.** A repeated `pause` is harmless. The desk never repeats a `lower` under another SeqNo without
/// having asked [`Operations::prize`] what was taken.
#[async_trait]
pub trait Operations: Send + Sync {
    /// Has the ledger give out nothing more of a prize, and calls leases in.
    async fn pause(&self, campaign: CampaignId, prize: PrizeAt, seq_no: SeqNo) -> Result<(), OperationError>;

    /// Has the ledger cancel up to `units` further units of a prize, never one that is granted and not returned.
    async fn lower(
        &self,
        campaign: CampaignId,
        prize: PrizeAt,
        seq_no: SeqNo,
        units: u64,
    ) -> Result<Lowered, OperationError>;

    /// Sets delivery's own pace towards a vendor, on every node that delivers. Settings may come late, twice and out of
    /// order, from several desks: the one with the highest number stands.
    async fn set_vendor_limit(&self, setting: &VendorSetting) -> Result<LimitSet, OperationError>;

    /// How everything stands.
    async fn status(&self) -> Result<PlatformStatus, OperationError>;

    /// How prizes of one campaign stand in the ledger; those that it does not know are missing. Adapters that
    /// can read single rows do so instead of this.
    async fn prizes(
        &self,
        campaign: CampaignId,
        prizes: &[PrizeAt],
    ) -> Result<Vec<PrizeStatus>, OperationError> {
        let status = self.status().await?;
        Ok(status.prizes.into_iter().filter(|p| p.campaign == campaign && prizes.contains(&p.at)).collect())
    }
}

/// A pace towards a vendor that somebody has set.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VendorSetting {
    /// The vendor.
    pub vendor: VendorId,
    /// Sends a second at most, 0: none; `None`: as many as the platform is configured to.
    pub per_second: Option<u32>,
    /// Number of its row in the audit trail: later settings have higher ones.
    pub number: u64,
    /// Who set it.
    pub who: String,
    /// When, ms UTC.
    pub at_ms: u64,
}

/// What became of a pace that was to be set.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LimitSet {
    /// It is set now.
    Now,
    /// It, or a later one, was set before.
    Before,
    /// Delivery knows no such vendor.
    UnknownVendor,
}

/// What the ledger answers to a lowering.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Lowered {
    /// The prize's budget now: units made and not cancelled.
    #[serde(with = "wire::number")]
    pub effective_units: u64,
    /// Units cancelled by this call; less than asked for where the rest was granted.
    #[serde(with = "wire::number")]
    pub taken: u64,
}

/// Why the platform did not do it.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum OperationError {
    /// The ledger has heard of a newer SeqNo for the prize, and did nothing.
    #[error("the ledger has heard of SeqNo {0} for this prize already")]
    Newer(SeqNo),
    /// The ledger does not know the prize yet: no node has registered the plan that has it.
    #[error("the ledger does not know prize {0} yet; its plan has not been registered by a node")]
    Unknown(PrizeAt),
    /// No answer; it may have been done.
    #[error("{0}")]
    Failed(String),
}

/// How everything stands, at one moment as nearly as can be.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct PlatformStatus {
    /// When, ms UTC.
    #[serde(with = "wire::number")]
    pub at_ms: u64,
    /// Lottery nodes, by number.
    pub nodes: Vec<NodeStatus>,
    /// Prizes of rounds that are not closed, by campaign, round and prize.
    pub prizes: Vec<PrizeStatus>,
    /// Vendors, by number.
    pub vendors: Vec<VendorStatus>,
}

/// A lottery node.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct NodeStatus {
    /// Its number.
    pub node: u16,
    /// Its epoch.
    pub epoch: u32,
    /// Whether its session with the ledger is valid: only then it draws.
    pub session: bool,
    /// How long ago the ledger heard of it, ms.
    #[serde(with = "wire::number")]
    pub seen_ago_ms: u64,
    /// What it runs, by campaign. A node that does not say leaves it empty.
    pub plans: Vec<NodePlan>,
}

/// What a node runs of a campaign.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct NodePlan {
    /// The campaign.
    #[serde(with = "wire::campaign_id")]
    pub campaign: CampaignId,
    /// The active version in force there; `None` where none compiled yet.
    #[serde(with = "wire::seq_no_opt")]
    pub seq_no: Option<SeqNo>,
    /// The grey version in force there for a share of users, or for all of the node.
    #[serde(with = "wire::seq_no_opt")]
    pub grey: Option<SeqNo>,
    /// A newer version that it could not put into force, and why.
    pub failure: Option<NodeFailure>,
}

/// A version that a node could not put into force.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct NodeFailure {
    /// The version.
    #[serde(with = "wire::seq_no")]
    pub seq_no: SeqNo,
    /// What is wrong with it.
    pub what: String,
}

/// A prize, as the ledger has it.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct PrizeStatus {
    /// The campaign.
    #[serde(with = "wire::campaign_id")]
    pub campaign: CampaignId,
    /// Which prize.
    pub at: PrizeAt,
    /// Its name.
    pub name: String,
    /// Who delivers it.
    #[serde(with = "wire::vendor_id")]
    pub vendor: VendorId,
    /// The plan of its row.
    #[serde(with = "wire::seq_no")]
    pub seq_no: SeqNo,
    /// Nothing of it is given out.
    pub paused: bool,
    /// Units ever made.
    #[serde(with = "wire::number")]
    pub made: u64,
    /// The effective budget: made and not cancelled.
    #[serde(with = "wire::number")]
    pub budget: u64,
    /// Units granted to nodes and not returned, awarded ones among them.
    #[serde(with = "wire::number")]
    pub granted: u64,
    /// Units won.
    #[serde(with = "wire::number")]
    pub awarded: u64,
    /// Units in leases that are open.
    #[serde(with = "wire::number")]
    pub locked: u64,
    /// Open leases.
    pub open_leases: u32,
    /// Units won a second, of late.
    pub per_second: f64,
}

impl PrizeStatus {
    /// Units that were taken away.
    pub fn cancelled(&self) -> u64 {
        self.made.saturating_sub(self.budget)
    }
}

/// A vendor, as delivery has it.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct VendorStatus {
    /// The vendor.
    #[serde(with = "wire::vendor_id")]
    pub vendor: VendorId,
    /// Its name.
    pub name: String,
    /// Sends a second at most, as it is now.
    pub limit_per_second: u32,
    /// Orders that wait for it.
    #[serde(with = "wire::number")]
    pub backlog: u64,
    /// Its breaker is open: nothing but probes goes out.
    pub cut_off: bool,
    /// Sends a second, of late.
    pub per_second: f64,
}
