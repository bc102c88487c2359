//! The flood's loop.

use prost::Message;
use protocol::frame::{FRAME_MAX, FrameKind, next, put_message};
use protocol::v1::chat_answer::Answer;
use protocol::v1::chat_request::Ask;
use protocol::v1::{self, SendOutcome};
use runtime::{SharedClock, Shutdown};
use std::collections::HashMap;

use super::talker::Talker;
use super::{FloodConfig, FloodReport, Talk};
use crate::LoadError;
use crate::chat::Stamp;
use crate::chat::fast::{Told, put_send, read_answer, read_push};
use crate::chat::idle::{self, Conn};
use crate::meter::{Latencies, cores, thread_cpu_ns};
use crate::net::{Poller, Ready, SCRATCH_BYTES};

/// Sleeps of the loop in ns: while messages are due they gather for at least the shorter one.
pub(super) const NAP_MAX_NS: u64 = 5_000_000;
const NAP_MIN_NS: u64 = 200_000;

/// Between two confirmations of a connection, in us. The platform pushes again what is unconfirmed for 5 s.
pub(super) const CONFIRM_US: u64 = 2_000_000;
/// Between two looks at what is due besides messages, in us: few confirmations have gathered then.
const CHORES_US: u64 = 20_000;

/// Stretches of a large conversation that one user may still have to pull; beyond it they count as holes.
const GAPS_MAX: usize = 1_024;

/// How long answers and pushes are waited for when the run is over, in us.
const DRAIN_US: u64 = 5_000_000;

pub(super) struct Flood<'a> {
    pub(super) config: &'a FloodConfig,
    pub(super) clock: &'a SharedClock,
    pub(super) poller: Poller,
    pub(super) conns: Vec<Conn>,
    pub(super) talkers: Vec<Talker>,
    pub(super) report: FloodReport,
    pub(super) acks: Latencies,
    pub(super) deliveries: Latencies,
    pub(super) scratch: Vec<u8>,
    pub(super) now_us: u64,
    pub(super) counting: bool,
    /// Answers to requests: connection, and what was said.
    pub(super) answers: Vec<(usize, Result<v1::ChatAnswer, v1::Error>)>,
    /// What each connection has asked for last, while all is being set up.
    pub(super) asked: HashMap<usize, Ask>,
    pub(super) tag: u64,
}

impl<'a> Flood<'a> {
    /// Logs everybody in.
    pub fn new(config: &'a FloodConfig, clock: &'a SharedClock) -> Result<Self, LoadError> {
        let users = (config.users, config.first_user);
        let (conns, poller) =
            idle::log_in_all(config.address, false, &config.key, users, config.wait_ms, clock)?;
        Ok(Self {
            config,
            clock,
            poller,
            conns,
            talkers: (0..config.users).map(|_| Talker::new()).collect(),
            report: FloodReport::default(),
            acks: Latencies::default(),
            deliveries: Latencies::default(),
            scratch: vec![0; SCRATCH_BYTES],
            now_us: 0,
            counting: false,
            answers: Vec::new(),
            asked: HashMap::new(),
            tag: (clock.now_ms() & 0xffff_ffff).max(1) << 32,
        })
    }

    /// The whole run.
    pub fn run_all(mut self, shutdown: &Shutdown, begun: impl FnOnce()) -> Result<FloodReport, LoadError> {
        self.set_up(shutdown)?;
        begun();
        self.run(shutdown)?;
        Ok(self.report)
    }

    pub(super) fn read_clock(&mut self) -> u64 {
        self.now_us = self.clock.mono_ns() / 1_000;
        self.now_us
    }

    pub(super) fn ask(&mut self, at: usize, ask: Ask) -> Result<(), LoadError> {
        let request = v1::ChatRequest { ask: Some(ask), ..v1::ChatRequest::default() };
        put_message(&mut self.conns[at].wire.out, FrameKind::Ask, u32::MAX, &request);
        self.flush(at)
    }

    pub(super) fn flush(&mut self, at: usize) -> Result<(), LoadError> {
        let flushed = self.conns[at].wire.flush(&self.poller, at as u64);
        flushed.map_err(LoadError::io(format!("writing on connection {at}")))
    }

