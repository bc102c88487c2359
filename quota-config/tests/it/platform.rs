//! A platform for the desk: a model of the ledger, and a process that can crash at any step.

use async_trait::async_trait;
use campaign::{CampaignId, Plan, SeqNo, VendorId};
use parking_lot::Mutex;
use quota_config::{
    AuditEntry, AuditHead, AuditRow, Decision, Draft, LimitSet, Lowered, MemoryRepository, NewProposal,
    NodeReport, OperationError, Operations, PlanRepository, PlatformStatus, PrizeAt, PrizeStatus, Proposal,
    ProposalState, Remembered, RepositoryError, Rollout, VendorSetting, Verdict, Version, VersionInfo,
};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Counts steps that write, and ends the process at one: before or after it was done.
#[derive(Default)]
pub struct Crash(Mutex<Option<(u32, bool)>>);

impl Crash {
    /// The process ends `steps` writing steps from here.
    pub fn arm(&self, steps: u32, done: bool) {
        *self.0.lock() = Some((steps, done));
    }

    /// A new process. Says whether the old one had ended.
    pub fn restart(&self) -> bool {
        self.0.lock().take().is_some_and(|(steps, _)| steps == 0)
    }

    /// Whether the next step is done, and whether it is answered.
    fn step(&self) -> (bool, bool) {
        match &mut *self.0.lock() {
            None => (true, true),
            Some((0, _)) => (false, false),
            Some((steps, done)) => {
                *steps -= 1;
                if *steps > 0 { (true, true) } else { (*done, false) }
            }
        }
    }
}

/// A prize in the model of the ledger.
#[derive(Clone, Debug, Default)]
pub struct Row {
    pub made: u64,
    pub cancelled: u64,
    pub granted: u64,
    pub paused: bool,
    seq_no: SeqNo,
    change_seq_no: SeqNo,
}

impl Row {
    /// It has heard of a change that is newer than this version.
    pub fn is_ahead_of(&self, active: SeqNo) -> bool {
        self.change_seq_no > active
    }
}

/// The model of the ledger.
#[derive(Default)]
pub struct Platform {
    pub rows: Mutex<BTreeMap<PrizeAt, Row>>,
    pub crash: Arc<Crash>,
    pub away: Mutex<bool>,
    pub pace: Mutex<Option<u32>>,
}

impl Platform {
    /// What a node does with a plan, by the ledger's rules.
    pub fn register(&self, plan: &Plan) {
        let mut rows = self.rows.lock();
        for round in &plan.rounds {
            for prize in &round.prizes {
                let row = rows.entry(PrizeAt { round: round.id, prize: prize.id }).or_default();
                if plan.seq_no <= row.seq_no || plan.seq_no < row.change_seq_no {
                    continue;
                }
                assert!(prize.units() >= row.made, "units are never unmade");
                (row.seq_no, row.paused, row.made) = (plan.seq_no, prize.paused, prize.units());
            }
        }
    }

    /// Grants units to nodes, as far as there are any.
    pub fn grant(&self, prize: PrizeAt, units: u64) {
        if let Some(row) = self.rows.lock().get_mut(&prize) {
            row.granted += units.min(row.made - row.cancelled - row.granted);
        }
    }

    fn change<T>(
        &self,
        prize: PrizeAt,
        seq_no: SeqNo,
        apply: impl FnOnce(&mut Row) -> T,
    ) -> Result<T, OperationError> {
        let lost = || Err(OperationError::Failed("connection lost".into()));
        if *self.away.lock() {
            return lost();
        }
        let (done, answered) = self.crash.step();
        if !done {
            return lost();
        }
        let mut rows = self.rows.lock();
        let row = rows.get_mut(&prize).ok_or(OperationError::Unknown(prize))?;
        let newest = row.seq_no.max(row.change_seq_no);
        if seq_no <= newest {
            return Err(OperationError::Newer(newest));
        }
        row.change_seq_no = seq_no;
        let answer = apply(row);
        if answered { Ok(answer) } else { lost() }
    }
}

#[async_trait]
impl Operations for Platform {
    async fn pause(&self, _: CampaignId, prize: PrizeAt, seq_no: SeqNo) -> Result<(), OperationError> {
        tokio::task::yield_now().await;
        self.change(prize, seq_no, |row| row.paused = true)
    }

    async fn lower(
        &self,
        _: CampaignId,
        prize: PrizeAt,
        seq_no: SeqNo,
        units: u64,
    ) -> Result<Lowered, OperationError> {
        tokio::task::yield_now().await;
        self.change(prize, seq_no, |row| {
            let taken = units.min(row.made - row.cancelled - row.granted);
            row.cancelled += taken;
            Lowered { effective_units: row.made - row.cancelled, taken }
        })
    }

    async fn set_vendor_limit(&self, setting: &VendorSetting) -> Result<LimitSet, OperationError> {
        if setting.vendor != VendorId(1) {
            return Ok(LimitSet::UnknownVendor);
        }
        let before = std::mem::replace(&mut *self.pace.lock(), setting.per_second);
        Ok(if before == setting.per_second { LimitSet::Before } else { LimitSet::Now })
    }

