//! A platform of one page: draws from a table, on frames and HTTP, with a bad network in front. The table survives the
//! server's death; losses do not.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::{Request, Response, body::Incoming, service::service_fn};
use parking_lot::Mutex;
use prost::Message;
use protocol::frame::{FRAME_MAX, FrameKind, next, put_message};
use protocol::{json, v1};
use runtime::{Clock, SystemClock};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

type DrawId = (u64, u32, u32);

#[derive(Default)]
pub struct Book {
    /// Outcome of each draw; a loss is forgotten by a kill.
    pub draws: HashMap<DrawId, Option<v1::Award>>,
    /// Draws ever made; their number makes award ids.
    pub asked: u64,
    pub accounts: u64,
    pub claimed: u64,
    pub dice: u64,
    pub open_ms: u64,
    pub close_ms: u64,
    /// What connections are told; silence of three of them ends one. 0: 200.
    pub heartbeat_ms: u32,
}

impl Book {
    fn dice(&mut self, sides: u64) -> u64 {
        self.dice = self.dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.dice >> 33) % sides
    }

    pub fn decide(&mut self, user: u64, submit: &v1::Submit) -> v1::SubmitAnswer {
        let mut answer = v1::SubmitAnswer {
            counter: submit.counter,
            next_counter: submit.counter,
            next_submit_ms: 40,
            user,
            ..Default::default()
        };
        let id = (user, submit.round, submit.counter);
        let now_ms = SystemClock.now_ms();
        if !self.draws.contains_key(&id) {
            if now_ms < self.open_ms || now_ms >= self.close_ms {
                answer.set_outcome(v1::Outcome::NotOpen);
                return answer;
            }
            let other = [v1::Outcome::TooEarly, v1::Outcome::Busy, v1::Outcome::Pending];
            if let Some(other) = other.get(self.dice(20) as usize) {
                answer.set_outcome(*other);
                return answer;
            }
            self.asked += 1;
            let award = (self.dice(4) == 0).then(|| v1::Award {
                award: format!("{:026}", self.asked + 1),
                campaign: 1,
                round: submit.round,
                prize: 3,
                fen: 100 + user as i64,
                state: v1::AwardState::Claimable.into(),
                ..Default::default()
            });
            self.draws.insert(id, award);
        }
        answer.next_counter += 1;
        answer.award = self.draws[&id].clone();
        answer.set_outcome(if answer.award.is_some() { v1::Outcome::Won } else { v1::Outcome::Lost });
        answer
    }

    fn campaigns(&self) -> v1::CampaignsAnswer {
        let round =
            v1::RoundView { round: 1, open_ms: self.open_ms, close_ms: self.close_ms, ..Default::default() };
        let view =
            v1::CampaignView { campaign: 1, rounds: vec![round], interval_ms: 40, ..Default::default() };
        v1::CampaignsAnswer { campaigns: vec![view], server_time_ms: SystemClock.now_ms() }
    }

    fn claim(&mut self, claim: &v1::Claim) -> v1::ClaimAnswer {
        self.claimed += 1;
        let award = v1::Award {
            award: claim.award.clone(),
            state: v1::AwardState::NeedsAccount.into(),
            ..Default::default()
        };
        v1::ClaimAnswer { award: Some(award) }
    }
}

/// The platform while it lives: dropping it is a kill.
pub struct Platform {
    runtime: Option<tokio::runtime::Runtime>,
    pub frames: SocketAddr,
    pub http: SocketAddr,
}

impl Platform {
    pub fn start(book: &Arc<Mutex<Book>>, at: Option<(SocketAddr, SocketAddr)>) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
        let (frames_at, http_at) = at.unwrap_or((any, any));
        let (frames, http) = runtime.block_on(async {
            (TcpListener::bind(frames_at).await.unwrap(), TcpListener::bind(http_at).await.unwrap())
        });
        let addresses = (frames.local_addr().unwrap(), http.local_addr().unwrap());
        let (for_frames, for_http) = (Arc::clone(book), Arc::clone(book));
        runtime.spawn(async move {
            while let Ok((stream, _)) = frames.accept().await {
                tokio::runtime::Handle::current().spawn(talk(stream, Arc::clone(&for_frames)));
            }
        });
        runtime.spawn(async move {
            while let Ok((stream, _)) = http.accept().await {
                let book = Arc::clone(&for_http);
                let service = service_fn(move |request| respond(request, Arc::clone(&book)));
                let connection = hyper::server::conn::http1::Builder::new()
                    .serve_connection(hyper_util::rt::TokioIo::new(stream), service);
                tokio::runtime::Handle::current().spawn(connection);
            }
        });
        Self { runtime: Some(runtime), frames: addresses.0, http: addresses.1 }
    }

    /// Over when nothing of it runs any more: only then are its addresses free, and what it knew can be taken away.
    pub fn kill(mut self, book: &Mutex<Book>) {
        self.runtime.take().unwrap().shutdown_timeout(Duration::from_secs(30));
        book.lock().draws.retain(|_, award| award.is_some());
    }
}

