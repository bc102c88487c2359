//! Chat: conversations of two and of many, kept in order, given to every member once.
//!
//! - [`core`]: decides and applies; knows no socket, disk, clock or randomness.
//! - [`cluster`]: the same among several nodes, each of which owns a part.
//! - [`store`]: what stands behind memory.
//! - [`node`]: the log, the store and the front doors around the core.
//! - [`owner`]: one node of several, around the cores of the cluster.
//! - [`accounts`]: official accounts that tell users what they won.

pub mod accounts;
pub mod cluster;
pub mod core;
pub mod limits;
pub mod node;
pub mod options;
pub mod owner;
pub mod store;

pub use node::{ChatNode, ChatStatus, StartError};
pub use options::ChatOptions;
pub use owner::{OwnerNode, OwnerStatus, OwnerStores};
