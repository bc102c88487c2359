//! Finding what a change has made whose answer was lost.
//!
//! The marker of a change says how far the campaign's history was. What came behind it, by the same person, with the
//! same reason, of the same kind and with the same contents, is what the change has made: the version that it put
//! into force, the proposal that it left, the proposal that it settled.

use crate::problem::Problem;
use campaign::{CampaignId, SeqNo};
use quota_config::{
    Adjustments, By, Change, ChangeState, Desk, Edit, Effect, Kind, Preview, Proposal, ProposalState,
    RateTarget, State, Version,
};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// What a change would have left behind.
pub(crate) enum Sought {
    /// A version or a proposal, of an edit.
    Edit {
        /// The campaign; for files, if the file names one.
        campaign: Option<CampaignId>,
        /// The edit.
        edit: Edit,
        /// SHA-256 of its file.
        sha256: Option<[u8; 32]>,
        /// Why.
        reason: String,
    },
    /// A proposal that is settled.
    Decision {
        /// Which.
        id: String,
        /// How.
        state: ProposalState,
    },
    /// The end of the grey version.
    Withdrawal(CampaignId),
    /// Nothing: doing it again is the same as doing it once.
    Nothing,
}

/// Says that a change has begun, and what there was then.
#[derive(Serialize, Deserialize)]
pub(crate) struct Marker {
    /// The run of the program.
    pub instance: String,
    at_ms: u64,
    /// Highest SeqNo of the campaign.
    versions: u64,
    /// The grey version that was out.
    grey: Option<u64>,
}

impl Marker {
    pub async fn now(desk: &Desk, instance: &str, sought: &Sought, at_ms: u64) -> Result<Marker, Problem> {
        let campaign = match sought {
            Sought::Edit { campaign, .. } => *campaign,
            Sought::Withdrawal(campaign) => Some(*campaign),
            Sought::Decision { .. } | Sought::Nothing => None,
        };
        let mut marker = Marker { instance: instance.to_string(), at_ms, versions: 0, grey: None };
        if let Some(campaign) = campaign {
            let all = desk.repository().all(campaign).await?;
            marker.versions = all.last().map_or(0, |info| info.seq_no.0);
            marker.grey = desk.grey_out(campaign).await?.map(|grey| grey.seq_no.0);
        }
        Ok(marker)
    }

    /// What the change has made, if it has.
    pub async fn made(&self, desk: &Desk, by: &By, sought: &Sought) -> Result<Option<Change>, Problem> {
        match sought {
            Sought::Nothing | Sought::Edit { campaign: None, .. } => Ok(None),
            Sought::Decision { id, state } => self.decision(desk, by, id, *state).await,
            Sought::Withdrawal(campaign) => self.withdrawal(desk, *campaign).await,
            Sought::Edit { campaign: Some(campaign), edit, sha256, reason } => {
                let wanted = Wanted { campaign: *campaign, edit, sha256: *sha256, reason, by };
                match self.version(desk, &wanted).await? {
                    Some(change) => Ok(Some(change)),
                    None => self.proposal(desk, &wanted).await,
                }
            }
        }
    }

    async fn version(&self, desk: &Desk, wanted: &Wanted<'_>) -> Result<Option<Change>, Problem> {
        let all = desk.repository().all(wanted.campaign).await?;
        let candidates = all.into_iter().filter(|info| {
            info.seq_no.0 > self.versions
                && info.at_ms >= self.at_ms
                && info.state != State::Reserved
                && (info.kind == wanted.edit.kind() || info.kind == Kind::Widen && wanted.is_grey())
                && info.author == wanted.by.name
                && info.reason == wanted.reason
                && info.proposal.is_none()
        });
        for info in candidates {
            let version = desk.repository().get(wanted.campaign, info.seq_no).await?;
            let before = desk.repository().get(wanted.campaign, info.after).await?;
            let Some(version) = version.filter(|version| self.fits(version, before.as_ref(), wanted)) else {
                continue;
            };
            let was_grey = matches!(version.info.state, State::Grey | State::Withdrawn | State::Promoted);
            let state = if was_grey { ChangeState::Grey } else { ChangeState::Active };
            return in_force(desk, wanted.campaign, info.seq_no, state, None).await.map(Some);
        }
        Ok(None)
    }

