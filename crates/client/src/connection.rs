//! The cores on tokio: one connection with requests and answers, and a dialer that pauses between attempts.

use std::sync::Arc;
use std::time::Duration;

use prost::Message;
use protocol::frame::{FRAME_MAX, FrameKind, next, put_message};
use protocol::v1;
use runtime::{SharedClock, Shutdown};
use tokio_rustls::rustls::ClientConfig;

use crate::transport::Transport;
use crate::{Credential, Event, Reconnect, ReconnectPolicy, Relocation, ServerTime, Session, SessionError};

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
    input: Vec<u8>,
    options: Options,
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
        let end_ms = mono_ms(&self.options) + for_ms;
        loop {
            let mut out = Vec::new();
            let now_ms = mono_ms(&self.options);
            self.session.tick(now_ms, &mut out)?;
            self.stream.write(&out).await?;
            if now_ms >= end_ms {
                return Ok(());
            }
            let wait_ms = self.session.tick_ms().min(end_ms - now_ms);
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
                    }
                    Event::Open(login) => self.login = login,
                    Event::Heartbeat => {}
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

fn mono_ms(options: &Options) -> u64 {
    options.clock.mono_ns() / 1_000_000
}

/// Connects again and again, with the pauses of a [`ReconnectPolicy`].
pub struct Dialer {
    options: Options,
    /// The app's own address, while another was named.
    home: Option<String>,
    reconnect: Reconnect,
    pause_ms: u64,
    random: Box<dyn FnMut() -> u64 + Send>,
}

impl Dialer {
    /// Before the first connection. `random` gives uniform numbers, for the spread.
    pub fn new(
        options: Options,
        policy: ReconnectPolicy,
        random: impl FnMut() -> u64 + Send + 'static,
    ) -> Self {
        Self { options, home: None, reconnect: Reconnect::new(policy), pause_ms: 0, random: Box::new(random) }
    }

    /// Says that the connection of the last [`Dialer::dial`] is over.
    pub fn dropped(&mut self) {
        self.pause_ms = self.reconnect.dropped(mono_ms(&self.options), (self.random)());
    }

    /// Follows a server's wish: stays with `old` until the instant that this client has drawn, connects to the node that
    /// was named, and gives the new connection; `old` is the caller's to drop then. When that fails `old` goes on as long as it lives.
    ///
    /// # Errors
    /// When `old` breaks meanwhile, the new connection can't be made, or no place was named; [`ClientError::Ended`] on shutdown.
    pub async fn follow(
        &mut self,
        away: &v1::Move,
        old: &mut Connection,
        shutdown: &Shutdown,
    ) -> Result<Connection, ClientError> {
        let now_ms = mono_ms(&self.options);
        let random = (self.random)();
        let nowhere = std::io::Error::new(std::io::ErrorKind::AddrNotAvailable, "no place was named");
        let to = Relocation::of(away, &self.options.address, now_ms, random).ok_or(nowhere)?;
        tokio::select! {
            () = shutdown.wait() => return Err(ClientError::Ended),
            kept = old.idle(to.at_ms - now_ms) => kept?,
        }
        let options = Options { address: to.address, ..self.options.clone() };
        let connection = Connection::open(options).await?;
        self.home.get_or_insert_with(|| self.options.address.clone());
        self.options.address.clone_from(&connection.options.address);
        self.reconnect.connected(mono_ms(&self.options));
        Ok(connection)
    }

    /// Pauses as long as it must, then connects, until it has a connection.
    ///
    /// # Errors
    /// [`ClientError::Ended`] on shutdown; a refused login, which trying again can't mend.
    pub async fn dial(&mut self, shutdown: &Shutdown) -> Result<Connection, ClientError> {
        loop {
            tokio::select! {
                () = shutdown.wait() => return Err(ClientError::Ended),
                () = tokio::time::sleep(Duration::from_millis(self.pause_ms)) => {}
            }
            match Connection::open(self.options.clone()).await {
                Ok(connection) => {
                    self.reconnect.connected(mono_ms(&self.options));
                    return Ok(connection);
                }
                Err(ClientError::Session(SessionError::Farewell(error))) if is_for_good(&error) => {
                    return Err(SessionError::Farewell(error).into());
                }
                Err(_) => {
                    self.pause_ms = self.reconnect.failed((self.random)());
                    // The place that a move named is gone: back to the one that the app knows.
                    if let Some(home) = self.home.take() {
                        self.options.address = home;
                    }
                }
            }
        }
    }
}

fn is_for_good(error: &v1::Error) -> bool {
    use protocol::error::Code;
    [Code::Unauthenticated, Code::TokenExpired, Code::Forbidden, Code::Invalid]
        .iter()
        .any(|c| c.word() == error.code)
}
