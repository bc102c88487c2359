//! The one place where people change campaigns.
//!
//! Each method is one change: it prepares what would be (what is active, the edit on top, the difference, whether
//! the policy wants a second person), and carries it out or lets it wait as a proposal. Nothing in here knows
//! HTTP; whoever serves it checks who is who and hands in a [`By`].
//!
//! **Order.** Pausing, stopping and lowering: reserve a SeqNo, change the ledger under it, activate. Everything
//! else: reserve, activate; the nodes bring it to the ledger. A crash in between leaves a SeqNo that is reserved
//! and nothing else; the history shows it, and asking again is safe.
//!
//! **When it refuses.** What the file, the succession of plans or the policy forbids; a change under which another
//! one came into force and that it was not checked against. While a grey version is out everything but pauses,
//! resumptions, stops, lowerings and its own end.

mod brakes;
mod carry;
mod effect;
mod finish;
mod grey;
mod look;
mod operations;
mod prepare;
mod types;

pub use finish::{Finished, Seen};
pub use operations::{
    LimitSet, Lowered, NodeFailure, NodePlan, NodeStatus, OperationError, Operations, PlatformStatus,
    PrizeStatus, VendorSetting, VendorStatus,
};
pub use types::{
    CampaignInfo, Change, ChangeState, DeskError, Effect, GreyInfo, Phase, Preview, Shown, VendorLimit,
};

use crate::adjust::{PrizeAt, RateTarget, Target};
use crate::people::{By, Role};
use crate::policy::Policy;
use crate::repository::{Edit, PlanRepository, Rollout};
use crate::seeds::SeedCommitments;
use campaign::{CampaignId, SeqNo, VendorId};
use carry::{allowed, stated};
use prepare::campaign_in;
use runtime::SharedClock;
use serde_json::json;
use sha2::{Digest as _, Sha256};
use std::sync::Arc;

/// Where people change campaigns.
pub struct Desk {
    repository: Arc<dyn PlanRepository>,
    policy: Policy,
    seeds: Arc<dyn SeedCommitments>,
    operations: Arc<dyn Operations>,
    clock: SharedClock,
}

impl Desk {
    /// A desk over a repository and a platform. `seeds` commits to rounds that are new.
    pub fn new(
        repository: Arc<dyn PlanRepository>,
        policy: Policy,
        seeds: Arc<dyn SeedCommitments>,
        operations: Arc<dyn Operations>,
        clock: SharedClock,
    ) -> Desk {
        Desk { repository, policy, seeds, operations, clock }
    }

    /// The repository underneath: for idempotency keys and whatever else only reads.
    pub fn repository(&self) -> &Arc<dyn PlanRepository> {
        &self.repository
    }

    /// The thresholds above which a change takes two.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// What a file would change of what is active.
    ///
    /// # Errors
    /// When the file is wrong or changes what may not change, or a grey version is out.
    pub async fn preview(&self, source: &[u8], rollout: Option<Rollout>) -> Result<Preview, DeskError> {
        let campaign = campaign_in(source, self)?;
        let edit = Edit::File { rollout };
        Ok(self.prepare(campaign, &edit, Some(source), self.clock.now_ms()).await?.preview)
    }

    /// What any other change would do; nothing is done.
    ///
    /// # Errors
    /// As the change itself.
    pub async fn dry_run(&self, campaign: CampaignId, edit: &Edit, by: &By) -> Result<Change, DeskError> {
        allowed(by, Role::Operator, "changing takes an operator")?;
        if matches!(edit, Edit::File { .. }) {
            return Err(DeskError::Refused("a file is previewed with its source".to_string()));
        }
        let prepared = self.prepare(campaign, edit, None, self.clock.now_ms()).await?;
        Ok(dry(prepared.preview))
    }

