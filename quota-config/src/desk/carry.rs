//! Carrying a change out, step by step.
//!
//! Each step is written down before the next, so a crash between two leaves a SeqNo that is reserved and nothing
//! else, which the history shows; asking again is safe. When somebody else's change comes into force in between,
//! the whole change is prepared anew on top of it.

use super::prepare::Prepared;
use super::{Change, ChangeState, Desk, DeskError, Effect};
use crate::audit::AuditEntry;
use crate::people::{By, Role};
use crate::repository::{
    Approval, Decision, Draft, Edit, NewProposal, Proposal, ProposalState, RepositoryError, Verdict,
};
use campaign::{CampaignId, SeqNo};
use serde_json::json;

/// How often a change is prepared anew because another one came in between. Brakes must get through, so it is far
/// more than people can cause.
pub(super) const TRIES_MAX: usize = 32;

/// Who asks for a change, and who has agreed.
pub(super) struct Asked<'a> {
    pub by: &'a By,
    pub reason: &'a str,
    /// The proposal that is carried out, and the second person's word.
    pub second: Option<(&'a Proposal, Approval)>,
}

/// What putting a version into force came to.
pub(super) enum Step {
    /// It is in force.
    Done,
    /// Something else came in between: prepare anew.
    Again,
}

impl Desk {
    /// Makes a change that one person asks for: at once, or as a proposal where it takes two.
    pub(super) async fn change(
        &self,
        campaign: CampaignId,
        edit: Edit,
        source: Option<&[u8]>,
        (by, reason): (&By, &str),
    ) -> Result<Change, DeskError> {
        allowed(by, Role::Operator, "changing takes an operator")?;
        stated(reason)?;
        let asked = Asked { by, reason, second: None };
        for _ in 0..TRIES_MAX {
            let prepared = self.prepare(campaign, &edit, source, self.clock.now_ms()).await?;
            if !prepared.preview.needs_two.is_empty() {
                return self.propose(prepared, edit, source, by, reason).await;
            }
            let done = match edit {
                Edit::Lower { prize, .. } => self.lower_now(prepared, prize, &asked).await?,
                Edit::Pause { target } | Edit::Stop { target } => {
                    self.pause_now(prepared, target, &asked).await?
                }
                _ => self.plainly(prepared, &asked).await?,
            };
            if let Some(change) = done {
                return Ok(change);
            }
        }
        Err(DeskError::Contended(campaign))
    }

    /// Reserves and puts into force; the ledger hears of it from the nodes.
    async fn plainly(&self, prepared: Prepared, asked: &Asked<'_>) -> Result<Option<Change>, DeskError> {
        if prepared.unchanged && prepared.rollout.is_none() && asked.second.is_none() {
            return Ok(Some(unchanged(prepared, Vec::new())));
        }
        let seq_no = self.repository.reserve(self.draft(&prepared, asked)).await?;
        match self.put_into_force(&prepared, seq_no, asked).await? {
            Step::Done => Ok(Some(in_force(prepared, seq_no, asked, Vec::new()))),
            Step::Again => Ok(None),
        }
    }

    /// Activates a reserved version, or puts it out grey.
    pub(super) async fn put_into_force(
        &self,
        prepared: &Prepared,
        seq_no: SeqNo,
        asked: &Asked<'_>,
    ) -> Result<Step, DeskError> {
        let now_ms = self.clock.now_ms();
        let result = match &prepared.rollout {
            None => self.repository.activate(prepared.campaign, seq_no, now_ms).await,
            Some(rollout) => {
                let detail = json!({"rollout": rollout, "reason": asked.reason});
                let entry = self.entry(asked.by, "grey", prepared.campaign, seq_no, detail);
                self.repository.set_grey(prepared.campaign, seq_no, rollout.clone(), entry).await
            }
        };
        match result {
            Ok(()) => Ok(Step::Done),
            Err(RepositoryError::Superseded { .. }) => Ok(Step::Again),
            Err(e) => Err(e.into()),
        }
    }

