//! Chat as its front doors see it.

mod groups;
mod kills;
mod node;
mod store;
mod world;
