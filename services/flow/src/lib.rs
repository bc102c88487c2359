//! The memory of the platform: collects what the lottery nodes log, keeps the state of each award, turns new awards
//! into delivery orders and repeats those that delivery never took, answers what a user has won, and takes claims.
//!
//! - [`core`] decides, without I/O: what a group of log records means, what an event changes, what a player sees.
//! - [`store`] keeps awards: the port [`store::AwardStore`], in memory, in SQLite and in PostgreSQL.
//! - [`service`] are the loops between queue and store, the live statistics and the handle that access calls.
//!
//! Everything here follows from the lane and from delivery's journal and can be rebuilt from them: delete the store and
//! the groups' positions, and start again. Nothing here is on the way of a draw; when flow lags, players wait for a list, not for
//! a win.

pub mod core;
pub mod limits;
pub mod service;
pub mod store;
