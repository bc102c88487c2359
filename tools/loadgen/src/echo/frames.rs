//! The bare frame server: a poll loop on each of its threads, one read and one write for all frames that came.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread::JoinHandle;

use parking_lot::Mutex;
use prost::Message;
use protocol::PROTOCOL_VERSION;
use protocol::frame::{FRAME_MAX, FrameKind, next, put, put_message};
use protocol::v1;
use runtime::{SharedClock, Shutdown};

use super::{campaign, loss};
use crate::LoadError;
use crate::net::{Poller, SCRATCH_BYTES, Wire};

/// A running server. It ends when it is dropped.
pub struct FrameEcho {
    address: SocketAddr,
    shutdown: Shutdown,
    threads: Vec<JoinHandle<()>>,
}

/// How often a thread looks for new connections and for the end.
const LOOK_NS: u64 = 2_000_000;

impl FrameEcho {
    /// Starts it on a port of the system's choice at loopback, with so many threads.
    ///
    /// # Errors
    /// When it can't listen.
    pub fn start(threads: usize, clock: SharedClock) -> Result<Self, LoadError> {
        let listener = listen().map_err(LoadError::io("listening for the frame echo"))?;
        let address = listener.local_addr().map_err(LoadError::io("asking for an address"))?;
        let mut echo = Self { address, shutdown: Shutdown::new(), threads: Vec::new() };
        let places: Arc<[Mutex<Vec<TcpStream>>]> = (0..threads.max(1)).map(|_| Mutex::default()).collect();
        let mut listener = Some(listener);
        for number in 0..threads.max(1) {
            let (shutdown, clock) = (echo.shutdown.clone(), clock.clone());
            let door = Door { listener: listener.take(), places: Arc::clone(&places), number };
            let run = move || {
                if let Ok(poller) = Poller::new() {
                    serve(&door, poller, &clock, &shutdown);
                }
            };
            let thread = std::thread::Builder::new().name(format!("echo-{number}")).spawn(run);
            echo.threads.push(thread.map_err(LoadError::io("starting a thread"))?);
        }
        Ok(echo)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for FrameEcho {
    fn drop(&mut self) {
        self.shutdown.request();
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// Connections that may wait to be taken: all of a bench come at once.
const BACKLOG: i32 = 4_096;

fn listen() -> std::io::Result<TcpListener> {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// The first thread takes new connections for all, in turn, so that each has as many as the others.
struct Door {
    listener: Option<TcpListener>,
    places: Arc<[Mutex<Vec<TcpStream>>]>,
    number: usize,
}

impl Door {
    /// Takes what has come in; `next` is whose turn it is.
    fn accept(&self, next: &mut usize) {
        let Some(listener) = &self.listener else { return };
        while let Ok((stream, _)) = listener.accept() {
            if stream.set_nonblocking(true).and_then(|()| stream.set_nodelay(true)).is_ok() {
                self.places[*next % self.places.len()].lock().push(stream);
                *next += 1;
            }
        }
    }

    /// This thread's new connections.
    fn own(&self) -> Vec<TcpStream> {
        std::mem::take(&mut *self.places[self.number].lock())
    }
}

fn serve(door: &Door, poller: Poller, clock: &SharedClock, shutdown: &Shutdown) {
    let mut wires: Vec<Option<(Wire, bool)>> = Vec::new();
    let mut scratch = vec![0; SCRATCH_BYTES];
    let mut ready = Vec::new();
    let (mut looked_ns, mut next) = (0, 0);
    while !shutdown.is_requested() {
        if poller.wait(LOOK_NS, &mut ready).is_err() {
            return;
        }
        for ready in &ready {
            let place = &mut wires[ready.key as usize];
            let Some((wire, gateway)) = place else { continue };
            if turn(wire, gateway, &poller, ready.key, &mut scratch, clock).is_err() {
                *place = None;
            }
        }
        let now_ns = clock.mono_ns();
        if now_ns - looked_ns >= LOOK_NS {
            looked_ns = now_ns;
            door.accept(&mut next);
            for stream in door.own() {
                let wire = Wire::over(stream);
                if wire.watch(&poller, wires.len() as u64).is_ok() {
                    wires.push(Some((wire, false)));
                }
            }
        }
    }
}

fn turn(
    wire: &mut Wire,
    gateway: &mut bool,
    poller: &Poller,
    key: u64,
    scratch: &mut [u8],
    clock: &SharedClock,
) -> std::io::Result<()> {
    // Who does not read is not read from.
    if wire.out.is_empty()
        && let Some(filled) = wire.read(scratch)?
    {
        let mut used = 0;
        let (with_user, without) = (loss(1 << 23).encode_to_vec(), loss(0).encode_to_vec());
        while let Some((frame, size)) =
            next(&scratch[used..filled], FRAME_MAX).map_err(std::io::Error::other)?
        {
            used += size;
            let out = &mut wire.out;
            match frame.kind {
                FrameKind::Submit => {
                    let body = if *gateway { &with_user } else { &without };
                    put(out, FrameKind::SubmitAnswer, frame.id, |out| out.extend_from_slice(body));
                }
                FrameKind::Hello => {
                    let (server_time_ms, heartbeat_ms) = (clock.now_ms(), 30_000);
                    let welcome = v1::Welcome {
                        protocol_version: PROTOCOL_VERSION,
                        frame_max: 0,
                        server_time_ms,
                        heartbeat_ms,
                    };
                    put_message(out, FrameKind::Welcome, frame.id, &welcome);
                }
                FrameKind::Login => {
                    let login = v1::Login::decode(frame.body).map_err(std::io::Error::other)?;
                    *gateway = !login.gateway_token.is_empty();
                    put_message(out, FrameKind::LoginDone, frame.id, &v1::LoginDone::default());
                }
                FrameKind::Campaigns => {
                    let now_ms = clock.now_ms();
                    let answer =
                        v1::CampaignsAnswer { campaigns: vec![campaign(now_ms)], server_time_ms: now_ms };
                    put_message(out, FrameKind::CampaignsAnswer, frame.id, &answer);
                }
                kind => put(out, kind, frame.id, |_| ()),
            }
        }
        wire.keep(&scratch[used..filled]);
    }
    wire.flush(poller, key)
}