    async fn status(&self) -> Result<PlatformStatus, OperationError> {
        if *self.away.lock() {
            return Err(OperationError::Failed("connection lost".into()));
        }
        let status = |(at, row): (&PrizeAt, &Row)| PrizeStatus {
            campaign: CampaignId(4),
            at: *at,
            name: String::new(),
            vendor: VendorId(1),
            seq_no: row.seq_no,
            paused: row.paused,
            made: row.made,
            budget: row.made - row.cancelled,
            granted: row.granted,
            awarded: 0,
            locked: row.granted,
            open_leases: 0,
            per_second: 0.0,
        };
        Ok(PlatformStatus {
            prizes: self.rows.lock().iter().map(status).collect(),
            ..PlatformStatus::default()
        })
    }
}

/// A repository whose callers can crash between any two steps.
#[derive(Default)]
pub struct Crashing {
    pub inner: MemoryRepository,
    pub crash: Arc<Crash>,
}

impl Crashing {
    async fn step<T>(
        &self,
        write: impl Future<Output = Result<T, RepositoryError>>,
    ) -> Result<T, RepositoryError> {
        tokio::task::yield_now().await;
        let lost = || {
            let (what, limit_ms) = ("a step", 0);
            Err(RepositoryError::Sql(storage::SqlError::TimedOut { what, limit_ms }))
        };
        let (done, answered) = self.crash.step();
        if !done {
            return lost();
        }
        let answer = write.await?;
        if answered { Ok(answer) } else { lost() }
    }
}

#[async_trait]
impl PlanRepository for Crashing {
    async fn reserve(&self, draft: Draft) -> Result<SeqNo, RepositoryError> {
        self.step(self.inner.reserve(draft)).await
    }

    async fn activate(&self, campaign: CampaignId, seq_no: SeqNo, at_ms: u64) -> Result<(), RepositoryError> {
        self.step(self.inner.activate(campaign, seq_no, at_ms)).await
    }

    async fn newest(&self, campaign: CampaignId) -> Result<Option<Version>, RepositoryError> {
        self.inner.newest(campaign).await
    }

    async fn get(&self, campaign: CampaignId, seq_no: SeqNo) -> Result<Option<Version>, RepositoryError> {
        self.inner.get(campaign, seq_no).await
    }

    async fn all(&self, campaign: CampaignId) -> Result<Vec<VersionInfo>, RepositoryError> {
        self.inner.all(campaign).await
    }

    async fn heads(&self) -> Result<Vec<(CampaignId, SeqNo)>, RepositoryError> {
        self.inner.heads().await
    }

    async fn set_grey(
        &self,
        campaign: CampaignId,
        seq_no: SeqNo,
        rollout: Rollout,
        entry: AuditEntry,
    ) -> Result<(), RepositoryError> {
        self.step(self.inner.set_grey(campaign, seq_no, rollout, entry)).await
    }

    async fn end_grey(
        &self,
        campaign: CampaignId,
        seq_no: SeqNo,
        entry: AuditEntry,
    ) -> Result<(), RepositoryError> {
        self.step(self.inner.end_grey(campaign, seq_no, entry)).await
    }

    async fn grey(&self, campaign: CampaignId) -> Result<Option<(Version, Rollout)>, RepositoryError> {
        self.inner.grey(campaign).await
    }

    async fn greys(&self) -> Result<Vec<(CampaignId, SeqNo, Rollout)>, RepositoryError> {
        self.inner.greys().await
    }

    async fn propose(&self, proposal: NewProposal) -> Result<Proposal, RepositoryError> {
        self.step(self.inner.propose(proposal)).await
    }

    async fn proposals(
        &self,
        campaign: Option<CampaignId>,
        state: Option<ProposalState>,
    ) -> Result<Vec<Proposal>, RepositoryError> {
        self.inner.proposals(campaign, state).await
    }

    async fn proposal(&self, id: &str) -> Result<Option<Proposal>, RepositoryError> {
        self.inner.proposal(id).await
    }

    async fn decide(
        &self,
        id: &str,
        verdict: Verdict,
        decision: Decision,
    ) -> Result<Proposal, RepositoryError> {
        self.step(self.inner.decide(id, verdict, decision)).await
    }

    async fn audit_append(&self, entry: AuditEntry) -> Result<u64, RepositoryError> {
        self.step(self.inner.audit_append(entry)).await
    }

    async fn audit(&self, after: u64, limit: usize) -> Result<Vec<AuditRow>, RepositoryError> {
        self.inner.audit(after, limit).await
    }

    async fn audit_head(&self) -> Result<AuditHead, RepositoryError> {
        self.inner.audit_head().await
    }

    async fn remembered(&self, key: &str) -> Result<Option<Remembered>, RepositoryError> {
        self.inner.remembered(key).await
    }

    async fn remember(&self, answer: Remembered) -> Result<(), RepositoryError> {
        self.inner.remember(answer).await
    }

    async fn report(&self, report: NodeReport) -> Result<(), RepositoryError> {
        self.inner.report(report).await
    }

    async fn reports(&self) -> Result<Vec<NodeReport>, RepositoryError> {
        self.inner.reports().await
    }
}
