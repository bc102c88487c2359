//! The crowd's sockets: connecting, reading, writing, and losing them.

use client::{Credential, Event};
use prost::Message;
use protocol::frame::{FRAME_MAX, Frame, FrameKind, next, put};
use protocol::json;
use protocol::v1;

use super::links::{Asked, Kind, State, Turn};
use super::world::{Wake, World};
use crate::LoadError;
use crate::http1::{next_response, put_request};
use crate::net::{Ready, Wire};

/// Time to connect, and for an HTTP answer, in us.
const PATIENCE_US: u64 = 10_000_000;

/// Between two looks at an open connection, in us.
const LOOK_US: u64 = 1_000_000;

/// Answers that never came are forgotten beyond so many a connection.
const ASKED_MAX: usize = 200_000;

impl World {
    /// Looks after a connection: dials, sends heartbeats, gives up what is dead.
    pub(super) fn tend(&mut self, at: usize) {
        let now_us = self.now_us;
        let link = &mut self.links[at];
        if now_us < link.due_us {
            return;
        }
        match link.state {
            State::Down => match Wire::dial(link.address()).and_then(|wire| {
                wire.watch(&self.poller, at as u64)?;
                Ok(wire)
            }) {
                Ok(wire) => {
                    link.wire = Some(wire);
                    link.state = State::Connecting;
                    self.look_at(at, now_us + PATIENCE_US);
                }
                Err(error) => self.down(at, Some(error.into())),
            },
            State::Connecting => {
                self.down(at, Some(std::io::Error::from(std::io::ErrorKind::TimedOut).into()))
            }
            State::Greeting | State::Open => {
                let late = link.current.is_some_and(|(_, since_us)| now_us - since_us >= PATIENCE_US);
                let (Some(wire), session) = (&mut link.wire, &mut link.session) else { return };
                let dead =
                    session.as_mut().and_then(|session| session.tick(now_us / 1_000, &mut wire.out).err());
                if link.asked.len() > ASKED_MAX {
                    link.asked.clear();
                }
                match dead {
                    Some(error) => self.down(at, Some(error.into())),
                    None if late => {
                        self.down(at, Some(std::io::Error::from(std::io::ErrorKind::TimedOut).into()))
                    }
                    None => {
                        let look_us =
                            session.as_ref().map_or(LOOK_US, |s| (s.tick_ms() * 1_000).min(LOOK_US));
                        self.dirty.push(at);
                        self.look_at(at, now_us + look_us);
                    }
                }
            }
        }
    }

    fn look_at(&mut self, at: usize, due_us: u64) {
        self.links[at].due_us = due_us;
        self.at(due_us, Wake::Link(at as u32));
    }

    /// The connection is over; names the time of the next attempt.
    fn down(&mut self, at: usize, why: Option<Fault>) {
        let random = self.random();
        let (now_us, clock_ms) = (self.now_us, self.now_us / 1_000);
        let link = &mut self.links[at];
        let (was_open, address) = (link.is_open(), link.address());
        drop(link.fall());
        let pause_ms =
            if was_open { link.reconnect.dropped(clock_ms, random) } else { link.reconnect.failed(random) };
        if was_open {
            self.counts.drops += 1;
            self.unplug_players(at);
        } else {
            self.counts.connect_failures += 1;
        }
        if self.first_error.is_none()
            && let Some(why) = why
        {
            self.first_error = Some(why.at(at, address.to_string()));
        }
        self.look_at(at, now_us + pause_ms * 1_000);
    }

    fn opened(&mut self, at: usize) {
        let clock_ms = self.now_us / 1_000;
        let link = &mut self.links[at];
        link.state = State::Open;
        link.reconnect.connected(clock_ms);
        self.counts.reconnects += u64::from(std::mem::replace(&mut link.was_open, true));
        let look_us = link.session.as_ref().map_or(LOOK_US, |s| (s.tick_ms() * 1_000).min(LOOK_US));
        self.look_at(at, self.now_us + look_us);
        self.wake_players(at);
    }

    fn token(&self, user: u64) -> String {
        self.config.key.as_ref().map_or_else(String::new, |key| key.user(user, self.wall_ms()))
    }

