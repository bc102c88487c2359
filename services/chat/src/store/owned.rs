//! The store of a cluster: what is written by owners, and how nobody else gets in.
//!
//! Here the store is the truth and a node's memory a copy of what it owns. A conversation is written by the owner of
//! its bucket (bucket of its id), a timeline by the owner of its user's bucket, both in steps. A step is committed only
//! while the bucket belongs to the writer: the [`Fence`] is looked at inside the transaction, so that a bucket's next
//! owner, who claims first and reads then, finds everything that was ever committed before him.
//!
//! A step may arrive again, late, or without an answer; then the same step is sent again. Why that is harmless:
//!
//! - A conversation's step moves its version by one and is done only at the version before. There is one writer, with
//!   one step under way: if the version stands where the step would bring it, the step has been done.
//! - A timeline's entries are named by (user, conversation, seq): those that are there are left alone. Its rows are
//!   absolute and carry a number that rises (`stamp`, a link's `version`): an older one changes nothing.

use super::{MessageStore, StoreError, Timeline};
use crate::core::{ConversationRows, Entry, Fanned, Head, Person, StoredLink};
use async_trait::async_trait;
use records::ChatMessage;

/// Under which ownership a step is committed. Looked at (locked against change) in its transaction.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Fence {
    /// The node.
    pub node: u16,
    /// Its epoch, which must be open.
    pub epoch: u32,
    /// Buckets of everything in the step, rising, each with the term under which the node owns it.
    pub terms: Vec<(u16, u32)>,
}

/// A name that one conversation has and no other can get.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Name {
    /// The conversation of two users.
    Pair {
        /// The smaller one.
        low: u64,
        /// The larger one.
        high: u64,
    },
    /// The group that a user's device has asked for under its own number.
    Made {
        /// Who.
        user: u64,
        /// From where.
        device: u64,
        /// The number of the request.
        request: u64,
    },
}

/// What becomes of a conversation in one step.
#[derive(Clone, Debug, Default)]
pub struct ConversationStep {
    /// What is new or has changed, absolute. New messages have the seqs from `before_seq + 1` to `rows.head.last_seq`.
    pub rows: ConversationRows,
    /// The version that the conversation has then. Now it must stand one below; below 1 is a conversation that is not
    /// there.
    pub version: u64,
    /// The last seq that it must have now.
    pub before_seq: u64,
    /// The name that a new conversation takes.
    pub name: Option<Name>,
    /// How far its members' timelines have heard of it. Raises what stands there.
    pub fanned: Fanned,
}

/// Whether a user is in a conversation, as his timeline's owner has heard it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct LinkRow {
    /// The conversation.
    pub conversation: u64,
    /// As of this version of it. A row with a version that is not lower stays as it is.
    pub version: u64,
    /// He is in it. The row stays when he has left, so that an older word can't bring him back.
    pub member: bool,
    /// Its messages don't come into his timeline.
    pub large: bool,
}

/// What becomes of a user's timeline in one step.
#[derive(Clone, Debug, Default)]
pub struct TimelineStep {
    /// Who.
    pub user: u64,
    /// Rises with the user's steps, over all owners. His own part is replaced only by one with a higher stamp.
    pub stamp: u64,
    /// His own part, if it has changed.
    pub person: Option<Person>,
    /// New entries by cursor. One whose (conversation, seq) he has already is left out, its cursor stays unused.
    pub entries: Vec<Entry>,
    /// Conversations that he came into or left, or that have grown large.
    pub links: Vec<LinkRow>,
}

/// What one transaction writes.
#[derive(Clone, Debug, Default)]
pub struct Step {
    /// Conversations, each at most once.
    pub conversations: Vec<ConversationStep>,
    /// Timelines, each user at most once.
    pub timelines: Vec<TimelineStep>,
    /// Conversations (not among those above) of which timelines have heard more. Raises what stands there; refused
    /// ones are passed over.
    pub fanned: Vec<(u64, Fanned)>,
}

impl Step {
    /// There is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.conversations.is_empty() && self.timelines.is_empty() && self.fanned.is_empty()
    }
}