async fn talk(mut stream: TcpStream, book: Arc<Mutex<Book>>) -> std::io::Result<()> {
    let (mut input, mut gateway) = (Vec::new(), false);
    loop {
        if stream.read_buf(&mut input).await? == 0 {
            return Ok(());
        }
        let (mut at, mut out, mut pause) = (0, Vec::new(), 0);
        while let Some((frame, used)) = next(&input[at..], FRAME_MAX).unwrap() {
            at += used;
            let mut book = book.lock();
            match frame.kind {
                FrameKind::Hello => {
                    let server_time_ms = SystemClock.now_ms();
                    let heartbeat_ms = if book.heartbeat_ms == 0 { 200 } else { book.heartbeat_ms };
                    let welcome =
                        v1::Welcome { protocol_version: 1, server_time_ms, heartbeat_ms, frame_max: 0 };
                    put_message(&mut out, FrameKind::Welcome, frame.id, &welcome);
                }
                FrameKind::Login => {
                    gateway = !v1::Login::decode(frame.body).unwrap().gateway_token.is_empty();
                    let done = v1::LoginDone { campaigns: book.campaigns().campaigns, ..Default::default() };
                    put_message(&mut out, FrameKind::LoginDone, frame.id, &done);
                }
                FrameKind::Campaigns => {
                    put_message(&mut out, FrameKind::CampaignsAnswer, frame.id, &book.campaigns())
                }
                FrameKind::Claim => {
                    let answer = book.claim(&v1::Claim::decode(frame.body).unwrap());
                    put_message(&mut out, FrameKind::ClaimAnswer, frame.id, &answer);
                }
                FrameKind::Account => {
                    book.accounts += 1;
                    put_message(
                        &mut out,
                        FrameKind::AccountAnswer,
                        frame.id,
                        &v1::AccountAnswer { version: 1 },
                    );
                }
                FrameKind::Submit => {
                    let submit = v1::Submit::decode(frame.body).unwrap();
                    // Lost on its way there; lost on its way back; twice; late.
                    let fate = book.dice(20);
                    if fate == 0 {
                        continue;
                    }
                    let answer = book.decide(submit.user, &submit);
                    let answer = v1::SubmitAnswer { user: if gateway { answer.user } else { 0 }, ..answer };
                    if fate != 1 {
                        put_message(&mut out, FrameKind::SubmitAnswer, frame.id, &answer);
                    }
                    if fate == 2 {
                        put_message(&mut out, FrameKind::SubmitAnswer, frame.id, &answer);
                    }
                    pause = pause.max(if fate == 3 { 5 } else { 0 });
                }
                _ => protocol::frame::put(&mut out, frame.kind, frame.id, |_| ()),
            }
        }
        input.drain(..at);
        tokio::time::sleep(Duration::from_millis(pause)).await;
        stream.write_all(&out).await?;
    }
}

async fn respond(
    request: Request<Incoming>,
    book: Arc<Mutex<Book>>,
) -> Result<Response<Full<bytes::Bytes>>, std::convert::Infallible> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let as_json = head.headers["content-type"] == "application/json";
    let mut book = book.lock();
    let mut out = Vec::new();
    let mut status = 200;
    match head.uri.path() {
        "/v1/campaigns" => json::write(&book.campaigns(), &mut out),
        "/v1/claim" => json::write(&book.claim(&json::read(&body).unwrap()), &mut out),
        "/v1/account" => {
            book.accounts += 1;
            json::write(&v1::AccountAnswer { version: 1 }, &mut out);
        }
        _ => {
            let submit: v1::Submit =
                if as_json { json::read(&body).unwrap() } else { v1::Submit::decode(&body[..]).unwrap() };
            if book.dice(10) == 0 {
                status = 503;
                let error = protocol::error::Code::Busy.message("try again");
                if as_json { json::write(&error, &mut out) } else { out = error.encode_to_vec() }
            } else {
                let answer = book.decide(submit.user, &submit);
                if as_json { json::write(&answer, &mut out) } else { out = answer.encode_to_vec() }
            }
        }
    }
    let mut response = Response::new(Full::new(out.into()));
    *response.status_mut() = hyper::StatusCode::from_u16(status).unwrap();
    Ok(response)
}
