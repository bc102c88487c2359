//! A frame server with bad manners, one connection after the other.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use base64::Engine;
use prost::Message;
use protocol::error::Code;
use protocol::frame::{FRAME_MAX, FrameKind, next, put, put_message};
use protocol::v1;
use runtime::{Shutdown, TaskKind, Tasks};
use sha1::{Digest, Sha1};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream};
use tokio::net::{TcpListener, TcpStream};

/// What it does wrong.
#[derive(Clone, Copy, Default)]
pub struct Manners {
    pub drop_first_answer: bool,
    pub refuse_connections: u32,
    /// Speaks over a WebSocket.
    pub websocket: bool,
    /// Asks everybody to go there, once they are logged in.
    pub away: Option<SocketAddr>,
    /// What it asks for in Welcome; 0: [`HEARTBEAT_MS`].
    pub heartbeat_ms: u32,
    /// Stands behind a NAT that forgets a connection after so many ms of silence: nothing comes through from then on.
    pub nat_ms: u64,
}

/// Heartbeats soon come, and three of them are more silence than a busy machine makes.
pub const HEARTBEAT_MS: u32 = 600;

pub struct TinyServer {
    pub address: SocketAddr,
    /// Heartbeats that came.
    pub beats: Arc<AtomicU32>,
    shutdown: Shutdown,
}

impl Drop for TinyServer {
    fn drop(&mut self) {
        self.shutdown.request();
    }
}

impl TinyServer {
    pub async fn start(mut manners: Manners) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (shutdown, beats) = (Shutdown::new(), Arc::new(AtomicU32::new(0)));
        let heard = beats.clone();
        let tasks = Tasks::new(shutdown.clone());
        tasks.clone().spawn("server", TaskKind::BestEffort, async move {
            loop {
                let stream = tokio::select! {
                    accepted = listener.accept() => accepted?.0,
                    () = tasks.shutdown().wait() => return Ok(()),
                };
                if manners.refuse_connections > 0 {
                    manners.refuse_connections -= 1;
                    continue;
                }
                let drop_first = std::mem::take(&mut manners.drop_first_answer);
                let manners = Manners { drop_first_answer: drop_first, ..manners };
                let heard = heard.clone();
                let served = async move {
                    if manners.websocket {
                        serve(bridge(stream).await?, manners, &heard).await
                    } else {
                        serve(stream, manners, &heard).await
                    }
                };
                if manners.nat_ms > 0 {
                    // Whom it does not hear any more must not keep the next one waiting.
                    tasks.clone().spawn("connection", TaskKind::BestEffort, async move { Ok(served.await?) });
                    continue;
                }
                tokio::select! {
                    _ = served => {}
                    () = tasks.shutdown().wait() => return Ok(()),
                }
            }
        });
        Self { address, beats, shutdown }
    }
}

/// The payloads of a WebSocket as a plain stream.
async fn bridge(mut socket: TcpStream) -> std::io::Result<DuplexStream> {
    let mut input = Vec::new();
    while !input.ends_with(b"\r\n\r\n") {
        socket.read_buf(&mut input).await?;
    }
    let text = String::from_utf8_lossy(&input).into_owned();
    let key = text.lines().find_map(|line| line.strip_prefix("Sec-WebSocket-Key: ")).unwrap();
    let accept = Sha1::digest(format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11"));
    let accept = base64::engine::general_purpose::STANDARD.encode(accept);
    let answer = format!("HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: {accept}\r\n\r\n");
    socket.write_all(answer.as_bytes()).await?;
    let (ours, mut theirs) = tokio::io::duplex(64 * 1024);
    tokio::runtime::Handle::current().spawn(async move {
        let (mut raw, mut out) = (Vec::new(), vec![0; 4096]);
        loop {
            tokio::select! {
                read = socket.read_buf(&mut raw) => if read.unwrap_or(0) == 0 { return },
                read = theirs.read(&mut out) => {
                    let Ok(n @ 1..) = read else { return };
                    // In two messages of which the first goes on, with a ping between.
                    let (a, b) = out[..n].split_at(n / 2);
                    for (first, part) in [(0x02, a), (0x89, &b"hi"[..]), (0x80, b)] {
                        let mut message = vec![first, 126];
                        if part.len() < 126 { message[1] = part.len() as u8 }
                        else { message.extend((part.len() as u16).to_be_bytes()) }
                        message.extend(part);
                        if socket.write_all(&message).await.is_err() { return }
                    }
                }
            }
            while let Some((payload, used)) = unmask(&raw) {
                raw.drain(..used);
                if theirs.write_all(&payload).await.is_err() {
                    return;
                }
            }
        }
    });
    Ok(ours)
}

/// The payload of a client's message, nothing for a pong, and how long the message is.
fn unmask(raw: &[u8]) -> Option<(Vec<u8>, usize)> {
    let short = usize::from(raw.get(1)? & 0x7f);
    assert!(raw[1] & 0x80 != 0, "a client masks");
    let (length, head) = match short {
        126 => (usize::from(u16::from_be_bytes([*raw.get(2)?, *raw.get(3)?])), 4),
        n => (n, 2),
    };
    let mask = raw.get(head..head + 4)?;
    let payload = raw.get(head + 4..head + 4 + length)?;
    let payload = payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask);
    let payload = if raw[0] == 0x82 { payload.collect() } else { Vec::new() };
    Some((payload, head + 4 + length))
}

