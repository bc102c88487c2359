//! What a device wants to send, in lines: one for each conversation, or for a person to whom there is none yet.
//!
//! A message gets its counter when it goes out for the first time and keeps it until it is answered for good. Answers
//! that were lost, connections that broke and servers that are busy only lead to the same counter again. A counter
//! that was refused is given up with the next message, so that a copy of it that is still on its way somewhere can't be
//! stored after its sender was told that it was not.

use std::collections::{BTreeSet, HashMap, VecDeque};

use protocol::calls::SEND_BODY_MAX;
use protocol::v1::{self, SendAnswer, SendOutcome};

use super::{ChatRules, SendError, Target};

/// What became of an answered message.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Settled {
    /// Not yet: it will be sent again.
    Later,
    /// An answer to something that is over, or to an attempt that others followed.
    Stale,
    /// Durable. The message as everybody sees it, unless the platform no longer knows its place.
    Stored { ticket: u64, message: Option<v1::ChatMessage> },
    /// Never will be.
    Refused { ticket: u64, outcome: SendOutcome, reason: String },
}

#[derive(Clone, Debug)]
pub(super) struct Item {
    pub ticket: u64,
    /// 0: never sent.
    pub counter: u64,
    pub kind: i32,
    pub body: Vec<u8>,
    /// Correlation id of the newest attempt; 0: to be sent.
    attempt: u32,
}

#[derive(Clone, Debug)]
pub(super) struct Line {
    pub items: VecDeque<Item>,
    /// Counter of the next message that has none.
    pub next: u64,
    pub given_up: u64,
    /// The other one of a pair, if known.
    pub peer: u64,
    due_ms: u64,
    /// When the answer to what is under way is late.
    late_ms: u64,
    tries: u32,
    /// Something came out of turn: one at a time until that is mended.
    careful: bool,
}

impl Line {
    pub fn new(next: u64, given_up: u64, peer: u64) -> Self {
        Self {
            items: VecDeque::new(),
            next,
            given_up,
            peer,
            due_ms: 0,
            late_ms: u64::MAX,
            tries: 0,
            careful: false,
        }
    }

    /// Place of the next message to send.
    fn ready(&self, window: usize) -> Option<usize> {
        let front = self.items.front()?.counter;
        // What gives numbers up must not overtake one of them that may still be stored.
        let alone = self.careful || (front != 0 && self.given_up >= front);
        let window = if alone { 1 } else { window };
        self.items.iter().take(window).position(|item| item.attempt == 0)
    }

    fn send_again(&mut self) {
        self.items.iter_mut().for_each(|item| item.attempt = 0);
        (self.late_ms, self.careful) = (u64::MAX, false);
    }
}

#[derive(Clone, Debug, Default)]
pub(super) struct Outbox {
    pub lines: HashMap<Target, Line>,
    /// Lines with messages.
    busy: BTreeSet<Target>,
    /// Correlation id of each attempt on this connection.
    attempts: HashMap<u32, (Target, u64)>,
    /// The conversation with each person, as far as known.
    pub pairs: HashMap<u64, u64>,
    pub queued: usize,
    pub next_ticket: u64,
    /// Numbers below this that a line which is not known yet may have used, before what was kept of this device.
    pub skipped: u64,
    /// Whose turn it was last.
    turn: Option<Target>,
}

impl Outbox {
    /// The line of a target: one person has one, by whichever name.
    fn resolve(&self, target: Target) -> Target {
        match target {
            Target::User(user) => {
                self.pairs.get(&user).map_or(target, |conversation| Target::Conversation(*conversation))
            }
            Target::Conversation(_) => target,
        }
    }

    pub fn push(
        &mut self,
        target: Target,
        kind: i32,
        body: Vec<u8>,
        rules: &ChatRules,
    ) -> Result<u64, SendError> {
        if body.len() > SEND_BODY_MAX {
            return Err(SendError::Long(body.len()));
        }
        let target = self.resolve(target);
        if matches!(target, Target::Conversation(0) | Target::User(0)) {
            return Err(SendError::Nobody);
        }
        if self.queued >= rules.queue_max
            || (self.lines.len() >= rules.conversations_max && !self.lines.contains_key(&target))
        {
            return Err(SendError::Full(rules.queue_max));
        }
        self.next_ticket += 1;
        let ticket = self.next_ticket;
        let peer = if let Target::User(user) = target { user } else { 0 };
        let line =
            self.lines.entry(target).or_insert_with(|| Line::new(self.skipped + 1, self.skipped, peer));
        line.items.push_back(Item { ticket, counter: 0, kind, body, attempt: 0 });
        self.busy.insert(target);
        self.queued += 1;
        Ok(ticket)
    }

