//! An HTTP/1.1 client of a screenful, on one kept-alive connection.

use serde_json::Value;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// Longest wait for an answer: a machine whose disk is busy with others' data may take long over one.
const PATIENCE: Duration = Duration::from_secs(60);

/// A client with a token.
pub struct Client {
    at: SocketAddr,
    token: String,
    connection: Option<BufReader<TcpStream>>,
}

/// An answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub body: Value,
}

impl Client {
    pub fn new(at: SocketAddr, token: &str) -> Client {
        Client { at, token: token.to_owned(), connection: None }
    }

    pub fn address(&self) -> SocketAddr {
        self.at
    }

    pub fn token(&self) -> &str {
        &self.token
    }

    pub fn get(&mut self, path: &str) -> io::Result<Answer> {
        self.call("GET", path, "")
    }

    pub fn post(&mut self, path: &str, body: &Value) -> io::Result<Answer> {
        self.call("POST", path, &body.to_string())
    }

    /// One request with the answer to it; after an error the next call connects anew.
    pub fn call(&mut self, method: &str, path: &str, body: &str) -> io::Result<Answer> {
        self.send(method, path, "application/json", body)
    }

    /// The same, with a body of another kind.
    pub fn send(&mut self, method: &str, path: &str, kind: &str, body: &str) -> io::Result<Answer> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => {
                let stream = TcpStream::connect_timeout(&self.at, Duration::from_secs(30))?;
                stream.set_read_timeout(Some(PATIENCE))?;
                stream.set_nodelay(true)?;
                BufReader::new(stream)
            }
        };
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: test\r\nauthorization: Bearer {}\r\n\
             content-type: {kind}\r\ncontent-length: {}\r\n\r\n{body}",
            self.token,
            body.len()
        );
        connection.get_mut().write_all(request.as_bytes())?;
        let (head, body) = read_message(&mut connection)?;
        let status = head.split(' ').nth(1).and_then(|s| s.parse().ok());
        let status = status.ok_or_else(|| io::Error::other(format!("no status: {head}")))?;
        let text = String::from_utf8_lossy(&body).into_owned();
        let body = serde_json::from_str(&text).unwrap_or(Value::String(text));
        self.connection = Some(connection);
        Ok(Answer { status, body })
    }
}

/// First line and body of a message whose length stands in its head.
pub fn read_message(from: &mut impl BufRead) -> io::Result<(String, Vec<u8>)> {
    let mut first = String::new();
    let mut length = 0;
    loop {
        let mut line = String::new();
        if from.by_ref().take(8_192).read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let line = line.trim_end();
        if first.is_empty() {
            first = line.to_owned();
        } else if line.is_empty() {
            break;
        } else if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse().map_err(io::Error::other)?;
        }
    }
    let mut body = vec![0; length];
    from.read_exact(&mut body)?;
    Ok((first, body))
}
