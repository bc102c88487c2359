//! The same frames in WebSocket messages.

use std::io::{Read, Write};

use access::{AccessConfig, Count, Limits, WebSocketConfig};
use protocol::calls::Pushes;
use protocol::frame::{self, FRAME_MAX, FrameKind, put, put_message};
use protocol::v1;

use crate::harness::*;
use crate::http::Web;

const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const MASK: [u8; 4] = [9, 8, 7, 6];

/// A browser, nearly.
pub struct Ws {
    stream: std::net::TcpStream,
    raw: Vec<u8>,
    frames: Vec<u8>,
}

#[derive(PartialEq, Debug)]
enum Heard {
    Frames,
    Pong(Vec<u8>),
    Close(u16, String),
    End,
}

impl Ws {
    pub fn open(server: &Server) -> Ws {
        let mut web = Web::new(server);
        let head = format!(
            "GET /v1/ws HTTP/1.1\r\nhost: x\r\nconnection: Upgrade\r\nupgrade: websocket\r\norigin: https://app.example\r\nsec-websocket-version: 13\r\nsec-websocket-key: {KEY}\r\nsec-websocket-protocol: hongbao.v1\r\n\r\n"
        );
        web.0.get_mut().write_all(head.as_bytes()).unwrap();
        let page = web.page();
        assert_eq!(page.status, 101, "{}", page.head);
        assert!(page.head.contains("sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo="), "{}", page.head);
        assert!(page.head.contains("sec-websocket-protocol: hongbao.v1"));
        Ws { stream: web.0.into_inner(), raw: Vec::new(), frames: Vec::new() }
    }

    /// Opened and logged in.
    pub fn device(server: &Server, user: u64, device: u64) -> Ws {
        let mut ws = Ws::open(server);
        let mut out = Vec::new();
        put_message(
            &mut out,
            FrameKind::Hello,
            1,
            &v1::Hello { protocol_version: 1, ..v1::Hello::default() },
        );
        let login = v1::Login { user_token: server.user_token(user), device, ..v1::Login::default() };
        put_message(&mut out, FrameKind::Login, 2, &login);
        ws.message(0x82, &out);
        let _: v1::Welcome = ws.expect(FrameKind::Welcome, 1);
        let done: v1::LoginDone = ws.expect(FrameKind::LoginDone, 2);
        assert_eq!(done.user, user);
        ws
    }

    fn message(&mut self, first: u8, payload: &[u8]) {
        let mut out = vec![first];
        if payload.len() < 126 {
            out.push(0x80 | payload.len() as u8);
        } else {
            out.push(0xfe);
            out.extend_from_slice(&(payload.len() as u16).to_be_bytes());
        }
        out.extend_from_slice(&MASK);
        out.extend(payload.iter().enumerate().map(|(i, byte)| byte ^ MASK[i % 4]));
        self.stream.write_all(&out).unwrap();
    }

    fn hear(&mut self) -> Heard {
        loop {
            if let Some((opcode, payload, used)) = server_frame(&self.raw) {
                self.raw.drain(..used);
                match opcode {
                    2 => {
                        self.frames.extend_from_slice(&payload);
                        return Heard::Frames;
                    }
                    8 => {
                        let code = u16::from_be_bytes([payload[0], payload[1]]);
                        return Heard::Close(code, String::from_utf8(payload[2..].to_vec()).unwrap());
                    }
                    10 => return Heard::Pong(payload),
                    other => panic!("opcode {other}"),
                }
            }
            let mut bytes = [0; 4096];
            match self.stream.read(&mut bytes) {
                Ok(0) => return Heard::End,
                Ok(n) => self.raw.extend_from_slice(&bytes[..n]),
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return Heard::End,
                Err(error) => panic!("nothing came: {error}"),
            }
        }
    }

    pub fn expect<M: prost::Message + Default>(&mut self, kind: FrameKind, id: u32) -> M {
        loop {
            if let Some((frame, used)) = frame::next(&self.frames, FRAME_MAX).unwrap() {
                assert_eq!((frame.kind, frame.id), (kind, id));
                let message = M::decode(frame.body).unwrap();
                self.frames.drain(..used);
                return message;
            }
            assert_eq!(self.hear(), Heard::Frames);
        }
    }

    fn closed(&mut self, code: u16) -> String {
        let Heard::Close(said, reason) = self.hear() else { panic!("no close") };
        assert_eq!(said, code, "{reason}");
        assert_eq!(self.hear(), Heard::End);
        reason
    }
}

fn server_frame(raw: &[u8]) -> Option<(u8, Vec<u8>, usize)> {
    let (first, second) = (*raw.first()?, *raw.get(1)?);
    assert_eq!(first & 0xf0, 0x80, "whole and without extensions");
    let (length, head) = match second {
        126 => (usize::from(u16::from_be_bytes([*raw.get(2)?, *raw.get(3)?])), 4),
        127 => (u64::from_be_bytes(raw.get(2..10)?.try_into().unwrap()) as usize, 10),
        small => (usize::from(small), 2),
    };
    Some((first & 0x0f, raw.get(head..head + length)?.to_vec(), head + length))
}

