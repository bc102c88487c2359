//! One thread of the generator.

use std::collections::VecDeque;

use client::Session;
use protocol::frame::{FRAME_MAX, FrameKind, next};
use protocol::v1::{Outcome, Submit};
use runtime::{SharedClock, Shutdown};

use super::{BenchConfig, Kind, Load, Population, Target};
use crate::LoadError;
use crate::fast::{Said, put_submit, read_answer};
use crate::http1::{next_response, put_decimal};
use crate::meter::{Latencies, thread_cpu_ns};
use crate::net::{Poller, Ready, SCRATCH_BYTES, Wire};

/// Submits that one connection gets at a time in an open loop, so that they share a write.
const BURST: usize = 64;

/// Longest sleep, in ns. An open loop sleeps at least [`NAP_MIN_NS`], so that submits gather.
const NAP_MAX_NS: u64 = 20_000_000;
const NAP_MIN_NS: u64 = 100_000;

/// How long answers are waited for when the run is over, in ns.
const DRAIN_NS: u64 = 3_000_000_000;

/// A connection and what is unanswered on it.
pub(crate) struct Conn {
    pub wire: Wire,
    pub session: Option<Session>,
    /// Intended start of each unanswered submit (monotonic ns); 0: free.
    starts: Vec<u64>,
    free: Vec<u16>,
    /// One player a connection: his next counter.
    counter: u32,
    waiting: bool,
}

impl Conn {
    pub fn new(wire: Wire, outstanding: usize) -> Self {
        let free = (0..outstanding).rev().map(|slot| slot as u16).collect();
        Self { wire, session: None, starts: vec![0; outstanding], free, counter: 1, waiting: false }
    }
}

/// What a thread counted.
#[derive(Default)]
pub(crate) struct Tally {
    pub lost: u64,
    pub won: u64,
    pub others: [u64; 12],
    pub errors: u64,
    pub unanswered: u64,
    pub waits: u64,
    pub users: u64,
    pub cpu_ns: u64,
    pub counted_ns: u64,
    pub lost_latency: Latencies,
    pub won_latency: Latencies,
}

impl Tally {
    pub fn add(&mut self, other: Tally) {
        self.lost += other.lost;
        self.won += other.won;
        self.others.iter_mut().zip(other.others).for_each(|(a, b)| *a += b);
        self.errors += other.errors;
        self.unanswered += other.unanswered;
        self.waits += other.waits;
        self.users += other.users;
        self.cpu_ns += other.cpu_ns;
        self.counted_ns = self.counted_ns.max(other.counted_ns);
        self.lost_latency.add(other.lost_latency);
        self.won_latency.add(other.won_latency);
    }

    #[inline]
    fn count(&mut self, said: Said, latency_ns: u64) {
        if said.outcome == Outcome::Lost as i32 {
            self.lost += 1;
            self.lost_latency.record_us(latency_ns / 1_000);
        } else if said.outcome == Outcome::Won as i32 {
            self.won += 1;
            self.won_latency.record_us(latency_ns / 1_000);
        } else {
            self.others[usize::try_from(said.outcome).unwrap_or(0).min(11)] += 1;
        }
    }
}

pub(crate) struct Worker<'a> {
    config: &'a BenchConfig,
    conns: Vec<Conn>,
    poller: Poller,
    scratch: Vec<u8>,
    population: Option<Population>,
    target: Target,
    /// Connections with room; each at most once.
    roomy: VecDeque<u32>,
    tally: Tally,
    clock: &'a SharedClock,
    shutdown: &'a Shutdown,
    start_ns: u64,
    issued: u64,
    now_ns: u64,
    /// HTTP: head of every request up to the length of its body.
    head: Vec<u8>,
}

