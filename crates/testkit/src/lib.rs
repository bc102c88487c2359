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

use std::path::PathBuf;

/// The folder of the package whose tests run, as cargo says it when it starts them. What it was when they were compiled does
/// not count: a build folder that is kept may have been filled from another checkout.
///
/// # Panics
/// When cargo has not started this process and it says no `CARGO_MANIFEST_DIR`.
pub fn package() -> PathBuf {
    std::env::var_os("CARGO_MANIFEST_DIR")
        .expect("cargo, or whoever runs the tests, sets CARGO_MANIFEST_DIR")
        .into()
}
