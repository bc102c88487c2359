//! What time brings: heads of large conversations, presence, entries pushed again, silent connections, cursors that
//! the log should have, ids to reserve.

use super::conversation::Conversation;
use super::pushes::{Pushing, goes_along, wire};
use super::send::Logged;
use super::state::State;
use super::user::{Again, Conn};
use crate::limits;
use protocol::v1::Head;
use records::ChatFact;

/// Confirmed cursors that go into the log in one go.
const CONFIRMS_MAX: usize = 4_096;

impl Conversation {
    /// The head to tell of at a tick, when everything up to `last` is durable: with the last small messages since the
    /// tick before.
    pub fn news(&mut self, last: u64) -> Head {
        let from = self.recent_from().max(self.told_seq + 1);
        let from = from.max((last + 1).saturating_sub(limits::HEAD_MESSAGES_MAX as u64));
        self.told_seq = last;
        let mut messages = Vec::new();
        for seq in (from..=last).rev() {
            match self.recent(seq) {
                Some(message) if goes_along(message) => {
                    messages.push(wire(message, self.head.is_recalled(seq)));
                }
                _ => break,
            }
        }
        messages.reverse();
        Head { conversation: self.id, seq: last, messages }
    }
}

impl State {
    /// Everything that is due at a time.
    pub fn tick(&mut self, now_ms: u64, out: &mut Pushing) {
        self.tell_heads(out);
        self.end_silent(now_ms);
        self.tell_presence(out);
        self.push_again(now_ms, out);
    }

    /// Large conversations that have moved: one head for each to those who are online.
    fn tell_heads(&mut self, out: &mut Pushing) {
        for id in std::mem::take(&mut self.news) {
            let Some(conversation) = self.conversations.get_mut(&id) else { continue };
            conversation.in_news = false;
            out.head(&conversation.news(conversation.head.last_seq));
            for slot in &conversation.online {
                let user = &self.users[*slot as usize];
                for conn in &user.conns {
                    out.target(user.id, conn, conn.pushed, conn.pushed);
                }
            }
        }
    }

    /// Connections that have been silent for too long are taken for gone. A user has one timer for all of his.
    fn end_silent(&mut self, now_ms: u64) {
        let timeout = self.options.presence_ms();
        let due = |conn: &Conn| conn.beat_ms + timeout;
        while self.silence.front().is_some_and(|(due, _)| *due <= now_ms) {
            let Some((_, slot)) = self.silence.pop_front() else { break };
            let is_silent = |conn: &&Conn| due(conn) <= now_ms;
            while let Some(conn) = self.users[slot as usize].conns.iter().find(is_silent) {
                let (at, device) = (conn.at, conn.device);
                self.end_conn(slot, at, device, now_ms);
            }
            let user = &mut self.users[slot as usize];
            let next = user.conns.iter().map(due).min();
            user.timed = next.is_some();
            self.silence.extend(next.map(|due| (due, slot)));
        }
    }

    /// Those who watch hear whose presence has changed.
    fn tell_presence(&mut self, out: &mut Pushing) {
        for slot in std::mem::take(&mut self.presence) {
            let user = &self.users[slot as usize];
            let Some(loaded) = &user.loaded else { continue };
            if loaded.watchers.is_empty() {
                continue;
            }
            out.presence(&self.presence_of(user.id));
            for (watcher, device, at) in &loaded.watchers {
                let conns = self.user(*watcher).map(|u| u.conns.iter()).unwrap_or_default();
                let conn = conns.filter(|c| c.at == *at && c.device == *device);
                conn.for_each(|c| out.target(*watcher, c, c.pushed, c.pushed));
            }
        }
    }

    /// Entries that nobody has confirmed for a while go out once more, see [`User::again`](super::user::User::again).
    fn push_again(&mut self, now_ms: u64, out: &mut Pushing) {
        let next_ms = now_ms + self.options.again_ms;
        while self.again.front().is_some_and(|(due, ..)| *due <= now_ms) {
            let Some((_, slot, at, device, mark)) = self.again.pop_front() else { break };
            let Some(user) = self.users.get_mut(slot as usize) else { continue };
            let id = user.id;
            let Some(Again { mut after, entries, next }) = user.again(at, device, mark) else { continue };
            self.again.extend(next.map(|mark| (next_ms, slot, at, device, mark)));
            for entry in entries {
                let message = self.conversations.get(&entry.conversation).and_then(|c| c.recent(entry.seq));
                let Some(message) = message else { break };
                if (message.sender, message.device) != (id, device) {
                    out.message(message);
                    out.target_at(id, device, at, after, entry.cursor);
                    after = entry.cursor;
                }
            }
        }
    }

    /// Confirmed cursors that the log should have by now.
    pub fn unlogged_confirms(&mut self, now_ms: u64) -> Vec<Logged> {
        // Who is due later than anybody can be was noted before the clock went back.
        let latest = now_ms + self.options.confirm_log_ms;
        let is_due = |(due_ms, _): &&(u64, u32)| *due_ms <= now_ms || *due_ms > latest;
        let due = self.unlogged.iter().take(CONFIRMS_MAX).take_while(is_due).count();
        let mut facts = Vec::new();
        for (_, slot) in self.unlogged.drain(..due) {
            let user = &mut self.users[slot as usize];
            let Some(loaded) = &mut user.loaded else { continue };
            loaded.unlogged = false;
            for d in loaded.person.devices.iter().filter(|d| d.cursor > 0) {
                let (user, device, cursor, seen_ms) = (user.id, d.device, d.cursor, d.seen_ms);
                facts.push(Logged::Fact(ChatFact::Confirmed { user, device, cursor, seen_ms }));
            }
        }
        facts
    }

    /// The reservation of ids that should be written now.
    pub fn wanted_ids(&mut self, now_ms: u64) -> Option<Logged> {
        self.ids.wants(now_ms).map(|until_ms| Logged::Fact(ChatFact::IdsReserved { until_ms }))
    }
}

#[cfg(test)]
mod tests {
    use crate::core::{At, Pushing, State};
    use crate::options::ChatOptions;
    use protocol::calls::{ConnectionAt, DeviceAt};

    #[test]
    fn one_timer_finds_every_silent_connection_of_a_user() {
        let mut state = State::new(ChatOptions::default(), At::default(), 0, 0);
        let (timeout, mut out) = (state.options.presence_ms(), Pushing::default());
        let device =
            |device| DeviceAt { user: 7, device, at: ConnectionAt { access: 1, connection: device } };
        let here = |state: &State| -> Vec<u64> {
            state.user(7).map(|u| u.conns.iter().map(|c| c.device).collect()).unwrap_or_default()
        };
        state.arrive(device(1), 1_000);
        state.arrive(device(2), 2_000);
        state.beat(device(1), 3_000);
        assert_eq!(state.silence.len(), 1);
        state.tick(1_000 + timeout, &mut out);
        assert_eq!(here(&state), [1, 2]);
        state.tick(2_000 + timeout, &mut out);
        assert_eq!((here(&state), state.silence.len()), (vec![1], 1));
        state.tick(3_000 + timeout, &mut out);
        assert_eq!((here(&state), state.silence.len()), (vec![], 0));
        state.arrive(device(3), 200_000);
        assert_eq!((here(&state), state.silence.len()), (vec![3], 1));
    }
}
