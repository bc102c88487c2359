//! A chat that is made for the test: it writes down what it hears.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use async_trait::async_trait;
use parking_lot::Mutex;
use protocol::calls::{
    CallError, Chat, ChatHost, ConnectionAt, DeviceAt, Inbox, Pushes, SendCall, SendReply,
};
use protocol::v1::{self, SendOutcome, chat_answer::Answer, chat_request::Ask};

use crate::harness::SILENT;

/// What it heard.
#[derive(Default)]
pub struct Seen {
    pub arrived: Vec<DeviceAt>,
    /// Those of them that had arrived before.
    pub again: Vec<DeviceAt>,
    pub watches: Vec<(DeviceAt, Vec<u64>)>,
    pub left: Vec<DeviceAt>,
    pub beats: Vec<DeviceAt>,
    pub batches: Vec<usize>,
    pub sends: Vec<SendCall>,
    pub confirms: Vec<(DeviceAt, u64)>,
}

/// Odd counters are stored at once, even ones late; messages to `SILENT` are never answered.
#[derive(Default)]
pub struct FakeChat {
    pub seen: Mutex<Seen>,
    /// What it says of how it can be reached, ms.
    pub away_ms: AtomicU32,
    /// The way to an access node that is another process.
    pub door: Mutex<Option<Arc<dyn Pushes>>>,
}

impl FakeChat {
    /// Where a device arrived last.
    pub fn device(&self, user: u64, device: u64) -> DeviceAt {
        let seen = self.seen.lock();
        let found = seen.arrived.iter().rev().find(|at| (at.user, at.device) == (user, device));
        *found.expect("it has arrived")
    }
}

#[async_trait]
impl Chat for FakeChat {
    fn out_of_reach_ms(&self, _: u64) -> u32 {
        self.away_ms.load(Ordering::Relaxed)
    }

    fn arrive(&self, device: DeviceAt) {
        self.seen.lock().arrived.push(device);
    }

    fn arrive_again(&self, device: DeviceAt) {
        self.arrive(device);
        self.seen.lock().again.push(device);
    }

    fn watch_again(&self, device: DeviceAt, users: &[u64]) {
        self.seen.lock().watches.push((device, users.to_vec()));
    }

    fn leave(&self, device: DeviceAt) {
        self.seen.lock().left.push(device);
    }

    fn beat(&self, devices: &[DeviceAt]) {
        self.seen.lock().beats.extend_from_slice(devices);
    }

    fn send(&self, calls: &mut Vec<SendCall>, inbox: &Arc<Inbox<SendReply>>, out: &mut Vec<SendReply>) {
        let mut seen = self.seen.lock();
        seen.batches.push(calls.len());
        seen.sends.extend_from_slice(calls);
        let mut late = Vec::new();
        for call in calls.drain(..).filter(|call| call.send.conversation != SILENT) {
            let answer = v1::SendAnswer {
                outcome: SendOutcome::Stored.into(),
                conversation: call.send.conversation,
                counter: call.send.counter,
                seq: call.send.counter,
                ..Default::default()
            };
            let reply = SendReply { tag: call.tag, answer };
            if call.send.counter % 2 == 0 { late.push(reply) } else { out.push(reply) }
        }
        if !late.is_empty() {
            let inbox = Arc::clone(inbox);
            std::thread::spawn(move || inbox.put_all(late));
        }
    }

    fn confirm(&self, confirms: &[(DeviceAt, u64)]) {
        self.seen.lock().confirms.extend_from_slice(confirms);
    }

    async fn ask(&self, _from: ConnectionAt, request: v1::ChatRequest) -> Result<v1::ChatAnswer, CallError> {
        tokio::task::yield_now().await;
        let answer = match request.ask {
            Some(Ask::Sync(sync)) => {
                let entry = |cursor| v1::Entry {
                    cursor,
                    conversation: 5,
                    seq: cursor,
                    message: Some(v1::ChatMessage { body: vec![1; 300], ..Default::default() }),
                };
                let entries: Vec<_> =
                    (sync.cursor + 1..=sync.cursor + u64::from(sync.limit)).map(entry).collect();
                let cursor = sync.cursor + u64::from(sync.limit);
                let unread_total = request.user * 1_000 + request.device;
                Answer::Sync(v1::SyncAnswer { entries, cursor, unread_total, ..Default::default() })
            }
            Some(Ask::Recall(recall)) if recall.conversation == 404 => {
                return Err(CallError::NotFound("there is no conversation 404".into()));
            }
            Some(Ask::MarkRead(read)) => Answer::ReadAt(v1::ReadAt {
                conversation: read.conversation,
                seq: read.seq,
                ..Default::default()
            }),
            Some(Ask::Presence(ask)) => {
                let of = |user: &u64| v1::PresenceOf { user: *user, online: true, seen_ms: 1 };
                Answer::Presence(v1::PresenceAnswer { presence: ask.users.iter().map(of).collect() })
            }
            Some(Ask::Devices(_)) => {
                let own = v1::DeviceView { device: request.device, ..Default::default() };
                Answer::Devices(v1::DevicesAnswer { devices: vec![own] })
            }
            _ => Answer::Done(v1::Done { conversation: 5, seq: 1 }),
        };
        Ok(v1::ChatAnswer { answer: Some(answer), user: 0 })
    }
}

impl ChatHost for FakeChat {
    fn attach(&self, _access: u16, door: Arc<dyn Pushes>) {
        *self.door.lock() = Some(door);
    }

    fn detach(&self, _access: u16) {
        *self.door.lock() = None;
    }
}
