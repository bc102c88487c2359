//! A lottery node in another process.

use super::link::NotTaken;
use super::peer::Peer;
use super::pending::ask_again;
use crate::calls::{Draws, Inbox, SubmitCall, SubmitReply};
use crate::v1::Outcome;
use std::sync::Arc;

/// [`Draws`] over the wire. Everything that the node decides comes through the inbox, losses too; what is said at once
/// is only that the node can't be reached ('pending, ask again') or that too much is under way ('busy').
#[derive(Clone)]
pub struct RemoteDraws(Arc<Peer>);

impl RemoteDraws {
    /// The lottery node at this peer.
    pub fn new(peer: Arc<Peer>) -> RemoteDraws {
        RemoteDraws(peer)
    }

    /// The peer.
    pub fn peer(&self) -> &Arc<Peer> {
        &self.0
    }
}

impl Draws for RemoteDraws {
    fn submit(&self, calls: &[SubmitCall], inbox: &Arc<Inbox>, out: &mut Vec<SubmitReply>) {
        let mut outcome = Outcome::Pending;
        for link in self.0.links() {
            match link.submit(calls, inbox) {
                Ok(()) => return,
                Err(NotTaken::Down) => {}
                Err(NotTaken::Full) => outcome = Outcome::Busy,
            }
        }
        let wait_ms = self.0.options().wait_ms;
        out.extend(calls.iter().map(|call| ask_again(call.tag, call.user, call.counter, outcome, wait_ms)));
    }
}
