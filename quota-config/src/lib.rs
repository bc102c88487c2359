//! Campaign files: from what an operator writes to the plan that every node draws from.
//!
//! - [`compile()`] reads a YAML file and makes a [`campaign::Plan`], or says everything that is wrong with it.
//! - [`PlanRepository`] keeps every accepted version under its SeqNo, with the source, for ever;
//!   [`publish_file`] adds one, and [`compile_version`] makes the same plan from it again.
//! - [`Agent`] notices new versions and swaps them into a [`PlanCell`], which hot paths read without a lock.
//!
//! The format is described in `docs/campaign-files.md`.

mod agent;
mod bounds;
mod calendar;
mod capacity;
mod cell;
mod compile;
mod curves;
pub mod diff;
mod disclosure;
mod exports;
mod file;
pub mod forecast;
mod jurisdiction;
mod policy;
mod problem;
mod publish;
pub mod repository;
pub mod schema;
mod seeds;
mod succession;
mod warnings;

pub use agent::{Agent, Outcome, POLL_MS};
pub use bounds::FILE_BYTES_MAX;
pub use cell::{PlanCell, PlanFailure, PlanReader, Plans};
pub use compile::{After, CompileOptions, Compiled, Stated, campaign_of, compile, compile_for};
pub use diff::{Diff, DiffEntry};
pub use disclosure::{Disclosure, DisclosureRow, disclosure};
pub use exports::{
    AwardRow, AwardState, CN_WINNERS_ABOVE, Retained, TaxCsv, TaxError, TaxTotal, WinnersCsv, retention, tax,
    tax_csv, winners_csv,
};
pub use jurisdiction::{CN_TOP_PRIZE_FEN, Jurisdiction, UnknownJurisdiction};
pub use policy::Policy;
pub use problem::{Mark, Problem, Problems, Severity};
pub use publish::{PublishError, Published, Publisher, compile_version, publish_file};
pub use repository::{
    Draft, MemoryRepository, PlanRepository, RepositoryError, SqlRepository, State, Version, VersionInfo,
};
pub use seeds::{SeedCommitment, SeedCommitments, StoredCommitments};