    fn run(&mut self, shutdown: &Shutdown) -> Result<(), LoadError> {
        let start_us = self.read_clock();
        let count_us = start_us + self.config.warm_ms * 1_000;
        let end_us = count_us + self.config.run_ms * 1_000;
        let (mut sent, mut cpu_ns, mut chores_us, mut from_us) = (0u64, 0, start_us, start_us);
        while self.now_us < end_us && !shutdown.is_requested() {
            if !self.counting && self.now_us >= count_us {
                (self.counting, cpu_ns, from_us) = (true, thread_cpu_ns(), self.now_us);
            }
            // The first is due at once.
            let due = ((self.now_us - start_us) as f64 * self.config.rate / 1e6) as u64 + 1;
            sent = self.send_due(sent, due, start_us)?;
            if self.now_us >= chores_us {
                chores_us = self.now_us + CHORES_US;
                self.chores()?;
            }
            let next_us = start_us + (sent as f64 * 1e6 / self.config.rate) as u64;
            let nap_ns = next_us.saturating_sub(self.now_us) * 1_000;
            self.poll(nap_ns.clamp(NAP_MIN_NS, NAP_MAX_NS))?;
        }
        if self.counting {
            self.report.seconds = (self.now_us - from_us) as f64 / 1e6;
            self.report.cpu_s = (thread_cpu_ns() - cpu_ns) as f64 / 1e9;
        }
        self.counting = false;
        let drain_us = self.now_us + DRAIN_US;
        while self.now_us < drain_us && !(self.talkers.iter().all(|t| t.open.is_empty()) && self.holes() == 0)
        {
            if self.now_us >= chores_us {
                chores_us = self.now_us + CHORES_US;
                self.chores()?;
            }
            self.poll(NAP_MAX_NS)?;
        }
        self.finish();
        Ok(())
    }

    fn finish(&mut self) {
        let holes = self.holes();
        let report = &mut self.report;
        report.holes = holes;
        report.unanswered = self.talkers.iter().map(|talker| talker.open.len() as u64).sum();
        report.ack_latency = self.acks.summary();
        report.delivery_latency = self.deliveries.summary();
        let per = |value: f64| if report.seconds > 0.0 { value / report.seconds } else { 0.0 };
        report.acked_per_second = per(report.acked as f64);
        report.delivered_per_second = per(report.delivered as f64);
        report.cpu_share = per(report.cpu_s) / cores();
    }

    /// Messages that somebody must have been pushed and was not: up to the conversation's last seq, his own left out.
    fn holes(&self) -> u64 {
        let mut last = std::collections::HashMap::new();
        for talker in &self.talkers {
            let at = last.entry(talker.conversation).or_insert(0u64);
            *at = (*at).max(talker.last).max(talker.own_last);
        }
        let missing = |t: &Talker| (last[&t.conversation] - t.base).saturating_sub(t.got + t.own);
        self.talkers.iter().map(missing).sum()
    }

    /// Whose turn a message is: round robin, the two of a pair half a round apart. People who answer each other within the same
    /// millisecond are nobody's users: what one is told and what the other says would share their writes.
    fn whose(&self, message: u64) -> usize {
        let (users, turn) = (u64::from(self.config.users), message % u64::from(self.config.users));
        let of_pair = if turn < users / 2 { 2 * turn } else { 2 * (turn - users / 2) + 1 };
        (if self.config.talk == Talk::Pairs { of_pair } else { turn }) as usize
    }

    /// Sends what is due; what one user sends now shares a write.
    fn send_due(&mut self, mut sent: u64, due: u64, start_us: u64) -> Result<u64, LoadError> {
        while sent < due {
            let at = self.whose(sent);
            let meant_us = start_us + (sent as f64 * 1e6 / self.config.rate) as u64;
            sent += 1;
            let talker = &mut self.talkers[at];
            if talker.open.len() >= 1_024 {
                // So far behind, the platform has lost this race; a user's queue has a bound.
                self.report.refused += 1;
                continue;
            }
            talker.counter += 1;
            let stamp = Stamp { number: self.tag | (sent & 0xffff_ffff), meant_us };
            talker.open.push_back((talker.counter, meant_us));
            let out = &mut self.conns[at].wire.out;
            put_send(
                out,
                talker.counter as u32,
                talker.conversation,
                talker.counter,
                stamp,
                self.config.body,
            );
            self.flush(at)?;
        }
        Ok(sent)
    }

