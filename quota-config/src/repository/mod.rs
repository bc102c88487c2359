//! The history of plans: every version of every campaign, under its SeqNo, for ever.

mod memory;
mod sql;

pub use memory::MemoryRepository;
pub use sql::SqlRepository;

use crate::bounds::{FILE_BYTES_MAX, REASON_BYTES_MAX};
use crate::seeds::StoredCommitments;
use async_trait::async_trait;
use campaign::{CampaignId, SeqNo};

/// Keeps versions of plans.
///
/// **Durability.** What `reserve` or `activate` has returned from survives a crash of the process and the
/// machine (the memory adapter: as long as the process lives). An error may mean either; both can then be
/// repeated: a second `reserve` takes a further SeqNo, a second `activate` of the same SeqNo is a success.
///
/// **Order.** SeqNos of a campaign are 1, 2, 3 ... in the order of `reserve`. A version is `Reserved` and may then
/// become `Active`, once; nothing else of it ever changes, and nothing is deleted. One that is never activated is
/// an allowed gap. A version is activated only on top of the active one that it was made after
/// ([`Draft::after`]): of two that were made after the same one, the second is refused. So the active SeqNos
/// form one chain, each checked against the one before.
///
/// **Visibility.** `newest` and `heads` name active versions only, and never an older one than they did before.
#[async_trait]
pub trait PlanRepository: Send + Sync {
    /// Stores a version as reserved, and says under which SeqNo.
    async fn reserve(&self, draft: Draft) -> Result<SeqNo, RepositoryError>;

    /// Makes a reserved version the newest active one. Already active: nothing happens.
    async fn activate(&self, campaign: CampaignId, seq_no: SeqNo) -> Result<(), RepositoryError>;

    /// The active version with the highest SeqNo.
    async fn newest(&self, campaign: CampaignId) -> Result<Option<Version>, RepositoryError>;

    /// One version, reserved or active.
    async fn get(&self, campaign: CampaignId, seq_no: SeqNo) -> Result<Option<Version>, RepositoryError>;

    /// All versions by SeqNo, without their source: the newest 10,000.
    async fn all(&self, campaign: CampaignId) -> Result<Vec<VersionInfo>, RepositoryError>;

    /// The newest active SeqNo of each campaign, by campaign. Cheap: this is what is polled.
    async fn heads(&self) -> Result<Vec<(CampaignId, SeqNo)>, RepositoryError>;
}

/// A version before it has a number.
#[derive(Clone, PartialEq, Debug)]
pub struct Draft {
    /// The campaign.
    pub campaign: CampaignId,
    /// The active SeqNo that it was checked against; 0 where there is none.
    pub after: SeqNo,
    /// The file, byte for byte.
    pub source: Vec<u8>,
    /// What relative times count from, ms UTC. Stored, so that the same plan is compiled again.
    pub base_ms: u64,
    /// Commitments of all rounds.
    pub commitments: StoredCommitments,
    /// Who.
    pub author: String,
    /// Why.
    pub reason: String,
    /// When, ms UTC.
    pub at_ms: u64,
}

/// Whether a version has been put into force.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// It has a number and nothing else.
    Reserved,
    /// It is, or was, the plan in force.
    Active,
}

impl State {
    /// Word for files and tables.
    pub fn name(self) -> &'static str {
        match self {
            State::Reserved => "reserved",
            State::Active => "active",
        }
    }
}

/// What a history shows of a version.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VersionInfo {
    /// The campaign.
    pub campaign: CampaignId,
    /// Its number.
    pub seq_no: SeqNo,
    /// The active SeqNo before it; 0 where there was none.
    pub after: SeqNo,
    /// What relative times count from, ms UTC.
    pub base_ms: u64,
    /// SHA-256 of the source.
    pub sha256: [u8; 32],
    /// Who.
    pub author: String,
    /// Why.
    pub reason: String,
    /// When it was reserved, ms UTC.
    pub at_ms: u64,
    /// Reserved or active.
    pub state: State,
}

/// A stored version.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Version {
    /// Everything but the contents.
    pub info: VersionInfo,
    /// The file, byte for byte.
    pub source: Vec<u8>,
    /// Commitments of all rounds.
    pub commitments: StoredCommitments,
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
    /// The draft is too large or lacks something.
    #[error("a version can't be stored: {0}")]
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
    /// The database.
    #[error(transparent)]
    Sql(#[from] storage::SqlError),
}

/// Bounds of what is stored, the same for every adapter.
fn check_draft(draft: &Draft) -> Result<(), RepositoryError> {
    let refuse = |what: String| Err(RepositoryError::Draft(what));
    if draft.source.len() > FILE_BYTES_MAX {
        return refuse(format!("the file has {} bytes; at most {FILE_BYTES_MAX}", draft.source.len()));
    }
    if draft.author.trim().is_empty() {
        return refuse("it names no author".to_string());
    }
    for (what, text) in [("author", &draft.author), ("reason", &draft.reason)] {
        if text.len() > REASON_BYTES_MAX {
            return refuse(format!("its {what} has {} bytes; at most {REASON_BYTES_MAX}", text.len()));
        }
    }
    if i64::try_from(draft.base_ms.max(draft.at_ms)).is_err() {
        return refuse("its times are out of range".to_string());
    }
    Ok(())
}
