//! Grey versions after they went out: another share, and back.
//!
//! The ledger knows one set of speeds for each SeqNo, and a grey version's speeds count by its share. So each change of
//! the share is a further version with the same contents, which takes the place of the one that is out; and taking a
//! grey version back says the active one again, under a number above all that the ledger has heard.

use super::carry::{allowed, stated};
use super::{Change, ChangeState, Desk, DeskError, Preview};
use crate::people::{By, Role};
use crate::repository::{Draft, Edit, Kind, RepositoryError, Rollout, Version};
use campaign::{CampaignId, SeqNo};
use serde_json::json;

/// How often another share is tried anew because a brake came into force in between.
const TRIES_MAX: usize = 32;

impl Desk {
    /// Gives the grey version that is out another rollout, as a further SeqNo. If two people put it out, one widens it.
    ///
    /// # Errors
    /// When none is out.
    pub async fn grey(
        &self,
        campaign: CampaignId,
        rollout: Rollout,
        by: &By,
        reason: &str,
    ) -> Result<Change, DeskError> {
        allowed(by, Role::Operator, "changing takes an operator")?;
        stated(reason)?;
        for _ in 0..TRIES_MAX {
            let (version, standing) = self.out(campaign).await?;
            let before = version.info.seq_no;
            let what = format!("goes to {rollout} instead of {standing}");
            if rollout == standing {
                return self.about_grey((campaign, before), ChangeState::Unchanged, what).await;
            }
            let seq_no = self.repository.reserve(self.widened(version, &what, by, reason).await?).await?;
            let detail = json!({
                "rollout": rollout, "before": standing, "instead_of": before.to_string(), "reason": reason
            });
            let entry = self.entry(by, "grey", campaign, seq_no, detail);
            match self.repository.set_grey(campaign, seq_no, rollout.clone(), entry).await {
                Ok(()) => return self.about_grey((campaign, seq_no), ChangeState::Grey, what).await,
                Err(RepositoryError::Superseded { .. }) => {}
                Err(e) => return Err(e.into()),
            }
        }
        Err(DeskError::Contended(campaign))
    }

    /// The grey version once more, on top of what is active now.
    async fn widened(&self, grey: Version, what: &str, by: &By, reason: &str) -> Result<Draft, DeskError> {
        let info = grey.info;
        let active = self.repository.newest(info.campaign).await?;
        // What was paused, stopped or lowered while it was out stays so under its next number.
        let adjustments = match &active {
            Some(active) => grey.adjustments.with_brakes_of(&active.adjustments),
            None => grey.adjustments,
        };
        Ok(Draft {
            campaign: info.campaign,
            after: active.map_or(info.after, |active| active.info.seq_no),
            kind: Kind::Widen,
            of: Some(info.seq_no),
            source: grey.source,
            adjustments,
            base_ms: info.base_ms,
            commitments: grey.commitments,
            author: by.name.clone(),
            role: by.role,
            reason: reason.to_string(),
            at_ms: self.clock.now_ms(),
            proposal: None,
            approvals: info.approvals,
            summary: vec![format!("grey SeqNo {} {what}", info.seq_no)],
        })
    }

    /// Takes the grey version back: everybody has the active one again.
    ///
    /// # Errors
    /// When none is out.
    pub async fn withdraw(&self, campaign: CampaignId, by: &By, reason: &str) -> Result<Change, DeskError> {
        allowed(by, Role::Operator, "changing takes an operator")?;
        stated(reason)?;
        let (version, rollout) = self.out(campaign).await?;
        let seq_no = version.info.seq_no;
        let entry = self.entry(by, "withdraw", campaign, seq_no, json!({"reason": reason}));
        self.repository.end_grey(campaign, seq_no, entry).await?;
        self.say_again(campaign, by, reason).await?;
        let what = format!("no longer goes to {rollout}");
        self.about_grey((campaign, seq_no), ChangeState::Withdrawn, what).await
    }

    /// Says the active version again under a further number: the ledger has heard the grey version's speeds under the
    /// one before, and takes only what is newer.
    pub(super) async fn say_again(
        &self,
        campaign: CampaignId,
        by: &By,
        reason: &str,
    ) -> Result<(), DeskError> {
        let Some(active) = self.repository.newest(campaign).await? else { return Ok(()) };
        let again = Edit::Rollback { to: active.info.seq_no };
        self.change(campaign, again, None, (by, reason)).await.map(|_| ())
    }

    async fn out(&self, campaign: CampaignId) -> Result<(Version, Rollout), DeskError> {
        let grey = self.repository.grey(campaign).await?;
        grey.ok_or_else(|| DeskError::Refused(format!("campaign {campaign} has no grey version out")))
    }

    /// The answer to what happened to a grey version.
    async fn about_grey(
        &self,
        (campaign, seq_no): (CampaignId, SeqNo),
        state: ChangeState,
        what: String,
    ) -> Result<Change, DeskError> {
        let base = self.repository.newest(campaign).await?;
        let base = base.ok_or(RepositoryError::NotFound { campaign, seq_no })?;
        let preview = Preview::of(campaign, base.info.seq_no, vec![format!("grey SeqNo {seq_no} {what}")]);
        let seq_no = Some(seq_no);
        Ok(Change { state, campaign, seq_no, proposal: None, preview, effects: Vec::new() })
    }
}
