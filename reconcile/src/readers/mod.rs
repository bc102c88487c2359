//! Readers of the sources, each written from the published format, sharing no code with who writes it.

pub mod archive;
pub mod copies;
pub mod csv;
pub mod players;
pub mod statement;
pub mod tables;
