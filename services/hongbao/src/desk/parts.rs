//! Where the desk's picture of the platform comes from: the parts of this process, or servers that many processes share.

use async_trait::async_trait;
use campaign::VendorId;
use lottery::ledger::PrizeKey;
use quota_config::{LimitSet, NodeStatus, OperationError, VendorSetting};
use std::collections::BTreeMap;

/// A vendor as delivery has it.
#[derive(Clone, PartialEq, Debug)]
pub struct VendorLook {
    /// The vendor.
    pub vendor: VendorId,
    /// Its name; empty where it is not configured.
    pub name: String,
    /// Calls a second at most, as it is now.
    pub limit_per_second: u32,
    /// Orders that are to be sent or under way.
    pub backlog: u64,
    /// A node that delivers sends nothing but probes.
    pub cut_off: bool,
    /// Orders delivered, of which a speed is made.
    pub delivered: u64,
}

/// Everything that the desk asks for beside the quota ledger. All of it is for people to look at and may be a moment old,
/// but for [`Parts::set_limit`].
#[async_trait]
pub trait Parts: Send + Sync + 'static {
    /// Lottery nodes, by number.
    async fn nodes(&self, now_ms: u64) -> Result<Vec<NodeStatus>, OperationError>;

    /// How many leases of each prize are open.
    async fn open_leases(&self) -> Result<BTreeMap<PrizeKey, u32>, OperationError>;

    /// Units won, as flow has counted them: some tenths of a second behind the draw.
    async fn awarded(&self) -> Result<BTreeMap<PrizeKey, u64>, OperationError>;

    /// Vendors, by number.
    async fn vendors(&self) -> Result<Vec<VendorLook>, OperationError>;

    /// Has every node that delivers keep to a pace.
    async fn set_limit(&self, setting: &VendorSetting) -> Result<LimitSet, OperationError>;
}
