//! Exit codes of every program of the project, so that a supervisor can tell "restart me" from "a person has to
//! look first". Codes from 64 up mean that starting again without a change can't help.

/// It did what it was asked to.
pub const OK: u8 = 0;
/// It failed while running; starting again may help.
pub const FAILURE: u8 = 1;
/// The command line was wrong.
pub const USAGE: u8 = 2;
/// The program ran, and what it checked does not hold (a law of the books, an audit, a verification).
pub const CHECK_FAILED: u8 = 3;
/// Nothing that was checked fails, but a source was missing, so that not all could be checked.
pub const NOT_ALL_CHECKED: u8 = 4;
/// The configuration or a campaign file is wrong, or a server that it names refuses or is not as it says; the message names
/// file, line and key, or the server and what would be right.
pub const BAD_CONFIG: u8 = 64;
/// Stored data is damaged where it can't be cut or rebuilt; the message says where and what can be done.
pub const DATA_DAMAGED: u8 = 65;
/// The data directory was written by a newer version of the program.
pub const DATA_NEWER: u8 = 66;
/// Another process holds the data directory.
pub const DATA_IN_USE: u8 = 67;
/// An address to listen on could not be bound.
pub const CANNOT_LISTEN: u8 = 68;
