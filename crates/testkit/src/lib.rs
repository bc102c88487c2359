//! Simulated surroundings for tests: everything comes from a seed, so that a failing run can be run again. And the
//! way to the real servers, where a test is about them ([`servers`]), also one that breaks ([`between`]).
//!
//! Only ever a dev-dependency (or a dependency of the simulation).

pub mod between;
mod rng;
pub mod servers;
mod sim_disk;

pub use rng::SimRng;
pub use sim_disk::{SimDisk, SimFile};
