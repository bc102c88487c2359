//! The log against a real folder and against a disk that crashes.

mod aside;
mod crash;
mod damage;
mod full;
#[cfg(feature = "faults")]
mod kill;
mod measure;
mod running;
mod sequence;
mod ship;
mod support;
