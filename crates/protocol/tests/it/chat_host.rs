//! A chat node that writes down what it hears, and front doors that keep what is pushed.

use crate::world::{KEPT, NODE, Server, cluster, eventually, serve_as};
use async_trait::async_trait;
use parking_lot::Mutex;
use protocol::calls::client::{CallOptions, Dialer, RemoteChat, Target};
use protocol::calls::{
    CallError, Chat, ChatHost, ConnectionAt, DeviceAt, Inbox, Part, PartKind, PushBatch, Pushes, SendCall,
    SendReply, Served, Target as PushTarget,
};
use protocol::v1::chat_answer::Answer;
use protocol::v1::chat_request::Ask;
use protocol::v1::{
    ChatAnswer, ChatRequest, Done, PresenceAnswer, PresenceOf, Send, SendAnswer, SendOutcome,
};
use runtime::{SystemClock, Tasks};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

pub const ACCESS: u16 = 31;

/// A caller's marks begin here, far above those on the wire.
pub const TAGS_FROM: u64 = 1_000_000;

/// Messages to it are never answered.
pub const SILENT: u64 = 404;

pub fn device(n: u64) -> DeviceAt {
    DeviceAt { user: n, device: n + 1, at: ConnectionAt { access: ACCESS, connection: n + 2 } }
}

#[derive(Clone, PartialEq, Debug)]
pub enum Heard {
    Arrived(DeviceAt),
    Again(DeviceAt),
    Watches(DeviceAt, Vec<u64>),
    Left(DeviceAt),
    Beat(DeviceAt),
    Confirmed(DeviceAt, u64),
    Send(SendCall),
}

/// A chat node that writes down what it hears. Odd counters are stored at once, even ones late.
#[derive(Default)]
pub struct Host {
    pub heard: Mutex<Vec<Heard>>,
    pub doors: Mutex<BTreeMap<u16, Arc<dyn Pushes>>>,
}

impl Host {
    pub fn here(&self) -> BTreeSet<u64> {
        let mut here = BTreeSet::new();
        for heard in &*self.heard.lock() {
            match heard {
                Heard::Arrived(device) | Heard::Again(device) => drop(here.insert(device.user)),
                Heard::Left(device) => drop(here.remove(&device.user)),
                _ => {}
            }
        }
        here
    }

    pub fn count(&self, what: impl Fn(&Heard) -> bool) -> usize {
        self.heard.lock().iter().filter(|heard| what(heard)).count()
    }
}

pub fn stored(call: &SendCall) -> SendReply {
    let answer = SendAnswer {
        outcome: SendOutcome::Stored.into(),
        conversation: call.send.conversation,
        counter: call.send.counter,
        seq: call.send.counter * 10,
        ..SendAnswer::default()
    };
    SendReply { tag: call.tag, answer }
}

#[async_trait]
impl Chat for Host {
    fn arrive(&self, device: DeviceAt) {
        self.heard.lock().push(Heard::Arrived(device));
    }

    fn arrive_again(&self, device: DeviceAt) {
        self.heard.lock().push(Heard::Again(device));
    }

    fn watch_again(&self, device: DeviceAt, users: &[u64]) {
        self.heard.lock().push(Heard::Watches(device, users.to_vec()));
    }

    fn leave(&self, device: DeviceAt) {
        self.heard.lock().push(Heard::Left(device));
    }

    fn beat(&self, devices: &[DeviceAt]) {
        self.heard.lock().extend(devices.iter().map(|device| Heard::Beat(*device)));
    }

    fn send(&self, calls: &mut Vec<SendCall>, inbox: &Arc<Inbox<SendReply>>, out: &mut Vec<SendReply>) {
        let mut late = Vec::new();
        for call in calls.drain(..) {
            match call.send.counter % 2 {
                _ if call.send.conversation == SILENT => {}
                1 => out.push(stored(&call)),
                _ => late.push(stored(&call)),
            }
            self.heard.lock().push(Heard::Send(call));
        }
        let inbox = Arc::clone(inbox);
        std::thread::spawn(move || inbox.put_all(late));
    }

    fn confirm(&self, confirms: &[(DeviceAt, u64)]) {
        self.heard.lock().extend(confirms.iter().map(|(device, cursor)| Heard::Confirmed(*device, *cursor)));
    }

    async fn ask(&self, from: ConnectionAt, request: ChatRequest) -> Result<ChatAnswer, CallError> {
        let answer = match request.ask {
            Some(Ask::Recall(recall)) => {
                return Err(CallError::Refused(format!("{} is too old", recall.seq)));
            }
            // Longer than any caller waits.
            Some(Ask::Sync(_)) => {
                tokio::time::sleep(Duration::from_secs(60)).await;
                None
            }
            Some(Ask::Presence(ask)) => {
                let of = |user: &u64| PresenceOf { user: *user, online: true, seen_ms: 1 };
                Some(Answer::Presence(PresenceAnswer { presence: ask.users.iter().map(of).collect() }))
            }
            _ => Some(Answer::Done(Done { conversation: from.connection, seq: u64::from(from.access) })),
        };
        Ok(ChatAnswer { answer, user: request.user })
    }
}

impl ChatHost for Host {
    fn attach(&self, access: u16, door: Arc<dyn Pushes>) {
        self.doors.lock().insert(access, door);
    }

    fn detach(&self, access: u16) {
        self.doors.lock().remove(&access);
    }
}

/// A front door that keeps what is pushed.
#[derive(Default)]
pub struct Door(pub Mutex<Vec<PushBatch>>);

impl Pushes for Door {
    fn push(&self, batch: PushBatch) {
        self.0.lock().push(batch);
    }
}

pub fn serve(tasks: &Tasks, at: Option<SocketAddr>) -> Server<Host> {
    serve_keeping(tasks, at, KEPT)
}

pub fn serve_keeping(tasks: &Tasks, at: Option<SocketAddr>, kept: Duration) -> Server<Host> {
    serve_as(tasks, at, kept, |host| Served { chat: Some(host), ..Served::default() })
}

pub fn dial(tasks: &Tasks, address: SocketAddr, options: CallOptions, door: &Arc<Door>) -> RemoteChat {
    let dialer = Dialer::new(cluster(1), "access/31", options, SystemClock::shared(), tasks.stage());
    let target = Target { node: NODE, address: address.to_string() };
    dialer.dial_chat(target, ACCESS, door.clone())
}

pub async fn up(chat: &RemoteChat) {
    eventually("chat is reached", || chat.health().up).await;
}

pub fn sends(counters: std::ops::Range<u64>, conversation: u64) -> Vec<SendCall> {
    let send = |counter| Send {
        user: 5,
        device: 6,
        conversation,
        counter,
        body: counter.to_le_bytes().to_vec(),
        ..Send::default()
    };
    counters.map(|n| SendCall { tag: n + TAGS_FROM, send: send(n), from: device(5).at }).collect()
}

pub fn request(ask: Ask) -> ChatRequest {
    ChatRequest { user: 5, device: 6, ask: Some(ask) }
}

pub fn batch(targets: u64, part: usize) -> PushBatch {
    let kind = PartKind::Message { conversation: 9, seq: 8 };
    let target = |n| PushTarget { connection: n, user: n, device: 1, after: n, cursor: n + 1, message: 0 };
    PushBatch {
        bytes: vec![7; part],
        parts: vec![Part { kind, bytes: 0..part as u32 }],
        targets: (0..targets).map(target).collect(),
    }
}
