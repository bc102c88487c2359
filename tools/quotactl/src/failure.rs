//! How a command ends when it does not do what it was asked for, and the exit codes.
//!
//! Scripts decide by the code, people by the text: so every text says what went wrong, where, and what to do.

use bytes::Bytes;

/// It did what it was asked to; a change that waits for a second person counts.
pub const OK: u8 = 0;
/// The server refused, or a check found something: an invalid file, a broken audit trail, a "no" to the question.
pub const REFUSED: u8 = 1;
/// The command line, a profile or the environment is wrong; nothing was asked of anybody.
pub const USAGE: u8 = 2;
/// Nobody answered.
pub const UNREACHABLE: u8 = 3;
/// The token is not known, or its role is too low.
pub const FORBIDDEN: u8 = 4;

/// Why a command did not do what it was asked to.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// Refused, or a local step failed.
    #[error("{0}")]
    Refused(String),
    /// Wrong command line, profile or environment.
    #[error("{0}")]
    Usage(String),
    /// No answer, or one that broke off.
    #[error("{0}")]
    Unreachable(String),
    /// The server answered with a problem document.
    #[error("{text}")]
    Problem {
        /// The exit code that belongs to its status.
        code: u8,
        /// What it says, for a person.
        text: String,
        /// The answer as it came, for `--json`.
        body: Bytes,
    },
}

impl Failure {
    /// The exit code.
    pub fn code(&self) -> u8 {
        match self {
            Failure::Refused(_) => REFUSED,
            Failure::Usage(_) => USAGE,
            Failure::Unreachable(_) => UNREACHABLE,
            Failure::Problem { code, .. } => *code,
        }
    }
}
