//! Calls between the front door and the chat service, both ways: requests and sends go in, pushes come out.
//!
//! The front door knows connections, chat knows users and what they have not seen. So a device's arrival hands chat the
//! address of its connection, and chat hands back batches of pushes to such addresses. An address that is stale is
//! ignored by whoever gets it: pushes are hints, and what a device has is said by its own confirmations alone.

use super::awards::CallError;
use super::inbox::Inbox;
use crate::v1::{ChatAnswer, ChatRequest, SendAnswer};
use async_trait::async_trait;
use std::ops::Range;
use std::sync::Arc;

/// Largest body of a message, in bytes: with its head it fits the largest frame that a client may send.
pub const SEND_BODY_MAX: usize = 3_072;

/// A connection's address within the platform.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct ConnectionAt {
    /// Number of the access node.
    pub access: u16,
    /// The access node's own name for the connection; never used twice.
    pub connection: u64,
}

/// A device on a connection. A gateway's connection carries many.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct DeviceAt {
    /// Who.
    pub user: u64,
    /// The app's number of the installation; not 0.
    pub device: u64,
    /// Where.
    pub at: ConnectionAt,
}

/// A message to store, from a proved sender.
#[derive(Clone, PartialEq, Debug)]
pub struct SendCall {
    /// The caller's mark; the reply carries it.
    pub tag: u64,
    /// The message; `user` and `device` are filled in by the caller and proved.
    pub send: crate::v1::Send,
    /// Where it came from: this connection need not be told of its own message.
    pub from: ConnectionAt,
}

/// What became of a message.
#[derive(Clone, PartialEq, Debug)]
pub struct SendReply {
    /// Mark of the call.
    pub tag: u64,
    /// The answer.
    pub answer: SendAnswer,
}

/// A push to one connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Target {
    /// The connection.
    pub connection: u64,
    /// Whose timeline; a gateway's connection has many.
    pub user: u64,
    /// Which device.
    pub device: u64,
    /// Everything behind this cursor and up to `cursor` has been pushed to the device or is in this batch.
    pub after: u64,
    /// Cursor of this entry; for a head the conversation's present cursor of the user, unchanged by it (then equal to `after`).
    pub cursor: u64,
    /// Which of the batch's messages.
    pub message: u32,
}

/// Pushes for one access node. Targets of one connection and device stand together, in the order of their cursors.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct PushBatch {
    /// Encoded parts of `Push`, one behind the other.
    pub bytes: Vec<u8>,
    /// Where each lies, and what it is.
    pub parts: Vec<Part>,
    /// Who gets which.
    pub targets: Vec<Target>,
}

/// An encoded part of a push.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Part {
    /// What `bytes` holds there.
    pub kind: PartKind,
    /// Its bytes in the batch.
    pub bytes: Range<u32>,
}

/// What an encoded part is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PartKind {
    /// A `ChatMessage`; with the target's cursor it becomes an `Entry`. Conversation and seq stand beside it, because an
    /// entry whose message is left out needs them.
    Message {
        /// Its conversation.
        conversation: u64,
        /// Its seq.
        seq: u64,
    },
    /// A `Head`.
    Head,
    /// A `ReadAt`.
    Read,
    /// A `PresenceOf`.
    Presence,
    /// No bytes: the device only hears how far its timeline has come, and syncs if it is behind.
    Bare,
}

/// Chat, as the front door sees it.
///
/// Order: sends of one (device, conversation) are taken in the order of their calls. Durability: `STORED` is answered only
/// when the message survives any single failure. Idempotency: the same (user, device, conversation, counter) is one message.
#[async_trait]
pub trait Chat: Send + Sync {
    /// 0: as far as is known here, whoever serves this user can be reached. Otherwise he can't just now, messages and
    /// requests would hear so, and it is worth trying again after so many ms. Never blocks.
    fn out_of_reach_ms(&self, _user: u64) -> u32 {
        0
    }

    /// A device has logged in on a connection. Never blocks. What the device missed it asks for itself.
    fn arrive(&self, device: DeviceAt);

    /// A device that has arrived before is told of once more, because whoever served its user until now is another, or
    /// began anew, or was out of reach. As [`Chat::arrive`]; beyond that the device is pushed a word to sync
    /// ([`PartKind::Bare`]), because pushes since then may have gone nowhere. Never blocks.
    fn arrive_again(&self, device: DeviceAt);

    /// A device that was told of once more watches these users' presence, and goes on: what is known of them is pushed, and
    /// from then on what changes. Behind [`Chat::arrive_again`]. Never blocks.
    fn watch_again(&self, device: DeviceAt, users: &[u64]);

    /// The connection, or this device of it, is gone. Never blocks.
    fn leave(&self, device: DeviceAt);

    /// These devices have been heard of. Never blocks; called for many at once, every few seconds.
    fn beat(&self, devices: &[DeviceAt]);

    /// Takes sends. Never blocks: what can be said at once is appended to `out`, everything else comes through `inbox`,
    /// each exactly once. `calls` is left empty.
    fn send(&self, calls: &mut Vec<SendCall>, inbox: &Arc<Inbox<SendReply>>, out: &mut Vec<SendReply>);

    /// Devices have everything up to a cursor. Never blocks; no answer.
    fn confirm(&self, confirms: &[(DeviceAt, u64)]);

    /// Any other request; `user` and `device` in it are proved. `from`: the connection, for what is bound to it.
    async fn ask(&self, from: ConnectionAt, request: ChatRequest) -> Result<ChatAnswer, CallError>;
}

/// Chat, as a process that serves it to front doors elsewhere sees it.
pub trait ChatHost: Chat {
    /// Pushes for connections of this access node go there from now on, and no longer to where they went before.
    fn attach(&self, access: u16, door: Arc<dyn Pushes>);

    /// There is no way to this access node now; pushes for it are left out.
    fn detach(&self, access: u16);
}

/// The front door, as chat sees it.
pub trait Pushes: Send + Sync {
    /// Takes pushes for connections of this access node. Never blocks and never fails: what can't be delivered (slow
    /// reader, connection gone) is left for the device's next sync.
    fn push(&self, batch: PushBatch);
}
