//! A node with a front door that keeps everything in memory.

use chat::node::ChatDisk;
use chat::store::{MemoryShelf, Shelf, SqlShelf};
use chat::{ChatNode, ChatOptions};
use flowlog::{LogKind, LogOptions};
use parking_lot::Mutex;
use prost::Message as _;
use protocol::calls::{
    CallError, Chat, ConnectionAt, DeviceAt, Inbox, PartKind, PushBatch, Pushes, SendCall, Target,
};
use protocol::v1::chat_answer::Answer;
use protocol::v1::chat_request::Ask;
use protocol::v1::{ChatMessage, ChatRequest, Head, MakeGroup, ReadAt, Send, SendAnswer, SendOutcome};
use runtime::{Shutdown, SystemClock, Tasks};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;
use testkit::SimDisk;

/// How long anything may take on a slow machine.
const SOON: Duration = Duration::from_secs(60);

/// What one connection has been pushed.
#[derive(Default, Clone)]
pub struct Got {
    pub entries: Vec<(Target, u64, u64, Option<ChatMessage>)>,
    pub heads: Vec<Head>,
    pub reads: Vec<ReadAt>,
    pub presence: Vec<protocol::v1::PresenceOf>,
    pub told_to_sync: Vec<u64>,
}

/// The front door.
#[derive(Default)]
pub struct Door {
    pub got: Mutex<BTreeMap<(u64, u64), Got>>,
}

impl Pushes for Door {
    fn push(&self, batch: PushBatch) {
        let order: Vec<_> = batch.targets.iter().map(|t| (t.connection, t.device, t.cursor)).collect();
        assert!(order.is_sorted(), "targets of a connection and device stand together, by cursor");
        let mut got = self.got.lock();
        for target in batch.targets {
            let part = &batch.parts[target.message as usize];
            let bytes = &batch.bytes[part.bytes.start as usize..part.bytes.end as usize];
            let to = got.entry((target.connection, target.device)).or_default();
            match part.kind {
                PartKind::Message { conversation, seq } => {
                    let message = (!bytes.is_empty()).then(|| ChatMessage::decode(bytes).unwrap());
                    to.entries.push((target, conversation, seq, message));
                }
                PartKind::Head => to.heads.push(Head::decode(bytes).unwrap()),
                PartKind::Read => to.reads.push(ReadAt::decode(bytes).unwrap()),
                PartKind::Presence => to.presence.push(protocol::v1::PresenceOf::decode(bytes).unwrap()),
                PartKind::Bare => to.told_to_sync.push(target.cursor),
            }
        }
    }
}

/// What outlives a kill.
#[derive(Clone)]
pub struct Ground {
    pub disk: SimDisk,
    pub shelf: Arc<dyn Shelf>,
    pub options: ChatOptions,
    _dir: Option<Arc<tempfile::TempDir>>,
}

impl Ground {
    pub fn memory(seed: u64) -> (Ground, MemoryShelf) {
        let shelf = MemoryShelf::default();
        let ground = Ground {
            disk: SimDisk::new(seed),
            shelf: Arc::new(shelf.clone()),
            options: options(),
            _dir: None,
        };
        (ground, shelf)
    }

    pub async fn sql(seed: u64) -> Ground {
        let dir = tempfile::tempdir().unwrap();
        let shelf = SqlShelf::open(&dir.path().join("chat.db"), 1).await.unwrap();
        let disk = SimDisk::new(seed);
        Ground { disk, shelf: Arc::new(shelf), options: options(), _dir: Some(Arc::new(dir)) }
    }
}

/// Quick ticks, small bounds, no friends needed. What is unconfirmed is not pushed again within a test, however slow the
/// machine, unless the test is about that.
pub fn options() -> ChatOptions {
    ChatOptions {
        friends_only: false,
        tick_ms: 10,
        confirm_log_ms: 20,
        checkpoint_ms: 60,
        recent_messages: 2,
        recent_entries: 2,
        again_ms: 600_000,
        ..ChatOptions::default()
    }
}

/// A running node.
pub struct World {
    pub node: Arc<ChatNode<SimDisk>>,
    pub door: Arc<Door>,
    pub ground: Ground,
    tasks: Tasks,
}

impl World {
    pub async fn start(ground: &Ground) -> World {
        let tasks = Tasks::new(Shutdown::new());
        let log = LogOptions { segment_bytes: 64 << 10, ..LogOptions::small(LogKind::CHAT, 1) };
        let disk = ChatDisk {
            disk: ground.disk.clone(),
            log_dir: PathBuf::from("/chat/log"),
            log: Some(log),
            shelf: Arc::clone(&ground.shelf),
        };
        let clock = SystemClock::shared();
        let risk = Box::new(chat::core::NoRisk);
        let node = ChatNode::start(ground.options.clone(), disk, risk, clock, &tasks).await.unwrap();
        let door = Arc::new(Door::default());
        node.attach(1, door.clone());
        World { node, door, ground: ground.clone(), tasks }
    }

    /// Ends it in order.
    pub async fn stop(self) -> Ground {
        let drained = self.tasks.drain(SOON).await;
        assert!(drained.unfinished.is_empty() && drained.failure.is_none(), "{drained:?}");
        self.ground
    }

