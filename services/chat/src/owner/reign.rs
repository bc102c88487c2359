//! One epoch of a node: its session, its cores, and who waits for them.

use super::OwnerNode;
use super::buckets::BucketCounts;
use super::lines::Lines;
use super::session::Session;
use crate::cluster::{Conversations, Timelines, Want};
use hashring::bucket_of;
use parking_lot::Mutex;
use protocol::calls::{Inbox, SendReply};
use protocol::v1::{Send, SendAnswer, SendOutcome};
use runtime::Shutdown;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use tokio::sync::oneshot;

/// When to ask again for a message of which it is not known whether it is stored, in ms.
const PENDING_RETRY_MS: u32 = 200;

/// An epoch.
pub(super) struct Reign {
    pub epoch: u32,
    pub session: Session,
    /// It has ended, or is ending: nothing is answered from it.
    pub over: Shutdown,
    /// Never locked while `lines` is, and the other way round.
    pub conversations: Mutex<Conversations<Then>>,
    pub lines: Mutex<Lines>,
    /// Wanted from the store for decisions, each with the term of its bucket when it was taken over.
    pub wanted: Mutex<Vec<(Want, u32)>>,
    /// Buckets, with their terms, of which it is not known what is to be handed on.
    pub unfanned: Mutex<BTreeMap<u16, u32>>,
    /// Buckets that a step found to be another's, with the term it had; the tenure is to hear of it.
    pub lost: Mutex<BTreeSet<(u16, u32)>>,
    pub counts: Mutex<BucketCounts>,
}

impl Reign {
    /// It owns nothing yet. Message ids are given above `ids_above_ms` and up to `ids_until_ms`.
    pub fn new(node: &OwnerNode, epoch: u32, ids_above_ms: u64, ids_until_ms: u64) -> Reign {
        let (options, number) = (node.options.clone(), node.options.node);
        let mut conversations = Conversations::new(options.clone(), number, epoch, ids_above_ms);
        conversations.state.ids.reserved(ids_until_ms);
        Reign {
            epoch,
            session: Session::default(),
            over: Shutdown::new(),
            conversations: Mutex::new(conversations),
            lines: Mutex::new(Lines::new(Timelines::new(options, number, epoch))),
            wanted: Mutex::default(),
            unfanned: Mutex::default(),
            lost: Mutex::default(),
            counts: Mutex::default(),
        }
    }
}

/// Who waits for a decision.
#[derive(Debug)]
pub(super) enum Then {
    /// A front door.
    Sender {
        /// What names the message in its answer.
        of: Named,
        /// The caller's mark.
        tag: u64,
        inbox: ToInbox,
    },
    /// Another node, which was asked.
    Peer {
        /// What names the message in its answer.
        of: Named,
        /// Which.
        node: u16,
        /// Its mark.
        mark: u64,
    },
    /// A request.
    Waiter(oneshot::Sender<()>),
}

/// Names a message in answers that are not known yet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Named {
    pub conversation: u64,
    pub counter: u64,
    pub user: u64,
}

impl Named {
    pub fn of(send: &Send) -> Named {
        Named { conversation: send.conversation, counter: send.counter, user: send.user }
    }

    /// The answer while it is not known whether the message is stored: the same again tells.
    pub fn pending(self, reason: &str) -> SendAnswer {
        SendAnswer {
            outcome: SendOutcome::Pending as i32,
            conversation: self.conversation,
            counter: self.counter,
            user: self.user,
            retry_after_ms: PENDING_RETRY_MS,
            reason: reason.to_owned(),
            ..SendAnswer::default()
        }
    }
}

/// A front door's inbox.
#[derive(Clone)]
pub(super) struct ToInbox(pub Arc<Inbox<SendReply>>);

impl std::fmt::Debug for ToInbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("inbox")
    }
}

/// The bucket that decides about what a want brings; nothing where no bucket of this node does.
pub(super) fn bucket_of_want(want: &Want) -> Option<u16> {
    use crate::core::Key;
    let id = match want {
        Want::Key(Key::Conversation(id)) | Want::Messages { conversation: id, .. } => *id,
        Want::Key(Key::Sent(key)) => key.conversation,
        Want::Key(_) => return None,
    };
    Some(bucket_of(id).get())
}
