//! The cores on tokio: one connection with requests and answers.

use std::sync::Arc;
use std::time::Duration;

use prost::Message;
use protocol::frame::{FRAME_MAX, FrameKind, next, put_message};
use protocol::v1;
use runtime::SharedClock;
use tokio_rustls::rustls::ClientConfig;

use crate::pulse::{Heartbeats, Pulse};
use crate::transport::Transport;
use crate::{Credential, Event, ServerTime, Session, SessionError};

/// How to connect.
#[derive(Clone)]
pub struct Options {
    /// `host:port`, `tls://host:port`, `ws://host:port/path` or `wss://host:port/path`.
    pub address: String,
    /// Whom to trust; addresses with TLS need it.
    pub tls: Option<Arc<ClientConfig>>,
    /// Who speaks.
    pub credential: Credential,
    /// The app's own number of this installation; 0: no chat on this connection.
    pub device: u64,
    /// Name and version of the program.
    pub client: String,
    /// Time to connect, and for an answer, in ms.
    pub answer_ms: u64,
    /// What is known of this device's networks: heartbeats go out as rarely as they bear, and what happens on this
    /// connection is learned from. `None`: as often as the server asks.
    pub heartbeats: Option<Heartbeats>,
    /// The process's clock.
    pub clock: SharedClock,
}

