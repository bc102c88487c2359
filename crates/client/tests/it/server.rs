//! A frame server with bad manners, one connection after the other.

use std::net::SocketAddr;
use std::time::Duration;

use prost::Message;
use protocol::error::Code;
use protocol::frame::{FRAME_MAX, FrameKind, next, put, put_message};
use protocol::v1;
use runtime::{Shutdown, TaskKind, Tasks};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// What it does wrong.
#[derive(Clone, Copy, Default)]
pub struct Manners {
    pub drop_first_answer: bool,
    pub refuse_connections: u32,
}

pub struct TinyServer {
    pub address: SocketAddr,
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
        let shutdown = Shutdown::new();
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
                tokio::select! {
                    _ = serve(stream, drop_first) => {}
                    () = tasks.shutdown().wait() => return Ok(()),
                }
            }
        });
        Self { address, shutdown }
    }
}

async fn serve(mut stream: TcpStream, mut drop_answer: bool) -> std::io::Result<()> {
    let (mut input, mut out) = (Vec::new(), Vec::new());
    loop {
        let read = tokio::time::timeout(Duration::from_millis(350), stream.read_buf(&mut input));
        if read.await.map_err(std::io::Error::other)?? == 0 {
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
                        heartbeat_ms: 40,
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
                FrameKind::Heartbeat => put(&mut out, FrameKind::Heartbeat, frame.id, |_| ()),
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