#[test]
fn all_of_it_works_within_a_websocket() {
    let (server, chat) = start_chat(Limits::default());
    let mut ws = Ws::device(&server, 5, 7);
    let mut out = Vec::new();
    put_message(&mut out, FrameKind::Submit, 3, &entry(1));
    ws.message(0x82, &out);
    let answer: v1::SubmitAnswer = ws.expect(FrameKind::SubmitAnswer, 3);
    assert_eq!(answer.counter, 1);
    let send = v1::Send { conversation: 5, counter: 2, body: vec![3; 2_000], ..v1::Send::default() };
    let mut out = Vec::new();
    put_message(&mut out, FrameKind::Send, 4, &send);
    // One frame in three fragments, with a ping between them.
    ws.message(0x02, &out[..7]);
    ws.message(0x89, b"?");
    ws.message(0x00, &out[7..900]);
    ws.message(0x80, &out[900..]);
    assert_eq!(ws.hear(), Heard::Pong(b"?".to_vec()));
    let answer: v1::SendAnswer = ws.expect(FrameKind::SendAnswer, 4);
    assert_eq!(answer.counter, 2);
    server.pushes.push(crate::chat::entries(chat.device(5, 7), 1..=40, 2_000));
    let push: v1::Push = ws.expect(FrameKind::Push, 0);
    assert!(push.entries.len() > 10);
    assert_eq!(server.control.count(Count::WebSockets), 1);
    drop(ws);
    eventually("left", || chat.seen.lock().left.len() == 1);
    eventually("all gone", || server.control.status().connections == 0);
}

#[test]
fn what_is_not_to_be_is_closed_with_its_code() {
    let server = start();
    let mut ws = Ws::open(&server);
    ws.message(0x81, b"hello");
    assert!(ws.closed(1003).contains("binary"));
    let mut ws = Ws::device(&server, 5, 0);
    ws.stream.write_all(&[0x82, 1, 7]).unwrap();
    assert!(ws.closed(1002).contains("masks"));
    let mut ws = Ws::device(&server, 5, 0);
    ws.message(0x88, &1000u16.to_be_bytes());
    ws.closed(1000);
    let mut ws = Ws::device(&server, 5, 0);
    ws.message(0x82, &[99, 0, 0, 0, 99]);
    assert_eq!(ws.closed(1007), "a message must end where a frame ends");
    let mut ws = Ws::device(&server, 5, 0);
    ws.message(0x82, &[5, 0, 0, 0, 99, 0, 0, 0, 0]);
    let error: v1::Error = ws.expect(FrameKind::Error, 0);
    assert!(error.fatal && error.code == "malformed");
    ws.closed(1002);
    let mut silent = Ws::open(&server);
    server.clock.advance_ms(10_001);
    let error: v1::Error = silent.expect(FrameKind::Error, 0);
    assert!(error.message.contains("login"));
    silent.closed(1008);
}

#[test]
fn at_shutdown_it_is_said_goodbye_to() {
    let server = start();
    let mut ws = Ws::device(&server, 5, 0);
    let mut beat = Vec::new();
    put(&mut beat, FrameKind::Heartbeat, 3, |_| ());
    ws.message(0x82, &beat);
    let () = ws.expect(FrameKind::Heartbeat, 3);
    assert!(server.drain().unfinished.is_empty());
    let error: v1::Error = ws.expect(FrameKind::Error, 0);
    assert_eq!(error.code, "unavailable");
    ws.closed(1001);
}

#[test]
fn a_request_that_is_none_is_answered_by_http() {
    let websocket = WebSocketConfig { origins: vec!["https://app.example".into()] };
    let (server, _chat) = start_chat_as(AccessConfig { websocket, ..AccessConfig::default() });
    let mut web = Web::new(&server);
    let page = web.ask("GET /v1/ws", &[], b"");
    assert!(page.status == 400 && page.error().message.contains("Upgrade: websocket"));
    let usual = [
        ("connection", "upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-key", KEY),
        ("sec-websocket-version", "8"),
    ];
    let page = web.ask("GET /v1/ws", &usual, b"");
    assert!(page.status == 426 && page.head.contains("sec-websocket-version: 13"), "{}", page.head);
    let evil =
        [usual[0], usual[1], usual[2], ("sec-websocket-version", "13"), ("origin", "https://evil.example")];
    let page = web.ask("GET /v1/ws", &evil, b"");
    assert!(page.status == 403 && page.error().message.contains("evil"), "{}", page.head);
    Ws::device(&server, 5, 7);
}
