//! The partitioned log with consumer groups that stands between the services: orders, delivery's journal, lanes.
//!
//! [`Queue`] is the port. [`memory::MemoryQueue`] serves the simulation and tests; [`embedded::EmbeddedQueue`] is
//! the one that a process without servers runs on: each partition is a log of crate `flowlog`, each group's
//! positions stand in a small file beside it. A node's own flow log is attached as a partition of the topic
//! [`LANE`] and read in place.
//!
//! [`kafka::KafkaQueue`] is the one of a cluster. Where nodes have no common disk, they ship their logs through [`lanes::Lanes`], and consumers of [`LANE`] read what they
//! shipped.
//!
//! What is stored is opaque here: the meaning of a record is crate `records`' and its readers'.

mod consumer;
pub mod embedded;
mod error;
mod group;
pub mod kafka;
pub mod lanes;
mod members;
pub mod memory;
mod port;

pub use error::{CommitError, PollError, ProduceError, TopicError};
pub use flowlog::Position;
pub use group::{Batch, Group, GroupRecords};
pub use port::{Consumer, Queue, Retain, TopicOptions};

/// The topic that carries the nodes' flow logs, one partition for each node number.
pub const LANE: &str = "lane";
/// The topic of delivery orders, written by flow.
pub const ORDERS: &str = "orders";
/// The topic that repeats delivery's journal, written by delivery.
pub const JOURNAL: &str = "journal";
