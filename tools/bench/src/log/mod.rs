//! Figures of the flow log on the disk under the scratch folder.

pub mod append;
pub mod latency;
pub mod world;
