//! Delivery: brings prizes to their winners, each exactly once, at each vendor's pace.
//!
//! Orders come in from a topic, are checked against their MAC, and become rows of the [`book`], which is the truth of
//! every delivery. Each vendor has a worker of its own that takes what is due, writes down that it is about to call,
//! calls at the vendor's [`pace`], and writes down what came of it; so a slow vendor holds nobody else up, and a
//! process that dies at any point leaves a row that says what has to be asked. What may follow what is decided by
//! the [`core`] alone, which has no I/O. A copy of the book's journal goes out as a topic behind it.
//!
//! Delivery never calls an earlier stage, makes no second number for an award unless the vendor says that the first is
//! dead, and lets nothing end by mere passing of time.

pub mod account;
pub mod book;
pub mod config;
pub mod core;
pub mod limits;
pub mod pace;
pub mod service;
pub mod vendor;

pub use account::AccountBook;
pub use book::DeliveryBook;
pub use config::DeliveryConfig;
pub use limits::LimitBook;
pub use service::{Delivery, DeliveryParts, Status};