/// Why a request has no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No connection.
    #[error("cannot connect to {address}: {error}")]
    Connect {
        /// Where.
        address: String,
        /// What the system says.
        error: std::io::Error,
    },
    /// The connection broke.
    #[error("the connection broke: {0}")]
    Broken(#[from] std::io::Error),
    /// The conversation is over.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// The request failed; the connection goes on.
    #[error("{} ({})", .0.message, .0.code)]
    Refused(v1::Error),
    /// No answer in time. The request may have been done; the same again is safe.
    #[error("no answer within {0} ms")]
    Late(u64),
    /// An answer that is not its message.
    #[error("the answer is not the message it should be: {0}")]
    Body(#[from] prost::DecodeError),
    /// The end was asked for.
    #[error("shutting down")]
    Ended,
}

/// A connection that is logged in; one request at a time.
pub struct Connection {
    stream: Transport,
    session: Session,
    pulse: Pulse,
    input: Vec<u8>,
    pub(crate) options: Options,
    time: ServerTime,
    login: v1::LoginDone,
    next_id: u32,
    moved: Option<v1::Move>,
}

impl Connection {
    /// Connects and logs in.
    ///
    /// # Errors
    /// When either fails or takes too long.
    pub async fn open(options: Options) -> Result<Self, ClientError> {
        let within = Duration::from_millis(options.answer_ms);
        let connect = |error| ClientError::Connect { address: options.address.clone(), error };
        let stream = tokio::time::timeout(within, Transport::open(&options.address, options.tls.as_ref()))
            .await
            .map_err(|_| connect(std::io::ErrorKind::TimedOut.into()))?
            .map_err(connect)?;
        let mut out = Vec::new();
        let session = Session::begin_device(
            &options.credential,
            options.device,
            &options.client,
            mono_ms(&options),
            &mut out,
        );
        let mut connection = Self {
            stream,
            session,
            pulse: Pulse::new(options.heartbeats.clone(), options.answer_ms),
            input: Vec::new(),
            options,
            time: ServerTime::default(),
            login: v1::LoginDone::default(),
            next_id: 0,
            moved: None,
        };
        connection.stream.write(&out).await?;
        tokio::time::timeout(within, connection.log_in()).await.map_err(|_| SessionError::LoginLate)??;
        Ok(connection)
    }

    async fn log_in(&mut self) -> Result<(), ClientError> {
        while !self.session.is_open() {
            self.frame(None).await?;
        }
        Ok(())
    }

    /// What the login answered.
    pub fn login(&self) -> &v1::LoginDone {
        &self.login
    }

    /// Where the server asked to connect instead, if it did.
    pub fn moved(&self) -> Option<&v1::Move> {
        self.moved.as_ref()
    }

    /// The server's clock.
    pub fn server_time(&self) -> ServerTime {
        self.time
    }

    /// Asks for a draw.
    ///
    /// # Errors
    /// When there is no answer; the same counter may be asked again.
    pub async fn submit(&mut self, submit: &v1::Submit) -> Result<v1::SubmitAnswer, ClientError> {
        self.request(FrameKind::Submit, submit).await
    }

    /// What has the player won?
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn prizes(&mut self, request: &v1::PrizesRequest) -> Result<v1::PrizesAnswer, ClientError> {
        self.request(FrameKind::Prizes, request).await
    }

    /// Asks the chat service for anything but storing a message.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn ask(&mut self, request: &v1::ChatRequest) -> Result<v1::ChatAnswer, ClientError> {
        self.request(FrameKind::Ask, request).await
    }

    /// Claims an award; again is harmless.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn claim(&mut self, claim: &v1::Claim) -> Result<v1::ClaimAnswer, ClientError> {
        self.request(FrameKind::Claim, claim).await
    }

    /// Says what the player is at a vendor.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn set_account(&mut self, account: &v1::Account) -> Result<v1::AccountAnswer, ClientError> {
        self.request(FrameKind::Account, account).await
    }

    /// Running and coming rounds.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn campaigns(&mut self) -> Result<v1::CampaignsAnswer, ClientError> {
        self.request(FrameKind::Campaigns, &()).await
    }

    /// Keeps the connection alive for a while: sends heartbeats and hears farewells.
    ///
    /// # Errors
    /// When the connection is over.
    pub async fn idle(&mut self, for_ms: u64) -> Result<(), ClientError> {
        let kept = self.keep(for_ms).await;
        self.noted(kept)
    }

    /// A connection that is over may tell something about the network.
    fn noted<T>(&mut self, done: Result<T, ClientError>) -> Result<T, ClientError> {
        if let Err(ClientError::Broken(_) | ClientError::Session(SessionError::Silent(_))) = &done {
            self.pulse.broken();
        }
        done
    }

    async fn keep(&mut self, for_ms: u64) -> Result<(), ClientError> {
        let end_ms = mono_ms(&self.options) + for_ms;
        loop {
            let mut out = Vec::new();
            let now_ms = mono_ms(&self.options);
            self.pulse.tick(&mut self.session, now_ms, &mut out)?;
            self.stream.write(&out).await?;
            if now_ms >= end_ms {
                return Ok(());
            }
            let wait_ms = self.session.wait_ms(now_ms).min(end_ms - now_ms);
            // Reading into the buffer may be broken off at any point without losing bytes.
            if let Ok(heard) = tokio::time::timeout(Duration::from_millis(wait_ms), self.frame(None)).await {
                heard?;
            }
        }
    }

    async fn request<A: Message + Default>(
        &mut self,
        kind: FrameKind,
        message: &impl Message,
    ) -> Result<A, ClientError> {
        let answered = self.answer_to(kind, message).await;
        self.noted(answered)
    }

    async fn answer_to<A: Message + Default>(
        &mut self,
        kind: FrameKind,
        message: &impl Message,
    ) -> Result<A, ClientError> {
        self.next_id = self.next_id.wrapping_add(1).max(1);
        let (id, mut out) = (self.next_id, Vec::new());
        put_message(&mut out, kind, id, message);
        self.stream.write(&out).await?;
        self.session.sent(mono_ms(&self.options));
        let within = self.options.answer_ms;
        let answer = async {
            loop {
                // An answer that came too late for its request is passed over.
                if let Some((kind, body)) = self.frame(Some(id)).await? {
                    if kind == FrameKind::Error {
                        return Err(ClientError::Refused(v1::Error::decode(&body[..])?));
                    }
                    return Ok(A::decode(&body[..])?);
                }
            }
        };
        tokio::time::timeout(Duration::from_millis(within), answer)
            .await
            .map_err(|_| ClientError::Late(within))?
    }

    /// Takes one frame; gives it when it answers `id`.
    async fn frame(&mut self, id: Option<u32>) -> Result<Option<(FrameKind, Vec<u8>)>, ClientError> {
        loop {
            if let Some((frame, used)) = next(&self.input, FRAME_MAX).map_err(SessionError::from)? {
                let now_ms = mono_ms(&self.options);
                let mut found = None;
                match self.session.take(&frame, now_ms)? {
                    Event::Welcome { server_time_ms, trip_ms } => {
                        let heard_ms = self.options.clock.now_ms();
                        self.time.sample(heard_ms.saturating_sub(trip_ms), heard_ms, server_time_ms);
                        self.pulse.welcomed(&mut self.session);
                    }
                    Event::Open(login) => self.login = login,
                    Event::Heartbeat => self.pulse.answered(&mut self.session),
                    Event::Answer if Some(frame.id) == id => found = Some((frame.kind, frame.body.to_vec())),
                    // Who chats takes frames by himself; here a push belongs to nobody.
                    Event::Answer | Event::Push => {}
                    Event::Move(away) => self.moved = Some(away),
                }
                self.input.drain(..used);
                return Ok(found);
            }
            self.stream.read(&mut self.input).await?;
        }
    }
}

pub(crate) fn mono_ms(options: &Options) -> u64 {
    options.clock.mono_ns() / 1_000_000
}