    /// The power fails: what was not synced is lost or torn.
    pub async fn kill(self) -> Ground {
        self.ground.disk.go_down_after(0);
        self.tasks.shutdown().request();
        let _ = self.tasks.drain(SOON).await;
        self.ground.disk.crash();
        self.ground
    }

    pub fn at(user: u64, device: u64) -> DeviceAt {
        DeviceAt { user, device, at: ConnectionAt { access: 1, connection: user * 100 + device } }
    }

    pub fn arrive(&self, user: u64, device: u64) {
        self.node.arrive(World::at(user, device));
    }

    pub async fn ask(&self, user: u64, ask: Ask) -> Result<Answer, CallError> {
        self.ask_from(user, 1, ask).await
    }

    pub async fn ask_from(&self, user: u64, device: u64, ask: Ask) -> Result<Answer, CallError> {
        let request = ChatRequest { user, device, ask: Some(ask) };
        let answer = self.node.ask(World::at(user, device).at, request).await?;
        Ok(answer.answer.unwrap())
    }

    /// Sends several and waits for all answers, in their order.
    pub async fn send_all(&self, sends: Vec<Send>) -> Vec<SendAnswer> {
        let (inbox, mut out) = (Arc::new(Inbox::new()), Vec::new());
        let count = sends.len();
        let mut calls: Vec<SendCall> = sends
            .into_iter()
            .enumerate()
            .map(|(tag, send)| {
                let from = World::at(send.user, send.device).at;
                SendCall { tag: tag as u64, send, from }
            })
            .collect();
        self.node.send(&mut calls, &inbox, &mut out);
        tokio::time::timeout(SOON, async {
            while out.len() < count {
                inbox.take(&mut out, Waker::noop());
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        })
        .await
        .expect("every send is answered");
        out.sort_by_key(|reply| reply.tag);
        out.into_iter().map(|reply| reply.answer).collect()
    }

    pub async fn send(&self, send: Send) -> SendAnswer {
        self.send_all(vec![send]).await.pop().unwrap()
    }

    /// Sends until it is stored.
    pub async fn stored(&self, send: Send) -> SendAnswer {
        loop {
            let answer = self.send(send.clone()).await;
            match answer.outcome() {
                SendOutcome::Stored => return answer,
                SendOutcome::Busy | SendOutcome::Pending => {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                _ => panic!("{answer:?} to {send:?}"),
            }
        }
    }

    pub async fn group(&self, owner: u64, members: Vec<u64>, request: u64) -> u64 {
        let ask = MakeGroup { name: "a group".to_owned(), members, request };
        match self.ask(owner, Ask::MakeGroup(ask)).await.unwrap() {
            Answer::Done(done) => done.conversation,
            other => panic!("{other:?}"),
        }
    }

    pub fn got(&self, user: u64, device: u64) -> Got {
        self.door.got.lock().get(&(user * 100 + device, device)).cloned().unwrap_or_default()
    }

    /// A device confirms, and the log has it.
    pub async fn confirmed(&self, user: u64, device: u64, cursor: u64) {
        let before = self.node.status().log_end;
        self.node.confirm(&[(World::at(user, device), cursor)]);
        self.until("the log has it", |w| {
            let status = w.node.status();
            status.log_end > before && status.pending == 0
        })
        .await;
    }

    /// Waits until something is so.
    pub async fn until(&self, what: &str, mut so: impl FnMut(&World) -> bool) {
        let wait = async {
            while !so(self) {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        assert!(tokio::time::timeout(SOON, wait).await.is_ok(), "waited in vain: {what}");
    }

    /// Everything of a timeline behind a cursor: (conversation, seq), cursors checked.
    pub async fn timeline(&self, user: u64, mut cursor: u64) -> Vec<(u64, u64)> {
        let mut all = Vec::new();
        loop {
            let ask = protocol::v1::SyncRequest { cursor: cursor.max(1), limit: 7, pulled: Vec::new() };
            let Answer::Sync(sync) = self.ask(user, Ask::Sync(ask)).await.unwrap() else { panic!("no sync") };
            for entry in &sync.entries {
                assert!(entry.cursor > cursor, "cursors rise");
                cursor = entry.cursor;
                all.push((entry.conversation, entry.seq));
            }
            if !sync.more {
                return all;
            }
        }
    }

    /// All messages that a user may see in a conversation.
    pub async fn messages(&self, user: u64, conversation: u64) -> Vec<ChatMessage> {
        let (mut all, mut from_seq) = (Vec::new(), 0);
        loop {
            let ask = protocol::v1::RangeRequest {
                conversation,
                from_seq,
                limit: 5,
                ..protocol::v1::RangeRequest::default()
            };
            let Answer::Range(range) = self.ask(user, Ask::Range(ask)).await.unwrap() else {
                panic!("no range")
            };
            from_seq = from_seq.max(range.first_seq) + 5;
            all.extend(range.messages);
            if !range.more {
                return all;
            }
        }
    }
}

/// A text to a user.
pub fn to(user: u64, device: u64, to_user: u64, counter: u64) -> Send {
    let body = format!("{counter} from {user}").into_bytes();
    Send { user, device, to_user, counter, kind: 1, body, ..Send::default() }
}

/// A text into a conversation.
pub fn into(user: u64, device: u64, conversation: u64, counter: u64) -> Send {
    Send { to_user: 0, conversation, ..to(user, device, 0, counter) }
}
