//! Words between chat nodes: what one owner has for another.
//!
//! Chat nodes hand each other messages and acknowledgements of them. All of it is said again until it is answered, and
//! changes nothing when it comes twice; so the link may lose, and owes nobody an answer. What the bytes mean is the chat
//! service's own matter. One message has at most [`PEER_MESSAGE_MAX`](super::limits::PEER_MESSAGE_MAX) bytes.

/// To other chat nodes.
pub trait ChatPeers: Send + Sync {
    /// Says it to node `to`. Never blocks; may lose: whoever says something says it again until it is answered. What
    /// arrives over one connection arrives in the order that it was said in. Nobody reaches himself this way.
    fn say(&self, to: u16, message: Vec<u8>);
}

/// From other chat nodes.
pub trait ChatPeerHost: Send + Sync {
    /// Node `from` has said this; perhaps before, perhaps long ago. Never blocks for long: further words of that node wait.
    fn heard(&self, from: u16, message: &[u8]);
}