    /// As [`Desk::dry_run`], for a file.
    ///
    /// # Errors
    /// As [`Desk::apply`].
    pub async fn dry_run_file(
        &self,
        source: &[u8],
        rollout: Option<Rollout>,
        by: &By,
    ) -> Result<Change, DeskError> {
        allowed(by, Role::Operator, "changing takes an operator")?;
        Ok(dry(self.preview(source, rollout).await?))
    }

    /// Puts a file into force: for all, or grey with a rollout. Where the policy wants two people it waits as a
    /// proposal. The file of the grey version that is out again, with another rollout, changes that.
    ///
    /// # Errors
    /// When the file is wrong or changes what may not change; a grey version is out; the repository fails.
    pub async fn apply(
        &self,
        source: &[u8],
        rollout: Option<Rollout>,
        by: &By,
        reason: &str,
    ) -> Result<Change, DeskError> {
        let campaign = campaign_in(source, self)?;
        if let Some(rollout) = &rollout {
            let grey = self.repository.grey(campaign).await?;
            let sha256 = <[u8; 32]>::from(Sha256::digest(source));
            if grey.is_some_and(|(version, _)| version.info.sha256 == sha256) {
                return self.grey(campaign, rollout.clone(), by, reason).await;
            }
        }
        self.change(campaign, Edit::File { rollout }, Some(source), (by, reason)).await
    }

    /// Carries out a proposal, as its second person. Brakes that came into force since are taken over; anything
    /// else supersedes it.
    ///
    /// # Errors
    /// When the person made it himself or may not approve; when it is settled or superseded; as the change itself.
    pub async fn approve(&self, id: &str, by: &By, reason: &str) -> Result<Change, DeskError> {
        self.approved(id, by, reason).await
    }

    /// Refuses a proposal. Its author may take it back.
    ///
    /// # Errors
    /// When it is settled, or the person may not.
    pub async fn reject(&self, id: &str, by: &By, reason: &str) -> Result<Change, DeskError> {
        self.rejected(id, by, reason).await
    }

    /// Makes a further version with the file, the weights and the speeds of an earlier one. Present pauses, stops
    /// and lowerings stay.
    ///
    /// # Errors
    /// When units were planned since, which stay for ever, or anything else that may not change; the message says
    /// what to do instead.
    pub async fn rollback(
        &self,
        campaign: CampaignId,
        to: SeqNo,
        by: &By,
        reason: &str,
    ) -> Result<Change, DeskError> {
        let active = self.repository.newest(campaign).await?;
        if active.is_some_and(|version| version.info.seq_no == to) {
            return Err(DeskError::Refused(format!("SeqNo {to} is active")));
        }
        self.change(campaign, Edit::Rollback { to }, None, (by, reason)).await
    }

    /// Has a target give out nothing until it is resumed. At once, and never for two.
    ///
    /// # Errors
    /// When there is no such target, or the repository fails. A ledger that does not answer is no error: the
    /// effects name it.
    pub async fn pause(
        &self,
        campaign: CampaignId,
        target: Target,
        by: &By,
        reason: &str,
    ) -> Result<Change, DeskError> {
        self.change(campaign, Edit::Pause { target }, None, (by, reason)).await
    }

    /// Lets a target go on. What was stopped takes two.
    ///
    /// # Errors
    /// When it is not paused by itself.
    pub async fn resume(
        &self,
        campaign: CampaignId,
        target: Target,
        by: &By,
        reason: &str,
    ) -> Result<Change, DeskError> {
        self.change(campaign, Edit::Resume { target }, None, (by, reason)).await
    }

    /// As [`Desk::pause`], but only two people can resume it.
    ///
    /// # Errors
    /// As [`Desk::pause`].
    pub async fn stop(
        &self,
        campaign: CampaignId,
        target: Target,
        by: &By,
        reason: &str,
    ) -> Result<Change, DeskError> {
        self.change(campaign, Edit::Stop { target }, None, (by, reason)).await
    }

