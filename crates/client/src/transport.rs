//! What a connection stands on: TCP, TLS, or a WebSocket over either, by the scheme of its address.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::pki_types::ServerName;

use crate::websocket::{Handshake, Reader, WebSocketError, put_message};

/// Where WebSockets are opened when the address names no path.
const PATH: &str = "/v1/ws";

/// An address in its parts.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Place {
    tls: bool,
    /// Path of the WebSocket; `None`: frames stand on the stream itself.
    websocket: Option<String>,
    /// Host and port.
    authority: String,
}

impl Place {
    /// `host:port`, `tcp://host:port`, `tls://host:port`, `ws://host[:port][/path]` or `wss://host[:port][/path]`.
    fn read(address: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "{address:?} is no address; examples: host:7601, tls://host:7601, wss://host/v1/ws, ws://host:7600/v1/ws"
            )
        };
        let (scheme, rest) = address.split_once("://").unwrap_or(("tcp", address));
        let (tls, websocket, port) = match scheme {
            "tcp" => (false, false, None),
            "tls" => (true, false, None),
            "ws" => (false, true, Some(80)),
            "wss" => (true, true, Some(443)),
            _ => return Err(wrong()),
        };
        let (authority, path) = match rest.find('/') {
            Some(at) if websocket => (&rest[..at], &rest[at..]),
            Some(_) => return Err(wrong()),
            None => (rest, PATH),
        };
        let bare = authority.rsplit_once(':').filter(|(_, port)| port.parse::<u16>().is_ok());
        let authority = match (bare, port) {
            (Some(_), _) => authority.to_owned(),
            (None, Some(port)) if !authority.is_empty() => format!("{authority}:{port}"),
            _ => return Err(wrong()),
        };
        if path.contains(['\r', '\n', ' ']) || authority.contains(['\r', '\n', ' ', '@']) {
            return Err(wrong());
        }
        Ok(Self { tls, websocket: websocket.then(|| path.to_owned()), authority })
    }

    /// `http://host[:port]` or `https://host[:port]`, with or without a slash behind it.
    pub fn of_http(url: &str) -> Result<Self, String> {
        let (scheme, rest) = url.split_once("://").unwrap_or_default();
        let scheme = match scheme {
            "http" => "ws",
            "https" => "wss",
            _ => "",
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let place = if rest.contains('/') { None } else { Self::read(&format!("{scheme}://{rest}")).ok() };
        place
            .ok_or_else(|| format!("{url:?} is no address of HTTP; examples: https://host, http://host:7601"))
    }

    /// Host and port.
    pub fn authority(&self) -> &str {
        &self.authority
    }

    fn host(&self) -> &str {
        let host = self.authority.rsplit_once(':').map_or(self.authority.as_str(), |(host, _)| host);
        host.trim_start_matches('[').trim_end_matches(']')
    }
}

/// A socket, with or without TLS.
pub(crate) enum Stream {
    /// As it is.
    Plain(TcpStream),
    /// Within TLS.
    Tls(Box<TlsStream<TcpStream>>),
}

