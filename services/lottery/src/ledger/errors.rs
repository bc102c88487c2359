//! Why the ledger did not do what it was asked: one type for each kind of call.

use super::rows::{LeaseKey, PrizeKey};
use campaign::{LeaseId, NodeEpoch, NodeId};
use ownership::{BeginError, EndError, PositionError, SessionError};

/// Why a close was refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum CloseRefused {
    /// A unit goes back that was not in the lease.
    #[error("unit {unit} goes back, but is not in the lease")]
    NotInLease {
        /// The unit.
        unit: u64,
    },
    /// The sum is not the lease.
    #[error("{used} units used and {returned} that go back are not the {units} of the lease")]
    Sum {
        /// Units said to be used.
        used: u64,
        /// Units that go back.
        returned: u64,
        /// Units of the lease.
        units: u64,
    },
}

/// The store failed.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum StoreError {
    /// Nothing was done.
    #[error("the ledger is not available, nothing was done: {0}")]
    NotDone(String),
    /// No answer; repeat the call as it was.
    #[error("the ledger gave no answer, it may or may not have been done: {0}")]
    Unknown(String),
}

/// Why a tick failed.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum TickError {
    /// The epoch has ended or never was.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// More than a tick carries.
    #[error("a tick carries at most {max} {what}, not {count}")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many there were.
        count: usize,
        /// How many there may be.
        max: usize,
    },
    /// A lease number that was used for another prize.
    #[error("lease {lease} is of {prize}: lease numbers are not used twice within an epoch")]
    LeaseReused {
        /// The number.
        lease: LeaseId,
        /// What it stands for.
        prize: PrizeKey,
    },
    /// A bucket number above the highest.
    #[error("there is no bucket {0}")]
    NoSuchBucket(u16),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why an epoch was not begun, ended, or its mark not recorded.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum EpochError {
    /// It can't begin.
    #[error(transparent)]
    Begin(#[from] BeginError),
    /// It can't be ended.
    #[error(transparent)]
    End(#[from] EndError),
    /// The mark can't be recorded.
    #[error(transparent)]
    Position(#[from] PositionError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why a lease was not settled.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum SettleError {
    /// No such lease.
    #[error("the ledger knows no lease {} of node {} in epoch {}", .0.lease, .0.node, .0.epoch)]
    Unknown(LeaseKey),
    /// Its epoch is open, so its node closes it.
    #[error("epoch {epoch} of node {node} is open: its node closes its leases itself")]
    EpochOpen {
        /// The node.
        node: NodeId,
        /// The epoch.
        epoch: NodeEpoch,
    },
    /// It is not settled yet which wins count.
    #[error("no end position is recorded for epoch {epoch} of node {node} or a later one: record it first")]
    NoEndPosition {
        /// The node.
        node: NodeId,
        /// The epoch.
        epoch: NodeEpoch,
    },
    /// A unit said to be used is not in the lease.
    #[error("unit {unit} is said to be used, but is not in the lease")]
    NotInLease {
        /// The unit.
        unit: u64,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why a change was refused. Nothing was changed.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ChangeError {
    /// No such prize.
    #[error("the ledger knows no {0}: register a plan that has it")]
    Unknown(PrizeKey),
    /// Tranches begin at 0 or leave a gap.
    #[error("{prize}: a tranche begins at unit {first}, but the next number is {next}")]
    Gap {
        /// The prize.
        prize: PrizeKey,
        /// Where the tranche begins.
        first: u64,
        /// Where it should.
        next: u64,
    },
    /// A tranche that was made already has become longer or shorter.
    #[error(
        "{prize}: the tranche of units {first} to {last} goes across {made}, the end of what was made; tranches are never edited, add another one"
    )]
    Edited {
        /// The prize.
        prize: PrizeKey,
        /// First unit.
        first: u64,
        /// Last unit.
        last: u64,
        /// Units made before.
        made: u64,
    },
    /// More numbers than can be stored.
    #[error("{prize}: {units} units are more than a ledger counts ({max})")]
    TooLarge {
        /// The prize.
        prize: PrizeKey,
        /// Units planned.
        units: u64,
        /// Units that can be.
        max: u64,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}
