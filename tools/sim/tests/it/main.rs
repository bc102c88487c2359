//! Runs of the simulation.

mod clean;
mod cluster;
mod planted;
mod rehearse;
