//! A lottery node on a real disk and a real ledger file.

mod node;
mod world;