async fn serve(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    manners: Manners,
    beats: &AtomicU32,
) -> std::io::Result<()> {
    let Manners { drop_first_answer: mut drop_answer, away, .. } = manners;
    let (mut input, mut out) = (Vec::new(), Vec::new());
    loop {
        let began = tokio::time::Instant::now();
        if stream.read_buf(&mut input).await? == 0 {
            return Ok(());
        }
        if manners.nat_ms > 0 && began.elapsed() > Duration::from_millis(manners.nat_ms) {
            // Nothing gets through, in either direction, until the client gives up.
            while stream.read_buf(&mut input).await? > 0 {}
            return Ok(());
        }
        let mut at = 0;
        while let Some((frame, used)) = next(&input[at..], FRAME_MAX).unwrap() {
            match frame.kind {
                FrameKind::Hello => {
                    let welcome = v1::Welcome {
                        protocol_version: 1,
                        frame_max: 0,
                        server_time_ms: 9_000,
                        heartbeat_ms: if manners.heartbeat_ms > 0 {
                            manners.heartbeat_ms
                        } else {
                            HEARTBEAT_MS
                        },
                    };
                    put_message(&mut out, FrameKind::Welcome, frame.id, &welcome);
                }
                FrameKind::Login if v1::Login::decode(frame.body).unwrap().user_token == "good" => {
                    put_message(
                        &mut out,
                        FrameKind::LoginDone,
                        frame.id,
                        &v1::LoginDone { user: 77, ..Default::default() },
                    );
                    if let Some(away) = away {
                        let away = v1::Move { tcp: away.to_string(), within_ms: 100, ..Default::default() };
                        put_message(&mut out, FrameKind::Move, 0, &away);
                    }
                }
                FrameKind::Login => {
                    let error = v1::Error { fatal: true, ..Code::Unauthenticated.message("no") };
                    put_message(&mut out, FrameKind::Error, frame.id, &error);
                }
                FrameKind::Submit if std::mem::take(&mut drop_answer) => {}
                FrameKind::Submit => {
                    let submit = v1::Submit::decode(frame.body).unwrap();
                    let answer = v1::SubmitAnswer {
                        counter: submit.counter,
                        outcome: v1::Outcome::Lost.into(),
                        ..Default::default()
                    };
                    put_message(&mut out, FrameKind::SubmitAnswer, frame.id, &answer);
                }
                FrameKind::Campaigns => {
                    put_message(
                        &mut out,
                        FrameKind::CampaignsAnswer,
                        frame.id,
                        &v1::CampaignsAnswer { server_time_ms: 5, ..Default::default() },
                    );
                }
                FrameKind::Heartbeat => {
                    beats.fetch_add(1, Ordering::SeqCst);
                    put(&mut out, FrameKind::Heartbeat, frame.id, |_| ());
                }
                _ => {
                    put_message(&mut out, FrameKind::Error, frame.id, &Code::Unavailable.message("not here"))
                }
            }
            at += used;
        }
        input.drain(..at);
        stream.write_all(&out).await?;
        out.clear();
    }
}

/// Answers each request over HTTP with the same JSON, until it is told another.
pub struct TinyScheduler {
    pub url: String,
    pub answer: std::sync::Arc<parking_lot::Mutex<String>>,
    pub asked: std::sync::Arc<parking_lot::Mutex<Vec<String>>>,
    shutdown: Shutdown,
}

impl Drop for TinyScheduler {
    fn drop(&mut self) {
        self.shutdown.request();
    }
}

impl TinyScheduler {
    pub async fn start(answer: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let shutdown = Shutdown::new();
        let answer = std::sync::Arc::new(parking_lot::Mutex::new(answer));
        let asked: std::sync::Arc<parking_lot::Mutex<Vec<String>>> = std::sync::Arc::default();
        let (says, hears) = (answer.clone(), asked.clone());
        let tasks = Tasks::new(shutdown.clone());
        tasks.clone().spawn("scheduler", TaskKind::BestEffort, async move {
            loop {
                let mut stream = tokio::select! {
                    accepted = listener.accept() => accepted?.0,
                    () = tasks.shutdown().wait() => return Ok(()),
                };
                let mut input = Vec::new();
                while !input.ends_with(b"\r\n\r\n") && stream.read_buf(&mut input).await? > 0 {}
                let head = String::from_utf8_lossy(&input).into_owned();
                hears.lock().push(head.lines().next().unwrap_or_default().to_owned());
                let body = says.lock().clone();
                let text = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
                // In two pieces, and the connection stays open.
                let (a, b) = text.as_bytes().split_at(text.len() / 2);
                stream.write_all(a).await?;
                stream.flush().await?;
                stream.write_all(b).await?;
            }
        });
        Self { url, answer, asked, shutdown }
    }
}
