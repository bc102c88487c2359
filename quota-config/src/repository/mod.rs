//! The history of plans: every version of every campaign, under its SeqNo, for ever; what waits for a second
//! person; the audit trail of both.

pub(crate) mod check;
mod memory;
mod proposal;
mod sql;
mod types;

pub use memory::MemoryRepository;
pub use proposal::{Decision, Edit, NewProposal, Proposal, ProposalState, Verdict};
pub use sql::SqlRepository;
pub use types::{Approval, Draft, Kind, NodeReport, Remembered, Rollout, State, Version, VersionInfo};

use crate::audit::{AuditEntry, AuditHead, AuditRow};
use async_trait::async_trait;
use campaign::{CampaignId, SeqNo};

/// Keeps versions of plans.
///
/// **Durability.** What a call has returned from survives a crash of the process and the machine (the memory
/// adapter: as long as the process lives). An error may mean either; all calls can then be repeated: a second
/// `reserve` takes a further SeqNo, a second `activate`, `set_grey`, `end_grey`, `propose` or `decide` of the same
/// thing is a success and writes nothing.
///
/// **Order.** SeqNos of a campaign are 1, 2, 3 ... in the order of `reserve`. A version is `Reserved` and may then
/// become `Active` or `Grey`, once, and a grey one `Withdrawn` or `Promoted`; nothing else of it ever changes but
/// a grey one's rollout, and nothing is deleted. One that stays reserved is an allowed gap. A version is
/// activated, or becomes grey, only on top of the active one that it was made after ([`Draft::after`]): of two
/// that were made after the same one, the second is refused. So the active SeqNos form one chain, each checked
/// against the one before. A campaign has at most one grey version, and while it has one only pauses,
/// resumptions, stops, lowerings and its promotion are activated.
///
/// **Two people.** A version that carries out a proposal is put into force only while the proposal waits, and the
/// same step settles it. A proposal is settled once.
///
/// **Trail.** Each change of versions and proposals writes its audit row in the same transaction.
///
/// **Visibility.** `newest` and `heads` name active versions only, and never an older one than they did before.
#[async_trait]
pub trait PlanRepository: Send + Sync {
    /// Stores a version as reserved, and says under which SeqNo.
    async fn reserve(&self, draft: Draft) -> Result<SeqNo, RepositoryError>;

    /// Makes a reserved version the newest active one. Already active: nothing happens. A promotion ends the grey
    /// version that it is of in the same step.
    async fn activate(&self, campaign: CampaignId, seq_no: SeqNo, at_ms: u64) -> Result<(), RepositoryError>;

    /// The active version with the highest SeqNo.
    async fn newest(&self, campaign: CampaignId) -> Result<Option<Version>, RepositoryError>;

    /// One version in whatever state.
    async fn get(&self, campaign: CampaignId, seq_no: SeqNo) -> Result<Option<Version>, RepositoryError>;

    /// All versions by SeqNo, without their contents: the newest 10,000.
    async fn all(&self, campaign: CampaignId) -> Result<Vec<VersionInfo>, RepositoryError>;

    /// The newest active SeqNo of each campaign, by campaign. Cheap: this is what is polled.
    async fn heads(&self) -> Result<Vec<(CampaignId, SeqNo)>, RepositoryError>;

    /// Puts a reserved version out grey, or gives the grey one another rollout. A widened one takes the place of the
    /// grey version that it is of, which is withdrawn in the same step.
    async fn set_grey(
        &self,
        campaign: CampaignId,
        seq_no: SeqNo,
        rollout: Rollout,
        entry: AuditEntry,
    ) -> Result<(), RepositoryError>;

    /// Takes the grey version back. Already withdrawn: nothing happens.
    async fn end_grey(
        &self,
        campaign: CampaignId,
        seq_no: SeqNo,
        entry: AuditEntry,
    ) -> Result<(), RepositoryError>;

    /// The grey version, if one is out.
    async fn grey(&self, campaign: CampaignId) -> Result<Option<(Version, Rollout)>, RepositoryError>;

    /// The grey SeqNos that are out, by campaign. Cheap: this is polled too.
    async fn greys(&self) -> Result<Vec<(CampaignId, SeqNo, Rollout)>, RepositoryError>;

    /// Stores a proposal that waits. The same id again: the one that stands there, unchanged.
    async fn propose(&self, proposal: NewProposal) -> Result<Proposal, RepositoryError>;

    /// Proposals of one campaign or of all, in one state or in any, by time: the newest 1,000, without files.
    async fn proposals(
        &self,
        campaign: Option<CampaignId>,
        state: Option<ProposalState>,
    ) -> Result<Vec<Proposal>, RepositoryError>;

