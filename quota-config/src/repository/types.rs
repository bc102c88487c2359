//! What a repository keeps: versions, and what a history shows of them.

use crate::adjust::Adjustments;
use crate::desk::NodePlan;
use crate::people::Role;
use crate::seeds::StoredCommitments;
use crate::wire;
use campaign::{CampaignId, NodeId, SeqNo};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::collections::BTreeSet;

/// What kind of change made a version.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A file was applied.
    File,
    /// An earlier version was made the present one again.
    Rollback,
    /// Something was paused.
    Pause,
    /// Something paused or stopped goes on.
    Resume,
    /// Something was stopped.
    Stop,
    /// Units were taken away.
    Lower,
    /// A speed was set.
    Rate,
    /// A weight was set.
    Weight,
    /// A grey version became the plan of all.
    Promote,
    /// A grey version goes to another share.
    Widen,
}

impl Kind {
    /// All of them.
    pub const ALL: [Kind; 10] = [
        Kind::File,
        Kind::Rollback,
        Kind::Pause,
        Kind::Resume,
        Kind::Stop,
        Kind::Lower,
        Kind::Rate,
        Kind::Weight,
        Kind::Promote,
        Kind::Widen,
    ];

    /// Word for files and tables.
    pub fn name(self) -> &'static str {
        match self {
            Kind::File => "file",
            Kind::Rollback => "rollback",
            Kind::Pause => "pause",
            Kind::Resume => "resume",
            Kind::Stop => "stop",
            Kind::Lower => "lower",
            Kind::Rate => "rate",
            Kind::Weight => "weight",
            Kind::Promote => "promote",
            Kind::Widen => "widen",
        }
    }

    /// The kind of a stored word.
    pub fn from_name(name: &str) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// Whether it only pauses, resumes, stops or takes away: such a change may pass one that waits for a second
    /// person, and may be made while a grey version is out, for both take it over.
    pub fn is_brake(self) -> bool {
        matches!(self, Kind::Pause | Kind::Resume | Kind::Stop | Kind::Lower)
    }
}

/// Where a version stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// It has a number and nothing else: a change under way, or one that came to nothing.
    Reserved,
    /// It is, or was, the plan in force.
    Active,
    /// It is in force for a share of users or for named nodes.
    Grey,
    /// It was grey and was taken back, or is grey under a further SeqNo.
    Withdrawn,
    /// It was grey and became the plan of all, under a further SeqNo.
    Promoted,
}

impl State {
    /// All of them.
    pub const ALL: [State; 5] =
        [State::Reserved, State::Active, State::Grey, State::Withdrawn, State::Promoted];

    /// Word for files and tables.
    pub fn name(self) -> &'static str {
        match self {
            State::Reserved => "reserved",
            State::Active => "active",
            State::Grey => "grey",
            State::Withdrawn => "withdrawn",
            State::Promoted => "promoted",
        }
    }

    /// The state of a stored word.
    pub fn from_name(name: &str) -> Option<State> {
        State::ALL.into_iter().find(|state| state.name() == name)
    }
}

/// A second person's word.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Approval {
    /// Who.
    pub name: String,
    /// As what.
    pub role: Role,
    /// Why.
    pub reason: String,
    /// When, ms UTC.
    #[serde(with = "wire::number")]
    pub at_ms: u64,
}

/// To whom a grey version goes: a share of all users, and everybody on named nodes. Which users are in a share is the
/// draw's to say (`lottery::grey`): nothing else decides it.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rollout {
    /// Share of users, in thousandths: 10 is one per cent.
    pub users_per_mille: u16,
    /// Numbers of nodes on which it is the plan of everybody.
    pub nodes: BTreeSet<u16>,
}

impl Rollout {
    /// Whether the node is named.
    pub fn has_node(&self, node: NodeId) -> bool {
        self.nodes.contains(&node.0)
    }
}

impl std::fmt::Display for Rollout {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.users_per_mille > 0 {
            write!(f, "{} of 1000 users", self.users_per_mille)?;
        }
        if !self.nodes.is_empty() {
            let and = if self.users_per_mille > 0 { " and " } else { "" };
            let nodes: Vec<String> = self.nodes.iter().map(u16::to_string).collect();
            write!(f, "{and}nodes {}", nodes.join(", "))?;
        }
        Ok(())
    }
}

