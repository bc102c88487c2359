//! The parts of a cluster, from its servers: no other process is asked, so a desk shows as much as it can while some of them
//! are away.

use super::operations::failed;
use super::parts::{Parts, VendorLook};
use async_trait::async_trait;
use campaign::{NodeId, VendorId};
use delivery::config::VendorConfig;
use delivery::limits::{LimitBook, Setting};
use delivery::{DeliveryBook, service::backlog};
use flow::store::AwardStore;
use lottery::ledger::{PrizeKey, QuotaLedger};
use ownership::Members;
use quota_config::{LimitSet, NodeStatus, OperationError, PlanRepository, VendorSetting};
use records::DeliveryState;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// See the module.
pub struct Shared {
    /// The quota ledger.
    pub ledger: Arc<dyn QuotaLedger>,
    /// Plans; in it nodes say what they run.
    pub repository: Arc<dyn PlanRepository>,
    /// Who draws.
    pub members: Arc<dyn Members>,
    /// Flow's store.
    pub awards: Arc<dyn AwardStore>,
    /// Delivery's book.
    pub book: Arc<dyn DeliveryBook>,
    /// Delivery's limits.
    pub limits: Arc<dyn LimitBook>,
    /// The vendors of the configuration, which is that of the nodes that deliver.
    pub vendors: Vec<VendorConfig>,
}

impl Shared {
    /// Lottery nodes that are there or have been: each says at its start what it runs.
    async fn known(&self) -> Result<BTreeSet<u16>, OperationError> {
        let reports = self.repository.reports().await.map_err(failed)?;
        let members = self.members.current();
        Ok(reports.iter().map(|r| r.node).chain(members.members.iter().map(|m| m.node)).collect())
    }

    fn configured(&self, vendor: VendorId) -> Option<&VendorConfig> {
        self.vendors.iter().find(|config| config.vendor() == vendor)
    }
}

#[async_trait]
impl Parts for Shared {
    async fn nodes(&self, now_ms: u64) -> Result<Vec<NodeStatus>, OperationError> {
        let reports = self.repository.reports().await.map_err(failed)?;
        let members = self.members.current();
        let mut nodes = Vec::new();
        for node in self.known().await? {
            let Some(row) = self.ledger.epochs(NodeId(node)).await.map_err(failed)?.pop() else { continue };
            if row.ended.is_some() && members.members.iter().all(|m| m.node != node) {
                continue;
            }
            let said = reports.iter().find(|r| r.node == node);
            nodes.push(NodeStatus {
                node,
                epoch: row.epoch,
                session: row.ended.is_none() && row.is_alive(now_ms),
                seen_ago_ms: now_ms.saturating_sub(row.seen_at_ms),
                plans: said.map(|r| r.plans.clone()).unwrap_or_default(),
            });
        }
        Ok(nodes)
    }

    async fn open_leases(&self) -> Result<BTreeMap<PrizeKey, u32>, OperationError> {
        let mut counts = BTreeMap::new();
        for node in self.known().await? {
            let open = self.ledger.open_leases(NodeId(node)).await.map_err(failed)?;
            open.iter().for_each(|lease| *counts.entry(lease.prize).or_insert(0) += 1);
        }
        Ok(counts)
    }

    async fn awarded(&self) -> Result<BTreeMap<PrizeKey, u64>, OperationError> {
        let mut units = BTreeMap::new();
        for (key, value) in self.awards.statistics().await.map_err(failed)? {
            let key = PrizeKey { campaign: key.campaign, round: key.round, prize: key.prize };
            *units.entry(key).or_insert(0) += value.awarded_units.unsigned_abs();
        }
        Ok(units)
    }

    async fn vendors(&self) -> Result<Vec<VendorLook>, OperationError> {
        let counts = self.book.counts().await.map_err(failed)?;
        let settings = self.limits.settings().await.map_err(failed)?;
        let reports = self.limits.reports().await.map_err(failed)?;
        let mut known: BTreeSet<VendorId> = self.vendors.iter().map(VendorConfig::vendor).collect();
        known.extend(counts.iter().map(|c| c.vendor).chain(reports.iter().map(|r| r.vendor)));
        let look = |vendor: VendorId| {
            let config = self.configured(vendor);
            let of: Vec<_> = counts.iter().filter(|c| c.vendor == vendor).copied().collect();
            let set = settings.iter().find(|s| s.vendor == vendor).and_then(|s| s.per_second);
            let nodes = || reports.iter().filter(move |r| r.vendor == vendor);
            // What nodes do; where none is there, what one would do.
            let limit = nodes().map(|r| r.limit_per_second).max().or(set);
            let delivered = of.iter().filter(|c| c.state == DeliveryState::Delivered as u8);
            VendorLook {
                vendor,
                name: config.map_or_else(String::new, |c| c.name.clone()),
                limit_per_second: limit.or(config.map(|c| c.capacity_per_second)).unwrap_or(0),
                backlog: backlog(&of),
                cut_off: nodes().any(|r| r.cut_off),
                delivered: delivered.map(|c| c.orders).sum(),
            }
        };
        Ok(known.into_iter().map(look).collect())
    }

    async fn set_limit(&self, setting: &VendorSetting) -> Result<LimitSet, OperationError> {
        let vendor = setting.vendor;
        if self.configured(vendor).is_none() {
            let reports = self.limits.reports().await.map_err(failed)?;
            if reports.iter().all(|r| r.vendor != vendor) {
                return Ok(LimitSet::UnknownVendor);
            }
        }
        let VendorSetting { per_second, number, at_ms, .. } = *setting;
        let setting = Setting { vendor, per_second, number, who: setting.who.clone(), at_ms };
        let is_new = self.limits.set(&setting).await.map_err(failed)?;
        Ok(if is_new { LimitSet::Now } else { LimitSet::Before })
    }
}
