//! A lottery node on a real disk and a real ledger file; and changes of plans in the middle of a round.

mod changes;
mod cluster;
mod node;
mod world;
