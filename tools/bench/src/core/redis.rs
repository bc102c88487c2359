//! The usual design for the same job: one Lua script in Redis that checks the user's limit, takes a unit from the
//! stock and records the win, with an append-only file that is synced before anyone is answered.

use super::world::{below, mix};
use crate::measure::now_ns;
use anyhow::{Context, Result, bail, ensure};
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// Connections, each with [`PIPELINED`] entries outstanding.
pub const CONNECTIONS: usize = 50;

const PIPELINED: u64 = 16;

/// The user's entry and the limit are one hash field; the record is a list, as the tutorials have it.
const SCRIPT: &str = "\
if tonumber(redis.call('HGET', KEYS[1], ARGV[1]) or '0') >= 1000 then return -1 end \
if ARGV[2] ~= '1' then return 0 end \
if tonumber(redis.call('GET', KEYS[2])) <= 0 then return 0 end \
local unit = redis.call('DECR', KEYS[2]) \
redis.call('HINCRBY', KEYS[1], ARGV[1], 1) \
redis.call('RPUSH', KEYS[3], ARGV[1] .. ':' .. unit) \
return unit";

/// A Redis server of our own, on loopback and in a folder of its own; it ends with this value.
pub struct Redis {
    server: Child,
    connections: Vec<BufReader<TcpStream>>,
    script: String,
    random: u64,
    _folder: tempfile::TempDir,
}

impl Redis {
    /// Starts the server and connects.
    pub fn start(scratch: &Path) -> Result<Redis> {
        let folder = tempfile::Builder::new().prefix("redis-").tempdir_in(scratch)?;
        // The port is free a moment before the server takes it; whoever takes it in between makes the start fail.
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let mut command = Command::new("redis-server");
        command.args(["--bind", "127.0.0.1", "--port", &port.to_string(), "--save", "", "--daemonize", "no"]);
        command.args([
            "--appendonly",
            "yes",
            "--appendfsync",
            "always",
            "--auto-aof-rewrite-percentage",
            "0",
        ]);
        command.arg("--dir").arg(folder.path().canonicalize()?);
        let server = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let server = server.context(
            "start redis-server, the peer of core.batch; it is missing? `apt-get install redis-server` brings it",
        )?;
        let mut redis =
            Redis { server, connections: Vec::new(), script: String::new(), random: 1, _folder: folder };
        redis.connect(port)?;
        Ok(redis)
    }

    fn connect(&mut self, port: u16) -> Result<()> {
        let deadline = now_ns() + 10_000_000_000;
        while self.connections.len() < CONNECTIONS {
            match TcpStream::connect(("127.0.0.1", port)) {
                Ok(stream) => {
                    stream.set_nodelay(true)?;
                    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
                    self.connections.push(BufReader::new(stream));
                }
                Err(_) if now_ns() < deadline && self.server.try_wait()?.is_none() => {
                    std::thread::sleep(Duration::from_millis(20));
                }
                Err(e) => return Err(e).context("connect to the redis-server that was just started"),
            }
        }
        self.script = self.call(&["SCRIPT", "LOAD", SCRIPT])?;
        self.call(&["SET", "stock", "1000000000"])?;
        Ok(())
    }

    fn call(&mut self, words: &[&str]) -> Result<String> {
        let mut bytes = Vec::new();
        command(&mut bytes, words);
        let connection = &mut self.connections[0];
        connection.get_mut().write_all(&bytes)?;
        reply(connection)
    }

    /// Makes `count` entries of random users, of which so many in a hundred may win; how many were answered.
    pub fn entries(&mut self, users: u64, count: u64, percent: u64) -> Result<u64> {
        let rounds = (count / PIPELINED / CONNECTIONS as u64).max(1);
        let (mut bytes, mut x) = (Vec::new(), self.random);
        let script = self.script.clone();
        let mut fill = |bytes: &mut Vec<u8>| {
            bytes.clear();
            for _ in 0..PIPELINED {
                x = mix(x);
                let user = below(x, users).to_string();
                let wins = if x % 100 < percent { "1" } else { "0" };
                command(bytes, &["EVALSHA", &script, "3", "users", "stock", "wins", &user, wins]);
            }
        };
        for round in 0..=rounds {
            for connection in &mut self.connections {
                if round > 0 {
                    for _ in 0..PIPELINED {
                        reply(connection)?;
                    }
                }
                if round < rounds {
                    fill(&mut bytes);
                    connection.get_mut().write_all(&bytes)?;
                }
            }
        }
        self.random = x;
        Ok(rounds * PIPELINED * CONNECTIONS as u64)
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        // Already gone is as good.
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

fn command(out: &mut Vec<u8>, words: &[&str]) {
    out.extend_from_slice(format!("*{}\r\n", words.len()).as_bytes());
    for word in words {
        out.extend_from_slice(format!("${}\r\n{word}\r\n", word.len()).as_bytes());
    }
}

/// One reply: a number, a status, or a string.
fn reply(connection: &mut BufReader<TcpStream>) -> Result<String> {
    let mut line = String::new();
    ensure!(connection.read_line(&mut line)? > 0, "redis-server closed the connection");
    let text = line.trim_end();
    match text.as_bytes().first() {
        Some(b':' | b'+') => Ok(text[1..].to_owned()),
        Some(b'$') => {
            let mut body = String::new();
            connection.read_line(&mut body)?;
            Ok(body.trim_end().to_owned())
        }
        _ => bail!("redis-server answered: {text}"),
    }
}
