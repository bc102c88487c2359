//! The crowd against a server that drops, repeats and delays, and dies; the benches against the bare servers.

mod bench;
mod chat;
mod platform;
mod players;
mod talkers;
