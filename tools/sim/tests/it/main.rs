//! Runs of the simulation.

mod clean;
mod planted;
mod rehearse;
