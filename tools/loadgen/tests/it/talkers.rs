//! A chat service of a few lines, over frames: what is in its book is durable, the process around it can be killed.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use prost::Message;
use protocol::frame::{FRAME_MAX, FrameKind, next, put, put_message};
use protocol::v1::chat_answer::Answer;
use protocol::v1::chat_request::Ask;
use protocol::v1::{self, ChatMessage, SendAnswer, SendOutcome};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

/// A sin that the oracle must find.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sin {
    None,
    /// Some messages are acknowledged and forgotten.
    Forget,
    /// A resend is stored again.
    StoreTwice,
    /// Unread counts are one too high.
    Miscount,
}

#[derive(Default)]
struct Talk {
    log: Vec<ChatMessage>,
    members: BTreeSet<u64>,
    pair: bool,
}

#[derive(Default)]
struct Taken {
    last: u64,
    answers: HashMap<u64, SendAnswer>,
}

type DeviceId = (u64, u64);

/// Everything that survives a kill.
pub struct Book {
    talks: BTreeMap<u64, Talk>,
    timelines: HashMap<u64, Vec<(u64, u64)>>,
    taken: HashMap<(DeviceId, u64), Taken>,
    reads: HashMap<(u64, u64), u64>,
    online: BTreeMap<DeviceId, (u64, mpsc::Sender<Vec<u8>>)>,
    made: HashMap<(u64, u64), u64>,
    sin: Sin,
    dice: u64,
    /// What connections are told; silence of three of them ends one.
    pub heartbeat_ms: u32,
}

/// Pushes that wait for a connection. Who tests the pushes alone gets all of them, however late this process is scheduled.
const PUSHES: usize = 16_384;

impl Book {
    pub fn new(sin: Sin) -> Arc<Mutex<Self>> {
        Arc::new(Mutex::new(Self {
            talks: BTreeMap::new(),
            timelines: HashMap::new(),
            taken: HashMap::new(),
            reads: HashMap::new(),
            online: BTreeMap::new(),
            made: HashMap::new(),
            sin,
            dice: 1,
            heartbeat_ms: 1_000,
        }))
    }

