//! Official accounts and applications.

mod config;

pub use config::{AccountsConfig, Application, Texts, in_language};
