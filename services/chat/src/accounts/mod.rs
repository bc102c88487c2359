//! Official accounts and applications: users hear what they won, and when it has arrived.
//!
//! An application is an entry of the configuration. It reads a topic of delivery events as a group of consumers of its
//! own and sends notices from its account, in the user's language: one when an award is first heard of, one when it is
//! delivered. A position is committed when the notices before it are durable. After a crash the events since the last
//! commit come again, and their notices are recognised by the award: each is sent once.

mod config;
mod worker;

pub use config::{AccountsConfig, Application, Texts, in_language};
pub use worker::start;
