//! A frame connection's conversation from the client's side, without the socket.
//!
//! Hello and Login go out together; the server answers both. Then heartbeats go out when nothing else did, and a server
//! that is silent for three of them is taken for dead. Frames that answer requests are passed through.

use prost::Message;
use protocol::PROTOCOL_VERSION;
use protocol::frame::{Frame, FrameError, FrameKind, put, put_message};
use protocol::v1;

/// Time for Hello and Login to be answered, in ms.
const LOGIN_MS: u64 = 10_000;

/// Heartbeat when the server names none, in ms.
const HEARTBEAT_MS: u64 = 30_000;

/// Who speaks.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Credential {
    /// A player's token.
    User(String),
    /// The credential of a gateway that carries many players.
    Gateway(String),
}

/// What a frame was.
#[derive(Clone, PartialEq, Debug)]
pub enum Event {
    /// The server's greeting; its clock, and when it was asked and heard (monotonic ms).
    Welcome {
        /// The server's clock, ms UTC.
        server_time_ms: u64,
        /// How long it took.
        trip_ms: u64,
    },
    /// Logged in: requests may go out.
    Open(v1::LoginDone),
    /// A heartbeat came back.
    Heartbeat,
    /// The frame answers a request, or says with an Error that it failed.
    Answer,
    /// Unasked, and a device's to take: something new in its chat.
    Push,
    /// The server asks to connect elsewhere.
    Move(v1::Move),
}

/// Why the conversation is over.
#[derive(Clone, PartialEq, Debug, thiserror::Error)]
pub enum SessionError {
    /// The server said that it is, and why.
    #[error("the server ended the connection: {} ({})", .0.message, .0.code)]
    Farewell(v1::Error),
    /// A frame that can't come at this point.
    #[error("{0:?} came, which can't at this point")]
    OutOfTurn(FrameKind),
    /// A body that is not its message.
    #[error("the body of {0:?} is not the message it should be: {1}")]
    Body(FrameKind, String),
    /// Bytes that are no frame.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// Another version.
    #[error("the server speaks protocol version {0}, this client {PROTOCOL_VERSION}")]
    Version(u32),
    /// No answer to Hello and Login.
    #[error("Hello and Login were not answered within {LOGIN_MS} ms")]
    LoginLate,
    /// No frame for three heartbeats.
    #[error("nothing was heard for {0} ms")]
    Silent(u64),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    Greeting,
    Login,
    Open,
}

/// See the module. Times are monotonic ms.
#[derive(Clone, Debug)]
pub struct Session {
    phase: Phase,
    began_ms: u64,
    sent_ms: u64,
    heard_ms: u64,
    heartbeat_ms: u64,
    /// When the heartbeat went out since which nothing was heard; of no meaning once something was.
    beat_ms: u64,
    /// How long its answer may take; 0: only silence over three heartbeats counts.
    beat_answer_ms: u64,
}

impl Session {
    /// Begins: appends Hello and Login to `out`. `client` is name and version of the program.
    pub fn begin(credential: &Credential, client: &str, now_ms: u64, out: &mut Vec<u8>) -> Self {
        Self::begin_device(credential, 0, client, now_ms, out)
    }

    /// The same for an installation that chats; `device` is its own number.
    pub fn begin_device(
        credential: &Credential,
        device: u64,
        client: &str,
        now_ms: u64,
        out: &mut Vec<u8>,
    ) -> Self {
        let hello = v1::Hello { protocol_version: PROTOCOL_VERSION, frame_max: 0, client: client.to_owned() };
        put_message(out, FrameKind::Hello, 0, &hello);
        let login = match credential {
            Credential::User(token) => {
                v1::Login { user_token: token.clone(), device, ..v1::Login::default() }
            }
            Credential::Gateway(token) => {
                v1::Login { gateway_token: token.clone(), device, ..v1::Login::default() }
            }
        };
        put_message(out, FrameKind::Login, 0, &login);
        Self {
            phase: Phase::Greeting,
            began_ms: now_ms,
            sent_ms: now_ms,
            heard_ms: now_ms,
            heartbeat_ms: HEARTBEAT_MS,
            beat_ms: 0,
            beat_answer_ms: 0,
        }
    }

    /// Whether requests may go out.
    #[inline]
    pub fn is_open(&self) -> bool {
        self.phase == Phase::Open
    }

    /// Something was read.
    #[inline]
    pub fn heard(&mut self, now_ms: u64) {
        self.heard_ms = now_ms;
    }

    /// Heartbeats go out so often from now on, such as an adaptive interval that is no longer than what the server
    /// asked for.
    pub fn set_heartbeat_ms(&mut self, heartbeat_ms: u64) {
        self.heartbeat_ms = heartbeat_ms.max(1);
    }

    /// How often heartbeats go out: at first, what the server asked for.
    pub fn heartbeat_ms(&self) -> u64 {
        self.heartbeat_ms
    }

    /// A heartbeat that nothing has answered for so long shows that the server is gone: with long intervals, three of
    /// them would be too long to wait. 0: nothing but those three does.
    pub fn answer_beats_within(&mut self, answer_ms: u64) {
        self.beat_answer_ms = answer_ms;
    }

