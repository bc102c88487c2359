//! Connections that are logged in with chat and do nothing but beat: for memory and CPU of idle ones.

use std::net::SocketAddr;
use std::time::Duration;

use client::{Credential, Event, Session, SessionError};
use protocol::frame::{FRAME_MAX, next};
use runtime::{SharedClock, Shutdown};
use serde::Serialize;

use crate::LoadError;
use crate::bench::CONNECTIONS_MAX;
use crate::meter::{cores, thread_cpu_ns};
use crate::net::{Poller, Ready, SCRATCH_BYTES, Wire};
use crate::token::TokenKey;

/// Logins under way at a time.
const LOGINS: usize = 256;

/// A connection of one device.
pub(crate) struct Conn {
    pub wire: Wire,
    session: Session,
}

impl Conn {
    /// Something was read.
    #[inline]
    pub fn heard(&mut self, now_ms: u64) {
        self.session.heard(now_ms);
    }

    /// Appends a heartbeat if one is due.
    pub fn tick(&mut self, now_ms: u64) -> Result<(), SessionError> {
        self.session.tick(now_ms, &mut self.wire.out)
    }
}

/// Idle connections.
#[derive(Clone)]
pub struct IdleConfig {
    /// Where frames are spoken; with `websocket`, where HTTP is.
    pub address: SocketAddr,
    /// Frames go in a WebSocket's messages.
    pub websocket: bool,
    /// Signs the users' tokens.
    pub key: TokenKey,
    /// Connections, one a user.
    pub connections: u32,
    /// User id of the first.
    pub first_user: u64,
    /// How long they are kept, in ms.
    pub run_ms: u64,
    /// Time for all logins, in ms.
    pub wait_ms: u64,
}

/// What came of it.
#[derive(Clone, Debug, Default, Serialize)]
pub struct IdleReport {
    /// Connections that were logged in.
    pub connections: u32,
    /// Time that the logins took, in ms.
    pub login_ms: u64,
    /// Connections that were lost.
    pub lost: u32,
    /// Heartbeats sent.
    pub beats: u64,
    /// Heartbeats that came back.
    pub answered: u64,
    /// Length, in s.
    pub seconds: f64,
    /// The generator's share of all cores.
    pub cpu_share: f64,
}

/// Where WebSockets are opened.
const WEBSOCKET_PATH: &str = "/v1/ws";

/// Logs in `users.0` users from id `users.1` on, a device each; over WebSockets or not.
pub(crate) fn log_in_all(
    address: SocketAddr,
    websocket: bool,
    key: &TokenKey,
    users: (u32, u64),
    wait_ms: u64,
    clock: &SharedClock,
) -> Result<(Vec<Conn>, Poller), LoadError> {
    let broken = |error| LoadError::Io { what: format!("logging in at {address}"), error };
    let poller = Poller::new().map_err(broken)?;
    let mut conns: Vec<Conn> = Vec::with_capacity(users.0 as usize);
    let (mut scratch, mut ready, mut open) = (vec![0; SCRATCH_BYTES], Vec::new(), 0);
    let end_ms = clock.mono_ns() / 1_000_000 + wait_ms;
    while open < users.0 as usize {
        let now_ms = clock.mono_ns() / 1_000_000;
        if now_ms > end_ms {
            return Err(LoadError::Server(format!("{open} of {} logins were answered in time", users.0)));
        }
        while conns.len() < users.0 as usize && conns.len() - open < LOGINS {
            let at = conns.len();
            let within = Duration::from_secs(10);
            let wire = match websocket {
                true => Wire::connect_websocket(address, WEBSOCKET_PATH, within),
                false => Wire::connect(address, within),
            };
            let mut wire = wire.map_err(|error| {
                let tried = format!("connection {} of {}", at + 1, users.0);
                LoadError::Connect { address: address.to_string(), tried, error }
            })?;
            let user = users.1 + at as u64;
            let credential = Credential::User(key.user(user, clock.now_ms()));
            // A device of its own for each run, so that no run takes another's messages for resends.
            let device = (clock.now_ms() << 16 ^ user).max(1);
            let session = Session::begin_device(&credential, device, crate::CLIENT, now_ms, &mut wire.out);
            wire.watch(&poller, at as u64).map_err(broken)?;
            wire.flush(&poller, at as u64).map_err(broken)?;
            conns.push(Conn { wire, session });
        }
        poller.wait(20_000_000, &mut ready).map_err(broken)?;
        for ready in &ready {
            open += greet(&poller, &mut conns, *ready, &mut scratch, clock, address)?;
        }
    }
    Ok((conns, poller))
}

/// Gives how many logins were done by what came.
fn greet(
    poller: &Poller,
    conns: &mut [Conn],
    ready: Ready,
    scratch: &mut [u8],
    clock: &SharedClock,
    address: SocketAddr,
) -> Result<usize, LoadError> {
    let at = ready.key as usize;
    let broken = |error| LoadError::Io { what: format!("logging in on connection {at}"), error };
    let fault = |error| LoadError::Session { connection: at, address: address.to_string(), error };
    let conn = &mut conns[at];
    conn.wire.flush(poller, ready.key).map_err(broken)?;
    let Some(filled) = conn.wire.read(scratch).map_err(broken)? else { return Ok(0) };
    let (mut used, mut opened) = (0, 0);
    while let Some((frame, size)) = next(&scratch[used..filled], FRAME_MAX).map_err(|e| fault(e.into()))? {
        used += size;
        if let Event::Open(login) = conn.session.take(&frame, clock.mono_ns() / 1_000_000).map_err(fault)? {
            if !login.chat {
                return Err(LoadError::Server(format!("{address} serves no chat")));
            }
            opened += 1;
        }
    }
    conn.wire.keep(&scratch[used..filled]);
    Ok(opened)
}

