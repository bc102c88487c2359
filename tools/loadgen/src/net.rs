//! Sockets without blocking, polled by the thread that owns them. Level-triggered: what is not taken is named again.

use std::io::{self, ErrorKind, Read, Write};
use std::mem::MaybeUninit;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, OwnedFd};

use client::websocket::{Handshake, Reader, put_message};
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::time::Timespec;

/// What one read may bring.
pub(crate) const READ_BYTES: usize = 256 * 1024;

/// Room for a read and for the beginning of a frame left over from the one before.
pub(crate) const SCRATCH_BYTES: usize = READ_BYTES + protocol::frame::FRAME_MAX + 16;

/// A socket that something happened on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ready {
    pub key: u64,
    pub writable: bool,
    /// Readable, closed or broken: a read tells which.
    pub readable: bool,
}

pub(crate) struct Poller {
    fd: OwnedFd,
}

/// Events taken at a time.
const EVENTS: usize = 512;

fn interest(write: bool) -> EventFlags {
    if write { EventFlags::IN | EventFlags::OUT } else { EventFlags::IN }
}

impl Poller {
    pub fn new() -> io::Result<Self> {
        Ok(Self { fd: epoll::create(CreateFlags::CLOEXEC)? })
    }

    pub fn add(&self, socket: impl AsFd, key: u64, write: bool) -> io::Result<()> {
        Ok(epoll::add(&self.fd, socket, EventData::new_u64(key), interest(write))?)
    }

    pub fn modify(&self, socket: impl AsFd, key: u64, write: bool) -> io::Result<()> {
        Ok(epoll::modify(&self.fd, socket, EventData::new_u64(key), interest(write))?)
    }

    /// Waits up to `wait_ns` and gives what is ready.
    pub fn wait(&self, wait_ns: u64, ready: &mut Vec<Ready>) -> io::Result<()> {
        ready.clear();
        let mut events = [const { MaybeUninit::<epoll::Event>::uninit() }; EVENTS];
        let wait =
            Timespec { tv_sec: (wait_ns / 1_000_000_000) as i64, tv_nsec: (wait_ns % 1_000_000_000) as _ };
        let events = match epoll::wait(&self.fd, &mut events, Some(&wait)) {
            Ok((events, _)) => events,
            Err(rustix::io::Errno::INTR) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        ready.extend(events.iter().map(|event| {
            let flags = event.flags;
            Ready {
                key: event.data.u64(),
                writable: flags.contains(EventFlags::OUT),
                readable: flags.intersects(EventFlags::IN | EventFlags::HUP | EventFlags::ERR),
            }
        }));
        Ok(())
    }
}

/// A socket with what is to be sent and the beginning of what has come.
pub(crate) struct Wire {
    stream: TcpStream,
    pub out: Vec<u8>,
    rest: Vec<u8>,
    watching_writes: bool,
    /// There if the frames go in a WebSocket's messages.
    websocket: Option<Box<WebSocket>>,
}

/// A WebSocket's side of a wire.
#[derive(Default)]
struct WebSocket {
    reader: Reader,
    /// Bytes of the socket that are no frames yet.
    raw: Vec<u8>,
    /// So much of what is to be sent is in messages already.
    wrapped: usize,
}

/// A mask is random so that no page can choose the bytes that a proxy sees; a generator has nothing to hide from.
const MASK: [u8; 4] = [0x5a, 0xc3, 0x96, 0x0f];

/// Room that a WebSocket's read leaves, for what it kept of the read before.
const WEBSOCKET_KEPT: usize = 1_024;

impl Wire {
    /// Begins to connect; it is done when the socket is writable.
    pub fn dial(address: SocketAddr) -> io::Result<Self> {
        let kind = socket2::Type::STREAM;
        let socket = socket2::Socket::new(socket2::Domain::for_address(address), kind, None)?;
        socket.set_nonblocking(true)?;
        socket.set_tcp_nodelay(true)?;
        match socket.connect(&address.into()) {
            Ok(()) => {}
            Err(error) if error.raw_os_error() == Some(rustix::io::Errno::INPROGRESS.raw_os_error()) => {}
            Err(error) => return Err(error),
        }
        Ok(Self { watching_writes: true, ..Self::over(socket.into()) })
    }

    /// Over a connected socket that doesn't block.
    pub fn over(stream: TcpStream) -> Self {
        Self { stream, out: Vec::new(), rest: Vec::new(), watching_writes: false, websocket: None }
    }

