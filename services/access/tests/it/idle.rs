//! What connections cost. Measurements, run by hand, each in a process of its own:
//!
//!     cargo test -p access --test it -- --ignored --exact idle::tcp_memory --nocapture
//!     cargo test -p access --test it -- --ignored --exact idle::websocket_memory --nocapture
//!     cargo test -p access --test it -- --ignored --exact idle::push_cost --nocapture

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};

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

/// The other side: a process with so many connections that are logged in.
struct Others(Child);

impl Others {
    fn start(server: &Server, form: &str, count: usize) -> Others {
        let address = if form == "tcp" { server.tcp } else { server.http };
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--ignored", "--exact", "idle::clients", "--nocapture"])
            .env(PARAMETERS, format!("{form} {address} {} {count}", server.user_token(5)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert!(lines.any(|line| line.unwrap().contains("all are in")));
        Others(child)
    }
}

impl Drop for Others {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

fn large() -> AccessConfig {
    let limits =
        Limits { connections_max: CONNECTIONS as u32 + 100, loopback_exempt: true, ..Limits::default() };
    AccessConfig { limits, ..AccessConfig::default() }
}

fn memory(form: &str) -> String {
    let (server, chat) = start_chat_as(large());
    chat.seen.lock().arrived.reserve(CONNECTIONS);
    let _warm = server.device(1, 1);
    let before = resident();
    let _others = Others::start(&server, form, CONNECTIONS);
    assert_eq!(server.control.status().connections as usize, CONNECTIONS + 1);
    let each = resident().saturating_sub(before) / CONNECTIONS;
    format!("{form}: {each} bytes of user memory for each of {CONNECTIONS} idle connections")
}

#[test]
#[ignore = "a measurement: opens 19,000 connections"]
fn tcp_memory() {
    println!("{}", memory("tcp"));
}

#[test]
#[ignore = "a measurement: opens 19,000 connections"]
fn websocket_memory() {
    println!("{}", memory("websocket"));
}

#[test]
#[ignore = "a measurement"]
fn push_cost() {
    const DEVICES: u64 = 500;
    let (server, chat) = start_chat_as(large());
    let others = Others::start(&server, "tcp", DEVICES as usize);
    let devices: Vec<_> = (1..=DEVICES).map(|device| chat.device(5, device)).collect();
    for together in [1u64, 4, 16] {
        let spent = || {
            let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
            time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
        };
        let pushed = || server.control.count(access::Count::Pushed);
        let (before, begun) = (spent(), pushed());
        let mut made_ns = 0;
        for round in 0..2_000 / together {
            let making = spent();
            let mut batch = crate::chat::entries(devices[0], 1..=together, 128);
            batch.targets.clear();
            for at in &devices {
                batch.targets.extend((1..=together).map(|cursor| protocol::calls::Target {
                    connection: at.at.connection,
                    user: at.user,
                    device: at.device,
                    after: round * together + cursor - 1,
                    cursor: round * together + cursor,
                    message: cursor as u32 - 1,
                }));
            }
            made_ns += spent() - making;
            protocol::calls::Pushes::push(&server.pushes, batch);
            let due = begun + (round + 1) * together * DEVICES;
            eventually("pushed", || pushed() + server.control.count(access::Count::PushesBare) >= due);
        }
        let each = (spent() - before - made_ns) / (pushed() - begun);
        println!("{together} at a time: {each} ns of CPU for each pushed message of 128 bytes");
    }
    drop(others);
}

/// The other side of it, in a process of its own.
#[test]
#[ignore = "started by the others"]
fn clients() {
    let Ok(parameters) = std::env::var(PARAMETERS) else { return };
    let [form, address, token, count] = parameters.split(' ').collect::<Vec<_>>()[..] else {
        panic!("{parameters}")
    };
    let count: u64 = count.parse().unwrap();
    let mut all = Vec::new();
    for device in 1..=count {
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
    let over = std::thread::spawn(|| std::io::stdin().read(&mut [0]));
    all.iter().for_each(|stream| stream.set_nonblocking(true).unwrap());
    let mut bytes = vec![0; 1 << 16];
    while !over.is_finished() {
        // Idle connections bring nothing; pushed ones are read now and then.
        for stream in &mut all {
            while stream.read(&mut bytes).is_ok_and(|n| n > 0) {}
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}
