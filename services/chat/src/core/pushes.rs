//! Pushes on their way: each message is encoded once for each access node, each target is a few words.

use super::user::Conn;
use crate::limits::PUSHED_BODY_MAX;
use prost::Message as _;
use protocol::calls::{Part, PartKind, PushBatch, Target};
use protocol::v1::{Head, MessageKind, PresenceOf, ReadAt};
use records::ChatMessage;

/// A message as it goes to users. `recalled`: without its body.
pub fn wire(message: &ChatMessage, recalled: bool) -> protocol::v1::ChatMessage {
    protocol::v1::ChatMessage {
        message_id: message.message_id,
        conversation: message.conversation,
        seq: message.seq,
        sender: message.sender,
        device: message.device,
        counter: message.counter,
        kind: i32::from(message.kind),
        body: if recalled { Vec::new() } else { message.body.clone() },
        sent_ms: message.sent_ms,
        recalled,
    }
}

/// Whether a message is small enough to go along with an entry.
pub fn goes_along(message: &ChatMessage) -> bool {
    message.body.len() <= PUSHED_BODY_MAX || i32::from(message.kind) >= MessageKind::Change as i32
}

struct ForNode {
    access: u16,
    batch: PushBatch,
    /// The current part's number in this batch, once a target needs it.
    current: Option<u32>,
}

/// What is pushed in one go.
#[derive(Default)]
pub struct Pushing {
    nodes: Vec<ForNode>,
    part: Vec<u8>,
    kind: Option<PartKind>,
    targets: usize,
}

impl Pushing {
    /// Targets so far.
    pub fn targets(&self) -> usize {
        self.targets
    }

    /// What follows goes with this message. A large one goes as conversation and seq alone.
    pub fn message(&mut self, message: &ChatMessage) {
        let kind = PartKind::Message { conversation: message.conversation, seq: message.seq };
        self.begin(kind);
        if goes_along(message) {
            // Encoding into a Vec can't fail.
            let _ = wire(message, false).encode(&mut self.part);
        }
    }

    /// What follows goes with this head.
    pub fn head(&mut self, head: &Head) {
        self.begin(PartKind::Head);
        let _ = head.encode(&mut self.part);
    }

    /// What follows goes with this reading.
    pub fn read(&mut self, read: &ReadAt) {
        self.begin(PartKind::Read);
        let _ = read.encode(&mut self.part);
    }

    /// What follows goes with this presence.
    pub fn presence(&mut self, presence: &PresenceOf) {
        self.begin(PartKind::Presence);
        let _ = presence.encode(&mut self.part);
    }

    fn begin(&mut self, kind: PartKind) {
        self.part.clear();
        self.kind = Some(kind);
        for node in &mut self.nodes {
            node.current = None;
        }
    }

    /// The current part goes to a connection, which has been pushed everything up to `after` and now up to `cursor`.
    pub fn target(&mut self, user: u64, conn: &Conn, after: u64, cursor: u64) {
        self.target_at(user, conn.device, conn.at, after, cursor);
    }

    /// The same for a connection that is not at hand.
    pub fn target_at(
        &mut self,
        user: u64,
        device: u64,
        at: protocol::calls::ConnectionAt,
        after: u64,
        cursor: u64,
    ) {
        let Some(kind) = self.kind else { return };
        let index = match self.nodes.iter().position(|n| n.access == at.access) {
            Some(index) => index,
            None => {
                let batch = PushBatch::default();
                self.nodes.push(ForNode { access: at.access, batch, current: None });
                self.nodes.len() - 1
            }
        };
        let node = &mut self.nodes[index];
        let message = match node.current {
            Some(number) => number,
            None => {
                let number = node.batch.parts.len() as u32;
                let start = node.batch.bytes.len() as u32;
                node.batch.bytes.extend_from_slice(&self.part);
                let bytes = start..node.batch.bytes.len() as u32;
                node.batch.parts.push(Part { kind, bytes });
                node.current = Some(number);
                number
            }
        };
        node.batch.targets.push(Target { connection: at.connection, user, device, after, cursor, message });
        self.targets += 1;
    }

    /// Takes the batches out, each with its targets in the order that the port promises.
    pub fn take(&mut self) -> Vec<(u16, PushBatch)> {
        self.kind = None;
        self.targets = 0;
        let order = |t: &Target| (t.connection, t.user, t.device, t.message);
        let batches = std::mem::take(&mut self.nodes).into_iter().filter(|n| !n.batch.targets.is_empty());
        batches
            .map(|mut node| {
                // Parts are numbered in the order of their cursors.
                node.batch.targets.sort_unstable_by_key(order);
                (node.access, node.batch)
            })
            .collect()
    }
}