    /// Confirmations, heartbeats, and what must be sent again.
    fn chores(&mut self) -> Result<(), LoadError> {
        for at in 0..self.conns.len() {
            self.pull(at)?;
            let talker = &mut self.talkers[at];
            let out = &mut self.conns[at].wire.out;
            let before = out.len();
            if self.now_us >= talker.confirm_us && talker.cursor != talker.confirmed {
                let confirm = v1::Confirm { cursor: talker.cursor, ..v1::Confirm::default() };
                put_message(out, FrameKind::Confirm, 0, &confirm);
                // Each keeps his place in the interval: people who confirm all at once are nobody's users.
                let passed = (self.now_us - talker.confirm_us) / CONFIRM_US + 1;
                (talker.confirmed, talker.confirm_us) =
                    (talker.cursor, talker.confirm_us + passed * CONFIRM_US);
            }
            if talker.again_us != 0 && self.now_us >= talker.again_us && talker.conversation != 0 {
                talker.again_us = 0;
                for (counter, meant_us) in talker.open.iter().take(64) {
                    let stamp = Stamp { number: self.tag, meant_us: *meant_us };
                    put_send(out, *counter as u32, talker.conversation, *counter, stamp, self.config.body);
                }
            }
            let silent = self.conns[at].tick(self.now_us / 1_000);
            silent.map_err(|error| self.broken(at, error))?;
            if self.conns[at].wire.out.len() > before {
                self.flush(at)?;
            }
        }
        Ok(())
    }

    fn broken(&self, connection: usize, error: client::SessionError) -> LoadError {
        LoadError::Session { connection, address: self.config.address.to_string(), error }
    }

    pub(super) fn poll(&mut self, nap_ns: u64) -> Result<(), LoadError> {
        let mut ready: Vec<Ready> = Vec::new();
        self.poller.wait(nap_ns, &mut ready).map_err(LoadError::io("polling"))?;
        self.read_clock();
        for ready in &ready {
            let at = ready.key as usize;
            if ready.writable {
                self.flush(at)?;
            }
            if ready.readable {
                self.read(at)?;
            }
        }
        Ok(())
    }

    fn read(&mut self, at: usize) -> Result<(), LoadError> {
        let mut scratch = std::mem::take(&mut self.scratch);
        let filled = self.conns[at].wire.read(&mut scratch);
        let filled =
            filled.map_err(LoadError::io(format!("connection {at}: the platform closed or broke it")));
        let done = filled.and_then(|filled| match filled {
            Some(filled) => {
                let used = self.frames(at, &scratch[..filled])?;
                self.conns[at].wire.keep(&scratch[used..filled]);
                Ok(())
            }
            None => Ok(()),
        });
        self.scratch = scratch;
        done
    }

    fn frames(&mut self, at: usize, input: &[u8]) -> Result<usize, LoadError> {
        let wrong = |what: String| LoadError::Server(format!("connection {at}: {what}"));
        self.conns[at].heard(self.now_us / 1_000);
        let mut used = 0;
        while let Some((frame, size)) = next(&input[used..], FRAME_MAX).map_err(|e| wrong(e.to_string()))? {
            used += size;
            match frame.kind {
                FrameKind::Push => {
                    self.push(at, frame.body).ok_or_else(|| wrong("a push that is none".to_owned()))?;
                }
                FrameKind::SendAnswer => {
                    let told =
                        read_answer(frame.body).ok_or_else(|| wrong("an answer that is none".to_owned()))?;
                    self.told(at, told, frame.body);
                }
                FrameKind::AskAnswer => {
                    let answer = v1::ChatAnswer::decode(frame.body).map_err(|e| wrong(e.to_string()))?;
                    match answer.answer {
                        Some(Answer::Range(range)) if self.talkers[at].pulling => self.pulled(at, range)?,
                        _ => self.answers.push((at, Ok(answer))),
                    }
                }
                FrameKind::Error => {
                    let error = v1::Error::decode(frame.body).unwrap_or_default();
                    if error.fatal {
                        return Err(wrong(format!(
                            "the platform ended it: {} ({})",
                            error.message, error.code
                        )));
                    }
                    if frame.id == u32::MAX && self.talkers[at].pulling {
                        // Asked again with the next chores.
                        self.talkers[at].pulling = false;
                    } else if frame.id == u32::MAX {
                        self.answers.push((at, Err(error)));
                    } else {
                        self.again(at, error.retry_after_ms);
                    }
                }
                _ => {}
            }
        }
        Ok(used)
    }