    /// Whether a version has what the edit makes.
    fn fits(&self, version: &Version, before: Option<&Version>, wanted: &Wanted<'_>) -> bool {
        let (now, was) = (&version.adjustments, before.map(|b| &b.adjustments));
        match wanted.edit {
            Edit::File { .. } => Some(version.info.sha256) == wanted.sha256,
            Edit::Rollback { to } => version.info.of == Some(*to),
            Edit::Promote => version.info.of.map(|of| of.0) == self.grey,
            Edit::Pause { target } => now.paused.contains(target),
            Edit::Stop { target } => now.stopped.contains(target),
            Edit::Resume { target } => {
                !now.paused.contains(target) && was.is_some_and(|was| was.paused.contains(target))
            }
            Edit::Lower { prize, .. } => {
                let before = was.and_then(|was| was.lowered.get(prize)).copied().unwrap_or(0);
                now.lowered.get(prize).is_some_and(|units| *units > before)
            }
            Edit::Rate { target: RateTarget::Prize(at), per_second } => {
                now.speeds.get(at) == Some(per_second)
            }
            Edit::Rate { target: RateTarget::Vendor(id), per_second } => {
                now.vendor_speeds.get(id) == Some(per_second)
            }
            Edit::RateOfFile { target } => {
                let set = |a: &Adjustments| match target {
                    RateTarget::Prize(at) => a.speeds.contains_key(at),
                    RateTarget::Vendor(id) => a.vendor_speeds.contains_key(id),
                };
                !set(now) && was.is_some_and(set)
            }
            Edit::Weight { prize, weight } => now.weights.get(prize) == Some(weight),
        }
    }

    async fn proposal(&self, desk: &Desk, wanted: &Wanted<'_>) -> Result<Option<Change>, Problem> {
        for proposal in desk.proposals(Some(wanted.campaign), None).await? {
            let same = proposal.at_ms >= self.at_ms
                && proposal.author == wanted.by.name
                && proposal.reason == wanted.reason
                && proposal.edit == *wanted.edit;
            if !same {
                continue;
            }
            let whole = desk.proposal(&proposal.id).await?;
            let sha256 = whole.source.as_ref().map(|source| <[u8; 32]>::from(Sha256::digest(source)));
            if sha256 == wanted.sha256 {
                return Ok(Some(waits(whole)));
            }
        }
        Ok(None)
    }

    async fn decision(
        &self,
        desk: &Desk,
        by: &By,
        id: &str,
        state: ProposalState,
    ) -> Result<Option<Change>, Problem> {
        let Some(proposal) = desk.repository().proposal(id).await? else { return Ok(None) };
        let Some(decision) = proposal.decision.clone() else { return Ok(None) };
        if proposal.state != state || decision.name != by.name || decision.at_ms < self.at_ms {
            return Ok(None);
        }
        match decision.seq_no {
            Some(seq_no) => {
                let is_grey = matches!(proposal.edit, Edit::File { rollout: Some(_) });
                let state = if is_grey { ChangeState::Grey } else { ChangeState::Active };
                in_force(desk, proposal.campaign, seq_no, state, Some(proposal.id)).await.map(Some)
            }
            None => Ok(Some(Change { state: ChangeState::Rejected, ..waits(proposal) })),
        }
    }

    async fn withdrawal(&self, desk: &Desk, campaign: CampaignId) -> Result<Option<Change>, Problem> {
        let Some(seq_no) = self.grey.map(SeqNo) else { return Ok(None) };
        let version = desk.repository().get(campaign, seq_no).await?;
        if version.is_none_or(|version| version.info.state != State::Withdrawn) {
            return Ok(None);
        }
        let base = desk.repository().newest(campaign).await?.map_or(SeqNo(0), |v| v.info.seq_no);
        let preview = Preview::of(campaign, base, vec![format!("grey SeqNo {seq_no} was withdrawn")]);
        let (state, seq_no) = (ChangeState::Withdrawn, Some(seq_no));
        Ok(Some(Change { state, campaign, seq_no, proposal: None, preview, effects: Vec::new() }))
    }
}

struct Wanted<'a> {
    campaign: CampaignId,
    edit: &'a Edit,
    sha256: Option<[u8; 32]>,
    reason: &'a str,
    by: &'a By,
}

impl Wanted<'_> {
    /// Whether it puts a file out grey: the file of the version that is out makes a further one of it.
    fn is_grey(&self) -> bool {
        matches!(self.edit, Edit::File { rollout: Some(_) })
    }
}

/// The answer for a version that a change has put into force before.
async fn in_force(
    desk: &Desk,
    campaign: CampaignId,
    seq_no: SeqNo,
    state: ChangeState,
    proposal: Option<String>,
) -> Result<Change, Problem> {
    let preview = desk.show(campaign, seq_no).await?.preview;
    let what = "this was done before; what the ledger answered then is lost, `status` shows how it stands";
    let effect = Effect { prize: None, what: what.into(), effective_units: None, taken: None, done: true };
    Ok(Change { state, campaign, seq_no: Some(seq_no), proposal, preview, effects: vec![effect] })
}

/// The answer for a proposal that a change has left before.
fn waits(proposal: Proposal) -> Change {
    let preview = Preview {
        needs_two: proposal.needs_two,
        ..Preview::of(proposal.campaign, proposal.after, proposal.summary)
    };
    let (state, campaign) = (ChangeState::Waiting, proposal.campaign);
    Change { state, campaign, seq_no: None, proposal: Some(proposal.id), preview, effects: Vec::new() }
}
