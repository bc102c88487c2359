//! A worker's side of chat: what its connections have for chat is gathered here and handed over once a turn.

use std::collections::HashMap;

use protocol::calls::{Chat, ConnectionAt, DeviceAt, SendCall, SendReply};

use crate::limits::{BEAT_DEVICES_MAX, GATEWAY_DEVICES_MAX};

/// What waits for the end of the turn, and what gateways carry.
#[derive(Default)]
pub(crate) struct ChatDesk {
    /// Messages of the connection that has its turn.
    pub sends: Vec<SendCall>,
    /// How far devices of the connection that has its turn have come.
    pub confirms: Vec<(DeviceAt, u64)>,
    /// Room for replies.
    pub replies: Vec<SendReply>,
    /// For each gateway's connection, by its place, whom it carries.
    pub carried: HashMap<u32, Carried>,
    beats: Vec<DeviceAt>,
    tags: u64,
}

/// The devices on one gateway connection.
#[derive(Default)]
pub(crate) struct Carried {
    at: ConnectionAt,
    /// When each was heard of last (monotonic ms).
    devices: HashMap<(u64, u64), u64>,
    /// Senders of messages that are unanswered, by the upper half of their tags.
    senders: HashMap<u32, u64>,
    next_sender: u32,
}

impl Carried {
    pub fn new(at: ConnectionAt) -> Self {
        Self { at, ..Self::default() }
    }

    /// A device was heard of. True if it is new; nothing if there are too many.
    pub fn heard(&mut self, user: u64, device: u64, mono_ms: u64) -> Option<bool> {
        if let Some(last_ms) = self.devices.get_mut(&(user, device)) {
            *last_ms = mono_ms;
            return Some(false);
        }
        if self.devices.len() >= GATEWAY_DEVICES_MAX {
            return None;
        }
        self.devices.insert((user, device), mono_ms);
        Some(true)
    }

    /// The mark of a message: the reply does not say whose it is.
    pub fn mark(&mut self, user: u64) -> u32 {
        self.next_sender = self.next_sender.wrapping_add(1);
        self.senders.insert(self.next_sender, user);
        self.next_sender
    }

    /// Whose message it was.
    pub fn sender(&mut self, mark: u32) -> u64 {
        self.senders.remove(&mark).unwrap_or_default()
    }

    fn device(&self, (user, device): (u64, u64)) -> DeviceAt {
        DeviceAt { user, device, at: self.at }
    }

    /// All of them are gone.
    pub fn leave_all(&self, chat: &dyn Chat) {
        self.devices.keys().for_each(|key| chat.leave(self.device(*key)));
    }
}

/// Devices that have been heard of, on their way to chat.
struct Report<'a> {
    chat: &'a dyn Chat,
    beats: &'a mut Vec<DeviceAt>,
}

impl Report<'_> {
    fn add(&mut self, device: DeviceAt) {
        self.beats.push(device);
        if self.beats.len() >= BEAT_DEVICES_MAX {
            self.send();
        }
    }

    fn send(&mut self) {
        if !self.beats.is_empty() {
            self.chat.beat(self.beats);
            self.beats.clear();
        }
    }
}

impl ChatDesk {
    /// A tag that no other message over HTTP on this worker has.
    pub fn next_tag(&mut self) -> u64 {
        self.tags += 1;
        self.tags
    }

    /// Whether something has to be handed over.
    #[inline]
    pub fn waits(&self) -> bool {
        !self.sends.is_empty() || !self.confirms.is_empty()
    }

    /// Tells chat who has been heard of: devices with connections of their own, and those that gateways carry. The latter
    /// are gone when nothing was heard of them for `silence_ms`.
    pub fn beat(
        &mut self,
        chat: &dyn Chat,
        own: impl Iterator<Item = DeviceAt>,
        mono_ms: u64,
        since_ms: u64,
        silence_ms: u64,
    ) {
        let mut report = Report { chat, beats: &mut self.beats };
        own.for_each(|device| report.add(device));
        for carried in self.carried.values_mut() {
            let at = carried.at;
            carried.devices.retain(|&(user, device), heard_ms| {
                let who = DeviceAt { user, device, at };
                if mono_ms >= *heard_ms + silence_ms {
                    chat.leave(who);
                    return false;
                }
                if *heard_ms >= since_ms {
                    report.add(who);
                }
                true
            });
        }
        report.send();
    }
}
