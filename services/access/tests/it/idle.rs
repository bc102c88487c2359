//! What an idle connection costs. A measurement, run by hand:
//!
//!     cargo test -p access --test it -- --ignored --exact idle::memory --nocapture

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};

use access::{AccessConfig, Limits};
use protocol::frame::{FrameKind, put_message};
use protocol::v1;

use crate::harness::*;

const CONNECTIONS: usize = 19_000;
const PARAMETERS: &str = "HONGBAO_TEST_IDLE";

/// Resident memory of this process, in bytes.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024
}

#[test]
#[ignore = "a measurement: opens 19,000 connections twice"]
fn memory() {
    for form in ["tcp", "websocket"] {
        let limits =
            Limits { connections_max: CONNECTIONS as u32 + 100, loopback_exempt: true, ..Limits::default() };
        let (server, chat) = start_chat_as(AccessConfig { limits, ..AccessConfig::default() });
        chat.seen.lock().arrived.reserve(CONNECTIONS);
        let warm = server.device(1, 1);
        let before = resident();
        let address = if form == "tcp" { server.tcp } else { server.http };
        let mut clients = Command::new(std::env::current_exe().unwrap())
            .args(["--ignored", "--exact", "idle::clients", "--nocapture"])
            .env(PARAMETERS, format!("{form} {address} {}", server.user_token(5)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(clients.stdout.take().unwrap()).lines();
        assert!(lines.any(|line| line.unwrap().contains("all are in")));
        assert_eq!(server.control.status().connections as usize, CONNECTIONS + 1);
        let each = (resident() - before) / CONNECTIONS;
        println!("{form}: {each} bytes of user memory for each of {CONNECTIONS} idle connections");
        drop(clients.stdin.take());
        clients.wait().unwrap();
        drop(warm);
    }
}

/// The other side of it, in a process of its own.
#[test]
#[ignore = "started by idle::memory"]
fn clients() {
    let Ok(parameters) = std::env::var(PARAMETERS) else { return };
    let [form, address, token] = parameters.split(' ').collect::<Vec<_>>()[..] else {
        panic!("{parameters}")
    };
    let mut all = Vec::with_capacity(CONNECTIONS);
    for device in 1..=CONNECTIONS as u64 {
        let mut stream = TcpStream::connect(address).unwrap();
        let mut frames = Vec::new();
        put_message(
            &mut frames,
            FrameKind::Hello,
            1,
            &v1::Hello { protocol_version: 1, ..v1::Hello::default() },
        );
        let login = v1::Login { user_token: token.to_owned(), device, ..v1::Login::default() };
        put_message(&mut frames, FrameKind::Login, 2, &login);
        let mut bytes = [0; 4096];
        if form == "websocket" {
            let head = "GET /v1/ws HTTP/1.1\r\nhost: x\r\nconnection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
            stream.write_all(head.as_bytes()).unwrap();
            assert!(stream.read(&mut bytes).unwrap() > 0 && bytes.starts_with(b"HTTP/1.1 101"));
            // Masked with zeros, and so as it is.
            let mut message = vec![0x82, 0xfe];
            message.extend_from_slice(&(frames.len() as u16).to_be_bytes());
            message.extend_from_slice(&[0; 4]);
            message.extend_from_slice(&frames);
            frames = message;
        }
        stream.write_all(&frames).unwrap();
        assert!(stream.read(&mut bytes).unwrap() > 20, "welcome and the login's answer");
        all.push(stream);
    }
    println!("all are in");
    let _ = std::io::stdin().read(&mut [0]);
}
