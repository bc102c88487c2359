//! The parts of a process that has every role.

use super::operations::failed;
use super::parts::{Parts, VendorLook};
use async_trait::async_trait;
use campaign::{CampaignId, NodeId, PrizeId, RoundId, VendorId};
use delivery::Delivery;
use delivery::pace::BreakerState;
use flow::service::handle::FlowHandle;
use lottery::ledger::{PrizeKey, QuotaLedger};
use lottery::node::Node;
use parking_lot::Mutex;
use quota_config::{LimitSet, NodeStatus, OperationError, PlanCell, VendorSetting};
use std::collections::BTreeMap;
use std::sync::Arc;

/// See the module.
pub struct Embedded {
    ledger: Arc<dyn QuotaLedger>,
    node: (u16, Arc<Node>),
    plans: Arc<PlanCell>,
    flow: FlowHandle,
    delivery: Delivery,
    /// The last setting of each vendor. Gone with the process; the desk sets them again at its start.
    set: Mutex<BTreeMap<VendorId, u64>>,
}

impl Embedded {
    /// Over a node with its number, and what stands around it.
    pub fn new(
        ledger: Arc<dyn QuotaLedger>,
        node: (u16, Arc<Node>),
        plans: Arc<PlanCell>,
        flow: FlowHandle,
        delivery: Delivery,
    ) -> Embedded {
        Embedded { ledger, node, plans, flow, delivery, set: Mutex::default() }
    }
}

#[async_trait]
impl Parts for Embedded {
    async fn nodes(&self, _now_ms: u64) -> Result<Vec<NodeStatus>, OperationError> {
        let status = self.node.1.status();
        let (epoch, session) = (status.epoch, status.session);
        let plans = self.plans.plans().report();
        Ok(vec![NodeStatus { node: self.node.0, epoch, session, seen_ago_ms: 0, plans }])
    }

    async fn open_leases(&self) -> Result<BTreeMap<PrizeKey, u32>, OperationError> {
        let open = self.ledger.open_leases(NodeId(self.node.0)).await.map_err(failed)?;
        let mut counts = BTreeMap::new();
        open.iter().for_each(|lease| *counts.entry(lease.prize).or_insert(0) += 1);
        Ok(counts)
    }

    async fn awarded(&self) -> Result<BTreeMap<PrizeKey, u64>, OperationError> {
        let statistics = self.flow.statistics();
        let mut units = BTreeMap::new();
        for line in &statistics.prizes {
            let key = PrizeKey {
                campaign: CampaignId(line.campaign),
                round: RoundId(line.round),
                prize: PrizeId(line.prize),
            };
            *units.entry(key).or_insert(0) += line.sums.awarded_units.unsigned_abs();
        }
        Ok(units)
    }

    async fn vendors(&self) -> Result<Vec<VendorLook>, OperationError> {
        let status = self.delivery.status().await.map_err(failed)?;
        let look = |v: &delivery::service::VendorStatus| VendorLook {
            vendor: v.vendor,
            name: v.name.clone(),
            limit_per_second: v.limit_per_second,
            backlog: v.backlog,
            cut_off: v.breaker.is_some_and(|b| b != BreakerState::Closed),
            delivered: v.delivered,
        };
        Ok(status.vendors.iter().map(look).collect())
    }

    async fn set_limit(&self, setting: &VendorSetting) -> Result<LimitSet, OperationError> {
        let Some(configured) = self.delivery.configured_limit(setting.vendor) else {
            return Ok(LimitSet::UnknownVendor);
        };
        // Held until it is done, so that of two at once the later one stands.
        let mut set = self.set.lock();
        let last = set.entry(setting.vendor).or_default();
        // At a start that says nothing but what is configured nothing is news.
        let is_news = *last > 0 || setting.per_second.is_some();
        if setting.number <= *last {
            return Ok(LimitSet::Before);
        }
        *last = setting.number;
        self.delivery.set_limit(setting.vendor, setting.per_second.unwrap_or(configured));
        Ok(if is_news { LimitSet::Now } else { LimitSet::Before })
    }
}
