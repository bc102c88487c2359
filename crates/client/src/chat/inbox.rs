//! What a device has of each conversation: everything up to a seq, and above it what came early.
//!
//! A message is handed out when everything before it has been. What is missing is asked for by range; a seq that a range
//! leaves out is one that this user may not see, and is passed over. So the same message may come by push, by sync, by
//! range and as one's own answer, in any order and any number of times, and is handed out once.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use protocol::v1;

use super::{ChatRules, Event};

/// Most messages that one range asks for.
const RANGE_MAX: u64 = 200;

#[derive(Clone, Debug, Default)]
pub(super) struct Talk {
    /// Everything up to here has been handed out, or may not be seen.
    pub have: u64,
    /// The conversation has reached at least this.
    pub head: u64,
    /// It is not in timelines: syncs are told how far it was pulled.
    pub large: bool,
    /// Where it begins for this user has been heard.
    begun: bool,
    /// Above `have`; `None`: may not be seen.
    early: BTreeMap<u64, Option<v1::ChatMessage>>,
    /// When the next range may be asked for.
    due_ms: u64,
    /// Correlation id and end of the range under way, and when it is given up.
    asked: Option<(u32, u64, u64)>,
    /// Read position to tell, and what was told last.
    pub read: u64,
    pub read_told: u64,
    read_asked: Option<(u32, u64)>,
    /// Unread messages, as told.
    pub unread: u64,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Inbox {
    pub talks: HashMap<u64, Talk>,
    /// Conversations that want something: a range, or a read position told.
    wanting: BTreeSet<u64>,
    early: usize,
}

/// A request that is due.
pub(super) enum Wanted {
    Range(v1::RangeRequest),
    Read(v1::MarkRead),
}

impl Inbox {
    /// Takes a message. `sending`: messages of this device to the conversation are unanswered, so a hole may be one's own.
    pub fn take(
        &mut self,
        now_ms: u64,
        message: v1::ChatMessage,
        sending: bool,
        rules: &ChatRules,
        events: &mut Vec<Event>,
    ) {
        let (conversation, seq) = (message.conversation, message.seq);
        let Some(talk) = self.talks.get_mut(&conversation) else { return };
        talk.head = talk.head.max(seq);
        if seq <= talk.have {
            return;
        }
        if seq == talk.have + 1 {
            talk.have = seq;
            events.push(Event::Message(message));
            // A copy that had come early, and what waited for it.
            self.early -= usize::from(talk.early.remove(&seq).is_some());
            self.early -= talk.advance(events);
        } else if self.early < rules.early_max {
            self.early += usize::from(talk.early.insert(seq, Some(message)).is_none());
        }
        self.look(now_ms, conversation, if sending { rules.hole_ms } else { 0 });
    }

    /// The conversation has reached a seq.
    pub fn reached(&mut self, now_ms: u64, conversation: u64, seq: u64, sending: bool, rules: &ChatRules) {
        if let Some(talk) = self.talks.get_mut(&conversation) {
            talk.head = talk.head.max(seq);
            self.look(now_ms, conversation, if sending { rules.hole_ms } else { 0 });
        }
    }

    fn look(&mut self, now_ms: u64, conversation: u64, pause_ms: u64) {
        let Some(talk) = self.talks.get_mut(&conversation) else { return };
        let wants_range = talk.have < talk.head;
        if wants_range || talk.read > talk.read_told {
            if self.wanting.insert(conversation) {
                talk.due_ms = talk.due_ms.max(now_ms + pause_ms);
            }
        } else {
            self.wanting.remove(&conversation);
        }
    }

    /// A conversation that this device did not know. `have`: what counts as had.
    pub fn begin(&mut self, conversation: u64, have: u64, rules: &ChatRules) -> bool {
        if self.talks.contains_key(&conversation) {
            return true;
        }
        if self.talks.len() >= rules.conversations_max {
            return false;
        }
        self.talks.insert(conversation, Talk { have, head: have, begun: have > 0, ..Talk::default() });
        true
    }

    /// The user has read up to a seq.
    pub fn read(&mut self, now_ms: u64, conversation: u64, seq: u64) -> bool {
        let Some(talk) = self.talks.get_mut(&conversation) else { return false };
        talk.read = talk.read.max(seq.min(talk.have));
        self.look(now_ms, conversation, 0);
        true
    }

    /// A read position as the platform has it.
    pub fn read_at(&mut self, now_ms: u64, read: &v1::ReadAt) {
        if let Some(talk) = self.talks.get_mut(&read.conversation) {
            talk.read = talk.read.max(read.seq);
            talk.read_told = talk.read_told.max(read.seq);
            talk.unread = read.unread;
            self.look(now_ms, read.conversation, 0);
        }
    }

    /// A request that is due, under `id`.
    pub fn poll(
        &mut self,
        now_ms: u64,
        id: u32,
        rules: &ChatRules,
        events: &mut Vec<Event>,
    ) -> Option<Wanted> {
        self.wanting.iter().find_map(|conversation| {
            self.talks.get_mut(conversation)?.poll(now_ms, *conversation, id, rules, events)
        })
    }

    /// When [`Inbox::poll`] may have something to do.
    pub fn next_ms(&self) -> Option<u64> {
        self.wanting.iter().filter_map(|conversation| self.talks.get(conversation)?.next_ms()).min()
    }

