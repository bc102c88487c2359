//! What an app keeps of a device over a restart.

use super::inbox::{Inbox, Talk};
use super::outbox::{Item, Line};
use super::{ChatRules, Device, Target};

/// Everything that a device must know after a restart. A Protobuf message, so an app can keep its bytes anywhere; its
/// size is bounded by [`ChatRules::conversations_max`] and [`ChatRules::queue_max`].
#[derive(Clone, PartialEq, prost::Message)]
pub struct DeviceState {
    /// Whose.
    #[prost(uint64, tag = "1")]
    pub user: u64,
    /// The installation.
    #[prost(uint64, tag = "2")]
    pub device: u64,
    /// Everything of the timeline up to here is known of.
    #[prost(uint64, tag = "3")]
    pub cursor: u64,
    /// Whether it has ever been in step.
    #[prost(bool, tag = "4")]
    pub begun: bool,
    /// What each conversation has come to.
    #[prost(message, repeated, tag = "5")]
    pub talks: Vec<KeptTalk>,
    /// What is to be sent, and the counters.
    #[prost(message, repeated, tag = "6")]
    pub lines: Vec<KeptLine>,
    /// Tickets given out.
    #[prost(uint64, tag = "7")]
    pub tickets: u64,
    /// Counters up to here are given up in conversations without a line.
    #[prost(uint64, tag = "8")]
    pub skipped: u64,
}

/// A conversation.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct KeptTalk {
    /// Which.
    #[prost(uint64, tag = "1")]
    pub conversation: u64,
    /// Handed out up to here.
    #[prost(uint64, tag = "2")]
    pub have: u64,
    /// Known to have reached.
    #[prost(uint64, tag = "3")]
    pub head: u64,
    /// Read up to here,
    #[prost(uint64, tag = "4")]
    pub read: u64,
    /// and told so.
    #[prost(uint64, tag = "5")]
    pub read_told: u64,
    /// Unread, as told.
    #[prost(uint64, tag = "6")]
    pub unread: u64,
    /// Not in timelines.
    #[prost(bool, tag = "7")]
    pub large: bool,
}

/// Messages to one conversation, or to a person.
#[derive(Clone, PartialEq, prost::Message)]
pub struct KeptLine {
    /// The conversation, or 0.
    #[prost(uint64, tag = "1")]
    pub conversation: u64,
    /// The person, if one is known.
    #[prost(uint64, tag = "2")]
    pub peer: u64,
    /// Counter of the next message.
    #[prost(uint64, tag = "3")]
    pub next: u64,
    /// Given up to here.
    #[prost(uint64, tag = "4")]
    pub given_up: u64,
    /// Unanswered and unsent ones, in order.
    #[prost(message, repeated, tag = "5")]
    pub items: Vec<KeptItem>,
}

/// A message that is not answered.
#[derive(Clone, PartialEq, prost::Message)]
pub struct KeptItem {
    /// The app's handle.
    #[prost(uint64, tag = "1")]
    pub ticket: u64,
    /// 0: never sent.
    #[prost(uint64, tag = "2")]
    pub counter: u64,
    /// What it is.
    #[prost(int32, tag = "3")]
    pub kind: i32,
    /// The message.
    #[prost(bytes = "vec", tag = "4")]
    pub body: Vec<u8>,
}

impl Device {
    /// What to keep. Messages that came early are not in it; they are pulled again.
    pub fn state(&self) -> DeviceState {
        let talk = |(conversation, talk): (&u64, &Talk)| KeptTalk {
            conversation: *conversation,
            have: talk.have,
            head: talk.head,
            read: talk.read,
            read_told: talk.read_told,
            unread: talk.unread,
            large: talk.large,
        };
        let line = |(target, line): (Target, &Line)| {
            let (conversation, peer) = match target {
                Target::Conversation(conversation) => (conversation, line.peer),
                Target::User(user) => (0, user),
            };
            let items = line.items.iter().map(|item| KeptItem {
                ticket: item.ticket,
                counter: item.counter,
                kind: item.kind,
                body: item.body.clone(),
            });
            KeptLine { conversation, peer, next: line.next, given_up: line.given_up, items: items.collect() }
        };
        DeviceState {
            user: self.user,
            device: self.device,
            cursor: self.cursor,
            begun: self.start.begun,
            talks: self.inbox.talks.iter().map(talk).collect(),
            lines: self.outbox.items().map(line).collect(),
            tickets: self.outbox.next_ticket,
            skipped: self.outbox.skipped,
        }
    }

    /// A device as it was kept. `skip`: how many messages to one conversation may have gone out since the state was kept
    /// (0 if it is kept before anything is sent): so many numbers are given up, because one of them used twice would be
    /// taken for a resend.
    pub fn restore(state: DeviceState, skip: u64, rules: ChatRules) -> Self {
        let mut device = Device::new(state.user, state.device, rules);
        device.cursor = state.cursor;
        device.start.begun = state.begun;
        device.outbox.next_ticket = state.tickets + skip;
        device.outbox.skipped = state.skipped + skip;
        let mut inbox = Inbox::default();
        for kept in state.talks.into_iter().take(rules.conversations_max) {
            let mut talk = Talk::default();
            (talk.have, talk.head, talk.large) = (kept.have, kept.head, kept.large);
            (talk.read, talk.read_told, talk.unread) = (kept.read, kept.read_told, kept.unread);
            inbox.restore(kept.conversation, talk);
        }
        device.inbox = inbox;
        for kept in state.lines.into_iter().take(rules.conversations_max) {
            let (target, next) = match kept.conversation {
                0 => (Target::User(kept.peer), kept.next),
                conversation => (Target::Conversation(conversation), kept.next),
            };
            let given_up = if skip == 0 { kept.given_up } else { next + skip - 1 };
            let mut line = Line::new(next + skip, given_up, kept.peer);
            let item = |item: KeptItem| Item::kept(item.ticket, item.counter, item.kind, item.body);
            line.items.extend(kept.items.into_iter().map(item));
            if kept.conversation != 0 && kept.peer != 0 {
                device.outbox.pairs.insert(kept.peer, kept.conversation);
            }
            device.outbox.restore(target, line);
        }
        device
    }
}
