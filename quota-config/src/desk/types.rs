//! What the desk answers, and why it refuses.

use super::operations::OperationError;
use crate::adjust::{Adjustments, PrizeAt, Target};
use crate::diff::{DiffEntry, Exhaustion};
use crate::people::Role;
use crate::problem::Problems;
use crate::publish::PublishError;
use crate::repository::{ProposalState, RepositoryError, Rollout, VersionInfo};
use crate::wire;
use campaign::{CampaignId, Plan, SeqNo, VendorId};
use serde::Serialize;

/// What a change would do.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Preview {
    /// The campaign.
    #[serde(with = "wire::campaign_id")]
    pub campaign: CampaignId,
    /// The active version that it is held against; 0: there is none.
    #[serde(with = "wire::seq_no")]
    pub base_seq_no: SeqNo,
    /// What differs, place by place.
    pub diff: Vec<DiffEntry>,
    /// Differences that the list has no room for.
    #[serde(with = "wire::number")]
    pub diff_left_out: u64,
    /// The difference for people, the most important first.
    pub summary: Vec<String>,
    /// Prizes that will run out at another time than without the change.
    pub exhaustion: Vec<Exhaustion>,
    /// What is legal and looks like a slip, and what of earlier adjustments is dropped.
    pub warnings: Vec<String>,
    /// Why it takes a second person; empty: one suffices.
    pub needs_two: Vec<String>,
}

impl Preview {
    /// A preview of which these lines say everything.
    pub fn of(campaign: CampaignId, base_seq_no: SeqNo, summary: Vec<String>) -> Preview {
        Preview {
            campaign,
            base_seq_no,
            diff: Vec::new(),
            diff_left_out: 0,
            summary,
            exhaustion: Vec::new(),
            warnings: Vec::new(),
            needs_two: Vec::new(),
        }
    }
}

/// What came of a change.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ChangeState {
    /// It is in force.
    Active,
    /// It waits for a second person.
    Waiting,
    /// It is out grey.
    Grey,
    /// A grey version was taken back.
    Withdrawn,
    /// A proposal was rejected.
    Rejected,
    /// It was so already.
    Unchanged,
    /// Nothing was done: this is what would be.
    DryRun,
}

/// The answer to a change.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Change {
    /// What came of it.
    pub state: ChangeState,
    /// The campaign.
    #[serde(with = "wire::campaign_id")]
    pub campaign: CampaignId,
    /// The version that it made, or that is in force unchanged.
    #[serde(with = "wire::seq_no_opt")]
    pub seq_no: Option<SeqNo>,
    /// The proposal that waits, or that it settled.
    pub proposal: Option<String>,
    /// What it changes.
    pub preview: Preview,
    /// What the platform did at once, prize by prize; what it could not do among it.
    pub effects: Vec<Effect>,
}

/// What the platform did at once.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Effect {
    /// The prize.
    pub prize: Option<PrizeAt>,
    /// In words.
    pub what: String,
    /// Its budget now, as the ledger answered.
    #[serde(with = "wire::number_opt")]
    pub effective_units: Option<u64>,
    /// Units that were taken away by this.
    #[serde(with = "wire::number_opt")]
    pub taken: Option<u64>,
    /// Whether it was done.
    pub done: bool,
}

/// A campaign in a list.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct CampaignInfo {
    /// The campaign.
    #[serde(with = "wire::campaign_id")]
    pub campaign: CampaignId,
    /// Its name; empty where its version does not compile.
    pub name: String,
    /// The active version.
    #[serde(with = "wire::seq_no")]
    pub seq_no: SeqNo,
    /// The grey one, if one is out.
    pub grey: Option<GreyInfo>,
    /// Rounds.
    pub rounds: usize,
    /// Where it is by its clock.
    pub state: Phase,
}

/// A grey version in a list.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct GreyInfo {
    /// The version.
    #[serde(with = "wire::seq_no")]
    pub seq_no: SeqNo,
    /// To whom it goes.
    pub rollout: Rollout,
}