    /// Connects and waits for it.
    pub fn connect(address: SocketAddr, within: std::time::Duration) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, within)?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        Ok(Self::over(stream))
    }

    /// Connects to a WebSocket and waits until the server has agreed.
    pub fn connect_websocket(
        address: SocketAddr,
        path: &str,
        within: std::time::Duration,
    ) -> io::Result<Self> {
        let mut stream = TcpStream::connect_timeout(&address, within)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(within))?;
        let mut out = Vec::new();
        let handshake = Handshake::begin(&address.to_string(), path, *b"a generator's 16", &mut out);
        stream.write_all(&out)?;
        let (mut raw, mut some) = (Vec::new(), [0; 1_024]);
        let used = loop {
            let read = stream.read(&mut some)?;
            if read == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            raw.extend_from_slice(&some[..read]);
            if let Some(used) = handshake.take(&raw).map_err(io::Error::other)? {
                break used;
            }
        };
        raw.drain(..used);
        stream.set_nonblocking(true)?;
        let websocket = Some(Box::new(WebSocket { raw, ..WebSocket::default() }));
        Ok(Self { websocket, ..Self::over(stream) })
    }

    /// Puts it under the poller's eyes.
    pub fn watch(&self, poller: &Poller, key: u64) -> io::Result<()> {
        poller.add(&self.stream, key, self.watching_writes)
    }

    /// What became of [`Wire::dial`], once the socket is writable.
    pub fn connected(&self) -> io::Result<()> {
        match self.stream.take_error()? {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    /// Sends what can be sent, and has the poller watch for the rest.
    pub fn flush(&mut self, poller: &Poller, key: u64) -> io::Result<()> {
        if let Some(websocket) = &mut self.websocket
            && websocket.wrapped < self.out.len()
        {
            let frames = self.out.split_off(websocket.wrapped);
            put_message(&mut self.out, &frames, MASK);
            websocket.wrapped = self.out.len();
        }
        let mut sent = 0;
        while sent < self.out.len() {
            match self.stream.write(&self.out[sent..]) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(n) => sent += n,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        if sent == self.out.len() {
            self.out.clear();
        } else {
            self.out.drain(..sent);
        }
        if let Some(websocket) = &mut self.websocket {
            websocket.wrapped = self.out.len();
        }
        let left = !self.out.is_empty();
        if left != self.watching_writes {
            self.watching_writes = left;
            poller.modify(&self.stream, key, left)?;
        }
        Ok(())
    }

    /// Reads behind what was kept of the read before; gives how much of `scratch` is filled, `None` when nothing came.
    pub fn read(&mut self, scratch: &mut [u8]) -> io::Result<Option<usize>> {
        let kept = self.rest.len();
        scratch[..kept].copy_from_slice(&self.rest);
        if self.websocket.is_some() {
            return self.read_messages(scratch, kept);
        }
        loop {
            return match self.stream.read(&mut scratch[kept..]) {
                Ok(0) => Err(ErrorKind::UnexpectedEof.into()),
                Ok(n) => Ok(Some(kept + n)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => Err(error),
            };
        }
    }

    /// The same with frames that come in messages.
    #[cold]
    fn read_messages(&mut self, scratch: &mut [u8], kept: usize) -> io::Result<Option<usize>> {
        let Some(websocket) = &mut self.websocket else { return Ok(None) };
        let room = scratch.len().saturating_sub(kept + WEBSOCKET_KEPT);
        match self.stream.read(&mut scratch[kept..kept + room]) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(n) => websocket.raw.extend_from_slice(&scratch[kept..kept + n]),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            Err(error) => return Err(error),
        }
        let (mut data, mut reply) = (Vec::new(), Vec::new());
        websocket
            .reader
            .take(&mut websocket.raw, &mut data, &mut reply, || MASK)
            .map_err(io::Error::other)?;
        // Control messages stand between those with frames, so that an answer to one may go out at once, or not at all.
        if !reply.is_empty() && self.out.is_empty() {
            let _ = self.stream.write(&reply)?;
        }
        if data.is_empty() {
            return Ok(None);
        }
        scratch[kept..kept + data.len()].copy_from_slice(&data);
        Ok(Some(kept + data.len()))
    }

    /// Keeps what is no whole frame yet.
    #[inline]
    pub fn keep(&mut self, rest: &[u8]) {
        self.rest.clear();
        self.rest.extend_from_slice(rest);
    }
}
