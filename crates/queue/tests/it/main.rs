//! The queue's promises, checked on every adapter.

mod conformance;
mod embedded;
mod kafka;
mod lane;
mod lanes;
mod model;
mod setup;
