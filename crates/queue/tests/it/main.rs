//! The queue's promises, checked on every adapter.

mod conformance;
mod embedded;
mod lane;
mod lanes;
mod model;
mod setup;
