//! What the operators' desk asks of the platform at once: ledger, node and delivery behind one port.

mod rates;

use async_trait::async_trait;
use campaign::{CampaignId, Plan, PrizeId, RoundId, SeqNo, VendorId};
use delivery::Delivery;
use delivery::pace::BreakerState;
use flow::service::handle::FlowHandle;
use lottery::ledger::{ChangeError, PrizeKey, PrizeReport, QuotaLedger};
use lottery::node::Node;
use quota_config::{
    Lowered, NodeStatus, OperationError, Operations, PlanCell, PlatformStatus, PrizeAt, PrizeStatus,
    VendorStatus,
};
use rates::Rates;
use runtime::SharedClock;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::Mutex;

/// Counting delivery's rows takes longer the more there are: the count is made anew at most so often, ms.
const VENDORS_EVERY_MS: u64 = 1_000;

/// Ledger, node and delivery of this process.
pub struct PlatformOperations {
    ledger: Arc<dyn QuotaLedger>,
    node: Arc<Node>,
    node_id: u16,
    plans: Arc<PlanCell>,
    flow: FlowHandle,
    delivery: Delivery,
    /// Sends a second that vendors are configured to take.
    configured: BTreeMap<VendorId, u32>,
    clock: SharedClock,
    seen: Mutex<Seen>,
}

/// What was seen before, for speeds and so that nothing slow is asked too often.
#[derive(Default)]
struct Seen {
    awarded: Rates<PrizeKey>,
    sent: Rates<VendorId>,
    vendors: Vec<VendorStatus>,
    vendors_until_ms: u64,
}

impl PlatformOperations {
    /// Over the parts of a running platform.
    pub fn new(
        ledger: Arc<dyn QuotaLedger>,
        node: (u16, Arc<Node>),
        plans: Arc<PlanCell>,
        flow: FlowHandle,
        (delivery, configured): (Delivery, BTreeMap<VendorId, u32>),
        clock: SharedClock,
    ) -> PlatformOperations {
        let (node_id, node) = node;
        let seen = Mutex::default();
        PlatformOperations { ledger, node, node_id, plans, flow, delivery, configured, clock, seen }
    }

    fn node(&self) -> NodeStatus {
        let status = self.node.status();
        NodeStatus {
            node: self.node_id,
            epoch: status.epoch,
            session: status.session,
            seen_ago_ms: 0,
            plans: self.plans.plans().report(),
        }
    }

    /// The prizes of a campaign whose rounds are not long over.
    async fn prizes_of(&self, plan: &Plan, now_ms: u64) -> Result<Vec<PrizeStatus>, OperationError> {
        let reports = self.ledger.prizes(plan.campaign).await.map_err(failed)?;
        let leases = self.open_leases().await?;
        let awarded = self.awarded();
        let mut seen = self.seen.lock().await;
        let mut status = |r: &PrizeReport| {
            let won = awarded.get(&r.prize).copied().unwrap_or(0);
            PrizeStatus {
                campaign: plan.campaign,
                at: PrizeAt { round: r.prize.round, prize: r.prize.prize },
                name: name_of(plan, r.prize.round, r.prize.prize),
                vendor: r.vendor,
                seq_no: r.seq_no,
                paused: r.paused,
                made: r.made,
                budget: r.budget,
                granted: r.leased + r.used,
                awarded: won,
                locked: (r.leased + r.used).saturating_sub(won),
                open_leases: leases.get(&r.prize).copied().unwrap_or(0),
                per_second: seen.awarded.of(r.prize, won, now_ms),
            }
        };
        Ok(reports.iter().map(&mut status).collect())
    }

    async fn open_leases(&self) -> Result<BTreeMap<PrizeKey, u32>, OperationError> {
        let open = self.ledger.open_leases(campaign::NodeId(self.node_id)).await.map_err(failed)?;
        let mut counts = BTreeMap::new();
        open.iter().for_each(|lease| *counts.entry(lease.prize).or_insert(0) += 1);
        Ok(counts)
    }

    /// Units won, as flow has counted them: some tenths of a second behind the draw.
    fn awarded(&self) -> BTreeMap<PrizeKey, u64> {
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
        units
    }

