//! The binary as a process: a player's first minutes, kills at every named point and at random moments, a full disk,
//! and everything that can be wrong with what it is given.
//!
//! The kills at named points need the feature `faults`; `make test` turns it on.

// Processes are waited for in real time.
#![allow(clippy::disallowed_methods)]

mod books;
mod cluster;
mod full_disk;
mod http;
mod kills;
mod operators;
mod platform;
mod players;
#[cfg(feature = "faults")]
mod points;
mod quotactl;
mod refusals;
mod requests;
mod talkers;
mod tour;
mod vendor;