impl<'a> Worker<'a> {
    pub fn new(
        config: &'a BenchConfig,
        conns: Vec<Conn>,
        population: Option<Population>,
        target: Target,
        start_ns: u64,
        clock: &'a SharedClock,
        shutdown: &'a Shutdown,
    ) -> Result<Self, LoadError> {
        let poller = Poller::new().map_err(LoadError::io("making a poller"))?;
        for (key, conn) in conns.iter().enumerate() {
            conn.wire.watch(&poller, key as u64).map_err(LoadError::io("watching a connection"))?;
        }
        let token = config.gateway(clock.now_ms());
        let head = format!(
            "POST /v1/submit HTTP/1.1\r\nHost: hongbao\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json\r\nContent-Length: "
        );
        Ok(Self {
            config,
            roomy: (0..conns.len() as u32).collect(),
            conns,
            poller,
            scratch: vec![0; SCRATCH_BYTES],
            population,
            target,
            tally: Tally::default(),
            clock,
            shutdown,
            start_ns,
            issued: 0,
            now_ns: 0,
            head: head.into_bytes(),
        })
    }

    pub fn run(mut self) -> Result<Tally, LoadError> {
        let count_ns = self.start_ns + self.config.warm_ms * 1_000_000;
        let end_ns = count_ns + self.config.run_ms * 1_000_000;
        let mut ready = Vec::new();
        let mut counting = None;
        loop {
            self.now_ns = self.clock.mono_ns();
            if counting.is_none() && self.now_ns >= count_ns {
                counting = Some((thread_cpu_ns(), self.now_ns));
                self.tally = Tally::default();
            }
            if self.now_ns >= end_ns || self.shutdown.is_requested() {
                break;
            }
            if self.now_ns >= self.start_ns {
                self.issue()?;
            }
            self.poll(self.nap_ns(), &mut ready)?;
        }
        if let Some((cpu_ns, from_ns)) = counting {
            self.tally.cpu_ns = thread_cpu_ns() - cpu_ns;
            self.tally.counted_ns = self.now_ns - from_ns;
        }
        self.drain(&mut ready)
    }

    /// Answers to what is under way are taken, so that the server is quiet for who comes next, but no longer counted.
    fn drain(mut self, ready: &mut Vec<Ready>) -> Result<Tally, LoadError> {
        let mut tally = std::mem::take(&mut self.tally);
        let end_ns = self.now_ns + DRAIN_NS;
        while self.open() > 0 && self.now_ns < end_ns {
            self.poll(NAP_MAX_NS, ready)?;
            self.now_ns = self.clock.mono_ns();
        }
        tally.unanswered = self.open();
        tally.users = self.population.as_ref().map_or(self.conns.len() as u64, |people| people.seen);
        Ok(tally)
    }

    fn open(&self) -> u64 {
        self.conns.iter().map(|conn| (conn.starts.len() - conn.free.len()) as u64).sum()
    }

    fn nap_ns(&self) -> u64 {
        match self.config.load {
            Load::Rate(rate) => {
                let due_ns = self.intended_ns(self.issued, rate);
                due_ns.saturating_sub(self.now_ns).clamp(NAP_MIN_NS, NAP_MAX_NS)
            }
            // Connections that had to wait for players are looked at again soon.
            Load::Max if self.roomy.is_empty() => NAP_MAX_NS,
            Load::Max => 1_000_000,
        }
    }

    fn intended_ns(&self, number: u64, rate: f64) -> u64 {
        self.start_ns + (number as f64 * 1e9 * self.config.threads as f64 / rate) as u64
    }

    /// Sends what is due.
    fn issue(&mut self) -> Result<(), LoadError> {
        let mut due = match self.config.load {
            Load::Max => u64::MAX,
            Load::Rate(rate) => {
                let passed_s = (self.now_ns - self.start_ns) as f64 / 1e9;
                ((passed_s * rate / self.config.threads as f64) as u64 + 1).saturating_sub(self.issued)
            }
        };
        if let Some(people) = &mut self.population {
            people.set_time(self.clock.now_ms());
        }
        for _ in 0..self.roomy.len() {
            if due == 0 {
                break;
            }
            let Some(key) = self.roomy.pop_front() else { break };
            let sent = self.fill(key as usize, due)?;
            due -= sent;
            let conn = &self.conns[key as usize];
            if !conn.free.is_empty() {
                self.roomy.push_back(key);
                if sent == 0 {
                    // No player was ready: nor is one for the others.
                    self.tally.waits += 1;
                    break;
                }
            } else {
                self.conns[key as usize].waiting = true;
            }
        }
        Ok(())
    }