    pub(super) fn draft(&self, prepared: &Prepared, asked: &Asked<'_>) -> Draft {
        let (author, role, reason) = match &asked.second {
            Some((proposal, _)) => (proposal.author.clone(), proposal.role, proposal.reason.clone()),
            None => (asked.by.name.clone(), asked.by.role, asked.reason.to_string()),
        };
        let mut approvals = prepared.approvals.clone();
        approvals.extend(asked.second.iter().map(|(_, approval)| approval.clone()));
        Draft {
            campaign: prepared.campaign,
            after: prepared.after,
            kind: prepared.kind,
            of: prepared.of,
            source: prepared.source.clone(),
            adjustments: prepared.adjustments.clone(),
            base_ms: prepared.base_ms,
            commitments: prepared.commitments.clone(),
            author,
            role,
            reason,
            at_ms: self.clock.now_ms(),
            proposal: asked.second.as_ref().map(|(proposal, _)| proposal.id.clone()),
            approvals,
            summary: prepared.preview.summary.clone(),
        }
    }

    pub(super) fn entry(
        &self,
        by: &By,
        action: &str,
        campaign: CampaignId,
        seq_no: SeqNo,
        detail: serde_json::Value,
    ) -> AuditEntry {
        AuditEntry {
            at_ms: self.clock.now_ms(),
            who: by.name.clone(),
            role: by.role,
            action: action.to_string(),
            campaign: Some(campaign),
            seq_no: Some(seq_no),
            detail: detail.to_string(),
        }
    }

    async fn propose(
        &self,
        prepared: Prepared,
        edit: Edit,
        source: Option<&[u8]>,
        by: &By,
        reason: &str,
    ) -> Result<Change, DeskError> {
        let Prepared { campaign, after, preview, .. } = prepared;
        let new = NewProposal {
            id: proposal_id(),
            campaign,
            after,
            edit,
            source: source.map(<[u8]>::to_vec),
            author: by.name.clone(),
            role: by.role,
            reason: reason.to_string(),
            at_ms: self.clock.now_ms(),
            needs_two: preview.needs_two.clone(),
            summary: preview.summary.clone(),
        };
        let proposal = Some(self.repository.propose(new).await?.id);
        let state = ChangeState::Waiting;
        Ok(Change { state, campaign, seq_no: None, proposal, preview, effects: Vec::new() })
    }

    /// Carries out what a second person has agreed to.
    pub(super) async fn approved(&self, id: &str, by: &By, reason: &str) -> Result<Change, DeskError> {
        allowed(by, Role::Approver, "approving takes an approver or admin")?;
        let proposal = self.waiting(id).await?;
        if proposal.author == by.name {
            return Err(DeskError::SamePerson(by.name.clone()));
        }
        for _ in 0..TRIES_MAX {
            self.still_fits(&proposal, by).await?;
            let (edit, source) = (&proposal.edit, proposal.source.as_deref());
            let now_ms = self.clock.now_ms();
            let mut prepared = self.prepare(proposal.campaign, edit, source, now_ms).await?;
            let (name, reason) = (by.name.clone(), reason.to_string());
            let approval = Approval { name, role: by.role, reason: reason.clone(), at_ms: now_ms };
            prepared.preview.needs_two.clear();
            let asked = Asked { by, reason: &reason, second: Some((&proposal, approval)) };
            if let Some(change) = self.plainly(prepared, &asked).await? {
                return Ok(change);
            }
        }
        Err(DeskError::Contended(proposal.campaign))
    }

    async fn waiting(&self, id: &str) -> Result<Proposal, DeskError> {
        let proposal = self.repository.proposal(id).await?;
        let proposal = proposal.ok_or_else(|| RepositoryError::NoProposal(id.to_string()))?;
        match proposal.state {
            ProposalState::Waiting => Ok(proposal),
            state => Err(DeskError::Decided { id: id.to_string(), state }),
        }
    }

