//! Placeholder until the next file is written.
