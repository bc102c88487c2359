//! What the operators' desk asks of the platform at once: the quota ledger, and everything around it behind one port.

use super::parts::Parts;
use super::rates::Rates;
use async_trait::async_trait;
use campaign::{CampaignId, Plan, PrizeId, RoundId, SeqNo, VendorId};
use lottery::ledger::{ChangeError, PrizeKey, PrizeReport, QuotaLedger};
use quota_config::{
    LimitSet, Lowered, NodeStatus, OperationError, Operations, PlanCell, PlatformStatus, PrizeAt,
    PrizeStatus, VendorSetting, VendorStatus,
};
use runtime::SharedClock;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::Mutex;

/// What people only look at is asked for anew at most so often, ms: many may be looking.
const LOOK_EVERY_MS: u64 = 250;
/// Counting delivery's rows takes longer the more there are, ms.
const VENDORS_EVERY_MS: u64 = 1_000;

/// The quota ledger, and what stands around it.
pub struct PlatformOperations {
    ledger: Arc<dyn QuotaLedger>,
    parts: Arc<dyn Parts>,
    plans: Arc<PlanCell>,
    clock: SharedClock,
    nodes: Mutex<Kept<Vec<NodeStatus>>>,
    leases: Mutex<Kept<BTreeMap<PrizeKey, u32>>>,
    awarded: Mutex<Kept<BTreeMap<PrizeKey, u64>>>,
    vendors: Mutex<Kept<Vec<VendorStatus>>>,
    won: parking_lot::Mutex<Rates<PrizeKey>>,
    sent: parking_lot::Mutex<Rates<VendorId>>,
}

/// An answer that is good for a while.
#[derive(Default)]
struct Kept<T> {
    value: T,
    until_ms: u64,
}

impl<T: Clone> Kept<T> {
    /// The answer, asked for anew when it is too old. Ten times as long as asking took: it must not become the platform's
    /// main work.
    async fn get(
        &mut self,
        (clock, every_ms): (&SharedClock, u64),
        ask: impl Future<Output = Result<T, OperationError>>,
    ) -> Result<T, OperationError> {
        let now_ms = clock.now_ms();
        if now_ms >= self.until_ms {
            self.value = ask.await?;
            let took_ms = clock.now_ms().saturating_sub(now_ms);
            self.until_ms = now_ms + every_ms.max(took_ms * 10);
        }
        Ok(self.value.clone())
    }
}

impl PlatformOperations {
    /// Over the parts of a running platform.
    pub fn new(
        ledger: Arc<dyn QuotaLedger>,
        parts: Arc<dyn Parts>,
        plans: Arc<PlanCell>,
        clock: SharedClock,
    ) -> PlatformOperations {
        PlatformOperations {
            ledger,
            parts,
            plans,
            clock,
            nodes: Mutex::default(),
            leases: Mutex::default(),
            awarded: Mutex::default(),
            vendors: Mutex::default(),
            won: Default::default(),
            sent: Default::default(),
        }
    }

    /// The prizes of a campaign whose rounds are not long over.
    async fn prizes_of(&self, plan: &Plan, now_ms: u64) -> Result<Vec<PrizeStatus>, OperationError> {
        let reports = self.ledger.prizes(plan.campaign).await.map_err(failed)?;
        let every = (&self.clock, LOOK_EVERY_MS);
        let leases = self.leases.lock().await.get(every, self.parts.open_leases()).await?;
        let awarded = self.awarded.lock().await.get(every, self.parts.awarded()).await?;
        let mut rates = self.won.lock();
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
                per_second: rates.of(r.prize, won, now_ms),
            }
        };
        Ok(reports.iter().map(&mut status).collect())
    }

    async fn vendors(&self, now_ms: u64) -> Result<Vec<VendorStatus>, OperationError> {
        let ask = async {
            let looks = self.parts.vendors().await?;
            let mut sent = self.sent.lock();
            let status = |v: super::parts::VendorLook| VendorStatus {
                vendor: v.vendor,
                name: v.name,
                limit_per_second: v.limit_per_second,
                backlog: v.backlog,
                cut_off: v.cut_off,
                per_second: sent.of(v.vendor, v.delivered, now_ms),
            };
            Ok(looks.into_iter().map(status).collect())
        };
        self.vendors.lock().await.get((&self.clock, VENDORS_EVERY_MS), ask).await
    }

    /// What the ledger says when a change was not newer than its row.
    async fn newer(&self, key: PrizeKey, at_least: SeqNo) -> OperationError {
        let rows = self.ledger.prizes(key.campaign).await.unwrap_or_default();
        let row = rows.iter().find(|r| r.prize == key).map_or(at_least, |r| r.seq_no);
        OperationError::Newer(row.max(at_least))
    }
}

pub(super) fn failed(error: impl std::fmt::Display) -> OperationError {
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

    async fn set_vendor_limit(&self, setting: &VendorSetting) -> Result<LimitSet, OperationError> {
        self.parts.set_limit(setting).await
    }

    async fn status(&self) -> Result<PlatformStatus, OperationError> {
        let now_ms = self.clock.now_ms();
        let mut prizes = Vec::new();
        for plan in self.plans.plans().iter() {
            prizes.extend(self.prizes_of(plan, now_ms).await?);
        }
        let every = (&self.clock, LOOK_EVERY_MS);
        let nodes = self.nodes.lock().await.get(every, self.parts.nodes(now_ms)).await?;
        let vendors = self.vendors(now_ms).await?;
        Ok(PlatformStatus { at_ms: now_ms, nodes, prizes, vendors })
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