    fn credential(&self, at: usize) -> Credential {
        if self.links[at].kind == Kind::Own {
            let player = self.links[at].players.first().copied().unwrap_or(0);
            return Credential::User(self.token(self.players[player as usize].core.user()));
        }
        let made = || self.config.key.as_ref().map(|key| key.gateway("loadgen", self.wall_ms()));
        Credential::Gateway(self.config.gateway_token.clone().or_else(made).unwrap_or_default())
    }

    /// Something happened on a socket.
    pub(super) fn ready(&mut self, ready: Ready) -> Result<(), LoadError> {
        let at = ready.key as usize;
        if self.links[at].state == State::Connecting && (ready.writable || ready.readable) {
            let connected = self.links[at].wire.as_ref().map(Wire::connected);
            if let Some(Err(error)) = connected {
                self.down(at, Some(error.into()));
                return Ok(());
            }
            if self.links[at].kind == Kind::Http {
                self.opened(at);
            } else {
                let credential = self.credential(at);
                let now_us = self.now_us;
                self.links[at].greet(&credential, now_us / 1_000);
                self.look_at(at, now_us + LOOK_US);
            }
        }
        if ready.writable {
            self.dirty.push(at);
        }
        if ready.readable { self.read(at) } else { Ok(()) }
    }

    fn read(&mut self, at: usize) -> Result<(), LoadError> {
        let mut scratch = std::mem::take(&mut self.scratch);
        let filled = match &mut self.links[at].wire {
            Some(wire) => wire.read(&mut scratch),
            None => Ok(None),
        };
        let taken = match filled {
            Ok(Some(filled)) if self.links[at].kind == Kind::Http => {
                self.take_responses(at, &scratch[..filled])
            }
            Ok(Some(filled)) => self.take_frames(at, &scratch[..filled]),
            Ok(None) => Ok(Ok(())),
            Err(error) => Ok(Err(error.into())),
        };
        self.scratch = scratch;
        if let Err(fault) = taken? {
            self.down(at, Some(fault));
        }
        Ok(())
    }

    /// The outer error ends the run, the inner one the connection.
    fn take_frames(&mut self, at: usize, input: &[u8]) -> Result<Result<(), Fault>, LoadError> {
        let mut used = 0;
        loop {
            match next(&input[used..], FRAME_MAX) {
                Ok(Some((frame, size))) => {
                    used += size;
                    if let Err(fault) = self.frame(at, &frame)? {
                        return Ok(Err(fault));
                    }
                }
                Ok(None) => break,
                Err(error) => return Ok(Err(client::SessionError::from(error).into())),
            }
        }
        if let Some(wire) = &mut self.links[at].wire {
            wire.keep(&input[used..]);
        }
        Ok(Ok(()))
    }

    fn frame(&mut self, at: usize, frame: &Frame<'_>) -> Result<Result<(), Fault>, LoadError> {
        let now_ms = self.now_us / 1_000;
        let Some(session) = &mut self.links[at].session else { return Ok(Ok(())) };
        match session.take(frame, now_ms) {
            Err(error) => return Ok(Err(error.into())),
            Ok(Event::Welcome { server_time_ms, trip_ms }) => {
                let heard_ms = self.wall_ms();
                self.time.sample(heard_ms.saturating_sub(trip_ms), heard_ms, server_time_ms);
            }
            Ok(Event::Open(login)) => {
                self.campaigns(&login.campaigns, at);
                self.opened(at);
            }
            // A node that drains says goodbye in the end, and the next address is tried then.
            Ok(Event::Heartbeat | Event::Push | Event::Move(_)) => {}
            Ok(Event::Answer) => {
                if let Some(asked) = self.links[at].asked.remove(&frame.id) {
                    return self.answer(at, asked, frame);
                }
                if frame.kind == FrameKind::SubmitAnswer {
                    return match decode(frame) {
                        Ok(answer) => self.unasked(at, &answer).map(Ok),
                        Err(fault) => Ok(Err(fault)),
                    };
                }
            }
        }
        Ok(Ok(()))
    }

