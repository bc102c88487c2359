//! Players, by the ten thousand, and submits, by the million.
//!
//! [`players`] plays a campaign as people on bad networks would, through the same cores as an app ([`client`]), and
//! writes down what each was told: the witness for 'what a player was told is true'. [`bench`] asks as fast as it can,
//! or at a rate, with as little CPU as it can, because it shares the machine with what it measures; [`echo`] has the
//! bare servers that the platform is compared with, asked by the same code. [`chat`] has people who chat: a crowd with an oracle,
//! a flood at a rate, and idle connections. Everything ends by itself.

pub mod bench;
pub mod chat;
pub mod echo;
mod fast;
mod http1;
pub mod meter;
mod net;
pub mod players;
pub mod token;

/// Name and version that servers see.
const CLIENT: &str = concat!("loadgen ", env!("CARGO_PKG_VERSION"));

/// Why a run failed.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// Nobody answers there.
    #[error("cannot connect to {address} ({tried}): {error}")]
    Connect {
        /// Where.
        address: String,
        /// What was tried.
        tried: String,
        /// What the system says.
        error: std::io::Error,
    },
    /// A socket, a file or a poll failed.
    #[error("{what}: {error}")]
    Io {
        /// What was done.
        what: String,
        /// What the system says.
        error: std::io::Error,
    },
    /// The conversation ended.
    #[error("connection {connection} to {address}: {error}")]
    Session {
        /// Which.
        connection: usize,
        /// Where.
        address: String,
        /// Why.
        error: client::SessionError,
    },
    /// The server said something unexpected.
    #[error("{0}")]
    Server(String),
    /// The run makes no sense as configured.
    #[error("{0}")]
    Config(String),
}

impl LoadError {
    fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> LoadError {
        let what = what.into();
        move |error| LoadError::Io { what, error }
    }
}
