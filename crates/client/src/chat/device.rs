//! The device as a whole: phases of a connection, pushes in order, answers to whom they belong.

use std::collections::{HashMap, VecDeque};

use prost::{DecodeError, Message};
use protocol::frame::{Frame, FrameKind};
use protocol::v1;
use protocol::v1::chat_answer::Answer;
use protocol::v1::chat_request::Ask;

use super::inbox::{Inbox, Wanted};
use super::outbox::{Outbox, Settled};
use super::start::Start;
use super::{CHAT_IDS, ChatRules, Event, Out, SendError, Target};

/// Entries that one sync asks for.
const SYNC_ENTRIES: u32 = 500;

/// Large conversations that one sync tells of.
const PULLED_MAX: usize = 500;

/// What a correlation id was for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Asked {
    Send,
    Sync,
    List,
    Talk(u64),
}

/// See the module. Times are monotonic ms.
#[derive(Clone, Debug)]
pub struct Device {
    pub(super) user: u64,
    pub(super) device: u64,
    rules: ChatRules,
    pub(super) outbox: Outbox,
    pub(super) inbox: Inbox,
    /// Everything up to here is known of.
    pub(super) cursor: u64,
    unconfirmed: u32,
    confirm_ms: Option<u64>,
    pub(super) start: Start,
    open: bool,
    /// Pushes that came while the device was behind.
    held: VecDeque<v1::Push>,
    asked: HashMap<u32, Asked>,
    next_id: u32,
    /// Large conversations told of in turn.
    pulled_turn: u64,
}

impl Device {
    /// A new installation. `device` is its own number: random, kept, not 0.
    pub fn new(user: u64, device: u64, rules: ChatRules) -> Self {
        Self {
            user,
            device,
            rules,
            outbox: Outbox::default(),
            inbox: Inbox::default(),
            cursor: 0,
            unconfirmed: 0,
            confirm_ms: None,
            start: Start::default(),
            open: false,
            held: VecDeque::new(),
            asked: HashMap::new(),
            next_id: 0,
            pulled_turn: 0,
        }
    }

    /// Whose it is.
    pub fn user(&self) -> u64 {
        self.user
    }

    /// Its number.
    pub fn device(&self) -> u64 {
        self.device
    }

    /// Everything of the timeline up to here is known of.
    pub fn cursor(&self) -> u64 {
        self.cursor
    }

    /// Everything of a conversation up to here has been handed out.
    pub fn has(&self, conversation: u64) -> u64 {
        self.inbox.talks.get(&conversation).map_or(0, |talk| talk.have)
    }

    /// Unread messages of a conversation, as told last.
    pub fn unread(&self, conversation: u64) -> u64 {
        self.inbox.talks.get(&conversation).map_or(0, |talk| talk.unread)
    }

    /// The conversation with a person, if known.
    pub fn conversation_with(&self, user: u64) -> Option<u64> {
        self.outbox.pairs.get(&user).copied()
    }

    /// Messages that are not answered for good.
    pub fn unsettled(&self) -> usize {
        self.outbox.queued
    }

    /// Whether nothing is missing, as far as the device has heard.
    pub fn is_in_step(&self) -> bool {
        self.open && self.start.is_live() && self.held.is_empty() && self.inbox.next_ms().is_none()
    }

    /// Queues a message and gives its ticket.
    ///
    /// # Errors
    /// When it is too long or too many wait.
    pub fn send(&mut self, target: Target, kind: v1::MessageKind, body: Vec<u8>) -> Result<u64, SendError> {
        self.outbox.push(target, kind.into(), body, &self.rules)
    }

    /// Gives a message up. `Some(true)`: it never went out; `Some(false)`: it may still turn out to be stored, and will
    /// come as a message then; after the next message to the same conversation that can't happen any more.
    pub fn give_up(&mut self, ticket: u64) -> Option<bool> {
        self.outbox.give_up(ticket)
    }

    /// The user has read a conversation up to a seq; `false`: there is no such conversation.
    pub fn mark_read(&mut self, now_ms: u64, conversation: u64, seq: u64) -> bool {
        self.inbox.read(now_ms, conversation, seq)
    }

    /// A connection is logged in, with chat.
    pub fn connected(&mut self, now_ms: u64) {
        self.disconnected();
        self.open = true;
        self.start.behind(now_ms);
    }

    /// The connection is over.
    pub fn disconnected(&mut self) {
        self.open = false;
        self.outbox.disconnected();
        self.inbox.disconnected();
        self.start.disconnected();
        self.asked.clear();
        self.held.clear();
    }

