//! One installation's chat: what it sends, what it has, and what it must ask for.
//!
//! [`Device`] owns no socket and reads no clock. It is handed the frames of whichever connection there is and says what
//! to send; what the app gets are [`Event`]s. It promises: a message that the app sent is stored once or said to be
//! refused, however often it had to go out; a message in one of the user's conversations is handed out once, after
//! everything before it in that conversation, whatever the network dropped, delayed or repeated. [`Device::state`] is
//! what the app keeps over restarts.
//!
//! A device that is new starts from the conversation list: what lies before it is history, which the app asks for when
//! somebody scrolls up. A state that was lost must not be replaced by an older one's counters: [`Device::restore`]
//! leaves a gap of numbers for what was sent since the state was kept, and who has no state at all takes a new device number.

mod device;
mod inbox;
mod outbox;
mod start;
mod state;
#[cfg(test)]
mod tests;

pub use device::Device;
pub use state::{DeviceState, KeptItem, KeptLine, KeptTalk};

use protocol::calls::SEND_BODY_MAX;
use protocol::v1::{self, SendOutcome};

/// Bit that the correlation ids of a device have set, so that other requests on its connection can use the rest.
pub const CHAT_IDS: u32 = 1 << 31;

/// How patient a device is, and what it holds at most. All times in ms.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ChatRules {
    /// An answer that takes longer is taken for lost.
    pub answer_ms: u64,
    /// Each resend waits twice as long as the one before, up to this.
    pub answer_max_ms: u64,
    /// Nothing is asked again faster than this.
    pub retry_min_ms: u64,
    /// How long a hole that one's own message may fill is left alone.
    pub hole_ms: u64,
    /// A confirmation waits for others so long,
    pub confirm_ms: u64,
    /// and for at most so many entries.
    pub confirm_entries: u32,
    /// Unanswered messages of one conversation.
    pub window: usize,
    /// Unanswered messages of all; below `LoginDone.outstanding_max`.
    pub unanswered_max: usize,
    /// Messages that wait to be sent or answered.
    pub queue_max: usize,
    /// Messages that came early and wait for what is missing before them.
    pub early_max: usize,
    /// Pushes that wait for a sync.
    pub held_max: usize,
    /// Conversations that are known.
    pub conversations_max: usize,
    /// A conversation that is further ahead than this is not pulled as a whole: [`Event::Skipped`] names what is left out.
    pub pull_max: u64,
}

impl Default for ChatRules {
    fn default() -> Self {
        Self {
            answer_ms: 3_000,
            answer_max_ms: 12_000,
            retry_min_ms: 100,
            hole_ms: 150,
            confirm_ms: 200,
            confirm_entries: 50,
            window: 16,
            unanswered_max: 128,
            queue_max: 1_000,
            early_max: 4_096,
            held_max: 256,
            conversations_max: 10_000,
            pull_max: 10_000,
        }
    }
}

/// To whom.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Target {
    /// A conversation.
    Conversation(u64),
    /// A person; the conversation is made with the first message.
    User(u64),
}

/// Why a message was not queued.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum SendError {
    /// Too many wait already.
    #[error("{0} messages wait to be sent; try again when some have been")]
    Full(usize),
    /// The body.
    #[error("a body of {0} bytes is too long; at most {max} are possible", max = SEND_BODY_MAX)]
    Long(usize),
    /// User or conversation 0.
    #[error("a message needs a user or a conversation other than 0")]
    Nobody,
}

/// Something for the app.
#[derive(Clone, PartialEq, Debug)]
pub enum Event {
    /// The next message of its conversation; one's own too.
    Message(v1::ChatMessage),
    /// A message that was queued is durable.
    Stored {
        /// Which.
        ticket: u64,
        /// Where it stands; 0: the platform no longer knows.
        seq: u64,
        /// Its conversation; 0 as above.
        conversation: u64,
    },
    /// A message that was queued never will be stored.
    Refused {
        /// Which.
        ticket: u64,
        /// Why.
        outcome: SendOutcome,
        /// In words.
        reason: String,
    },
    /// A conversation that the list names.
    Conversation(Box<v1::ConversationView>),
    /// A new device begins behind this message of a conversation: it and those before are history.
    Begins {
        /// Where.
        conversation: u64,
        /// The last one that is not handed out.
        seq: u64,
    },
    /// These messages will not be handed out: too many to pull, or out of reach. They are in the history, if anywhere.
    Skipped {
        /// Where.
        conversation: u64,
        /// First that is left out.
        from: u64,
        /// Last that is left out.
        to: u64,
    },
    /// A read position, this device's or another's.
    Read(v1::ReadAt),
    /// Unread messages in all.
    UnreadTotal(u64),
    /// Somebody came or went.
    Presence(v1::PresenceOf),
    /// The device has everything the platform had when it was asked.
    InStep,
}

/// Something for the wire.
#[derive(Clone, PartialEq, Debug)]
pub enum Out {
    /// A message, under a correlation id.
    Send(u32, v1::Send),
    /// A request, under a correlation id.
    Ask(u32, v1::ChatRequest),
    /// A confirmation.
    Confirm(v1::Confirm),
}

impl Out {
    /// Appends the frame.
    pub fn put(&self, out: &mut Vec<u8>) {
        use protocol::frame::{FrameKind, put_message};
        match self {
            Out::Send(id, send) => put_message(out, FrameKind::Send, *id, send),
            Out::Ask(id, ask) => put_message(out, FrameKind::Ask, *id, ask),
            Out::Confirm(confirm) => put_message(out, FrameKind::Confirm, 0, confirm),
        }
    }
}