    /// How long nothing has been sent or heard.
    pub fn silent_ms(&self, now_ms: u64) -> u64 {
        now_ms.saturating_sub(self.sent_ms.max(self.heard_ms))
    }

    /// A request was sent, which is as good as a heartbeat.
    #[inline]
    pub fn sent(&mut self, now_ms: u64) {
        self.sent_ms = now_ms;
    }

    /// Takes a frame.
    ///
    /// # Errors
    /// When the conversation is over.
    pub fn take(&mut self, frame: &Frame<'_>, now_ms: u64) -> Result<Event, SessionError> {
        self.heard_ms = now_ms;
        match (self.phase, frame.kind) {
            (_, FrameKind::Error) => {
                let error: v1::Error = read(frame)?;
                if error.fatal || !self.is_open() {
                    Err(SessionError::Farewell(error))
                } else {
                    Ok(Event::Answer)
                }
            }
            (Phase::Greeting, FrameKind::Welcome) => {
                let welcome: v1::Welcome = read(frame)?;
                if welcome.protocol_version != PROTOCOL_VERSION {
                    return Err(SessionError::Version(welcome.protocol_version));
                }
                if welcome.heartbeat_ms != 0 {
                    self.heartbeat_ms = welcome.heartbeat_ms.into();
                }
                self.phase = Phase::Login;
                let trip_ms = now_ms.saturating_sub(self.began_ms);
                Ok(Event::Welcome { server_time_ms: welcome.server_time_ms, trip_ms })
            }
            (Phase::Login, FrameKind::LoginDone) => {
                self.phase = Phase::Open;
                Ok(Event::Open(read(frame)?))
            }
            (Phase::Open, FrameKind::Heartbeat) => Ok(Event::Heartbeat),
            (
                Phase::Open,
                FrameKind::SubmitAnswer
                | FrameKind::PrizesAnswer
                | FrameKind::ClaimAnswer
                | FrameKind::AccountAnswer
                | FrameKind::CampaignsAnswer
                | FrameKind::SendAnswer
                | FrameKind::AskAnswer,
            ) => Ok(Event::Answer),
            (Phase::Open, FrameKind::Push) => Ok(Event::Push),
            (Phase::Open, FrameKind::Move) => Ok(Event::Move(read(frame)?)),
            (_, kind) => Err(SessionError::OutOfTurn(kind)),
        }
    }

    /// Appends a heartbeat if one is due.
    ///
    /// # Errors
    /// When the server must be taken for dead.
    pub fn tick(&mut self, now_ms: u64, out: &mut Vec<u8>) -> Result<(), SessionError> {
        if !self.is_open() {
            let late = now_ms.saturating_sub(self.began_ms) >= LOGIN_MS;
            return if late { Err(SessionError::LoginLate) } else { Ok(()) };
        }
        let silent_ms = now_ms.saturating_sub(self.heard_ms);
        let unanswered = self.beat_answer_ms > 0
            && self.beat_ms > self.heard_ms
            && now_ms.saturating_sub(self.beat_ms) >= self.beat_answer_ms;
        if unanswered || silent_ms >= 3 * self.heartbeat_ms {
            return Err(SessionError::Silent(silent_ms));
        }
        if now_ms.saturating_sub(self.sent_ms.min(self.heard_ms)) >= self.heartbeat_ms
            && now_ms.saturating_sub(self.sent_ms) >= self.heartbeat_ms / 2
        {
            put(out, FrameKind::Heartbeat, 0, |_| ());
            self.sent_ms = now_ms;
            // The first of several that nothing answers is the one that counts.
            if self.beat_ms <= self.heard_ms {
                self.beat_ms = now_ms;
            }
        }
        Ok(())
    }

    /// How long until [`Session::tick`] has something to do, if nothing is sent or heard before; at least 1 ms.
    pub fn wait_ms(&self, now_ms: u64) -> u64 {
        if !self.is_open() {
            return (self.began_ms + LOGIN_MS).saturating_sub(now_ms).max(1);
        }
        let beat_ms = (self.sent_ms.min(self.heard_ms) + self.heartbeat_ms)
            .max(self.sent_ms + self.heartbeat_ms / 2)
            .min(self.heard_ms + 3 * self.heartbeat_ms);
        let answer_ms = match self.beat_answer_ms {
            within_ms @ 1.. if self.beat_ms > self.heard_ms => self.beat_ms + within_ms,
            _ => u64::MAX,
        };
        beat_ms.min(answer_ms).saturating_sub(now_ms).max(1)
    }

    /// How long until [`Session::tick`] has something to do, at most.
    pub fn tick_ms(&self) -> u64 {
        if self.is_open() { (self.heartbeat_ms / 2).max(1) } else { LOGIN_MS }
    }
}

