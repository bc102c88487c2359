//! Lottery: decides who wins, writes each win down before anyone hears of it, and never gives out more than the
//! ledger granted.

pub mod core;
pub mod grey;
pub mod ledger;
pub mod node;