/// Connections that are logged in, and idle.
pub struct Idle {
    conns: Vec<Option<Conn>>,
    poller: Poller,
    login_ms: u64,
    /// Whose turn it was to be looked at.
    turn: usize,
}

/// Everybody is looked at within so long.
const TURN_NS: u64 = 5_000_000_000;

impl Idle {
    /// Logs everybody in.
    ///
    /// # Errors
    /// When the configuration makes no sense, or a connection can't be made.
    pub fn open(config: &IdleConfig, clock: &SharedClock) -> Result<Idle, LoadError> {
        if config.connections == 0 || config.connections as usize > CONNECTIONS_MAX || config.first_user == 0
        {
            let text = format!(
                "{} connections: 1 to {CONNECTIONS_MAX} are possible, with user ids from 1",
                config.connections
            );
            return Err(LoadError::Config(text));
        }
        let began_ms = clock.mono_ns() / 1_000_000;
        let users = (config.connections, config.first_user);
        let (conns, poller) =
            log_in_all(config.address, config.websocket, &config.key, users, config.wait_ms, clock)?;
        let login_ms = clock.mono_ns() / 1_000_000 - began_ms;
        Ok(Idle { conns: conns.into_iter().map(Some).collect(), poller, login_ms, turn: 0 })
    }

    /// Keeps them, with heartbeats, for so long; ends early on shutdown. May be called again and again.
    ///
    /// # Errors
    /// When polling fails; connections that break are counted.
    pub fn keep(
        &mut self,
        run_ms: u64,
        clock: &SharedClock,
        shutdown: &Shutdown,
    ) -> Result<IdleReport, LoadError> {
        let Idle { conns, poller, login_ms, turn } = self;
        let mut report = IdleReport {
            connections: conns.iter().flatten().count() as u32,
            login_ms: *login_ms,
            ..IdleReport::default()
        };
        let (cpu_ns, start_ns) = (thread_cpu_ns(), clock.mono_ns());
        let (mut scratch, mut ready) = (vec![0; SCRATCH_BYTES], Vec::new());
        let end_ns = start_ns + run_ms * 1_000_000;
        // A share of them every 50 ms, and more when this thread was kept from it: nobody waits longer for his turn.
        let share = conns.len().div_ceil(100);
        let mut looks = 0;
        while clock.mono_ns() < end_ns && !shutdown.is_requested() {
            let now_ms = clock.mono_ns() / 1_000_000;
            let due = (clock.mono_ns() - start_ns).saturating_mul(conns.len() as u64) / TURN_NS;
            let late = (due as usize).saturating_sub(looks).min(conns.len());
            for _ in 0..share.max(late) {
                (*turn, looks) = ((*turn + 1) % conns.len(), looks + 1);
                let sent = conns[*turn].as_mut().map(|conn| beat(conn, poller, *turn as u64, now_ms));
                match sent {
                    Some(Ok(beats)) => report.beats += beats,
                    Some(Err(())) => (conns[*turn], report.lost) = (None, report.lost + 1),
                    None => {}
                }
            }
            poller.wait(50_000_000, &mut ready).map_err(LoadError::io("polling"))?;
            let now_ms = clock.mono_ns() / 1_000_000;
            for ready in &ready {
                let at = ready.key as usize;
                match conns[at].as_mut().map(|conn| hear(conn, &mut scratch, now_ms)) {
                    Some(Ok(answered)) => report.answered += answered,
                    Some(Err(())) => (conns[at], report.lost) = (None, report.lost + 1),
                    None => {}
                }
            }
        }
        report.seconds = (clock.mono_ns() - start_ns) as f64 / 1e9;
        report.cpu_share = (thread_cpu_ns() - cpu_ns) as f64 / 1e9 / report.seconds.max(1e-9) / cores();
        Ok(report)
    }
}

/// Opens and keeps. Blocks until it is over; ends early on shutdown.
///
/// # Errors
/// When a connection can't be made.
pub fn run(config: &IdleConfig, clock: &SharedClock, shutdown: &Shutdown) -> Result<IdleReport, LoadError> {
    Idle::open(config, clock)?.keep(config.run_ms, clock, shutdown)
}

fn beat(conn: &mut Conn, poller: &Poller, key: u64, now_ms: u64) -> Result<u64, ()> {
    conn.tick(now_ms).map_err(|_| ())?;
    let beats = u64::from(!conn.wire.out.is_empty());
    conn.wire.flush(poller, key).map_err(|_| ())?;
    Ok(beats)
}

fn hear(conn: &mut Conn, scratch: &mut [u8], now_ms: u64) -> Result<u64, ()> {
    let Some(filled) = conn.wire.read(scratch).map_err(|_| ())? else { return Ok(0) };
    let (mut used, mut answered) = (0, 0);
    while let Some((frame, size)) = next(&scratch[used..filled], FRAME_MAX).map_err(|_| ())? {
        used += size;
        answered += u64::from(conn.session.take(&frame, now_ms).map_err(|_| ())? == Event::Heartbeat);
    }
    conn.wire.keep(&scratch[used..filled]);
    Ok(answered)
}