    /// One proposal with its file.
    async fn proposal(&self, id: &str) -> Result<Option<Proposal>, RepositoryError>;

    /// Settles a waiting proposal without putting it into force. Settled the same way before: nothing happens.
    async fn decide(
        &self,
        id: &str,
        verdict: Verdict,
        decision: Decision,
    ) -> Result<Proposal, RepositoryError>;

    /// Writes a row that is about nothing else in here; says its number.
    async fn audit_append(&self, entry: AuditEntry) -> Result<u64, RepositoryError>;

    /// Rows behind number `after`, at most `limit` and never more than 1,000.
    async fn audit(&self, after: u64, limit: usize) -> Result<Vec<AuditRow>, RepositoryError>;

    /// Number and hash of the newest row, as noted beside the trail.
    async fn audit_head(&self) -> Result<AuditHead, RepositoryError>;

    /// The answer given under an idempotency key. It may be more than 24 h old if nothing was remembered since:
    /// whoever asks looks at its time.
    async fn remembered(&self, key: &str) -> Result<Option<Remembered>, RepositoryError>;

    /// Remembers an answer; one that stands under the key and is younger than 24 h stays. Forgets what is older
    /// than 24 h, and the oldest above 10,000.
    async fn remember(&self, answer: Remembered) -> Result<(), RepositoryError>;

    /// Says what a node runs, in place of what it said before.
    async fn report(&self, report: NodeReport) -> Result<(), RepositoryError>;

    /// What each node said last, by node.
    async fn reports(&self) -> Result<Vec<NodeReport>, RepositoryError>;
}

/// Why a repository refuses.
#[derive(Debug, thiserror::Error)]
pub enum RepositoryError {
    /// Another version was activated meanwhile.
    #[error(
        "campaign {campaign}: SeqNo {seq_no} was made after SeqNo {after}, but SeqNo {newest} is active now: \
         make the change again on top of it"
    )]
    Superseded {
        /// The campaign.
        campaign: CampaignId,
        /// What was to be activated.
        seq_no: SeqNo,
        /// What it was made after.
        after: SeqNo,
        /// What is active.
        newest: SeqNo,
    },
    /// No such version.
    #[error("campaign {campaign} has no SeqNo {seq_no}; `history` lists what it has")]
    NotFound {
        /// The campaign.
        campaign: CampaignId,
        /// What was asked for.
        seq_no: SeqNo,
    },
    /// A grey version is in the way.
    #[error(
        "campaign {campaign}: SeqNo {grey} is out grey; until it is promoted or withdrawn only pause, resume, stop \
         and lower change the campaign"
    )]
    GreyOut {
        /// The campaign.
        campaign: CampaignId,
        /// The grey version.
        grey: SeqNo,
    },
    /// The version is not out grey.
    #[error("campaign {campaign}: SeqNo {seq_no} is not out grey")]
    NotGrey {
        /// The campaign.
        campaign: CampaignId,
        /// What was named.
        seq_no: SeqNo,
    },
    /// The version is in a state that does not allow it.
    #[error("campaign {campaign}: SeqNo {seq_no} is {}; it must be {needed}", state.name())]
    Unfit {
        /// The campaign.
        campaign: CampaignId,
        /// The version.
        seq_no: SeqNo,
        /// Its state.
        state: State,
        /// In which state it could be done.
        needed: &'static str,
    },
    /// No such proposal.
    #[error("there is no proposal {0}; `GET /v1/proposals` lists those that wait")]
    NoProposal(String),
    /// The proposal is settled.
    #[error("proposal {id} is {} already", state.name())]
    Decided {
        /// The proposal.
        id: String,
        /// Its state.
        state: ProposalState,
    },
    /// What is to be stored is too large or lacks something.
    #[error("this can't be stored: {0}")]
    Draft(String),
    /// A stored version is not what was stored.
    #[error("campaign {campaign}, SeqNo {seq_no} is damaged in the repository ({what}): restore a backup")]
    Damaged {
        /// The campaign.
        campaign: CampaignId,
        /// The version.
        seq_no: SeqNo,
        /// What does not fit.
        what: &'static str,
    },
    /// A stored proposal is not what was stored.
    #[error("proposal {id} is damaged in the repository ({what}): restore a backup")]
    DamagedProposal {
        /// The proposal.
        id: String,
        /// What does not fit.
        what: &'static str,
    },
    /// A row of the audit trail can't be read.
    #[error("row {n} of the audit trail can't be read ({what})")]
    AuditRow {
        /// Its number; 0 where that is what can't be read.
        n: u64,
        /// What is wrong.
        what: String,
    },
    /// The database.
    #[error(transparent)]
    Sql(#[from] storage::SqlError),
}
