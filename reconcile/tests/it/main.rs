//! Reconcile against worlds that a writer of the tests' own has written, byte by byte.

mod archive;
mod cases;
mod golden;
mod lanes;
mod postgres;
mod property;
mod repeat;
mod world;