    fn answer(&mut self, at: usize, asked: Asked, frame: &Frame<'_>) -> Result<Result<(), Fault>, LoadError> {
        let done = match (asked, frame.kind) {
            (_, FrameKind::Error) => decode(frame).map(|error: v1::Error| self.failed(asked, &error)),
            (Asked::Submit { player, attempt }, FrameKind::SubmitAnswer) => match decode(frame) {
                Ok(answer) => {
                    self.answered(player, attempt, &answer)?;
                    Ok(())
                }
                Err(fault) => Err(fault),
            },
            (Asked::Errand(place), FrameKind::ClaimAnswer) => {
                decode(frame).map(|answer: v1::ClaimAnswer| self.claim_answered(place, &answer))
            }
            (Asked::Errand(place), FrameKind::PrizesAnswer) => {
                decode(frame).map(|answer: v1::PrizesAnswer| self.prizes_answered(place, &answer))
            }
            (Asked::Errand(place), FrameKind::AccountAnswer) => {
                self.account_answered(place);
                Ok(())
            }
            (Asked::Campaigns, FrameKind::CampaignsAnswer) => {
                decode(frame).map(|answer: v1::CampaignsAnswer| self.campaigns(&answer.campaigns, at))
            }
            (_, kind) => Err(client::SessionError::OutOfTurn(kind).into()),
        };
        Ok(done)
    }

    /// An answer that came a second time: what it tells counts all the same.
    fn unasked(&mut self, at: usize, answer: &v1::SubmitAnswer) -> Result<(), LoadError> {
        self.counts.stale += 1;
        let own = self.links[at].players.first().filter(|_| self.links[at].kind == Kind::Own);
        let user = own.map_or(answer.user, |player| self.players[*player as usize].core.user());
        if let Some(award) = &answer.award {
            self.told.hear(user, award)?;
        }
        Ok(())
    }

    /// Asks for the campaigns.
    pub(super) fn send_campaigns(&mut self, at: usize) {
        if self.links[at].kind == Kind::Http {
            self.links[at].turns.push_back(Turn::Campaigns);
            return self.next_turn(at);
        }
        let id = self.links[at].ask(Asked::Campaigns);
        if let Some(wire) = &mut self.links[at].wire {
            put(&mut wire.out, FrameKind::Campaigns, id, |_| ());
        }
        self.dirty.push(at);
    }

    /// HTTP: sends the next request if none is under way.
    pub(super) fn next_turn(&mut self, at: usize) {
        while self.links[at].is_open() && self.links[at].current.is_none() {
            let Some(turn) = self.links[at].turns.pop_front() else { return };
            let mut out = Vec::new();
            let asked = match turn {
                Turn::Campaigns => {
                    let player = self.links[at].players.first().copied().unwrap_or(0);
                    let token = self.token(self.players[player as usize].core.user());
                    put_request(&mut out, "/v1/campaigns", &token, JSON, b"");
                    Asked::Campaigns
                }
                Turn::Errand(place) => {
                    let Some(player) = self.errand_player(place) else { continue };
                    let token = self.token(self.players[player as usize].core.user());
                    if !self.put_errand(place, &token, &mut out) {
                        continue;
                    }
                    Asked::Errand(place)
                }
                Turn::Submit { player, attempt, submit } => {
                    let token = self.token(submit.user);
                    let mut body = Vec::new();
                    let media_type = if is_json(submit.user) {
                        json::write(&submit, &mut body);
                        JSON
                    } else {
                        body = submit.encode_to_vec();
                        PROTOBUF
                    };
                    put_request(&mut out, "/v1/submit", &token, media_type, &body);
                    Asked::Submit { player, attempt }
                }
            };
            let now_us = self.now_us;
            let link = &mut self.links[at];
            link.current = Some((asked, now_us));
            if let Some(wire) = &mut link.wire {
                wire.out.extend_from_slice(&out);
            }
            self.dirty.push(at);
        }
    }

    fn take_responses(&mut self, at: usize, input: &[u8]) -> Result<Result<(), Fault>, LoadError> {
        let mut used = 0;
        loop {
            match next_response(&input[used..]) {
                Ok(Some(answer)) => {
                    used += answer.used;
                    let Some((asked, since_us)) = self.links[at].current.take() else {
                        return Ok(Err(Fault::Http("an answer that nobody asked for".to_owned())));
                    };
                    if let Err(what) = self.http_answer(at, asked, since_us, answer.status, answer.body)? {
                        return Ok(Err(Fault::Http(what)));
                    }
                    self.next_turn(at);
                }
                Ok(None) => break,
                Err(what) => return Ok(Err(Fault::Http(what))),
            }
        }
        if let Some(wire) = &mut self.links[at].wire {
            wire.keep(&input[used..]);
        }
        Ok(Ok(()))
    }

