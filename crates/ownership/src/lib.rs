//! Who may act for whom: node epochs with their sessions, owners of user buckets, and the member list that
//! routing reads.
//!
//! Ownership is decided in one database, inside transactions that belong to somebody else (the lottery's ledger
//! renews a session and grants units in the same commit). So this crate opens no transaction and reads no clock:
//! [`node`] and [`bucket`] are rules over plain rows, [`sql`] and [`pg`] load and store these rows over a connection
//! that is handed in. It acts only when it is called and refuses whatever is not conditional on what stands in the rows;
//! after a crash there is nothing to recover, because a transaction is there or not.
//!
//! [`members`] is a guess about who is alive, for routing alone. Nothing that must never go wrong rests on it.

pub mod bucket;
pub mod members;
pub mod node;
pub mod pg;
pub mod sql;

pub use bucket::{BucketRow, ClaimBucket, ClaimRefused, Claimed, LaneEnd, SealBucket};
pub use members::{MemberList, Members, OneProcess, StaticMembers};
pub use node::{
    BeginError, EPOCH_MAX, EndError, EndReason, NODE_MAX, NodeRow, PositionError, SESSION_DEAD_MS,
    SessionError,
};