    /// Learns that a conversation is the one with a person, whose line takes the conversation's name. While messages
    /// are under way by both names, the answer to the person's line decides.
    pub fn learn_pair(&mut self, user: u64, conversation: u64) {
        if user == 0 || conversation == 0 || self.pairs.contains_key(&user) {
            return;
        }
        let busy = self.busy.contains(&Target::User(user));
        if busy && self.lines.contains_key(&Target::Conversation(conversation)) {
            return;
        }
        self.pairs.insert(user, conversation);
        self.merge(user, conversation);
        // A line remembers whose it is over a restart.
        let fresh = Line::new(self.skipped + 1, self.skipped, user);
        self.lines.entry(Target::Conversation(conversation)).or_insert(fresh).peer = user;
    }

    /// The next message to send, under `id`.
    pub fn poll(&mut self, now_ms: u64, id: u32, rules: &ChatRules) -> Option<v1::Send> {
        if self.busy.is_empty() || self.attempts.len() >= rules.unanswered_max {
            return None;
        }
        let after = self.turn.map_or(std::ops::Bound::Unbounded, std::ops::Bound::Excluded);
        let behind = self.busy.range((after, std::ops::Bound::Unbounded));
        let order: Vec<Target> = behind.chain(self.busy.iter()).copied().take(self.busy.len()).collect();
        for target in order {
            if let Some(send) = self.poll_line(now_ms, id, target, rules) {
                self.turn = Some(target);
                return Some(send);
            }
        }
        None
    }

    fn poll_line(&mut self, now_ms: u64, id: u32, target: Target, rules: &ChatRules) -> Option<v1::Send> {
        let line = self.lines.get_mut(&target)?;
        if now_ms >= line.late_ms {
            line.tries += 1;
            line.send_again();
            // Whatever is still said about those attempts will be said again.
            self.attempts.retain(|_, (of, _)| *of != target);
        }
        if now_ms < line.due_ms {
            return None;
        }
        // Before the conversation is known, its counters may turn out to be another line's: one at a time.
        let window = if matches!(target, Target::User(_)) { 1 } else { rules.window };
        let place = line.ready(window)?;
        let Line { items, next, given_up, .. } = line;
        let item = items.get_mut(place)?;
        if item.counter == 0 {
            item.counter = *next;
            *next += 1;
        }
        item.attempt = id;
        let (conversation, to_user) = match target {
            Target::Conversation(conversation) => (conversation, 0),
            Target::User(user) => (0, user),
        };
        let send = v1::Send {
            conversation,
            to_user,
            counter: item.counter,
            given_up: (*given_up).min(item.counter - 1),
            kind: item.kind,
            body: item.body.clone(),
            ..v1::Send::default()
        };
        let wait_ms = (rules.answer_ms << line.tries.min(16)).min(rules.answer_max_ms.max(rules.answer_ms));
        line.late_ms = now_ms + wait_ms;
        self.attempts.insert(id, (target, items_ticket(&self.lines, target, place)));
        Some(send)
    }

    /// When [`Outbox::poll`] may have something to do.
    pub fn next_ms(&self, now_ms: u64, rules: &ChatRules) -> Option<u64> {
        let room = self.attempts.len() < rules.unanswered_max;
        let of = |target: &Target| {
            let line = self.lines.get(target)?;
            let window = if matches!(target, Target::User(_)) { 1 } else { rules.window };
            let ready_ms = if room && line.ready(window).is_some() { line.due_ms } else { u64::MAX };
            Some(ready_ms.min(line.late_ms).max(now_ms))
        };
        self.busy.iter().filter_map(of).min().filter(|at| *at != u64::MAX)
    }

