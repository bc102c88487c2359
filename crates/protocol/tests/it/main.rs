//! Calls between services on real sockets.

mod chat;
mod chat_host;
mod cut;
mod desks;
mod greeting;
mod peers;
mod speed;
mod submits;
mod weather;
mod world;
