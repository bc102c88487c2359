//! A lottery node on a real disk and a real ledger file.

mod changes;
mod node;
mod world;
