//! Changes that wait for a second person.

use crate::adjust::{PrizeAt, RateTarget, Target};
use crate::people::Role;
use crate::repository::types::{Kind, Rollout};
use crate::wire;
use campaign::{CampaignId, SeqNo};
use serde::{Deserialize, Serialize};

/// A change as it was asked for: enough to make it again on top of what is active then.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Edit {
    /// Apply a file; its bytes stand beside.
    File {
        /// As a grey version, to these.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        rollout: Option<Rollout>,
    },
    /// Make an earlier version the present one again.
    Rollback {
        /// Which.
        #[serde(with = "wire::seq_no")]
        to: SeqNo,
    },
    /// Pause.
    Pause {
        /// What.
        target: Target,
    },
    /// Let go on what was paused or stopped.
    Resume {
        /// What.
        target: Target,
    },
    /// Stop: like a pause, but going on takes a second person.
    Stop {
        /// What.
        target: Target,
    },
    /// Take units away.
    Lower {
        /// Of which prize.
        prize: PrizeAt,
        /// How many more than were asked to be taken away before; 0: try those again that were still out.
        #[serde(with = "wire::number")]
        units: u64,
    },
    /// Set a speed.
    Rate {
        /// Of what.
        target: RateTarget,
        /// Units a second; 0: no limit.
        per_second: u32,
    },
    /// Let the file's speed count again.
    RateOfFile {
        /// Of what.
        target: RateTarget,
    },
    /// Set a weight.
    Weight {
        /// Of which prize.
        prize: PrizeAt,
        /// The weight.
        weight: u32,
    },
    /// Make the grey version the plan of all.
    Promote,
}

impl Edit {
    /// What kind of version it makes.
    pub fn kind(&self) -> Kind {
        match self {
            Edit::File { .. } => Kind::File,
            Edit::Rollback { .. } => Kind::Rollback,
            Edit::Pause { .. } => Kind::Pause,
            Edit::Resume { .. } => Kind::Resume,
            Edit::Stop { .. } => Kind::Stop,
            Edit::Lower { .. } => Kind::Lower,
            Edit::Rate { .. } | Edit::RateOfFile { .. } => Kind::Rate,
            Edit::Weight { .. } => Kind::Weight,
            Edit::Promote => Kind::Promote,
        }
    }
}

/// A proposal before it is stored.
#[derive(Clone, PartialEq, Debug)]
pub struct NewProposal {
    /// `p-` and 12 letters and digits (Crockford base32, lower case); unique.
    pub id: String,
    /// The campaign.
    pub campaign: CampaignId,
    /// The active SeqNo that it was checked against; 0 where there is none.
    pub after: SeqNo,
    /// The change.
    pub edit: Edit,
    /// The file, where it is one.
    pub source: Option<Vec<u8>>,
    /// Who asks.
    pub author: String,
    /// As what.
    pub role: Role,
    /// Why.
    pub reason: String,
    /// When, ms UTC.
    pub at_ms: u64,
    /// Why it takes two.
    pub needs_two: Vec<String>,
    /// What it changes, in a few lines.
    pub summary: Vec<String>,
}

/// What became of a proposal.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProposalState {
    /// It waits for a second person.
    Waiting,
    /// It was approved, and is in force.
    Approved,
    /// A second person refused, or its author took it back.
    Rejected,
    /// Something else was put into force that it was not checked against.
    Superseded,
}

impl ProposalState {
    /// All of them.
    pub const ALL: [ProposalState; 4] =
        [ProposalState::Waiting, ProposalState::Approved, ProposalState::Rejected, ProposalState::Superseded];

    /// Word for files and tables.
    pub fn name(self) -> &'static str {
        match self {
            ProposalState::Waiting => "waiting",
            ProposalState::Approved => "approved",
            ProposalState::Rejected => "rejected",
            ProposalState::Superseded => "superseded",
        }
    }

    /// The state of a stored word.
    pub fn from_name(name: &str) -> Option<ProposalState> {
        ProposalState::ALL.into_iter().find(|state| state.name() == name)
    }
}

/// A stored proposal.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Proposal {
    /// Its name.
    pub id: String,
    /// The campaign.
    #[serde(with = "wire::campaign_id")]
    pub campaign: CampaignId,
    /// The active SeqNo that it was checked against; 0 where there was none.
    #[serde(with = "wire::seq_no")]
    pub after: SeqNo,
    /// The change.
    pub edit: Edit,
    /// The file, where it is one. Missing in lists.
    #[serde(skip)]
    pub source: Option<Vec<u8>>,
    /// Who asks.
    pub author: String,
    /// As what.
    pub role: Role,
    /// Why.
    pub reason: String,
    /// When, ms UTC.
    #[serde(with = "wire::number")]
    pub at_ms: u64,
    /// Why it takes two.
    pub needs_two: Vec<String>,
    /// What it changes, in a few lines.
    pub summary: Vec<String>,
    /// Where it stands.
    pub state: ProposalState,
    /// How it was settled.
    pub decision: Option<Decision>,
}

/// How a proposal is settled without being put into force. Approving happens with the version that carries it
/// out, in one step ([`Draft::proposal`](super::Draft::proposal)).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Refused, or taken back.
    Rejected,
    /// Overtaken.
    Superseded,
}

/// How a proposal was settled.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Decision {
    /// Who.
    pub name: String,
    /// As what.
    pub role: Role,
    /// Why.
    pub reason: String,
    /// When, ms UTC.
    #[serde(with = "wire::number")]
    pub at_ms: u64,
    /// The SeqNo that it became.
    #[serde(with = "wire::seq_no_opt")]
    pub seq_no: Option<SeqNo>,
}

impl NewProposal {
    /// The proposal that waits.
    pub(super) fn into_proposal(self) -> Proposal {
        Proposal {
            id: self.id,
            campaign: self.campaign,
            after: self.after,
            edit: self.edit,
            source: self.source,
            author: self.author,
            role: self.role,
            reason: self.reason,
            at_ms: self.at_ms,
            needs_two: self.needs_two,
            summary: self.summary,
            state: ProposalState::Waiting,
            decision: None,
        }
    }
}
