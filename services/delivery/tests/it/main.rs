//! Delivery as a whole: laws of the core, books against each other, the HTTP adapter, workers through crashes.

mod book;
mod cut;
mod http;
mod laws;
mod limits;
mod nodes;
mod speed;
mod support;
mod worker;