    /// Up to `due` submits on one connection, with one write.
    fn fill(&mut self, key: usize, due: u64) -> Result<u64, LoadError> {
        let conn = &mut self.conns[key];
        let most = match self.config.load {
            Load::Max => conn.free.len(),
            Load::Rate(_) => conn.free.len().min(BURST),
        };
        let mut sent = 0;
        while sent < due.min(most as u64) {
            let (user, counter) = match &mut self.population {
                Some(people) => match people.next(self.now_ns / 1_000_000) {
                    Some(next) => next,
                    None => break,
                },
                None => (0, conn.counter),
            };
            let Some(slot) = conn.free.pop() else { break };
            conn.starts[usize::from(slot)] = match self.config.load {
                Load::Max => self.now_ns,
                Load::Rate(rate) => {
                    let share = 1e9 * self.config.threads as f64 / rate;
                    self.start_ns + ((self.issued + sent) as f64 * share) as u64
                }
            };
            let Target { campaign, round, .. } = self.target;
            let submit = Submit { user, campaign, round, counter, shakes: self.config.shakes, district: 0 };
            if self.config.kind == Kind::Http {
                put_http(&mut conn.wire.out, &self.head, &submit);
            } else {
                put_submit(&mut conn.wire.out, slot.into(), &submit);
            }
            sent += 1;
        }
        self.issued += sent;
        if sent > 0 {
            conn.wire.flush(&self.poller, key as u64).map_err(LoadError::io("writing to the server"))?;
        }
        Ok(sent)
    }

    fn poll(&mut self, nap_ns: u64, ready: &mut Vec<Ready>) -> Result<(), LoadError> {
        self.poller.wait(nap_ns, ready).map_err(LoadError::io("polling"))?;
        for ready in ready.iter() {
            let key = ready.key as usize;
            if ready.writable {
                let flushed = self.conns[key].wire.flush(&self.poller, ready.key);
                flushed.map_err(LoadError::io("writing to the server"))?;
            }
            if ready.readable {
                self.read(key)?;
            }
        }
        Ok(())
    }

    fn read(&mut self, key: usize) -> Result<(), LoadError> {
        let conn = &mut self.conns[key];
        let what = || format!("connection {key}: the server at {} closed or broke it", self.config.address);
        let filled =
            conn.wire.read(&mut self.scratch).map_err(|error| LoadError::Io { what: what(), error })?;
        let Some(filled) = filled else { return Ok(()) };
        self.now_ns = self.clock.mono_ns();
        let used = if self.config.kind == Kind::Http {
            self.responses(key, filled)?
        } else {
            self.frames(key, filled)?
        };
        let conn = &mut self.conns[key];
        conn.wire.keep(&self.scratch[used..filled]);
        if !conn.free.is_empty() && std::mem::take(&mut conn.waiting) {
            self.roomy.push_back(key as u32);
        }
        Ok(())
    }

    fn frames(&mut self, key: usize, filled: usize) -> Result<usize, LoadError> {
        let conn = &mut self.conns[key];
        let wrong = |what: String| LoadError::Server(format!("connection {key}: {what}"));
        let mut used = 0;
        while let Some((frame, size)) =
            next(&self.scratch[used..filled], FRAME_MAX).map_err(|e| wrong(e.to_string()))?
        {
            used += size;
            let said = match frame.kind {
                FrameKind::SubmitAnswer => {
                    read_answer(frame.body).ok_or_else(|| wrong("an answer that is none".to_owned()))?
                }
                FrameKind::Heartbeat => continue,
                FrameKind::Error => {
                    let error =
                        <protocol::v1::Error as prost::Message>::decode(frame.body).unwrap_or_default();
                    if error.fatal {
                        return Err(wrong(format!(
                            "the server ended it: {} ({})",
                            error.message, error.code
                        )));
                    }
                    self.tally.errors += 1;
                    Said { outcome: -1, ..Said::default() }
                }
                kind => return Err(wrong(format!("{kind:?} came, which nobody asked for"))),
            };
            let slot = frame.id as usize;
            let start_ns = conn.starts.get_mut(slot).map(std::mem::take).filter(|start| *start != 0);
            let start_ns =
                start_ns.ok_or_else(|| wrong(format!("an answer to {slot}, which is not open")))?;
            conn.free.push(slot as u16);
            if said.outcome >= 0 {
                self.tally.count(said, self.now_ns.saturating_sub(start_ns));
                conn.counter = said.next_counter.max(1);
                if let Some(people) = &mut self.population {
                    people.interval_ms = people.interval_ms.max(said.next_submit_ms.into());
                }
            }
        }
        Ok(used)
    }

