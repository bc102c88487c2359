//! A platform of a few lines that keeps the chat service's promises, and a network that keeps none.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use protocol::v1::chat_answer::Answer;
use protocol::v1::chat_request::Ask;
use protocol::v1::{self, ChatMessage, SendAnswer, SendOutcome};

use crate::chat::Out;

pub const PEOPLE: u64 = 3;
pub const GROUP: u64 = 1_000;
pub const LARGE: u64 = 2_000;

/// A frame to a device.
#[derive(Clone, Debug)]
pub enum Down {
    SendAnswer(u32, SendAnswer),
    Answer(u32, v1::ChatAnswer),
    Error(u32, v1::Error),
    Push(v1::Push),
}

#[derive(Default)]
pub struct Talk {
    pub log: Vec<ChatMessage>,
    pub members: BTreeSet<u64>,
    large: bool,
}

/// What the platform knows of a sender's line.
#[derive(Default)]
struct Taken {
    last: u64,
    answers: HashMap<u64, SendAnswer>,
}

#[derive(Default)]
pub struct Server {
    pub talks: BTreeMap<u64, Talk>,
    /// Entries of each user: cursor, conversation, seq.
    pub timelines: BTreeMap<u64, Vec<(u64, u64, u64)>>,
    taken: HashMap<(u64, u64, u64), Taken>,
    /// Connected devices of users, and how far each was pushed.
    pub online: BTreeMap<(u64, u64), u64>,
    /// Heads that the next tick tells of.
    pub heads: BTreeSet<(u64, u64, u64)>,
    pub dice: u64,
}

pub fn pair(a: u64, b: u64) -> u64 {
    100 * a.min(b) + a.max(b)
}

impl Server {
    pub fn new() -> Self {
        let mut server = Self::default();
        for (conversation, large) in [(GROUP, false), (LARGE, true)] {
            let members = (1..=PEOPLE).collect();
            server.talks.insert(conversation, Talk { large, members, ..Talk::default() });
        }
        server
    }