fn read<M: Message + Default>(frame: &Frame<'_>) -> Result<M, SessionError> {
    M::decode(frame.body).map_err(|error| SessionError::Body(frame.kind, error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::frame::{FRAME_MAX, next};

    fn deliver(
        session: &mut Session,
        now_ms: u64,
        kind: FrameKind,
        message: &impl Message,
    ) -> Result<Event, SessionError> {
        let mut bytes = Vec::new();
        put_message(&mut bytes, kind, 0, message);
        let (frame, _) = next(&bytes, FRAME_MAX).unwrap().unwrap();
        session.take(&frame, now_ms)
    }

    fn open() -> Session {
        let mut out = Vec::new();
        let mut s = Session::begin(&Credential::User("t".into()), "test 1", 1_000, &mut out);
        let (hello, used) = next(&out, FRAME_MAX).unwrap().unwrap();
        assert_eq!(hello.kind, FrameKind::Hello);
        let (login, _) = next(&out[used..], FRAME_MAX).unwrap().unwrap();
        assert_eq!(v1::Login::decode(login.body).unwrap().user_token, "t");
        let welcome =
            v1::Welcome { protocol_version: 1, heartbeat_ms: 100, server_time_ms: 77, frame_max: 0 };
        let event = deliver(&mut s, 1_010, FrameKind::Welcome, &welcome).unwrap();
        assert_eq!(event, Event::Welcome { server_time_ms: 77, trip_ms: 10 });
        assert!(matches!(
            deliver(&mut s, 1_020, FrameKind::LoginDone, &v1::LoginDone::default()),
            Ok(Event::Open(_))
        ));
        s
    }

    #[test]
    fn heartbeats_when_nothing_else_is_sent_and_gives_up_on_silence() {
        let mut s = open();
        let mut out = Vec::new();
        s.sent(1_050);
        s.heard(1_060);
        s.tick(1_149, &mut out).unwrap();
        assert!(out.is_empty());
        s.tick(1_150, &mut out).unwrap();
        assert_eq!(out.len(), 9);
        assert!(matches!(s.tick(1_360, &mut out), Err(SessionError::Silent(300))));
    }

    #[test]
    fn an_unanswered_beat_ends_it_in_time_and_waits_are_exact() {
        let mut s = open();
        s.set_heartbeat_ms(10_000);
        s.answer_beats_within(700);
        let mut out = Vec::new();
        // The login was sent at 1,000 and answered at 1,020.
        assert_eq!(s.wait_ms(2_000), 9_000);
        s.tick(10_999, &mut out).unwrap();
        assert!(out.is_empty());
        assert_eq!(s.silent_ms(11_000), 9_980);
        s.tick(11_000, &mut out).unwrap();
        assert_eq!((out.len(), s.wait_ms(11_000)), (9, 700));
        let mut answered = s.clone();
        answered.heard(11_300);
        assert_eq!(answered.wait_ms(11_300), 9_700);
        assert!(answered.tick(11_800, &mut out).is_ok());
        assert!(s.tick(11_699, &mut out).is_ok());
        assert!(matches!(s.tick(11_700, &mut out), Err(SessionError::Silent(10_680))));
        // Further beats meanwhile don't put it off.
        let mut quick = open();
        quick.set_heartbeat_ms(400);
        quick.answer_beats_within(700);
        let died = (1_020..3_000).find(|now_ms| quick.tick(*now_ms, &mut out).is_err());
        assert_eq!(died, Some(1_400 + 700));
    }

    #[test]
    fn passes_on_pushes_and_moves() {
        let mut s = open();
        assert_eq!(deliver(&mut s, 0, FrameKind::Push, &v1::Push::default()), Ok(Event::Push));
        assert_eq!(deliver(&mut s, 0, FrameKind::SendAnswer, &v1::SendAnswer::default()), Ok(Event::Answer));
        let away = v1::Move { tcp: "b:1".into(), within_ms: 500, ..v1::Move::default() };
        assert_eq!(deliver(&mut s, 0, FrameKind::Move, &away), Ok(Event::Move(away)));
        s.set_heartbeat_ms(250);
        assert_eq!((s.heartbeat_ms(), s.tick_ms()), (250, 125));
    }

    #[test]
    fn ends_on_what_makes_no_sense() {
        let mut s = open();
        assert!(matches!(
            deliver(&mut s, 0, FrameKind::Welcome, &v1::Welcome::default()),
            Err(SessionError::OutOfTurn(_))
        ));
        let error = v1::Error { code: "busy".into(), ..v1::Error::default() };
        assert_eq!(deliver(&mut s, 0, FrameKind::Error, &error), Ok(Event::Answer));
        let fatal = v1::Error { fatal: true, ..error };
        assert_eq!(deliver(&mut s, 0, FrameKind::Error, &fatal), Err(SessionError::Farewell(fatal.clone())));
        let mut early = Session::begin(&Credential::Gateway("g".into()), "test 1", 0, &mut Vec::new());
        assert_eq!(early.tick(10_000, &mut Vec::new()), Err(SessionError::LoginLate));
        let other = v1::Welcome { protocol_version: 2, ..v1::Welcome::default() };
        assert_eq!(deliver(&mut early, 0, FrameKind::Welcome, &other), Err(SessionError::Version(2)));
    }
}
