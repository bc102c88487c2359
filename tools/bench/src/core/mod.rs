//! Figures of the decision core.

pub mod compile;
pub mod grow;
pub mod memory;
pub mod speed;
pub mod swap;

mod redis;
mod table;
mod world;