    fn dice(&mut self, sides: u64) -> u64 {
        self.dice = self.dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.dice >> 33) % sides
    }

    fn append(&mut self, mut message: ChatMessage, from: DeviceId) -> u64 {
        let conversation = message.conversation;
        let Some(talk) = self.talks.get_mut(&conversation) else { return 0 };
        message.seq = talk.log.len() as u64 + 1;
        talk.log.push(message.clone());
        let seq = message.seq;
        for user in talk.members.clone() {
            let line = self.timelines.entry(user).or_default();
            line.push((conversation, seq));
            let cursor = line.len() as u64;
            let devices: Vec<_> =
                self.online.range((user, 0)..=(user, u64::MAX)).map(|(id, _)| *id).collect();
            for id in devices {
                let Some((pushed, sender)) = self.online.get_mut(&id) else { continue };
                let entry = v1::Entry { cursor, conversation, seq, message: Some(message.clone()) };
                let entries = if id == from { vec![] } else { vec![entry] };
                let push = v1::Push { after: *pushed, cursor, entries, ..Default::default() };
                *pushed = cursor;
                let mut bytes = Vec::new();
                put_message(&mut bytes, FrameKind::Push, 0, &push);
                // A queue that is full is a slow reader: it syncs.
                let _ = sender.try_send(bytes);
            }
        }
        seq
    }

    fn send(&mut self, from: DeviceId, send: &v1::Send) -> SendAnswer {
        let conversation = match send.conversation {
            0 => (1 << 40) + from.0.min(send.to_user) * 1_000_000 + from.0.max(send.to_user),
            conversation => conversation,
        };
        let (luck, sin) = (self.dice(50), self.sin);
        let mut answer = SendAnswer { conversation, counter: send.counter, ..Default::default() };
        let taken = self.taken.entry((from, conversation)).or_default();
        if send.counter <= taken.last && sin != Sin::StoreTwice {
            return taken.answers.get(&send.counter).cloned().unwrap_or(answer);
        }
        if luck == 0 {
            answer.set_outcome(SendOutcome::Busy);
            answer.retry_after_ms = 10;
            return answer;
        }
        if send.counter > taken.last.max(send.given_up) + 1 {
            answer.set_outcome(SendOutcome::OutOfTurn);
            answer.next_counter = taken.last + 1;
            return answer;
        }
        let members = [from.0, send.to_user].into_iter().collect();
        self.talks.entry(conversation).or_insert(Talk { log: vec![], members, pair: true });
        let message = ChatMessage {
            conversation,
            sender: from.0,
            device: from.1,
            counter: send.counter,
            kind: send.kind,
            body: send.body.clone(),
            ..Default::default()
        };
        answer.seq = if sin == Sin::Forget && luck == 2 {
            self.talks[&conversation].log.len() as u64 + 1
        } else {
            self.append(message, from)
        };
        answer.set_outcome(SendOutcome::Stored);
        let taken = self.taken.entry((from, conversation)).or_default();
        taken.last = taken.last.max(send.counter);
        taken.answers.insert(send.counter, answer.clone());
        answer
    }

    fn ask(&mut self, from: DeviceId, ask: Ask) -> Answer {
        let user = from.0;
        match ask {
            Ask::Sync(sync) => {
                let line = self.timelines.get(&user).map_or(&[][..], Vec::as_slice);
                let end = line.len() as u64;
                if sync.cursor == 0 {
                    return Answer::Sync(v1::SyncAnswer { start: true, cursor: end, ..Default::default() });
                }
                let behind = line.iter().enumerate().skip(sync.cursor as usize).take(100);
                let entries: Vec<_> = behind
                    .map(|(at, (conversation, seq))| v1::Entry {
                        cursor: at as u64 + 1,
                        conversation: *conversation,
                        seq: *seq,
                        message: (seq % 3 > 0)
                            .then(|| self.talks[conversation].log[*seq as usize - 1].clone()),
                    })
                    .collect();
                let cursor = entries.last().map_or(end, |entry| entry.cursor);
                Answer::Sync(v1::SyncAnswer { entries, cursor, more: cursor < end, ..Default::default() })
            }
            Ask::Range(range) => {
                let log = &self.talks[&range.conversation].log;
                let last_seq = log.len() as u64;
                let to = if range.to_seq == 0 { last_seq } else { range.to_seq.min(last_seq) };
                let messages: Vec<_> = (range.from_seq.max(1)..=to)
                    .take(range.limit as usize)
                    .map(|seq| log[seq as usize - 1].clone())
                    .collect();
                let more = messages.last().is_some_and(|message| message.seq < to);
                Answer::Range(v1::RangeAnswer { messages, first_seq: 1, last_seq, more })
            }
            Ask::Conversations(_) => Answer::Conversations(self.list(user)),
            Ask::MarkRead(read) => {
                let at = self.reads.entry((user, read.conversation)).or_default();
                *at = (*at).max(read.seq);
                Answer::ReadAt(v1::ReadAt { conversation: read.conversation, seq: *at, ..Default::default() })
            }
            Ask::MakeGroup(make) => {
                let next = 1_000 + self.made.len() as u64;
                let id = *self.made.entry((user, make.request)).or_insert(next);
                if let Entry::Vacant(place) = self.talks.entry(id) {
                    let members = make.members.into_iter().chain([user]).collect();
                    place.insert(Talk { log: vec![], members, pair: false });
                    let kind = v1::MessageKind::Change.into();
                    self.append(ChatMessage { conversation: id, kind, ..Default::default() }, (0, 0));
                }
                Answer::Done(v1::Done { conversation: id, seq: 1 })
            }
            _ => Answer::Done(v1::Done::default()),
        }
    }

    fn list(&self, user: u64) -> v1::ConversationsAnswer {
        let of_user = self.talks.iter().filter(|(_, talk)| talk.members.contains(&user));
        let conversations: Vec<_> = of_user
            .map(|(id, talk)| {
                let read = self.reads.get(&(user, *id)).copied().unwrap_or(0);
                let behind = talk.log.iter().filter(|m| m.seq > read && m.sender != user && m.kind < 32);
                v1::ConversationView {
                    conversation: *id,
                    kind: if talk.pair { v1::ConversationKind::Pair } else { v1::ConversationKind::Group }
                        .into(),
                    peer: talk.members.iter().copied().find(|m| *m != user && talk.pair).unwrap_or(0),
                    last_seq: talk.log.len() as u64,
                    read_seq: read,
                    unread: behind.count() as u64 + u64::from(self.sin == Sin::Miscount),
                    ..Default::default()
                }
            })
            .collect();
        let unread_total = conversations.iter().map(|view| view.unread).sum();
        v1::ConversationsAnswer { conversations, unread_total, more: false }
    }
}

