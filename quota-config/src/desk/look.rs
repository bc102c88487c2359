//! Looking: history, versions, proposals, the trail, how the platform stands.

use super::operations::PlatformStatus;
use super::prepare::{Base, aside};
use super::{CampaignInfo, Desk, DeskError, GreyInfo, Phase, Preview, Shown};
use crate::audit::{self, AuditHead, AuditRow, Verified};
use crate::bounds::PAGE_MAX;
use crate::diff::Diff;
use crate::repository::{Proposal, ProposalState, RepositoryError, VersionInfo};
use campaign::{CampaignId, Plan, SeqNo};
use std::sync::Arc;

impl Desk {
    /// All campaigns that have a version in force.
    ///
    /// # Errors
    /// When the repository fails. A version that does not compile is listed as broken.
    pub async fn campaigns(&self) -> Result<Vec<CampaignInfo>, DeskError> {
        let greys = self.repository.greys().await?;
        let mut list = Vec::new();
        for (campaign, seq_no) in self.repository.heads().await? {
            let grey = greys.iter().find(|g| g.0 == campaign);
            let grey =
                grey.map(|(_, seq_no, rollout)| GreyInfo { seq_no: *seq_no, rollout: rollout.clone() });
            let (name, rounds, state) = match self.base(campaign).await {
                Ok(Some(base)) => {
                    let phase = phase(&base.plan, self.clock.now_ms());
                    (base.plan.name.clone(), base.plan.rounds.len(), phase)
                }
                Ok(None) | Err(DeskError::Stored { .. }) => (String::new(), 0, Phase::Broken),
                Err(e) => return Err(e),
            };
            list.push(CampaignInfo { campaign, name, seq_no, grey, rounds, state });
        }
        Ok(list)
    }

    /// The version in force with everything.
    ///
    /// # Errors
    /// When there is no such campaign.
    pub async fn active(&self, campaign: CampaignId) -> Result<Shown, DeskError> {
        let base = self.base(campaign).await?.ok_or(DeskError::NoCampaign(campaign))?;
        self.shown(base).await
    }

    /// The grey version that is out.
    ///
    /// # Errors
    /// When the repository fails.
    pub async fn grey_out(&self, campaign: CampaignId) -> Result<Option<GreyInfo>, DeskError> {
        let grey = self.repository.grey(campaign).await?;
        Ok(grey.map(|(version, rollout)| GreyInfo { seq_no: version.info.seq_no, rollout }))
    }

    /// Versions above `after` by SeqNo, at most `limit`: gaps and grey ones among them.
    ///
    /// # Errors
    /// When there is no such campaign.
    pub async fn history(
        &self,
        campaign: CampaignId,
        after: SeqNo,
        limit: usize,
    ) -> Result<Vec<VersionInfo>, DeskError> {
        let all = self.repository.all(campaign).await?;
        if all.is_empty() {
            return Err(DeskError::NoCampaign(campaign));
        }
        Ok(all.into_iter().filter(|v| v.seq_no > after).take(limit.min(PAGE_MAX)).collect())
    }

    /// One version with its plan, and what it changes of the one that it was made after.
    ///
    /// # Errors
    /// When there is no such version, or it does not compile.
    pub async fn show(&self, campaign: CampaignId, seq_no: SeqNo) -> Result<Shown, DeskError> {
        let version = self.repository.get(campaign, seq_no).await?;
        let version = version.ok_or(RepositoryError::NotFound { campaign, seq_no })?;
        let base = self.compiled(version).await?;
        self.shown(base).await
    }

    async fn shown(&self, base: Base) -> Result<Shown, DeskError> {
        let info = base.version.info.clone();
        let before = match info.after {
            SeqNo(0) => None,
            after => match self.repository.get(info.campaign, after).await? {
                Some(version) => Some(self.compiled(version).await?),
                None => None,
            },
        };
        let (old, new) = (before.as_ref().map(|b| Arc::clone(&b.plan)), Arc::clone(&base.plan));
        let diff = aside(move || Diff::between(old.as_deref(), &new)).await;
        let preview = Preview {
            campaign: info.campaign,
            base_seq_no: info.after,
            diff: diff.entries,
            diff_left_out: diff.entries_left_out,
            summary: diff.summary,
            exhaustion: Vec::new(),
            warnings: Vec::new(),
            needs_two: Vec::new(),
        };
        let (source, adjustments) = (base.version.source.clone(), base.version.adjustments.clone());
        Ok(Shown { info, source, adjustments, plan: Plan::clone(&base.plan), preview })
    }

    /// Proposals of one campaign or of all, in one state or in any, by time: the newest 1,000.
    ///
    /// # Errors
    /// When the repository fails.
    pub async fn proposals(
        &self,
        campaign: Option<CampaignId>,
        state: Option<ProposalState>,
    ) -> Result<Vec<Proposal>, DeskError> {
        Ok(self.repository.proposals(campaign, state).await?)
    }

    /// One proposal with its file.
    ///
    /// # Errors
    /// When there is none.
    pub async fn proposal(&self, id: &str) -> Result<Proposal, DeskError> {
        let proposal = self.repository.proposal(id).await?;
        Ok(proposal.ok_or_else(|| RepositoryError::NoProposal(id.to_string()))?)
    }

    /// How everything stands.
    ///
    /// # Errors
    /// When the platform does not answer.
    pub async fn status(&self) -> Result<PlatformStatus, DeskError> {
        Ok(self.operations.status().await?)
    }

    /// Rows of the audit trail behind number `after`, at most `limit`.
    ///
    /// # Errors
    /// When the repository fails.
    pub async fn audit(&self, after: u64, limit: usize) -> Result<Vec<AuditRow>, DeskError> {
        Ok(self.repository.audit(after, limit).await?)
    }

    /// Recomputes the whole audit trail, and holds the stored versions against it. `noted`: a row's number and hash that were noted elsewhere.
    ///
    /// # Errors
    /// When the repository fails. A broken trail is an answer.
    pub async fn verify_audit(&self, noted: Option<AuditHead>) -> Result<Verified, DeskError> {
        Ok(audit::verify_all(&*self.repository, noted).await?)
    }
}

fn phase(plan: &Plan, now_ms: u64) -> Phase {
    if plan.round_at(now_ms).is_some() {
        return Phase::Open;
    }
    let begun = plan.rounds.iter().any(|r| r.open_ms <= now_ms);
    match (begun, plan.next_round(now_ms).is_some()) {
        (false, _) => Phase::Announced,
        (true, true) => Phase::Between,
        (true, false) => Phase::Over,
    }
}
