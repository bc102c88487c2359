//! Flow, room by room and as a whole.

mod collector;
mod cut;
mod make;
mod nodes;
mod service;
mod speed;
mod store;
