//! Nodes among others: the same users, one ledger, lanes.

mod audit;
mod disk;
mod flow;
mod live;
mod node;
mod schedule;
mod world;
