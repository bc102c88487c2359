//! The calling side: the traits of [`calls`](super) on connections to other processes.
//!
//! A [`Dialer`] makes a [`Peer`] for each process that is called: a few links, each a connection that is kept up.
//! [`RemoteDraws`] speaks to one peer, because a user has one node; [`RemoteAwards`], [`RemoteAccounts`] and
//! [`RemoteHistories`] to any of [`Peers`], and go to the next where that is safe. [`RemoteChat`] is a process of its own kind:
//! one connection that carries everything of an access node's devices, and pushes back. [`RemoteChatPeers`] is the other
//! chat nodes, to whom one only speaks.
//!
//! What is asked again, and what not. A submit is never sent twice from here: when its answer does not come in time,
//! or its connection ends, or there is none, the player hears 'pending' with a wait, and asks again with the same
//! counter; the node that draws for him by then says what came of it. Reading and claiming are repeated at another
//! process. Setting an account is repeated only when it surely was not done: a late copy could undo a newer one.
//!
//! Health: a link sends a heartbeat of nine bytes each 400 ms. Silence of 1.5 s ends the connection, and everything
//! on it is answered; a process that stopped without closing its sockets costs its callers no more than that.

mod carrier;
mod chat;
mod chat_peers;
mod connect;
mod desks;
mod draws;
mod link;
mod mail;
mod peer;
mod pending;

pub use chat::{ChatHealth, RemoteChat};
pub use chat_peers::RemoteChatPeers;
pub use desks::{RemoteAccounts, RemoteAwards, RemoteHistories};
pub use draws::RemoteDraws;
pub use peer::{Dialer, Health, Peer, Peers, Target};

/// Bounds of the calling side. All times in ms.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CallOptions {
    /// Connections to each process. Threads that submit keep to one of them each, so more of them share a lock and
    /// a task less.
    pub links: usize,
    /// To connect and greet.
    pub connect_ms: u32,
    /// From a submit to 'pending': longer than a commit at a slow disk and a slow queue.
    pub submit_ms: u32,
    /// For one attempt of any other call.
    pub try_ms: u32,
    /// The wait that 'pending' names; up to half as much again by user.
    pub wait_ms: u32,
    /// From heartbeat to heartbeat.
    pub heartbeat_ms: u32,
    /// Silence after which a connection is dead.
    pub dead_ms: u32,
}

const DEFAULT: CallOptions = CallOptions {
    links: 2,
    connect_ms: 1_000,
    submit_ms: 1_500,
    try_ms: 2_000,
    wait_ms: 400,
    heartbeat_ms: 400,
    dead_ms: 1_500,
};

const _: () = assert!(DEFAULT.heartbeat_ms < DEFAULT.dead_ms);
const _: () = assert!((DEFAULT.dead_ms as u64) < super::limits::SILENCE_MS);

impl Default for CallOptions {
    fn default() -> Self {
        DEFAULT
    }
}
