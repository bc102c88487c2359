//! Simulated surroundings for tests: everything comes from a seed, so that a failing run can be run again.
//!
//! Only ever a dev-dependency (or a dependency of the simulation).

mod rng;
mod sim_disk;

pub use rng::SimRng;
pub use sim_disk::{SimDisk, SimFile};
