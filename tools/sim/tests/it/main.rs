//! Runs of the simulation.

mod chat;
mod clean;
mod cluster;
mod planted;
mod rehearse;
mod seeds;
