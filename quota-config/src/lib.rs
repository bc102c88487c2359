//! Campaign files: from what an operator writes to the plan that every node draws from.
//!
//! - [`compile()`] reads a YAML file and makes a [`campaign::Plan`], or says everything that is wrong with it.
//! - [`PlanRepository`] keeps every accepted version under its SeqNo, with the source, for ever;
//!   [`publish_file`] adds one, and [`compile_version`] makes the same plan from it again.
//! - [`Desk`] is where people change campaigns: previews, two-person rule, pauses and stops, rollback, grey
//!   releases, each with its row in the audit trail.
//! - [`Agent`] notices new versions and swaps them into a [`PlanCell`], which hot paths read without a lock.
//!
//! The format is described in `docs/campaign-files.md`.

mod adjust;
mod agent;
pub mod audit;
mod bounds;
mod calendar;
mod capacity;
mod cell;
mod compile;
mod curves;
pub mod desk;
pub mod diff;
mod disclosure;
mod exports;
mod file;
pub mod forecast;
mod jurisdiction;
mod people;
mod policy;
mod problem;
mod publish;
pub mod repository;
pub mod schema;
mod seeds;
mod succession;
mod warnings;
mod wire;

pub use adjust::{Adjustments, PrizeAt, RateTarget, Target, TargetError};
pub use agent::{Agent, Outcome, POLL_MS};
pub use audit::{AuditEntry, AuditHead, AuditRow, Verified};
pub use bounds::FILE_BYTES_MAX;
pub use cell::{GreyPlan, PlanCell, PlanFailure, PlanReader, Plans};
pub use compile::{After, CompileOptions, Compiled, Stated, campaign_of, compile, compile_for};
pub use desk::{
    CampaignInfo, Change, ChangeState, Desk, DeskError, Effect, Finished, GreyInfo, LimitSet, Lowered,
    NodeFailure, NodePlan, NodeStatus, OperationError, Operations, Phase, PlatformStatus, Preview,
    PrizeStatus, Seen, Shown, VendorLimit, VendorSetting, VendorStatus,
};
pub use diff::{Diff, DiffEntry};
pub use disclosure::{Disclosure, DisclosureRow, disclosure};
pub use exports::{
    AwardRow, AwardState, CN_WINNERS_ABOVE, Retained, TaxCsv, TaxError, TaxTotal, WinnersCsv, retention, tax,
    tax_csv, winners_csv,
};
pub use jurisdiction::{CN_TOP_PRIZE_FEN, Jurisdiction, UnknownJurisdiction};
pub use people::{By, NoRole, Role};
pub use policy::Policy;
pub use problem::{Mark, Problem, Problems, Severity};
pub use publish::{FILE_AUTHOR, PublishError, Published, Publisher, compile_version, publish_file};
pub use repository::{
    Approval, Decision, Draft, Edit, Kind, MemoryRepository, NewProposal, NodeReport, PlanRepository,
    Proposal, ProposalState, Remembered, RepositoryError, Rollout, SqlRepository, State, Verdict, Version,
    VersionInfo,
};
pub use seeds::{SeedCommitment, SeedCommitments, StoredCommitments};
