//! One device's connection, and the harm that its network does.

use client::chat::{Device, Event, Out};
use client::{Credential, Reconnect, ReconnectPolicy, Session, SessionError};
use prost::Message;
use protocol::frame::{FRAME_MAX, Frame, FrameKind, next, put_message};
use protocol::v1;
use serde::Serialize;

use crate::net::{Poller, Wire};

/// Time to connect, in us.
const DIAL_US: u64 = 10_000_000;

/// What a bad network does to a connection. Shares are in thousandths.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Harm {
    /// Chance of being cut, each second.
    pub cut: u32,
    /// Chance of standing still, each second,
    pub stall: u32,
    /// for up to so long, in ms.
    pub stall_ms: u64,
    /// Frames that never arrive, either way.
    pub lose: u32,
    /// Frames that arrive twice, either way.
    pub repeat: u32,
    /// Chance that a second device goes offline, each second,
    pub offline: u32,
    /// for up to so long, in ms.
    pub offline_ms: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum State {
    Down,
    Connecting,
    Greeting,
    Open,
}

/// A request of the generator's own, besides what the device asks.
pub(crate) struct Errand {
    pub request: v1::chat_request::Ask,
    pub purpose: Purpose,
}

/// What an errand is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Purpose {
    Befriend,
    /// Makes this group, or adds to it.
    Group(usize),
    /// Reads the conversation list, for the unread counts.
    Unread,
}

pub(crate) struct Link {
    pub wire: Option<Wire>,
    pub session: Option<Session>,
    pub state: State,
    pub core: Device,
    pub reconnect: Reconnect,
    /// Next look at the connection itself (monotonic us).
    pub due_us: u64,
    /// Next look at anything.
    pub wake_us: u64,
    /// Nothing passes until then (monotonic us).
    pub stalled_us: u64,
    /// What came meanwhile.
    held: Vec<u8>,
    pub errands: std::collections::VecDeque<Errand>,
    /// Correlation id of the first errand, and when it is sent again.
    pub asked: Option<(u32, u64)>,
    pub next_id: u32,
    pub opened: u32,
    next_beat_us: u64,
}

/// Randomness of a run, from its seed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Dice(pub u64);

impl Dice {
    pub fn number(&mut self) -> u64 {
        // splitmix64, Steele, Lea and Flood 2014.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, sides: u64) -> u64 {
        self.number() % sides.max(1)
    }

    pub fn permille(&mut self, share: u32) -> bool {
        share > 0 && self.below(1000) < u64::from(share)
    }
}

/// What a read brought, besides what the device took.
#[derive(Default)]
pub(crate) struct Came {
    pub events: Vec<Event>,
    /// Answers to the first errand.
    pub answers: Vec<Result<v1::ChatAnswer, v1::Error>>,
    pub frames: u64,
}

impl Link {
    pub fn new(core: Device, policy: ReconnectPolicy) -> Self {
        Self {
            wire: None,
            session: None,
            state: State::Down,
            core,
            reconnect: Reconnect::new(policy),
            due_us: 0,
            wake_us: 0,
            stalled_us: 0,
            held: Vec::new(),
            errands: std::collections::VecDeque::new(),
            asked: None,
            next_id: 0,
            opened: 0,
            next_beat_us: 0,
        }
    }

    pub fn is_open(&self) -> bool {
        self.state == State::Open
    }

    /// Begins to connect.
    pub fn dial(&mut self, at: std::net::SocketAddr, poller: &Poller, key: u64, now_us: u64) -> bool {
        let dialed = Wire::dial(at).and_then(|wire| {
            wire.watch(poller, key)?;
            Ok(wire)
        });
        let Ok(wire) = dialed else { return false };
        self.wire = Some(wire);
        self.state = State::Connecting;
        self.due_us = now_us + DIAL_US;
        true
    }

    /// The socket is connected: says who speaks.
    pub fn greet(&mut self, token: String, now_us: u64) {
        let Some(wire) = &mut self.wire else { return };
        let device = self.core.device();
        let credential = Credential::User(token);
        let out = &mut wire.out;
        self.session = Some(Session::begin_device(&credential, device, crate::CLIENT, now_us / 1_000, out));
        self.state = State::Greeting;
    }

    /// Forgets the connection; gives whether it was logged in.
    pub fn fall(&mut self) -> bool {
        let was_open = self.is_open();
        (self.wire, self.session, self.state, self.asked) = (None, None, State::Down, None);
        self.held = Vec::new();
        self.stalled_us = 0;
        self.core.disconnected();
        was_open
    }

    /// Puts on the wire what the device and its errands want to say.
    pub fn speak(&mut self, now_us: u64, harm: &Harm, dice: &mut Dice, events: &mut Vec<Event>) {
        let now_ms = now_us / 1_000;
        let Some(wire) = &mut self.wire else { return };
        if self.state != State::Open {
            return;
        }
        while let Some(out) = self.core.poll(now_ms, events) {
            if !matches!(out, Out::Confirm(_)) && dice.permille(harm.lose) {
                continue;
            }
            out.put(&mut wire.out);
            if dice.permille(harm.repeat) {
                out.put(&mut wire.out);
            }
        }
        if let Some(errand) = self.errands.front()
            && self.asked.is_none_or(|(_, again_us)| now_us >= again_us)
        {
            self.next_id = self.next_id % (client::chat::CHAT_IDS - 1) + 1;
            self.asked = Some((self.next_id, now_us + 5_000_000));
            let request = v1::ChatRequest { ask: Some(errand.request.clone()), ..Default::default() };
            put_message(&mut wire.out, FrameKind::Ask, self.next_id, &request);
        }
        if !wire.out.is_empty()
            && let Some(session) = &mut self.session
        {
            session.sent(now_ms);
        }
    }

