//! What stands before the flood: everybody has somebody to write to.

use protocol::frame::{FrameKind, put_message};
use protocol::v1;
use protocol::v1::chat_answer::Answer;
use protocol::v1::chat_request::Ask;
use runtime::Shutdown;

use super::Talk;
use super::worker::{CONFIRM_US, Flood, NAP_MAX_NS};
use crate::LoadError;
use crate::chat::people::{self, Group};
use crate::chat::{STAMP_BYTES, Stamp};

impl Flood<'_> {
    /// Friends and groups; every user learns his conversation.
    pub(super) fn set_up(&mut self, shutdown: &Shutdown) -> Result<(), LoadError> {
        let (users, first) = (self.config.users, self.config.first_user);
        for place in 0..users {
            // Confirmations of all users spread over their interval.
            self.talkers[place as usize].confirm_us =
                self.now_us + u64::from(place) * CONFIRM_US / u64::from(users);
            if let Some(partner) = people::partner(place, users) {
                self.request(
                    place as usize,
                    Ask::Befriend(v1::Befriend { user: first + u64::from(partner) }),
                )?;
            }
        }
        let pairs = self.config.talk == Talk::Pairs;
        self.wait_for((users & !1) as usize, shutdown, |_, _, _| Ok(None))?;
        if pairs {
            // The first message of a pair makes its conversation.
            for place in 0..users as usize {
                self.first_send(place, first + (place as u64 ^ 1))?;
            }
            return self.wait_until(shutdown, |flood| flood.talkers.iter().all(|t| t.open.is_empty()));
        }
        let Talk::Groups(size) = self.config.talk else { return Ok(()) };
        let mut groups: Vec<Group> = people::groups(users, users / size, size, 0);
        let tag = self.tag;
        for (place, group) in groups.iter().enumerate() {
            let request = group.next(first, tag | (place as u64 + 1));
            if let Some(request) = request {
                self.request(place * size as usize, request)?;
            }
        }
        let steps: usize = groups.iter().map(|group| (group.members.len() - 1).div_ceil(200).max(1)).sum();
        self.wait_for(steps, shutdown, |_, at, answer| {
            let place = at / size as usize;
            if let Some(Answer::Done(done)) = answer.answer {
                groups[place].made(done.conversation);
            }
            Ok((!groups[place].is_made())
                .then(|| groups[place].next(first, tag | (place as u64 + 1)))
                .flatten())
        })?;
        for place in 0..users as usize {
            self.talkers[place].conversation = groups[place / size as usize].conversation;
        }
        // Where each conversation stands now: what was pushed so far are its changes.
        for place in 0..users as usize {
            let conversation = self.talkers[place].conversation;
            let range = v1::RangeRequest { conversation, limit: 1, newest_first: true, ..Default::default() };
            self.request(place, Ask::Range(range))?;
        }
        self.wait_for(users as usize, shutdown, |flood, at, answer| {
            if let Some(Answer::Range(range)) = answer.answer {
                flood.talkers[at].base = range.last_seq;
                flood.talkers[at].last = range.last_seq;
                flood.talkers[at].own_last = range.last_seq;
                flood.talkers[at].reached = range.last_seq;
                flood.talkers[at].got = 0;
            }
            Ok(None)
        })
    }

    fn first_send(&mut self, at: usize, to_user: u64) -> Result<(), LoadError> {
        let mut body = Vec::new();
        Stamp { number: 0, meant_us: self.now_us }.put(&mut body, STAMP_BYTES);
        let send = v1::Send { to_user, counter: 1, kind: 1, body, ..v1::Send::default() };
        self.talkers[at].counter = 1;
        self.talkers[at].open.push_back((1, self.now_us));
        put_message(&mut self.conns[at].wire.out, FrameKind::Send, 1, &send);
        self.flush(at)
    }

    /// Asks for something that is asked for again where the answer is to come later.
    fn request(&mut self, at: usize, ask: Ask) -> Result<(), LoadError> {
        self.asked.insert(at, ask.clone());
        self.ask(at, ask)
    }

    /// Waits for so many answers; each may lead to a further request. Who is told to come again does so.
    fn wait_for(
        &mut self,
        mut answers: usize,
        shutdown: &Shutdown,
        mut hear: impl FnMut(&mut Self, usize, v1::ChatAnswer) -> Result<Option<Ask>, LoadError>,
    ) -> Result<(), LoadError> {
        let end_us = self.read_clock() + self.config.wait_ms * 1_000;
        let mut later: Vec<(u64, usize)> = Vec::new();
        while answers > 0 {
            if self.now_us > end_us || shutdown.is_requested() {
                return Err(LoadError::Server(format!("{answers} requests were not answered in time")));
            }
            self.poll(NAP_MAX_NS)?;
            for (at, answer) in std::mem::take(&mut self.answers) {
                let answer = match answer {
                    Ok(answer) => answer,
                    Err(error) if error.retry_after_ms > 0 => {
                        later.push((self.now_us + u64::from(error.retry_after_ms) * 1_000, at));
                        continue;
                    }
                    Err(error) => {
                        let user = self.config.first_user + at as u64;
                        let told = format!("user {user} was told: {} ({})", error.message, error.code);
                        return Err(LoadError::Server(told));
                    }
                };
                answers -= 1;
                if let Some(ask) = hear(self, at, answer)? {
                    self.request(at, ask)?;
                }
            }
            for (_, at) in later.extract_if(.., |(due_us, _)| *due_us <= self.now_us).collect::<Vec<_>>() {
                let again = self.asked.get(&at).cloned();
                again.map_or(Ok(()), |ask| self.ask(at, ask))?;
            }
        }
        self.asked.clear();
        Ok(())
    }

    fn wait_until(&mut self, shutdown: &Shutdown, done: impl Fn(&Self) -> bool) -> Result<(), LoadError> {
        let end_us = self.read_clock() + self.config.wait_ms * 1_000;
        while !done(self) {
            if self.now_us > end_us || shutdown.is_requested() {
                let first = &self.report.first_refusal;
                return Err(LoadError::Server(format!(
                    "the first messages were not stored in time; {first}"
                )));
            }
            for at in 0..self.talkers.len() {
                let talker = &mut self.talkers[at];
                if talker.again_us != 0 && self.now_us >= talker.again_us && talker.conversation == 0 {
                    talker.again_us = 0;
                    talker.open.clear();
                    self.first_send(at, self.config.first_user + (at as u64 ^ 1))?;
                }
            }
            self.poll(NAP_MAX_NS)?;
        }
        Ok(())
    }
}