    /// Takes an answer. `sender` and `device` are this device's own.
    pub fn on_answer(
        &mut self,
        now_ms: u64,
        id: u32,
        answer: &SendAnswer,
        sender: (u64, u64),
        rules: &ChatRules,
    ) -> Settled {
        let Some((target, ticket)) = self.attempts.remove(&id) else { return Settled::Stale };
        // The line may have moved to its conversation since.
        let target = if self.lines.contains_key(&target) { target } else { self.resolve(target) };
        let known = |outbox: &Self, target| {
            outbox
                .lines
                .get(&target)
                .and_then(|line| line.items.iter().position(|item| item.ticket == ticket))
        };
        let Some(place) = known(self, target) else { return Settled::Stale };
        let outcome = answer.outcome();
        if let Target::User(user) = target
            && matches!(outcome, SendOutcome::Stored | SendOutcome::StoredBefore)
            && answer.conversation != 0
        {
            let twin = self.lines.get(&Target::Conversation(answer.conversation));
            // A counter that the conversation's own line has used: the answer is that of an earlier message.
            let taken = twin.is_some_and(|twin| twin.next > answer.counter);
            let settled = if taken { Settled::Later } else { self.stored(target, place, answer, sender) };
            self.pairs.insert(user, answer.conversation);
            self.merge(user, answer.conversation);
            return settled;
        }
        match outcome {
            SendOutcome::Stored | SendOutcome::StoredBefore => self.stored(target, place, answer, sender),
            SendOutcome::NotAllowed | SendOutcome::Words | SendOutcome::Risk | SendOutcome::Invalid => {
                if !self.is_newest(target, place, id) {
                    return Settled::Stale;
                }
                self.refused(target, place, outcome, &answer.reason)
            }
            SendOutcome::OutOfTurn | SendOutcome::Pending | SendOutcome::Busy | SendOutcome::Unspecified => {
                if !self.is_newest(target, place, id) {
                    return Settled::Stale;
                }
                self.again(now_ms, target, place, answer, rules)
            }
        }
    }

    /// An error in place of an answer. `retry_ms`: when the same may be sent again; `None`: never.
    pub fn on_error(&mut self, now_ms: u64, id: u32, retry_ms: Option<u64>, reason: &str) -> Settled {
        let Some((target, ticket)) = self.attempts.remove(&id) else { return Settled::Stale };
        let target = if self.lines.contains_key(&target) { target } else { self.resolve(target) };
        let Some(line) = self.lines.get_mut(&target) else { return Settled::Stale };
        let Some(place) = line.items.iter().position(|item| item.ticket == ticket && item.attempt == id)
        else {
            return Settled::Stale;
        };
        match retry_ms {
            Some(retry_ms) => {
                line.items[place].attempt = 0;
                line.due_ms = now_ms + retry_ms;
                Settled::Later
            }
            None => self.refused(target, place, SendOutcome::Invalid, reason),
        }
    }

    /// The device's own message came back by another way: it is stored.
    pub fn seen(&mut self, message: &v1::ChatMessage) -> Option<u64> {
        let target = Target::Conversation(message.conversation);
        let line = self.lines.get_mut(&target)?;
        let place = line.items.iter().position(|item| item.counter == message.counter)?;
        let ticket = line.items[place].ticket;
        self.remove(target, place);
        Some(ticket)
    }

    /// Gives a message up; `None`: there is none of this ticket. `true`: it never went out.
    pub fn give_up(&mut self, ticket: u64) -> Option<bool> {
        let (target, place) = self.busy.iter().find_map(|target| {
            let place = self.lines.get(target)?.items.iter().position(|item| item.ticket == ticket)?;
            Some((*target, place))
        })?;
        let line = self.lines.get_mut(&target)?;
        let counter = line.items[place].counter;
        line.given_up = line.given_up.max(counter);
        self.remove(target, place);
        Some(counter == 0)
    }

    /// The connection is over: everything unanswered is due on the next.
    pub fn disconnected(&mut self) {
        self.attempts.clear();
        for target in &self.busy {
            if let Some(line) = self.lines.get_mut(target) {
                line.send_again();
                (line.due_ms, line.tries) = (0, 0);
            }
        }
    }

    /// Unanswered or unsent messages, for keeping.
    pub fn items(&self) -> impl Iterator<Item = (Target, &Line)> {
        self.lines.iter().map(|(target, line)| (*target, line))
    }

    /// Puts a kept line back.
    pub fn restore(&mut self, target: Target, line: Line) {
        self.queued += line.items.len();
        if !line.items.is_empty() {
            self.busy.insert(target);
        }
        self.lines.insert(target, line);
    }

    /// Whether this attempt may still be answered.
    pub fn awaits(&self, id: u32) -> bool {
        self.attempts.contains_key(&id)
    }