/// A version before it has a number.
#[derive(Clone, PartialEq, Debug)]
pub struct Draft {
    /// The campaign.
    pub campaign: CampaignId,
    /// The active SeqNo that it was checked against; 0 where there is none.
    pub after: SeqNo,
    /// What makes it.
    pub kind: Kind,
    /// The version that it takes its contents from: a rollback, or the grey one that is promoted or widened.
    pub of: Option<SeqNo>,
    /// The file, byte for byte.
    pub source: Vec<u8>,
    /// What lies over the file.
    pub adjustments: Adjustments,
    /// What relative times count from, ms UTC. Stored, so that the same plan is compiled again.
    pub base_ms: u64,
    /// Commitments of all rounds.
    pub commitments: StoredCommitments,
    /// Who.
    pub author: String,
    /// As what.
    pub role: Role,
    /// Why.
    pub reason: String,
    /// When, ms UTC.
    pub at_ms: u64,
    /// The proposal that it carries out. It is then put into force only while that one waits, and that settles it.
    pub proposal: Option<String>,
    /// Who agreed.
    pub approvals: Vec<Approval>,
    /// What it changes, in a few lines.
    pub summary: Vec<String>,
}

/// What a history shows of a version.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct VersionInfo {
    /// The campaign.
    #[serde(with = "wire::campaign_id")]
    pub campaign: CampaignId,
    /// Its number.
    #[serde(with = "wire::seq_no")]
    pub seq_no: SeqNo,
    /// The active SeqNo before it; 0 where there was none.
    #[serde(with = "wire::seq_no")]
    pub after: SeqNo,
    /// What made it.
    pub kind: Kind,
    /// The version that it took its contents from: a rollback, or the grey one that was promoted or widened.
    #[serde(with = "wire::seq_no_opt")]
    pub of: Option<SeqNo>,
    /// What relative times count from, ms UTC.
    #[serde(with = "wire::number")]
    pub base_ms: u64,
    /// SHA-256 of the source.
    #[serde(with = "wire::sha256")]
    pub sha256: [u8; 32],
    /// Who.
    pub author: String,
    /// As what.
    pub role: Role,
    /// Why.
    pub reason: String,
    /// When it was reserved, ms UTC.
    #[serde(with = "wire::number")]
    pub at_ms: u64,
    /// The proposal that it carries out.
    pub proposal: Option<String>,
    /// Who agreed.
    pub approvals: Vec<Approval>,
    /// What it changes, in a few lines.
    pub summary: Vec<String>,
    /// Where it stands.
    pub state: State,
}

/// A stored version.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Version {
    /// Everything but the contents.
    pub info: VersionInfo,
    /// The file, byte for byte.
    pub source: Vec<u8>,
    /// What lies over the file.
    pub adjustments: Adjustments,
    /// Commitments of all rounds.
    pub commitments: StoredCommitments,
}

impl Draft {
    /// The version that it becomes under a number.
    pub(super) fn into_version(self, seq_no: SeqNo) -> Version {
        let info = VersionInfo {
            campaign: self.campaign,
            seq_no,
            after: self.after,
            kind: self.kind,
            of: self.of,
            base_ms: self.base_ms,
            sha256: Sha256::digest(&self.source).into(),
            author: self.author,
            role: self.role,
            reason: self.reason,
            at_ms: self.at_ms,
            proposal: self.proposal,
            approvals: self.approvals,
            summary: self.summary,
            state: State::Reserved,
        };
        let (source, adjustments, commitments) = (self.source, self.adjustments, self.commitments);
        Version { info, source, adjustments, commitments }
    }
}

/// An answer of the admin API that was given before, under its idempotency key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Remembered {
    /// The key, made unique by whoever asks (with the caller's name in it, for instance).
    pub key: String,
    /// SHA-256 of what was asked.
    pub request_sha256: [u8; 32],
    /// HTTP status of the answer.
    pub status: u16,
    /// Its content type.
    pub content_type: String,
    /// Its body.
    pub body: Vec<u8>,
    /// When, ms UTC.
    pub at_ms: u64,
}

/// What a node runs, as it says itself, for whoever looks from another process.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NodeReport {
    /// The node.
    pub node: u16,
    /// When it said so, ms UTC by its own clock.
    pub at_ms: u64,
    /// Its versions, by campaign.
    pub plans: Vec<NodePlan>,
}