    /// The next frame to send, until there is none.
    pub fn poll(&mut self, now_ms: u64, events: &mut Vec<Event>) -> Option<Out> {
        if !self.open {
            return None;
        }
        let id = CHAT_IDS | self.next_id.wrapping_add(1);
        let out = self.poll_under(now_ms, id, events)?;
        if matches!(out, Out::Send(..) | Out::Ask(..)) {
            self.next_id = self.next_id.wrapping_add(1);
        }
        Some(out)
    }

    fn poll_under(&mut self, now_ms: u64, id: u32, events: &mut Vec<Event>) -> Option<Out> {
        if self.confirm_ms.is_some_and(|at| now_ms >= at) || self.unconfirmed >= self.rules.confirm_entries {
            (self.confirm_ms, self.unconfirmed) = (None, 0);
            return Some(Out::Confirm(v1::Confirm { cursor: self.cursor, ..v1::Confirm::default() }));
        }
        if let Some(step) = self.start.poll(now_ms, id, self.rules.answer_ms) {
            let (asked, ask) = match step {
                None => (Asked::Sync, Ask::Sync(self.sync_request())),
                Some(page) => (Asked::List, Ask::Conversations(page)),
            };
            return Some(self.ask(id, asked, ask));
        }
        if self.start.is_live()
            && let Some(wanted) = self.inbox.poll(now_ms, id, &self.rules, events)
        {
            let (conversation, ask) = match wanted {
                Wanted::Range(range) => (range.conversation, Ask::Range(range)),
                Wanted::Read(read) => (read.conversation, Ask::MarkRead(read)),
            };
            return Some(self.ask(id, Asked::Talk(conversation), ask));
        }
        if self.start.is_fresh() {
            // Where conversations begin for this device must be known before it speaks in one.
            return None;
        }
        let send = self.outbox.poll(now_ms, id, &self.rules)?;
        self.asked.insert(id, Asked::Send);
        Some(Out::Send(id, send))
    }

    fn ask(&mut self, id: u32, asked: Asked, ask: Ask) -> Out {
        // What was never answered is forgotten with its connection, or here.
        if self.asked.len() > 4 * self.rules.unanswered_max {
            let Self { asked, outbox, .. } = self;
            asked.retain(|id, asked| *asked != Asked::Send || outbox.awaits(*id));
        }
        self.asked.insert(id, asked);
        Out::Ask(id, v1::ChatRequest { ask: Some(ask), ..v1::ChatRequest::default() })
    }

    fn sync_request(&mut self) -> v1::SyncRequest {
        let mut large: Vec<_> = self.inbox.talks.iter().filter(|(_, talk)| talk.large).collect();
        if large.len() > PULLED_MAX {
            large.sort_unstable_by_key(|(id, _)| id.wrapping_sub(self.pulled_turn + 1));
            large.truncate(PULLED_MAX);
        }
        let pulled = large
            .iter()
            .map(|(id, talk)| v1::ReadAt { conversation: **id, seq: talk.have, ..v1::ReadAt::default() })
            .collect::<Vec<_>>();
        self.pulled_turn = pulled.last().map_or(0, |last| last.conversation);
        v1::SyncRequest { cursor: self.cursor, limit: SYNC_ENTRIES, pulled }
    }

    /// When [`Device::poll`] may have something to do; `None`: not before something is heard.
    pub fn next_ms(&self, now_ms: u64) -> Option<u64> {
        if !self.open {
            return None;
        }
        let confirm =
            if self.unconfirmed >= self.rules.confirm_entries { Some(now_ms) } else { self.confirm_ms };
        let talks = if self.start.is_live() { self.inbox.next_ms() } else { None };
        let sends = if self.start.is_fresh() { None } else { self.outbox.next_ms(now_ms, &self.rules) };
        confirm.into_iter().chain(self.start.next_ms()).chain(talks).chain(sends).min()
    }