/// What became of a conversation's step.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ConversationOutcome {
    /// It is durable, by this call or by one before.
    Done,
    /// Not done: the conversation stands elsewhere. Whoever believed otherwise loads it again.
    Moved {
        /// Its version; 0: it is not there.
        version: u64,
        /// Its last seq.
        last_seq: u64,
    },
    /// Not done: another conversation has the name.
    Named {
        /// That one.
        conversation: u64,
    },
    /// Not done: the node does not own its bucket (any more), or its epoch has ended.
    NotOwner,
}

/// What became of a timeline's step.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum TimelineOutcome {
    /// It is durable.
    Added {
        /// For each of its entries: it stands there under this cursor, by this call or by one before. False: the message
        /// has been in the timeline under another cursor.
        new: Vec<bool>,
    },
    /// Not done: the node does not own its bucket (any more), or its epoch has ended.
    NotOwner,
}

/// What became of a step: as many outcomes as there were conversations and timelines, in their order.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Outcomes {
    /// Of the conversations.
    pub conversations: Vec<ConversationOutcome>,
    /// Of the timelines.
    pub timelines: Vec<TimelineOutcome>,
}

/// A conversation as it stands in a member's list.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Listed {
    /// The user's place.
    pub link: StoredLink,
    /// In a conversation of two the other one; elsewhere 0.
    pub peer: u64,
    /// Its last message, whether he may see it or not.
    pub last: Option<ChatMessage>,
}

/// The store of conversations and timelines that have owners.
///
/// **Durability.** What was answered `Done` or `Added` is found for ever.
/// **Order.** Of one conversation, and of one timeline, a node has one step under way at a time.
/// **Idempotency.** The same step again gives the same outcome, as long as no later one of the same conversation or
/// timeline was made; a copy that arrives after a later one changes nothing.
/// **Isolation.** Each conversation and timeline succeeds or is refused by itself, and wholly. A read sees whole steps.
///
/// **What is damaged.** A step with something that the store refuses for good fails as a whole, and so does a reading of
/// conversations, messages or users one of which can't be understood: [`StoreError::Damaged`], and whoever asked divides his
/// question. Of a user's places, of lists, heads and persons' names what can't be understood is left out, with a line in
/// the log: a damaged conversation must not keep its members from everything else.
///
/// Of the reading ports' answers, conversations and links carry their `version` here, and conversations how far they are
/// `fanned`.
#[async_trait]
pub trait OwnedShelf: MessageStore + Timeline {
    /// Writes. After an error it is not known what was done: the same again is safe, and tells.
    async fn step(&self, fence: &Fence, step: &Step) -> Result<Outcomes, StoreError>;

    /// Conversations of these buckets with an id above `after` of which some timeline may not have heard
    /// (`fanned.version` below the version), rising, at most `limit`.
    async fn unfanned(&self, buckets: &[u16], after: u64, limit: usize) -> Result<Vec<u64>, StoreError>;

    /// The user's places in those of the conversations that he is in, whether his timeline has heard of it or not.
    async fn links(&self, user: u64, conversations: &[u64]) -> Result<Vec<StoredLink>, StoreError>;

    /// The conversations as the user's list shows them: those that he is in, in any order.
    async fn listed(&self, user: u64, conversations: &[u64]) -> Result<Vec<Listed>, StoreError>;

    /// What is stored of users, without their conversations: those of whom there is something, in any order.
    async fn persons(&self, users: &[u64]) -> Result<Vec<(u64, Person)>, StoreError>;

    /// Those of the others who are in a small group together with the user, as their timelines have heard; each once,
    /// rising. The conversation of the two themselves is no group.
    async fn acquainted(&self, user: u64, others: &[u64]) -> Result<Vec<u64>, StoreError>;

    /// Those of the conversations that are there, without their members: id, version, itself.
    async fn heads(&self, conversations: &[u64]) -> Result<Vec<(u64, u64, Head)>, StoreError>;

    /// The conversation that has a name.
    async fn named(&self, name: Name) -> Result<Option<u64>, StoreError>;

    /// Message ids of a node up to `until_ms` (ms UTC) may be given once this has returned. Returns up to when they had
    /// been reserved before: a start gives none below that. Never goes back.
    async fn reserve_ids(&self, node: u16, until_ms: u64) -> Result<u64, StoreError>;
}