/// Where a campaign is by its clock.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// No round has opened.
    Announced,
    /// A round is open.
    Open,
    /// Between rounds.
    Between,
    /// The last round has closed.
    Over,
    /// Its stored version does not compile.
    Broken,
}

/// One version with everything.
#[derive(Clone, PartialEq, Debug)]
pub struct Shown {
    /// What the history shows of it.
    pub info: VersionInfo,
    /// The file, byte for byte.
    pub source: Vec<u8>,
    /// What lies over the file.
    pub adjustments: Adjustments,
    /// The plan that both make.
    pub plan: Plan,
    /// What it changes of the version that it was made after.
    pub preview: Preview,
}

/// Delivery's pace towards a vendor, as it was set.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub struct VendorLimit {
    /// The vendor.
    #[serde(with = "wire::vendor_id")]
    pub vendor: VendorId,
    /// Sends a second at most, 0: none; `None`: as many as the platform is configured to.
    pub per_second: Option<u32>,
}

/// Why the desk refuses. Nothing is in force then that was not before, unless it says so.
#[derive(Debug, thiserror::Error)]
pub enum DeskError {
    /// The file is wrong.
    #[error("{0}")]
    File(Problems),
    /// A stored version that was accepted once does not compile any more.
    #[error("campaign {campaign}, SeqNo {seq_no} does not compile:\n{problems}")]
    Stored {
        /// The campaign.
        campaign: CampaignId,
        /// The version.
        seq_no: SeqNo,
        /// What is wrong.
        problems: Problems,
    },
    /// No such campaign.
    #[error("there is no campaign {0}; apply its file first")]
    NoCampaign(CampaignId),
    /// The plan has no such thing.
    #[error("campaign {campaign}, SeqNo {seq_no} has no {what}")]
    NoTarget {
        /// The campaign.
        campaign: CampaignId,
        /// The active version.
        seq_no: SeqNo,
        /// What was named.
        what: String,
    },
    /// What was asked for contradicts what is.
    #[error("{0}")]
    Refused(String),
    /// Resuming what is not paused by itself.
    #[error("{target} is not paused by itself{because}")]
    NotPaused {
        /// What was named.
        target: Target,
        /// What does pause it, if anything.
        because: String,
    },
    /// The person may not do that.
    #[error("{name} is {role}: {needed}")]
    NotAllowed {
        /// Who.
        name: String,
        /// As what.
        role: Role,
        /// Who could.
        needed: &'static str,
    },
    /// The author of a proposal can't be its second person.
    #[error("{0} made this change: another person, approver or admin, must approve it")]
    SamePerson(String),
    /// Another change is in force that the proposal was not checked against.
    #[error(
        "proposal {id} is superseded: SeqNo {by} came into force after SeqNo {after}, which it was checked \
         against; make it again"
    )]
    Superseded {
        /// The proposal.
        id: String,
        /// What it was made after.
        after: SeqNo,
        /// What came between.
        by: SeqNo,
    },
    /// The proposal is settled.
    #[error("proposal {id} is {} already", state.name())]
    Decided {
        /// The proposal.
        id: String,
        /// Its state.
        state: ProposalState,
    },
    /// Too many others changed the campaign at the same moment.
    #[error(
        "campaign {0} is changed by others again and again; nothing of this was put into force: try again"
    )]
    Contended(CampaignId),
    /// The platform did not do its part. The SeqNo that was reserved stays a gap; asking again is safe.
    #[error("SeqNo {seq_no} was reserved and not put into force: {error}")]
    Operation {
        /// The number.
        seq_no: SeqNo,
        /// What went wrong.
        error: OperationError,
    },
    /// The platform did not answer a question.
    #[error(transparent)]
    Platform(#[from] OperationError),
    /// The repository.
    #[error(transparent)]
    Repository(#[from] RepositoryError),
}

impl From<PublishError> for DeskError {
    fn from(error: PublishError) -> DeskError {
        match error {
            PublishError::File(problems) => DeskError::File(problems),
            PublishError::Before { campaign, seq_no, problems } => {
                DeskError::Stored { campaign, seq_no, problems }
            }
            PublishError::Repository(error) => DeskError::Repository(error),
        }
    }
}