    pub fn dice(&mut self, sides: u64) -> u64 {
        self.dice = self.dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.dice >> 33) % sides
    }

    fn end(&self, user: u64) -> u64 {
        self.timelines.get(&user).and_then(|line| line.last()).map_or(0, |(cursor, ..)| *cursor)
    }

    pub fn arrive(&mut self, user: u64, device: u64) {
        let end = self.end(user);
        self.online.insert((user, device), end);
    }

    pub fn leave(&mut self, user: u64, device: u64) {
        self.online.remove(&(user, device));
    }

    /// What a user may see of a conversation.
    pub fn visible(&self, user: u64, conversation: u64) -> Vec<u64> {
        let talk = &self.talks[&conversation];
        if talk.large {
            return if talk.members.contains(&user) { (1..=talk.log.len() as u64).collect() } else { vec![] };
        }
        let line = self.timelines.get(&user).into_iter().flatten();
        line.filter(|(_, c, _)| *c == conversation).map(|(.., seq)| *seq).collect()
    }

    fn append(
        &mut self,
        mut message: ChatMessage,
        from: (u64, u64),
        out: &mut Vec<((u64, u64), Down)>,
    ) -> u64 {
        let conversation = message.conversation;
        let talk = self.talks.get_mut(&conversation).unwrap();
        message.seq = talk.log.len() as u64 + 1;
        let seq = message.seq;
        talk.log.push(message.clone());
        let members: Vec<u64> = talk.members.iter().copied().collect();
        if talk.large {
            self.heads.extend(members.into_iter().map(|user| (user, conversation, seq)));
            return seq;
        }
        for user in members {
            let before = self.end(user);
            let cursor = before + 1 + self.dice(3);
            self.timelines.entry(user).or_default().push((cursor, conversation, seq));
            let devices: Vec<_> = self.online.range((user, 0)..=(user, u64::MAX)).map(|(k, _)| *k).collect();
            for device in devices {
                let with_body = self.dice(5) > 0;
                let entry =
                    v1::Entry { cursor, conversation, seq, message: with_body.then(|| message.clone()) };
                let after = self.online.insert(device, cursor).unwrap();
                let entries = if device == from { vec![] } else { vec![entry] };
                out.push((device, Down::Push(v1::Push { after, cursor, entries, ..v1::Push::default() })));
            }
        }
        seq
    }

    /// Somebody leaves the group, or comes back.
    pub fn toggle(&mut self, user: u64, out: &mut Vec<((u64, u64), Down)>) {
        let members = &mut self.talks.get_mut(&GROUP).unwrap().members;
        if !members.remove(&user) {
            members.insert(user);
        }
        let kind = v1::MessageKind::Change.into();
        let message = ChatMessage { conversation: GROUP, kind, ..ChatMessage::default() };
        self.append(message, (0, 0), out);
    }

    /// Tells everybody online of large conversations.
    pub fn tick(&mut self, out: &mut Vec<((u64, u64), Down)>) {
        for (user, conversation, _) in std::mem::take(&mut self.heads) {
            let log = &self.talks[&conversation].log;
            let (seq, log_from) = (log.len() as u64, log.len().saturating_sub(2));
            let messages = log[log_from..].to_vec();
            let messages = if self.dice(3) == 0 { vec![] } else { messages };
            let devices = self.online.range((user, 0)..=(user, u64::MAX)).map(|(k, c)| (*k, *c));
            let head = v1::Head { conversation, seq, messages };
            for (device, cursor) in devices {
                let push =
                    v1::Push { after: cursor, cursor, heads: vec![head.clone()], ..v1::Push::default() };
                out.push((device, Down::Push(push)));
            }
        }
    }

    pub fn hear(&mut self, from: (u64, u64), heard: Out, out: &mut Vec<((u64, u64), Down)>) {
        match heard {
            Out::Confirm(_) => {}
            Out::Send(id, send) => {
                let answer = self.send(from, &send, out);
                out.push((from, Down::SendAnswer(id, answer)));
            }
            Out::Ask(id, _) if self.dice(20) == 0 => {
                let retry_after_ms = 10;
                out.push((from, Down::Error(id, v1::Error { retry_after_ms, ..v1::Error::default() })));
            }
            Out::Ask(id, request) => {
                let answer = match request.ask.unwrap() {
                    Ask::Sync(sync) => Answer::Sync(self.sync(from.0, &sync)),
                    Ask::Conversations(page) => Answer::Conversations(self.list(from.0, page)),
                    Ask::Range(range) => Answer::Range(self.range(from.0, range)),
                    Ask::MarkRead(read) => Answer::ReadAt(v1::ReadAt {
                        conversation: read.conversation,
                        seq: read.seq,
                        ..v1::ReadAt::default()
                    }),
                    other => panic!("a device does not ask {other:?}"),
                };
                out.push((from, Down::Answer(id, v1::ChatAnswer { answer: Some(answer), user: 0 })));
            }
        }
    }

    fn send(&mut self, from: (u64, u64), send: &v1::Send, out: &mut Vec<((u64, u64), Down)>) -> SendAnswer {
        let conversation =
            if send.conversation == 0 { pair(from.0, send.to_user) } else { send.conversation };
        let mut answer = SendAnswer { conversation, counter: send.counter, ..SendAnswer::default() };
        let luck = self.dice(12);
        let taken = self.taken.entry((from.0, from.1, conversation)).or_default();
        if send.counter <= taken.last {
            if let Some(first) = taken.answers.get(&send.counter) {
                return first.clone();
            }
            answer.set_outcome(SendOutcome::Invalid);
            return answer;
        }
        if luck == 0 {
            answer.set_outcome(SendOutcome::Busy);
            answer.retry_after_ms = 7;
            return answer;
        }
        if send.body == b"bad" {
            answer.set_outcome(SendOutcome::Words);
            return answer;
        }
        if send.counter > taken.last.max(send.given_up) + 1 {
            answer.set_outcome(SendOutcome::OutOfTurn);
            answer.next_counter = taken.last + 1;
            return answer;
        }
        let members = [from.0, send.to_user];
        let talk = self
            .talks
            .entry(conversation)
            .or_insert_with(|| Talk { members: members.into_iter().collect(), ..Talk::default() });
        if !talk.members.contains(&from.0) {
            answer.set_outcome(SendOutcome::NotAllowed);
            return answer;
        }
        let message = ChatMessage {
            conversation,
            sender: from.0,
            device: from.1,
            counter: send.counter,
            kind: send.kind,
            body: send.body.clone(),
            ..ChatMessage::default()
        };
        answer.seq = self.append(message, from, out);
        answer.set_outcome(SendOutcome::Stored);
        let taken = self.taken.entry((from.0, from.1, conversation)).or_default();
        taken.last = send.counter;
        taken.answers.insert(send.counter, answer.clone());
        if luck == 1 {
            answer.set_outcome(SendOutcome::Pending);
        }
        answer
    }

    fn sync(&mut self, user: u64, sync: &v1::SyncRequest) -> v1::SyncAnswer {
        let end = self.end(user);
        if sync.cursor == 0 {
            return v1::SyncAnswer { start: true, cursor: end, ..v1::SyncAnswer::default() };
        }
        let line = self.timelines.get(&user).cloned().unwrap_or_default();
        let behind: Vec<_> = line.into_iter().filter(|(cursor, ..)| *cursor > sync.cursor).collect();
        let limit = 1 + self.dice(5) as usize;
        let more = behind.len() > limit;
        let mut entries = Vec::new();
        for (cursor, conversation, seq) in behind.into_iter().take(limit) {
            let message = self.talks[&conversation].log[seq as usize - 1].clone();
            let message = (self.dice(3) > 0).then_some(message);
            entries.push(v1::Entry { cursor, conversation, seq, message });
        }
        let cursor = entries.last().map_or(end.max(sync.cursor), |entry| entry.cursor);
        let mut heads = Vec::new();
        for (conversation, talk) in self.talks.iter().filter(|(_, talk)| talk.large) {
            let pulled = sync.pulled.iter().find(|p| p.conversation == *conversation).map_or(0, |p| p.seq);
            if talk.members.contains(&user) && talk.log.len() as u64 > pulled {
                let seq = talk.log.len() as u64;
                heads.push(v1::Head { conversation: *conversation, seq, messages: vec![] });
            }
        }
        v1::SyncAnswer { entries, cursor, more, heads, ..v1::SyncAnswer::default() }
    }

    fn list(&self, user: u64, page: v1::ConversationsRequest) -> v1::ConversationsAnswer {
        let mut of_user: Vec<_> = self
            .talks
            .iter()
            .filter(|(id, talk)| !talk.log.is_empty() && !self.visible(user, **id).is_empty())
            .filter(|(id, _)| **id > page.before_conversation)
            .map(|(id, talk)| v1::ConversationView {
                conversation: *id,
                kind: if *id < GROUP { v1::ConversationKind::Pair } else { v1::ConversationKind::Group }
                    .into(),
                peer: talk.members.iter().copied().find(|member| *member != user).unwrap_or(0),
                last_seq: *self.visible(user, *id).last().unwrap(),
                fan_out: if talk.large { v1::FanOut::Read } else { v1::FanOut::Write }.into(),
                active_ms: *id,
                ..v1::ConversationView::default()
            })
            .collect();
        let more = of_user.len() > 2;
        of_user.truncate(2);
        v1::ConversationsAnswer { conversations: of_user, more, unread_total: 0 }
    }

    fn range(&mut self, user: u64, range: v1::RangeRequest) -> v1::RangeAnswer {
        let visible = self.visible(user, range.conversation);
        let log = &self.talks[&range.conversation].log;
        let wanted = visible.iter().filter(|seq| (range.from_seq..=range.to_seq).contains(seq));
        let mut messages: Vec<_> = wanted.map(|seq| log[*seq as usize - 1].clone()).collect();
        let last_seq = log.len() as u64;
        let limit = 1 + self.dice(9) as usize;
        let more = messages.len() > limit;
        messages.truncate(limit);
        v1::RangeAnswer { messages, first_seq: visible.first().copied().unwrap_or(1), last_seq, more }
    }
}