    fn http_answer(
        &mut self,
        at: usize,
        asked: Asked,
        since_us: u64,
        status: u16,
        body: &[u8],
    ) -> Result<Result<(), String>, LoadError> {
        let as_json = match asked {
            Asked::Submit { player, .. } => is_json(self.players[player as usize].core.user()),
            _ => true,
        };
        if status != 200 {
            let error = if as_json { json::read(body).ok() } else { v1::Error::decode(body).ok() };
            // An error in another form is a proxy's; the same again may help.
            let error = error.unwrap_or(v1::Error { retry_after_ms: 1_000, ..v1::Error::default() });
            self.failed(asked, &error);
            return Ok(Ok(()));
        }
        let wrong = |what: String| Ok(Err(format!("a body that is not its message: {what}")));
        match asked {
            Asked::Submit { player, attempt } => {
                let read = if as_json {
                    json::read(body).map_err(|e| e.to_string())
                } else {
                    v1::SubmitAnswer::decode(body).map_err(|e| e.to_string())
                };
                match read {
                    Ok(answer) => self.answered(player, attempt, &answer)?,
                    Err(what) => return wrong(what),
                }
            }
            Asked::Campaigns => match json::read::<v1::CampaignsAnswer>(body) {
                Ok(answer) => {
                    let heard_ms = self.wall_ms();
                    let trip_ms = (self.now_us - since_us) / 1_000;
                    self.time.sample(heard_ms.saturating_sub(trip_ms), heard_ms, answer.server_time_ms);
                    self.campaigns(&answer.campaigns, at);
                }
                Err(what) => return wrong(what.to_string()),
            },
            Asked::Errand(place) => {
                if let Ok(answer) = json::read::<v1::ClaimAnswer>(body)
                    && answer.award.is_some()
                {
                    self.claim_answered(place, &answer);
                } else if let Ok(answer) = json::read::<v1::AccountAnswer>(body)
                    && answer.version > 0
                {
                    self.account_answered(place);
                } else {
                    match json::read::<v1::PrizesAnswer>(body) {
                        Ok(answer) => self.prizes_answered(place, &answer),
                        Err(what) => return wrong(what.to_string()),
                    }
                }
            }
        }
        Ok(Ok(()))
    }

    /// Sends what waits on every connection that has something to send.
    pub(super) fn flush(&mut self) {
        let mut dirty = std::mem::take(&mut self.dirty);
        dirty.sort_unstable();
        dirty.dedup();
        let clock_ms = self.now_us / 1_000;
        for at in dirty.drain(..) {
            let link = &mut self.links[at];
            if link.state == State::Connecting {
                continue;
            }
            let Some(wire) = &mut link.wire else { continue };
            if let Some(session) = link.session.as_mut().filter(|_| !wire.out.is_empty()) {
                session.sent(clock_ms);
            }
            if let Err(error) = wire.flush(&self.poller, at as u64) {
                self.down(at, Some(error.into()));
            }
        }
        if self.dirty.is_empty() {
            self.dirty = dirty;
        }
    }
}

const JSON: &str = "application/json";
const PROTOBUF: &str = "application/x-protobuf";

/// Every other player speaks JSON.
fn is_json(user: u64) -> bool {
    user.is_multiple_of(2)
}

fn decode<M: Message + Default>(frame: &Frame<'_>) -> Result<M, Fault> {
    M::decode(frame.body).map_err(|error| client::SessionError::Body(frame.kind, error.to_string()).into())
}

/// Why a connection is over.
pub(super) enum Fault {
    Io(std::io::Error),
    Session(client::SessionError),
    Http(String),
}

impl From<std::io::Error> for Fault {
    fn from(error: std::io::Error) -> Self {
        Fault::Io(error)
    }
}

impl From<client::SessionError> for Fault {
    fn from(error: client::SessionError) -> Self {
        Fault::Session(error)
    }
}

impl Fault {
    fn at(self, connection: usize, address: String) -> LoadError {
        match self {
            Fault::Io(error) => {
                LoadError::Connect { address, tried: "again and again, with pauses".to_owned(), error }
            }
            Fault::Session(error) => LoadError::Session { connection, address, error },
            Fault::Http(what) => LoadError::Server(format!("connection {connection} to {address}: {what}")),
        }
    }
}