    /// Takes a frame. `false`: it is none of a device's.
    ///
    /// # Errors
    /// When the body is not its message.
    pub fn on_frame(
        &mut self,
        now_ms: u64,
        frame: &Frame<'_>,
        events: &mut Vec<Event>,
    ) -> Result<bool, DecodeError> {
        match frame.kind {
            FrameKind::Push => self.on_push(now_ms, v1::Push::decode(frame.body)?, events),
            FrameKind::SendAnswer if frame.id & CHAT_IDS != 0 => {
                self.on_send_answer(now_ms, frame.id, &v1::SendAnswer::decode(frame.body)?, events);
            }
            FrameKind::AskAnswer if frame.id & CHAT_IDS != 0 => {
                self.on_answer(now_ms, frame.id, v1::ChatAnswer::decode(frame.body)?, events);
            }
            FrameKind::Error if frame.id & CHAT_IDS != 0 => {
                self.on_error(now_ms, frame.id, &v1::Error::decode(frame.body)?, events);
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Takes a push.
    pub fn on_push(&mut self, now_ms: u64, push: v1::Push, events: &mut Vec<Event>) {
        events.extend(push.presence.iter().map(|presence| Event::Presence(*presence)));
        if !self.start.is_live() || push.after > self.cursor {
            if self.start.is_live() {
                self.start.behind(now_ms);
            }
            if self.held.len() < self.rules.held_max {
                self.held.push_back(v1::Push { presence: Vec::new(), ..push });
            } else {
                // What falls by the wayside is synced.
                self.start.more_behind();
            }
            return;
        }
        self.apply(now_ms, push, events);
    }

    fn apply(&mut self, now_ms: u64, push: v1::Push, events: &mut Vec<Event>) {
        self.entries(now_ms, push.entries, events);
        self.move_cursor(now_ms, push.cursor);
        self.heads(now_ms, push.heads, events);
        for read in push.reads {
            self.inbox.read_at(now_ms, &read);
            events.push(Event::Read(read));
        }
    }

    fn entries(&mut self, now_ms: u64, entries: Vec<v1::Entry>, events: &mut Vec<Event>) {
        for entry in entries {
            if entry.cursor <= self.cursor && entry.cursor != 0 {
                // Pushed again. What it names was taken in then, or is being pulled.
                continue;
            }
            self.unconfirmed += 1;
            // Of a conversation that is new here, one's own messages may come before this one and are left out of pushes:
            // what the user may see of it is asked for, unless this is its first message.
            let known = self.inbox.talks.contains_key(&entry.conversation);
            if !self.inbox.begin(entry.conversation, 0, &self.rules) {
                events.push(Event::Skipped {
                    conversation: entry.conversation,
                    from: entry.seq,
                    to: entry.seq,
                });
                continue;
            }
            let sending = !known || self.outbox.is_sending(entry.conversation);
            match entry.message {
                Some(message) => self.take(now_ms, message, sending, events),
                None => self.inbox.reached(now_ms, entry.conversation, entry.seq, sending, &self.rules),
            }
        }
    }

    fn take(&mut self, now_ms: u64, message: v1::ChatMessage, sending: bool, events: &mut Vec<Event>) {
        if message.sender == self.user && message.device == self.device && sending {
            let (conversation, seq) = (message.conversation, message.seq);
            if let Some(ticket) = self.outbox.seen(&message) {
                events.push(Event::Stored { ticket, seq, conversation });
            }
        }
        self.inbox.take(now_ms, message, sending, &self.rules, events);
    }

    fn heads(&mut self, now_ms: u64, heads: Vec<v1::Head>, events: &mut Vec<Event>) {
        for head in heads {
            // Nothing is known of a large conversation that was just joined: it is pulled from the first that may be seen.
            if !self.inbox.begin(head.conversation, 0, &self.rules) {
                continue;
            }
            if let Some(talk) = self.inbox.talks.get_mut(&head.conversation) {
                talk.large = true;
            }
            let sending = self.outbox.is_sending(head.conversation);
            for message in head.messages {
                self.take(now_ms, message, sending, events);
            }
            self.inbox.reached(now_ms, head.conversation, head.seq, sending, &self.rules);
        }
    }

    fn move_cursor(&mut self, now_ms: u64, cursor: u64) {
        if cursor > self.cursor {
            self.cursor = cursor;
            self.confirm_ms.get_or_insert(now_ms + self.rules.confirm_ms);
        }
    }

    /// Takes the answer to a message.
    pub fn on_send_answer(&mut self, now_ms: u64, id: u32, answer: &v1::SendAnswer, events: &mut Vec<Event>) {
        self.asked.remove(&id);
        let own = (self.user, self.device);
        let settled = self.outbox.on_answer(now_ms, id, answer, own, &self.rules);
        self.settled(now_ms, settled, events);
    }

    fn settled(&mut self, now_ms: u64, settled: Settled, events: &mut Vec<Event>) {
        match settled {
            Settled::Later | Settled::Stale => {}
            Settled::Refused { ticket, outcome, reason } => {
                events.push(Event::Refused { ticket, outcome, reason });
            }
            Settled::Stored { ticket, message: None } => {
                events.push(Event::Stored { ticket, seq: 0, conversation: 0 });
            }
            Settled::Stored { ticket, message: Some(message) } => {
                let (conversation, seq) = (message.conversation, message.seq);
                events.push(Event::Stored { ticket, seq, conversation });
                // Of a conversation that this device has not heard of, nothing has been handed out. What came before
                // may be on its way.
                self.inbox.begin(conversation, 0, &self.rules);
                self.inbox.take(now_ms, message, true, &self.rules, events);
            }
        }
    }

    /// Takes the answer to a request.
    pub fn on_answer(&mut self, now_ms: u64, id: u32, answer: v1::ChatAnswer, events: &mut Vec<Event>) {
        let Some(asked) = self.asked.remove(&id) else { return };
        match (asked, answer.answer) {
            (Asked::Sync, Some(Answer::Sync(sync))) => self.on_sync(now_ms, id, sync, events),
            (Asked::List, Some(Answer::Conversations(list))) => self.on_list(now_ms, id, list, events),
            (Asked::Talk(talk), Some(Answer::Range(range))) => {
                let own = (self.user, self.device);
                for message in range.messages.iter().filter(|m| (m.sender, m.device) == own) {
                    if let Some(ticket) = self.outbox.seen(message) {
                        let v1::ChatMessage { seq, conversation, .. } = *message;
                        events.push(Event::Stored { ticket, seq, conversation });
                    }
                }
                self.inbox.on_range(now_ms, (talk, id), range, &self.rules, events);
            }
            (Asked::Talk(_), Some(Answer::ReadAt(read))) => {
                self.inbox.read_at(now_ms, &read);
                events.push(Event::Read(read));
            }
            // An answer to something else: the request is repeated when its time is up.
            _ => {}
        }
    }

    /// Takes an error in place of an answer.
    pub fn on_error(&mut self, now_ms: u64, id: u32, error: &v1::Error, events: &mut Vec<Event>) {
        let Some(asked) = self.asked.remove(&id) else { return };
        let wait_ms = u64::from(error.retry_after_ms);
        let retry_ms = (wait_ms != 0).then(|| wait_ms.max(self.rules.retry_min_ms));
        match asked {
            Asked::Send => {
                let settled = self.outbox.on_error(now_ms, id, retry_ms, &error.message);
                self.settled(now_ms, settled, events);
            }
            Asked::Sync | Asked::List => {
                self.start.failed(id, now_ms + retry_ms.unwrap_or(self.rules.answer_max_ms));
            }
            Asked::Talk(talk) => self.inbox.on_error(now_ms, (talk, id), retry_ms, events),
        }
    }

    fn on_sync(&mut self, now_ms: u64, id: u32, sync: v1::SyncAnswer, events: &mut Vec<Event>) {
        if !self.start.is_asked(id) {
            return;
        }
        events.push(Event::UnreadTotal(sync.unread_total));
        if sync.start {
            self.start.list(sync.cursor);
            return;
        }
        self.entries(now_ms, sync.entries, events);
        self.move_cursor(now_ms, sync.cursor);
        self.heads(now_ms, sync.heads, events);
        if sync.more {
            self.start.behind(now_ms);
        } else {
            self.live(now_ms, events);
        }
    }

    fn on_list(&mut self, now_ms: u64, id: u32, list: v1::ConversationsAnswer, events: &mut Vec<Event>) {
        if !self.start.is_asked(id) {
            return;
        }
        events.push(Event::UnreadTotal(list.unread_total));
        let fresh = self.start.is_fresh();
        let last = list.conversations.last().map(|view| (view.active_ms, view.conversation));
        for view in list.conversations {
            let new = !self.inbox.talks.contains_key(&view.conversation);
            let base = if fresh { view.last_seq } else { 0 };
            if !self.inbox.begin(view.conversation, base, &self.rules) {
                let (conversation, to) = (view.conversation, view.last_seq);
                events.push(Event::Skipped { conversation, from: 1, to });
                continue;
            }
            if new && base > 0 {
                events.push(Event::Begins { conversation: view.conversation, seq: base });
            }
            if view.kind() == v1::ConversationKind::Pair {
                self.outbox.learn_pair(view.peer, view.conversation);
            }
            if let Some(talk) = self.inbox.talks.get_mut(&view.conversation) {
                talk.large = view.fan_out() == v1::FanOut::Read;
                talk.unread = view.unread;
                talk.read = talk.read.max(view.read_seq);
                talk.read_told = talk.read_told.max(view.read_seq);
            }
            self.inbox.reached(now_ms, view.conversation, view.last_seq, false, &self.rules);
            events.push(Event::Conversation(Box::new(view)));
        }
        match last.filter(|_| list.more) {
            Some(last) => self.start.page(last),
            None => {
                let cursor = self.start.listed();
                self.move_cursor(now_ms, cursor);
                if cursor == 0 {
                    // Nothing has ever come to this user: there is nothing to sync.
                    self.live(now_ms, events);
                } else {
                    self.start.behind(now_ms);
                }
            }
        }
    }

    /// Nothing is missing any more, save what waits in pushes.
    fn live(&mut self, now_ms: u64, events: &mut Vec<Event>) {
        self.start.live(now_ms);
        let held = std::mem::take(&mut self.held);
        for push in held {
            if push.after > self.cursor {
                // Something between was lost after all. Held again, and synced.
                self.on_push(now_ms, push, events);
            } else {
                self.apply(now_ms, push, events);
            }
        }
        if self.start.is_live() {
            events.push(Event::InStep);
        }
    }
}