    fn responses(&mut self, key: usize, filled: usize) -> Result<usize, LoadError> {
        let wrong = |what: String| LoadError::Server(format!("connection {key}: {what}"));
        let conn = &mut self.conns[key];
        let mut used = 0;
        while let Some(answer) = next_response(&self.scratch[used..filled]).map_err(wrong)? {
            used += answer.used;
            let start_ns = std::mem::take(&mut conn.starts[0]);
            if start_ns == 0 {
                return Err(wrong("an answer that nobody asked for".to_owned()));
            }
            conn.free.push(0);
            if answer.status == 200 {
                let said = Said { outcome: json_outcome(answer.body), ..Said::default() };
                self.tally.count(said, self.now_ns.saturating_sub(start_ns));
            } else {
                self.tally.errors += 1;
            }
        }
        Ok(used)
    }
}

fn put_http(out: &mut Vec<u8>, head: &[u8], submit: &Submit) {
    out.extend_from_slice(head);
    // The length has two digits, filled in when it is known.
    let length_at = out.len();
    out.extend_from_slice(b"000\r\n\r\n{\"user\":\"");
    let body_at = out.len() - 9;
    put_decimal(out, submit.user);
    let numbers = [
        ("\",\"campaign\":", submit.campaign),
        (",\"round\":", submit.round),
        (",\"counter\":", submit.counter),
        (",\"shakes\":", submit.shakes),
    ];
    for (name, value) in numbers {
        out.extend_from_slice(name.as_bytes());
        put_decimal(out, value.into());
    }
    out.push(b'}');
    let length = out.len() - body_at;
    for (i, unit) in [100, 10, 1].into_iter().enumerate() {
        out[length_at + i] = b'0' + (length / unit % 10) as u8;
    }
}

/// The outcome's number in a JSON answer; 0 where there is none.
fn json_outcome(body: &[u8]) -> i32 {
    const NAME: &[u8] = b"\"outcome\":";
    let at = body.windows(NAME.len()).position(|w| w == NAME).map(|at| at + NAME.len());
    let rest = at.map_or(&b""[..], |at| body[at..].trim_ascii_start());
    let word = rest.strip_prefix(b"\"").and_then(|rest| rest.split(|b| *b == b'"').next());
    let word = word.and_then(|word| std::str::from_utf8(word).ok());
    word.and_then(Outcome::from_str_name).map_or(0, |outcome| outcome as i32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::json;

    #[test]
    fn http_requests_are_what_they_say() {
        for user in [1, u64::MAX] {
            let submit = Submit { user, campaign: 3, round: 1, counter: 70_000, shakes: 3, district: 0 };
            let mut out = Vec::new();
            put_http(&mut out, b"POST / HTTP/1.1\r\nContent-Length: ", &submit);
            let text = String::from_utf8(out).unwrap();
            let (head, body) = text.split_once("\r\n\r\n").unwrap();
            let length: usize = head.rsplit(' ').next().unwrap().parse().unwrap();
            assert_eq!(length, body.len());
            assert_eq!(json::read::<Submit>(body.as_bytes()).unwrap(), submit);
        }
    }

    #[test]
    fn outcomes_are_found_in_json() {
        let mut body = Vec::new();
        let answer =
            protocol::v1::SubmitAnswer { outcome: Outcome::Won.into(), counter: 7, ..Default::default() };
        json::write(&answer, &mut body);
        assert_eq!(json_outcome(&body), Outcome::Won as i32);
        assert_eq!(json_outcome(b"{\"outcome\" : 1}"), 0);
        assert_eq!(json_outcome(b"{}"), 0);
    }
}
