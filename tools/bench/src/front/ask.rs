//! One HTTP request at a time, for what is not measured by rates: status, a switch, a first draw, a list of prizes.

use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

const CONNECT: Duration = Duration::from_secs(1);

/// Long: counting millions of rows for a status takes its time on a busy machine.
const ANSWER: Duration = Duration::from_secs(60);

/// Sends a request on a connection of its own; the status and the body. An empty body is a GET.
pub fn ask(address: SocketAddr, path: &str, token: &str, body: &str) -> Result<(u16, Vec<u8>)> {
    let mut stream = TcpStream::connect_timeout(&address, CONNECT)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(ANSWER))?;
    let method = if body.is_empty() { "GET" } else { "POST" };
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: bench\r\nConnection: close\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let head = answer.windows(4).position(|w| w == b"\r\n\r\n").context("an answer without a head")?;
    let status = std::str::from_utf8(&answer[..head])?.split(' ').nth(1).and_then(|s| s.parse().ok());
    Ok((status.context("an answer without a status")?, answer.split_off(head + 4)))
}

/// The same with a JSON answer, and an error for every status but 200.
pub fn ask_json(address: SocketAddr, path: &str, token: &str, body: &str) -> Result<Value> {
    let (status, answer) = ask(address, path, token, body).with_context(|| format!("ask for {path}"))?;
    if status != 200 {
        bail!("{path} was answered {status}: {}", String::from_utf8_lossy(&answer));
    }
    serde_json::from_slice(&answer).with_context(|| format!("read the answer to {path}"))
}
