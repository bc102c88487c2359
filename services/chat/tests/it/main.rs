//! Chat as its front doors see it.

mod accounts;
mod again;
mod cluster;
mod fold;
mod groups;
mod kills;
mod node;
mod owner;
mod store;
mod world;
