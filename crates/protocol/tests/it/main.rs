//! Calls between services on real sockets.

mod chat;
mod cut;
mod desks;
mod greeting;
mod peers;
mod speed;
mod submits;
mod world;