    /// Sends what is to be sent, unless the network stands still.
    pub fn flush(&mut self, poller: &Poller, key: u64, now_us: u64) -> std::io::Result<()> {
        if now_us < self.stalled_us {
            return Ok(());
        }
        match &mut self.wire {
            Some(wire) if !wire.out.is_empty() => wire.flush(poller, key),
            _ => Ok(()),
        }
    }

    /// Heartbeats, and patience that is over.
    pub fn beat(&mut self, now_us: u64) -> Result<(), SessionError> {
        if now_us < self.next_beat_us {
            return Ok(());
        }
        let (Some(session), Some(wire)) = (&mut self.session, &mut self.wire) else { return Ok(()) };
        self.next_beat_us = now_us + (session.tick_ms() * 1_000).min(1_000_000);
        session.tick(now_us / 1_000, &mut wire.out)
    }

    /// When to look at this connection again.
    pub fn next_us(&self, now_us: u64) -> u64 {
        let mut at_us = self.due_us;
        if self.is_open() {
            at_us = at_us.min(self.next_beat_us);
            if let Some(ms) = self.core.next_ms(now_us / 1_000) {
                at_us = at_us.min(ms * 1_000);
            }
            if !self.errands.is_empty() {
                at_us = at_us.min(self.asked.map_or(now_us, |(_, again_us)| again_us));
            }
        }
        if now_us < self.stalled_us { at_us.min(self.stalled_us) } else { at_us }
    }

    /// Reads what has come.
    pub fn read(
        &mut self,
        now_us: u64,
        scratch: &mut [u8],
        (harm, dice): (&Harm, &mut Dice),
        came: &mut Came,
    ) -> Result<(), Fault> {
        let Some(wire) = &mut self.wire else { return Ok(()) };
        let Some(filled) = wire.read(scratch)? else { return Ok(()) };
        if now_us < self.stalled_us || !self.held.is_empty() {
            wire.keep(&[]);
            self.held.extend_from_slice(&scratch[..filled]);
            if self.held.len() > 16 << 20 {
                return Err(Fault::Io(std::io::ErrorKind::OutOfMemory.into()));
            }
            return self.thaw(now_us, (harm, dice), came);
        }
        let used = self.take(&scratch[..filled], now_us, (harm, dice), came)?;
        if let Some(wire) = &mut self.wire {
            wire.keep(&scratch[used..filled]);
        }
        Ok(())
    }

    /// Takes what came while the network stood still.
    pub fn thaw(&mut self, now_us: u64, how: (&Harm, &mut Dice), came: &mut Came) -> Result<(), Fault> {
        if now_us < self.stalled_us || self.held.is_empty() {
            return Ok(());
        }
        let held = std::mem::take(&mut self.held);
        let used = self.take(&held, now_us, how, came)?;
        if let Some(wire) = &mut self.wire {
            wire.keep(&held[used..]);
        }
        Ok(())
    }

    fn take(
        &mut self,
        input: &[u8],
        now_us: u64,
        (harm, dice): (&Harm, &mut Dice),
        came: &mut Came,
    ) -> Result<usize, Fault> {
        let mut used = 0;
        while let Some((frame, size)) = next(&input[used..], FRAME_MAX).map_err(SessionError::from)? {
            used += size;
            self.frame(&frame, now_us, (harm, dice), came)?;
        }
        Ok(used)
    }

    fn frame(
        &mut self,
        frame: &Frame<'_>,
        now_us: u64,
        (harm, dice): (&Harm, &mut Dice),
        came: &mut Came,
    ) -> Result<(), Fault> {
        let now_ms = now_us / 1_000;
        came.frames += 1;
        let Some(session) = &mut self.session else { return Ok(()) };
        match session.take(frame, now_ms)? {
            client::Event::Open(login) => {
                if !login.chat {
                    return Err(Fault::NoChat);
                }
                self.state = State::Open;
                self.opened += 1;
                self.reconnect.connected(now_ms);
                self.core.connected(now_ms);
                self.due_us = u64::MAX;
                self.next_beat_us = now_us;
            }
            client::Event::Answer if self.asked.is_some_and(|(id, _)| id == frame.id) => {
                self.asked = None;
                let answer = if frame.kind == FrameKind::Error {
                    Err(v1::Error::decode(frame.body)?)
                } else {
                    Ok(v1::ChatAnswer::decode(frame.body)?)
                };
                came.answers.push(answer);
            }
            client::Event::Push | client::Event::Answer => {
                if dice.permille(harm.lose) {
                    return Ok(());
                }
                self.core.on_frame(now_ms, frame, &mut came.events)?;
                if dice.permille(harm.repeat) {
                    self.core.on_frame(now_ms, frame, &mut came.events)?;
                }
            }
            client::Event::Welcome { .. } | client::Event::Heartbeat | client::Event::Move(_) => {}
        }
        Ok(())
    }
}

/// Why a connection is over.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Fault {
    #[error(transparent)]
    Io(#[from] std::io::Error),
    #[error(transparent)]
    Session(#[from] SessionError),
    #[error("an answer is not its message: {0}")]
    Body(#[from] prost::DecodeError),
    #[error("the platform serves no chat here")]
    NoChat,
}