impl Stream {
    /// Connects. `tls` says whom to trust; only places with TLS need it.
    pub async fn open(place: &Place, tls: Option<&Arc<ClientConfig>>) -> std::io::Result<Self> {
        let wrong = |text: String| std::io::Error::new(std::io::ErrorKind::InvalidInput, text);
        let authority = &place.authority;
        if !place.tls {
            let stream = TcpStream::connect(authority).await?;
            stream.set_nodelay(true)?;
            return Ok(Stream::Plain(stream));
        }
        // Before anybody is bothered.
        let config = tls.ok_or_else(|| wrong(format!("{authority} needs `tls`: whom to trust")))?;
        let name = ServerName::try_from(place.host().to_owned())
            .map_err(|error| wrong(format!("{authority}: {error}")))?;
        let stream = TcpStream::connect(authority).await?;
        stream.set_nodelay(true)?;
        let stream = TlsConnector::from(Arc::clone(config)).connect(name, stream).await?;
        Ok(Stream::Tls(Box::new(stream)))
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Stream::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<std::io::Result<usize>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Stream::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

struct WebSocket {
    reader: Reader,
    /// Bytes of the socket that are no payload yet.
    raw: Vec<u8>,
}

/// Bytes of frames, whatever carries them.
pub(crate) struct Transport {
    stream: Stream,
    websocket: Option<WebSocket>,
}

impl Transport {
    /// Connects. `tls` says whom to trust; only addresses with TLS need it.
    pub async fn open(address: &str, tls: Option<&Arc<ClientConfig>>) -> std::io::Result<Self> {
        let wrong = |text: String| std::io::Error::new(std::io::ErrorKind::InvalidInput, text);
        let place = Place::read(address).map_err(wrong)?;
        let mut stream = Stream::open(&place, tls).await?;
        let websocket = match &place.websocket {
            Some(path) => Some(shake_hands(&mut stream, &place.authority, path).await?),
            None => None,
        };
        Ok(Self { stream, websocket })
    }

    /// Sends frames.
    pub async fn write(&mut self, frames: &[u8]) -> std::io::Result<()> {
        if frames.is_empty() {
            return Ok(());
        }
        if self.websocket.is_none() {
            self.stream.write_all(frames).await?;
            return self.stream.flush().await;
        }
        let mut out = Vec::with_capacity(frames.len() + 14);
        put_message(&mut out, frames, random()?);
        self.stream.write_all(&out).await?;
        self.stream.flush().await
    }

    /// Appends bytes of frames to `input`. May be broken off at any point without losing bytes.
    pub async fn read(&mut self, input: &mut Vec<u8>) -> std::io::Result<()> {
        let Some(websocket) = &mut self.websocket else {
            return some(self.stream.read_buf(input).await?);
        };
        loop {
            let (had, mut reply) = (input.len(), Vec::new());
            let mask = || random().unwrap_or_default();
            websocket.reader.take(&mut websocket.raw, input, &mut reply, mask).map_err(broken)?;
            if !reply.is_empty() {
                self.stream.write_all(&reply).await?;
                self.stream.flush().await?;
            }
            if input.len() > had {
                return Ok(());
            }
            some(self.stream.read_buf(&mut websocket.raw).await?)?;
        }
    }
}

async fn shake_hands(stream: &mut Stream, host: &str, path: &str) -> std::io::Result<WebSocket> {
    let mut out = Vec::new();
    let handshake = Handshake::begin(host, path, random()?, &mut out);
    stream.write_all(&out).await?;
    stream.flush().await?;
    let mut raw = Vec::new();
    loop {
        some(stream.read_buf(&mut raw).await?)?;
        if let Some(used) = handshake.take(&raw).map_err(broken)? {
            raw.drain(..used);
            return Ok(WebSocket { reader: Reader::default(), raw });
        }
    }
}

fn random<const N: usize>() -> std::io::Result<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| std::io::Error::other(error.to_string()))?;
    Ok(bytes)
}

fn some(read: usize) -> std::io::Result<()> {
    if read == 0 { Err(std::io::ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
}

fn broken(error: WebSocketError) -> std::io::Error {
    std::io::Error::other(error)
}

#[cfg(test)]
mod tests {
    use super::Place;

    #[test]
    fn reads_every_scheme() {
        let place = |address: &str| Place::read(address).map(|p| (p.tls, p.websocket, p.authority));
        let with = |tls, path: Option<&str>, authority: &str| {
            Ok((tls, path.map(str::to_owned), authority.to_owned()))
        };
        assert_eq!(place("a:1"), with(false, None, "a:1"));
        assert_eq!(place("[::1]:7"), with(false, None, "[::1]:7"));
        assert_eq!(place("tls://a:1"), with(true, None, "a:1"));
        assert_eq!(place("ws://a:1"), with(false, Some("/v1/ws"), "a:1"));
        assert_eq!(place("wss://a/x/y"), with(true, Some("/x/y"), "a:443"));
        assert_eq!(Place::read("tls://[::1]:7").unwrap().host(), "::1");
        let http = |url: &str| Place::of_http(url).map(|p| (p.tls, p.authority));
        assert_eq!(http("http://a:1/"), Ok((false, "a:1".to_owned())));
        assert_eq!(http("https://a"), Ok((true, "a:443".to_owned())));
        for wrong in ["a:1", "ws://a", "https://a/b", "http://"] {
            assert!(http(wrong).is_err(), "{wrong}");
        }
        for wrong in ["", "a", "http://a:1", "tcp://a:1/x", "ws://", "wss://a/x y", "ws://u@a:1"] {
            assert!(place(wrong).is_err(), "{wrong}");
        }
    }
}