/// The service while it lives: dropping it is a kill.
pub struct Talkers {
    runtime: Option<tokio::runtime::Runtime>,
    pub frames: SocketAddr,
}

impl Talkers {
    pub fn start(book: &Arc<Mutex<Book>>, at: Option<SocketAddr>) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
        let frames = runtime.block_on(TcpListener::bind(at.unwrap_or(any))).unwrap();
        let address = frames.local_addr().unwrap();
        let book = Arc::clone(book);
        runtime.spawn(async move {
            while let Ok((stream, _)) = frames.accept().await {
                tokio::runtime::Handle::current().spawn(talk(stream, Arc::clone(&book)));
            }
        });
        Self { runtime: Some(runtime), frames: address }
    }

    pub fn kill(mut self, book: &Mutex<Book>) {
        self.runtime.take().unwrap().shutdown_timeout(Duration::from_secs(30));
        book.lock().online.clear();
    }
}

async fn talk(mut stream: TcpStream, book: Arc<Mutex<Book>>) -> std::io::Result<()> {
    let (sender, mut pushes) = mpsc::channel::<Vec<u8>>(PUSHES);
    let (mut input, mut id) = (Vec::new(), (0, 0));
    loop {
        let mut out = Vec::new();
        tokio::select! {
            read = stream.read_buf(&mut input) => if read? == 0 { break },
            push = pushes.recv() => {
                out.extend(push.unwrap_or_default());
                while let Ok(push) = pushes.try_recv() { out.extend(push); }
                stream.write_all(&out).await?;
                continue;
            }
        }
        let mut at = 0;
        while let Some((frame, used)) = next(&input[at..], FRAME_MAX).map_err(std::io::Error::other)? {
            at += used;
            let mut book = book.lock();
            match frame.kind {
                FrameKind::Hello => {
                    let heartbeat_ms = book.heartbeat_ms;
                    let welcome = v1::Welcome { protocol_version: 1, heartbeat_ms, ..Default::default() };
                    put_message(&mut out, FrameKind::Welcome, frame.id, &welcome);
                }
                FrameKind::Login => {
                    let login = v1::Login::decode(frame.body).map_err(std::io::Error::other)?;
                    id = (user_of(&login.user_token), login.device);
                    let end = book.timelines.get(&id.0).map_or(0, |line| line.len() as u64);
                    book.online.insert(id, (end, sender.clone()));
                    let done = v1::LoginDone { user: id.0, chat: true, ..Default::default() };
                    put_message(&mut out, FrameKind::LoginDone, frame.id, &done);
                }
                FrameKind::Send => {
                    let send = v1::Send::decode(frame.body).map_err(std::io::Error::other)?;
                    let answer = book.send(id, &send);
                    put_message(&mut out, FrameKind::SendAnswer, frame.id, &answer);
                }
                FrameKind::Ask => {
                    let ask = v1::ChatRequest::decode(frame.body).map_err(std::io::Error::other)?;
                    let answer = ask.ask.map(|ask| book.ask(id, ask));
                    put_message(
                        &mut out,
                        FrameKind::AskAnswer,
                        frame.id,
                        &v1::ChatAnswer { answer, user: 0 },
                    );
                }
                FrameKind::Heartbeat => put(&mut out, FrameKind::Heartbeat, frame.id, |_| ()),
                _ => {}
            }
        }
        input.drain(..at);
        stream.write_all(&out).await?;
    }
    let mut book = book.lock();
    // A newer connection of the device has its own sender.
    if book.online.get(&id).is_some_and(|(_, there)| there.same_channel(&sender)) {
        book.online.remove(&id);
    }
    Ok(())
}

fn user_of(token: &str) -> u64 {
    use base64::Engine;
    let claims = token.split('.').nth(1).unwrap_or_default();
    let claims = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(claims).unwrap_or_default();
    let claims: serde_json::Value = serde_json::from_slice(&claims).unwrap_or_default();
    claims["sub"].as_str().and_then(|user| user.parse().ok()).unwrap_or(0)
}
