//! Connects again and again: where to, and after which pause.

use runtime::Shutdown;
use std::time::Duration;

use protocol::v1;

use crate::connection::mono_ms;
use crate::{
    ClientError, Connection, Options, Reconnect, ReconnectPolicy, Relocation, Scheduler, SessionError,
};

/// Connects again and again, with the pauses of a [`ReconnectPolicy`].
pub struct Dialer {
    options: Options,
    /// The app's own address, while another was named.
    home: Option<String>,
    /// Whom to ask for one, and for whom.
    scheduler: Option<(Scheduler, u64)>,
    /// What it said is good until then (monotonic ms).
    scheduled_until_ms: u64,
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
        Self {
            options,
            home: None,
            scheduler: None,
            scheduled_until_ms: 0,
            reconnect: Reconnect::new(policy),
            pause_ms: 0,
            random: Box::new(random),
        }
    }

    /// Has a scheduler say where to connect, for `user`. Its word holds as long as it says, or until that place can't be
    /// reached; while it says nothing the address of the options is used.
    #[must_use]
    pub fn asking(mut self, scheduler: Scheduler, user: u64) -> Self {
        self.scheduler = Some((scheduler, user));
        self
    }

    /// Goes by the scheduler's word, if there is one to ask and a word to be had.
    async fn look_up(&mut self) {
        let Some((scheduler, user)) = &self.scheduler else { return };
        if mono_ms(&self.options) < self.scheduled_until_ms {
            return;
        }
        let own = self.home.as_ref().unwrap_or(&self.options.address);
        // Who can't be asked, or names no place of this kind, changes nothing.
        let Ok(scheduled) = scheduler.ask(*user).await else { return };
        let Some(there) = scheduled.like(own) else { return };
        self.home.get_or_insert_with(|| self.options.address.clone());
        self.options.address = there;
        self.scheduled_until_ms = mono_ms(&self.options) + u64::from(scheduled.ttl_ms);
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
            tokio::select! {
                () = shutdown.wait() => return Err(ClientError::Ended),
                () = self.look_up() => {}
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
                    // The place that was named is gone: back to the one that the app knows, or to who names another.
                    self.scheduled_until_ms = 0;
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
