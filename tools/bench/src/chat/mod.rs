//! Figures of chat as a whole: `hongbao up` as it is shipped, in a process of its own, and people who chat with it over
//! loopback from this one.
//!
//! Messages come by the clock (open loop): each latency counts from the instant at which its message was meant to be
//! sent, whatever held it up. Every message that is counted as acknowledged was in the log and synced before. A run in
//! which a message is missing, came twice or was refused is no figure but a fault.

pub(crate) mod world;

pub mod groups;
pub mod idle;
pub mod large;
pub mod pairs;
pub mod restart;
pub mod sync;
