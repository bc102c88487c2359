//! Answers of the server as text for people.

pub mod change;
pub mod outline;
pub mod paint;
pub mod table;
pub mod value;
