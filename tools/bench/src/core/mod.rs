//! Figures of the decision core.

pub mod grow;
pub mod memory;
pub mod speed;

mod redis;
mod table;
mod world;