    fn push(&mut self, at: usize, body: &[u8]) -> Option<()> {
        let user = self.config.first_user + at as u64;
        let Self { talkers, deliveries, report, counting, now_us, .. } = self;
        let talker = &mut talkers[at];
        // The first that this push brings, and how far its head says that the conversation has come.
        let (mut first, mut head) = (u64::MAX, 0);
        let got = |got: crate::chat::fast::Got| {
            if talker.conversation != 0 && got.conversation != talker.conversation {
                return;
            }
            first = first.min(got.seq);
            if got.sender == user {
                return;
            }
            if !talker.take(got.seq) {
                report.duplicates += u64::from(got.seq > talker.base);
                return;
            }
            if let Some(stamp) = got.stamp.filter(|_| *counting) {
                report.delivered += 1;
                deliveries.record_us(now_us.saturating_sub(stamp.meant_us));
            }
        };
        let (_, cursor) = read_push(body, got, |_, seq| head = seq)?;
        let talker = &mut self.talkers[at];
        talker.cursor = talker.cursor.max(cursor);
        if head > talker.reached && talker.base > 0 {
            let (from, to) = (talker.reached + 1, head.min(first.saturating_sub(1)));
            talker.reached = head;
            if from <= to && talker.gaps.len() < GAPS_MAX {
                talker.gaps.push_back((from, to));
                self.pull(at).ok()?;
            }
        }
        Some(())
    }

    /// Asks for what heads named and did not bring.
    fn pull(&mut self, at: usize) -> Result<(), LoadError> {
        let talker = &mut self.talkers[at];
        let Some((from_seq, to_seq)) = talker.gaps.front().copied().filter(|_| !talker.pulling) else {
            return Ok(());
        };
        talker.pulling = true;
        self.report.pulls += 1;
        let conversation = talker.conversation;
        let range = v1::RangeRequest { conversation, from_seq, to_seq, limit: 200, newest_first: false };
        self.ask(at, Ask::Range(range))
    }

    fn pulled(&mut self, at: usize, range: v1::RangeAnswer) -> Result<(), LoadError> {
        let user = self.config.first_user + at as u64;
        let talker = &mut self.talkers[at];
        talker.pulling = false;
        let last = range.messages.last().map_or(0, |message| message.seq);
        if let Some((from, to)) = talker.gaps.pop_front()
            && range.more
            && last >= from
            && last < to
        {
            talker.gaps.push_front((last + 1, to));
        }
        for message in range.messages.iter().filter(|message| message.sender != user) {
            talker.got += 1;
            if let Some(stamp) = Stamp::read(&message.body).filter(|_| self.counting) {
                self.report.delivered += 1;
                self.deliveries.record_us(self.now_us.saturating_sub(stamp.meant_us));
            }
        }
        self.pull(at)
    }

    fn told(&mut self, at: usize, told: Told, body: &[u8]) {
        let talker = &mut self.talkers[at];
        let place = talker.open.iter().position(|(counter, _)| *counter == told.counter);
        let Some(place) = place else { return };
        match SendOutcome::try_from(told.outcome).unwrap_or_default() {
            SendOutcome::Stored | SendOutcome::StoredBefore => {
                let Some((_, meant_us)) = talker.open.remove(place) else { return };
                if talker.conversation == 0 {
                    // The first message of a pair; the flood begins behind both.
                    talker.conversation = v1::SendAnswer::decode(body).map_or(0, |a| a.conversation);
                }
                (talker.own, talker.own_last) = (talker.own + 1, talker.own_last.max(told.seq));
                if self.counting {
                    self.report.acked += 1;
                    self.acks.record_us(self.now_us.saturating_sub(meant_us));
                }
            }
            SendOutcome::OutOfTurn | SendOutcome::Pending | SendOutcome::Busy => {
                self.again(at, told.retry_after_ms);
            }
            outcome => {
                talker.open.remove(place);
                self.report.refused += 1;
                if self.report.first_refusal.is_empty() {
                    let reason = v1::SendAnswer::decode(body).map_or(String::new(), |a| a.reason);
                    self.report.first_refusal = format!("{outcome:?}: {reason}");
                }
            }
        }
    }

    fn again(&mut self, at: usize, after_ms: u32) {
        self.report.not_at_once += 1;
        let talker = &mut self.talkers[at];
        if talker.again_us == 0 {
            talker.again_us = self.now_us + u64::from(after_ms.max(20)) * 1_000;
        }
    }
}
