//! The quota ledger: who may give out which units, and until when.
//!
//! Budgets are spent by many nodes at once, and each of them can die at any moment. The ledger is the one place
//! where a unit changes hands: from the prize to a lease, and from the lease to 'used' or back. A node calls it
//! once a tick ([`QuotaLedger::tick`]); operators change budgets through it; whoever ends a dead node's epoch
//! settles its leases here.
//!
//! - [`port`]: the trait, with what every adapter promises, and the questions and answers;
//! - [`rows`]: what is stored;
//! - [`rules`]: what a call does to the rows. Pure, and the only place where that is written;
//! - [`memory`], [`sql`] and [`pg`]: the adapters. They load the rows that a call names, apply the rule, and store what changed.
//!
//! It refuses whatever comes from an ended epoch, names an old SeqNo, or gives back what was never out. Nothing
//! has to be recovered after a crash: a call is one transaction, there or not, and may be repeated.

#[cfg(test)]
mod conformance;
mod errors;
pub mod memory;
pub mod pg;
pub mod port;
pub mod rows;
pub mod rules;
pub mod sql;
mod stored;

pub use memory::MemoryLedger;
pub use pg::PgLedger;
pub use port::{
    Budget, ChangeError, Changed, CloseAsk, CloseRefused, EpochError, GrantAnswer, GrantAsk, Nothing,
    PrizeReport, QuotaLedger, Registered, SettleError, Settled, StoreError, Tick, TickAnswer, TickError,
};
pub use rows::{ClosedBy, ClosedLease, LeaseKey, LeaseRow, PrizeKey};
pub use sql::SqlLedger;
