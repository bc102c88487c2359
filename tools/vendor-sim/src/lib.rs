//! A vendor to test against: wallets and voucher systems behind signed HTTP, with the faults that real ones have.
//!
//! It is there so that the platform's delivery and reconciliation meet time-outs after accepting, late and lost answers,
//! doubled callbacks and incomplete statements before players do. The protocol is in docs/vendor-protocol.md. Books
//! ([`book`]) and faults ([`faults`]) are plain functions of their input; [`server`] puts them on the network.
//!
//! What it never does: pay a number twice, or forget one that it answered (see [`journal`] for the one exception).

pub mod book;
pub mod callbacks;
pub mod clock;
pub mod config;
pub mod due;
pub mod faults;
pub mod handlers;
pub mod journal;
pub mod payout;
pub mod rate;
pub mod server;
pub mod sign;
pub mod statement;
pub mod stats;
#[cfg(test)]
mod testing;
pub mod vendor;
pub mod wire;