    /// Takes units of a prize away: never one that is granted to a node and not returned. The effect says what the
    /// ledger took and what its budget is now.
    ///
    /// # Errors
    /// When there is no such prize, or the ledger does not answer; asking again then takes nothing twice.
    pub async fn lower(
        &self,
        campaign: CampaignId,
        prize: PrizeAt,
        units: u64,
        by: &By,
        reason: &str,
    ) -> Result<Change, DeskError> {
        self.change(campaign, Edit::Lower { prize, units }, None, (by, reason)).await
    }

    /// Sets the release speed of a prize or vendor, in units a second; 0: no limit, which is as far from a stop as can
    /// be (to give out nothing, pause). Until the next file.
    ///
    /// # Errors
    /// When there is no such thing, or a grey version is out.
    pub async fn set_rate(
        &self,
        campaign: CampaignId,
        target: RateTarget,
        per_second: u32,
        by: &By,
        reason: &str,
    ) -> Result<Change, DeskError> {
        self.change(campaign, Edit::Rate { target, per_second }, None, (by, reason)).await
    }

    /// Lets the file's speed of a prize or vendor count again.
    ///
    /// # Errors
    /// As [`Desk::set_rate`].
    pub async fn rate_of_file(
        &self,
        campaign: CampaignId,
        target: RateTarget,
        by: &By,
        reason: &str,
    ) -> Result<Change, DeskError> {
        self.change(campaign, Edit::RateOfFile { target }, None, (by, reason)).await
    }

    /// Sets the weight of a prize. Until the next file.
    ///
    /// # Errors
    /// When there is no such prize, or a grey version is out.
    pub async fn set_weight(
        &self,
        campaign: CampaignId,
        prize: PrizeAt,
        weight: u32,
        by: &By,
        reason: &str,
    ) -> Result<Change, DeskError> {
        self.change(campaign, Edit::Weight { prize, weight }, None, (by, reason)).await
    }

    /// Sets delivery's own pace towards a vendor, sends a second: 0 sends nothing, `None` is the configured pace. It
    /// belongs to no campaign and no version; the trail has it, written before it is done, and a start sets it again
    /// ([`Desk::finish`]).
    ///
    /// # Errors
    /// When delivery knows no such vendor or does not answer.
    pub async fn set_vendor_limit(
        &self,
        vendor: VendorId,
        per_second: Option<u32>,
        by: &By,
        reason: &str,
    ) -> Result<VendorLimit, DeskError> {
        allowed(by, Role::Operator, "changing takes an operator")?;
        stated(reason)?;
        let detail = json!({"vendor": vendor.0, "per_second": per_second, "reason": reason});
        let mut entry = self.entry(by, "vendor-limit", CampaignId(0), SeqNo(0), detail);
        (entry.campaign, entry.seq_no) = (None, None);
        let (who, at_ms) = (entry.who.clone(), entry.at_ms);
        let number = self.repository.audit_append(entry).await?;
        let setting = VendorSetting { vendor, per_second, number, who, at_ms };
        match self.operations.set_vendor_limit(&setting).await? {
            LimitSet::Now | LimitSet::Before => Ok(VendorLimit { vendor, per_second }),
            LimitSet::UnknownVendor => Err(DeskError::Refused(format!("delivery knows no vendor {vendor}"))),
        }
    }

    /// Makes the grey version the plan of all, as a further SeqNo. If two people put it out, that holds for this
    /// too.
    ///
    /// # Errors
    /// When none is out.
    pub async fn promote(&self, campaign: CampaignId, by: &By, reason: &str) -> Result<Change, DeskError> {
        self.change(campaign, Edit::Promote, None, (by, reason)).await
    }
}

fn dry(preview: Preview) -> Change {
    let campaign = preview.campaign;
    let (state, effects) = (ChangeState::DryRun, Vec::new());
    Change { state, campaign, seq_no: None, proposal: None, preview, effects }
}