    /// Takes the answer to a range that was asked under `id` from `from` on.
    pub fn on_range(
        &mut self,
        now_ms: u64,
        (conversation, id): (u64, u32),
        answer: v1::RangeAnswer,
        rules: &ChatRules,
        events: &mut Vec<Event>,
    ) {
        let Some(talk) = self.talks.get_mut(&conversation) else { return };
        let Some((_, to, _)) = talk.asked.filter(|(asked, ..)| *asked == id) else {
            // Too late to say what is missing, but what it brings counts.
            let of = |message: &v1::ChatMessage| message.conversation == conversation;
            for message in answer.messages.into_iter().filter(of) {
                self.take(now_ms, message, false, rules, events);
            }
            return;
        };
        (talk.asked, talk.begun) = (None, true);
        let had = talk.have;
        let last = answer.messages.last().map_or(0, |message| message.seq);
        let covered = if answer.more { last.min(to) } else { to.min(answer.last_seq) };
        if answer.first_seq > talk.have + 1 {
            // What came before this user did.
            let first = answer.first_seq.min(talk.head + 1);
            talk.have = talk.have.max(first - 1);
            let keep = talk.early.split_off(&first);
            self.early -= std::mem::replace(&mut talk.early, keep).len();
        }
        let mut got: BTreeMap<u64, v1::ChatMessage> = answer
            .messages
            .into_iter()
            .filter(|message| message.conversation == conversation)
            .map(|message| (message.seq, message))
            .collect();
        // In order of seq, so nothing is kept aside longer than until the next.
        for seq in talk.have + 1..=covered {
            let message = got.remove(&seq);
            let early = talk.early.remove(&seq);
            self.early -= usize::from(early.is_some());
            talk.have = seq;
            if let Some(message) = message.or(early.flatten()) {
                events.push(Event::Message(message));
            }
        }
        self.early -= talk.advance(events);
        if talk.have == had {
            talk.due_ms = now_ms + rules.retry_min_ms;
        }
        self.look(now_ms, conversation, 0);
    }

    /// An error in place of a range, or of a read position. `retry_ms`: when the same may be asked again; `None`: never.
    pub fn on_error(
        &mut self,
        now_ms: u64,
        (conversation, id): (u64, u32),
        retry_ms: Option<u64>,
        events: &mut Vec<Event>,
    ) {
        let Some(talk) = self.talks.get_mut(&conversation) else { return };
        if talk.read_asked.is_some_and(|(asked, _)| asked == id) {
            talk.read_asked = None;
            if retry_ms.is_none() {
                talk.read = talk.read_told;
            }
        }
        if talk.asked.is_some_and(|(asked, ..)| asked == id) {
            talk.asked = None;
            if retry_ms.is_none() {
                events.push(Event::Skipped { conversation, from: talk.have + 1, to: talk.head });
                talk.have = talk.head;
                self.early -= talk.early.len();
                talk.early.clear();
            }
        }
        talk.due_ms = now_ms + retry_ms.unwrap_or(0);
        self.look(now_ms, conversation, 0);
    }

    /// The connection is over: what was asked is asked again on the next.
    pub fn disconnected(&mut self) {
        for conversation in &self.wanting {
            if let Some(talk) = self.talks.get_mut(conversation) {
                (talk.asked, talk.read_asked, talk.due_ms) = (None, None, 0);
            }
        }
    }

    /// Puts a kept conversation back.
    pub fn restore(&mut self, conversation: u64, talk: Talk) {
        self.talks.insert(conversation, talk);
        self.look(0, conversation, 0);
    }
}

impl Talk {
    /// Hands out what waited; gives how many entries that were.
    fn advance(&mut self, events: &mut Vec<Event>) -> usize {
        let mut moved = 0;
        while let Some(entry) = self.early.first_entry().filter(|entry| *entry.key() <= self.have + 1) {
            let (seq, message) = entry.remove_entry();
            moved += 1;
            if seq == self.have + 1 {
                self.have = seq;
                events.extend(message.map(Event::Message));
            }
        }
        moved
    }

    fn poll(
        &mut self,
        now_ms: u64,
        conversation: u64,
        id: u32,
        rules: &ChatRules,
        events: &mut Vec<Event>,
    ) -> Option<Wanted> {
        if self.asked.is_some_and(|(.., late_ms)| now_ms >= late_ms) {
            self.asked = None;
        }
        if self.read_asked.is_some_and(|(_, late_ms)| now_ms >= late_ms) {
            self.read_asked = None;
        }
        if now_ms < self.due_ms {
            return None;
        }
        if self.asked.is_none() && self.have < self.head {
            if self.begun && self.head - self.have > rules.pull_max && self.early.is_empty() {
                let to = self.head - rules.pull_max;
                events.push(Event::Skipped { conversation, from: self.have + 1, to });
                self.have = to;
            }
            let from_seq = self.have + 1;
            // What came early ends the hole.
            let hole_end = self.early.first_key_value().map_or(self.head, |(seq, _)| seq - 1);
            let to_seq = hole_end.min(self.have + RANGE_MAX).max(from_seq);
            self.asked = Some((id, to_seq, now_ms + rules.answer_ms));
            let limit = RANGE_MAX as u32;
            return Some(Wanted::Range(v1::RangeRequest {
                conversation,
                from_seq,
                to_seq,
                limit,
                newest_first: false,
            }));
        }
        if self.read_asked.is_none() && self.read > self.read_told {
            self.read_asked = Some((id, now_ms + rules.answer_ms));
            return Some(Wanted::Read(v1::MarkRead { conversation, seq: self.read }));
        }
        None
    }

    fn next_ms(&self) -> Option<u64> {
        let range = (self.have < self.head).then(|| self.asked.map_or(self.due_ms, |(.., late_ms)| late_ms));
        let read =
            (self.read > self.read_told).then(|| self.read_asked.map_or(self.due_ms, |(_, late_ms)| late_ms));
        range.into_iter().chain(read).min()
    }
}