    /// Only pauses, resumptions, stops and lowerings may have come into force since the proposal was made: they are taken
    /// over. Anything else and its author looked at another plan than the one that it would change.
    async fn still_fits(&self, proposal: &Proposal, by: &By) -> Result<(), DeskError> {
        let mut seq_no = self.repository.newest(proposal.campaign).await?.map_or(SeqNo(0), |v| v.info.seq_no);
        while seq_no != proposal.after {
            let version = self.repository.get(proposal.campaign, seq_no).await?;
            let Some(info) = version.map(|v| v.info).filter(|i| i.kind.is_brake() && seq_no > proposal.after)
            else {
                let reason = format!("SeqNo {seq_no} came into force meanwhile");
                self.settle(&proposal.id, Verdict::Superseded, by, &reason).await?;
                let (id, after) = (proposal.id.clone(), proposal.after);
                return Err(DeskError::Superseded { id, after, by: seq_no });
            };
            seq_no = info.after;
        }
        Ok(())
    }

    async fn settle(&self, id: &str, verdict: Verdict, by: &By, reason: &str) -> Result<Proposal, DeskError> {
        let decision = Decision {
            name: by.name.clone(),
            role: by.role,
            reason: reason.to_string(),
            at_ms: self.clock.now_ms(),
            seq_no: None,
        };
        match self.repository.decide(id, verdict, decision).await {
            Err(RepositoryError::Decided { id, state }) => Err(DeskError::Decided { id, state }),
            settled => Ok(settled?),
        }
    }

    /// Refuses a proposal; its author may take it back.
    pub(super) async fn rejected(&self, id: &str, by: &By, reason: &str) -> Result<Change, DeskError> {
        let proposal = self.waiting(id).await?;
        if proposal.author != by.name {
            allowed(by, Role::Approver, "rejecting takes an approver or admin")?;
        }
        let settled = self.settle(id, Verdict::Rejected, by, reason).await?;
        let preview = super::Preview {
            needs_two: settled.needs_two,
            ..super::Preview::of(settled.campaign, settled.after, settled.summary)
        };
        let (state, proposal) = (ChangeState::Rejected, Some(settled.id));
        Ok(Change { state, campaign: settled.campaign, seq_no: None, proposal, preview, effects: Vec::new() })
    }
}

/// The answer for what was so already.
pub(super) fn unchanged(prepared: Prepared, effects: Vec<Effect>) -> Change {
    let Prepared { campaign, after, preview, .. } = prepared;
    let state = ChangeState::Unchanged;
    Change { state, campaign, seq_no: Some(after), proposal: None, preview, effects }
}

/// The answer for what is in force.
pub(super) fn in_force(prepared: Prepared, seq_no: SeqNo, asked: &Asked<'_>, effects: Vec<Effect>) -> Change {
    let state = if prepared.rollout.is_some() { ChangeState::Grey } else { ChangeState::Active };
    let proposal = asked.second.as_ref().map(|(proposal, _)| proposal.id.clone());
    let Prepared { campaign, preview, .. } = prepared;
    Change { state, campaign, seq_no: Some(seq_no), proposal, preview, effects }
}

/// Whether the person's role suffices.
pub(super) fn allowed(by: &By, least: Role, needed: &'static str) -> Result<(), DeskError> {
    if by.role >= least {
        return Ok(());
    }
    Err(DeskError::NotAllowed { name: by.name.clone(), role: by.role, needed })
}

/// Every change says why.
pub(super) fn stated(reason: &str) -> Result<(), DeskError> {
    if reason.trim().is_empty() {
        return Err(DeskError::Refused("say why: every change has a reason".to_string()));
    }
    Ok(())
}

/// `p-` and 12 letters and digits of Crockford's base32, at random: 60 bits.
fn proposal_id() -> String {
    const DIGITS: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
    let mut random = [0; 12];
    // Without randomness the system is not fit to run; ids would repeat and `propose` would find the older one.
    getrandom::fill(&mut random).unwrap_or_else(|e| panic!("the system gives no random numbers: {e}"));
    let digits = random.iter().map(|byte| char::from(DIGITS[usize::from(byte & 31)]));
    "p-".chars().chain(digits).collect()
}
