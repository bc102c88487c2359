//! The other chat nodes of a cluster, as one of them reaches them.
//!
//! Each node keeps one connection to each other and only speaks on it; what is answered comes on the other one's own. What
//! finds no connection, or 16 MiB before it that the other one has not taken yet, is left out and counted: whoever said it
//! says it again. So a node that is slow or away costs the others that much memory and nothing else.

use super::{CallOptions, Dialer, Health, Peers, Target};
use crate::calls::limits::PEER_MESSAGE_MAX;
use crate::calls::wire::CallKind;
use crate::calls::{ChatPeers, ServiceSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// [`ChatPeers`] over the wire.
pub struct RemoteChatPeers {
    node: u16,
    dialer: Dialer,
    peers: Arc<Peers>,
    lost: AtomicU64,
}

impl RemoteChatPeers {
    /// Nobody yet, as seen from chat node `node`.
    pub fn new(node: u16, dialer: &Dialer) -> Arc<RemoteChatPeers> {
        // One connection keeps what is said in its order.
        let options = CallOptions { links: 1, ..dialer.options };
        let dialer = Dialer { options, ..dialer.clone() };
        let (peers, lost) = (Peers::new("chat"), AtomicU64::new(0));
        Arc::new(RemoteChatPeers { node, dialer, peers, lost })
    }

    /// These are the chat nodes from now on; this one may be among them. Who is new is dialled, who stays keeps his
    /// connection, the connection of who left ends.
    pub fn follow(&self, targets: impl IntoIterator<Item = Target>) {
        let others = targets.into_iter().filter(|target| target.node != self.node);
        self.peers.follow(&self.dialer, ServiceSet::CHAT_PEERS, others);
    }

    /// How each of the others is, as seen from here.
    pub fn health(&self) -> Vec<(u16, Health)> {
        self.peers.get().iter().map(|peer| (peer.target().node, peer.health())).collect()
    }

    /// Messages that were left out.
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }
}

impl ChatPeers for RemoteChatPeers {
    fn say(&self, to: u16, message: Vec<u8>) {
        let (bytes, peers) = (message.len(), self.peers.get());
        if bytes > PEER_MESSAGE_MAX {
            tracing::error!(
                to,
                bytes,
                "a message to another chat node is larger than {PEER_MESSAGE_MAX} bytes"
            );
        }
        let said = bytes <= PEER_MESSAGE_MAX
            && peers.iter().filter(|peer| peer.target().node == to).any(|peer| {
                peer.links().any(|link| link.say(CallKind::PeerSays, self.node.into(), &message))
            });
        if !said {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}
