//! Several owners' nodes in one process: over one store, with a post between them that loses, doubles and delays.

mod asks;
mod cluster;
mod crowd;
mod cut;
mod hands;
mod post;
mod refused;
mod silence;
mod watches;