    async fn vendors(&self, now_ms: u64) -> Result<Vec<VendorStatus>, OperationError> {
        let mut seen = self.seen.lock().await;
        if now_ms < seen.vendors_until_ms {
            return Ok(seen.vendors.clone());
        }
        let status = self.delivery.status().await.map_err(failed)?;
        let vendors: Vec<_> = status
            .vendors
            .iter()
            .map(|v| VendorStatus {
                vendor: v.vendor,
                name: v.name.clone(),
                limit_per_second: v.limit_per_second,
                backlog: v.backlog,
                cut_off: v.breaker.is_some_and(|b| b != BreakerState::Closed),
                per_second: seen.sent.of(v.vendor, v.delivered, now_ms),
            })
            .collect();
        seen.vendors.clone_from(&vendors);
        // Ten times as long as it took: asking must not become the platform's main work.
        let took = self.clock.now_ms().saturating_sub(now_ms);
        seen.vendors_until_ms = now_ms + VENDORS_EVERY_MS.max(took * 10);
        Ok(vendors)
    }

    /// What the ledger says when a change was not newer than its row.
    async fn newer(&self, key: PrizeKey, at_least: SeqNo) -> OperationError {
        let rows = self.ledger.prizes(key.campaign).await.unwrap_or_default();
        let row = rows.iter().find(|r| r.prize == key).map_or(at_least, |r| r.seq_no);
        OperationError::Newer(row.max(at_least))
    }
}

fn failed(error: impl std::fmt::Display) -> OperationError {
    OperationError::Failed(error.to_string())
}

fn refused(at: PrizeAt) -> impl Fn(ChangeError) -> OperationError {
    move |error| match error {
        ChangeError::Unknown(_) => OperationError::Unknown(at),
        other => failed(other),
    }
}

fn key(campaign: CampaignId, at: PrizeAt) -> PrizeKey {
    PrizeKey { campaign, round: at.round, prize: at.prize }
}

fn name_of(plan: &Plan, round: RoundId, prize: PrizeId) -> String {
    let known = plan.round(round).and_then(|r| r.prizes.iter().find(|p| p.id == prize));
    known.map_or_else(|| format!("prize {prize}, not in the plan any more"), |p| p.name.clone())
}

#[async_trait]
impl Operations for PlatformOperations {
    async fn pause(&self, campaign: CampaignId, at: PrizeAt, seq_no: SeqNo) -> Result<(), OperationError> {
        let key = key(campaign, at);
        let changed = self.ledger.pause(key, seq_no).await.map_err(refused(at))?;
        // A row that heard of a newer change keeps to that one, which may end the pause: come again above it.
        if changed.budget.applied { Ok(()) } else { Err(self.newer(key, seq_no).await) }
    }

    async fn lower(
        &self,
        campaign: CampaignId,
        at: PrizeAt,
        seq_no: SeqNo,
        units: u64,
    ) -> Result<Lowered, OperationError> {
        let key = key(campaign, at);
        let changed = self.ledger.lower(key, seq_no, units).await.map_err(refused(at))?;
        if !changed.budget.applied {
            return Err(self.newer(key, seq_no).await);
        }
        Ok(Lowered { effective_units: changed.budget.units, taken: changed.cancelled })
    }

    async fn set_vendor_limit(
        &self,
        vendor: VendorId,
        per_second: Option<u32>,
    ) -> Result<bool, OperationError> {
        let limit = per_second.or_else(|| self.configured.get(&vendor).copied());
        Ok(limit.is_some_and(|limit| self.delivery.set_limit(vendor, limit)))
    }

    async fn status(&self) -> Result<PlatformStatus, OperationError> {
        let now_ms = self.clock.now_ms();
        let mut prizes = Vec::new();
        for plan in self.plans.plans().iter() {
            prizes.extend(self.prizes_of(plan, now_ms).await?);
        }
        let vendors = self.vendors(now_ms).await?;
        Ok(PlatformStatus { at_ms: now_ms, nodes: vec![self.node()], prizes, vendors })
    }

    async fn prizes(
        &self,
        campaign: CampaignId,
        prizes: &[PrizeAt],
    ) -> Result<Vec<PrizeStatus>, OperationError> {
        let plans = self.plans.plans();
        let Some(plan) = plans.get(campaign) else { return Ok(Vec::new()) };
        let all = self.prizes_of(plan, self.clock.now_ms()).await?;
        Ok(all.into_iter().filter(|p| prizes.contains(&p.at)).collect())
    }
}