    /// Whether messages to this conversation are unanswered.
    pub fn is_sending(&self, conversation: u64) -> bool {
        self.busy.contains(&Target::Conversation(conversation))
    }

    fn is_newest(&self, target: Target, place: usize, id: u32) -> bool {
        self.lines.get(&target).and_then(|line| line.items.get(place)).is_some_and(|item| item.attempt == id)
    }

    fn stored(
        &mut self,
        target: Target,
        place: usize,
        answer: &SendAnswer,
        (sender, device): (u64, u64),
    ) -> Settled {
        let Some(item) = self.remove(target, place) else { return Settled::Stale };
        if let Some(line) = self.lines.get_mut(&target) {
            line.tries = 0;
        }
        let placed = answer.outcome() == SendOutcome::Stored && answer.seq != 0;
        let ticket = item.ticket;
        let message = v1::ChatMessage {
            message_id: answer.message_id,
            conversation: answer.conversation,
            seq: answer.seq,
            sender,
            device,
            counter: item.counter,
            kind: item.kind,
            body: item.body,
            sent_ms: answer.sent_ms,
            recalled: false,
        };
        let message = placed.then_some(message);
        Settled::Stored { ticket, message }
    }

    fn refused(&mut self, target: Target, place: usize, outcome: SendOutcome, reason: &str) -> Settled {
        let Some(item) = self.remove(target, place) else { return Settled::Stale };
        if let Some(line) = self.lines.get_mut(&target) {
            line.given_up = line.given_up.max(item.counter);
        }
        Settled::Refused { ticket: item.ticket, outcome, reason: reason.to_owned() }
    }

    fn again(
        &mut self,
        now_ms: u64,
        target: Target,
        place: usize,
        answer: &SendAnswer,
        rules: &ChatRules,
    ) -> Settled {
        let Some(line) = self.lines.get_mut(&target) else { return Settled::Stale };
        line.items[place].attempt = 0;
        let mut pause_ms = u64::from(answer.retry_after_ms);
        if answer.outcome() == SendOutcome::OutOfTurn {
            line.careful = line.items.len() > 1;
            let counter = line.items[place].counter;
            if place == 0 {
                if answer.next_counter < counter {
                    // Everything before the first in line has been answered for good: what the platform misses was refused.
                    line.given_up = line.given_up.max(counter - 1);
                }
                pause_ms = pause_ms.max(rules.retry_min_ms);
            }
        } else {
            pause_ms = pause_ms.max(rules.retry_min_ms);
        }
        line.due_ms = line.due_ms.max(now_ms + pause_ms);
        Settled::Later
    }

    fn remove(&mut self, target: Target, place: usize) -> Option<Item> {
        let line = self.lines.get_mut(&target)?;
        let item = line.items.remove(place)?;
        self.queued -= 1;
        self.attempts.remove(&item.attempt);
        if place == 0 {
            line.careful = false;
        }
        if line.items.iter().all(|item| item.attempt == 0) {
            line.late_ms = u64::MAX;
        }
        if line.items.is_empty() {
            self.busy.remove(&target);
        }
        Some(item)
    }

    /// The line to a person becomes, or joins, that of the conversation. What joins gets new counters: as long as a
    /// conversation is unknown, at most the first of its messages has gone out.
    fn merge(&mut self, user: u64, conversation: u64) {
        let (from, to) = (Target::User(user), Target::Conversation(conversation));
        let Some(mut line) = self.lines.remove(&from) else { return };
        self.busy.remove(&from);
        match self.lines.get_mut(&to) {
            Some(there) => {
                there.peer = user;
                there.next = there.next.max(line.next);
                there.given_up = there.given_up.max(line.given_up);
                for mut item in line.items.drain(..) {
                    (item.counter, item.attempt) = (0, 0);
                    there.items.push_back(item);
                }
            }
            None => {
                self.lines.insert(to, line);
            }
        }
        if self.lines.get(&to).is_some_and(|line| !line.items.is_empty()) {
            self.busy.insert(to);
        }
    }
}

fn items_ticket(lines: &HashMap<Target, Line>, target: Target, place: usize) -> u64 {
    lines.get(&target).and_then(|line| line.items.get(place)).map_or(0, |item| item.ticket)
}

impl Item {
    pub fn kept(ticket: u64, counter: u64, kind: i32, body: Vec<u8>) -> Self {
        Self { ticket, counter, kind, body, attempt: 0 }
    }
}
